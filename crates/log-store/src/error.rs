//! What can go wrong, by what the caller can do.

use std::fmt;
use std::io;
use std::path::PathBuf;

use refloat_types::{EntryId, GroupKey, Index, IndexSet};

use crate::identity::IdentityError;

/// Why a directory cannot be opened. The directory is as it was.
#[derive(Debug)]
#[non_exhaustive]
pub enum BootError {
    /// The identity is absent, unprovable or foreign.
    Identity(IdentityError),
    /// Another process has the directory open.
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// A file belongs to another node or cluster, or was written by a newer version.
    Refused {
        /// What was found, where, and what was expected.
        reason: String,
    },
    /// The damage leaves no group that could be served.
    NothingSurvives {
        /// The evidence.
        reason: String,
    },
    /// A recovery that accepted a loss began here and did not get to its end.
    RecoveryUnfinished {
        /// The data directory.
        dir: PathBuf,
    },
    /// A write or a sync failed while the new WAL file was made: nothing may be promised.
    Poisoned {
        /// The evidence.
        reason: String,
    },
    /// The disk is full, and no file is left in which a log could go on. The directory is as it
    /// was.
    NoSpace {
        /// The log's directory.
        dir: PathBuf,
    },
    /// The disk could not be read.
    Io {
        /// What was read.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(e) => e.fmt(f),
            Self::InUse { path } => {
                write!(f, "{} is locked: another process uses this data directory", path.display())
            }
            Self::Refused { reason } | Self::NothingSurvives { reason } => f.write_str(reason),
            Self::RecoveryUnfinished { dir } => write!(
                f,
                "the recovery of {} did not get to its end: run refloat recover --accept-loss again",
                dir.display()
            ),
            Self::Poisoned { reason } => write!(f, "a write failed while starting: {reason}"),
            Self::NoSpace { dir } => write!(
                f,
                "no space left on the device for the next file of {}: make room and start again",
                dir.display()
            ),
            Self::Io { path, .. } => write!(f, "cannot read {}", path.display()),
        }
    }
}

impl std::error::Error for BootError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Identity(e) => e.source(),
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<IdentityError> for BootError {
    fn from(e: IdentityError) -> BootError {
        BootError::Identity(e)
    }
}

/// A write or a sync failed. Nothing may be acknowledged or voted any more; the process must
/// stop, and the next start treats the tail of the log as unproven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poisoned {
    /// Which operation on which file failed, and how.
    pub reason: String,
}

impl fmt::Display for Poisoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "poisoned: {}", self.reason)
    }
}

impl std::error::Error for Poisoned {}

/// Why a write was not taken. Nothing of it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubmitError {
    /// One group's write is larger than a WAL file can hold.
    TooLarge {
        /// Bytes that it needs.
        needed: u64,
        /// Bytes that a file holds.
        room: u64,
    },
    /// A group's value is longer than [`crate::MAX_GROUP_VALUE`].
    ValueTooLarge {
        /// Its bytes.
        len: usize,
    },
    /// A snapshot is to be installed that was not received, or was overtaken meanwhile.
    SnapshotUnknown {
        /// Which one.
        id: EntryId,
    },
    /// A snapshot is to be installed that is not newer than the one that is there.
    SnapshotObsolete {
        /// Which one.
        id: EntryId,
        /// The one that is there.
        newest: EntryId,
    },
    /// A snapshot is to be installed before the live entries that it refers to are here.
    LiveEntriesMissing {
        /// Which snapshot.
        id: EntryId,
        /// The indexes that have to be filled first.
        missing: IndexSet,
    },
    /// The disk is full. Term, vote and deletions still find room; try again later.
    NoSpace,
    /// Too much waits to be flushed: entries are taken again once some of it is. Term, vote and
    /// deletions are taken.
    Backlog {
        /// Bytes that wait.
        used: u64,
        /// Bytes that may.
        limit: u64,
    },
    /// Entries outran the preparation of log files: they are taken again once the next one has its
    /// space. Term, vote and deletions are taken.
    NotYet {
        /// Bytes that the write needs.
        needed: u64,
        /// Bytes that the current file has left for it.
        room: u64,
    },
    /// The store stopped.
    Poisoned(Poisoned),
    /// The store was asked to close.
    Closed,
    /// No such group is registered.
    UnknownGroup,
    /// Something of a deleted group of this id and epoch is still on the disk: a new group takes
    /// another epoch.
    KeyInUse,
    /// Entries that do not follow each other: a mistake of the host.
    Malformed {
        /// Whose.
        group: GroupKey,
        /// The first index that is out of place.
        index: Index,
    },
}

impl SubmitError {
    /// Whether the store lacks room for entries and takes them again by itself: nothing is wrong
    /// with the write.
    #[must_use]
    pub fn waits_for_room(&self) -> bool {
        matches!(self, Self::NoSpace | Self::Backlog { .. } | Self::NotYet { .. })
    }
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { needed, room } => {
                write!(f, "the write needs {needed} bytes, a WAL file holds {room}")
            }
            Self::ValueTooLarge { len } => write!(
                f,
                "the group's value has {len} bytes, at most {} are kept",
                crate::MAX_GROUP_VALUE
            ),
            Self::SnapshotUnknown { id } => write!(f, "no snapshot {id} was received"),
            Self::SnapshotObsolete { id, newest } => {
                write!(f, "snapshot {id} is not newer than {newest}, which is installed")
            }
            Self::LiveEntriesMissing { id, missing } => {
                write!(f, "snapshot {id} refers to live entries {missing}, which are not here")
            }
            Self::NoSpace => f.write_str("no space left on the device"),
            Self::Backlog { used, limit } => {
                write!(f, "{used} bytes wait to be flushed, at most {limit} may")
            }
            Self::NotYet { needed, room } => write!(
                f,
                "the next log file has no space yet: the write needs {needed} bytes, the current file has {room} left for it"
            ),
            Self::Poisoned(p) => p.fmt(f),
            Self::Closed => f.write_str("the store is closed"),
            Self::Malformed { group, index } => {
                write!(f, "entry {index} of group {group} does not follow the one before it")
            }
            Self::UnknownGroup => f.write_str("the group is not registered"),
            Self::KeyInUse => {
                f.write_str("a deleted group had this id and epoch, and something of it is left")
            }
        }
    }
}

impl std::error::Error for SubmitError {}
