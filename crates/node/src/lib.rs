//! Many Raft groups on one node: threads, timers, apply, client API, admission and recovery.
#![forbid(unsafe_code)]

mod api;
mod config;
mod core;
mod error;
mod job;
mod machine;
mod shell;
mod status;

pub use self::core::{NodeCore, StartError};
pub use api::{Consistency, Input, Lane, MemberChange, Output, Reply, Time, Token};
pub use config::Config;
pub use error::{RequestError, StopReason};
pub use job::{Job, JobDone, JobLane};
pub use machine::{
    Chunks, Command, MachineFactory, Query, RestoreError, StateMachine, split_stamp,
};
pub use shell::builder::{Builder, MakeTransport};
pub use shell::handle::{Group, Node};
pub use shell::inbox::{Completions, Operation, Request};
pub use shell::init::init;
pub use status::{Counters, GroupStatus, MemberStatus, Status};
