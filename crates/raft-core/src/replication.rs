//! Sending the log to peers (section 5.3), in a window, and hearing how far they are.

use alloc::vec::Vec;

use refloat_planted::{Defect, is};
use refloat_types::{Entry, EntryId, Index, Member};

use crate::leader::weight_of;
use crate::progress::{Outcome, State};
use crate::step::malformed_from;
use crate::{Append, Body, Core, Fetch, FetchId, Fetched, Role, StepError};

impl Core {
    /// Fills every peer's window. Called once per turn, so that what was proposed in the turn
    /// leaves together.
    pub(crate) fn send_appends(&mut self) {
        if self.leading.resolving.is_some() {
            return;
        }
        for at in 0..self.leading.progress.len() {
            while self.send_append(at) {}
        }
    }

    /// Sends one append to a peer, if there is reason and room. `true` if there may be another.
    fn send_append(&mut self, at: usize) -> bool {
        let (msgs, bytes) = (self.config.max_inflight_msgs, self.config.max_inflight_bytes);
        let peer = &self.leading.progress[at];
        if peer.gone {
            return false;
        }
        let entries = peer.next <= self.log.last().index
            && match peer.state {
                State::Probe { sent } => !sent,
                State::Replicate => peer.has_room(msgs, bytes),
                State::Snapshot { .. } => false,
            };
        let news =
            peer.state == State::Replicate && self.commit.min(peer.next.prev()) > peer.sent_commit;
        let asked = peer.poke && !matches!(peer.state, State::Snapshot { .. });
        if !(entries || news || asked) {
            return false;
        }
        let prev = peer.next.prev();
        let Some(term) = self.log.term(prev) else {
            self.want_snapshot(at);
            return false;
        };
        let prev = EntryId::new(term, prev);
        if !entries || peer.fetch.is_some() {
            if news || asked {
                self.send_entries(at, prev, Vec::new());
            }
            return false;
        }
        if peer.next < self.log.held_from() {
            self.fetch_for(at);
            return news;
        }
        let batch = self.log.copy(prev.index.next(), self.config.max_append_bytes as u64);
        self.send_entries(at, prev, batch);
        true
    }

    fn send_entries(&mut self, at: usize, prev: EntryId, entries: Vec<Entry>) {
        let commit = self.commit;
        let last = prev.index + entries.len() as u64;
        let peer = &mut self.leading.progress[at];
        peer.sent_commit = peer.sent_commit.max(commit.min(last));
        peer.sent(last, weight_of(&entries));
        let to = peer.member;
        self.send(to, Body::Append(Append { prev, commit, entries }));
    }

    /// Asks the host for entries that are no longer held. The peer's window waits for them.
    fn fetch_for(&mut self, at: usize) {
        self.out.fetches += 1;
        let id = FetchId(self.out.fetches);
        let peer = &mut self.leading.progress[at];
        peer.fetch = Some(id);
        peer.poke = false;
        let (first, last) = (peer.next, self.log.handed());
        let max_bytes = self.config.max_append_bytes;
        self.out.fetch.push(Fetch { id, first, last, max_bytes });
    }

    /// The answer to a [`Fetch`]. An answer that nobody waits for any more is ignored.
    pub fn on_fetched(&mut self, now: refloat_types::Now, fetch: FetchId, mut result: Fetched) {
        self.advance(now);
        if self.on_gift(fetch, &mut result) {
            return;
        }
        let progress = &self.leading.progress;
        let Some(at) = progress.iter().position(|p| p.fetch == Some(fetch)) else { return };
        self.leading.progress[at].fetch = None;
        match result {
            Fetched::Compacted { .. } => self.want_snapshot(at),
            Fetched::Entries(entries) if self.are_next(at, &entries) => {
                let prev = self.leading.progress[at].next.prev();
                match self.log.term(prev) {
                    Some(term) => self.send_entries(at, EntryId::new(term, prev), entries),
                    None => self.want_snapshot(at),
                }
            }
            Fetched::Entries(_) | Fetched::Failed => {
                let peer = &mut self.leading.progress[at];
                peer.probe(peer.next, true);
            }
        }
    }

    /// Whether entries are the log's, from the peer's next on.
    fn are_next(&self, at: usize, entries: &[Entry]) -> bool {
        let next = self.leading.progress[at].next;
        let in_place = |(n, entry): (usize, &Entry)| {
            entry.id.index == next + n as u64 && self.log.contains(entry.id)
        };
        !entries.is_empty() && entries.iter().enumerate().all(in_place)
    }

