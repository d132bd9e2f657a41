//! Exactly once: sessions in front of any state machine.
//!
//! A client whose proposal ends as [`RequestError::Unknown`](crate::RequestError::Unknown) cannot
//! know whether it was applied, and may not propose it again if that would be wrong twice. In a
//! session it may: each command has a number, the machine on every member remembers which numbers
//! were applied and what was replied, and a second arrival is answered from there (Ongaro,
//! *Consensus: Bridging Theory and Practice*, §6.3).
//!
//! * [`Sessions`] wraps a [`StateMachine`](crate::StateMachine); what it remembers is part of the
//!   state, so it is in the snapshot and the same on all members, across leaders and restarts.
//! * [`Group::session`](crate::Group::session) opens a session; [`Session::propose`] sends a
//!   command again under its number until there is an answer, or the caller's patience ends.
//! * [`SessionClient`] is the part of it without futures or clocks.
//!
//! # What is promised
//!
//! A command of a session is applied at most once, and exactly once if `propose` says `Ok`.
//! Sessions expire by the time that leaders stamp into the log, never by a member's own clock. A
//! command for a session that is gone has no effect: the caller hears
//! [`SessionError::Expired`], which says whether an earlier attempt may have been applied.
//!
//! [`Effects`](crate::Effects) of the machine are carried out as without sessions, and an attempt
//! at a command that was applied before adds none; what a timer proposes is the machine's command
//! outside of any session. [`Versions`](crate::Versions) are the machine's own.
//!
//! # Bounds
//!
//! [`Limits`]: sessions of a group, open commands of a session, bytes of kept replies. Each is a
//! typed refusal. A client says with each command which answers it has, and those are dropped.
//!
//! # Limits
//!
//! A leader's clock that runs ahead expires sessions early, and one that is behind late; neither
//! applies anything twice. A machine that keeps its state on a disk of its own
//! ([`StateMachine::applied`](crate::StateMachine::applied)) cannot be wrapped, because the table
//! would not be kept with it: the group stops and says so. Commands that are proposed around the
//! sessions (`Group::propose`) are not understood and have no effect; take
//! [`Group::propose_plain`](crate::Group::propose_plain).

mod client;
mod effects;
#[cfg(test)]
mod fuzz;
mod handle;
mod machine;
mod table;
mod wire;

pub use client::SessionClient;
pub use handle::{Session, SessionError};
pub use machine::Sessions;
pub use table::Limits;
pub use wire::SessionReply;
