//! One running replica and everything that waits for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use refloat_log_store::{GroupBoot, GroupState, RequestId};
use refloat_raft_core::{Core, ReadId, Role, SoftState};
use refloat_types::{EntryId, GroupKey, Index, Member, NodeId, Now, Term};

use crate::api::Token;
use crate::job::SharedMachine;
use crate::machine::Query;

use super::effects::Reign;
use super::handover::HandOver;
use super::quiet::Mark;
use super::rebirth::Rebirth;
use super::rejoin::CatchUp;
use super::snapshots::Transfers;
use super::versions::Rules;

/// Where the outcome of a proposal goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// To a client of this node.
    Local(Token),
    /// To a node that forwarded it.
    Remote(NodeId, u64),
    /// A timer of a state machine, in the replica of this slot.
    Timer(usize, u64),
    /// Nobody asked.
    Nobody,
}

/// A proposal that is not in a log yet.
#[derive(Clone, Debug)]
pub(crate) struct Proposal {
    pub(crate) answer: Answer,
    pub(crate) payload: Bytes,
    pub(crate) stamp: bool,
    pub(crate) deadline: Now,
}

/// A proposal that is in this leader's log.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) id: EntryId,
    pub(crate) answer: Answer,
    pub(crate) bytes: u64,
    pub(crate) deadline: Now,
}

/// A linearizable read on its way.
pub(crate) struct PendingRead {
    pub(crate) to: Token,
    pub(crate) query: Query,
    pub(crate) deadline: Now,
}

/// Reads of one group.
#[derive(Default)]
pub(crate) struct Reads {
    /// Wait for the next read-index round.
    pub(crate) gathering: Vec<PendingRead>,
    /// Rounds asked for, and when.
    pub(crate) asked: BTreeMap<ReadId, (Now, Vec<PendingRead>)>,
    pub(crate) next_id: u64,
    /// Answered rounds: to be served once this index is applied.
    pub(crate) confirmed: VecDeque<(Index, Vec<PendingRead>)>,
    /// Served by the next job, whatever is applied.
    pub(crate) stale: Vec<PendingRead>,
}

impl Reads {
    /// Takes all that wait for the leader or for the machine.
    pub(crate) fn take_all(&mut self) -> Vec<Token> {
        let mut tokens: Vec<Token> = self.gathering.drain(..).map(|read| read.to).collect();
        tokens.extend(
            std::mem::take(&mut self.asked).into_values().flat_map(|(_, r)| r).map(|r| r.to),
        );
        tokens.extend(self.confirmed.drain(..).flat_map(|(_, r)| r).map(|r| r.to));
        tokens.extend(self.stale.drain(..).map(|read| read.to));
        tokens
    }
}

/// How far a state machine is.
pub(crate) struct Applier {
    pub(crate) machine: SharedMachine,
    /// What takes its place once a job has restored it. Only of group 0; of others the old state
    /// is dropped first, which may be large.
    pub(crate) next_machine: Option<SharedMachine>,
    /// What it said after its last job, or when it was made, if it keeps its state itself.
    pub(crate) machine_at: Option<Index>,
    /// May be applied.
    pub(crate) committed: Index,
    /// Is applied.
    pub(crate) applied: EntryId,
    /// A job has the machine.
    pub(crate) busy: bool,
    pub(crate) restoring: Restoring,
    /// What is being applied changes the membership, and may let a node go.
    pub(crate) changes_members: bool,
    /// Entries are being read from the disk.
    pub(crate) fetching: Option<RequestId>,
    /// A read of several entries failed: which of them it was shows if they are read one by one.
    pub(crate) careful: bool,
    /// The next entry could not be read, and is waited for as a hole.
    pub(crate) unreadable: bool,
    /// The ids of the entries in the running job, so that waiting proposals find their replies.
    pub(crate) batch: Vec<(EntryId, bool)>,
    /// Who asked the questions in the running job.
    pub(crate) asked: Vec<Token>,
    /// Since the last snapshot.
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

impl Applier {
    /// Whether the machine's state is as of what is applied here. One that keeps its state itself
    /// may be ahead after a restart, and a snapshot of it would bear the wrong index.
    pub(crate) fn is_in_step(&self) -> bool {
        self.machine_at.is_none_or(|at| at <= self.applied.index)
    }
}

/// Whether the machine's state is about to be replaced by a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restoring {
    No,
    /// As soon as the snapshot is published and no job has the machine.
    Wanted(EntryId),
    /// A job does it.
    Running(EntryId),
    /// It cannot be read: as soon as a member gave another one that reaches as far.
    Lost(EntryId),
}

/// What is held against a replica that runs, until it is healed.
#[derive(Clone, Debug)]
pub(crate) struct Unwell {
    pub(crate) state: GroupState,
    pub(crate) evidence: String,
}

impl Unwell {
    pub(crate) fn of_boot(boot: &GroupBoot) -> Option<Unwell> {
        let evidence = boot.waits_for.clone().unwrap_or_default();
        (boot.state != GroupState::Clean).then_some(Unwell { state: boot.state, evidence })
    }
}

/// A running replica.
pub(crate) struct Group {
    pub(crate) key: GroupKey,
    /// The replica: the node, in the directory's life or in one of its own.
    pub(crate) me: Member,
    pub(crate) core: Core,
    pub(crate) soft: SoftState,
    pub(crate) dirty: bool,
    /// When its timer is registered to fire.
    pub(crate) wake: Option<Now>,
    /// When this replica should stand for the first election of a new group.
    pub(crate) campaign_at: Option<Now>,
    /// Why it is not clean, if it is not.
    pub(crate) unwell: Option<Unwell>,
    /// It forgot what an earlier life had promised, and is no voter again yet.
    pub(crate) rebirth: Option<Rebirth>,
    /// Who said that this replica is no member any more, until a leader speaks to it.
    pub(crate) dismissed_by: Option<NodeId>,
    /// As leader: who is being brought up to date.
    pub(crate) catch_up: Vec<CatchUp>,
    /// As leader: lives of which nothing counts any more.
    pub(crate) dropped: BTreeSet<Member>,
    /// As leader: what is left to be done to the membership.
    pub(crate) taking_in: Option<String>,
    /// To be proposed this turn.
    pub(crate) proposals: Vec<Proposal>,
    /// Wait for a leader.
    pub(crate) parked: VecDeque<Proposal>,
    pub(crate) waiting: VecDeque<Waiting>,
    pub(crate) reads: Reads,
    /// Somebody waits for another node to lead.
    pub(crate) hand_over: Option<HandOver>,
    pub(crate) apply: Applier,
    pub(crate) reign: Reign,
    pub(crate) rules: Rules,
    /// How it is counted, while it is quiet.
    pub(crate) quiet: Option<Mark>,
    pub(crate) snapshots: Transfers,
    /// Large appends went out recently: small ones follow them in the bulk lane until then,
    /// or they would overtake them and be rejected.
    pub(crate) bulk_until: Now,
}

impl Group {
    pub(crate) fn is_leader(&self) -> bool {
        self.soft.role == Role::Leader
    }

    /// Another node that leads, as far as known.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.soft.leader.map(|member| member.node)
    }

    pub(crate) fn term(&self) -> Term {
        self.soft.term
    }
}
