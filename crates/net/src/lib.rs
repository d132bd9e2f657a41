//! Transport between refloat nodes: opaque frames over TCP, with an identity handshake, two lanes
//! per peer, bounded queues, and a twin in memory.
//!
//! [`TcpTransport`] keeps one connection per peer and [`Lane`] for what this node sends, and
//! accepts the connections that others keep to it. Each begins with a [`Hello`] and a [`Reply`]
//! that name cluster, node, life and run on both sides; nothing else is read before they match.
//! The bytes are in `docs/formats/wire.md`.
//!
//! # Should I use this crate?
//!
//! For Raft or another protocol that takes loss and late arrival for granted, between nodes that
//! have a [`refloat_types::Identity`]. Not for requests that must be answered, and not across
//! networks that others can write to: see the limits.
//!
//! # What is promised
//!
//! * Each [`Event::Frame`] carries the member (node **and** life) and the run number of its sender,
//!   as its handshake said, and bytes that passed CRC-32C.
//! * [`Transport::send`] never waits. A short urgent frame that nothing is before is written by
//!   its caller as far as the socket takes it; the rest waits in a queue.
//!   A queue holds at most [`Config::queue_bytes`]; what does not fit is dropped, told to the
//!   caller and counted. Frames that waited when a connection broke are dropped too: nothing
//!   older than one attempt to connect is ever sent.
//! * The lanes of a peer share no queue and no connection.
//! * Before a handshake is complete a connection costs at most [`MAX_HANDSHAKE_LEN`] bytes and
//!   [`Config::handshake_timeout`]; after it, one frame of [`Config::max_frame`] and
//!   [`Config::frame_timeout`]. A length is checked before anything is allocated by it.
//! * Whoever sends bytes that are no frame loses that connection, with a logged reason, and no
//!   other connection notices.
//!
//! ```
//! use refloat_net::{Config, Event, Lane, Peer, TcpTransport, Transport};
//! use refloat_types::{ClusterId, Identity, Incarnation, Member, NodeId};
//! use std::sync::{Arc, mpsc};
//!
//! let runtime = tokio::runtime::Runtime::new().unwrap();
//! let start = |node: u64, events: mpsc::Sender<Event>| {
//!     let member = Member::new(NodeId(node), Incarnation(u128::from(node)));
//!     let config = Config::new(Identity { cluster: ClusterId(1), member }, 1, "127.0.0.1:0");
//!     TcpTransport::bind(config, runtime.handle(), Arc::new(move |e| _ = events.send(e))).unwrap()
//! };
//! let (events, received) = mpsc::channel();
//! let (a, b) = (start(1, mpsc::channel().0), start(2, events));
//! a.set_peers(&[(NodeId(2), Peer::new(b.local_addr().to_string()))].into());
//! while a.send(NodeId(2), Lane::Urgent, "hello".into()).is_err() {}
//! let frame = received.iter().find_map(|event| match event {
//!     Event::Frame { from, bytes, .. } => Some((from.node, bytes)),
//!     _ => None,
//! });
//! assert_eq!(frame, Some((NodeId(1), "hello".into())));
//! ```
//!
//! # Limits
//!
//! * Plain TCP: no encryption, and the handshake proves nothing to a liar. mTLS is absent.
//! * CRC-32C finds accidents, not forgeries.
//! * The caps on handshakes are per listener and not per address: who can open
//!   [`Config::max_handshakes`] connections per [`Config::handshake_timeout`] delays new peers,
//!   though not connected ones.
//! * A frame of at most 16 KiB is copied out of the read buffer once; a longer one shares memory
//!   with its neighbours until all are dropped.
#![forbid(unsafe_code)]

mod ask;
mod backoff;
mod config;
mod frame;
mod handshake;
mod mem;
mod refusal;
mod stats;
mod tcp;
mod timed;
mod transport;

pub use ask::{AskError, ask};
pub use config::Config;
pub use frame::{FRAME_HEADER_LEN, FrameDecoder, FrameError, FrameKind, frame_header};
pub use handshake::{
    HANDSHAKE_PREFIX_LEN, HandshakeError, Hello, MAX_HANDSHAKE_LEN, PROTOCOL_VERSION, Reply,
};
pub use mem::{MemNet, MemTransport};
pub use refusal::Refusal;
pub use stats::Stats;
pub use tcp::{BindError, TcpTransport};
pub use timed::TimedStream;
pub use transport::{Deliver, Dropped, Event, Lane, Peer, Transport};
