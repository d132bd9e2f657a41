//! openraft's words in refloat's, and back.

use bytes::Bytes;
use openraft::{CommittedLeaderId, EntryPayload};
use refloat_types::{Entry, EntryId, EntryKind, Index, Term};

use crate::TypeConfig;

pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type StorageError = openraft::StorageError<u64>;
pub(crate) type StorageIoError = openraft::StorageIOError<u64>;

/// openraft's first entry has index 0, refloat's has 1, and 0 is before the log.
pub(crate) fn index(index: u64) -> Index {
    Index(index + 1)
}

pub(crate) fn entry_id(id: LogId) -> EntryId {
    EntryId::new(Term(id.leader_id.term), index(id.index))
}

/// `None` before the log.
pub(crate) fn log_id(id: EntryId) -> Option<LogId> {
    let index = id.index.0.checked_sub(1)?;
    Some(LogId::new(CommittedLeaderId::new(id.term.0, 0), index))
}

pub(crate) fn encode(entry: &openraft::Entry<TypeConfig>) -> serde_json::Result<Entry> {
    let kind = match entry.payload {
        EntryPayload::Blank => EntryKind::Empty,
        EntryPayload::Normal(_) => EntryKind::Command,
        EntryPayload::Membership(_) => EntryKind::Config,
    };
    let payload = Bytes::from(serde_json::to_vec(&entry.payload)?);
    Ok(Entry::new(entry_id(entry.log_id), kind, payload))
}

pub(crate) fn decode(entry: &Entry) -> serde_json::Result<openraft::Entry<TypeConfig>> {
    let log_id = log_id(entry.id).unwrap_or_default();
    Ok(openraft::Entry { log_id, payload: serde_json::from_slice(&entry.payload)? })
}
