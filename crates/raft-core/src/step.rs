//! Messages: what is believed of them, and who handles which.

use core::cmp::Ordering;

use refloat_planted::{Defect, is};
use refloat_types::{Entry, EntryKind, Index, Member, Now, Term};

use crate::{Append, Body, ConfChange, Core, HoleRange, Message, Role, StepError};

/// Above this no honest term, index or count will ever be; below it sums cannot overflow.
pub(crate) const LIMIT: u64 = 1 << 62;

impl Core {
    /// Takes a message of a peer.
    ///
    /// It is never refused because this replica's membership, which may be old, does not know
    /// the sender; whether the sender's answer counts is decided where it is counted.
    ///
    /// # Errors
    /// It is not meant for this replica, or no sound sender would have sent it.
    pub fn step(&mut self, now: Now, message: Message) -> Result<(), StepError> {
        let message = if is(Defect::LivesConfused) { self.confuse_lives(message) } else { message };
        self.check_receiver(&message)?;
        check_form(&message)?;
        self.check_leader(&message)?;
        self.advance(now);
        if self.quiet && !matches!(message.body, Body::Quiet { .. }) {
            self.wake_up();
        }
        match message.term.cmp(&self.term()) {
            Ordering::Less => return self.step_old(message),
            Ordering::Greater if !self.take_term(&message) => return Ok(()),
            _ => {}
        }
        self.dispatch(message)
    }

    /// As if a node were one member for ever. Only for [`Defect::LivesConfused`].
    fn confuse_lives(&self, mut message: Message) -> Message {
        let me = self.config.me;
        if message.to.node == me.node {
            message.to = me;
        }
        if let Some(known) = self.electorate().iter().find(|m| m.node == message.from.node) {
            message.from = known;
        }
        message
    }

    fn check_receiver(&self, message: &Message) -> Result<(), StepError> {
        if message.to == self.config.me && message.group == self.config.group {
            return Ok(());
        }
        Err(StepError::NotMe { group: self.config.group, me: self.config.me })
    }

    /// A term has one leader (section 5.2), and it never speaks to itself.
    fn check_leader(&self, m: &Message) -> Result<(), StepError> {
        if m.from == self.config.me {
            return Err(malformed(m, "sent by this replica itself"));
        }
        if m.term != self.term() || !is_leaders(&m.body) {
            return Ok(());
        }
        if self.leader.is_some_and(|leader| leader != m.from) {
            return Err(malformed(m, "two leaders in one term"));
        }
        Ok(())
    }

    /// Follows a higher term. `false` if the message is to be ignored instead.
    fn take_term(&mut self, message: &Message) -> bool {
        match message.body {
            Body::PreVote { .. } if is(Defect::PreVoteTakesTerm) => {}
            Body::PreVote { .. } | Body::HoleAsk { .. } | Body::SnapshotAsk { .. } => return true,
            Body::Vote { transfer, .. } if self.in_lease() && !transfer => return false,
            _ => {}
        }
        let leader = is_leaders(&message.body).then_some(message.from);
        self.become_follower(message.term, leader);
        true
    }

