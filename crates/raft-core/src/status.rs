//! What a replica knows of itself, for operators and tests.

use alloc::vec::Vec;

use refloat_types::{ConfState, EntryId, Index, IndexSet, Member, Term};

use crate::{ConfId, Rights};

/// The roles of section 5.1, with the candidate's first step (thesis, 9.6) apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Answers leaders and candidates.
    #[default]
    Follower,
    /// Asks whether it could win.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Replicates.
    Leader,
}

/// A view of one replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Status {
    /// The role.
    pub role: Role,
    /// The term, which may not be durable yet.
    pub term: Term,
    /// The vote in that term.
    pub vote: Option<Member>,
    /// The leader, if known.
    pub leader: Option<Member>,
    /// The highest commit index that was known here. Above `last` where entries were given up for
    /// want of space.
    pub commit: Index,
    /// The applied index.
    pub applied: Index,
    /// The last entry.
    pub last: EntryId,
    /// Up to where the log is durable.
    pub durable: Index,
    /// Below and at this entry the log is compacted.
    pub compacted: EntryId,
    /// The membership as of `applied`.
    pub conf: ConfState,
    /// Its name, for [`Core::propose_conf_change_if`](crate::Core::propose_conf_change_if).
    pub conf_id: ConfId,
    /// What a leader knows of its peers; empty elsewhere. Ascending.
    pub progress: Vec<PeerStatus>,
    /// To whom leadership is being handed.
    pub transfer: Option<Member>,
    /// Payload bytes proposed here and uncommitted.
    pub uncommitted_bytes: u64,
    /// Whether it leads and, at the time of its last input, would have answered a read from a lease.
    pub lease: bool,
    /// Whether it neither beats nor waits for beats, because nothing happens.
    pub quiet: bool,
    /// What the replica may do.
    pub rights: Rights,
    /// Whether the host said that the own disk does not answer.
    pub disk_hangs: bool,
    /// Entries that cannot be read here.
    pub holes: IndexSet,
    /// For whom a leader with holes waits, or waited in vain: members that neither have the
    /// lowest of them nor could say that they never had it.
    pub waits_for: Vec<Member>,
}

/// How a leader sends to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerState {
    /// One append at a time, until the logs are known to meet.
    Probe,
    /// A window of appends.
    Replicate,
    /// Needs a snapshot; nothing is appended meanwhile.
    Snapshot,
}

/// What a leader knows of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerStatus {
    /// Who.
    pub member: Member,
    /// How it is sent to.
    pub state: PeerState,
    /// Durable there.
    pub matched: Index,
    /// The next index to send.
    pub next: Index,
    /// Unanswered appends.
    pub inflight: usize,
}
