//! The byte form of the records, as `docs/formats/small-state.md` has it.

use bytes::Bytes;
use refloat_segment::SegmentName;
use refloat_types::codec::{DecodeError, Put, Reader};
use refloat_types::{ConfState, Generation, Index};
use refloat_wal::Lsn;

use super::{Change, GroupRecord, GroupValue, Unhealed};
use crate::state::GroupState;

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
