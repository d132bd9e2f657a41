//! Transport between refloat nodes.
#![forbid(unsafe_code)]

mod config;
mod handshake;
mod mem;
mod stats;
mod tcp;
mod transport;

pub use config::Config;
pub use handshake::{
    HANDSHAKE_PREFIX_LEN, Hello, MAX_HANDSHAKE_LEN, PROTOCOL_VERSION, Refusal, Reply,
};
pub use mem::{MemNet, MemTransport};
pub use stats::Stats;
pub use tcp::{BindError, TcpTransport};
pub use transport::{Deliver, Dropped, Event, Lane, Peer, Transport};
