//! Snapshots of own machines, and the install of those that came from others.

use std::collections::BTreeMap;

use refloat_raft_core::{PeerState, PeerStatus, PersistTicket};
use refloat_types::{ConfState, EntryId, GroupId, GroupKey, IndexSet, NodeId};

use super::group::{Answer, Applier, Group, Restoring};
use super::offers::Announced;
use super::receiving::Incoming;
use super::sending::Outgoing;
use super::{NodeCore, Order};
use crate::api::{Reply, Token};
use crate::config::Config;
use crate::error::RequestError;
use crate::job::guarded;
use crate::machine::Chunks;

/// How much more than a snapshot holds, or than makes one due, is applied at most before another
/// one is drawn for all that members need the log behind the last.
const SPARED: u64 = 4;

/// The snapshots of one group that are on their way.
#[derive(Default)]
pub(crate) struct Transfers {
    /// The newest that is durable here.
    pub(crate) published: EntryId,
    /// A job draws one from the machine.
    pub(crate) capturing: bool,
    writing: bool,
    /// Somebody wants one, however little was applied since the last.
    wanted: bool,
    /// One that is rotten: where it is the newest, another of the same index takes its place.
    rotten: Option<EntryId>,
    /// Why the newest cannot be read, while another one is asked for.
    pub(super) lost: Option<String>,
    clients: Vec<Token>,
    pub(super) sending: BTreeMap<NodeId, Outgoing>,
    /// Why a peer could not take the last one, in its own words.
    pub(super) refusals: BTreeMap<NodeId, String>,
    pub(super) incoming: Option<Box<Incoming>>,
    /// The offer of one of which not all parts came yet.
    pub(super) announced: Option<Announced>,
}

impl Transfers {
    /// Nothing is on its way, and this snapshot is there (zero: none).
    pub(crate) fn after(published: EntryId) -> Transfers {
        Transfers { published, ..Transfers::default() }
    }

    /// Whether one is due that can be drawn.
    fn wants_capture(&self, apply: &Applier, config: &Config) -> bool {
        let due = self.wanted
            || apply.entries >= config.snapshot_entries
            || apply.bytes >= config.snapshot_bytes;
        let free = !self.capturing && !self.writing;
        let applied = apply.applied.index;
        let newer = applied > self.published.index
            || applied == self.published.index && self.rotten == Some(self.published);
        due && free && apply.is_in_step() && newer
    }

    /// A new one is to be made, however little was applied since the last. That the newest is
    /// rotten is not forgotten over the one before it, which no other takes the place of.
    pub(crate) fn renew(&mut self, rotten: Option<EntryId>) {
        self.wanted = true;
        if self.rotten != Some(self.published) {
            self.rotten = rotten.or(self.rotten);
        }
    }

    pub(crate) fn take_clients(&mut self) -> Vec<Token> {
        std::mem::take(&mut self.clients)
    }
}

impl NodeCore {
    /// Whether the next job of a group's machine should draw a snapshot.
    pub(super) fn wants_capture(&self, slot: usize) -> bool {
        let Some(group) = self.slots[slot].as_ref() else { return false };
        group.snapshots.wants_capture(&group.apply, &self.config)
            && (group.snapshots.wanted || !self.spares_the_log(group))
    }

    /// Whether another snapshot waits for members that need this one, or the log behind it. The
    /// next one would take its place in the middle of a transfer, and the one after that the log
    /// that goes on from it: a member that needs longer for either would never catch up.
    fn spares_the_log(&self, group: &Group) -> bool {
        let payload = self.store.latest_snapshot(group.key).map_or(0, |meta| meta.payload_len);
        let most = SPARED * self.config.snapshot_bytes.max(payload);
        if group.apply.bytes >= most || self.lacks_space() {
            return false;
        }
        let published = group.snapshots.published.index;
        let follows = |p: &PeerStatus| {
            let up = self.peers.get(&p.member.node).is_some_and(|peer| peer.up);
            up && p.state == PeerState::Replicate && p.matched < published
        };
        group.snapshots.sending.values().any(Outgoing::is_under_way)
            || group.is_leader() && group.core.status().progress.iter().any(follows)
    }

    pub(super) fn snapshot_now(&mut self, to: Token, id: GroupId) {
        self.admit(0);
        let slot = match self.find(id) {
            Ok(slot) => slot,
            Err(error) => return self.answer(Answer::Local(to), 0, Err(error)),
        };
        let group = self.slots[slot].as_mut().expect("found");
        if group.apply.applied.index <= group.snapshots.published.index {
            let reply = Reply { index: group.snapshots.published.index, ..Reply::default() };
            return self.answer(Answer::Local(to), 0, Ok(reply));
        }
        group.snapshots.wanted = true;
        group.snapshots.clients.push(to);
        self.mark(slot);
    }

