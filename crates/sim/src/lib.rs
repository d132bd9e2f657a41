//! Whole refloat clusters in one thread, from one seed.
//!
//! The nodes are production code: `refloat-node`'s `NodeCore` with its log store and its Raft
//! cores. The disks are `refloat-vfs`'s `SimFs`, the network, the clocks and the clients are
//! simulated here. A run has two phases: first faults (kills, power cuts, partitions, lost and
//! late frames, pauses, failed syncs, rot in synced data, full and hanging disks, clocks that
//! drift, wiped disks, directories that are old copies or another node's, bursts of requests,
//! changes of the members, groups that come and go) with the safety invariants checked at every
//! step, then a healed cluster that must serve again within a bound.
//!
//! # Should I use this crate?
//!
//! Yes, if you have written a state machine for `refloat-node` and want to see it go through
//! power cuts, snapshots and replays in your own tests. The simulator compares all replicas of
//! your machine after every command: a clock, a random number or an iteration in hash order
//! inside of it is found as two replies that differ.
//!
//! # What is promised
//!
//! * The same settings, machine and seed give the same run, event by event: same trace hash.
//! * A power cut leaves a disk state that unsynced work allows, and no other.
//! * [`Report`] counts the faults that really fired and the checks that were really made, so
//!   that a run in which nothing happened cannot pass for a good one.
//!
//! # Limits
//!
//! Frames are lost, late, doubled and reordered, but never altered. Synced data goes bad at one
//! node only, or at all nodes but then each entry at one of them only: of what is whole nowhere
//! nothing could be asked. A node whose identity was lost joins again only when the faults are over.
//!
//! ```
//! use refloat_sim::{Settings, Simulation};
//!
//! let settings = Settings { fault_us: 300_000, ..Settings::default() };
//! let report = Simulation::new(settings).run(7);
//! assert!(report.violation.is_none(), "{report}");
//! ```
//!
//! `examples/own_machine.rs` runs a machine of its own.
#![forbid(unsafe_code)]

mod client;
mod faults;
mod frame;
pub mod history;
mod invariants;
mod network;
mod node;
mod recorder;
mod registers;
mod report;
mod settings;
mod simulation;
mod trace;
mod world;

pub use registers::Registers;
pub use report::{Report, Violation};
pub use settings::{FaultRates, Settings};
pub use simulation::Simulation;
