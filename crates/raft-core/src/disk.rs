//! An own disk that does not answer. Who cannot write can neither vote nor begin a term, and its
//! log grows in memory only; so it leaves the leadership to others, where these can take it.

use refloat_types::{NodeId, Now};

use crate::quorum::has_quorum;
use crate::{Core, Role};

impl Core {
    /// The own disk has not answered for longer than the host waits. Until
    /// [`Core::disk_answers`] this replica votes for nobody and does not campaign. A leader that
    /// the others can do without hands over to `successor`, and steps down if it has none, or if
    /// the hand-over is not through within an election timeout. One without which there is no
    /// majority goes on to lead: nobody else can be elected, and reads need no disk.
    pub fn disk_hangs(&mut self, now: Now, successor: Option<NodeId>) {
        self.advance(now);
        self.disk_hangs = true;
        match self.role {
            Role::Leader if self.is_replaceable() => {
                // Refused where one is under way: that one is waited for.
                let _ = successor.map(|to| self.transfer_leader(now, to));
                self.step_down_if_disk_hangs();
            }
            Role::Leader | Role::Follower => {}
            Role::PreCandidate | Role::Candidate => self.become_follower(self.term(), None),
        }
    }

    /// The own disk answers again: the replica may vote and, an election timeout later, campaign.
    pub fn disk_answers(&mut self, now: Now) {
        self.advance(now);
        if core::mem::take(&mut self.disk_hangs) && self.role == Role::Follower {
            self.reset_election_timer();
        }
    }

    /// Whether the other voters are a majority by themselves.
    fn is_replaceable(&self) -> bool {
        has_quorum(&self.conf, |m| m != self.config.me)
    }

    pub(crate) fn step_down_if_disk_hangs(&mut self) {
        let leads = self.role == Role::Leader;
        let handing = self.leading.transfer.is_some();
        if self.disk_hangs && leads && !handing && self.is_replaceable() {
            self.become_follower(self.term(), None);
        }
    }
}
