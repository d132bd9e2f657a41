//! What the store tells its host.

use refloat_snapshot::{Chunk, SnapshotMeta};
use refloat_types::{Entry, EntryId, GroupKey, IndexSet};

/// Counts what was submitted. Everything up to [`crate::LogStore::durable`] survives a power cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Names a request that is answered by an [`Event`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// The answer to [`crate::LogStore::read`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Read {
    /// Entries from the first one asked for, contiguous, at least one.
    Entries(Vec<Entry>),
    /// They are on disk: a job was queued, [`Event::Read`] will bring them.
    Later(RequestId),
    /// The first one is below the snapshot and gone.
    Compacted,
    /// The first one is below the snapshot, which refers to it, and known not to be readable here
    /// ([`crate::LogStore::lost_live`]).
    Unreadable,
    /// The first one is above the end of the log.
    Beyond,
}

/// What happened since the last call of [`crate::LogStore::take_events`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Entries that were on disk; the first is the first that was asked for.
    Read {
        /// Which request.
        request: RequestId,
        /// At least one entry, or why there is none.
        result: Result<Vec<Entry>, String>,
    },
    /// A snapshot is durable and published; the log below the one before it is dead.
    SnapshotWritten {
        /// Whose.
        group: GroupKey,
        /// The last entry it contains.
        id: EntryId,
    },
    /// A snapshot could not be written. The previous one stays.
    SnapshotFailed {
        /// Whose.
        group: GroupKey,
        /// Why.
        reason: String,
    },
    /// A chunk of a published snapshot, verified.
    SnapshotChunk {
        /// Which request.
        request: RequestId,
        /// The bytes, or why there are none.
        result: Result<Chunk, String>,
    },
    /// How far the reception of a snapshot is durable on this disk.
    SnapshotProgress {
        /// Whose.
        group: GroupKey,
        /// Which snapshot.
        id: EntryId,
        /// The next chunk that is wanted.
        next_chunk: u32,
    },
    /// A whole snapshot was received, verified and synced under its final name.
    /// It counts once [`crate::LogStore::install_snapshot`] is durable.
    SnapshotReceived {
        /// Whose.
        group: GroupKey,
        /// What it says about itself.
        meta: SnapshotMeta,
    },
    /// What came of a snapshot could not be written, or is not what was announced. What verifies of
    /// it stays, and the next attempt goes on from there.
    SnapshotRefused {
        /// Whose.
        group: GroupKey,
        /// Which snapshot.
        id: EntryId,
        /// Why.
        reason: String,
    },
    /// Sealed bytes are not what they were, or cannot be read: found in the background.
    Rot {
        /// Which file, where, and what does not hold.
        evidence: String,
        /// Whose, where it belongs to one group.
        group: Option<GroupKey>,
        /// Entries that the group needs and that are nowhere else on this disk.
        entries: IndexSet,
        /// Those of them that are membership changes.
        configs: IndexSet,
        /// The snapshot, where it is one: a new one is to be written, be it of the same index.
        snapshot: Option<EntryId>,
    },
}