    /// The machine's state as of `id` is drawn: write it.
    pub(super) fn captured(&mut self, slot: usize, id: EntryId, chunks: Chunks, live: IndexSet) {
        let Some(group) = self.slots[slot].as_mut() else { return };
        group.snapshots.capturing = false;
        if group.apply.restoring != Restoring::No {
            // One from the leader overtook it: the membership is not as of `id` any more, and the
            // store would not take it. Who asked for one is answered when that one is published.
            return;
        }
        group.snapshots.wanted = false;
        group.snapshots.rotten = None;
        group.snapshots.writing = true;
        (group.apply.entries, group.apply.bytes) = (0, 0);
        // Nothing was applied since the job began, so the membership is as of `id`.
        let conf = group.core.conf().clone();
        let source = guarded(group.key, chunks);
        self.store.write_snapshot(group.key, id, conf, live, Box::new(source));
    }

    /// The pieces of a machine's snapshot ended in a panic: the machine is not to be trusted.
    pub(super) fn source_panicked(&mut self, key: GroupKey, reason: String) {
        self.counters.panics += 1;
        if let Some(slot) = self.by_key.get(&key).copied() {
            self.halt_group(slot, reason);
        }
    }

    pub(super) fn snapshot_published(&mut self, key: GroupKey, id: EntryId) {
        let Some(slot) = self.by_key.get(&key).copied() else { return };
        let Some(group) = self.slots[slot].as_mut() else { return };
        let previous = std::mem::replace(&mut group.snapshots.published, id);
        group.snapshots.writing = false;
        // Two snapshots are kept; what is dead lies below the older one.
        if previous != EntryId::ZERO && previous.index < id.index {
            group.core.on_compacted(previous);
        }
        group.core.on_snapshot_made(id.index);
        self.counters.snapshots_written += 1;
        let reply = Reply { index: id.index, ..Reply::default() };
        for token in group.snapshots.take_clients() {
            self.answer(Answer::Local(token), 0, Ok(reply.clone()));
        }
        self.look_for_lost_live(slot);
        self.mark(slot);
    }

    pub(super) fn snapshot_failed(&mut self, key: GroupKey, reason: String) {
        let Some(slot) = self.by_key.get(&key).copied() else { return };
        let Some(group) = self.slots[slot].as_mut() else { return };
        group.snapshots.writing = false;
        tracing::warn!(node = %self.me.node, group = %key, reason, "snapshot failed");
        for token in group.snapshots.take_clients() {
            let error = RequestError::Refused { group: key.id, reason: reason.clone() };
            self.answer(Answer::Local(token), 0, Err(error));
        }
    }

    /// Makes a received snapshot the head of the group's log, and then its machine's state.
    pub(super) fn install(
        &mut self,
        slot: usize,
        id: EntryId,
        conf: ConfState,
        ticket: PersistTicket,
    ) {
        self.order(Order::Install { slot, id, conf, ticket });
        let Some(group) = self.slots[slot].as_mut() else { return };
        let key = group.key;
        self.counters.snapshots_installed += 1;
        group.apply.restoring = Restoring::Wanted(id);
        group.apply.fetching = None;
        group.apply.committed = group.apply.committed.max(id.index);
        // What the snapshot swallowed is applied or replaced; which of the two is not known here.
        let keep = group.waiting.partition_point(|waiting| waiting.id.index <= id.index);
        let swallowed: Vec<_> = group.waiting.drain(..keep).collect();
        for waiting in swallowed {
            let unknown = RequestError::Unknown { group: key.id };
            self.answer(waiting.answer, waiting.bytes, Err(unknown));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use refloat_types::{Index, Term};

    #[test]
    fn n13_a_rotten_newest_snapshot_is_replaced_though_the_one_before_it_rots_too() {
        let id = |index| EntryId::new(Term(1), Index(index));
        for both in [[id(5), id(9)], [id(9), id(5)]] {
            let mut transfers = Transfers::after(id(9));
            both.into_iter().for_each(|rotten| transfers.renew(Some(rotten)));
            transfers.renew(None);
            assert_eq!((transfers.rotten, transfers.wanted), (Some(id(9)), true));
        }
    }
}
