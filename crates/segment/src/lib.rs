//! Sealed, sorted files of flushed Raft log entries, many groups in one file.
//!
//! A segment is what one generation (one WAL file, one memtable) leaves on the disk: the entries of
//! all groups, sorted by group and index, with an index behind them and a footer that seals the
//! file. It is written once, read back, and never changed. [`SegmentSet`] makes one log of several
//! that overlap; [`plan_compaction`] gives the space of dead entries back.
//! The bytes are described in `docs/formats/segment.md`.
//!
//! # Should I use this crate?
//!
//! For an immutable, verified, sorted store of log entries of many logs at once, with suffixes
//! overwritten by later files and single entries kept below a snapshot. It knows neither the WAL nor
//! Raft, starts no thread, and does its file work through [`refloat_vfs::Vfs`]. To publish a
//! segment (to say durably that it is part of the log) is the caller's work.
//!
//! # What is promised
//!
//! * **A file under a segment's name was sealed, synced and read back before it got that name.**
//!   [`write()`] costs one data sync and one directory sync, for one group or 10,000.
//! * **An entry's digest is stored as it came.** An entry that changed in memory is refused
//!   ([`SegmentError::NotIntact`]).
//! * **Every entry is verified when read**: its digest, and that it is this group's entry of this
//!   index and term in this file of this data directory. What is lost is named by (index, term).
//! * Header, footer and index exist twice: one damaged byte loses one entry at most.
//! * **From its cut on a segment hides all older ones; a fill hides only its own indexes.** A cut
//!   outlives its entries for as long as an older file could show something needed.
//! * **Files are removed by name**, never because of the ranges they hold.
//!
//! # What is assumed
//!
//! * Generations are never used twice, and segments are published in their order.
//! * A boot uses [`recover`], which makes the names durable that it sees, not [`list`].
//! * `above` never falls, and an index at or below it that is not live never becomes live again.
//!
//! ```
//! use std::{path::Path, sync::Arc};
//! use refloat_segment::{Part, SegmentSet, write};
//! use refloat_types::*;
//! use refloat_vfs::{SimFs, Vfs};
//!
//! let (fs, dir, us) = (SimFs::new(), Path::new("/seg"), Identity::default());
//! fs.create_dir(dir)?;
//! let part = |first: u64, term| Part {
//!     group: GroupKey::META,
//!     cut: Some(Index(first)),
//!     entries: (first..first + 3)
//!         .map(|i| EntryId::new(Term(term), Index(i)))
//!         .map(|id| Entry::new(id, EntryKind::Command, "x".into()))
//!         .collect(),
//! };
//! let mut set = SegmentSet::new();
//! set.add(Arc::new(write(&fs, dir, us, Generation(1), [part(1, 1)])?));
//! set.add(Arc::new(write(&fs, dir, us, Generation(2), [part(3, 2)])?)); // overwrites entry 3
//!
//! let plan = set.plan(GroupKey::META, Index(2), Index(4));
//! assert_eq!(plan.len(), 2, "2 from the older file, 3 and 4 from the newer");
//! let entries = plan[1].segment.read(GroupKey::META, plan[1].first, plan[1].last, 1 << 20)?;
//! assert_eq!(entries[0].id, EntryId::new(Term(2), Index(3)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Limits
//!
//! * An open segment keeps its index in memory: about 100 bytes per group, and 16 bytes per 32
//!   entries or 16 KiB. With 32 segments of 10,000 groups that is 32 MB.
//! * A read returns payloads that share the memory of one read of the file, up to 256 KiB:
//!   copy what is to be kept long.
//! * 256 inputs per compaction, payloads below 4 GiB, 2^32 runs per file.

#![forbid(unsafe_code)]

mod compaction;
mod error;
mod files;
mod format;
mod frame;
mod index;
mod name;
mod open;
mod read;
mod segment;
mod set;
mod verify;
mod write;
mod writer;

pub use compaction::{Compaction, Keep, Limits, plan_compaction};
pub use error::{Damage, SegmentError};
pub use files::{Found, list, recover, remove_files};
pub use name::SegmentName;
pub use read::Salvage;
pub use segment::{GroupMeta, Segment, TermRun};
pub use set::{SegmentSet, Source};
pub use verify::{Scrub, Scrubbed};
pub use write::{Part, write, write_merged};
