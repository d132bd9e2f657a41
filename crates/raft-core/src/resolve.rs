//! A leader with holes. It appends and commits nothing before each hole, lowest first, is filled,
//! covered by a snapshot, or shown never to have been committed.

use alloc::vec::Vec;
use bytes::Bytes;

use refloat_types::{Digest, EntryKind, Index, Member, Now};

use crate::quorum::has_quorum;
use crate::{Body, Core, HoleRange, Role};

/// How many election timeouts a leader asks in vain before others may try.
const PATIENCE: u64 = 4;

/// The question of the lowest hole.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Resolving {
    hole: Index,
    /// Who never had it.
    never: Vec<Member>,
    give_up_at: Now,
}

impl Resolving {
    pub(crate) fn wake_at(&self) -> Now {
        self.give_up_at
    }
}

impl Core {
    /// Called at the begin of a leadership.
    pub(crate) fn start_resolving(&mut self) {
        let Some(hole) = self.healing.first() else { return };
        let give_up_at = self.patience_ends_at();
        self.leading.resolving = Some(Resolving { hole, never: Vec::new(), give_up_at });
    }

    fn patience_ends_at(&self) -> Now {
        self.now.after(PATIENCE.saturating_mul(self.config.election_timeout))
    }

    /// A hole is being filled: the question is the next one.
    pub(crate) fn resolving_goes_on(&mut self) {
        let give_up_at = self.patience_ends_at();
        let next = self.healing.first_unfilled();
        if let (Some(resolving), Some(next)) = (&mut self.leading.resolving, next)
            && resolving.hole != next
        {
            *resolving = Resolving { hole: next, never: Vec::new(), give_up_at };
        }
    }

    /// Counts a member that never had the lowest hole. Only members of the own term count: they
    /// take nothing of an older leader any more, who could commit the entry yet. When a majority
    /// of each voter set says so, without this replica, it was never committed, nor anything
    /// behind it.
    pub(crate) fn on_hole_never_had(&mut self, from: Member, ranges: &[HoleRange]) {
        let Some(resolving) = &mut self.leading.resolving else { return };
        let hole = resolving.hole;
        if !self.healing.lacks(hole) {
            return; // it was cut, or is being filled: a late answer
        }
        let term = self.log.id(hole).term;
        if !ranges.iter().any(|r| r.term == term && r.contains(hole)) {
            return;
        }
        if !resolving.never.contains(&from) {
            resolving.never.push(from);
        }
        let (me, never) = (self.config.me, resolving.never.clone());
        let shown = has_quorum(&self.electorate(), |m| m != me && never.contains(&m));
        if shown && hole > self.commit {
            self.log.truncate(hole);
            self.forget_holes_from(hole);
            self.resolving_goes_on();
            self.heal_if_whole();
        }
    }

    /// What is missing is compacted at a member, so committed. A leader sends it by itself; who
    /// has none, or leads, asks for the snapshot.
    pub(crate) fn on_hole_compacted(&mut self, from: Member, up_to: Index) {
        let Some(hole) = self.healing.first() else { return };
        let followed = self.leader.is_some_and(|leader| leader != self.config.me);
        if up_to < hole || followed || self.now < self.healing.snapshot_at {
            return;
        }
        self.healing.snapshot_at = self.now.after(self.config.snapshot_backoff);
        self.hope_for_holes();
        self.send(from, Body::SnapshotAsk { index: hole });
    }

    /// Asked long enough: steps down, and says for whom it waited.
    pub(crate) fn give_up_resolving(&mut self) {
        let over = self.leading.resolving.as_ref().is_some_and(|r| self.now >= r.give_up_at);
        if over {
            self.healing.waits_for = self.waits_for();
            self.hope_for_holes();
            self.become_follower(self.term(), None);
        }
    }

    /// Voters that neither have the lowest hole nor could say that they never had it.
    pub(crate) fn waits_for(&self) -> Vec<Member> {
        let Some(resolving) = &self.leading.resolving else {
            return self.healing.waits_for.clone();
        };
        let conf = self.electorate();
        let silent =
            |m: &Member| *m != self.config.me && conf.is_voter(*m) && !resolving.never.contains(m);
        conf.iter().filter(silent).collect()
    }

    /// Nothing is missing any more: the leadership begins.
    pub(crate) fn finish_resolving(&mut self) {
        if self.role == Role::Leader && self.leading.resolving.take().is_some() {
            self.open_term();
        }
    }

    /// Appends the empty entry of section 8.
    pub(crate) fn open_term(&mut self) {
        self.leading.first_own = self.log.last().index.next();
        self.append_own(EntryKind::Empty, Bytes::new(), Digest::of(EntryKind::Empty, &[]));
    }
}
