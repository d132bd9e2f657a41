//! The Raft state machine of one group: pure, deterministic, no I/O.
//!
//! A [`Core`] is one replica. It takes messages, time, proposals and notices of what the host has
//! done, and answers with a [`Ready`]: what to make durable, what may be sent now, what to apply,
//! which old entries to look up. It has no clock, no thread, no file, no socket and no chance but
//! its seed; the same inputs give the same outputs, always, and it is
//! `Clone + Eq + Hash`, so that it can be model-checked as it is.
//!
//! # Should I use this crate?
//!
//! If you want Raft without an opinion on threads, disks and networks, and are ready to write the
//! host around it. If you want a replicated state machine to run, take `refloat-node`.
//!
//! # What is promised
//!
//! * **No message leaves before the term it carries is durable**, no vote before it is durable, no
//!   ack before its entries are. The core holds such messages back itself; what is in
//!   [`Ready::messages`] may leave at once. A leader's appends are never held back: they travel
//!   while its own disk writes, and it counts itself only when that is done.
//! * A completed write confirms only what was not rewritten since: not even when the rewriting
//!   brought the very same entries back.
//! * Entries that the host cannot read are holes, not absences ([`Holes`]): nothing at or behind
//!   the first is acknowledged, any member fills them, and a leader with holes appends nothing
//!   before each is filled or shown by a majority never to have been committed.
//! * A run acknowledges nothing before a leader heard what it starts from; less than that leader
//!   saw in its term, undeclared, ends the replica's rights ([`Alarm::Regression`]).
//! * A vote or an ack counts only if its identity, life included, is in the membership that
//!   counts; and an ack only for the entry that it names.
//! * Membership changes take effect when applied, of one voter at once, of several through a joint
//!   membership that whoever leads leaves exactly once ([`ConfChange`]); a refused change is an
//!   error to its proposer and leaves no entry.
//! * A leader that is removed leads on until a majority of those that stay knows it, or for an
//!   election timeout, and hands over.
//! * Entries of older terms are never committed by counting (section 5.4.2 of the paper).
//! * Reads ([`Core::read_index`]) are linearizable, at leaders and followers, without any
//!   assumption about clocks unless leases are on.
//! * No message, however false, makes it panic. A host that breaks the rules of [`Ready`] does:
//!   these asserts stay in release builds, because going on would lose data.
//!
//! # What is assumed
//!
//! The host makes tickets durable in order, whole; it reports nothing durable that is not; time
//! never goes back (if it does, it stands still); seeds differ from run to run.
//!
//! "The paper" is Ongaro and Ousterhout, *In Search of an Understandable Consensus Algorithm*
//! (extended version); "the thesis" is Ongaro, *Consensus: Bridging Theory and Practice*.
//!
//! # Example
//!
//! Three replicas in one thread, by direct calls:
//!
//! ```
//! use refloat_raft_core::{Config, Core, Restored};
//! use refloat_types::*;
//!
//! let members = [1, 2, 3].map(|n| Member::new(NodeId(n), Incarnation(n.into())));
//! let start = Restored::empty(ConfState::of_voters(members));
//! let group = GroupKey::new(GroupId(1), Epoch(1));
//! let new = |m| Core::new(Config::new(m, group), start.clone(), Now(0)).unwrap();
//! let mut cores = members.map(new);
//! let payload = bytes::Bytes::from("set x 1");
//! let digest = Digest::of(EntryKind::Command, &payload);
//! cores[0].campaign(Now(0));
//! for turn in 0..50 {
//!     for n in 0..3 {
//!         let Some(ready) = cores[n].ready() else { continue };
//!         for message in ready.messages {
//!             cores[message.to.node.0 as usize - 1].step(Now(0), message).unwrap();
//!         }
//!         ready.persist.iter().for_each(|p| cores[n].on_persisted(Now(0), p.ticket));
//!         ready.committed.iter().for_each(|(_, last)| cores[n].on_applied(Now(0), *last));
//!     }
//!     let command = (payload.clone(), digest);
//!     if turn == 30 { cores[0].propose(Now(0), vec![command]).unwrap(); }
//! }
//! assert!(cores.iter().all(|core| core.commit() == Index(2)));
//! ```
//!
//! # Limits
//!
//! * No witnesses. Sessions are a matter of the state machine: `refloat_node::sessions`.
//! * Reads from a lease ([`Config::lease_drift`]) rest on clocks, and are off unless asked for.
//! * A group that fell quiet ([`Config::quiet_after`]) notices nothing by itself: the host beats
//!   for it and wakes it.
//! * Holes are above the snapshot; live entries below it are the host's to heal.
//! * Losses that no evidence shows, and that fall together with a change of leader, are not
//!   noticed.
//! * Terms, indexes and rounds stay below 2^62.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod conf_change;
mod config;
mod core;
mod disk;
mod election;
mod error;
mod follower;
mod giving;
mod hello;
mod holes;
mod leader;
mod leaving;
mod log;
mod lost;
mod membership;
mod message;
mod progress;
mod quiet;
pub mod quorum;
mod read;
mod ready;
mod replication;
mod resolve;
mod rng;
mod snapshot;
mod space;
mod status;
mod step;
mod transfer;
mod wire;

pub use self::core::Core;
pub use conf_change::{ConfChange, ConfId, ConfStep, Transition};
pub use config::{Config, Holes, RestoreError, Restored, Rights};
pub use error::{
    ConfChangeError, ProposeError, ReadError, SnapshotError, SnapshotOutcome, StepError,
    TransferError,
};
pub use message::{Append, Body, Declared, Hello, HoleRange, Message, ReadContext};
pub use ready::{
    Alarm, Fetch, FetchId, Fetched, Persist, PersistTicket, ReadId, ReadState, Ready, SoftState,
};
pub use status::{PeerState, PeerStatus, Role, Status};
