//! How a log is laid out and driven.

use std::path::PathBuf;

use refloat_types::Identity;

use crate::Lsn;
use crate::format::{BLOCK, FIRST_BATCH_BLOCK};

/// How a log is laid out and driven. Make one with [`Options::new`] and change its fields.
///
/// `file_size` may differ from one run to the next: every file says in its header how long it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The directory that holds nothing but this log's files.
    pub dir: PathBuf,
    /// Whose log it is. A file that says otherwise is refused.
    pub identity: Identity,
    /// Bytes per file: a multiple of 4096, from 16 blocks up to 2 GiB. 64 MiB by default.
    /// A file whose first batch needs more is made longer.
    pub file_size: u64,
    /// After so many idle microseconds a seal is written behind data that nothing proves yet.
    pub seal_after: u64,
    /// Whether to bypass the page cache, with each write durable when it returns. Where the file
    /// system cannot, the log falls back to a buffered write and a data sync.
    pub direct: bool,
    /// How many files are kept at hand at most, those included whose space is only claimed.
    /// Three are wanted; a recycled one may come on top.
    pub pool: usize,
    /// A batch that somebody else remembers to have been durable ([`Writer::promised`]); zeros if
    /// nobody does. A scan that does not find it takes that for damage, never for the end of the
    /// log.
    ///
    /// [`Writer::promised`]: crate::Writer::promised
    pub witnessed: Lsn,
}

impl Options {
    /// A log of 64 MiB files, sealed after 20 ms, past the page cache, up to four spare files.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, identity: Identity) -> Options {
        Options {
            dir: dir.into(),
            identity,
            file_size: 64 << 20,
            seal_after: 20_000,
            direct: true,
            pool: 4,
            witnessed: Lsn::default(),
        }
    }

    /// `file_size` in blocks, brought into the range that the format allows.
    pub(crate) fn file_blocks(&self) -> u32 {
        let blocks = (self.file_size / BLOCK as u64).clamp(16, (2 << 30) / BLOCK as u64);
        u32::try_from(blocks).unwrap_or(u32::MAX).max(FIRST_BATCH_BLOCK + 1)
    }
}
