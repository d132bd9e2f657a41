//! What group 0 decides: which groups exist, and which life of which node is at which address.

use std::collections::BTreeMap;

use bytes::Bytes;
use refloat_types::codec::{DecodeError, Put, Reader};
use refloat_types::{ConfState, Epoch, GroupId, GroupKey, Incarnation, Index, Member, NodeId};

use crate::card::{put_text, read_text};
use crate::machine::{Chunks, Command, RestoreError, StateMachine};
use crate::snapshot_reader::SnapshotReader;

/// An entry of group 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GroupCommand {
    /// Creates a group with these members; without effect if one of that id exists.
    Create { group: GroupId, conf: ConfState },
    /// Deletes a group; without effect if none of that id exists.
    Delete { group: GroupId },
    /// The groups that the cluster was formed with are created.
    Seeded,
    /// A node lives, in this life, at this address; without effect if another life than
    /// `instead_of` was taken in meanwhile.
    Place { member: Member, instead_of: Option<Incarnation>, address: String, learner: bool },
    /// A node of this id is expected; it may join.
    Expect { node: NodeId, learner: bool },
    /// A node that was to stay a learner becomes a voter.
    Promote { node: NodeId },
    /// A node leaves all groups, and none of its lives comes back.
    Dismiss { node: NodeId, life: Option<Incarnation> },
}

impl GroupCommand {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            GroupCommand::Create { group, conf } => {
                out.put_u8(1);
                out.put_u64(group.0);
                conf.encode(&mut out);
            }
            GroupCommand::Delete { group } => {
                out.put_u8(2);
                out.put_u64(group.0);
            }
            GroupCommand::Seeded => out.put_u8(3),
            GroupCommand::Place { member, instead_of, address, learner } => {
                out.put_u8(4);
                out.put_member(*member);
                put_life(&mut out, *instead_of);
                put_text(&mut out, address);
                out.put_u8(u8::from(*learner));
            }
            GroupCommand::Expect { node, learner } => {
                out.put_u8(5);
                out.put_u64(node.0);
                out.put_u8(u8::from(*learner));
            }
            GroupCommand::Promote { node } => {
                out.put_u8(7);
                out.put_u64(node.0);
            }
            GroupCommand::Dismiss { node, life } => {
                out.put_u8(6);
                out.put_u64(node.0);
                put_life(&mut out, *life);
            }
        }
        out.into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<GroupCommand, DecodeError> {
        let mut r = Reader::new(bytes);
        match r.u8("group command")? {
            1 => {
                let group = GroupId(r.u64("group")?);
                Ok(GroupCommand::Create { group, conf: ConfState::decode(&mut r)? })
            }
            2 => Ok(GroupCommand::Delete { group: GroupId(r.u64("group")?) }),
            3 => Ok(GroupCommand::Seeded),
            4 => Ok(GroupCommand::Place {
                member: r.member("member")?,
                instead_of: read_life(&mut r)?,
                address: read_text(&mut r)?,
                learner: r.u8("learner")? == 1,
            }),
            5 => Ok(GroupCommand::Expect {
                node: NodeId(r.u64("node")?),
                learner: r.u8("learner")? == 1,
            }),
            6 => {
                Ok(GroupCommand::Dismiss { node: NodeId(r.u64("node")?), life: read_life(&mut r)? })
            }
            7 => Ok(GroupCommand::Promote { node: NodeId(r.u64("node")?) }),
            _ => Err(r.invalid("group command")),
        }
    }
}

fn put_life(out: &mut Vec<u8>, life: Option<Incarnation>) {
    out.put_u8(u8::from(life.is_some()));
    out.put_u128(life.unwrap_or_default().0);
}

fn read_life(r: &mut Reader<'_>) -> Result<Option<Incarnation>, DecodeError> {
    let (known, life) = (r.u8("life known")? == 1, Incarnation(r.u128("life")?));
    Ok(known.then_some(life))
}

/// What group 0 knows of a node that joined, was moved, is expected or left. Of a node that was
/// there from the beginning and stayed as it was it knows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeRecord {
    /// The life that counts; `None` while it is expected, and after it left.
    pub(crate) life: Option<Incarnation>,
    /// Lives that were replaced. None of them comes back.
    pub(crate) former: Vec<Incarnation>,
    pub(crate) address: String,
    /// It is to stay a learner.
    pub(crate) learner: bool,
    pub(crate) gone: bool,
}

