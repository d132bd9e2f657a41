//! A leader's own duties: taking over, beating, keeping its majority, proposing, committing.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::Bytes;

use refloat_planted::{Defect, is};
use refloat_types::{Digest, Entry, EntryId, EntryKind, Index, Member, Now, Term};

use crate::leaving::Leaving;
use crate::log::weight;
use crate::progress::Progress;
use crate::quorum::{committed_index, has_quorum};
use crate::read::Reads;
use crate::resolve::Resolving;
use crate::transfer::Transfer;
use crate::{Body, Core, ProposeError, Role};

/// What only a leader has. Empty elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Leading {
    /// Every other member, ascending.
    pub(crate) progress: Vec<Progress>,
    /// When to beat; `None` without peers.
    pub(crate) beat_at: Option<Now>,
    /// The first entry of the own term.
    pub(crate) first_own: Index,
    /// Last index and size of each own batch that is not committed.
    proposals: VecDeque<(Index, u64)>,
    uncommitted: u64,
    pub(crate) transfer: Option<Transfer>,
    pub(crate) reads: Reads,
    /// Somebody was told to campaign in this term, and may do so at any time: no leases any more.
    pub(crate) told_to_campaign: bool,
    /// The last proposal or read, or the begin of the leadership.
    pub(crate) active_at: Now,
    /// While this leader is no voter any more.
    pub(crate) leaving: Option<Leaving>,
    /// While the own log has holes from before the leadership.
    pub(crate) resolving: Option<Resolving>,
}

impl Leading {
    pub(crate) fn peer(&mut self, member: Member) -> Option<&mut Progress> {
        self.progress.iter_mut().find(|p| p.member == member)
    }

    /// A peer, if what it says still counts.
    pub(crate) fn live_peer(&mut self, member: Member) -> Option<&mut Progress> {
        self.peer(member).filter(|p| !p.gone)
    }

    pub(crate) fn transfer_target(&self) -> Option<Member> {
        self.transfer.as_ref().map(|t| t.to)
    }

    pub(crate) fn uncommitted_bytes(&self) -> u64 {
        self.uncommitted
    }

    pub(crate) fn wake_at(&self) -> Option<Now> {
        let transfer = self.transfer.as_ref().map(|t| t.give_up_at);
        let peers = self.progress.iter().filter_map(Progress::wake_at);
        let resolving = self.resolving.as_ref().map(Resolving::wake_at);
        let leaving = self.leaving.as_ref().map(|leaving| leaving.give_up_at);
        [self.beat_at, transfer, resolving, leaving].into_iter().flatten().chain(peers).min()
    }
}

impl Core {
    /// Section 5.2; the empty entry of section 8 is appended at once, unless holes forbid it.
    pub(crate) fn become_leader(&mut self) {
        assert!(self.hard.is_durable(), "a leader's term and vote are durable");
        let me = self.config.me;
        self.votes = Vec::new();
        self.role = Role::Leader;
        self.set_leader(Some(me));
        self.leading = Leading { active_at: self.now, ..Leading::default() };
        self.match_progress_to_conf();
        self.start_resolving();
        if self.leading.resolving.is_some() {
            self.beat();
        } else {
            self.open_term();
            self.schedule_beat();
        }
    }

    /// Follows a change of the membership: drops peers that left, starts new ones from zero.
    pub(crate) fn match_progress_to_conf(&mut self) {
        let (me, now) = (self.config.me, self.now);
        let next = self.log.last().index.next();
        let progress = &mut self.leading.progress;
        progress.retain(|p| self.conf.contains(p.member));
        for member in self.conf.iter().filter(|m| *m != me) {
            if let Err(at) = progress.binary_search_by_key(&member, |p| p.member) {
                progress.insert(at, Progress::new(member, next, now));
            }
        }
    }

    pub(crate) fn tick_leader(&mut self) {
        if self.leading.beat_at.is_some_and(|at| self.now >= at) {
            if self.config.check_quorum && !self.hears_quorum() {
                self.become_follower(self.term(), None);
                return;
            }
            if self.fall_quiet() {
                return;
            }
            self.beat();
        }
        self.give_up_transfer();
        self.tick_snapshots();
        self.leave_joint_if_due();
        self.give_up_resolving();
        self.step_down_if_disk_hangs();
        self.leave_if_known();
    }

    /// Thesis, 6.2: a leader that is cut off must not go on as if it were not.
    fn hears_quorum(&self) -> bool {
        let (me, now, patience) = (self.config.me, self.now, self.config.election_timeout);
        let heard = |m: Member| {
            let peer = self.leading.progress.iter().find(|p| p.member == m);
            m == me || peer.is_some_and(|p| !p.gone && now.since(p.heard_at) < patience)
        };
        has_quorum(&self.conf, heard)
    }

