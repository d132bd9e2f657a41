//! Elections: pre-vote (thesis, 9.6), votes (sections 5.2 and 5.4.1), leases of voters (thesis,
//! 4.2.3).

use alloc::borrow::Cow;
use alloc::vec::Vec;

use refloat_planted::{Defect, is};
use refloat_types::{ConfState, EntryId, Member, Now, Term};

use crate::leader::Leading;
use crate::quorum::{VoteResult, vote_result};
use crate::{Body, Core, Role};

impl Core {
    /// Campaigns now, with a pre-vote if that is set, as if the election timeout had passed.
    /// Does nothing if this replica may not campaign, or leads.
    pub fn campaign(&mut self, now: Now) {
        self.advance(now);
        if self.role != Role::Leader {
            self.wake_up();
            self.start_campaign();
        }
    }

    /// The group's leader told the host that this replica is no member any more. It campaigns no
    /// more, which nobody would follow, until a leader speaks to it: then it was added again.
    pub fn stand_back(&mut self, now: Now) {
        self.advance(now);
        self.dismissed = true;
        if matches!(self.role, Role::PreCandidate | Role::Candidate) {
            self.become_follower(self.term(), None);
        }
    }

    /// Whether it does, and no leader was heard since.
    #[must_use]
    pub fn stands_back(&self) -> bool {
        self.dismissed && self.role == Role::Follower
    }

    /// Whether this replica may ask for votes: it has the right to, it belongs to the electorate
    /// with its present life, no change of the membership is committed and unapplied, and the state
    /// that it would lead with is there.
    pub(crate) fn may_campaign(&self) -> bool {
        let change = self.log.configs().first().is_some_and(|(at, _)| *at <= self.commit);
        self.may_vote()
            && !self.dismissed
            && self.rights.may_campaign
            && !change
            && self.lost.is_none()
            && self.holes_allow_campaign()
            && self.electorate().is_voter(self.config.me)
    }

    /// Whether this replica may promise anything to candidates: it has the right to, and a disk
    /// that takes a promise down.
    pub(crate) fn may_vote(&self) -> bool {
        self.rights.may_vote && !self.disk_hangs
    }

