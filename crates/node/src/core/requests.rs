//! What clients ask: admission, waiting, and the one place where answers are given.

use bytes::Bytes;
use refloat_types::codec::Put;
use refloat_types::{Digest, EntryId, EntryKind, GroupId};

use super::NodeCore;
use super::envelope::{ForwardError, Item};
use super::group::{Answer, PendingRead, Proposal, Waiting};
use super::peers::Peer;
use super::space::Load;
use crate::api::{Input, Lane, Output, Reply, Token};
use crate::config::MAX_REPLY;
use crate::error::RequestError;

/// Bytes of a leader's stamp before a command.
const STAMP: usize = 8;
/// How often waiting requests are looked at, in microseconds.
pub(super) const SWEEP: u64 = 50_000;

impl NodeCore {
    /// Gives an answer, and its bytes back to the budget. The only way out of the node.
    pub(super) fn answer(
        &mut self,
        answer: Answer,
        bytes: u64,
        result: Result<Reply, RequestError>,
    ) {
        self.pending_bytes = self.pending_bytes.saturating_sub(bytes);
        match &result {
            Err(RequestError::Busy { .. }) => self.counters.busy += 1,
            Err(RequestError::Unknown { .. }) => self.counters.unknown += 1,
            Err(RequestError::NoLeader { .. }) => self.counters.no_leader += 1,
            _ => {}
        }
        match answer {
            Answer::Nobody => {}
            Answer::Timer(slot, id) => {
                self.pending = self.pending.saturating_sub(1);
                self.timer_answered(slot, id, result.is_ok());
            }
            Answer::Local(to) => {
                self.pending = self.pending.saturating_sub(1);
                self.out.push(Output::Reply { to, result });
            }
            Answer::Remote(node, id) => {
                self.pending = self.pending.saturating_sub(1);
                let result = match result {
                    Ok(reply) if reply.payload.len() > MAX_REPLY => Err(ForwardError::Unknown),
                    Ok(reply) => Ok((reply.index, reply.payload)),
                    Err(error) => Err(ForwardError::of(&error)),
                };
                let long = |(_, payload): &(_, Bytes)| payload.len() > self.config.urgent_bytes;
                let bulk = result.as_ref().is_ok_and(long);
                let lane = if bulk { Lane::Bulk } else { Lane::Urgent };
                self.send_item(node, lane, &Item::ForwardReply { id, result });
            }
        }
    }

    pub(super) fn fail(&mut self, to: Token, error: RequestError) {
        self.admit(0);
        self.answer(Answer::Local(to), 0, Err(error));
    }

    /// Counts a request in; each is counted out by [`NodeCore::answer`].
    pub(super) fn admit(&mut self, bytes: u64) {
        // A sweep that others wait for is put off by nobody, however many come and are answered.
        if !self.needs_sweep() {
            self.next_sweep = self.now().after(SWEEP);
        }
        self.pending += 1;
        self.pending_bytes += bytes;
    }

    /// The running replica of a group, or why there is none.
    pub(super) fn find(&self, id: GroupId) -> Result<usize, RequestError> {
        if let Some(slot) = self.by_id.get(&id) {
            return Ok(*slot);
        }
        if let Some((key, asleep)) = self.asleep.iter().rev().find(|(key, _)| key.id == id) {
            return Err(asleep.refusal(*key));
        }
        let forming = !self.formation.is_formed() || self.waits_to_be_taken_in().is_some();
        if forming || id.0 <= u64::from(self.identity.groups) && self.meta_is_young() {
            return Err(RequestError::NoLeader { group: id });
        }
        Err(RequestError::UnknownGroup { group: id })
    }

    /// Whether a proposal of so many bytes may come in.
    pub(super) fn admission(&self, len: u64) -> Result<(), RequestError> {
        self.budget(len)?;
        self.space_for_requests()
    }

    /// Whether it may as far as the memory is concerned.
    pub(super) fn budget(&self, len: u64) -> Result<(), RequestError> {
        if self.stopping.is_some() {
            return Err(RequestError::Stopped);
        }
        let limit = self.config.max_payload;
        if len > limit {
            return Err(RequestError::TooLarge { len, limit });
        }
        let (used, limit) = (self.pending_bytes, self.config.max_pending_bytes);
        if used + len > limit && used > 0 {
            return Err(RequestError::Busy { used, limit });
        }
        Ok(())
    }

