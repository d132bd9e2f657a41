//! The only place where a write gets its WAL file and its memtable.

use bytes::Bytes;
use refloat_planted::{Defect, is};
use refloat_types::{ConfState, Entry, EntryId, GroupKey, GroupWrite, Index, IndexSet, LogOp, Now};
use refloat_wal::{Lsn, RecordRef};

use super::{GroupLog, LogStore, Then};
use crate::error::{Poisoned, SubmitError};
use crate::event::Ticket;
use crate::small_state::{Change, NODE};

impl LogStore {
    /// Takes the writes of one turn of a group worker. Each group's write is durable whole or not
    /// at all; all of them usually share one WAL batch.
    ///
    /// # Errors
    /// Nothing of the failing write and of those after it was taken; those before it were, and
    /// are covered by the next ticket. A host treats `TooLarge` and `UnknownGroup` as its own bug.
    pub fn submit(&mut self, _now: Now, writes: &[GroupWrite]) -> Result<Ticket, SubmitError> {
        self.check_alive()?;
        if writes.iter().any(|w| !self.state.groups.contains_key(&w.group)) {
            return Err(SubmitError::UnknownGroup);
        }
        if let Some((used, limit)) = self.backlog().filter(|_| writes.iter().any(brings_entries)) {
            return Err(SubmitError::Backlog { used, limit });
        }
        let mut ticket = self.tickets.last();
        for writes in self.portions(writes) {
            ticket = self.submit_batch(writes)?;
        }
        Ok(ticket)
    }