    /// Whose votes count. The membership as applied; but a replica that is no voter there, and
    /// whose log says that it became one, uses the log's. It may be the only one with the newest
    /// log, and a majority of before and after the one unapplied change always meets that of the
    /// other (thesis, 4.1). Conversely a voter whose log says that it is removed goes on until
    /// the removal is applied: it may be needed to commit it (thesis, 4.2.2).
    pub(crate) fn electorate(&self) -> Cow<'_, ConfState> {
        match self.log.configs() {
            [(_, change), ..] if !self.conf.is_voter(self.config.me) => {
                change.apply(&self.conf).map_or(Cow::Borrowed(&self.conf), Cow::Owned)
            }
            _ => Cow::Borrowed(&self.conf),
        }
    }

    /// Whether a leader was heard so recently that no other can be wanted, or may be elected.
    pub(crate) fn in_lease(&self) -> bool {
        self.has_promised()
            || self.config.check_quorum
                && self.leader.is_some()
                && (self.role == Role::Leader
                    || self.now.since(self.leader_heard_at) < self.config.election_timeout)
    }

    /// With leases on, a replica votes for nobody for an election timeout after it heard a leader,
    /// whatever it heard since, or after its start, since it does not know what it promised before.
    fn has_promised(&self) -> bool {
        self.config.lease_drift.is_some()
            && self.now.since(self.leader_heard_at) < self.config.election_timeout
    }

    pub(crate) fn reset_election_timer(&mut self) {
        let timeout = self.config.election_timeout;
        let wait = timeout.saturating_mul(u64::from(self.config.rank) + 1);
        self.election_at =
            self.now.after(wait.saturating_add(self.rng.below(timeout, self.term(), self.now)));
    }

    /// Forgets the leader, so that this follower can help to elect another at once: the host
    /// knows that it is gone. Does nothing where leases are on, and elsewhere than at a follower.
    pub fn forget_leader(&mut self, now: Now) {
        self.advance(now);
        if self.role == Role::Follower && self.config.lease_drift.is_none() {
            self.wake_up();
            self.set_leader(None);
        }
    }

    pub(crate) fn election_timeout(&mut self) {
        self.postpone_campaign_for_holes();
        self.start_campaign();
        if !self.may_campaign() && self.leader.is_some() {
            self.become_follower(self.term(), None);
        }
    }

    fn start_campaign(&mut self) {
        self.reset_election_timer();
        if !self.may_campaign() || self.has_promised() {
            return;
        }
        if self.config.pre_vote {
            self.become_pre_candidate()
        } else {
            self.become_candidate(false)
        }
    }

    pub(crate) fn become_follower(&mut self, term: Term, leader: Option<Member>) {
        if term > self.term() {
            self.enter_term(term, None);
        }
        self.fail_led_reads();
        self.quiet = false;
        self.role = Role::Follower;
        self.leading = Leading::default();
        self.votes = Vec::new();
        self.set_leader(leader);
        self.reset_election_timer();
    }

    pub(crate) fn set_leader(&mut self, leader: Option<Member>) {
        if self.leader != leader {
            self.fail_reads();
            self.space.forget_leader();
            self.leader = leader;
        }
    }

    fn become_pre_candidate(&mut self) {
        self.become_follower(self.term(), None);
        self.role = Role::PreCandidate;
        self.votes.push((self.config.me, true));
        let (campaign, last) = (self.term().next(), self.log.last());
        self.ask_voters(&Body::PreVote { campaign, last });
        self.count_pre_votes();
    }

    /// The request is held back, and the own vote not counted, until term and vote are durable.
    pub(crate) fn become_candidate(&mut self, transfer: bool) {
        self.become_follower(self.term(), None);
        self.enter_term(self.term().next(), Some(self.config.me));
        self.role = Role::Candidate;
        let last = self.log.last();
        self.ask_voters(&Body::Vote { last, transfer });
    }

    fn ask_voters(&mut self, body: &Body) {
        let me = self.config.me;
        let electorate = self.electorate().into_owned();
        for voter in electorate.iter().filter(|m| *m != me && electorate.is_voter(*m)) {
            self.send(voter, body.clone());
        }
    }

    pub(crate) fn count_own_vote(&mut self) {
        let me = self.config.me;
        self.on_vote_resp(me, true);
    }

    /// Answered in every role. Changes no term, no vote and no timer.
    pub(crate) fn on_pre_vote(&mut self, from: Member, campaign: Term, last: EntryId) {
        if self.role == Role::Leader {
            self.send_at_once(from);
        }
        if !self.may_vote() {
            return;
        }
        let led = self.in_lease() && !is(Defect::PreVoteAgainstLeader);
        let granted = campaign > self.term() && last >= self.log.last() && !led;
        self.send(from, Body::PreVoteResp { campaign, granted });
    }

    pub(crate) fn on_pre_vote_resp(&mut self, from: Member, campaign: Term, granted: bool) {
        if self.role != Role::PreCandidate || campaign != self.term().next() {
            return;
        }
        self.record_vote(from, granted);
        self.count_pre_votes();
    }

    fn count_pre_votes(&mut self) {
        match self.tally() {
            VoteResult::Won => self.become_candidate(false),
            VoteResult::Lost => self.become_follower(self.term(), None),
            VoteResult::Pending => {}
        }
    }

    /// Section 5.4.1. The answer is held back until the vote is durable.
    pub(crate) fn on_vote(&mut self, from: Member, last: EntryId, transfer: bool) {
        if !self.may_vote() {
            return;
        }
        let vote = self.hard.now.vote;
        let free = vote == Some(from) || (vote.is_none() && self.leader.is_none());
        let free = free && (transfer || !self.has_promised());
        let granted = free && last >= self.log.last();
        if granted {
            self.hard.now.vote = Some(from);
            self.reset_election_timer();
        }
        self.send(from, Body::VoteResp { granted });
    }

    pub(crate) fn on_vote_resp(&mut self, from: Member, granted: bool) {
        if self.role != Role::Candidate {
            return;
        }
        self.record_vote(from, granted);
        match self.tally() {
            // Who was asked nothing yet has nothing to answer, but who lies may.
            VoteResult::Won if self.hard.is_durable() => self.become_leader(),
            VoteResult::Lost => self.become_follower(self.term(), None),
            VoteResult::Won | VoteResult::Pending => {}
        }
    }

    /// The first answer of each identity stands.
    fn record_vote(&mut self, from: Member, granted: bool) {
        if self.electorate().is_voter(from) && !self.votes.iter().any(|(m, _)| *m == from) {
            self.votes.push((from, granted));
        }
    }

    fn tally(&self) -> VoteResult {
        let answer = |m| self.votes.iter().find(|(v, _)| *v == m).map(|(_, yes)| *yes);
        vote_result(&self.electorate(), answer)
    }
}
