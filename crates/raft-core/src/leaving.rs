//! A leader that is no voter any more leads on until those that stay know it.
//!
//! It may step down once its removal is committed (thesis, 4.2.2). But at that moment it may be the
//! only one that knows, and whoever does not know counts its vote still: gone for good, it would be
//! waited for, in a group of two for ever. So it tells the others first, waits until a majority of
//! them has answered, hands over to one that knows and holds all of its log, and steps down; after
//! an election timeout it does so in any case. It counts itself nowhere, and takes no proposals.

use refloat_types::{Index, Member, Now};

use crate::leader::Leading;
use crate::progress::Progress;
use crate::quorum::has_quorum;
use crate::{Body, Core};

/// The way out of a leader without a vote.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Leaving {
    /// The change that took its vote.
    change: Index,
    pub(crate) give_up_at: Now,
}

impl Core {
    /// A change took effect with which this leader votes no more. The next beat says so.
    pub(crate) fn start_leaving(&mut self, change: Index) {
        let give_up_at = self.now.after(self.config.election_timeout);
        self.leading.leaving = Some(Leaving { change, give_up_at });
    }

    /// A beat is about to leave: to those that hold the change it says that this is committed, in
    /// a round of its own, so that who answers it has taken that in. Whether it is new to anybody.
    pub(crate) fn note_leaving(&mut self) -> bool {
        let Leading { leaving, progress, reads, .. } = &mut self.leading;
        let Some(change) = leaving.as_ref().map(|leaving| leaving.change) else { return false };
        let untold = |p: &&mut Progress| !p.gone && p.told.is_none() && p.matched >= change;
        let mut untold = progress.iter_mut().filter(untold).peekable();
        if untold.peek().is_none() {
            return false;
        }
        let round = reads.begin_round();
        untold.for_each(|peer| peer.told = Some(round));
        true
    }

    /// A peer holds more: if it is the change, it is told at once.
    pub(crate) fn tell_of_leaving(&mut self) {
        if self.note_leaving() {
            self.beat();
        }
    }

    /// Steps down if a majority of those that stay knows, and one of them can take over at once; or
    /// if it took too long.
    pub(crate) fn leave_if_known(&mut self) {
        let Some(leaving) = &self.leading.leaving else { return };
        let over = self.now >= leaving.give_up_at;
        let peer = |m: Member| self.leading.progress.iter().find(|p| p.member == m);
        let known = has_quorum(&self.conf, |m| peer(m).is_some_and(|p| p.knows()));
        let heir = self.heir();
        if !(over || known && heir.is_some()) {
            return;
        }
        if let Some(heir) = heir.filter(|_| !self.leading.told_to_campaign) {
            self.send(heir, Body::TimeoutNow);
        }
        self.become_follower(self.term(), None);
    }

    /// A voter that knows, and holds all that this leader has.
    fn heir(&self) -> Option<Member> {
        let last = self.log.last().index;
        let whole = |p: &&Progress| {
            !p.gone && p.knows() && p.matched == last && self.conf.is_voter(p.member)
        };
        self.leading.progress.iter().find(whole).map(|p| p.member)
    }
}
