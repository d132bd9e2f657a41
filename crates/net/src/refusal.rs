//! Why a node does not talk to another.

use std::fmt;

use refloat_types::{ClusterId, Incarnation, NodeId};

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
    /// The cluster of the sender went on without it, in a later epoch.
    Superseded {
        /// The cluster of the sender.
        found: ClusterId,
        /// The cluster of the node that refuses.
        expected: ClusterId,
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
            Refusal::Superseded { found, expected } => {
                write!(
                    f,
                    "superseded: cluster {found} went on as {expected} after a loss was accepted"
                )
            }
            Refusal::NewerVersion { found, expected } => {
                write!(f, "newer protocol version (speaks up to {expected}, found {found})")
            }
        }
    }
}

impl std::error::Error for Refusal {}

/// The byte form: a code and two numbers.
pub(crate) fn code(refusal: Option<Refusal>) -> (u8, u128, u128) {
    match refusal {
        None => (0, 0, 0),
        Some(Refusal::WrongCluster { found, expected }) => (1, found.0, expected.0),
        Some(Refusal::WrongNode { found, expected }) => (2, found.0.into(), expected.0.into()),
        Some(Refusal::WrongIncarnation { found, expected }) => (3, found.0, expected.0),
        Some(Refusal::NodeIdInUse { found, expected }) => (4, found.0, expected.0),
        Some(Refusal::NewerVersion { found, expected }) => (5, found.into(), expected.into()),
        Some(Refusal::Superseded { found, expected }) => (6, found.0, expected.0),
    }
}

/// What a code and two numbers say; `None` if nothing.
#[allow(clippy::option_option)]
pub(crate) fn refusal(code: u8, found: u128, expected: u128) -> Option<Option<Refusal>> {
    let node = |n: u128| u64::try_from(n).ok().map(NodeId);
    let version = |n: u128| u16::try_from(n).ok();
    let life = (Incarnation(found), Incarnation(expected));
    Some(match code {
        0 => None,
        1 => {
            let (found, expected) = (ClusterId(found), ClusterId(expected));
            Some(Refusal::WrongCluster { found, expected })
        }
        2 => Some(Refusal::WrongNode { found: node(found)?, expected: node(expected)? }),
        3 => Some(Refusal::WrongIncarnation { found: life.0, expected: life.1 }),
        4 => Some(Refusal::NodeIdInUse { found: life.0, expected: life.1 }),
        6 => {
            let (found, expected) = (ClusterId(found), ClusterId(expected));
            Some(Refusal::Superseded { found, expected })
        }
        5 => Some(Refusal::NewerVersion { found: version(found)?, expected: version(expected)? }),
        _ => return None,
    })
}
