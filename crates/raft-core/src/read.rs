//! Linearizable reads without log entries (thesis, 6.4).
//!
//! A leader that has committed in its own term notes its commit index, has a majority confirm
//! that it still leads, and answers with the index. One round of beats serves all reads that
//! wait. A follower asks its leader, for all reads of a turn at once; where the two of them are
//! a majority, the question itself confirms the leader.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use refloat_planted::{Defect, is};
use refloat_types::{Index, Member, Now};

use crate::quorum::has_quorum;
use crate::{Body, Core, ReadContext, ReadError, ReadId, ReadState, Role};

/// Rounds that may be unanswered at a time; further reads gather for the next.
const MAX_ROUNDS: usize = 4;

/// Who asked a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Asker {
    Host(ReadId),
    Peer(Member, ReadContext),
}

/// A leader's reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Reads {
    waiting: Vec<Asker>,
    rounds: VecDeque<Round>,
    round: u64,
    /// With leases on: when the beats of the last election timeout left, by their rounds.
    beats: VecDeque<(u64, Now)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Round {
    round: u64,
    index: Index,
    askers: Vec<Asker>,
}

impl Reads {
    pub(crate) fn round(&self) -> u64 {
        self.round
    }

    /// Numbers a round of beats, so that its answers can be told from earlier ones.
    pub(crate) fn begin_round(&mut self) -> u64 {
        self.round += 1;
        self.round
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.rounds.is_empty()
    }

    /// A beat leaves in a round of its own, so that its answers tell when it left.
    pub(crate) fn note_beat(&mut self, now: Now, worth: u64) {
        self.round += 1;
        while self.beats.pop_front_if(|(_, at)| now.since(*at) >= worth).is_some() {}
        self.beats.push_back((self.round, now));
    }

    /// When they left is not known any more.
    pub(crate) fn forget_beats(&mut self) {
        self.beats.clear();
    }

    /// As if a lease began when a beat is answered. Only for [`Defect::LeaseFromAnswers`].
    pub(crate) fn begin_lease_now(&mut self, round: u64, now: Now) {
        self.beats.iter_mut().filter(|(beat, _)| *beat == round).for_each(|(_, at)| *at = now);
    }
}

/// A follower's reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asking {
    run: u64,
    seq: u64,
    waiting: Vec<ReadId>,
    asked: VecDeque<Asked>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asked {
    context: ReadContext,
    ids: Vec<ReadId>,
    give_up_at: Now,
}

impl Asking {
    pub(crate) fn new(run: u64) -> Asking {
        Asking { run, seq: 0, waiting: Vec::new(), asked: VecDeque::new() }
    }

    pub(crate) fn wake_at(&self) -> Option<Now> {
        self.asked.front().map(|a| a.give_up_at)
    }
}

impl Core {
    /// Asks up to where the state machine must have applied to serve a read that begins now.
    /// The answer comes in `reads` of a later [`Ready`](crate::Ready), or the id in
    /// `failed_reads`. Ids are the caller's and need not be unique.
    ///
    /// # Errors
    /// No leader is known.
    pub fn read_index(&mut self, now: Now, id: ReadId) -> Result<(), ReadError> {
        self.advance(now);
        self.wake_up();
        match (self.role, self.leader) {
            (Role::Leader, _) => {
                self.leading.active_at = self.now;
                self.leading.reads.waiting.push(Asker::Host(id));
            }
            (_, Some(_)) => self.asking.waiting.push(id),
            (_, None) => return Err(ReadError::NoLeader),
        }
        Ok(())
    }

    /// Starts one round for everything that waits, or one question to the leader.
    pub(crate) fn start_reads(&mut self) {
        if self.role == Role::Leader {
            self.start_round();
        } else if let Some(leader) = self.leader {
            self.ask_leader(leader);
        }
    }

    fn start_round(&mut self) {
        let reads = &self.leading.reads;
        let room = reads.rounds.len() < MAX_ROUNDS;
        if reads.waiting.is_empty() || !room || !self.committed_in_own_term() {
            return;
        }
        let index = self.commit;
        let leased = self.holds_lease() || is(Defect::ReadUnconfirmed);
        let reads = &mut self.leading.reads;
        if leased {
            let askers = core::mem::take(&mut reads.waiting);
            return self.answer(Round { round: 0, index, askers });
        }
        let (round, askers) = (reads.begin_round(), core::mem::take(&mut reads.waiting));
        reads.rounds.push_back(Round { round, index, askers });
        self.beat();
        self.finish_reads();
    }

