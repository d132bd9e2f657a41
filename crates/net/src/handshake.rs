//! The two messages that open a connection, as pure functions over bytes.
//!
//! Byte tables: `docs/formats/wire.md`.

use std::fmt;

use refloat_types::codec::{DecodeError, Put, Reader};
use refloat_types::{ClusterId, Identity, Incarnation, Member, NodeId};

use crate::Lane;

/// The protocol version that this code speaks.
pub const PROTOCOL_VERSION: u16 = 1;

/// The most bytes that either side reads before it believes the other: longer is refused.
pub const MAX_HANDSHAKE_LEN: usize = 512;

/// Magic, version and length of the body: the part that no later version may change.
pub const HANDSHAKE_PREFIX_LEN: usize = 12;

const HELLO_MAGIC: [u8; 8] = *b"RFLTHELO";
const REPLY_MAGIC: [u8; 8] = *b"RFLTRPLY";
const CHECK_LEN: usize = 4;

/// The first message of a connection, from the node that opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Cluster, node and life of the sender.
    pub from: Identity,
    /// The sender's run number.
    pub run: u64,
    /// Whom the sender means.
    pub to: NodeId,
    /// Which life of it, if the sender knows.
    pub incarnation: Option<Incarnation>,
    /// The lane that this connection carries.
    pub lane: Lane,
}

/// The answer to a [`Hello`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Cluster, node and life of the node that answers.
    pub from: Identity,
    /// Its run number.
    pub run: u64,
    /// `None`: welcome. Else the connection is closed after this message.
    pub refusal: Option<Refusal>,
}

/// Why a node would not talk to another: `found` is what the hello (or the reply) said,
/// `expected` what the node that refuses is or knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The two belong to different clusters.
    WrongCluster {
        /// The cluster of the other side.
        found: ClusterId,
        /// The cluster of the side that refuses.
        expected: ClusterId,
    },
    /// The message is meant for another node: a wrong address, or an address that changed hands.
    WrongNode {
        /// The node that was meant (hello), or that answered (reply).
        found: NodeId,
        /// The node that refuses (hello), or that was meant (reply).
        expected: NodeId,
    },
    /// The message is meant for another life of this node.
    WrongIncarnation {
        /// The life that was meant (hello), or that answered (reply).
        found: Incarnation,
        /// The life of the node that refuses (hello), or that was meant (reply).
        expected: Incarnation,
    },
    /// The sender bears the node id of the node that refuses: a second process, or a clone.
    NodeIdInUse {
        /// The life of the sender.
        found: Incarnation,
        /// The life of the node that refuses.
        expected: Incarnation,
    },
    /// The sender speaks a newer protocol.
    NewerVersion {
        /// The sender's version.
        found: u16,
        /// The highest version that the node that refuses speaks.
        expected: u16,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::WrongCluster { found, expected } => {
                write!(f, "wrong cluster (expected {expected}, found {found})")
            }
            Refusal::WrongNode { found, expected } => {
                write!(f, "wrong node (expected node {expected}, found node {found})")
            }
            Refusal::WrongIncarnation { found, expected } => {
                write!(f, "wrong incarnation (expected {expected}, found {found})")
            }
            Refusal::NodeIdInUse { found, expected } => {
                write!(f, "node id in use by incarnation {expected} (claimed by {found})")
            }
            Refusal::NewerVersion { found, expected } => {
                write!(f, "newer protocol version (speaks up to {expected}, found {found})")
            }
        }
    }
}

impl std::error::Error for Refusal {}
