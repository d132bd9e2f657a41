//! What group 0 decides: which groups exist.

use std::collections::BTreeMap;

use bytes::Bytes;
use refloat_types::codec::{DecodeError, Put, Reader};
use refloat_types::{ConfState, Epoch, GroupId, GroupKey, Index};

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
            _ => Err(r.invalid("group command")),
        }
    }
}

/// The state machine of group 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Catalog {
    seeded: bool,
    groups: BTreeMap<GroupId, (Epoch, ConfState)>,
}

/// What an entry of group 0 changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Created(GroupKey, ConfState),
    Deleted(GroupKey),
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
        }
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
        Ok(Catalog { seeded, groups })
    }
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

    #[test]
    fn a_snapshot_is_restored() {
        let mut catalog = Catalog::default();
        for id in 1..20 {
            catalog.apply_one(Index(id + 1), &create(id));
        }
        catalog.apply_one(Index(40), &GroupCommand::Seeded.encode());
        let mut again = Catalog::default();
        again.restore(&mut SnapshotReader::new(&mut catalog.snapshot())).unwrap();
        assert_eq!(again, catalog);
    }
}
