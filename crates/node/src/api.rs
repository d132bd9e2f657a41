//! The words between a [`crate::NodeCore`] and whoever drives it.

use std::collections::BTreeMap;

use bytes::Bytes;
use refloat_types::{GroupId, GroupKey, Index, IndexSet, Member, NodeId, Now};

use crate::machine::{Command, Query};
use crate::{Job, JobDone, RequestError, StopReason};

/// The two clocks a node is told: it asks none itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// Monotonic, for timers.
    pub now: Now,
    /// Milliseconds since 1970, only for stamping proposals.
    pub wall_ms: u64,
}

/// Names a request, so that its [`Output::Reply`] finds the way back. Chosen by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Which lane of a connection a frame takes. Frames of one lane arrive in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Votes, heartbeats, acks, small appends, forwarded requests.
    Urgent,
    /// Large appends and snapshot chunks.
    Bulk,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Consistency {
    /// Sees every write that was acknowledged, anywhere, before the read began.
    Linearizable,
    /// Sees what this node has applied so far; asks nobody.
    Stale,
}

/// The answer to a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// A proposal: the index of its entry. A read: what was applied when it was answered.
    pub index: Index,
    /// What the state machine, or the query, returned.
    pub payload: Bytes,
    /// What [`Input::ReadLog`] asked for, as far as it fits into one answer; else none.
    pub commands: Vec<Command>,
}

pub use refloat_raft_core::{
    ConfChange as MemberChange, ConfId as MembershipId, ConfStep as MemberStep,
    Transition as MemberTransition,
};

/// A change of the nodes of a cluster, for all groups that it was formed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NodeChange {
    /// A new node is expected: it may [`crate::join`], and becomes a learner and then a voter of
    /// the groups that the cluster was formed with.
    Add {
        /// Which.
        node: NodeId,
        /// Whether it stays a learner.
        learner: bool,
    },
    /// A node that was added as a learner becomes a voter.
    Promote {
        /// Which.
        node: NodeId,
    },
    /// A node leaves all groups, for good.
    Remove {
        /// Which.
        node: NodeId,
    },
}

/// What happens to a node.
pub enum Input {
    /// Time passed.
    Tick,
    /// A connection to or from this node stands. May be repeated.
    PeerUp(Member),
    /// No connection with this life of a node is left.
    PeerDown(Member),
    /// A node refused a connection of this one, or is not who it should be.
    PeerRefused {
        /// Which.
        node: NodeId,
        /// Why, in a sentence.
        reason: String,
        /// Whether it says that the cluster went on without this node.
        superseded: bool,
    },
    /// A frame arrived that the other side sent by [`Output::Send`].
    Frame {
        /// Who sent it, as its handshake says.
        from: Member,
        /// Its content.
        bytes: Bytes,
    },
    /// A command for a state machine.
    Propose {
        /// Comes back in the reply.
        to: Token,
        /// For which group.
        group: GroupId,
        /// The command.
        payload: Bytes,
        /// Whether the leader puts its wall clock in front (see [`crate::split_stamp`]).
        stamp: bool,
        /// Whether a node that does not lead passes it on, instead of answering `NotLeader`.
        forward: bool,
    },
    /// A question to a state machine.
    Read {
        /// Comes back in the reply.
        to: Token,
        /// Of which group.
        group: GroupId,
        /// How fresh.
        consistency: Consistency,
        /// Asked on an apply thread.
        query: Query,
    },
    /// Creates a data group; fine if it exists.
    CreateGroup {
        /// Comes back in the reply, once the creation is committed and applied here.
        to: Token,
        /// Which one.
        group: GroupId,
        /// Its voters, all known to group 0; empty means all voters of group 0.
        members: Vec<NodeId>,
    },
    /// Deletes a data group and its data.
    DeleteGroup {
        /// Comes back in the reply.
        to: Token,
        /// Which one.
        group: GroupId,
    },
    /// Changes a group's members; only at its leader.
    ChangeMembers {
        /// Comes back in the reply, once the change is proposed.
        to: Token,
        /// Of which group.
        group: GroupId,
        /// How.
        change: MemberChange,
        /// Only if the membership still is this one.
        expected: Option<MembershipId>,
    },
    /// Changes which nodes belong to the cluster; on any node. The groups follow by themselves.
    ChangeNodes {
        /// Comes back in the reply, once the change is committed and applied here.
        to: Token,
        /// How.
        change: NodeChange,
    },
    /// Hands the leadership of a group to another node; only at its leader.
    Transfer {
        /// Comes back in the reply, once the other node leads, as far as heard here, or within two
        /// election timeouts with [`RequestError::NotTransferred`].
        to: Token,
        /// Of which group.
        group: GroupId,
        /// To whom.
        target: NodeId,
    },
    /// A follower takes its leader for gone, so that it helps to elect another at once. Does
    /// nothing where [`crate::Config::lease_drift`] is set, and at a leader.
    ForgetLeader {
        /// Comes back in the reply.
        to: Token,
        /// Of which group.
        group: GroupId,
    },
    /// Takes a snapshot of a group's state machine now.
    Snapshot {
        /// Comes back in the reply, once the snapshot is durable.
        to: Token,
        /// Of which group.
        group: GroupId,
    },
    /// Reads applied commands back from this node's log: those that are not compacted, and those
    /// that are [live](crate::StateMachine::live_indexes).
    ReadLog {
        /// Comes back in the reply: the lowest ones, [`crate::Config::max_append_bytes`] at most
        /// but one in any case, where there is one.
        to: Token,
        /// Of which group.
        group: GroupId,
        /// Which; those that hold no command are left out of the answer.
        indexes: IndexSet,
    },
    /// A job ran.
    Done(JobDone),
    /// Stop in order: hand leaderships over, finish what is in flight, close the log.
    Shutdown,
}

/// What a node wants done.
pub enum Output {
    /// Send a frame; may be lost, never corrupted.
    Send {
        /// To whom.
        to: NodeId,
        /// On which lane.
        lane: Lane,
        /// What.
        bytes: Bytes,
    },
    /// Run a job, at any time and on any thread, and give its result back by [`Input::Done`].
    Job(Job),
    /// A request is answered. Each token is answered exactly once.
    Reply {
        /// Which request.
        to: Token,
        /// How it ended.
        result: Result<Reply, RequestError>,
    },
    /// Where the nodes of the cluster are, by id; replaces what was told before.
    Places {
        /// The addresses, this node's included.
        peers: BTreeMap<NodeId, String>,
        /// To be answered to whoever asks at the peer port (see [`crate::Card`]).
        card: Bytes,
    },
    /// A state machine's [`Effect::Notice`](crate::Effect::Notice), at the replica that leads.
    Notice {
        /// Whose.
        group: GroupKey,
        /// What.
        payload: Bytes,
    },
    /// The node is over; nothing comes out of it any more.
    Stop(StopReason),
}