    /// Each group's write is one record of a batch. All of a turn may be more than fits into a
    /// file, and what a batch holds must be little enough for the next start to say it again.
    fn portions<'w>(&self, writes: &'w [GroupWrite]) -> Vec<&'w [GroupWrite]> {
        let full = self.options.wal_file_size / 4;
        let (mut portions, mut first, mut sum) = (Vec::new(), 0, 0);
        for (at, write) in writes.iter().enumerate() {
            let entries = write.log.as_ref().map(LogOp::entries).unwrap_or_default();
            let bytes = entries.iter().map(|entry| (entry.payload.len() + 64) as u64).sum::<u64>();
            if sum + bytes > full && at > first {
                portions.push(&writes[first..at]);
                (first, sum) = (at, 0);
            }
            sum += bytes;
        }
        portions.push(&writes[first..]);
        portions
    }

    /// Whether a [`LogStore::submit`] would take so many [bulky](Entry::is_bulky) entries with so
    /// much payload, as far as is known now: entries that it would refuse need not be let in. What
    /// was let in since the last submission counts with them.
    ///
    /// # Errors
    /// The disk is full, too much waits for its flush, or the next log file has no space yet.
    pub fn takes(&self, entries: usize, payload: usize) -> Result<(), SubmitError> {
        if let Some((used, limit)) = self.backlog() {
            return Err(SubmitError::Backlog { used, limit });
        }
        self.wal.takes(entries, payload).map_err(refused)
    }

    /// Bytes of complete generations that wait for their flush, and the limit, where more wait
    /// than may: entries are refused.
    #[must_use]
    pub fn backlog(&self) -> Option<(u64, u64)> {
        let used = self.memtables.frozen().map(|table| table.bytes()).sum::<u64>();
        let limit = self.options.max_unflushed;
        (used > limit && !is(Defect::BacklogUnbounded)).then_some((used, limit))
    }

    fn submit_batch(&mut self, writes: &[GroupWrite]) -> Result<Ticket, SubmitError> {
        let states: Vec<(GroupKey, Bytes, Change)> = writes
            .iter()
            .filter_map(|w| {
                Some((w.group, self.state.groups.get(&w.group)?.vote_change(w.hard_state?)))
            })
            .map(|(group, change)| (group, change.encode(), change))
            .collect();
        let mut records = Vec::with_capacity(writes.len() + states.len());
        records
            .extend(states.iter().map(|(group, body, _)| RecordRef::State { group: *group, body }));
        records.extend(
            writes
                .iter()
                .filter_map(|w| w.log.as_ref().map(|op| RecordRef::Log { group: w.group, op })),
        );
        if records.is_empty() {
            return Ok(self.tickets.last());
        }
        let votes: Vec<RecordRef<'_>> = states
            .iter()
            .filter(|_| !is(Defect::VoteInOneLog))
            .map(|(group, body, _)| RecordRef::State { group: *group, body })
            .collect();
        let (wal, votes) = self.submit_to_both(&records, &votes)?;
        for (group, _, change) in &states {
            self.state.apply(*group, change);
        }
        let mut appended = Vec::new();
        for write in writes {
            let Some(op) = &write.log else { continue };
            self.memtables.apply(write.group, op);
            let log = self.logs.entry(write.group).or_default();
            log.apply(op);
            // What fills holes says nothing about what stands between it and the end.
            if let LogOp::Append { entries, .. } = op {
                appended.extend(entries.last().map(|e| (write.group, e.id)));
            }
        }
        Ok(self.tickets.issue(wal, votes, appended))
    }

    /// Hands records to the main log, and some of them to the votes log too.
    pub(super) fn submit_to_both(
        &mut self,
        records: &[RecordRef<'_>],
        votes: &[RecordRef<'_>],
    ) -> Result<(Lsn, Option<Lsn>), SubmitError> {
        let witness = self.witness().encode();
        let with_witness: Vec<RecordRef<'_>> = votes
            .iter()
            .copied()
            .chain([RecordRef::State { group: NODE, body: &witness }])
            .collect();
        let witnessed = if votes.is_empty() { votes } else { &with_witness[..] };
        self.make_room(records, witnessed);
        // The votes log first: a vote that only it holds binds nobody who was not asked yet, and
        // the whole write may be tried again.
        let lsn = match votes.is_empty() {
            true => None,
            false => Some(self.votes.submit(witnessed).map_err(refused)?),
        };
        self.hold_back(votes);
        Ok((self.wal.submit(records).map_err(refused)?, lsn))
    }

    /// How far the main log came, for the votes log to remember: zeros over all that it wrote last
    /// look like batches that were never written.
    fn witness(&self) -> Change {
        Change::Witness(self.wal.promised())
    }

    /// Gives the next seal, or end, of the votes log what it is to remember.
    pub(super) fn refresh_witness(&mut self) {
        let body = self.witness().encode();
        self.votes.seal_with(vec![(NODE, body)]);
    }

    /// A start that finds a vote for a group that nobody registered cannot tell it from one of a
    /// group that was deleted, and never takes the group again: so the votes log is not written
    /// before the registration that stands in the main log is durable.
    fn hold_back(&mut self, votes: &[RecordRef<'_>]) {
        let groups = votes.iter().map(|record| match record {
            RecordRef::Log { group, .. } | RecordRef::State { group, .. } => group,
        });
        let last = groups.filter_map(|group| self.registering.get(group)).max();
        self.votes_behind = last.copied().unwrap_or_default().max(self.votes_behind);
    }

    /// Registers a group: durable in the same order as every write, so that nothing the group
    /// acknowledges can outlive its registration; votes and values of it are not written to the
    /// second log before. A registered group is left as it is.
    ///
    /// # Errors
    /// Nothing was written. A key is for one life: after a deletion it is refused, because old
    /// entries and votes under it would count as the new group's.
    pub fn create_group(
        &mut self,
        _now: Now,
        key: GroupKey,
        conf: &ConfState,
    ) -> Result<Ticket, SubmitError> {
        self.check_alive()?;
        if self.has_group(key) {
            return Ok(self.tickets.last());
        }
        if self.graves.contains(&key) {
            return Err(SubmitError::KeyInUse);
        }
        let (ticket, at) = self.submit_change_and_op(key, Change::Created(conf.clone()), None)?;
        self.registering.insert(key, at);
        self.logs.insert(key, GroupLog::default());
        Ok(ticket)
    }

    /// Removes a group, its log and its snapshots.
    ///
    /// # Errors
    /// Nothing was written.
    pub fn delete_group(&mut self, _now: Now, key: GroupKey) -> Result<Ticket, SubmitError> {
        self.check_alive()?;
        if !self.has_group(key) {
            return Ok(self.tickets.last());
        }
        let ticket = self.submit_change(key, Change::Deleted)?;
        self.logs.remove(&key);
        self.memtables.drop_group(key);
        self.leaving.insert(key);
        self.graves.insert(key);
        self.after.push_back((ticket, Then::GroupGone(key)));
        Ok(ticket)
    }

    /// Keeps a value of the host's own under a slot.
    ///
    /// # Errors
    /// Nothing was written.
    pub fn put_node_state(
        &mut self,
        _now: Now,
        slot: u32,
        body: Bytes,
    ) -> Result<Ticket, SubmitError> {
        self.check_alive()?;
        self.submit_change(NODE, Change::NodeState { slot, body })
    }

    /// Makes a snapshot that was received and verified this replica's log head, and cuts the log
    /// if it does not contain the snapshot's last entry: one record, whole or not at all.
    ///
    /// Live entries that this replica lacks are written before, with [`LogOp::Fill`]; they are
    /// durable when the install is.
    ///
    /// # Errors
    /// Nothing was written: the snapshot was not received, is not newer than the one that is
    /// there, or names live entries that are not here.
    pub fn install_snapshot(
        &mut self,
        _now: Now,
        key: GroupKey,
        id: EntryId,
        conf: &ConfState,
    ) -> Result<Ticket, SubmitError> {
        self.check_alive()?;
        let live = self.installable(key, id)?;
        let keeps_log =
            self.logs.get(&key).is_some_and(|log| log.map.term(id.index) == Some(id.term));
        // Only above: what is below is dead, but for the live entries, which came before.
        let cut = (!keeps_log).then_some(LogOp::Cut { from: id.index.next() });
        let change = Change::Installed { id, conf: conf.clone() };
        let (ticket, _) = self.submit_change_and_op(key, change, cut)?;
        let log = self.logs.entry(key).or_default();
        super::add_all(&mut log.live, &live);
        log.install(id);
        self.publish_after(ticket, key);
        Ok(ticket)
    }

    /// The live indexes of a received snapshot that may be installed.
    fn installable(&self, key: GroupKey, id: EntryId) -> Result<IndexSet, SubmitError> {
        let (Some(record), Some(log)) = (self.state.groups.get(&key), self.logs.get(&key)) else {
            return Err(SubmitError::UnknownGroup);
        };
        // Of the one that the record names nothing may be left: what counts is what was found whole.
        let newest = record.snapshot.min(log.base);
        if id.index <= newest.index {
            return Err(SubmitError::SnapshotObsolete { id, newest });
        }
        let Some(meta) = self.received_snapshot(key, id) else {
            return Err(SubmitError::SnapshotUnknown { id });
        };
        let missing = log.lacks(&meta.live);
        match missing.is_empty() {
            true => Ok(meta.live.clone()),
            false => Err(SubmitError::LiveEntriesMissing { id, missing }),
        }
    }

    /// Tells how far a group is committed. Written down by the next seal or checkpoint, never
    /// above what is durable.
    pub fn hint_commit(&mut self, key: GroupKey, commit: Index) {
        if let Some(log) = self.logs.get_mut(&key).filter(|log| log.commit < commit) {
            log.commit = commit;
            self.hints.insert(key);
        }
    }

    /// Writes one record of small state.
    pub(super) fn submit_change(
        &mut self,
        group: GroupKey,
        change: Change,
    ) -> Result<Ticket, SubmitError> {
        self.submit_change_and_op(group, change, None).map(|(ticket, _)| ticket)
    }

    fn submit_change_and_op(
        &mut self,
        group: GroupKey,
        change: Change,
        op: Option<LogOp>,
    ) -> Result<(Ticket, Lsn), SubmitError> {
        self.check_alive()?;
        let body = change.encode();
        let mut records = vec![RecordRef::State { group, body: &body }];
        records.extend(op.as_ref().map(|op| RecordRef::Log { group, op }));
        self.make_room(&records, &[]);
        let wal = self.wal.submit(&records).map_err(refused)?;
        self.state.apply(group, &change);
        if let Some(op) = &op {
            self.memtables.apply(group, op);
            self.logs.entry(group).or_default().apply(op);
        }
        Ok((self.tickets.issue(wal, None, Vec::new()), wal))
    }

    /// Rolls over where the current files have no room for these records.
    fn make_room(&mut self, records: &[RecordRef<'_>], votes: &[RecordRef<'_>]) {
        if !self.wal.fits(records) {
            self.refresh_checkpoint();
            let next = self.wal.roll(self.state.checkpoint());
            self.memtables.freeze(next);
        }
        if !votes.is_empty() && !self.votes.fits(votes) {
            let generation = self.votes.roll(self.state.votes_checkpoint());
            // The checkpoint restates every vote: older files prove nothing more.
            self.votes.release(generation);
        }
    }

    fn refresh_checkpoint(&mut self) {
        for (key, record) in &mut self.state.groups {
            if let Some(log) = self.logs.get(key) {
                record.last = log.last();
                record.commit_hint = record.commit_hint.max(log.hint()).min(log.durable);
            }
        }
    }

    /// Gives the next seal the commit hints that changed since the last one.
    pub(super) fn refresh_hints(&mut self) {
        let mut bodies = Vec::new();
        for key in std::mem::take(&mut self.hints) {
            let (Some(record), Some(log)) = (self.state.groups.get_mut(&key), self.logs.get(&key))
            else {
                continue;
            };
            let hint = log.hint();
            if hint < log.commit {
                self.hints.insert(key);
            }
            if hint > record.commit_hint {
                record.commit_hint = hint;
                bodies.push((key, Change::CommitHint(hint).encode()));
            }
        }
        if !bodies.is_empty() {
            self.wal.seal_with(bodies);
        }
    }

    pub(super) fn check_alive(&self) -> Result<(), SubmitError> {
        match &self.poisoned {
            Some(poisoned) => Err(SubmitError::Poisoned(poisoned.clone())),
            None if self.closing => Err(SubmitError::Closed),
            None => Ok(()),
        }
    }

    /// Passes on what became durable: per group, per waiting action.
    pub(super) fn advance(&mut self, now: Now) -> Result<(), Poisoned> {
        let durable = self.wal.durable();
        self.registering.retain(|_, at| *at > durable);
        for (group, last) in self.tickets.advance(self.wal.durable(), self.votes.durable()) {
            if let Some(log) = self.logs.get_mut(&group) {
                log.persisted(last);
            }
        }
        while self.after.front().is_some_and(|(ticket, _)| *ticket <= self.tickets.durable()) {
            let (_, then) = self.after.pop_front().expect("just seen");
            self.act(now, then);
        }
        Ok(())
    }
}

fn brings_entries(write: &GroupWrite) -> bool {
    let entries = write.log.as_ref().map(LogOp::entries).unwrap_or_default();
    write.group != GroupKey::META && entries.iter().any(Entry::is_bulky)
}

/// A refusal of the log in the words of the store.
fn refused(e: refloat_wal::SubmitError) -> SubmitError {
    match e {
        refloat_wal::SubmitError::TooLarge { size, limit } => {
            SubmitError::TooLarge { needed: size, room: limit }
        }
        refloat_wal::SubmitError::NoSpace { .. } => SubmitError::NoSpace,
        refloat_wal::SubmitError::NotYet { size, left } => {
            SubmitError::NotYet { needed: size, room: left }
        }
        refloat_wal::SubmitError::Malformed { group, index } => {
            SubmitError::Malformed { group, index }
        }
        other => SubmitError::Poisoned(Poisoned { reason: super::with_cause(&other) }),
    }
}
