//! The own disk, as it shows in what waits for it: a sync that hangs is no error, and says nothing.

use refloat_log_store::Ticket;
use refloat_types::Now;

use super::{Durable, NodeCore};

/// What is written and not durable yet.
pub(super) struct Awaited {
    pub(super) ticket: Ticket,
    pub(super) what: Durable,
    /// When the store took it.
    since: Now,
}

impl NodeCore {
    /// Does something once a ticket is durable.
    pub(super) fn await_ticket(&mut self, ticket: Ticket, what: Durable) {
        self.tickets.push_back(Awaited { ticket, what, since: self.time.now });
    }

    /// How long the oldest write has waited for the disk. What waits for space does not count: a
    /// full disk answers.
    fn disk_silent_for(&self) -> u64 {
        self.tickets.front().map_or(0, |oldest| self.now().since(oldest.since))
    }

    /// How long it may, if there is a bound.
    fn disk_patience(&self) -> Option<u64> {
        let timeouts = u64::from(self.config.disk_patience);
        (timeouts > 0).then(|| timeouts.saturating_mul(self.config.election_timeout))
    }

    /// When the bound is reached, unless the disk answers before.
    pub(super) fn disk_wake_at(&self) -> Option<Now> {
        let oldest = self.tickets.front().filter(|_| !self.disk_hangs)?;
        self.disk_patience().map(|patience| oldest.since.after(patience))
    }

    /// A node whose disk does not answer for too long leaves its leaderships to others, and takes
    /// none before everything that waited so long is durable.
    pub(super) fn watch_disk(&mut self) {
        let silent = self.disk_silent_for();
        let hangs = self.disk_patience().is_some_and(|patience| silent >= patience);
        if hangs == self.disk_hangs {
            return;
        }
        self.disk_hangs = hangs;
        self.counters.disk_hangs += u64::from(hangs);
        if hangs {
            let (node, millis) = (self.me.node, silent / 1_000);
            tracing::error!(%node, millis, "the own disk does not answer: others are to lead");
        } else {
            tracing::warn!(node = %self.me.node, "the own disk answers again");
        }
        let now = self.now();
        for slot in 0..self.slots.len() {
            let successor = self.successor(slot).filter(|_| hangs);
            let Some(group) = self.slots[slot].as_mut() else { continue };
            match hangs {
                true => group.core.disk_hangs(now, successor),
                false => group.core.disk_answers(now),
            }
            self.mark(slot);
        }
    }

    /// What is wrong with the own disk, as a sentence.
    pub(super) fn disk_says(&self) -> Option<String> {
        let silent = self.disk_silent_for();
        let text = || format!("the own disk has not answered for {} s", silent / 1_000_000);
        self.disk_hangs.then(text)
    }
}
