//! Snapshot files of Raft groups: write, verify, publish, receive with resume, keep.
//!
//! A snapshot is one file: a header (whose it is, of which group and entry, with which
//! membership and which **live indexes**), the state in chunks with their own checksums, and a
//! seal. It gets its name only after it was synced and read back. The bytes are in
//! `docs/formats/snapshot.md`.
//!
//! # Should I use this crate?
//!
//! If you have a replicated state machine whose state fits into one stream of bytes, and a log
//! that names the snapshots that count (`refloat-log-store` does both). It does not know what is
//! in the state, and it compiles neither tokio nor any other part of refloat but the file system.
//!
//! # What is promised
//!
//! * When [`write()`] or [`Incoming::finish`] returned `Ok`, the file and its name survive a power
//!   cut. A crash at any step leaves no name ending in `.snap` that is not a whole snapshot.
//! * Every read is verified. A chunk of another node, group, entry or place does not pass.
//! * [`SnapshotMeta::digest`] is over payload and meta: equal at the sender and at every receiver,
//!   though each has the file under its own name. A [`Chunk`] carries the digest made by who
//!   wrote it first.
//! * The live indexes come from the snapshot. A cache of them beside it is never read.
//! * [`retain`] never removes a snapshot that it finds damaged, nor a valid one while fewer than
//!   asked for are valid.
//! * Errors name the file, the place, what was expected and what was found.
//!
//! # What is assumed of the disk
//!
//! What [`refloat_vfs`] promises; nothing about order, sector size or atomic writes.
//!
//! ```
//! use refloat_snapshot::{Head, SnapshotFile, group_dir, snapshot_path, write};
//! use refloat_types::{ConfState, EntryId, GroupKey, Identity, Index, IndexSet, Term};
//! use refloat_vfs::{SimFs, Vfs};
//!
//! let (fs, me, group) = (SimFs::new(), Identity::default(), GroupKey::META);
//! fs.create_dir("/snap".as_ref()).unwrap();
//! let dir = group_dir("/snap".as_ref(), group);
//! let id = EntryId::new(Term(3), Index(100));
//!
//! let live: IndexSet = [Index(7)].into_iter().collect();
//! let mut state = ["some ", "state"].map(bytes::Bytes::from).into_iter();
//! write(&fs, &dir, &me, Head::new(group, id, ConfState::default(), live), &mut state).unwrap();
//!
//! let file = SnapshotFile::open(&fs, &snapshot_path(&dir, id), &me).unwrap();
//! assert!(file.meta().live.contains(Index(7)));
//! assert_eq!(file.chunk(0).unwrap().bytes, "some state");
//! ```
//!
//! # Limits
//!
//! * CRC-32C finds accidents, not forgeries.
//! * Chunks of 64 B to 4 MiB, fewer than 2^32 of them; membership and live indexes together up to
//!   64 MiB. A chunk is held in memory while it is written or read.
//! * Nothing is compressed or encrypted.
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
mod scrub;
mod unfinished;
mod write;

pub use directory::{
    Found, Leftovers, Retained, leftovers, list, remove_leftovers, retain, set_aside,
};
pub use error::SnapshotError;
pub use file::SnapshotFile;
pub use incoming::Incoming;
pub use meta::{CHUNK_LEN, Chunk, Head, MAX_BODY_LEN, MAX_CHUNK_LEN, MIN_CHUNK_LEN, SnapshotMeta};
pub use names::{group_dir, group_of, part_of, snapshot_path};
pub use scrub::{Scrub, Scrubbed};
pub use unfinished::Unfinished;
pub use write::{Source, write};
