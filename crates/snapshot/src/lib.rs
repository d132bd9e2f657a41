//! Snapshot files of Raft groups.
#![forbid(unsafe_code)]

mod directory;
mod disk;
mod error;
mod file;
mod format;
mod incoming;
mod meta;
mod names;
mod publish;
mod write;

pub use directory::{
    Found, Leftovers, Retained, leftovers, list, remove_leftovers, retain, set_aside,
};
pub use error::SnapshotError;
pub use file::SnapshotFile;
pub use incoming::Incoming;
pub use meta::{CHUNK_LEN, Chunk, Head, MAX_BODY_LEN, MAX_CHUNK_LEN, MIN_CHUNK_LEN, SnapshotMeta};
pub use names::{group_dir, group_of, snapshot_path};
pub use write::{Source, write};