    /// A message of an old term: its sender learns the term if that helps it; a pre-vote is
    /// answered as any other, so that a stuck replica can come back.
    fn step_old(&mut self, message: Message) -> Result<(), StepError> {
        let from = message.from;
        match message.body {
            Body::PreVote { .. }
            | Body::PreVoteResp { .. }
            | Body::HoleAsk { .. }
            | Body::HoleHave { .. }
            | Body::HoleCompacted { .. }
            | Body::SnapshotAsk { .. } => return self.dispatch(message),
            Body::HoleNeverHad { .. } if is(Defect::NeverHadOfOldTerm) => {
                return self.dispatch(message);
            }
            Body::AppendResp { .. } if is(Defect::OldTermAcksCounted) => {
                return self.dispatch(message);
            }
            Body::Append(_) | Body::Heartbeat { .. } | Body::TimeoutNow | Body::Quiet { .. } => {
                self.send(from, Body::Behind);
            }
            Body::Vote { .. } if self.rights.may_vote => {
                self.send(from, Body::VoteResp { granted: false });
            }
            Body::ReadIndex { context, .. } => {
                self.send(from, Body::ReadIndexResp { context, index: None });
            }
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self, message: Message) -> Result<(), StepError> {
        let from = message.from;
        match message.body {
            Body::PreVote { campaign, last } => self.on_pre_vote(from, campaign, last),
            Body::PreVoteResp { campaign, granted } => {
                self.on_pre_vote_resp(from, campaign, granted);
            }
            Body::Vote { last, transfer } => self.on_vote(from, last, transfer),
            Body::VoteResp { granted } => self.on_vote_resp(from, granted),
            Body::Append(append) => return self.on_append(from, append),
            Body::AppendResp { matched } => return self.on_append_resp(from, matched),
            Body::AppendReject { prev, hint, lost } => {
                self.on_append_reject(from, prev, hint, lost);
            }
            Body::Heartbeat { commit, round } => self.on_heartbeat(from, commit, round),
            Body::HeartbeatResp { round, promise } => self.on_heartbeat_resp(from, round, promise),
            Body::Quiet { last } => self.on_quiet(from, last),
            Body::TimeoutNow => self.on_timeout_now(from),
            Body::ReadIndex { context, counts } => self.on_read_index(from, context, counts),
            Body::ReadIndexResp { context, index } => self.on_read_index_resp(context, index),
            Body::Behind => {}
            Body::Hello(hello) => self.on_hello(from, &hello),
            Body::HelloReply { nonce, last, regressed } => {
                self.on_hello_reply(from, nonce, last, regressed);
            }
            Body::HoleAsk { ranges } => self.on_hole_ask(from, &ranges),
            Body::HoleHave { entries } => self.on_hole_have(from, entries),
            Body::HoleCompacted { up_to } => self.on_hole_compacted(from, up_to),
            Body::HoleNeverHad { ranges } => self.on_hole_never_had(from, &ranges),
            Body::SnapshotAsk { index } => self.on_snapshot_ask(from, index),
        }
        Ok(())
    }

    /// Takes the sender for the leader of this term (its message proves it).
    pub(crate) fn hear_leader(&mut self, from: Member) {
        if self.role != Role::Follower || self.leader != Some(from) {
            self.become_follower(self.term(), Some(from));
        }
        self.leader_heard_at = self.now;
        self.dismissed = false;
        self.reset_election_timer();
        self.hope_for_holes();
        self.greet(from);
    }
}

fn malformed(message: &Message, rule: &'static str) -> StepError {
    StepError::Malformed { from: message.from, rule }
}

pub(crate) fn malformed_from(from: Member, rule: &'static str) -> StepError {
    StepError::Malformed { from, rule }
}

/// Whether only the leader of the message's term sends such a message.
fn is_leaders(body: &Body) -> bool {
    matches!(
        body,
        Body::Append(_)
            | Body::Heartbeat { .. }
            | Body::TimeoutNow
            | Body::HelloReply { .. }
            | Body::Quiet { .. }
    )
}

fn check_form(m: &Message) -> Result<(), StepError> {
    if m.term.0 >= LIMIT || numbers(&m.body).iter().any(|n| *n >= LIMIT) {
        return Err(malformed(m, "a number beyond all bounds"));
    }
    match &m.body {
        Body::PreVote { campaign, .. } if *campaign != m.term.next() => {
            Err(malformed(m, "pre-vote for a term that is not the next"))
        }
        Body::PreVote { .. } | Body::PreVoteResp { .. } => Ok(()),
        Body::HoleAsk { ranges } | Body::HoleNeverHad { ranges } => {
            check_ranges(ranges).map_err(|rule| malformed(m, rule))
        }
        Body::HoleHave { entries } => check_gifts(entries).map_err(|rule| malformed(m, rule)),
        Body::HoleCompacted { .. } | Body::SnapshotAsk { .. } => Ok(()),
        Body::Hello(hello) if !hello.holes.iter().all(|(lo, hi)| good_range(*lo, *hi)) => {
            Err(malformed(m, "holes that cannot be"))
        }
        _ if m.term.0 == 0 => Err(malformed(m, "a message of term 0")),
        Body::Append(append) => check_append(append, m.term).map_err(|rule| malformed(m, rule)),
        _ => Ok(()),
    }
}

/// The numbers of a message that take part in sums.
fn numbers(body: &Body) -> [u64; 2] {
    match body {
        Body::PreVote { last, .. } | Body::Vote { last, .. } => [last.term.0, last.index.0],
        Body::PreVoteResp { campaign, .. } => [campaign.0, 0],
        Body::Append(append) => [append.commit.0, append.prev.index.0],
        Body::AppendResp { matched } => [matched.index.0, 0],
        Body::AppendReject { prev, hint, .. } => [prev.0, hint.index.0],
        Body::Heartbeat { commit, round } => [commit.0, *round],
        Body::HeartbeatResp { round, .. } => [*round, 0],
        Body::Quiet { last } => [last.term.0, last.index.0],
        Body::ReadIndexResp { index, .. } => [index.unwrap_or_default().0, 0],
        Body::Hello(hello) => [hello.last.term.0, hello.last.index.0],
        Body::HelloReply { last, .. } => [last.0, 0],
        Body::HoleCompacted { up_to: index } | Body::SnapshotAsk { index } => [index.0, 0],
        Body::HoleAsk { .. } | Body::HoleHave { .. } | Body::HoleNeverHad { .. } => [0, 0],
        Body::VoteResp { .. } | Body::TimeoutNow | Body::ReadIndex { .. } | Body::Behind => [0, 0],
    }
}

fn good_range(first: Index, last: Index) -> bool {
    Index::ZERO < first && first <= last && last.0 < LIMIT
}

fn check_ranges(ranges: &[HoleRange]) -> Result<(), &'static str> {
    let good = |r: &HoleRange| good_range(r.first, r.last) && r.term.0 < LIMIT;
    let few = !ranges.is_empty() && ranges.len() <= HoleRange::MAX;
    if few && ranges.iter().all(good) { Ok(()) } else { Err("holes that cannot be") }
}