    /// The peer needs what is compacted.
    fn want_snapshot(&mut self, at: usize) {
        let pending = self.log.compacted().index;
        let peer = &mut self.leading.progress[at];
        peer.probe(pending.next(), true);
        peer.state = State::Snapshot { pending, outcome: Outcome::Sending };
        self.out.send_snapshot.push(peer.member);
    }

    /// Counts what the peer holds, if it is the leader's own entry that it names.
    pub(crate) fn on_append_resp(
        &mut self,
        from: Member,
        matched: EntryId,
    ) -> Result<(), StepError> {
        if self.role != Role::Leader {
            return Ok(());
        }
        if matched.index > self.log.last().index {
            return Err(malformed_from(from, "an ack beyond the leader's log"));
        }
        let compacted = self.log.compacted().index;
        let own = matched.index <= compacted
            || self.log.contains(matched)
            || is(Defect::ForeignAcksCounted)
            || is(Defect::OldTermAcksCounted);
        let raised = if is(Defect::CompactedAcksRaised) { compacted } else { Index::ZERO };
        let now = self.now;
        let Some(peer) = self.leading.live_peer(from) else { return Ok(()) };
        peer.hear(now);
        if own {
            peer.ack(matched.index.max(raised));
            if matched.index > self.commit {
                self.advance_commit();
            }
            self.hand_over_if_caught_up();
            self.tell_of_leaving();
            self.leave_if_known();
        }
        Ok(())
    }

    /// Goes back to where the logs can meet at the latest, one term per answer (section 5.3).
    /// A refusal of something that was acknowledged since is old and ignored, unless the peer
    /// says that it lost it.
    pub(crate) fn on_append_reject(
        &mut self,
        from: Member,
        prev: Index,
        hint: EntryId,
        lost: bool,
    ) {
        let now = self.now;
        let (meet, shared) = (self.log.meet(hint), self.log.shared(hint));
        let compacted = self.log.compacted().index;
        let Some(peer) = self.leading.live_peer(from) else { return };
        peer.hear(now);
        if lost {
            peer.matched = peer.matched.min(shared);
            peer.sent_commit = peer.sent_commit.min(shared);
            peer.told = None;
            if matches!(peer.state, State::Snapshot { .. }) {
                return;
            }
        } else {
            let current = match peer.state {
                State::Probe { .. } => prev == peer.next.prev(),
                State::Replicate => prev > peer.matched,
                State::Snapshot { .. } => false,
            };
            if !current {
                return;
            }
        }
        let next = meet.map_or(compacted, |id| id.index.next()).min(prev.max(Index(1)));
        peer.probe(next, false);
    }

    /// A beat answered: what is unanswered may be lost, so an append is sent that the peer either
    /// confirms or refuses (thesis, 10.2.1: a lost window is found by its successor).
    pub(crate) fn on_heartbeat_resp(&mut self, from: Member, round: u64, promise: bool) {
        let (now, last) = (self.now, self.log.last().index);
        let newest = self.leading.reads.round();
        let Some(peer) = self.leading.live_peer(from) else { return };
        peer.hear(now);
        if round >= peer.round {
            // An older answer that comes later says nothing about what the newer one promised.
            peer.round = round.min(newest);
            peer.promise = promise;
        }
        let probing = matches!(peer.state, State::Probe { .. });
        if probing {
            peer.state = State::Probe { sent: false };
        }
        peer.poke |= probing || peer.matched < last;
        if is(Defect::LeaseFromAnswers) {
            self.leading.reads.begin_lease_now(round, now);
        }
        self.finish_reads();
        self.leave_if_known();
    }

    /// A lagging peer shows itself: whatever it was being spared for is over.
    pub(crate) fn send_at_once(&mut self, to: Member) {
        let now = self.now;
        let Some(peer) = self.leading.live_peer(to) else { return };
        peer.hear(now);
        peer.poke = true;
        match peer.state {
            State::Probe { .. } => peer.probe(peer.next, false),
            State::Replicate => {}
            State::Snapshot { .. } => peer.end_wait(),
        }
    }

    /// The connection to a peer is gone: what was in flight is taken for lost.
    pub fn on_unreachable(&mut self, to: Member) {
        let Some(peer) = self.leading.peer(to) else { return };
        if peer.state == State::Replicate {
            peer.probe(peer.matched.next(), true);
        }
    }
}
