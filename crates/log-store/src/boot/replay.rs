//! One pass over a log: rebuilds the small state, the memtables, and what is known of each log's
//! end. The tables are owned by recovery and carried from file to file; nothing else touches them.

use std::collections::{BTreeMap, BTreeSet};

use refloat_memtable::Memtables;
use refloat_types::{EntryId, Generation, GroupKey, Index, LogOp};
use refloat_wal::{Lsn, Record, Trust, Visit};

use crate::log_map::LogMap;
use crate::small_state::{Change, SmallState};

/// What replaying the main log yields.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) state: SmallState,
    pub(crate) memtables: Memtables,
    pub(crate) tracks: BTreeMap<GroupKey, Track>,
    /// Records that verify and say nothing that this version understands.
    pub(crate) unreadable: Vec<(Lsn, String)>,
    /// In the votes log: the last batch that it remembers of the main one.
    pub(crate) witnessed: Lsn,
    /// Groups whose deletion was read.
    pub(crate) deleted: BTreeSet<GroupKey>,
    /// Where the checkpoint of a file begins, while its records are read.
    checkpoint: Option<Lsn>,
    /// Lost membership changes of the record that follows.
    lost_configs: Vec<EntryId>,
    started: bool,
}

/// What the records say about one group's log, apart from its entries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Track {
    /// Where the log should end.
    pub(crate) expected: Index,
    /// The terms that records speak of, entries or not: what they follow, where a checkpoint saw
    /// the end. An index alone does not tell an entry from the one that it overwrote.
    pub(crate) said: LogMap,
    /// Whether there are records of the group and none that registers it.
    pub(crate) unregistered: bool,
    /// Entries that a record names and that did not survive.
    pub(crate) holes: BTreeMap<Index, EntryId>,
    /// Those of them that are membership changes.
    pub(crate) lost_configs: BTreeSet<Index>,
    /// The last record that says what the log was before it: a lost one would be missed by it. A
    /// vote or a hint says nothing of that kind.
    pub(crate) continued_at: Lsn,
    /// Commit hints and where they stand, rising: one is about the log as it was there.
    pub(crate) hints: Vec<(Lsn, Index)>,
    /// Records that do not continue what was known before them.
    pub(crate) breaks: Vec<Lsn>,
    /// The last checkpoint, which restates everything small about the group.
    pub(crate) checkpoint_at: Lsn,
    /// The last record that restates term and vote, and which change of the value is the last.
    pub(crate) vote_at: Lsn,
    /// Where the group was found whole again: damage before this no longer counts.
    pub(crate) healed_at: Lsn,
    /// The last change of the group's value that a record speaks of.
    pub(crate) value_change: u64,
}

impl Replay {
    pub(crate) fn new() -> Replay {
        Replay {
            state: SmallState::default(),
            memtables: Memtables::new(Generation::ZERO),
            tracks: BTreeMap::new(),
            unreadable: Vec::new(),
            witnessed: Lsn::default(),
            deleted: BTreeSet::new(),
            checkpoint: None,
            lost_configs: Vec::new(),
            started: false,
        }
    }

    /// A checkpoint restates every group: what it does not name was deleted, whether or not the
    /// record that says so can be read.
    pub(crate) fn end_checkpoint(&mut self) {
        let Some(at) = self.checkpoint.take() else { return };
        let restated = |group: &GroupKey| {
            self.tracks.get(group).is_some_and(|track| track.checkpoint_at == at)
        };
        let gone: Vec<GroupKey> =
            self.state.groups.keys().filter(|group| !restated(group)).copied().collect();
        gone.into_iter().for_each(|group| self.delete(group));
    }

    fn delete(&mut self, group: GroupKey) {
        self.tracks.remove(&group);
        self.memtables.drop_group(group);
        self.state.groups.remove(&group);
        self.deleted.insert(group);
    }

    fn small(&mut self, at: Lsn, trust: Trust, group: GroupKey, body: &[u8]) {
        let change = match Change::decode(body) {
            Ok(change) => change,
            Err(e) => {
                self.unreadable.push((at, format!("small state of group {group}: {e}")));
                return;
            }
        };
        match &change {
            Change::Witness(end) => {
                self.witnessed = self.witnessed.max(*end);
                return;
            }
            Change::Deleted => self.delete(group),
            Change::Created(_) => {
                let track = Track { checkpoint_at: at, continued_at: at, ..Track::default() };
                self.tracks.insert(group, track);
            }
            Change::CheckpointGroup(record) => {
                let fresh = !self.tracks.contains_key(&group);
                let snapshot = record.snapshot.index;
                let track = self.tracks.entry(group).or_default();
                let goes_on = track.expected.max(snapshot) == record.last.index.max(snapshot)
                    && track.agrees(record.last);
                if !fresh && !goes_on {
                    track.breaks.push(at);
                }
                track.say_end(record.last);
                track.expected = record.last.index;
                (track.checkpoint_at, track.continued_at) = (at, at);
                track.hint(at, record.commit_hint);
                track.unregistered = false;
                self.promised(at, group, record.value.change);
            }
            Change::Verdict(None) => {
                let track = self.tracks.entry(group).or_default();
                track.healed_at = at;
                track.breaks.clear();
                track.said = LogMap::default();
            }
            Change::HardState { value, .. } => self.promised(at, group, *value),
            Change::Value { value, .. } => self.promised(at, group, value.change),
            Change::Installed { id, .. } => {
                let track = self.tracks.entry(group).or_default();
                track.expected = track.expected.max(id.index);
                track.said.drop_through(id.index);
            }
            Change::CheckpointNode { .. } if trust != Trust::Salvaged => {
                self.checkpoint = Some(at);
            }
            // A seal may still carry the hint of a group that was deleted meanwhile.
            Change::CommitHint(_) if !self.state.groups.contains_key(&group) => return,
            Change::CommitHint(hint) => self.tracks.entry(group).or_default().hint(at, *hint),
            _ => {}
        }
        let of_group = !matches!(
            change,
            Change::Deleted
                | Change::NodeState { .. }
                | Change::Segments { .. }
                | Change::CheckpointNode { .. }
        );
        if of_group {
            let registers = matches!(change, Change::Created(_) | Change::CheckpointGroup(_));
            self.touch(group, registers);
        }
        self.state.apply(group, &change);
    }

