//! The small state: everything durable that is not an entry, a snapshot or the identity.
//!
//! It travels through the WAL as records that only this module can read. Each change is one
//! record; each new WAL file begins with a checkpoint, one record per group and one for the node.
//! The byte form is described in `docs/formats/small-state.md`.

use std::collections::{BTreeMap, BTreeSet};

use crate::state::GroupState;
use bytes::Bytes;
use refloat_planted::{Defect, is};
use refloat_segment::SegmentName;
use refloat_types::codec::{DecodeError, Put, Reader};
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

impl Change {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(64);
        match self {
            Change::HardState { hard_state, value } => {
                out.put_u8(1);
                out.put_hard_state(*hard_state);
                out.put_u64(*value);
            }
            Change::CommitHint(index) => {
                out.put_u8(2);
                out.put_u64(index.0);
            }
            Change::Created(conf) => {
                out.put_u8(3);
                conf.encode(&mut out);
            }
            Change::Deleted => out.put_u8(4),
            Change::NodeState { slot, body } => {
                out.put_u8(5);
                put_slot(&mut out, *slot, body);
            }
            Change::Published { id, conf } => {
                out.put_u8(6);
                out.put_entry_id(*id);
                conf.encode(&mut out);
            }
            Change::Installed { id, conf } => {
                out.put_u8(7);
                out.put_entry_id(*id);
                conf.encode(&mut out);
            }
            Change::Segments { flushed, add, remove } => {
                out.put_u8(8);
                out.put_u64(flushed.0);
                put_names(&mut out, add);
                put_names(&mut out, remove);
            }
            Change::CheckpointGroup(g) => {
                out.put_u8(9);
                out.put_hard_state(g.hard_state);
                out.put_u64(g.commit_hint.0);
                g.conf.encode(&mut out);
                for id in [g.snapshot, g.previous, g.last] {
                    out.put_entry_id(id);
                }
                put_unhealed(&mut out, g.unhealed.as_ref());
                put_value(&mut out, &g.value);
                out.put_u8(u8::from(g.first.is_some()));
                g.first.iter().for_each(|conf| conf.encode(&mut out));
            }
            Change::CheckpointNode { flushed, segments, node } => {
                out.put_u8(10);
                out.put_u64(flushed.0);
                put_names(&mut out, segments);
                out.put_u32(node.len() as u32);
                for (slot, body) in node {
                    put_slot(&mut out, *slot, body);
                }
            }
            Change::Value { hard_state, value } => {
                out.put_u8(11);
                out.put_hard_state(*hard_state);
                put_value(&mut out, value);
            }
            Change::Verdict(unhealed) => {
                out.put_u8(12);
                put_unhealed(&mut out, unhealed.as_ref());
            }
            Change::Witness(end) => {
                out.put_u8(13);
                out.put_u64(end.generation.0);
                out.put_u32(end.batch);
            }
        }
        out.into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Change, DecodeError> {
        let mut r = Reader::new(bytes);
        Ok(match r.u8("small state kind")? {
            1 => Change::HardState {
                hard_state: r.hard_state("hard state")?,
                value: r.u64("change of the value")?,
            },
            2 => Change::CommitHint(Index(r.u64("commit hint")?)),
            3 => Change::Created(ConfState::decode(&mut r)?),
            4 => Change::Deleted,
            5 => {
                let (slot, body) = read_slot(&mut r)?;
                Change::NodeState { slot, body }
            }
            6 => {
                Change::Published { id: r.entry_id("snapshot")?, conf: ConfState::decode(&mut r)? }
            }
            7 => {
                Change::Installed { id: r.entry_id("snapshot")?, conf: ConfState::decode(&mut r)? }
            }
            8 => Change::Segments {
                flushed: Generation(r.u64("flushed")?),
                add: read_names(&mut r)?,
                remove: read_names(&mut r)?,
            },
            9 => Change::CheckpointGroup(GroupRecord {
                hard_state: r.hard_state("hard state")?,
                commit_hint: Index(r.u64("commit hint")?),
                conf: ConfState::decode(&mut r)?,
                snapshot: r.entry_id("snapshot")?,
                previous: r.entry_id("previous snapshot")?,
                last: r.entry_id("last entry")?,
                unhealed: read_unhealed(&mut r)?,
                value: read_value(&mut r)?,
                first: match r.u8("first membership")? {
                    0 => None,
                    1 => Some(Box::new(ConfState::decode(&mut r)?)),
                    _ => return Err(r.invalid("first membership")),
                },
            }),
            10 => {
                let flushed = Generation(r.u64("flushed")?);
                let segments = read_names(&mut r)?;
                let count = r.count(8, "node slots")?;
                let node = (0..count).map(|_| read_slot(&mut r)).collect::<Result<_, _>>()?;
                Change::CheckpointNode { flushed, segments, node }
            }
            11 => Change::Value {
                hard_state: r.hard_state("hard state")?,
                value: read_value(&mut r)?,
            },
            12 => Change::Verdict(read_unhealed(&mut r)?),
            13 => Change::Witness(Lsn::new(
                Generation(r.u64("file of the main log")?),
                r.u32("batch of the main log")?,
            )),
            _ => return Err(r.invalid("small state kind")),
        })
    }
}