    /// Whether no other leader can be elected yet (thesis, 6.4.1): a majority answered a beat with
    /// the promise to vote for nobody, and since that beat left less than an election timeout
    /// has passed, even on clocks that drift as far apart as declared. Not while leadership is
    /// handed over, nor in the rest of a term in which somebody was told to campaign.
    fn holds_lease(&self) -> bool {
        let Some(drift) = self.config.lease_drift else { return false };
        let handed = self.leading.transfer.is_some() || self.leading.told_to_campaign;
        if self.clock_is_behind || handed && !is(Defect::LeaseThroughTransfer) {
            return false;
        }
        let promised = |round: u64| {
            has_quorum(&self.conf, |m| {
                let peer = self.leading.progress.iter().find(|p| p.member == m);
                m == self.config.me || peer.is_some_and(|p| p.promise && p.round >= round)
            })
        };
        let beats = self.leading.reads.beats.iter().rev();
        let since = beats.into_iter().find(|(round, _)| promised(*round)).map(|(_, at)| *at);
        since.is_some_and(|at| self.now.since(at) < self.config.election_timeout - drift)
    }

    pub(crate) fn would_answer_from_lease(&self) -> bool {
        let leads = self.role == Role::Leader && !self.quiet;
        leads && self.committed_in_own_term() && self.holds_lease()
    }

    /// Answers rounds that a majority confirmed. A later confirmation confirms earlier rounds.
    pub(crate) fn finish_reads(&mut self) {
        while let Some(round) = self.leading.reads.rounds.front().map(|r| r.round) {
            let confirmed = |m: Member| {
                let peer = self.leading.progress.iter().find(|p| p.member == m);
                m == self.config.me || peer.is_some_and(|p| p.round >= round)
            };
            if !has_quorum(&self.conf, confirmed) {
                return;
            }
            if let Some(done) = self.leading.reads.rounds.pop_front() {
                self.answer(done);
            }
        }
    }

    fn answer(&mut self, done: Round) {
        let index = done.index;
        for asker in done.askers {
            match asker {
                Asker::Host(id) => self.out.reads.push(ReadState { id, index }),
                Asker::Peer(to, context) => {
                    self.send(to, Body::ReadIndexResp { context, index: Some(index) });
                }
            }
        }
    }

    fn ask_leader(&mut self, leader: Member) {
        if self.asking.waiting.is_empty() {
            return;
        }
        self.asking.seq += 1;
        let context = ReadContext { run: self.asking.run, seq: self.asking.seq };
        let ids = core::mem::take(&mut self.asking.waiting);
        let give_up_at = self.now.after(self.config.election_timeout);
        self.asking.asked.push_back(Asked { context, ids, give_up_at });
        let counts = self.rights.may_ack && self.hello.is_over();
        self.send(leader, Body::ReadIndex { context, counts });
    }

    pub(crate) fn on_read_index(&mut self, from: Member, context: ReadContext, counts: bool) {
        if self.role != Role::Leader {
            return self.send(from, Body::ReadIndexResp { context, index: None });
        }
        self.leading.active_at = self.now;
        if counts && self.committed_in_own_term() && self.is_quorum_with(from) {
            let index = Some(self.commit);
            return self.send(from, Body::ReadIndexResp { context, index });
        }
        self.leading.reads.waiting.push(Asker::Peer(from, context));
    }

    /// Whether this leader and one peer are a majority. Then the peer's question is the round that
    /// it would have to wait for: it was asked in this term, after the reads began for which it
    /// is asked, so that nobody was elected in a later term before they did. It says nothing
    /// about the reads of others.
    fn is_quorum_with(&self, asker: Member) -> bool {
        let live = self.leading.progress.iter().any(|p| p.member == asker && !p.gone);
        live && has_quorum(&self.conf, |m| m == self.config.me || m == asker)
    }

    pub(crate) fn on_read_index_resp(&mut self, context: ReadContext, index: Option<Index>) {
        let Some(at) = self.asking.asked.iter().position(|a| a.context == context) else { return };
        let Some(asked) = self.asking.asked.remove(at) else { return };
        match index {
            Some(index) => {
                self.out.reads.extend(asked.ids.into_iter().map(|id| ReadState { id, index }));
            }
            None => self.out.failed_reads.extend(asked.ids),
        }
    }

    /// The leader changed: what was asked gets no answer that could be trusted to come.
    pub(crate) fn fail_reads(&mut self) {
        self.out.failed_reads.append(&mut self.asking.waiting);
        for asked in core::mem::take(&mut self.asking.asked) {
            self.out.failed_reads.extend(asked.ids);
            self.out.forget_question(asked.context);
        }
    }

    /// A deposed leader's reads: hosts are told, peers learn the new term and ask again.
    pub(crate) fn fail_led_reads(&mut self) {
        let reads = core::mem::take(&mut self.leading.reads);
        let askers = reads.rounds.into_iter().flat_map(|r| r.askers).chain(reads.waiting);
        let hosts = askers.filter_map(|asker| match asker {
            Asker::Host(id) => Some(id),
            Asker::Peer(..) => None,
        });
        self.out.failed_reads.extend(hosts);
    }

    pub(crate) fn give_up_reads(&mut self) {
        let now = self.now;
        while let Some(asked) = self.asking.asked.pop_front_if(|a| now >= a.give_up_at) {
            self.out.failed_reads.extend(asked.ids);
            self.out.forget_question(asked.context);
        }
    }
}
