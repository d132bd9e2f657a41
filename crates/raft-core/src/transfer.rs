//! Handing leadership over (thesis, 3.10).

use refloat_types::{Member, NodeId, Now};

use crate::{Body, Core, Role, TransferError};

/// A hand-over under way. Proposals are refused meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Transfer {
    pub(crate) to: Member,
    pub(crate) give_up_at: Now,
    told: bool,
}

impl Core {
    /// Starts to hand leadership to a voter: it is brought up to date, then told to campaign.
    /// Proposals are refused until it leads, or until an election timeout has passed.
    ///
    /// # Errors
    /// Nothing was started.
    pub fn transfer_leader(&mut self, now: Now, to: NodeId) -> Result<(), TransferError> {
        self.advance(now);
        if self.role != Role::Leader {
            return Err(TransferError::NotLeader { leader: self.leader });
        }
        if to == self.config.me.node {
            return Err(TransferError::IsLeader);
        }
        if let Some(target) = self.leading.transfer_target() {
            return Err(TransferError::InProgress(target));
        }
        let member = self.conf.voters.iter().copied().find(|m| m.node == to);
        let to = member.ok_or(TransferError::NotVoter(to))?;
        self.wake_up();
        let give_up_at = self.now.after(self.config.election_timeout);
        self.leading.transfer = Some(Transfer { to, give_up_at, told: false });
        self.hand_over_if_caught_up();
        Ok(())
    }

    /// To whom leadership is being handed, until it leads or the hand-over is given up.
    #[must_use]
    pub fn transferring(&self) -> Option<Member> {
        self.leading.transfer_target()
    }

    /// Tells the target to campaign once its log, durable, ends where the leader's does.
    pub(crate) fn hand_over_if_caught_up(&mut self) {
        let last = self.log.last().index;
        let Some(target) = self.leading.transfer_target() else { return };
        let caught_up = self.leading.peer(target).is_some_and(|p| p.matched == last);
        let Some(transfer) = &mut self.leading.transfer else { return };
        if caught_up && !transfer.told {
            transfer.told = true;
            self.leading.told_to_campaign = true;
            self.send(target, Body::TimeoutNow);
        }
    }

    /// A target that is no voter any more cannot lead.
    pub(crate) fn drop_transfer_to_nobody(&mut self) {
        if self.leading.transfer_target().is_some_and(|to| !self.conf.voters.contains(&to)) {
            self.leading.transfer = None;
        }
    }

    pub(crate) fn give_up_transfer(&mut self) {
        if self.leading.transfer.as_ref().is_some_and(|t| self.now >= t.give_up_at) {
            self.leading.transfer = None;
        }
    }

    /// Campaigns at once, without a pre-vote: the leader wants it.
    pub(crate) fn on_timeout_now(&mut self, from: Member) {
        self.hear_leader(from);
        if self.may_campaign() {
            self.become_candidate(true);
        }
    }
}
