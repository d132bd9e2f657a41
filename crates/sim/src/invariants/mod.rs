//! What must hold, one file each, tagged with the paper's name where it has one.

mod bounded_memory;
mod durable_acks;
mod durable_writes;
mod election_safety;
mod exactly_once;
mod group_isolation;
mod leader_append_only;
mod leader_completeness;
pub(crate) mod linearizability;
pub(crate) mod live_entries;
mod log_matching;
mod monotone_pointers;
mod no_amnesia_vote;
mod no_false_ack;
mod no_false_refusal;
pub(crate) mod recovery_idempotent;
pub(crate) mod state_machine_safety;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use refloat_log_store::{BootReport, GroupState};
use refloat_node::{Counters, GroupStatus, NodeCore, Reply, RequestError};
use refloat_raft_core::{Body, Message};
use refloat_types::{GroupId, GroupKey};

use crate::trace::hash;
use linearizability::Floors;
use state_machine_safety::Applied;

/// `Err` holds the evidence.
pub(crate) type Check = Result<(), String>;

pub(crate) const LIVENESS: &str = "liveness after heal";
pub(crate) const NO_PANIC: &str = "no panic";
pub(crate) const NO_SURPRISE_STOP: &str = "no stop without a cause";
/// No undetected damage: what is gone from a damaged disk is never called proven.
pub(crate) const UNDETECTED: &str = "no undetected damage";
/// Linearizability, black-box: some order of what clients asked explains what they were told.
pub(crate) const BLACK_BOX: &str = "linearizability of the clients' history";
/// An old copy of a directory, of which all others know a later run, is refused.
pub(crate) const OLD_COPY: &str = "old copies are refused";
/// A node does not start on another one's directory, and leaves it as it was.
pub(crate) const NO_FOREIGN: &str = "foreign directories are left alone";
/// Who was left behind by a recovery of the cluster hears of it, and leads nothing.
pub(crate) const SUPERSEDED: &str = "who is left behind is superseded";
/// Effects are the leader's alone.
pub(crate) const LEADER_ALONE: &str = "effects of the leader alone";
pub(crate) const ANSWERS: &str = "every request is answered once";

/// Everything that is checked, and how often it was.
#[derive(Default)]
pub(crate) struct Invariants {
    election_safety: election_safety::ElectionSafety,
    append_only: leader_append_only::LeaderAppendOnly,
    log: log_matching::LogMatching,
    completeness: leader_completeness::LeaderCompleteness,
    votes: no_amnesia_vote::NoAmnesiaVote,
    acks: durable_acks::DurableAcks,
    pointers: monotone_pointers::MonotonePointers,
    reads: linearizability::Linearizability,
    writes: durable_writes::DurableWrites,
    pub(crate) applied: Arc<Mutex<Applied>>,
    /// Groups that somebody asked to delete.
    pub(crate) deletable: BTreeSet<GroupId>,
    pub(crate) evaluated: BTreeMap<&'static str, u64>,
    /// The first that did not hold.
    pub(crate) broken: Option<(&'static str, String)>,
}

impl Invariants {
    pub(crate) fn note(&mut self, name: &'static str, check: Check) {
        *self.evaluated.entry(name).or_default() += 1;
        if let Err(evidence) = check {
            self.broken.get_or_insert((name, evidence));
        }
    }

    /// A message leaves a node: whatever it promises must be true from now on.
    pub(crate) fn on_message(&mut self, message: &Message) {
        let (group, term, from) = (message.group, message.term.0, message.from.node.0);
        let life = message.from;
        self.votes.sent(group, life, term);
        match &message.body {
            Body::Append(append) => {
                self.on_leader(group, term, from, append.commit.0);
                let check = self.log.append(group, append);
                self.note(log_matching::NAME, check);
                let check = self.append_only.append(group, term, append);
                self.note(leader_append_only::NAME, check);
                let check = self.completeness.append(group, term, append);
                self.note(leader_completeness::NAME, check);
            }
            Body::Heartbeat { commit, .. } => self.on_leader(group, term, from, commit.0),
            Body::Vote { last, .. } => {
                self.completeness.candidate(group, term, from, *last);
                let check = self.votes.vote(group, life, term, life);
                self.note(no_amnesia_vote::NAME, check);
            }
            Body::VoteResp { granted: true } => {
                let check = self.votes.vote(group, life, term, message.to);
                self.note(no_amnesia_vote::NAME, check);
            }
            Body::AppendResp { matched } => self.acks.ack(group, life, term, matched.index.0),
            _ => {}
        }
    }

    fn on_leader(&mut self, group: GroupKey, term: u64, node: u64, commit: u64) {
        let check = self.election_safety.leader(group, term, node);
        self.note(election_safety::NAME, check);
        let check = self.completeness.leader(group, term, node);
        self.note(leader_completeness::NAME, check);
        let check = self.completeness.commit(group, term, commit, &self.append_only, &self.log);
        self.note(leader_completeness::NAME, check);
    }

