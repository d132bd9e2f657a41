//! Changes of the membership: when they may be proposed, and when they take effect.

use refloat_planted::{Defect, is};
use refloat_types::{Digest, EntryId, EntryKind, Index, Member, Now};

use crate::{ConfChange, ConfChangeError, ConfId, Core, ProposeError, Role};

impl Core {
    /// Appends a membership change (thesis, chapter 4). It takes effect on each replica when
    /// applied there.
    ///
    /// # Errors
    /// Nothing was appended: as for [`Core::propose`], or the change does not fit the membership,
    /// or the first entry of this term or the previous change is not applied yet.
    pub fn propose_conf_change(
        &mut self,
        now: Now,
        change: ConfChange,
    ) -> Result<EntryId, ProposeError> {
        self.advance(now);
        self.check_proposal(0)?;
        let pending = self.log.configs().last().map(|(at, _)| *at);
        let until = self.leading.first_own.max(pending.unwrap_or_default());
        if self.applied < until && !is(Defect::ChangesAtOnce) {
            return Err(ProposeError::ConfChangeTooEarly { until });
        }
        if matches!(change, ConfChange::Recover { .. }) {
            return Err(ProposeError::ConfChange(ConfChangeError::NotProposed));
        }
        change.apply(&self.conf).map_err(ProposeError::ConfChange)?;
        Ok(self.append_change(&change))
    }

    /// As [`Core::propose_conf_change`], if the membership still is the one that the proposer
    /// looked at.
    ///
    /// # Errors
    /// It is another one by now, or as there.
    pub fn propose_conf_change_if(
        &mut self,
        now: Now,
        expected: ConfId,
        change: ConfChange,
    ) -> Result<EntryId, ProposeError> {
        let found = ConfId::of(&self.conf);
        if self.role == Role::Leader && found != expected {
            let stale = ConfChangeError::Stale { expected, found };
            return Err(ProposeError::ConfChange(stale));
        }
        self.propose_conf_change(now, change)
    }

    /// Makes a learner a voter if it holds the log durably up to `required`.
    ///
    /// # Errors
    /// It does not yet, or as for [`Core::propose_conf_change`].
    pub fn promote(
        &mut self,
        now: Now,
        learner: Member,
        required: Index,
    ) -> Result<EntryId, ProposeError> {
        self.advance(now);
        self.check_proposal(0)?;
        let matched = self.leading.live_peer(learner).map_or(Index::ZERO, |p| p.matched);
        if self.conf.learners.contains(&learner) && matched < required {
            let behind = ConfChangeError::NotCaughtUp { learner, matched, required };
            return Err(ProposeError::ConfChange(behind));
        }
        self.propose_conf_change(now, ConfChange::Promote(learner))
    }

    fn append_change(&mut self, change: &ConfChange) -> EntryId {
        let payload = change.encode();
        let digest = Digest::of(EntryKind::Config, &payload);
        self.append_own(EntryKind::Config, payload, digest);
        self.log.last()
    }

    /// Leaves a joint membership that is to be left by itself: whoever leads by now does it, once,
    /// since while a change is in its log it proposes no other.
    pub(crate) fn leave_joint_if_due(&mut self) {
        let due = self.conf.is_joint() && self.conf.auto_leave && self.log.configs().is_empty();
        if due && self.applied >= self.leading.first_own && self.check_proposal(0).is_ok() {
            self.append_change(&ConfChange::Leave);
        }
    }

    /// The state machine applied everything up to `index`. Membership changes in it take effect
    /// now; a leader that is no voter any more tells those that stay, and steps down (thesis, 4.2.2).
    ///
    /// # Panics
    /// It was not committed.
    pub fn on_applied(&mut self, now: Now, index: Index) {
        self.advance(now);
        assert!(index <= self.commit, "only what is committed can be applied");
        if index <= self.applied {
            return;
        }
        self.applied = index;
        if !self.log.configs().is_empty() {
            self.apply_changes(index);
        }
        if self.role == Role::Leader {
            self.leave_joint_if_due();
        }
    }

    fn apply_changes(&mut self, index: Index) {
        let changes = self.log.take_configs(index);
        let Some((last, _)) = changes.last() else { return };
        let last = *last;
        for (_, change) in changes {
            // The proposer checked it against this very membership; a change that does not fit
            // is one that no replica takes.
            if let Ok(next) = change.apply(&self.conf) {
                self.conf = next;
            }
        }
        let votes = self.conf.is_voter(self.config.me);
        let leads_on = self.role == Role::Leader && !is(Defect::LeavesAtOnce);
        if self.role != Role::Follower && !votes && !leads_on {
            self.become_follower(self.term(), None);
        }
        if self.role == Role::Leader {
            self.drop_transfer_to_nobody();
            self.match_progress_to_conf();
            if !votes {
                self.start_leaving(last);
            }
            self.beat();
            self.advance_commit();
            self.finish_reads();
        }
    }
}
