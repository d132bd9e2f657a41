//! What a leader knows of one peer, and how it sends to it.

use alloc::collections::VecDeque;

use refloat_types::{Index, Member, Now};

use crate::hello::Run;
use crate::{FetchId, PeerState, PeerStatus};

/// How a peer is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum State {
    /// One append at a time; `sent` until it is answered or the peer answers a beat.
    Probe { sent: bool },
    /// As many as the window allows.
    Replicate,
    /// Nothing, until the snapshot arrived.
    Snapshot {
        /// The peer needs a snapshot of at least this index.
        pending: Index,
        /// What the host said of the sending.
        outcome: Outcome,
    },
}

/// What became of a snapshot's sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// Under way.
    Sending,
    /// Arrived; if no ack of the install comes until then, the peer is probed.
    Arrived { probe_at: Now },
    /// Failed; left alone until then.
    Failed { retry_at: Now },
}

/// One peer. Keyed by identity: a new life of a node starts from zero.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Progress {
    pub(crate) member: Member,
    /// Durable there and equal to the leader's log.
    pub(crate) matched: Index,
    /// The next index to send.
    pub(crate) next: Index,
    pub(crate) state: State,
    /// An append is to be sent even if it is empty.
    pub(crate) poke: bool,
    /// When it was heard last; the start of the leadership until then.
    pub(crate) heard_at: Now,
    /// The newest read round that it answered.
    pub(crate) round: u64,
    /// The round of a beat that told it of the change with which its leader leaves.
    pub(crate) told: Option<u64>,
    /// Whether its last answer to a beat promised to vote for nobody for a while.
    pub(crate) promise: bool,
    /// The highest commit index that an append told it.
    pub(crate) sent_commit: Index,
    /// Old entries asked of the host for it.
    pub(crate) fetch: Option<FetchId>,
    /// Failed snapshots in a row.
    pub(crate) failures: u32,
    /// The run that it declared.
    pub(crate) run: Option<Run>,
    /// It was told to be an amnesiac.
    pub(crate) regressed: bool,
    /// Its node runs in another life: nothing of this one counts any more.
    pub(crate) gone: bool,
    window: Window,
}

impl Progress {
    pub(crate) fn new(member: Member, next: Index, now: Now) -> Progress {
        Progress {
            member,
            matched: Index::ZERO,
            next,
            state: State::Probe { sent: false },
            poke: false,
            heard_at: now,
            round: 0,
            told: None,
            promise: false,
            sent_commit: Index::ZERO,
            fetch: None,
            failures: 0,
            run: None,
            regressed: false,
            gone: false,
            window: Window::default(),
        }
    }

    pub(crate) fn hear(&mut self, now: Now) {
        self.heard_at = now;
    }

    /// Whether it took in that the change with which its leader leaves is committed.
    pub(crate) fn knows(&self) -> bool {
        self.told.is_some_and(|round| self.round >= round)
    }

    /// Starts probing at `next`; what is in flight counts as lost.
    pub(crate) fn probe(&mut self, next: Index, sent: bool) {
        self.state = State::Probe { sent };
        self.next = next.max(self.matched.next());
        self.fetch = None;
        self.window.clear();
    }

    /// Of what the peer had acknowledged a new run certainly has what is up to `proven`; more, up
    /// to `hoped` at most, is to be shown. A snapshot under way goes on.
    pub(crate) fn restart_at(&mut self, proven: Index, hoped: Index) {
        self.matched = self.matched.min(proven);
        self.sent_commit = self.sent_commit.min(proven);
        self.told = None;
        if !matches!(self.state, State::Snapshot { .. }) {
            self.probe(self.next.min(hoped.next()), false);
        }
    }

    pub(crate) fn replicate(&mut self) {
        self.state = State::Replicate;
        self.failures = 0;
        self.window.free_to(self.matched);
    }

    /// Durable there up to `matched`, says the peer.
    pub(crate) fn ack(&mut self, matched: Index) {
        if matched > self.matched {
            self.matched = matched;
            self.next = self.next.max(matched.next());
            self.window.free_to(matched);
        }
        match self.state {
            State::Probe { .. } if matched == self.matched => self.replicate(),
            State::Snapshot { pending, .. } if self.matched >= pending => self.replicate(),
            _ => {}
        }
    }

    /// An append of entries up to `last` leaves.
    pub(crate) fn sent(&mut self, last: Index, bytes: u64) {
        self.poke = false;
        match &mut self.state {
            State::Probe { sent } => *sent = true,
            State::Replicate if last >= self.next => {
                self.next = last.next();
                self.window.push(last, bytes);
            }
            _ => {}
        }
    }

    /// Whether the window takes another append with entries.
    pub(crate) fn has_room(&self, max_msgs: usize, max_bytes: u64) -> bool {
        self.window.sent.len() < max_msgs && (self.window.bytes < max_bytes)
    }

    /// Ends the wait after a snapshot: one that arrived is built upon, one that failed is sent
    /// again, unless the peer came so far by other ways.
    pub(crate) fn end_wait(&mut self) {
        match self.state {
            State::Snapshot { pending, outcome: Outcome::Arrived { .. } } => {
                self.probe(pending.next(), false);
            }
            State::Snapshot { outcome: Outcome::Failed { .. }, .. } => {
                self.probe(self.matched.next(), false);
            }
            _ => {}
        }
    }

    /// When something is to be done without hearing of the peer.
    pub(crate) fn wake_at(&self) -> Option<Now> {
        match self.state {
            State::Snapshot { outcome: Outcome::Arrived { probe_at }, .. } => Some(probe_at),
            State::Snapshot { outcome: Outcome::Failed { retry_at }, .. } => Some(retry_at),
            _ => None,
        }
    }

    pub(crate) fn status(&self) -> PeerStatus {
        let state = match self.state {
            State::Probe { .. } => PeerState::Probe,
            State::Replicate => PeerState::Replicate,
            State::Snapshot { .. } => PeerState::Snapshot,
        };
        PeerStatus {
            member: self.member,
            state,
            matched: self.matched,
            next: self.next,
            inflight: self.window.sent.len(),
        }
    }
}

/// Unanswered appends: the last index and payload bytes of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Window {
    sent: VecDeque<(Index, u64)>,
    bytes: u64,
}

impl Window {
    fn push(&mut self, last: Index, bytes: u64) {
        self.sent.push_back((last, bytes));
        self.bytes += bytes;
    }

    fn free_to(&mut self, matched: Index) {
        while let Some((_, bytes)) = self.sent.pop_front_if(|(last, _)| *last <= matched) {
            self.bytes -= bytes;
        }
    }

    fn clear(&mut self) {
        self.sent.clear();
        self.bytes = 0;
    }
}