    pub(super) fn propose(
        &mut self,
        to: Token,
        id: GroupId,
        payload: Bytes,
        stamp: bool,
        forward: bool,
    ) {
        let len = payload.len() as u64;
        let slot = match self.admission(len).and_then(|()| self.find(id)) {
            Ok(slot) => slot,
            Err(error) => return self.fail(to, error),
        };
        let group = self.slots[slot].as_ref().expect("found");
        if !forward && !group.is_leader() {
            let leader = group.leader();
            return self.fail(to, RequestError::NotLeader { group: id, leader });
        }
        self.counters.proposals += 1;
        self.admit(len);
        let deadline = self.now().after(self.config.leader_wait);
        let answer = Answer::Local(to);
        self.route(slot, Proposal { answer, payload, stamp, deadline });
    }

    /// Sends a proposal where the leader is: into the own log, to another node, or to the waiting
    /// room until one is known. Its bytes are counted already.
    pub(super) fn route(&mut self, slot: usize, proposal: Proposal) {
        let (me, now) = (self.me.node, self.now());
        let Some(group) = self.slots[slot].as_mut() else {
            let bytes = proposal.payload.len() as u64;
            return self.answer(proposal.answer, bytes, Err(RequestError::Stopped));
        };
        let id = group.key.id;
        if group.is_leader() {
            group.proposals.push(proposal);
            return self.mark(slot);
        }
        let bytes = proposal.payload.len() as u64;
        if !matches!(proposal.answer, Answer::Local(_)) {
            // Only its origin passes a proposal on, else two mistaken nodes could play ball. What
            // a leader proposed by itself is for the next leader to decide.
            let leader = group.leader();
            let error = RequestError::NotLeader { group: id, leader };
            return self.answer(proposal.answer, bytes, Err(error));
        }
        if now >= proposal.deadline {
            let error = RequestError::NoLeader { group: id };
            return self.answer(proposal.answer, bytes, Err(error));
        }
        match group.leader().filter(|node| *node != me) {
            Some(leader) if self.peers.get(&leader).is_some_and(Peer::is_known) => {
                self.forward(leader, id, proposal);
            }
            _ => group.parked.push_back(proposal),
        }
    }

    /// Puts this turn's proposals into the leader's log.
    pub(super) fn flush_proposals(&mut self, slot: usize) {
        let (now, wall) = (self.now(), self.time.wall_ms);
        let timeout = self.config.proposal_timeout;
        let Some(group) = self.slots[slot].as_mut() else { return };
        if group.proposals.is_empty() {
            return;
        }
        let mut proposals = std::mem::take(&mut group.proposals);
        let id = group.key.id;
        if group.is_leader() {
            let load = Load::of_payloads(proposals.iter().map(|p| p.payload.len() + STAMP));
            if let Err(refusal) = self.let_in(slot, load) {
                for p in proposals {
                    self.answer(p.answer, p.payload.len() as u64, Err(refusal.clone()));
                }
                return;
            }
        }
        let Some(group) = self.slots[slot].as_mut() else { return };
        let commands = proposals
            .iter()
            .map(|p| {
                let payload = if p.stamp { stamped(wall, &p.payload) } else { p.payload.clone() };
                let digest = Digest::of(EntryKind::Command, &payload);
                (payload, digest)
            })
            .collect();
        match group.core.propose(now, commands) {
            Ok((term, first)) => {
                // Own entries of an earlier term at these places were cut away by another leader;
                // whether they live on elsewhere is not known here.
                let mut cut = Vec::new();
                while group.waiting.back().is_some_and(|w| w.id.index >= first) {
                    cut.extend(group.waiting.pop_back());
                }
                let deadline = now.after(timeout);
                for (n, p) in proposals.drain(..).enumerate() {
                    let at = EntryId::new(term, first + n as u64);
                    let bytes = p.payload.len() as u64;
                    group.waiting.push_back(Waiting { id: at, answer: p.answer, bytes, deadline });
                }
                for w in cut {
                    self.answer(w.answer, w.bytes, Err(RequestError::Unknown { group: id }));
                }
            }
            Err(refloat_raft_core::ProposeError::Busy { uncommitted, limit }) => {
                let busy = RequestError::Busy { used: uncommitted, limit };
                for p in proposals {
                    self.answer(p.answer, p.payload.len() as u64, Err(busy.clone()));
                }
            }
            // Not leader any more, or handing over: nothing was taken, so all may wait or go on.
            Err(_) => {
                for p in proposals {
                    self.park(slot, p);
                }
            }
        }
    }