    /// Tells each peer that the leader lives, and what both know to be committed.
    pub(crate) fn beat(&mut self) {
        if self.config.lease_drift.is_some() {
            self.leading.reads.note_beat(self.now, self.config.election_timeout);
        }
        self.note_leaving();
        let round = self.leading.reads.round();
        for at in 0..self.leading.progress.len() {
            let peer = &self.leading.progress[at];
            let (to, commit) = (peer.member, peer.matched.min(self.commit));
            self.send(to, Body::Heartbeat { commit, round });
        }
        self.schedule_beat();
    }

    fn schedule_beat(&mut self) {
        let peers = !self.leading.progress.is_empty();
        self.leading.beat_at = peers.then(|| self.now.after(self.config.heartbeat));
    }

    /// Appends commands to the log, as one batch. Answers the term and the index of the first;
    /// they are committed once `committed` of a [`Ready`](crate::Ready) covers them in that term.
    /// Each digest was made by the caller, once, by [`Digest::of`] of [`EntryKind::Command`].
    ///
    /// # Errors
    /// Nothing was appended: not the leader, handing over, or too much is uncommitted.
    pub fn propose(
        &mut self,
        now: Now,
        commands: Vec<(Bytes, Digest)>,
    ) -> Result<(Term, Index), ProposeError> {
        self.advance(now);
        let size = commands.iter().map(|(payload, _)| payload.len() as u64).sum();
        self.check_proposal(size)?;
        if commands.is_empty() {
            return Err(ProposeError::Empty);
        }
        let first = self.log.last().index.next();
        for (payload, digest) in commands {
            self.append_own(EntryKind::Command, payload, digest);
        }
        self.leading.proposals.push_back((self.log.last().index, size));
        self.leading.uncommitted += size;
        Ok((self.term(), first))
    }

    /// Appends one entry of the host's own ([`EntryKind::Host`]), as [`Core::propose`] does.
    ///
    /// # Errors
    /// As [`Core::propose`].
    pub fn propose_host(
        &mut self,
        now: Now,
        payload: Bytes,
    ) -> Result<(Term, Index), ProposeError> {
        self.advance(now);
        let size = payload.len() as u64;
        self.check_proposal(size)?;
        let digest = Digest::of(EntryKind::Host, &payload);
        self.append_own(EntryKind::Host, payload, digest);
        let index = self.log.last().index;
        self.leading.proposals.push_back((index, size));
        self.leading.uncommitted += size;
        Ok((self.term(), index))
    }

    pub(crate) fn check_proposal(&self, size: u64) -> Result<(), ProposeError> {
        if self.role != Role::Leader {
            return Err(ProposeError::NotLeader { leader: self.leader });
        }
        if let (Some(_), Some(hole)) = (&self.leading.resolving, self.healing.first()) {
            return Err(ProposeError::Healing { hole });
        }
        if self.leading.transfer.is_some() || self.leading.leaving.is_some() {
            return Err(ProposeError::Dropped);
        }
        let (uncommitted, limit) = (self.leading.uncommitted, self.config.max_uncommitted_bytes);
        if uncommitted > 0 && uncommitted.saturating_add(size) > limit {
            return Err(ProposeError::Busy { uncommitted, limit });
        }
        Ok(())
    }

    pub(crate) fn append_own(&mut self, kind: EntryKind, payload: Bytes, digest: Digest) {
        self.leading.active_at = self.now;
        self.wake_up();
        let id = EntryId::new(self.term(), self.log.last().index.next());
        self.log.push(Entry::from_parts(id, kind, digest, payload));
    }

    /// Commits what a majority holds durably, if its last entry is of the own term: entries of
    /// earlier terms are committed with it, never by counting (section 5.4.2, figure 8).
    pub(crate) fn advance_commit(&mut self) {
        let (me, durable) = (self.config.me, self.log.durable());
        let matched = |m: Member| {
            let peer = self.leading.progress.iter().find(|p| p.member == m);
            if m == me { durable } else { peer.map_or(Index::ZERO, |p| p.matched) }
        };
        let index = committed_index(&self.conf, matched);
        let own = self.log.term(index) == Some(self.term()) || is(Defect::OldTermCounted);
        if index <= self.commit || !own {
            return;
        }
        self.commit = index;
        let leading = &mut self.leading;
        while let Some((_, size)) = leading.proposals.pop_front_if(|(last, _)| *last <= index) {
            leading.uncommitted -= size;
        }
    }

    /// Whether an entry of the own term is committed: before, a leader does not know what is
    /// (section 8, first point).
    pub(crate) fn committed_in_own_term(&self) -> bool {
        self.log.term(self.commit) == Some(self.term())
    }
}

/// The bytes that entries take in a window.
pub(crate) fn weight_of(entries: &[Entry]) -> u64 {
    entries.iter().map(weight).sum()
}
