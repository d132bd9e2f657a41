//! What the host found out about a group that a boot did not find whole.

use bytes::Bytes;
use refloat_segment::SegmentName;
use refloat_types::{GroupKey, Now};

use super::{LogStore, Then};
use crate::error::SubmitError;
use crate::event::Ticket;
use crate::small_state::{Change, NODE, SmallState, Unhealed};
use crate::state::GroupState;

/// The record by which segments that are not there are listed no more.
pub(crate) fn forgotten(state: &SmallState, lost: &[SegmentName]) -> Change {
    Change::Segments { flushed: state.flushed, add: Vec::new(), remove: lost.to_vec() }
}

impl LogStore {
    /// Nothing of this group is missing any more: its holes were filled through
    /// [`LogStore::submit`], or its log reached what a leader had. The record stands behind the
    /// entries that it speaks of, so that it is never durable without them. Log files that were
    /// kept as evidence may go.
    ///
    /// A group that was not held to be damaged is left as it is.
    ///
    /// # Errors
    /// Nothing was written; the next boot judges the group anew.
    pub fn note_healed(&mut self, _now: Now, key: GroupKey) -> Result<Ticket, SubmitError> {
        self.check_alive()?;
        let held = self.state.groups.get(&key).and_then(|record| record.unhealed.as_ref());
        if held.is_none() {
            return Ok(self.tickets.last());
        }
        self.give_up_rotten_snapshot(key)?;
        let ticket = self.submit_change(key, Change::Verdict(None))?;
        self.after.push_back((ticket, Then::Healed));
        Ok(ticket)
    }

    /// The host learned from others that this replica forgot what it had promised: it is
    /// [`GroupState::Amnesia`] from now on, also after a restart.
    ///
    /// # Errors
    /// Nothing was written.
    pub fn note_amnesia(
        &mut self,
        _now: Now,
        key: GroupKey,
        evidence: &str,
    ) -> Result<Ticket, SubmitError> {
        self.check_alive()?;
        if !self.has_group(key) {
            return Err(SubmitError::UnknownGroup);
        }
        let unhealed = Unhealed { state: GroupState::Amnesia, evidence: evidence.to_owned() };
        self.submit_change(key, Change::Verdict(Some(unhealed)))
    }

    /// A group that healed by its log starts from an older snapshot than its record names: the
    /// rotten one must neither stand in the way of the next nor become its fallback.
    fn give_up_rotten_snapshot(&mut self, key: GroupKey) -> Result<(), SubmitError> {
        let (Some(record), Some(log)) = (self.state.groups.get(&key), self.logs.get(&key)) else {
            return Ok(());
        };
        if log.base >= record.snapshot {
            return Ok(());
        }
        let mut record = record.clone();
        (record.snapshot, record.previous, record.first) = (log.base, log.base, None);
        record.last = log.last();
        if let Some(file) = self.snapshot_file(key) {
            record.conf = file.meta().conf.clone();
        }
        self.submit_change(key, Change::CheckpointGroup(record)).map(drop)
    }

    /// The replica begins a new life, which `life` names, because it forgot what the old one had
    /// promised: what was held against it falls away, except the holes in its log. The name is
    /// kept as the group's value ([`LogStore::put_group_value`]), before anything else is said.
    ///
    /// # Errors
    /// It is not certain that the new life was noted: the next boot may find the amnesia again.
    pub fn note_new_life(
        &mut self,
        now: Now,
        key: GroupKey,
        life: Bytes,
    ) -> Result<Ticket, SubmitError> {
        self.put_group_value(now, key, life)?;
        let state = GroupState::Damaged;
        let evidence = "a new life began with what was left of the log".to_owned();
        self.submit_change(key, Change::Verdict(Some(Unhealed { state, evidence })))
    }

    /// Evidence is kept as long as one group may need it.
    pub(super) fn release_evidence(&mut self) {
        let is_noted = self.after.iter().all(|(_, then)| !matches!(then, Then::Healed));
        if is_noted && self.state.groups.values().all(|record| record.unhealed.is_none()) {
            self.hold_from = None;
            self.forget_lost_segments();
        }
    }

    /// Nothing is missing that a lost segment held: a later start must not judge by its absence,
    /// when the log files are gone that prove what stands around it. Refused, it stays listed, and
    /// the next flush or start tries again.
    fn forget_lost_segments(&mut self) {
        if self.lost.is_empty() {
            return;
        }
        let change = forgotten(&self.state, &self.lost);
        if self.submit_change(NODE, change).is_ok() {
            self.lost.clear();
        }
    }
}
