//! The Raft state machine of one group: pure, deterministic, no I/O.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod config;
mod core;
mod election;
mod error;
mod follower;
mod leader;
mod log;
mod membership;
mod message;
mod progress;
pub mod quorum;
mod read;
mod ready;
mod replication;
mod rng;
mod snapshot;
mod status;
mod step;
mod transfer;
mod wire;

pub use self::core::Core;
pub use config::{Config, RestoreError, Restored, Rights};
pub use error::{
    ConfChangeError, ProposeError, ReadError, SnapshotError, SnapshotOutcome, StepError,
    TransferError,
};
pub use membership::ConfChange;
pub use message::{Append, Body, Message, ReadContext};
pub use ready::{
    Fetch, FetchId, Fetched, Persist, PersistTicket, ReadId, ReadState, Ready, SoftState,
};
pub use status::{PeerState, PeerStatus, Role, Status};