/// Entries ascend; those that change the membership can be read.
fn check_gifts(entries: &[Entry]) -> Result<(), &'static str> {
    let ascend = entries.is_sorted_by(|a, b| a.id.index < b.id.index);
    let good = |e: &Entry| e.id.term.0 < LIMIT && good_range(e.id.index, e.id.index);
    if entries.is_empty() || !ascend || !entries.iter().all(good) {
        return Err("entries that cannot be");
    }
    entries.iter().try_for_each(check_config)
}

fn check_config(entry: &Entry) -> Result<(), &'static str> {
    if entry.kind == EntryKind::Config && ConfChange::decode(&entry.payload).is_err() {
        return Err("an unreadable membership entry");
    }
    Ok(())
}

/// Entries follow `prev` without gaps, in terms that never fall and never exceed the message's.
fn check_append(append: &Append, term: Term) -> Result<(), &'static str> {
    let mut last = append.prev;
    if (last.index == Index::ZERO) != (last.term == Term::ZERO) {
        return Err("a previous entry that cannot be");
    }
    for entry in &append.entries {
        if entry.id.index != last.index.next() {
            return Err("entries with a gap");
        }
        if entry.id.term < last.term || entry.id.term == Term::ZERO {
            return Err("entries with a falling term");
        }
        check_config(entry)?;
        last = entry.id;
    }
    if last.term > term { Err("an entry of a later term") } else { Ok(()) }
}
