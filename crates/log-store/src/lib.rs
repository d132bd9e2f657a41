//! The durable logs of all Raft groups of one node.
//!
//! One write-ahead log for all groups, one memtable per WAL file, one segment per memtable,
//! snapshots beside them, and one recovery over all four.
//!
//! # Should I use this crate?
//!
//! Yes, if you have a Raft of your own and want the logs, snapshots and votes of many groups on
//! one disk, with a recovery that says what it cannot prove.
//! If one log is enough, take `refloat-wal`; if you want the consensus too, `refloat-node`.
//! `examples/many_groups.rs` shows a kill and a flipped byte on a real disk; `examples/openraft-store`
//! in the repository is openraft's storage on this crate.
//!
//! ```
//! use std::{path::Path, sync::Arc};
//! use refloat_log_store::{Options, boot, identity, run_jobs};
//! use refloat_types::*;
//! use refloat_vfs::{Fate, SimFs, Vfs};
//!
//! let disk = SimFs::new(); // or OsFs
//! let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
//! let me = Member::new(NodeId(1), Incarnation(7));
//! let owner = identity::NodeIdentity {
//!     identity: Identity { cluster: ClusterId(1), member: me },
//!     cluster_name: "doc".into(), groups: 1, members: vec![], run: 0, origin: identity::Origin::Init,
//!     lineage: identity::Lineage::default(), recovering: false,
//! };
//! identity::create(&disk, Path::new("/data"), &owner)?;
//! let mut store = boot(&vfs, Options::new("/data"))?.store;
//! let group = GroupKey::new(GroupId(1), Epoch(1));
//! store.create_group(Now(0), group, &ConfState::of_voters([me]))?;
//! let entry = Entry::new(EntryId::new(Term(1), Index(1)), EntryKind::Command, "x=1".into());
//! let log = LogOp::Append { prev: EntryId::ZERO, entries: vec![entry] };
//! let ticket = store.submit(Now(0), &[GroupWrite { group, hard_state: None, log: Some(log) }])?;
//! run_jobs(&mut store, &vfs, Now(0))?; // a host runs them on threads of its own
//! assert!(store.durable() >= ticket);
//! let after: Arc<dyn Vfs> = Arc::new(disk.power_cut(|_| Fate::Lost));
//! assert_eq!(boot(&after, Options::new("/data"))?.groups[0].last.index, Index(1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is promised
//!
//! * What a [`Ticket`] at or below [`LogStore::durable`] wrote survives kills and power cuts.
//! * A boot never refuses what only a kill or a power cut left, and never cuts durable data:
//!   a group whose log has a hole, or whose end or vote cannot be proven, is named with the
//!   evidence ([`GroupState`]), and stays so until it is healed.
//! * After a failed write or sync the store is [`Poisoned`] for good.
//!
//! # What is assumed
//!
//! A disk that keeps what it acknowledged as synced, and writes sectors of 512 bytes whole.
//!
//! # What the store keeps in order, and what the host does
//!
//! By itself the store writes nothing of a group to the votes log before the group's registration
//! is durable, names no file in a record before the file is durable, and gives no file up before
//! the record that allows it is. Lanes may run in any order beside each other.
//!
//! The host
//! * calls [`identity::begin_run`] behind each boot, before anything is said to anybody;
//! * says nothing that rests on a write (a vote, an acknowledgement, the name of a new life) before
//!   its ticket is durable;
//! * gives each [`GroupBoot`] no more than the rights of its state;
//! * submits what heals a group before it calls [`LogStore::note_healed`].
//!
//! # Limits
//!
//! Healing from peers is the host's: it gets the holes of each log from the boot, submits what
//! others have as `Fill`, and says with [`LogStore::note_healed`] that nothing is missing any more.
//! All logs are driven by one caller.
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
//! the last step, and changes nothing. [`tools`] explain a directory further, and repair it.
#![forbid(unsafe_code)]

mod boot;
mod error;
mod event;
#[cfg(test)]
mod fuzz;
pub mod identity;
mod log_map;
mod options;
mod small_state;
mod state;
mod store;
pub mod tools;

pub use boot::{
    Boot, BootReport, Examination, FileLine, GroupLine, boot, boot_to_recover, examine,
};
pub use error::{BootError, Poisoned, SubmitError};
pub use event::{Event, Read, RequestId, Ticket};
pub use options::Options;
pub use refloat_snapshot::{Chunk, SnapshotFile, SnapshotMeta, Source};
pub use state::{GroupBoot, GroupState};
pub use store::{Done, Job, Lane, LogStore, MAX_GROUP_VALUE, ScrubStats, Stats, run_jobs};
