//! Many Raft groups on one node: a replicated state machine that recovers by itself.
//!
//! A node holds one data directory, one connection pair per peer, and a replica of each of its
//! groups. Whatever a crash left behind, it comes back with everything it ever acknowledged, or
//! says per group what it cannot prove and what it waits for, while all other groups serve.
//!
//! # Should I use this crate?
//!
//! Yes, if you have a deterministic state machine in memory and want three or more copies of it
//! that agree. Write three methods ([`StateMachine`]) and start [`Node`]s.
//! If you have your own Raft and want only a log, take `refloat-log-store`; if you have your own
//! disk and network and want only consensus, `refloat-raft-core`; to run your machine through
//! power cuts and partitions in a test, `refloat-sim`, which drives the same [`NodeCore`].
//!
//! # Example
//!
//! Three nodes; each process runs this with its own number:
//!
//! ```no_run
//! use refloat_node::{Config, Consistency, Node, init};
//! use refloat_types::GroupId;
//! # use bytes::Bytes;
//! # use refloat_node::{Chunks, Command, RestoreError, SnapshotReader, StateMachine};
//! # #[derive(Default)] struct Counter(u64);
//! # impl StateMachine for Counter {
//! #     fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> { vec![Bytes::new(); batch.len()] }
//! #     fn snapshot(&mut self) -> Chunks { Box::new(std::iter::empty()) }
//! #     fn restore(&mut self, _: &mut SnapshotReader<'_>) -> Result<(), RestoreError> { Ok(()) }
//! # }
//! # async fn run(me: u64) -> Result<(), Box<dyn std::error::Error>> {
//! let members = [(1, "127.0.0.1:7101"), (2, "127.0.0.1:7102"), (3, "127.0.0.1:7103")];
//! init("data", "hello", me, &members, 1)?; // once per disk
//! let node = Node::builder(Config::default(), "data").machine(|_| Counter::default()).tcp(None);
//! let group = node.start().await?.group(GroupId(1)); // recovers all it finds
//! let reply = group.propose("+1").await?; // durable on a quorum, and applied
//! let count = group.read(Consistency::Linearizable, |counter| counter.0).await?;
//! # Ok(()) }
//! ```
//!
//! The whole program is `examples/hello.rs`, 40 lines.
//!
//! # What is promised
//!
//! * `Ok` from [`Group::propose`]: the command is durable on a majority and applied.
//!   [`RequestError::Unknown`] is the only error after which it may be, or become, applied;
//!   a node sends a proposal on at most once.
//! * A linearizable read sees every write acknowledged before it began, on any member.
//! * Creating a group is durable before anything of the group is.
//! * A failed write or sync ends the node ([`StopReason::Poisoned`]); it never tries again.
//! * A panic in a state machine, also while its snapshot is drawn, stops that group on that node,
//!   and is shown in its status.
//! * A full disk refuses proposals with [`RequestError::NoSpace`] and stops nothing; what committed
//!   entries decided about groups and snapshots is carried out when there is space.
//! * Every queue is bounded; a budget that is used up is [`RequestError::Busy`].
//!
//! # What is assumed
//!
//! * State machines are deterministic and fit into memory.
//! * A sync that returned holds (recovery notices many lies of a disk, not all), and the monotonic
//!   clock does not run at less than half or more than twice its speed.
//! * A node id belongs to one data directory at a time. A node that lost its disk comes back under
//!   its id by [`join`], in a new life, and is a voter again by itself; by [`init`] it does not.
//!
//! # Parts
//!
//! [`NodeCore`] is everything that is not a thread or a socket: [`Input`]s in, [`Output`]s out,
//! deterministic, blocking work handed out as [`Job`]s. [`Node`] is the shell: one worker thread
//! that owns the core, one thread per lane of jobs, tokio only for sockets and callers' futures.
//! A busy server uses [`Node::submit`], which costs one lock per batch and no future.
//!
//! # Limits
//!
//! A node can be taken back only while group 0 has a leader, and into a group only while its other
//! voters are a majority.
//! Idle groups send heartbeats, unless [`Config::quiet_after`] is set: 10,000 of them are not free.
//! Reads from a lease ([`Config::lease_drift`]) rest on clocks, and are off unless asked for.
//! [`Group::commands`] reads entries back from the disk of the node that is asked, and a state
//! machine cannot call it while it applies.
//! No witnesses. Sessions ([`sessions`]) are a layer to ask for: without it a command whose outcome
//! is unknown is not sent again.
#![forbid(unsafe_code)]

mod api;
mod card;
mod config;
mod core;
mod effects;
mod error;
mod job;
mod machine;
pub mod sessions;
mod shell;
mod snapshot_reader;
mod status;

pub use self::core::{NodeCore, StartError};
pub use api::{
    Consistency, Input, Lane, MemberChange, MemberStep, MemberTransition, MembershipId, NodeChange,
    Output, Reply, Time, Token,
};
pub use card::{Card, CardMember};
pub use config::Config;
pub use effects::{Effect, Effects, Versions};
pub use error::{RequestError, StopReason, TransferFailure};
pub use job::{Job, JobDone, JobLane};
pub use machine::{
    Chunks, Command, MachineFactory, Query, RestoreError, StateMachine, split_stamp,
};
pub use shell::builder::{Builder, MakeTransport};
pub use shell::handle::{Group, Node};
pub use shell::inbox::{Completions, Operation, Request};
pub use shell::init::{cluster_id, init};
pub use shell::join::{JoinError, join};
pub use shell::plan::{GroupRecovery, LostNode, Presence, Recovery, ask_presence};
pub use shell::recover::{RecoverError, plan_recovery, recover};
pub use snapshot_reader::SnapshotReader;
pub use status::{Counters, GroupStatus, MemberStatus, Status};
