//! What the engine asks of any transport, and what it hears from one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use refloat_types::{Incarnation, Member, NodeId};

use crate::Refusal;

/// Carries opaque frames to other nodes. May lose, and across lanes reorder, any of them; within
/// one lane of one connection it keeps their order; it never changes their bytes.
pub trait Transport: Send + Sync {
    /// Queues a frame. Returns at once; callable from any thread, inside or outside a runtime.
    ///
    /// # Errors
    /// The frame was dropped and counted; the caller may go on as if the network had lost it.
    fn send(&self, to: NodeId, lane: Lane, frame: Bytes) -> Result<(), Dropped>;

    /// Says whom to connect to: replaces the whole map. A peer that is no longer in it, or whose
    /// [`Peer`] changed, is disconnected; connections *from* nodes outside the map are accepted,
    /// because a leader or candidate may be newer than the map.
    fn set_peers(&self, peers: &BTreeMap<NodeId, Peer>);

    /// Says what to answer to whoever asks at the listening address which cluster this is, without
    /// having an identity yet. Nothing is answered before. A transport without an address to ask
    /// at ignores it.
    fn set_card(&self, card: Bytes) {
        drop(card);
    }

    /// Closes all connections and the listening socket and ends all tasks. Returns at once; an
    /// event that is being delivered on another thread may still end after it. Idempotent.
    fn shutdown(&self);
}

/// Which of a peer's two connections a frame takes, so that a snapshot never delays a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Lane {
    /// Heartbeats, votes, read-index rounds, small appends.
    Urgent = 0,
    /// Snapshot chunks and large appends.
    Bulk = 1,
}

impl Lane {
    /// Both lanes.
    pub const ALL: [Lane; 2] = [Lane::Urgent, Lane::Bulk];

    /// Reads the byte that `self as u8` wrote; `None` for any other.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Lane> {
        match byte {
            0 => Some(Lane::Urgent),
            1 => Some(Lane::Bulk),
            _ => None,
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lane::Urgent => "urgent",
            Lane::Bulk => "bulk",
        })
    }
}

/// Where a node listens, and which life of it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// `host:port`, resolved anew at each attempt to connect.
    pub address: String,
    /// If known, a node that answers with another life is refused. `None` during formation and
    /// rejoin, when the life is learned from the handshake.
    pub incarnation: Option<Incarnation>,
}

impl Peer {
    /// A peer of whom any life is welcome.
    #[must_use]
    pub fn new(address: impl Into<String>) -> Peer {
        Peer { address: address.into(), incarnation: None }
    }

    /// The same, of this life only.
    #[must_use]
    pub fn with_incarnation(self, incarnation: Incarnation) -> Peer {
        Peer { incarnation: Some(incarnation), ..self }
    }
}

impl From<&str> for Peer {
    fn from(address: &str) -> Peer {
        Peer::new(address)
    }
}

/// Who hears of frames and connections. Called on the transport's own threads: it must not block,
/// and what it cannot take it must drop.
pub type Deliver = Arc<dyn Fn(Event) + Send + Sync>;

/// What a transport reports.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A frame that arrived whole and passed its checksum.
    Frame {
        /// Who sent it, by the handshake of its connection.
        from: Member,
        /// The sender's run number, by the handshake of its connection.
        run: u64,
        /// The lane it came on.
        lane: Lane,
        /// Its content.
        bytes: Bytes,
    },
    /// The first connection with this life and run of a node, in either direction, is up.
    Up {
        /// The node and its life.
        from: Member,
        /// Its run number.
        run: u64,
    },
    /// The last connection with this life and run of a node is gone.
    Down {
        /// The node and its life.
        from: Member,
        /// Its run number.
        run: u64,
    },
    /// A node that this one tried to reach refused it, or is not who it should be. Reported at
    /// each attempt; the attempts go on, with back-off.
    Refused {
        /// Who was meant.
        to: NodeId,
        /// Why.
        reason: Refusal,
    },
}

/// Why [`Transport::send`] dropped a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dropped {
    /// The queue to this peer and lane holds as many bytes as it may.
    Full,
    /// There is no connection, and no attempt to make one is under way.
    NotConnected,
    /// The peer is not in the map.
    UnknownPeer,
    /// The frame is longer than a frame may be.
    TooLong,
    /// The transport was shut down.
    ShutDown,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dropped::Full => "the queue to the peer is full",
            Dropped::NotConnected => "the peer is not connected",
            Dropped::UnknownPeer => "the peer has no known address",
            Dropped::TooLong => "the frame is longer than a frame may be",
            Dropped::ShutDown => "the transport was shut down",
        })
    }
}

impl std::error::Error for Dropped {}