fn put_value(out: &mut Vec<u8>, value: &GroupValue) {
    out.put_u64(value.change);
    out.put_u32(value.body.len() as u32);
    out.put_slice(&value.body);
}

fn read_value(r: &mut Reader<'_>) -> Result<GroupValue, DecodeError> {
    let change = r.u64("change of the value")?;
    let len = r.count(1, "value")?;
    Ok(GroupValue { change, body: Bytes::copy_from_slice(r.bytes(len, "value")?) })
}

fn put_unhealed(out: &mut Vec<u8>, unhealed: Option<&Unhealed>) {
    let Some(unhealed) = unhealed else { return out.put_u8(0) };
    out.put_u8(match unhealed.state {
        GroupState::Clean => 0,
        GroupState::Damaged => 1,
        GroupState::HeadUnknown => 2,
        GroupState::Amnesia => 3,
    });
    out.put_u32(unhealed.evidence.len() as u32);
    out.put_slice(unhealed.evidence.as_bytes());
}

fn read_unhealed(r: &mut Reader<'_>) -> Result<Option<Unhealed>, DecodeError> {
    let state = match r.u8("group state")? {
        0 => return Ok(None),
        1 => GroupState::Damaged,
        2 => GroupState::HeadUnknown,
        3 => GroupState::Amnesia,
        _ => return Err(r.invalid("group state")),
    };
    let len = r.count(1, "evidence")?;
    let evidence = String::from_utf8_lossy(r.bytes(len, "evidence")?).into_owned();
    Ok(Some(Unhealed { state, evidence }))
}

fn put_slot(out: &mut Vec<u8>, slot: u32, body: &[u8]) {
    out.put_u32(slot);
    out.put_u32(body.len() as u32);
    out.put_slice(body);
}

fn read_slot(r: &mut Reader<'_>) -> Result<(u32, Bytes), DecodeError> {
    let slot = r.u32("node slot")?;
    let len = r.count(1, "node slot body")?;
    Ok((slot, Bytes::copy_from_slice(r.bytes(len, "node slot body")?)))
}

fn put_names(out: &mut Vec<u8>, names: &[SegmentName]) {
    out.put_u32(names.len() as u32);
    for name in names {
        out.put_u64(name.generation.0);
        out.put_u32(name.revision);
    }
}

