//! Settings of one node's store.

use std::path::PathBuf;

/// Settings of a [`crate::LogStore`]. Every size may be as small as a few blocks.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The data directory.
    pub dir: PathBuf,
    /// Size of one WAL file in bytes, a multiple of 4096; default 30 MiB. A new node, which keeps
    /// three at hand beside the first, so takes at most 128 MiB of disk.
    pub wal_file_size: u64,
    /// Size of one file of the votes log in bytes, a multiple of 4096; default 1 MiB.
    pub votes_file_size: u64,
    /// Idle time after which a log is sealed, in microseconds; default 20 ms.
    pub seal_after: u64,
    /// Whether to write past the page cache where the file system can; default yes.
    pub direct_io: bool,
    /// Segments below this many bytes are merged with their neighbours; default 8 MiB.
    pub small_segment: u64,
    /// A segment with less than this percentage of live bytes is rewritten; default 50.
    pub live_percent: u8,
    /// Bytes of complete generations that may wait for their flush; beyond it entries are refused
    /// until one is flushed, and nothing else is; default 512 MiB.
    pub max_unflushed: u64,
    /// Bytes per second at which sealed files are read for rot; 0 reads none; default 4 MiB.
    pub scrub_rate: u64,
    /// Bytes of snapshots from leaders that may wait in memory for the disk, over all groups; one
    /// chunk always fits, and what does not is dropped and asked for again; default 8 MiB.
    pub reception_bytes: u64,
    /// Microseconds from the beginning of one walk over them to the next; default a day.
    pub scrub_cycle: u64,
}

impl Options {
    /// The defaults, for a data directory.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Options {
        Options {
            dir: dir.into(),
            wal_file_size: 30 << 20,
            votes_file_size: 1 << 20,
            seal_after: 20_000,
            direct_io: true,
            small_segment: 8 << 20,
            live_percent: 50,
            max_unflushed: 512 << 20,
            scrub_rate: 4 << 20,
            reception_bytes: 8 << 20,
            scrub_cycle: 24 * 3600 * 1_000_000,
        }
    }

    pub(crate) fn wal_dir(&self) -> PathBuf {
        self.dir.join("wal")
    }

    pub(crate) fn votes_dir(&self) -> PathBuf {
        self.dir.join("votes")
    }

    pub(crate) fn segment_dir(&self) -> PathBuf {
        self.dir.join("seg")
    }

    pub(crate) fn snapshot_root(&self) -> PathBuf {
        self.dir.join("snap")
    }
}
