//! What goes wrong with a segment.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use refloat_types::{Digest, EntryId, GroupKey, Identity, Index};

use crate::SegmentName;

/// Why a segment could not be written, opened or read.
#[derive(Debug)]
#[non_exhaustive]
pub enum SegmentError {
    /// The file system refused an operation on the file or its directory.
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What was tried, as in "sync".
        action: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The file has no footer that verifies: it was never sealed, or lost its end.
    /// Under a `.tmp` name, or unpublished, this is an ordinary leftover of a crash.
    Unsealed {
        /// Which file.
        path: PathBuf,
        /// How long it is.
        len: u64,
        /// Whether a header of the expected identity stands at its start.
        has_header: bool,
    },
    /// The file belongs to another data directory.
    Foreign {
        /// Which file.
        path: PathBuf,
        /// Whose files belong here.
        expected: Box<Identity>,
        /// Whose file this is.
        found: Box<Identity>,
    },
    /// The file is of a format that this code does not read.
    Version {
        /// Which file.
        path: PathBuf,
        /// The file's version.
        found: u32,
        /// The newest version that is read.
        expected: u32,
    },
    /// The file's content says that it is another segment than its name.
    Misnamed {
        /// Which file.
        path: PathBuf,
        /// What the path says.
        expected: SegmentName,
        /// What the content says.
        found: SegmentName,
    },
    /// Both copies of the index are damaged in the same place.
    Index {
        /// Which file.
        path: PathBuf,
        /// Where the second copy's damage is.
        offset: u64,
        /// What does not hold.
        what: &'static str,
        /// What should be there.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// One copy of something that exists twice is damaged, or padding is not zero. Nothing is lost;
    /// a rewrite of the segment cures it.
    Copy {
        /// Which file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What it is.
        what: &'static str,
        /// The byte that should be there.
        expected: u64,
        /// The byte that is there.
        found: u64,
    },
    /// Some entries are damaged or unreadable. The index vouches that they were here.
    Damaged(Damage),
    /// An entry handed over for writing is not what its digest was made from: it changed in memory.
    NotIntact {
        /// Whose entry.
        group: GroupKey,
        /// Which entry.
        id: EntryId,
        /// The digest it bears.
        expected: Digest,
        /// The digest of its kind and payload now.
        found: Digest,
    },
    /// What was handed over for writing is not ascending.
    Unsorted {
        /// The group that came second.
        group: GroupKey,
        /// The index that came second, if the group is the same.
        index: Option<Index>,
    },
    /// The file, read back before it got its name, does not hold what was written.
    ReadBack {
        /// Which file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// What was written.
        expected: u64,
        /// What was read.
        found: u64,
    },
    /// More inputs, or a longer payload, than the format has room for.
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The most there may be.
        expected: u64,
        /// What was asked for.
        found: u64,
    },
}

/// Entries that a sealed segment held and that cannot be read from it any more: a hole with known
/// positions, to be healed from elsewhere.
#[derive(Debug)]
pub struct Damage {
    /// Which file.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// Whose entries.
    pub group: GroupKey,
    /// The first entry lost; its term comes from the index.
    pub first: EntryId,
    /// The last entry lost. The same as `first` unless a read failed.
    pub last: EntryId,
    /// What does not hold.
    pub what: &'static str,
    /// What should be there.
    pub expected: u64,
    /// What is there.
    pub found: u64,
    /// Why the bytes could not be read, if they could not.
    pub cause: Option<io::Error>,
}

impl SegmentError {
    /// Whether bytes that were sealed are not what they were, or cannot be read.
    #[must_use]
    pub fn is_corruption(&self) -> bool {
        matches!(
            self,
            SegmentError::Index { .. }
                | SegmentError::Copy { .. }
                | SegmentError::Damaged(_)
                | SegmentError::Misnamed { .. }
                | SegmentError::ReadBack { .. }
                // An unreadable sector is damage, not absence.
                | SegmentError::Io { action: "read", .. }
        )
    }

    /// Whether nothing is wrong but a lack of space, so that the same may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, SegmentError::Io { source, .. }
            if matches!(source.kind(), StorageFull | QuotaExceeded))
    }

    /// Whether the file does not exist.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, SegmentError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// The entries that are lost, where only those are.
    #[must_use]
    pub fn damage(&self) -> Option<&Damage> {
        match self {
            SegmentError::Damaged(damage) => Some(damage),
            _ => None,
        }
    }

    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> SegmentError {
        let path = path.to_path_buf();
        move |source| SegmentError::Io { path, action, source }
    }
}

impl fmt::Display for SegmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SegmentError::Io { path, action, .. } => write!(f, "{action} {}", path.display()),
            SegmentError::Unsealed { path, len, has_header } => {
                let header = if *has_header { "with" } else { "without" };
                write!(
                    f,
                    "open segment {}: no footer at the end of {len} bytes, {header} a header of this data directory",
                    path.display()
                )
            }
            SegmentError::Foreign { path, expected, found } => write!(
                f,
                "open segment {}: it belongs to another data directory (found cluster {} {}, expected cluster {} {})",
                path.display(),
                found.cluster,
                found.member,
                expected.cluster,
                expected.member
            ),
            SegmentError::Version { path, found, expected } => write!(
                f,
                "open segment {}: unknown format version (found {found}, expected at most {expected})",
                path.display()
            ),
            SegmentError::Misnamed { path, expected, found } => write!(
                f,
                "open segment {}: it is another segment (found {found}, expected {expected})",
                path.display()
            ),
            SegmentError::Index { path, offset, what, expected, found } => write!(
                f,
                "read segment {} at {offset}: both index copies are damaged: {what} (found {found:x}, expected {expected:x})",
                path.display()
            ),
            SegmentError::Copy { path, offset, what, expected, found } => write!(
                f,
                "read segment {} at {offset}: one copy is damaged: {what} (found {found:02x}, expected {expected:02x})",
                path.display()
            ),
            SegmentError::Damaged(damage) => fmt::Display::fmt(damage, f),
            SegmentError::NotIntact { group, id, expected, found } => write!(
                f,
                "write entry {id} of group {group}: it changed in memory (digest {expected}, computed {found})"
            ),
            SegmentError::Unsorted { group, index } => match index {
                Some(index) => {
                    write!(f, "write segment: index {index} of group {group} is out of order")
                }
                None => write!(f, "write segment: group {group} is out of order"),
            },
            SegmentError::ReadBack { path, what, expected, found } => write!(
                f,
                "read back segment {}: {what} differs (found {found:x}, expected {expected:x})",
                path.display()
            ),
            SegmentError::TooLarge { what, expected, found } => {
                write!(f, "write segment: too large {what} (found {found}, at most {expected})")
            }
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { path, offset, group, first, what, expected, found, .. } = self;
        write!(f, "read segment {} at {offset}: {what}", path.display())?;
        if self.cause.is_none() {
            write!(f, " (found {found:x}, expected {expected:x})")?;
        }
        write!(f, ", group {group} entry {first}")?;
        if self.last != self.first {
            write!(f, " to {}", self.last)?;
        }
        Ok(())
    }
}

impl std::error::Error for SegmentError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SegmentError::Io { source, .. } => Some(source),
            SegmentError::Damaged(Damage { cause: Some(cause), .. }) => Some(cause),
            _ => None,
        }
    }
}
