//! What can go wrong.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use refloat_types::{GroupKey, Identity, Index};

/// Why a directory cannot be read as this log.
#[derive(Debug)]
#[non_exhaustive]
pub enum ScanError {
    /// The directory itself cannot be listed.
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file belongs to another cluster, node or life.
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it says it is.
        found: Box<Identity>,
        /// Whose was asked for.
        expected: Box<Identity>,
    },
    /// A file was written by a newer version of the format.
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u16,
        /// The highest version that this code reads.
        supported: u16,
    },
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScanError::Io { what, path, .. } => write!(f, "{what} {}", path.display()),
            ScanError::Foreign { path, found, expected } => write!(
                f,
                "{} belongs to {} of cluster {}, expected {} of cluster {}",
                path.display(),
                found.member,
                found.cluster,
                expected.member,
                expected.cluster
            ),
            ScanError::NewerFormat { path, found, supported } => write!(
                f,
                "{} has format version {found}, this program reads up to {supported}",
                path.display()
            ),
        }
    }
}

impl std::error::Error for ScanError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ScanError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Why records were not taken. Nothing of the call is in the log then.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubmitError {
    /// The records do not fit into any file.
    TooLarge {
        /// Bytes that they need.
        size: u64,
        /// Bytes that an empty file takes.
        limit: u64,
    },
    /// The current file has no room for them, and a next file is there: roll over first.
    Full {
        /// Bytes that they need.
        size: u64,
        /// Bytes left in the file.
        left: u64,
    },
    /// The disk has no room for a next file, and the rest of the current one is kept for small
    /// state. Worth trying again: the log prepares a file as soon as there is room.
    NoSpace {
        /// Bytes that they need.
        size: u64,
        /// Bytes left in the file for them.
        left: u64,
    },
    /// The current file has no room for them, and the space for a next one is still to be claimed:
    /// whether there is any is not known. Worth trying again at once when a job has ended.
    NotYet {
        /// Bytes that they need.
        size: u64,
        /// Bytes left in the file for them.
        left: u64,
    },
    /// An append whose entries do not follow each other, or fills that do not ascend.
    Malformed {
        /// Whose.
        group: GroupKey,
        /// The first index that is out of place.
        index: Index,
    },
    /// [`Writer::close`](crate::Writer::close) was called.
    Closed,
    /// An earlier write failed.
    Poisoned(Poisoned),
}

impl SubmitError {
    /// Whether the same call may succeed later without anybody changing it.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        use SubmitError::{Full, NoSpace, NotYet};
        matches!(self, Full { .. } | NoSpace { .. } | NotYet { .. })
    }
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubmitError::TooLarge { size, limit } => {
                write!(f, "records need {size} bytes, an empty log file takes {limit}")
            }
            SubmitError::Full { size, left } => {
                write!(f, "records need {size} bytes, the log file has {left} left")
            }
            SubmitError::NoSpace { size, left } => write!(
                f,
                "no space for a next log file: records need {size} bytes, the current file has {left} left for them"
            ),
            SubmitError::NotYet { size, left } => write!(
                f,
                "the next log file has no space yet: records need {size} bytes, the current file has {left} left for them"
            ),
            SubmitError::Malformed { group, index } => {
                write!(f, "entry {index} of group {group} does not follow the one before it")
            }
            SubmitError::Closed => f.write_str("the log is closed"),
            SubmitError::Poisoned(_) => {
                f.write_str("the log is poisoned by an earlier failed write")
            }
        }
    }
}

impl std::error::Error for SubmitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SubmitError::Poisoned(poisoned) => Some(poisoned),
            _ => None,
        }
    }
}

/// A write or a sync failed. Nothing is known about the bytes of it, and the kernel may report
/// the next sync as done: the log takes nothing more. The process must stop; the next start
/// treats the tail as unproven.
#[derive(Clone, Debug)]
pub struct Poisoned {
    /// What was being done.
    pub what: &'static str,
    /// On which file.
    pub path: PathBuf,
    /// The error of the disk.
    pub error: Arc<io::Error>,
}

impl PartialEq for Poisoned {
    fn eq(&self, other: &Poisoned) -> bool {
        self.what == other.what
            && self.path == other.path
            && self.error.kind() == other.error.kind()
    }
}

impl Eq for Poisoned {}

impl fmt::Display for Poisoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}: nothing written since the last acknowledgement is trusted, the process must stop",
            self.what,
            self.path.display()
        )
    }
}

impl std::error::Error for Poisoned {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.error)
    }
}