    fn promised(&mut self, at: Lsn, group: GroupKey, value: u64) {
        let track = self.tracks.entry(group).or_default();
        track.vote_at = at;
        track.value_change = track.value_change.max(value);
    }

    fn touch(&mut self, group: GroupKey, registers: bool) {
        let track = self.tracks.entry(group).or_default();
        if !registers && !self.state.groups.contains_key(&group) {
            track.unregistered = true;
            self.state.groups.entry(group).or_default();
        }
    }

    fn log(&mut self, at: Lsn, group: GroupKey, op: LogOp, missing: &[EntryId]) {
        self.touch(group, false);
        let snapshot = self.state.groups.get(&group).map_or(Index::ZERO, |r| r.snapshot.index);
        let track = self.tracks.entry(group).or_default();
        if let LogOp::Append { prev, .. } = &op {
            if prev.index > track.expected.max(snapshot) || !track.agrees(*prev) {
                track.breaks.push(at);
            }
            track.continued_at = at;
            track.say_end(*prev);
            let last = op.entries().last().map(|e| e.id.index);
            let gone = missing.last().map(|id| id.index);
            track.expected = last.max(gone).unwrap_or(prev.index);
        }
        let cut = match &op {
            LogOp::Append { prev, .. } => Some(prev.index.next()),
            LogOp::Cut { from } => Some(*from),
            LogOp::Fill { .. } => None,
        };
        if let Some(from) = cut {
            track.holes.split_off(&from);
            track.lost_configs.split_off(&from);
            track.said.cut(from);
            if matches!(op, LogOp::Cut { .. }) {
                track.expected = track.expected.min(from.prev());
            }
        }
        for entry in op.entries() {
            track.holes.remove(&entry.id.index);
        }
        track.said.put_all(op.entries());
        missing.iter().for_each(|id| track.said.put(*id));
        track.holes.extend(missing.iter().map(|id| (id.index, *id)));
        let configs = std::mem::take(&mut self.lost_configs);
        track
            .lost_configs
            .extend(configs.iter().filter(|id| missing.contains(id)).map(|id| id.index));
        self.insert(group, op, missing.is_empty());
    }

    fn insert(&mut self, group: GroupKey, op: LogOp, whole: bool) {
        match op {
            // What is left of a damaged append still cuts where the whole one did.
            LogOp::Append { prev, entries } if !whole => {
                self.memtables.apply(group, &LogOp::Cut { from: prev.index.next() });
                self.memtables.apply(group, &LogOp::Fill { entries });
            }
            op => self.memtables.apply(group, &op),
        }
    }
}

impl Track {
    /// Whether nothing that was read before says another term.
    fn agrees(&self, id: EntryId) -> bool {
        self.said.term(id.index).is_none_or(|term| term == id.term)
    }

    fn hint(&mut self, at: Lsn, index: Index) {
        if self.hints.last().is_none_or(|(_, known)| *known < index) {
            self.hints.push((at, index));
        }
    }

    /// The log ends here, and with this term.
    fn say_end(&mut self, id: EntryId) {
        self.said.cut(id.index.next());
        if id.index > Index::ZERO {
            self.said.put(id);
        }
    }
}

impl Visit for Replay {
    fn file(&mut self, generation: Generation) {
        if self.started {
            self.memtables.freeze(generation);
        } else {
            self.memtables = Memtables::new(generation);
            self.started = true;
        }
    }

    fn missing_configs(&mut self, _group: GroupKey, ids: &[EntryId]) {
        self.lost_configs = ids.to_vec();
    }

    fn record(&mut self, at: Lsn, trust: Trust, record: Record, missing: &[EntryId]) {
        if self.checkpoint.is_some_and(|checkpoint| checkpoint != at) {
            self.end_checkpoint();
        }
        match record {
            Record::State { group, body } => self.small(at, trust, group, &body),
            Record::Log { group, op } => self.log(at, group, op, missing),
        }
    }
}
