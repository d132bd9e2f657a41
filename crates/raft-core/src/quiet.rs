//! Groups in which nothing happens cost nothing: the leader says so, and neither beats nor counts
//! answers; its followers do not wait for beats. The host beats for all its quiet groups at once,
//! and wakes those whose peer is gone, runs anew, or thinks otherwise of them.

use refloat_types::{EntryId, Member, Now};

use crate::progress::State;
use crate::{Body, Core, Role};

impl Core {
    /// Falls quiet if nothing was proposed or read for long enough and nobody lacks anything.
    pub(crate) fn fall_quiet(&mut self) -> bool {
        if !self.may_fall_quiet() {
            return false;
        }
        let last = self.log.last();
        for at in 0..self.leading.progress.len() {
            let to = self.leading.progress[at].member;
            self.send(to, Body::Quiet { last });
        }
        self.quiet = true;
        true
    }

    fn may_fall_quiet(&self) -> bool {
        let Some(idle) = self.config.quiet_after else { return false };
        let (last, leading) = (self.log.last().index, &self.leading);
        let agrees = |p: &crate::progress::Progress| {
            let heard = self.now.since(p.heard_at) < self.config.election_timeout;
            heard && !p.gone && p.state == State::Replicate && p.matched == last && !p.poke
        };
        self.now.since(leading.active_at) >= idle
            && self.applied == last
            && self.healing.first().is_none()
            && leading.transfer.is_none()
            && leading.leaving.is_none()
            && leading.reads.is_idle()
            && !(self.conf.is_joint() && self.conf.auto_leave)
            && leading.progress.iter().all(agrees)
    }

    /// A follower that holds and committed as much stops waiting for beats.
    pub(crate) fn on_quiet(&mut self, from: Member, last: EntryId) {
        self.hear_leader(from);
        let same = self.log.last() == last && self.log.durable() == last.index;
        self.quiet = same && self.acked == last.index && self.healing.first().is_none();
        if self.quiet {
            self.commit_to(last.index);
        }
    }

    /// Something happened to a quiet group: the leader beats, a follower waits for beats again.
    pub(crate) fn wake_up(&mut self) {
        if !core::mem::take(&mut self.quiet) {
            return;
        }
        if self.role == Role::Leader {
            let now = self.now;
            self.leading.active_at = now;
            self.leading.progress.iter_mut().for_each(|p| p.hear(now));
            self.beat();
        } else {
            self.reset_election_timer();
        }
    }

    /// Whether the group is quiet here: the host beats for it where this replica leads, and
    /// listens for such beats where it follows.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// The host has a reason to wake a quiet group: the node on the other side is gone, runs
    /// anew, or does not think that the group is quiet in this term. Nothing else happens.
    pub fn wake(&mut self, now: Now) {
        self.advance(now);
        self.wake_up();
    }

    /// The node of the leader lives and says that it leads this group in quiet: as good as a
    /// beat of the group itself.
    pub fn on_quiet_beat(&mut self, now: Now, leader: Member) {
        self.advance(now);
        if self.quiet && self.leader == Some(leader) {
            self.leader_heard_at = self.now;
        }
    }
}
