//! Sealed, sorted files of flushed Raft log entries, many groups in one file.

#![forbid(unsafe_code)]

mod compaction;
mod error;
mod files;
mod name;
mod segment;
mod set;
mod write;

pub use compaction::{Compaction, Keep, Limits, plan_compaction};
pub use error::{Damage, SegmentError};
pub use files::{Found, list, remove_files};
pub use name::SegmentName;
pub use segment::{GroupMeta, Salvage, Segment, TermRun};
pub use set::{SegmentSet, Source};
pub use write::{Part, write, write_merged};
