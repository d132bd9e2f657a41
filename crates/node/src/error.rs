//! What can go wrong, by what the caller can do about it.

use std::error::Error;
use std::fmt;

use refloat_types::{GroupId, Index, NodeId};

/// Why a proposal, a read or an administrative request has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// No leader was known within the waiting time. Nothing was proposed; ask again.
    NoLeader {
        /// Of which group.
        group: GroupId,
    },
    /// This node does not lead, and was asked not to forward. Nothing was proposed.
    NotLeader {
        /// Of which group.
        group: GroupId,
        /// Who leads, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// A budget is used up: bytes of requests in flight, or requests in the inbox. Nothing was
    /// proposed; ask again later.
    Busy {
        /// How much is in use.
        used: u64,
        /// How much is allowed.
        limit: u64,
    },
    /// The disk is full. Nothing was proposed; ask again when there is space.
    NoSpace,
    /// Another leader's entry took the place of the proposal: it was not and will not be applied.
    Superseded {
        /// Of which group.
        group: GroupId,
    },
    /// Proposed, and then the leader or the connection to it was lost, or time ran out:
    /// the command may have been applied, may be applied later, or never.
    Unknown {
        /// Of which group.
        group: GroupId,
    },
    /// No such group on this node.
    UnknownGroup {
        /// Which one.
        group: GroupId,
    },
    /// This node's replica of the group does not run.
    Unavailable {
        /// Of which group.
        group: GroupId,
        /// What it waits for, or what stopped it.
        reason: String,
    },
    /// The payload is larger than one entry may be.
    TooLarge {
        /// Its length.
        len: u64,
        /// What is allowed.
        limit: u64,
    },
    /// The request cannot be carried out in the group's present configuration.
    Refused {
        /// Of which group.
        group: GroupId,
        /// Why.
        reason: String,
    },
    /// This node's log does not hold an entry, or does not give it back.
    NotKept {
        /// Of which group.
        group: GroupId,
        /// Which.
        index: Index,
        /// It should be there, and does not read back: other members are asked for it, so it may
        /// be there later, and be asked of them. Else it is compacted and not live, or not applied
        /// here yet.
        lost: bool,
    },
    /// The leadership did not get to the node that was to have it. The group goes on with whoever
    /// leads it, and the transfer may be asked for again.
    NotTransferred {
        /// Of which group.
        group: GroupId,
        /// Who was to lead.
        target: NodeId,
        /// Why it does not.
        why: TransferFailure,
    },
    /// The node is stopping, or stopped. Nothing was proposed.
    Stopped,
}

/// Why a leadership did not get to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransferFailure {
    /// The node did not catch up with the leader's log in time, and was not told to stand for
    /// election.
    Behind {
        /// How many entries it lacked, as far as the leader knew.
        lacks: u64,
    },
    /// The node had the whole log and was told to stand for election, and did not win one in time:
    /// it may not stand (its log is damaged, its disk hangs), was not elected, or is not connected.
    /// It may lead yet.
    NotElected,
    /// Another node was elected.
    OtherLeader {
        /// Which.
        leader: NodeId,
    },
    /// The node is no voter of the group any more.
    NoVoter,
}

impl fmt::Display for TransferFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransferFailure::Behind { lacks } => {
                write!(f, "it did not catch up in time, {lacks} entries are lacking")
            }
            TransferFailure::NotElected => {
                f.write_str("it was told to stand for election, and was not elected in time")
            }
            TransferFailure::OtherLeader { leader } => write!(f, "node {leader} leads"),
            TransferFailure::NoVoter => f.write_str("it is no voter any more"),
        }
    }
}

impl RequestError {
    /// Whether the same request may simply be sent again, because it certainly had no effect and
    /// may have one later. `Unknown` is not among them: only the caller knows whether its
    /// command may be applied twice.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            RequestError::NoLeader { .. }
                | RequestError::NotLeader { .. }
                | RequestError::Busy { .. }
                | RequestError::NoSpace
                | RequestError::Superseded { .. }
                | RequestError::NotKept { lost: true, .. }
        )
    }

    /// Which node to ask instead, where this one knows.
    #[must_use]
    pub fn leader_hint(&self) -> Option<NodeId> {
        match self {
            RequestError::NotLeader { leader, .. } => *leader,
            RequestError::NotTransferred {
                why: TransferFailure::OtherLeader { leader }, ..
            } => Some(*leader),
            _ => None,
        }
    }

    /// Whether the command may have been applied although there is no reply.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self, RequestError::Unknown { .. })
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::NoLeader { group } => write!(f, "group {group} has no known leader"),
            RequestError::NotLeader { group, leader: Some(leader) } => {
                write!(f, "this node does not lead group {group}, node {leader} does")
            }
            RequestError::NotLeader { group, leader: None } => {
                write!(f, "this node does not lead group {group}")
            }
            RequestError::Busy { used, limit } => {
                write!(f, "busy: {used} of {limit} in use")
            }
            RequestError::NoSpace => f.write_str("no space left on the device"),
            RequestError::Superseded { group } => {
                write!(f, "a new leader of group {group} replaced the proposal, it has no effect")
            }
            RequestError::Unknown { group } => {
                write!(f, "the outcome of the proposal to group {group} is unknown")
            }
            RequestError::UnknownGroup { group } => write!(f, "there is no group {group} here"),
            RequestError::Unavailable { group, reason } => {
                write!(f, "group {group} does not run on this node: {reason}")
            }
            RequestError::TooLarge { len, limit } => {
                write!(f, "the payload has {len} bytes, allowed are {limit}")
            }
            RequestError::Refused { group, reason } => {
                write!(f, "group {group} refuses: {reason}")
            }
            RequestError::NotKept { group, index, lost: true } => write!(
                f,
                "entry {index} of group {group} cannot be read here: other members are asked for it"
            ),
            RequestError::NotKept { group, index, lost: false } => {
                write!(f, "entry {index} of group {group} is not in this node's log")
            }
            RequestError::NotTransferred { group, target, why } => {
                write!(f, "the leadership of group {group} did not get to node {target}: {why}")
            }
            RequestError::Stopped => f.write_str("the node is stopping"),
        }
    }
}

impl Error for RequestError {}

/// Why a node stopped by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// It was asked to, and everything is drained and closed.
    Shutdown,
    /// A write or sync failed: nothing is acknowledged or voted any more, and the next start
    /// treats the end of the log as unproven.
    Poisoned(String),
    /// The other nodes do not take this one for what its directory says: an old copy of it, or
    /// one of two that run.
    Refused(String),
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StopReason::Shutdown => f.write_str("shut down in order"),
            StopReason::Poisoned(cause) => write!(f, "poisoned: {cause}"),
            StopReason::Refused(cause) => write!(f, "refused: {cause}"),
        }
    }
}
