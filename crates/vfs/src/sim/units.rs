//! What a crash decides, and how it may decide.

use std::fmt;
use std::path::PathBuf;

/// Something that a power cut decides, independently of everything else.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// A sector that was written and not synced.
    Sector {
        /// A path of the file.
        path: PathBuf,
        /// Where the sector starts, in bytes.
        offset: u64,
        /// How many different contents were written since the last sync.
        versions: usize,
    },
    /// A length that is not synced.
    Length {
        /// A path of the file.
        path: PathBuf,
        /// The length that is durable.
        durable: u64,
        /// What it was set to since then, oldest first.
        later: Vec<u64>,
    },
    /// A name of a new file or directory, not synced.
    Created {
        /// The name.
        path: PathBuf,
    },
    /// A removal, not synced.
    Removed {
        /// The name.
        path: PathBuf,
    },
    /// A rename, not synced.
    Renamed {
        /// The old name.
        from: PathBuf,
        /// The new name.
        to: PathBuf,
    },
}

impl Unit {
    /// A path that it concerns; of a rename the new one.
    #[must_use]
    pub fn path(&self) -> &PathBuf {
        match self {
            Unit::Sector { path, .. }
            | Unit::Length { path, .. }
            | Unit::Created { path }
            | Unit::Removed { path }
            | Unit::Renamed { to: path, .. } => path,
        }
    }

    /// Whether it is a sector.
    #[must_use]
    pub fn is_sector(&self) -> bool {
        matches!(self, Unit::Sector { .. })
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unit::Sector { path, offset, .. } => {
                write!(f, "sector {}+{offset}", path.display())
            }
            Unit::Length { path, durable, later } => {
                write!(f, "length of {} ({durable} -> {later:?})", path.display())
            }
            Unit::Created { path } => write!(f, "name {}", path.display()),
            Unit::Removed { path } => write!(f, "removal of {}", path.display()),
            Unit::Renamed { from, to } => {
                write!(f, "rename {} -> {}", from.display(), to.display())
            }
        }
    }
}

/// What becomes of a [`Unit`]. What makes no sense for a unit counts as [`Fate::Kept`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// As if it had never been done.
    Lost,
    /// As the process saw it last.
    Kept,
    /// As it was after the n-th of several writes (of a sector) or changes (of a length).
    Version(usize),
    /// A rename of a file: it has both names.
    BothNames,
    /// A sector of zeros.
    Zeroed,
    /// A sector of bytes that nobody wrote, from a seed.
    Garbage(u64),
    /// So many bytes at the start of a sector are new, the rest is old. Disks promise not to.
    Torn(usize),
}

/// How far the operation got that the crash interrupted, in what a process kill leaves visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFlight {
    /// It had not begun.
    Lost,
    /// A write had got so many sectors far; another operation had not begun.
    Torn(u64),
    /// It was done; only its result was not seen any more.
    Done,
}