fn read_names(r: &mut Reader<'_>) -> Result<Vec<SegmentName>, DecodeError> {
    let count = r.count(12, "segment names")?;
    let name = |r: &mut Reader<'_>| {
        let generation = Generation(r.u64("segment generation")?);
        Ok(SegmentName::new(generation, r.u32("segment revision")?))
    };
    (0..count).map(|_| name(r)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use refloat_types::{Epoch, GroupId, Incarnation, Member, NodeId, Term};

    fn samples() -> Vec<Change> {
        let member = Member::new(NodeId(1), Incarnation(7));
        let conf = ConfState::of_voters([member]);
        let id = EntryId::new(Term(3), Index(9));
        let hs = HardState { term: Term(3), vote: Some(member) };
        let body = Bytes::from_static(b"table");
        let value = GroupValue { change: 5, body: Bytes::from_static(b"kept") };
        vec![
            Change::HardState { hard_state: hs, value: 0 },
            Change::CommitHint(Index(8)),
            Change::Created(conf.clone()),
            Change::Deleted,
            Change::NodeState { slot: 1, body: body.clone() },
            Change::Published { id, conf: conf.clone() },
            Change::Installed { id, conf: conf.clone() },
            Change::Segments {
                flushed: Generation(4),
                add: vec![SegmentName::new(Generation(4), 1)],
                remove: [1, 2].map(|g| SegmentName::new(Generation(g), 0)).to_vec(),
            },
            Change::CheckpointGroup(GroupRecord {
                hard_state: hs,
                commit_hint: Index(8),
                conf: conf.clone(),
                first: Some(Box::new(conf)),
                snapshot: id,
                previous: EntryId::ZERO,
                last: id,
                unhealed: Some(Unhealed {
                    state: GroupState::HeadUnknown,
                    evidence: "the newest file is missing".into(),
                }),
                value: value.clone(),
            }),
            Change::Value { hard_state: hs, value },
            Change::CheckpointNode {
                flushed: Generation(4),
                segments: vec![SegmentName::new(Generation(4), 1)],
                node: vec![(1, body)],
            },
            Change::Verdict(None),
            Change::Verdict(Some(Unhealed {
                state: GroupState::Damaged,
                evidence: "entries {4} are not readable here".into(),
            })),
            Change::Witness(Lsn::new(Generation(7), 12)),
        ]
    }

    /// One record a line, in the order of `samples`.
    #[test]
    fn o06_records_of_version_1_are_read_and_written_as_the_golden_file_has_them() {
        let golden = include_str!("../tests/golden/small_state_v1.hex");
        let lines: Vec<&str> = golden.lines().collect();
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        for (at, change) in samples().iter().enumerate() {
            let line = lines.get(at).copied().unwrap_or_default();
            assert_eq!(hex(&change.encode()), line, "line {}: {change:?}", at + 1);
            let digits = (0..line.len()).step_by(2);
            let bytes: Vec<u8> =
                digits.map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap()).collect();
            assert_eq!(Change::decode(&bytes).as_ref(), Ok(change), "line {}", at + 1);
        }
        assert_eq!(lines.len(), samples().len());
    }

    #[test]
    fn every_record_is_read_back_and_every_shorter_form_is_refused() {
        for change in samples() {
            let bytes = change.encode();
            assert_eq!(Change::decode(&bytes).as_ref(), Ok(&change));
            for len in 0..bytes.len() {
                assert!(Change::decode(&bytes[..len]).is_err(), "{change:?} cut to {len} bytes");
            }
        }
        assert!(Change::decode(&[0]).is_err() && Change::decode(&[99]).is_err());
    }

    #[test]
    fn a_checkpoint_rebuilds_the_state_it_was_made_from() {
        let mut state = SmallState::default();
        let group = GroupKey::new(refloat_types::GroupId(3), refloat_types::Epoch(2));
        for change in samples().iter().filter(|c| !matches!(c, Change::Deleted)) {
            state.apply(group, change);
        }
        let mut rebuilt = SmallState::default();
        for (key, body) in state.checkpoint() {
            rebuilt.apply(key, &Change::decode(&body).unwrap());
        }
        assert_eq!(rebuilt, state);
    }

    #[test]
    fn a_commit_hint_that_comes_after_the_deletion_does_not_bring_the_group_back() {
        let mut state = SmallState::default();
        let group = GroupKey::new(refloat_types::GroupId(3), refloat_types::Epoch(2));
        state.apply(group, &Change::Created(ConfState::default()));
        state.apply(group, &Change::Deleted);
        state.apply(group, &Change::CommitHint(Index(7)));
        assert!(state.groups.is_empty());
    }

    #[test]
    fn a_value_has_the_bytes_that_the_format_page_gives() {
        let value = GroupValue { change: 0x0102, body: Bytes::from_static(b"kept") };
        let vote = Some(Member::new(NodeId(9), Incarnation(0xA1)));
        let change = Change::Value { hard_state: HardState { term: Term(3), vote }, value };
        let mut golden = vec![11];
        golden.extend([3, 0, 0, 0, 0, 0, 0, 0, 1, 9, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([0xA1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([2, 1, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0]);
        golden.extend(b"kept");
        assert_eq!(change.encode(), golden);
    }

    #[test]
    fn a_value_is_never_replaced_by_an_older_one() {
        let value = |change, body: &'static str| GroupValue { change, body: body.into() };
        let mut state = SmallState::default();
        let group = GroupKey::new(refloat_types::GroupId(3), refloat_types::Epoch(2));
        for value in [value(2, "two"), value(1, "one")] {
            state.apply(group, &GroupRecord::default().value_change(value));
        }
        assert_eq!(state.groups[&group].value, value(2, "two"));
        assert_eq!(GroupValue::default().get(), None);
        assert_eq!(value(1, "").get(), Some(&Bytes::new()), "an empty value is a value");
    }

    #[test]
    fn a_vote_is_never_taken_back_by_an_older_record() {
        let member = Member::new(NodeId(1), Incarnation(7));
        let voted = HardState { term: Term(3), vote: Some(member) };
        assert_eq!(later(voted, HardState { term: Term(3), vote: None }), voted);
        assert_eq!(later(voted, HardState { term: Term(2), vote: Some(member) }), voted);
        let next = HardState { term: Term(4), vote: None };
        assert_eq!(later(voted, next), next);
    }

    #[test]
    fn a_votes_checkpoint_names_no_group_that_may_not_be_registered_yet() {
        let mut state = SmallState::default();
        let conf = ConfState::of_voters([Member::new(NodeId(1), Incarnation(7))]);
        let [new, voted] = [1, 2].map(|id| GroupKey::new(GroupId(id), Epoch(1)));
        state.apply(new, &Change::Created(conf.clone()));
        state.apply(voted, &Change::Created(conf));
        let hard_state = HardState { term: Term(1), vote: None };
        state.apply(voted, &Change::HardState { hard_state, value: 0 });
        let named: Vec<GroupKey> =
            state.votes_checkpoint().into_iter().map(|(key, _)| key).collect();
        assert_eq!(named, [voted]);
        assert_eq!(state.checkpoint().iter().filter(|(key, _)| *key == new).count(), 1);
    }
}