impl NodeRecord {
    /// Whether this life of a directory, or one of a replica on it, was replaced.
    pub(crate) fn is_former(&self, life: Incarnation) -> bool {
        self.former.iter().any(|former| former.is_of(life))
    }
}

/// The state machine of group 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Catalog {
    seeded: bool,
    groups: BTreeMap<GroupId, (Epoch, ConfState)>,
    nodes: BTreeMap<NodeId, NodeRecord>,
}

/// What an entry of group 0 changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Created(GroupKey, ConfState),
    Deleted(GroupKey),
    /// Which life of a node counts, or where it is.
    Node,
}

impl Catalog {
    /// Applies one entry; `None` if it changes nothing.
    pub(crate) fn apply_one(&mut self, index: Index, payload: &[u8]) -> Option<Change> {
        match GroupCommand::decode(payload).ok()? {
            GroupCommand::Create { group, conf } => {
                if self.groups.contains_key(&group) || group == GroupKey::META.id {
                    return None;
                }
                let epoch = Epoch(index.0);
                self.groups.insert(group, (epoch, conf.clone()));
                Some(Change::Created(GroupKey::new(group, epoch), conf))
            }
            GroupCommand::Delete { group } => {
                let (epoch, _) = self.groups.remove(&group)?;
                Some(Change::Deleted(GroupKey::new(group, epoch)))
            }
            GroupCommand::Seeded => {
                self.seeded = true;
                None
            }
            GroupCommand::Place { member, instead_of, address, learner } => {
                let record = self.nodes.entry(member.node).or_default();
                let life = member.incarnation;
                let known = record.life.is_some() || record.gone;
                if known && (record.life != instead_of || record.gone) || record.is_former(life) {
                    return None;
                }
                record.former.extend(instead_of.filter(|old| *old != life));
                record.life = Some(life);
                record.address = address;
                record.learner = learner;
                Some(Change::Node)
            }
            GroupCommand::Expect { node, learner } => {
                let record = self.nodes.entry(node).or_default();
                if record.life.is_some() && !record.gone {
                    return None;
                }
                record.gone = false;
                record.learner = learner;
                Some(Change::Node)
            }
            GroupCommand::Promote { node } => {
                self.nodes.get_mut(&node)?.learner = false;
                Some(Change::Node)
            }
            GroupCommand::Dismiss { node, life } => {
                let record = self.nodes.entry(node).or_default();
                record.former.extend(record.life.take().or(life));
                record.gone = true;
                Some(Change::Node)
            }
        }
    }

    pub(crate) fn nodes(&self) -> &BTreeMap<NodeId, NodeRecord> {
        &self.nodes
    }

    /// The group of this key and the membership that it began with, if it exists.
    pub(crate) fn group(&self, key: GroupKey) -> Option<&ConfState> {
        self.groups.get(&key.id).filter(|(epoch, _)| *epoch == key.epoch).map(|(_, conf)| conf)
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = (GroupKey, &ConfState)> + '_ {
        self.groups.iter().map(|(id, (epoch, conf))| (GroupKey::new(*id, *epoch), conf))
    }

    /// Whether the first groups were created; they are not created again once deleted.
    pub(crate) fn is_seeded(&self) -> bool {
        self.seeded
    }

    fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        out.put_u8(u8::from(self.seeded));
        out.put_u32(u32::try_from(self.groups.len()).expect("fewer than 2^32 groups"));
        for (key, conf) in self.groups() {
            out.put_group(key);
            conf.encode(&mut out);
        }
        out.put_u32(u32::try_from(self.nodes.len()).expect("fewer than 2^32 nodes"));
        for (node, record) in &self.nodes {
            out.put_u64(node.0);
            put_life(&mut out, record.life);
            out.put_u32(u32::try_from(record.former.len()).expect("few lives"));
            record.former.iter().for_each(|life| out.put_u128(life.0));
            put_text(&mut out, &record.address);
            out.put_u8(u8::from(record.learner));
            out.put_u8(u8::from(record.gone));
        }
        out.into()
    }

    fn decode(bytes: &[u8]) -> Result<Catalog, DecodeError> {
        let mut r = Reader::new(bytes);
        let seeded = r.u8("seeded")? == 1;
        let count = r.count(33, "groups")?;
        let mut groups = BTreeMap::new();
        for _ in 0..count {
            let key = r.group("group")?;
            groups.insert(key.id, (key.epoch, ConfState::decode(&mut r)?));
        }
        // A snapshot of the first version ends here.
        let count = if r.remaining() > 0 { r.count(34, "nodes")? } else { 0 };
        let mut nodes = BTreeMap::new();
        for _ in 0..count {
            let node = NodeId(r.u64("node")?);
            nodes.insert(node, read_record(&mut r)?);
        }
        Ok(Catalog { seeded, groups, nodes })
    }
}

