//! The small state: everything durable that is not an entry, a snapshot or the identity.
//!
//! It travels through the WAL as records that only this module can read. Each change is one
//! record; each new WAL file begins with a checkpoint, one record per group and one for the node.
//! The byte form is described in `docs/formats/small-state.md`.

mod codec;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::state::GroupState;
use bytes::Bytes;
use refloat_planted::{Defect, is};
use refloat_segment::SegmentName;
use refloat_types::{ConfState, EntryId, Generation, GroupKey, HardState, Index};
use refloat_wal::Lsn;

/// The key under which records of the node itself travel.
pub(crate) const NODE: GroupKey = GroupKey::META;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SmallState {
    pub(crate) groups: BTreeMap<GroupKey, GroupRecord>,
    pub(crate) node: BTreeMap<u32, Bytes>,
    /// Up to this generation all entries are in published segments.
    pub(crate) flushed: Generation,
    pub(crate) segments: BTreeSet<SegmentName>,
}

/// What the small state holds of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupRecord {
    pub(crate) hard_state: HardState,
    pub(crate) commit_hint: Index,
    /// The membership at `snapshot`, or the one the group was created with.
    pub(crate) conf: ConfState,
    /// The membership that the group was created with, while its first snapshot is the only one:
    /// the log then still begins with the first entry, and can stand in for the snapshot.
    pub(crate) first: Option<Box<ConfState>>,
    /// The newest published snapshot; zero if there is none.
    pub(crate) snapshot: EntryId,
    /// The one before it, kept as a fallback. At or below it entries are dead unless live.
    pub(crate) previous: EntryId,
    /// The end of the log when this was written, so that a shorter log is noticed.
    pub(crate) last: EntryId,
    /// What a boot found and nobody healed yet: the verdict must outlive the file that showed it.
    pub(crate) unhealed: Option<Unhealed>,
    /// What the host keeps for the group.
    pub(crate) value: GroupValue,
}

/// An opaque value of the host's and the number of its change. It may carry a vote, so it is
/// written to both logs as one is, and of two copies the one of the later change counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupValue {
    /// 0: there never was a value.
    pub(crate) change: u64,
    pub(crate) body: Bytes,
}

impl GroupValue {
    /// Takes the other one unless it is older.
    pub(crate) fn raise(&mut self, other: &GroupValue) {
        if other.change >= self.change {
            self.clone_from(other);
        }
    }

    pub(crate) fn get(&self) -> Option<&Bytes> {
        (self.change > 0).then_some(&self.body)
    }
}

/// A state that is not clean, with its evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unhealed {
    pub(crate) state: GroupState,
    pub(crate) evidence: String,
}

/// One record of small state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Term and vote; also says which change of the group's value is the last one, so that the
    /// loss of a value between two votes is noticed.
    HardState {
        hard_state: HardState,
        value: u64,
    },
    CommitHint(Index),
    Created(ConfState),
    Deleted,
    NodeState {
        slot: u32,
        body: Bytes,
    },
    /// A local snapshot became real.
    Published {
        id: EntryId,
        conf: ConfState,
    },
    /// A leader's snapshot became this replica's log head.
    Installed {
        id: EntryId,
        conf: ConfState,
    },
    Segments {
        flushed: Generation,
        add: Vec<SegmentName>,
        remove: Vec<SegmentName>,
    },
    /// The group's value changed; restates term and vote.
    Value {
        hard_state: HardState,
        value: GroupValue,
    },
    CheckpointGroup(GroupRecord),
    CheckpointNode {
        flushed: Generation,
        segments: Vec<SegmentName>,
        node: Vec<(u32, Bytes)>,
    },
    /// What is held against the group changed while the node ran; nothing, if it was healed.
    Verdict(Option<Unhealed>),
    /// In the votes log: up to here the main log was durable when this was written.
    Witness(Lsn),
}

