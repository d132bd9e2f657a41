//! The durable logs of all Raft groups of one node.
//!
//! One write-ahead log for all groups, one memtable per WAL file, one segment per memtable,
//! snapshots beside them, and one recovery over all four.
//!
//! # The way of a write
//! [`LogStore::submit`] copies the write into the open WAL batch and into that file's memtable.
//! One job writes and syncs the batch; [`LogStore::durable`] reaches the write's [`Ticket`].
//! When the WAL file is full the memtable is frozen and flushed into one segment for all groups;
//! a record in the WAL names the segment; then the memtable and the WAL file are released.
//!
//! # The way back
//! [`boot`] reads both logs once, rebuilds memtables and small state, opens segments and
//! snapshots, judges every group, and begins a new WAL file. [`examine`] does all of that but
//! the last step, and changes nothing.
#![forbid(unsafe_code)]

mod boot;
mod error;
mod event;
pub mod identity;
mod log_map;
mod options;
mod small_state;
mod state;
mod store;

pub use boot::{Boot, BootReport, Examination, FileLine, GroupLine, boot, examine};
pub use error::{BootError, Poisoned, SubmitError};
pub use event::{Event, Read, RequestId, Ticket};
pub use options::Options;
pub use refloat_snapshot::{Chunk, SnapshotFile, SnapshotMeta, Source};
pub use state::{GroupBoot, GroupState};
pub use store::{Done, Job, Lane, LogStore, Stats, run_jobs};