    /// A node has turned.
    pub(crate) fn on_turn(&mut self, node: u64, boot: u64, groups: &[GroupStatus]) {
        for status in groups {
            if status.role == "leader" {
                let key = key(status.group, status.epoch);
                let check = self.election_safety.leader(key, status.term, node);
                self.note(election_safety::NAME, check);
            }
            let check = self.pointers.look(node, boot, status);
            self.note(monotone_pointers::NAME, check);
        }
        let mut applied = self.applied.lock();
        let steps = std::mem::take(&mut applied.steps);
        let requests = std::mem::take(&mut applied.once.evaluated);
        let fault = applied.fault.take();
        drop(applied);
        *self.evaluated.entry(state_machine_safety::NAME).or_default() += steps;
        *self.evaluated.entry(exactly_once::NAME).or_default() += requests;
        if let Some((name, evidence)) = fault {
            self.note(name, Err(evidence));
        }
    }

    pub(crate) fn on_counters(&mut self, node: u64, counters: &Counters, limits: [u64; 2]) {
        self.note(bounded_memory::NAME, bounded_memory::check(node, counters, limits));
    }

    /// A node has read its disk; `hurt` if synced data went bad there, `failed` if the process
    /// before ended over a write or a sync that failed.
    pub(crate) fn on_boot(
        &mut self,
        core: &NodeCore,
        report: &BootReport,
        (hurt, failed): (bool, bool),
    ) {
        let node = core.member();
        if !hurt {
            self.note(no_false_refusal::NAME, no_false_refusal::check(report));
        }
        for line in &report.groups {
            let group = key(line.group, line.epoch);
            // A new life owes nothing of what the one before it promised.
            let life = core.replica(group).unwrap_or(node);
            // What a replica says that it cannot prove is not held against it.
            if line.state != GroupState::Amnesia {
                let check = self.votes.boot(group, life, line.term, line.vote);
                self.note(if hurt { UNDETECTED } else { no_amnesia_vote::NAME }, check);
            }
            if matches!(line.state, GroupState::Clean | GroupState::Damaged) {
                let check =
                    self.acks.boot(group, life, line.last, &self.completeness, &self.append_only);
                if failed {
                    self.note(no_false_ack::NAME, check.clone());
                }
                self.note(if hurt { UNDETECTED } else { durable_acks::NAME }, check);
            }
        }
        let present: Vec<GroupKey> = report.groups.iter().map(|l| key(l.group, l.epoch)).collect();
        let deleted = |group: GroupKey| self.deletable.contains(&group.id);
        let check = self.acks.all_present(node, &present, &deleted, &self.completeness);
        self.note(if hurt { UNDETECTED } else { durable_acks::NAME }, check);
    }

    /// The floors that a request which begins now must reach.
    pub(crate) fn floors(&self, group: GroupId) -> Floors {
        self.reads.floors(group)
    }

    pub(crate) fn on_write(
        &mut self,
        floors: &Floors,
        (request, asked): (u64, GroupId),
        command: &[u8],
        reply: &Reply,
    ) {
        let place = self.applied.lock().place_of(request);
        let Some((group, _)) = place else {
            let text = format!("request {request} was acknowledged before anybody applied it");
            return self.note(durable_writes::NAME, Err(text));
        };
        self.note(group_isolation::NAME, group_isolation::check(request, asked, group));
        let floor = floors.get(&group).copied().unwrap_or_default();
        let check = self.reads.written(group, floor, reply.index.0);
        self.note(linearizability::NAME, check);
        let step = self.applied.lock().step(group, reply.index.0);
        let check = self.writes.acknowledged(group, reply.index.0, request, hash(command), step);
        self.note(durable_writes::NAME, check);
        let wrong = step.is_some_and(|step| step.reply != hash(&reply.payload));
        let text = || format!("the reply of request {request} is not what was applied");
        self.note(durable_writes::NAME, if wrong { Err(text()) } else { Ok(()) });
    }

    pub(crate) fn on_read(&mut self, group: GroupKey, floors: &Floors, reply: &Reply) {
        let floor = floors.get(&group).copied().unwrap_or_default();
        let check = self.reads.answered(group, floor, reply.index.0);
        self.note(linearizability::NAME, check);
    }

    /// A request ended with an error that promises something.
    pub(crate) fn on_refusal(&mut self, request: u64, error: &RequestError) {
        if !error.is_unknown() {
            self.writes.refused(request, error.to_string());
        }
    }

    /// The cluster is healed and quiet: everything acknowledged must be in the common history.
    pub(crate) fn at_end(&mut self) {
        let applied = Arc::clone(&self.applied);
        let check = self.writes.at_end(&applied.lock());
        self.note(durable_writes::NAME, check);
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.writes.count()
    }

    pub(crate) fn reads(&self) -> u64 {
        self.reads.count
    }
}

fn key(group: u64, epoch: u64) -> GroupKey {
    GroupKey { id: GroupId(group), epoch: refloat_types::Epoch(epoch) }
}