impl SmallState {
    /// Applies one record.
    pub(crate) fn apply(&mut self, group: GroupKey, change: &Change) {
        match change {
            Change::HardState { hard_state, .. } => {
                let record = self.groups.entry(group).or_default();
                record.hard_state = later(record.hard_state, *hard_state);
            }
            Change::Value { hard_state, value } => {
                let record = self.groups.entry(group).or_default();
                record.hard_state = later(record.hard_state, *hard_state);
                record.value.raise(value);
            }
            // A hint makes no group: it may be written after the group's deletion.
            Change::CommitHint(index) => {
                if let Some(record) = self.groups.get_mut(&group) {
                    record.commit_hint = *index;
                }
            }
            Change::Created(conf) => {
                self.groups.insert(group, GroupRecord { conf: conf.clone(), ..Default::default() });
            }
            Change::Deleted => drop(self.groups.remove(&group)),
            Change::NodeState { slot, body } => drop(self.node.insert(*slot, body.clone())),
            Change::Published { id, conf } | Change::Installed { id, conf } => {
                let record = self.groups.entry(group).or_default();
                let installed = matches!(change, Change::Installed { .. });
                // A boot writes the last batch again behind a checkpoint that knows it already.
                // A leader's snapshot counts though it is not newer: then the newest is rotten.
                if id.index <= record.snapshot.index && !installed {
                    return;
                }
                // An installed snapshot has no log below it that an older one could lead into.
                record.previous = if installed { *id } else { record.snapshot };
                record.snapshot = *id;
                let before = std::mem::replace(&mut record.conf, conf.clone());
                record.first = (record.previous == EntryId::ZERO).then(|| Box::new(before));
            }
            Change::Segments { flushed, add, remove } => {
                self.flushed = self.flushed.max(*flushed);
                for name in remove {
                    self.segments.remove(name);
                }
                self.segments.extend(add.iter().copied());
            }
            Change::Verdict(unhealed) => {
                self.groups.entry(group).or_default().unhealed = unhealed.clone();
            }
            Change::Witness(_) => {}
            Change::CheckpointGroup(record) => drop(self.groups.insert(group, record.clone())),
            Change::CheckpointNode { flushed, segments, node } => {
                self.flushed = *flushed;
                self.segments = segments.iter().copied().collect();
                self.node = node.iter().cloned().collect();
            }
        }
    }

    /// The records that a new WAL file begins with.
    pub(crate) fn checkpoint(&self) -> Vec<(GroupKey, Bytes)> {
        let node = Change::CheckpointNode {
            flushed: self.flushed,
            segments: self.segments.iter().copied().collect(),
            node: self.node.iter().map(|(slot, body)| (*slot, body.clone())).collect(),
        };
        let groups = self
            .groups
            .iter()
            .map(|(key, record)| (*key, Change::CheckpointGroup(record.clone()).encode()));
        std::iter::once((NODE, node.encode())).chain(groups).collect()
    }

    /// The records that a new file of the votes log begins with: term, vote and value of every
    /// group that has any. Of a group that has none yet nothing is said: its registration may not
    /// be durable in the main log, and a start that finds it here alone takes it for deleted.
    pub(crate) fn votes_checkpoint(&self) -> Vec<(GroupKey, Bytes)> {
        let vote = |(key, record): (&GroupKey, &GroupRecord)| {
            let change = match record.value.get() {
                Some(_) => record.value_change(record.value.clone()),
                None => record.vote_change(record.hard_state),
            };
            (*key, change.encode())
        };
        let has_any = |(_, record): &(&GroupKey, &GroupRecord)| {
            record.hard_state != HardState::default() || record.value.change > 0
        };
        self.groups.iter().filter(has_any).map(vote).collect()
    }
}

impl GroupRecord {
    /// The record of a new term or vote.
    pub(crate) fn vote_change(&self, hard_state: HardState) -> Change {
        Change::HardState { hard_state, value: self.value.change }
    }

    /// The record of a new value.
    pub(crate) fn value_change(&self, value: GroupValue) -> Change {
        Change::Value { hard_state: self.hard_state, value }
    }
}

/// Of two hard states the one that binds: the higher term, and in one term the one that voted.
pub(crate) fn later(a: HardState, b: HardState) -> HardState {
    if is(Defect::VoteRegresses) {
        return b;
    }
    if (b.term, b.vote.is_some()) >= (a.term, a.vote.is_some()) { b } else { a }
}
