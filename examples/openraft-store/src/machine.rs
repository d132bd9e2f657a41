//! A map of strings in memory, and its snapshots on disk.

use std::collections::BTreeMap;
use std::io::{self, Cursor};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{BasicNode, EntryPayload, OptionalSend, RaftSnapshotBuilder, StoredMembership};
use refloat_types::GroupKey;
use serde::{Deserialize, Serialize};

use crate::ids::{LogId, StorageError, StorageIoError, entry_id};
use crate::store::Found;
use crate::{Store, TypeConfig};

type Meta = openraft::SnapshotMeta<u64, BasicNode>;

/// The machine of one Raft. It starts from its newest snapshot; openraft applies again what the
/// log holds above it. Clones build snapshots of the same machine.
#[derive(Clone, Debug)]
pub struct Machine {
    store: Arc<Store>,
    group: GroupKey,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    now: Image,
    snapshot: Option<Image>,
}

/// Everything that a snapshot holds: on disk, and on the way to another node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Image {
    applied: Option<LogId>,
    membership: StoredMembership<u64, BasicNode>,
    values: BTreeMap<String, String>,
}

impl Image {
    fn apply(&mut self, entry: openraft::Entry<TypeConfig>) -> Option<String> {
        self.applied = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Blank => None,
            EntryPayload::Normal(set) => self.values.insert(set.key, set.value),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                None
            }
        }
    }

    fn meta(&self) -> Meta {
        Meta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            snapshot_id: self.applied.map_or_else(String::new, |id| id.to_string()),
        }
    }

    fn snapshot(&self) -> io::Result<Snapshot<TypeConfig>> {
        let bytes = serde_json::to_vec(self)?;
        Ok(Snapshot { meta: self.meta(), snapshot: Box::new(Cursor::new(bytes)) })
    }
}

impl Machine {
    pub(crate) fn new(
        store: Arc<Store>,
        group: GroupKey,
        found: Option<Found>,
    ) -> io::Result<Machine> {
        let bytes = found.and_then(|found| found.snapshot);
        let snapshot: Option<Image> = bytes.map(|b| serde_json::from_slice(&b)).transpose()?;
        let now = snapshot.clone().unwrap_or_default();
        Ok(Machine { store, group, state: Arc::new(Mutex::new(State { now, snapshot })) })
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<String> {
        self.state().now.values.get(key).cloned()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when the image, or a newer one, survives a power cut.
    async fn keep(&self, image: &Image) -> io::Result<()> {
        if let Some(applied) = image.applied {
            let body = Bytes::from(serde_json::to_vec(image)?);
            self.store.snapshot(self.group, entry_id(applied), body).await?;
        }
        let mut state = self.state();
        if state.snapshot.as_ref().is_none_or(|kept| kept.applied <= image.applied) {
            state.snapshot = Some(image.clone());
        }
        Ok(())
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Machine {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let image = self.state().now.clone();
        let kept = self.keep(&image).await.and_then(|()| image.snapshot());
        Ok(kept.map_err(|e| StorageIoError::write_snapshot(Some(image.meta().signature()), &e))?)
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotBuilder = Machine;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId>, StoredMembership<u64, BasicNode>), StorageError> {
        let state = self.state();
        Ok((state.now.applied, state.now.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Option<String>>, StorageError>
    where
        I: IntoIterator<Item = openraft::Entry<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut state = self.state();
        Ok(entries.into_iter().map(|entry| state.now.apply(entry)).collect())
    }

    async fn get_snapshot_builder(&mut self) -> Machine {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &Meta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let failed = |e: &io::Error| StorageIoError::write_snapshot(Some(meta.signature()), e);
        let image: Image =
            serde_json::from_slice(snapshot.get_ref()).map_err(|e| failed(&e.into()))?;
        self.keep(&image).await.map_err(|e| failed(&e))?;
        self.state().now = image;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        let state = self.state();
        let snapshot = state.snapshot.as_ref().map(Image::snapshot).transpose();
        Ok(snapshot.map_err(|e| StorageIoError::read_snapshot(None, &e))?)
    }
}