fn read_record(r: &mut Reader<'_>) -> Result<NodeRecord, DecodeError> {
    let life = read_life(r)?;
    let count = r.count(16, "former lives")?;
    let former = (0..count).map(|_| r.u128("former life").map(Incarnation));
    let former = former.collect::<Result<_, _>>()?;
    let (address, learner) = (read_text(r)?, r.u8("learner")? == 1);
    Ok(NodeRecord { life, former, address, learner, gone: r.u8("gone")? == 1 })
}

impl StateMachine for Catalog {
    /// Not used: the node applies entry by entry, because it acts on what changed.
    fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
        for command in batch {
            self.apply_one(command.index, &command.payload);
        }
        vec![Bytes::new(); batch.len()]
    }

    fn snapshot(&mut self) -> Chunks {
        Box::new(std::iter::once(self.encode()))
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader<'_>) -> Result<(), RestoreError> {
        *self = Catalog::decode(&snapshot.rest()).map_err(|e| RestoreError::new(e.to_string()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use refloat_types::{Incarnation, Member, NodeId};

    fn create(id: u64) -> Bytes {
        let conf = ConfState::of_voters([Member::new(NodeId(1), Incarnation(5))]);
        GroupCommand::Create { group: GroupId(id), conf }.encode()
    }

    #[test]
    fn the_epoch_is_the_creating_index_and_creation_is_idempotent() {
        let mut catalog = Catalog::default();
        let first = catalog.apply_one(Index(4), &create(7));
        assert!(matches!(first, Some(Change::Created(key, _)) if key.epoch == Epoch(4)));
        assert_eq!(catalog.apply_one(Index(5), &create(7)), None);
        let delete = GroupCommand::Delete { group: GroupId(7) }.encode();
        let key = GroupKey::new(GroupId(7), Epoch(4));
        assert_eq!(catalog.apply_one(Index(6), &delete), Some(Change::Deleted(key)));
        assert_eq!(catalog.apply_one(Index(7), &delete), None);
        assert!(catalog.apply_one(Index(8), &create(7)).is_some());
        assert_eq!(catalog.apply_one(Index(9), b"\x01"), None, "not decodable");
    }

    fn place(node: u64, life: u128, instead_of: Option<u128>) -> Bytes {
        let member = Member::new(NodeId(node), Incarnation(life));
        let address = format!("node{node}:1");
        let instead_of = instead_of.map(Incarnation);
        GroupCommand::Place { member, instead_of, address, learner: false }.encode()
    }

    #[test]
    fn of_two_lives_that_replace_the_same_one_the_first_counts_and_no_former_one_comes_back() {
        let mut catalog = Catalog::default();
        assert_eq!(catalog.apply_one(Index(1), &place(3, 33, Some(30))), Some(Change::Node));
        assert_eq!(catalog.apply_one(Index(2), &place(3, 44, Some(30))), None, "too late");
        assert_eq!(catalog.apply_one(Index(3), &place(3, 30, Some(33))), None, "a former life");
        assert_eq!(catalog.nodes()[&NodeId(3)].life, Some(Incarnation(33)));
        let dismiss = GroupCommand::Dismiss { node: NodeId(3), life: None };
        catalog.apply_one(Index(4), &dismiss.encode());
        assert_eq!(catalog.apply_one(Index(5), &place(3, 55, None)), None, "it left");
        let expect = GroupCommand::Expect { node: NodeId(3), learner: false };
        catalog.apply_one(Index(6), &expect.encode());
        assert_eq!(catalog.apply_one(Index(7), &place(3, 33, None)), None, "a former life");
        assert_eq!(catalog.apply_one(Index(8), &place(3, 55, None)), Some(Change::Node));
    }

    #[test]
    fn a_snapshot_is_restored() {
        let mut catalog = Catalog::default();
        for id in 1..20 {
            catalog.apply_one(Index(id + 1), &create(id));
        }
        catalog.apply_one(Index(40), &GroupCommand::Seeded.encode());
        catalog.apply_one(Index(41), &place(3, 33, Some(30)));
        catalog.apply_one(Index(42), &place(3, 34, Some(33)));
        let mut again = Catalog::default();
        again.restore(&mut SnapshotReader::new(&mut catalog.snapshot())).unwrap();
        assert_eq!(again, catalog);
    }
}