    fn park(&mut self, slot: usize, proposal: Proposal) {
        let Some(group) = self.slots[slot].as_mut() else { return };
        if !matches!(proposal.answer, Answer::Local(_)) {
            let error = RequestError::NotLeader { group: group.key.id, leader: group.leader() };
            return self.answer(proposal.answer, proposal.payload.len() as u64, Err(error));
        }
        group.parked.push_back(proposal);
    }

    /// Looks at everything that waits: a leader may be known now, or time may be over.
    pub(super) fn sweep(&mut self) {
        let now = self.now();
        self.next_sweep = now.after(SWEEP);
        let stalled = self.stalled_slots();
        for slot in 0..self.slots.len() {
            if self.slots[slot].is_some() {
                self.sweep_group(slot, stalled.contains(&slot));
            }
        }
        self.sweep_forwards();
        self.sweep_transfers();
        self.sweep_receptions();
    }

    fn sweep_group(&mut self, slot: usize, stalled: bool) {
        self.tend_hand_over(slot);
        let (now, round) = (self.now(), self.config.election_timeout);
        // A replica that lacks entries for want of space will not get there soon.
        let patience = if stalled { 0 } else { self.config.proposal_timeout };
        let Some(group) = self.slots[slot].as_mut() else { return };
        let id = group.key.id;
        let parked = std::mem::take(&mut group.parked);
        let mut expired = Vec::new();
        while group.waiting.front().is_some_and(|w| w.deadline <= now) {
            expired.extend(group.waiting.pop_front());
        }
        let reads = &mut group.reads;
        let lost: Vec<_> = reads
            .asked
            .iter()
            .filter(|(_, (since, _))| now.since(*since) > round)
            .map(|(id, _)| *id)
            .collect();
        for id in &lost {
            let (_, batch) = reads.asked.remove(id).expect("just seen");
            reads.gathering.extend(batch);
        }
        let (late, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut reads.gathering).into_iter().partition(|r| r.deadline <= now);
        reads.gathering = rest;
        // An index was named, and this replica does not get there: cut off, or its machine is slow.
        let mut behind = Vec::new();
        let confirmed = reads.confirmed.iter_mut().map(|(_, batch)| batch);
        for batch in confirmed.chain([&mut reads.stale]) {
            let due = |r: &PendingRead| r.deadline.after(patience) <= now;
            let (due, rest): (Vec<_>, Vec<_>) = std::mem::take(batch).into_iter().partition(due);
            behind.extend(due);
            *batch = rest;
        }
        reads.confirmed.retain(|(_, batch)| !batch.is_empty());
        if !reads.gathering.is_empty() || group.apply.committed > group.apply.applied.index {
            self.mark(slot);
        }
        for proposal in parked {
            self.route(slot, proposal);
        }
        for w in expired {
            self.answer(w.answer, w.bytes, Err(RequestError::Unknown { group: id }));
        }
        for read in behind {
            let reason = match stalled {
                true => "this replica lacks what the read needs: its disk is full",
                false => "this replica does not get to what the read needs",
            };
            let reason = reason.to_owned();
            let error = RequestError::Unavailable { group: id, reason };
            self.answer(Answer::Local(read.to), 0, Err(error));
        }
        for read in late {
            self.answer(Answer::Local(read.to), 0, Err(RequestError::NoLeader { group: id }));
        }
    }

    /// Answers an input that came after the end.
    pub(super) fn refuse_when_over(&mut self, input: Input) {
        let to = match input {
            Input::Propose { to, .. }
            | Input::Read { to, .. }
            | Input::CreateGroup { to, .. }
            | Input::DeleteGroup { to, .. }
            | Input::ChangeMembers { to, .. }
            | Input::ChangeNodes { to, .. }
            | Input::Transfer { to, .. }
            | Input::ForgetLeader { to, .. }
            | Input::Snapshot { to, .. }
            | Input::ReadLog { to, .. } => to,
            Input::Tick
            | Input::PeerUp(_)
            | Input::PeerDown(_)
            | Input::PeerRefused { .. }
            | Input::Frame { .. }
            | Input::Done(_)
            | Input::Shutdown => return,
        };
        self.out.push(Output::Reply { to, result: Err(RequestError::Stopped) });
    }
}

/// The leader's clock, then the command.
fn stamped(wall_ms: u64, payload: &Bytes) -> Bytes {
    let mut out = Vec::with_capacity(STAMP + payload.len());
    out.put_u64(wall_ms);
    out.put_slice(payload);
    out.into()
}
