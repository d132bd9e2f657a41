//! An own disk without space. What needs space stays outside: entries in a log that cannot be
//! written down would keep votes waiting behind them. Votes, empty entries and changes of the
//! membership go on.

use alloc::vec::Vec;

use refloat_types::{Entry, EntryId, Index, Now};

use crate::{Body, Core, Role};

/// Whether entries are let in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Space {
    lacks: bool,
    /// The first entry of this leader that was left outside. What follows it is neither taken nor
    /// refused: the leader's window fills, and it waits.
    outside: Option<Index>,
    /// The highest commit index that was known before entries up to there were given up.
    pub(crate) committed: Index,
}

impl Space {
    pub(crate) fn lacks(&self) -> bool {
        self.lacks
    }

    /// A leader begins, or another one.
    pub(crate) fn forget_leader(&mut self) {
        self.outside = None;
    }
}

impl Core {
    /// Whether the own disk takes [bulky](Entry::is_bulky) entries. The host says so before it
    /// steps a message that brings some, and again when there is space: then the leader is asked
    /// for what was left outside.
    pub fn set_space(&mut self, now: Now, has_space: bool) {
        self.advance(now);
        if core::mem::replace(&mut self.space.lacks, !has_space) != has_space {
            return;
        }
        if !has_space {
            return;
        }
        self.healing.ask_again(now);
        let outside = self.space.outside.take();
        if let (Some(first), Some(leader), Role::Follower) = (outside, self.leader, self.role)
            && let Some(term) = self.log.term(first.prev())
        {
            let hint = EntryId::new(term, first.prev());
            self.send(leader, Body::AppendReject { prev: first, hint, lost: false });
        }
    }

    /// The store has no space for what was handed out, from this entry on. It is given up, as if a
    /// crash had taken it: it was acknowledged to nobody. The tickets of what was handed out are
    /// reported as ever. `overwritten`: the store still holds what these were to replace.
    ///
    /// # Panics
    /// It leads, and may have counted on these entries; or one of them is applied.
    pub fn give_up_entries(&mut self, now: Now, first: EntryId, overwritten: bool) {
        self.advance(now);
        if first.index <= self.log.compacted().index || !self.log.contains(first) {
            return; // other ones took their place already
        }
        assert!(self.role != Role::Leader, "a leader's entries wait");
        assert!(first.index > self.applied, "what is applied was written");
        if self.role != Role::Follower {
            // It asked for votes with them.
            self.become_follower(self.term(), None);
        }
        let kept = first.index.prev();
        self.log.give_up(first.index, overwritten);
        self.forget_holes_from(first.index);
        self.space.committed = self.space.committed.max(self.commit);
        self.validated = self.validated.min(kept);
        self.commit = self.commit.min(kept);
        self.out.committed = self.out.committed.min(kept);
        self.leave_outside(first.index);
    }

    /// The store has no space for what was handed out to fill holes: they stay, and are asked for
    /// when there is space.
    pub fn give_up_fills(&mut self, now: Now, entries: &[Entry]) {
        self.advance(now);
        for index in entries.iter().map(|entry| entry.id.index) {
            self.healing.unfill(index);
            self.log.forget_fills(index, index);
        }
        self.space.lacks = true;
    }

    fn leave_outside(&mut self, first: Index) {
        self.space.lacks = true;
        self.space.outside = Some(self.space.outside.map_or(first, |at| at.min(first)));
    }

    /// Leaves entries outside from the first on for which there is no space.
    pub(crate) fn leave_out_what_lacks_space(&mut self, entries: &mut Vec<Entry>) {
        if !self.space.lacks {
            return;
        }
        let here = |e: &Entry| self.log.contains(e.id) && !self.healing.lacks(e.id.index);
        if let Some(at) = entries.iter().position(|e| e.is_bulky() && !here(e)) {
            let first = entries[at].id.index;
            entries.truncate(at);
            self.leave_outside(first);
        }
    }

    /// Whether an append follows what was left outside: to refuse it would have the leader send
    /// all of it again.
    pub(crate) fn follows_what_is_outside(&self, prev: EntryId) -> bool {
        self.space.outside.is_some_and(|first| prev.index >= first)
    }
}
