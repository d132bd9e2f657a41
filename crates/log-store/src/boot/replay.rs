//! One pass over a log: rebuilds the small state, the memtables, and what is known of each log's
//! end. The tables are owned by recovery and carried from file to file; nothing else touches them.

use std::collections::BTreeMap;

use refloat_memtable::Memtables;
use refloat_types::{EntryId, Generation, GroupKey, Index, LogOp};
use refloat_wal::{Lsn, Record, Trust, Visit};

use crate::small_state::{Change, SmallState};

/// What replaying the main log yields.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) state: SmallState,
    pub(crate) memtables: Memtables,
    pub(crate) tracks: BTreeMap<GroupKey, Track>,
    /// Records that verify and say nothing that this version understands.
    pub(crate) unreadable: Vec<(Lsn, String)>,
    started: bool,
}

/// What the records say about one group's log, apart from its entries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Track {
    /// Where the log should end.
    pub(crate) expected: Index,
    /// Entries that a record names and that did not survive.
    pub(crate) holes: BTreeMap<Index, EntryId>,
    /// The last record of this group.
    pub(crate) last_record: Lsn,
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
            started: false,
        }
    }

    fn small(&mut self, at: Lsn, group: GroupKey, body: &[u8]) {
        let change = match Change::decode(body) {
            Ok(change) => change,
            Err(e) => {
                self.unreadable.push((at, format!("small state of group {group}: {e}")));
                return;
            }
        };
        match &change {
            Change::Deleted => {
                self.tracks.remove(&group);
                self.memtables.drop_group(group);
            }
            Change::Created(_) => drop(self.tracks.insert(group, Track::default())),
            Change::CheckpointGroup(record) => {
                let fresh = !self.tracks.contains_key(&group);
                let snapshot = record.snapshot.index;
                let track = self.tracks.entry(group).or_default();
                if !fresh && track.expected.max(snapshot) != record.last.index.max(snapshot) {
                    track.breaks.push(at);
                }
                track.expected = record.last.index;
                track.checkpoint_at = at;
                self.promised(at, group, record.value.change);
            }
            Change::Verdict(None) => {
                let track = self.tracks.entry(group).or_default();
                track.healed_at = at;
                track.breaks.clear();
            }
            Change::HardState { value, .. } => self.promised(at, group, *value),
            Change::Value { value, .. } => self.promised(at, group, value.change),
            Change::Installed { id, .. } => {
                let track = self.tracks.entry(group).or_default();
                track.expected = track.expected.max(id.index);
            }
            _ => {}
        }
        if !matches!(
            change,
            Change::Deleted
                | Change::NodeState { .. }
                | Change::Segments { .. }
                | Change::CheckpointNode { .. }
        ) {
            self.tracks.entry(group).or_default().last_record = at;
        }
        self.state.apply(group, &change);
    }

    fn promised(&mut self, at: Lsn, group: GroupKey, value: u64) {
        let track = self.tracks.entry(group).or_default();
        track.vote_at = at;
        track.value_change = track.value_change.max(value);
    }

    fn log(&mut self, at: Lsn, group: GroupKey, op: LogOp, missing: &[EntryId]) {
        let snapshot = self.state.groups.get(&group).map_or(Index::ZERO, |r| r.snapshot.index);
        let track = self.tracks.entry(group).or_default();
        track.last_record = at;
        if let LogOp::Append { prev, .. } = &op {
            if prev.index > track.expected.max(snapshot) {
                track.breaks.push(at);
            }
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
            if matches!(op, LogOp::Cut { .. }) {
                track.expected = track.expected.min(from.prev());
            }
        }
        for entry in op.entries() {
            track.holes.remove(&entry.id.index);
        }
        track.holes.extend(missing.iter().map(|id| (id.index, *id)));
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

impl Visit for Replay {
    fn file(&mut self, generation: Generation) {
        if self.started {
            self.memtables.freeze(generation);
        } else {
            self.memtables = Memtables::new(generation);
            self.started = true;
        }
    }

    fn record(&mut self, at: Lsn, _trust: Trust, record: Record, missing: &[EntryId]) {
        match record {
            Record::State { group, body } => self.small(at, group, &body),
            Record::Log { group, op } => self.log(at, group, op, missing),
        }
    }
}
