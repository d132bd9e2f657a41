//! What can go wrong with a snapshot file.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use refloat_types::Identity;

/// Why a snapshot could not be written, read or received. Names the file and the place in it.
#[derive(Debug)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The disk failed, or the file is not there.
    Io {
        /// What was being done: `"open"`, `"read"`, `"write"`, `"sync"`, …
        op: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Where in it, if it has a place.
        offset: Option<u64>,
        /// What the system said.
        source: io::Error,
    },
    /// The file does not fit on the disk. What was there before is untouched.
    NoSpace {
        /// The file that was being written.
        path: PathBuf,
        /// How many bytes it wanted, as far as known.
        needed: u64,
    },
    /// The file's bytes are not what was written.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// Which part.
        what: &'static str,
        /// What should be there.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// The file belongs to another node, life or cluster.
    Foreign {
        /// The file.
        path: PathBuf,
        /// Who asked.
        expected: Box<Identity>,
        /// Whose it is.
        found: Box<Identity>,
    },
    /// The file was written by a newer version.
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// The highest version that this code reads.
        expected: u16,
        /// The version of the file.
        found: u16,
    },
    /// There is no chunk of this number.
    NoSuchChunk {
        /// The file.
        path: PathBuf,
        /// The number asked for.
        n: u32,
        /// How many chunks there are.
        chunks: u32,
    },
    /// A received chunk is not what its sender read, or not of this snapshot. Nothing was written.
    BadChunk {
        /// Its number.
        n: u32,
        /// Which part of it.
        what: &'static str,
        /// What it should be.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// A reception cannot finish yet.
    Incomplete {
        /// The file that is being received.
        path: PathBuf,
        /// The lowest chunk that is missing.
        missing: u32,
    },
    /// A head or a received meta that no file can have.
    Invalid {
        /// Which part.
        what: &'static str,
        /// Its value.
        found: u64,
        /// The limit that it breaks.
        limit: u64,
    },
}

impl SnapshotError {
    /// Whether the file's bytes are wrong, missing or unreadable: to be set aside and healed.
    #[must_use]
    pub fn is_corruption(&self) -> bool {
        match self {
            SnapshotError::Corrupt { .. } => true,
            SnapshotError::Io { op, .. } => matches!(*op, "open" | "read"),
            _ => false,
        }
    }

    /// Whether a write or sync failed for another reason than space: after it nothing is known
    /// about what reaches the disk, so the process must stop.
    #[must_use]
    pub fn is_poison(&self) -> bool {
        match self {
            SnapshotError::Io { op, .. } => matches!(*op, "allocate" | "write" | "sync" | "rename"),
            _ => false,
        }
    }

    /// Whether the same call may succeed later: space returns, chunks arrive.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            SnapshotError::NoSpace { .. }
                | SnapshotError::Incomplete { .. }
                | SnapshotError::BadChunk { .. }
        )
    }

    /// The file that it speaks of.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            SnapshotError::Io { path, .. }
            | SnapshotError::NoSpace { path, .. }
            | SnapshotError::Corrupt { path, .. }
            | SnapshotError::Foreign { path, .. }
            | SnapshotError::NewerFormat { path, .. }
            | SnapshotError::NoSuchChunk { path, .. }
            | SnapshotError::Incomplete { path, .. } => Some(path),
            SnapshotError::BadChunk { .. } | SnapshotError::Invalid { .. } => None,
        }
    }
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::Io { op, path, offset: Some(offset), .. } => {
                write!(f, "{op} snapshot {} at {offset}", path.display())
            }
            SnapshotError::Io { op, path, offset: None, .. } => {
                write!(f, "{op} snapshot {}", path.display())
            }
            SnapshotError::NoSpace { path, needed } => {
                write!(f, "write snapshot {}: no space for {needed} bytes", path.display())
            }
            SnapshotError::Corrupt { path, offset, what, expected, found } => write!(
                f,
                "read snapshot {} at {offset}: {what} mismatch (expected {expected:#x}, found {found:#x})",
                path.display()
            ),
            SnapshotError::Foreign { path, expected, found } => write!(
                f,
                "read snapshot {} at 12: belongs to {} of cluster {} (expected {} of cluster {})",
                path.display(),
                found.member,
                found.cluster,
                expected.member,
                expected.cluster
            ),
            SnapshotError::NewerFormat { path, expected, found } => write!(
                f,
                "read snapshot {} at 8: format version {found} (this code reads up to {expected})",
                path.display()
            ),
            SnapshotError::NoSuchChunk { path, n, chunks } => {
                write!(f, "read snapshot {}: no chunk {n} of {chunks}", path.display())
            }
            SnapshotError::BadChunk { n, what, expected, found } => {
                write!(
                    f,
                    "received snapshot chunk {n}: {what} mismatch (expected {expected:#x}, found {found:#x})"
                )
            }
            SnapshotError::Incomplete { path, missing } => {
                write!(f, "receive snapshot {}: chunk {missing} is missing", path.display())
            }
            SnapshotError::Invalid { what, found, limit } => {
                write!(f, "invalid snapshot {what} {found} (limit {limit})")
            }
        }
    }
}

impl std::error::Error for SnapshotError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SnapshotError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
