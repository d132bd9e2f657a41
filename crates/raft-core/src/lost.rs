//! A replica whose state as of the applied index is lost, while its log is whole: a snapshot that
//! went bad after it was installed. It votes and acknowledges as ever, and leads nobody before a
//! member gave it another snapshot.

use refloat_types::Now;

use crate::{Body, Core, Role};

/// The search for another snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lost {
    ask_at: Now,
    /// Whom to ask next, as a count.
    turn: usize,
}

impl Core {
    /// The host cannot read the snapshot that the applied index stands on. The members are asked
    /// for one that reaches as far, until the host says [`Core::on_state_back`] or one that
    /// reaches further is installed.
    pub fn on_state_lost(&mut self, now: Now) {
        self.advance(now);
        self.wake_up();
        self.lost = Some(Lost { ask_at: self.now, turn: 0 });
        if self.role != Role::Follower {
            self.become_follower(self.term(), None);
        }
    }

    /// The host has the state as of the applied index again.
    pub fn on_state_back(&mut self, now: Now) {
        self.advance(now);
        self.lost = None;
    }

    pub(crate) fn lost_wake_at(&self) -> Option<Now> {
        self.lost.as_ref().map(|lost| lost.ask_at)
    }

    /// Asks one member after the other, the leader first.
    pub(crate) fn tick_lost(&mut self) {
        // Long enough for most to begin to send before another one is asked.
        let pause = self.config.snapshot_backoff.saturating_mul(2);
        let (now, index, members) = (self.now, self.applied, self.givers());
        let Some(lost) = self.lost.as_mut().filter(|lost| now >= lost.ask_at) else { return };
        lost.ask_at = now.after(pause);
        let turn = lost.turn;
        lost.turn += 1;
        if let Some(at) = turn.checked_rem(members.len()) {
            self.send(members[at], Body::SnapshotAsk { index });
        }
    }
}
