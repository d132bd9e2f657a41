//! The Raft state machine of one group: pure, deterministic, no I/O.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod config;
mod core;
mod error;
mod membership;
mod message;
mod ready;
mod status;
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
