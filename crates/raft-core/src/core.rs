//! The core itself: inputs in, one `Ready` out.

use alloc::vec::Vec;
use bytes::Bytes;

use refloat_types::{ConfState, Digest, EntryId, Index, Member, NodeId, Now, Term};

use crate::{
    ConfChange, Config, FetchId, Fetched, Message, PersistTicket, ProposeError, ReadError, ReadId,
    Ready, RestoreError, Restored, Rights, SnapshotError, SnapshotOutcome, Status, StepError,
    TransferError,
};

/// One replica of one group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Core {
    config: Config,
    restored: Restored,
}

#[allow(missing_docs, clippy::missing_errors_doc, unused_variables, clippy::needless_pass_by_value)]
impl Core {
    pub fn new(config: Config, restored: Restored, now: Now) -> Result<Core, RestoreError> {
        Ok(Core { config, restored })
    }
    pub fn step(&mut self, now: Now, message: Message) -> Result<(), StepError> {
        Ok(())
    }
    pub fn tick(&mut self, now: Now) {}
    pub fn wake_at(&self) -> Option<Now> {
        None
    }
    pub fn propose(
        &mut self,
        now: Now,
        commands: Vec<(Bytes, Digest)>,
    ) -> Result<(Term, Index), ProposeError> {
        Err(ProposeError::NotLeader { leader: None })
    }
    pub fn propose_conf_change(
        &mut self,
        now: Now,
        change: ConfChange,
    ) -> Result<EntryId, ProposeError> {
        Err(ProposeError::NotLeader { leader: None })
    }
    pub fn read_index(&mut self, now: Now, id: ReadId) -> Result<(), ReadError> {
        Err(ReadError::NoLeader)
    }
    pub fn transfer_leader(&mut self, now: Now, to: NodeId) -> Result<(), TransferError> {
        Err(TransferError::NotLeader { leader: None })
    }
    pub fn campaign(&mut self, now: Now) {}
    pub fn on_persisted(&mut self, now: Now, ticket: PersistTicket) {}
    pub fn on_applied(&mut self, now: Now, index: Index) {}
    pub fn on_compacted(&mut self, up_to: EntryId) {}
    pub fn on_fetched(&mut self, now: Now, fetch: FetchId, result: Fetched) {}
    pub fn on_snapshot_sent(&mut self, now: Now, to: Member, ok: bool) {}
    pub fn on_unreachable(&mut self, to: Member) {}
    pub fn on_snapshot_received(
        &mut self,
        now: Now,
        id: EntryId,
        conf: ConfState,
    ) -> Result<SnapshotOutcome, SnapshotError> {
        Ok(SnapshotOutcome::Obsolete)
    }
    pub fn set_rights(&mut self, now: Now, rights: Rights) {}
    pub fn ready(&mut self) -> Option<Ready> {
        None
    }
    pub fn status(&self) -> Status {
        unreachable!("no core is running yet")
    }
    pub fn conf(&self) -> &ConfState {
        &self.restored.conf
    }
}
