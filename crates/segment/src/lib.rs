//! Sealed, sorted files of flushed Raft log entries, many groups in one file.

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
pub use files::{Found, list, remove_files};
pub use name::SegmentName;
pub use read::Salvage;
pub use segment::{GroupMeta, Segment, TermRun};
pub use set::{SegmentSet, Source};
pub use write::{Part, write, write_merged};
