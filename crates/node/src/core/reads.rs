//! Reads: rounds of read index, and what waits for them.

use refloat_raft_core::ReadId;
use refloat_types::{GroupId, Index};

use super::NodeCore;
use super::group::PendingRead;
use crate::api::{Consistency, Token};
use crate::error::RequestError;
use crate::machine::Query;

/// Read-index rounds of one group under way at once; further reads gather for the next.
const READ_ROUNDS: usize = 2;

impl NodeCore {
    pub(super) fn read(&mut self, to: Token, id: GroupId, consistency: Consistency, query: Query) {
        if self.stopping.is_some() {
            return self.fail(to, RequestError::Stopped);
        }
        let slot = match self.find(id) {
            Ok(slot) => slot,
            Err(error) => return self.fail(to, error),
        };
        self.admit(0);
        let deadline = self.now().after(self.config.leader_wait);
        let group = self.slots[slot].as_mut().expect("found");
        match consistency {
            Consistency::Stale => {
                group.reads.stale.push(PendingRead { to, query, deadline });
                self.counters.stale_reads += 1;
            }
            Consistency::Linearizable => {
                group.reads.gathering.push(PendingRead { to, query, deadline });
                self.counters.reads += 1;
            }
        }
        self.mark(slot);
    }

    /// Starts a read-index round for all reads that gathered.
    pub(super) fn flush_reads(&mut self, slot: usize) {
        let now = self.now();
        let Some(group) = self.slots[slot].as_mut() else { return };
        let reads = &mut group.reads;
        if reads.gathering.is_empty() || reads.asked.len() >= READ_ROUNDS {
            return;
        }
        let id = ReadId(reads.next_id);
        reads.next_id += 1;
        if group.core.read_index(now, id).is_ok() {
            let batch = std::mem::take(&mut reads.gathering);
            reads.asked.insert(id, (now, batch));
        }
    }

    /// Reads that got no index gather again, until their time is over.
    pub(super) fn reads_failed(&mut self, slot: usize, ids: &[ReadId]) {
        let Some(group) = self.slots[slot].as_mut() else { return };
        for id in ids {
            if let Some((_, batch)) = group.reads.asked.remove(id) {
                group.reads.gathering.extend(batch);
            }
        }
    }

    pub(super) fn reads_confirmed(&mut self, slot: usize, id: ReadId, at: Index) {
        let Some(group) = self.slots[slot].as_mut() else { return };
        if let Some((_, batch)) = group.reads.asked.remove(&id) {
            group.reads.confirmed.push_back((at, batch));
        }
    }
}
