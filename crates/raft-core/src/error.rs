//! Refusals, by what the caller can do about them.

use core::fmt;

use crate::{ConfChange, ConfId};
use refloat_types::{GroupKey, Index, Member, NodeId};

/// Why a message was not taken. Nothing but its higher term, and that its leader lives, was.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepError {
    /// It was meant for another group, epoch, node or life. The host answers `NotMe`.
    NotMe {
        /// The group that this replica belongs to.
        group: GroupKey,
        /// This replica.
        me: Member,
    },
    /// It breaks a rule that every sound sender keeps.
    Malformed {
        /// Who sent it.
        from: Member,
        /// Which rule.
        rule: &'static str,
    },
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepError::NotMe { group, me } => {
                write!(f, "step message: not meant for group {group} at {me}")
            }
            StepError::Malformed { from, rule } => write!(f, "step message of {from}: {rule}"),
        }
    }
}

impl core::error::Error for StepError {}

/// Why nothing was proposed. The log is as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProposeError {
    /// This replica does not lead.
    NotLeader {
        /// Who does, if known.
        leader: Option<Member>,
    },
    /// Leadership is being handed over, or this leader is no voter any more. Ask the next leader.
    Dropped,
    /// Too much is proposed and uncommitted. Try again when some of it is committed.
    Busy {
        /// Payload bytes proposed and uncommitted.
        uncommitted: u64,
        /// The limit.
        limit: u64,
    },
    /// There was nothing to propose.
    Empty,
    /// This replica leads, but its log has holes: nothing is appended before they are resolved.
    Healing {
        /// The lowest hole.
        hole: Index,
    },
    /// The change does not fit the membership.
    ConfChange(ConfChangeError),
    /// A change must wait until this index is applied: the first entry of the leader's own term,
    /// or the previous change (thesis, 4.1, and the erratum to it).
    ConfChangeTooEarly {
        /// What must be applied first.
        until: Index,
    },
}

impl ProposeError {
    /// Whether the same proposal may succeed later at this replica.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            ProposeError::ConfChange(ConfChangeError::NotCaughtUp { .. })
                | ProposeError::Busy { .. }
                | ProposeError::ConfChangeTooEarly { .. }
                | ProposeError::Healing { .. }
        )
    }

    /// Whom to ask instead, if known.
    #[must_use]
    pub fn leader_hint(&self) -> Option<Member> {
        match self {
            ProposeError::NotLeader { leader } => *leader,
            _ => None,
        }
    }
}

impl fmt::Display for ProposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProposeError::NotLeader { leader: Some(m) } => write!(f, "propose: {m} leads"),
            ProposeError::NotLeader { leader: None } => f.write_str("propose: no leader known"),
            ProposeError::Dropped => f.write_str("propose: leadership is being handed over"),
            ProposeError::Busy { uncommitted, limit } => {
                write!(f, "propose: {uncommitted} uncommitted bytes of {limit} allowed")
            }
            ProposeError::Healing { hole } => {
                write!(f, "propose: entry {hole} is missing here and must be healed first")
            }
            ProposeError::Empty => f.write_str("propose: no command given"),
            ProposeError::ConfChange(_) => f.write_str("propose membership change: refused"),
            ProposeError::ConfChangeTooEarly { until } => {
                write!(f, "propose membership change: entry {until} must be applied first")
            }
        }
    }
}

impl core::error::Error for ProposeError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            ProposeError::ConfChange(cause) => Some(cause),
            _ => None,
        }
    }
}

/// Why a change does not fit a membership.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfChangeError {
    /// The record of a recovery is written into a log at rest, and never proposed.
    NotProposed,
    /// The node id already belongs to this member, maybe in another life.
    NodeIdInUse(Member),
    /// This identity is no member.
    NotMember(Member),
    /// Only a learner can be promoted.
    NotLearner(Member),
    /// Only a voter can be demoted.
    NotVoter(Member),
    /// A group cannot lose its last voter.
    NoVoters,
    /// A joint membership must be left first.
    Joint,
    /// There is no joint membership to leave.
    NotJoint,
    /// No steps, or too many.
    Steps(usize),
    /// The membership is not the one that was expected.
    Stale {
        /// What the proposer looked at.
        expected: ConfId,
        /// What it is.
        found: ConfId,
    },
    /// The learner does not hold enough of the log to become a voter.
    NotCaughtUp {
        /// Who.
        learner: Member,
        /// What it holds durably.
        matched: Index,
        /// What it must hold.
        required: Index,
    },
}

impl fmt::Display for ConfChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfChangeError::NotProposed => {
                f.write_str("the record of a recovery is never proposed")
            }
            ConfChangeError::NodeIdInUse(m) => write!(f, "{m} is a member already"),
            ConfChangeError::NotMember(m) => write!(f, "{m} is no member"),
            ConfChangeError::NotLearner(m) => write!(f, "{m} is no learner"),
            ConfChangeError::NotVoter(m) => write!(f, "{m} is no voter"),
            ConfChangeError::NoVoters => f.write_str("no voter would be left"),
            ConfChangeError::NotJoint => f.write_str("the membership is not joint"),
            ConfChangeError::Steps(count) => {
                write!(f, "{count} steps in one change, 1 to {} allowed", ConfChange::MAX_STEPS)
            }
            ConfChangeError::Stale { expected, found } => {
                write!(f, "membership {:016x} expected, found {:016x}", expected.0, found.0)
            }
            ConfChangeError::NotCaughtUp { learner, matched, required } => {
                write!(f, "{learner} holds entries up to {matched}, {required} required")
            }
            ConfChangeError::Joint => f.write_str("the joint membership must be left first"),
        }
    }
}

impl core::error::Error for ConfChangeError {}

/// Why a read was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError {
    /// Neither leader nor knowing one. Ask again after the next election.
    NoLeader,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("read index: no leader known")
    }
}

impl core::error::Error for ReadError {}

/// Why leadership is not handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransferError {
    /// This replica does not lead.
    NotLeader {
        /// Who does, if known.
        leader: Option<Member>,
    },
    /// The target leads already.
    IsLeader,
    /// The target is no voter.
    NotVoter(NodeId),
    /// Another hand-over, to this member, is under way.
    InProgress(Member),
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransferError::NotLeader { leader: Some(m) } => write!(f, "transfer leader: {m} leads"),
            TransferError::NotLeader { leader: None } => {
                f.write_str("transfer leader: no leader known")
            }
            TransferError::IsLeader => f.write_str("transfer leader: the target leads already"),
            TransferError::NotVoter(node) => {
                write!(f, "transfer leader: node {node} is no voter")
            }
            TransferError::InProgress(m) => write!(f, "transfer leader: under way to {m}"),
        }
    }
}

impl core::error::Error for TransferError {}

/// What became of a received snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SnapshotOutcome {
    /// It is installed: the next [`Ready`](crate::Ready) carries `install`.
    Install,
    /// This replica has committed as much already; the file may go.
    Obsolete,
}

/// Why a received snapshot is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SnapshotError {
    /// A membership without voters, or an index or term that cannot be.
    Malformed(&'static str),
    /// This replica leads; what it lacks cannot be committed.
    Leader,
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::Malformed(what) => write!(f, "install snapshot: {what}"),
            SnapshotError::Leader => f.write_str("install snapshot: this replica leads"),
        }
    }
}

impl core::error::Error for SnapshotError {}
