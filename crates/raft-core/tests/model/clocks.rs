//! Clocks, and what stands on them: pre-votes, leases, reads.

use crate::common::E;
use crate::world::{Replica, Shared, World};
use refloat_raft_core::*;
use refloat_types::*;

/// By how much less any two clocks drift apart within an election timeout.
pub const DRIFT: u64 = E / 4;
/// What a half of an election timeout is on the fastest clock, and on the slowest.
const FAST: u64 = E / 2;
const SLOW: u64 = (E - DRIFT) / 2 + 1;

/// What stands between a campaign and votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Voting {
    Plain,
    /// Candidates ask first, and who hears a leader wants no other.
    PreVote,
    /// Voters promise an election timeout to the leader that they hear.
    Leases,
}

impl Replica {
    /// Whether it leads, or heard the leader of its term less than an election timeout ago.
    fn is_led(&self) -> bool {
        let recent = |(term, at): (Term, Now)| {
            term == self.core.term() && self.clock.since(at) < E && self.core.leader().is_some()
        };
        let leads = self.core.role() == Role::Leader;
        self.voting != Voting::Plain && (leads || self.heard.is_some_and(recent))
    }

    fn hard(&self) -> (Term, Option<Member>) {
        let status = self.core.status();
        (status.term, status.vote)
    }
}

impl World {
    /// Half an election timeout passes, on one clock as slowly as is declared.
    pub fn pass(&mut self, slow: Option<usize>) {
        for n in 0..self.replicas.len() {
            self.set_clock(n, |clock| clock.after(if slow == Some(n) { SLOW } else { FAST }));
        }
    }

    /// A whole one passes, and one clock is set back by as much.
    pub fn fall(&mut self, n: usize) {
        (0..2).for_each(|_| self.pass(None));
        self.set_clock(n, |clock| Now(clock.0 - 2 * E));
    }

    pub fn set_clock(&mut self, n: usize, set: impl FnOnce(Now) -> Now) {
        let mut replica = (*self.replicas[n]).clone();
        replica.clock = set(replica.clock);
        self.replicas[n] = Shared::new(replica);
    }

    /// Up to where a read that begins now must see, which is also its name.
    pub fn must_see(&self) -> ReadId {
        ReadId(self.committed.last_key_value().map_or(0, |(at, _)| at.0))
    }

    /// A read does not miss what was committed before it began.
    pub fn check_reads(&mut self, replica: &mut Replica, ready: &Ready) {
        for read in &ready.reads {
            replica.past.reads += 1;
            if read.index.0 < read.id.0 && self.clocks_lie {
                self.stale = true;
            } else if read.index.0 < read.id.0 {
                self.break_rule("a read misses what was committed before it began");
            }
        }
    }

    /// Nobody would vote against a leader that it hears.
    pub fn check_pre_vote(&mut self, message: &Message, replica: &Replica) {
        let Body::PreVoteResp { campaign, granted: true } = message.body else { return };
        self.pre_votes.insert((campaign, message.from, message.to));
        if replica.is_led() {
            self.break_rule("a pre-vote against a leader that is heard");
        }
    }

    /// Who asks first begins a term only when a majority would vote for it.
    pub fn check_candidate(&mut self, replica: &Replica, ready: &Ready) {
        let Some(soft) = ready.soft.filter(|soft| soft.role == Role::Candidate) else { return };
        let me = replica.me;
        let would = |m: Member| m == me || self.pre_votes.contains(&(soft.term, m, me));
        if replica.voting == Voting::PreVote && !quorum::has_quorum(replica.core.conf(), would) {
            self.break_rule("a term without a majority that would vote for it");
        }
    }

    /// What a question of a candidate does to one that hears a leader, or to anybody: nothing.
    pub fn check_question(&mut self, before: &Replica, n: usize, message: &Message) {
        let may_change = match message.body {
            Body::PreVote { .. } => false,
            Body::Vote { transfer, .. } => transfer || !before.is_led(),
            _ => true,
        };
        if !may_change && self.replicas[n].hard() != before.hard() {
            self.break_rule("a question that changes a term or a vote");
        }
    }
}

/// Notes that the leader of the term was heard.
pub fn note_leader(replica: &mut Replica, from: Member, body: &Body) {
    let beats = matches!(body, Body::Append(_) | Body::Heartbeat { .. });
    if beats && replica.voting != Voting::Plain && replica.core.leader() == Some(from) {
        replica.heard = Some((replica.core.term(), replica.clock));
    }
}
