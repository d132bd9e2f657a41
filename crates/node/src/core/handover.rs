//! Leaderships that somebody wants elsewhere, and waits for.

use refloat_raft_core::{Role, TransferError};
use refloat_types::{GroupId, Member, NodeId, Now, Term};

use super::NodeCore;
use super::group::{Answer, Group};
use crate::api::{Reply, Token};
use crate::error::{RequestError, TransferFailure};

/// A transfer whose end is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HandOver {
    pub(crate) to: Token,
    target: Member,
    /// In which this node led when it began.
    term: Term,
    /// An answer is given then at the latest.
    deadline: Now,
}

impl NodeCore {
    pub(super) fn transfer(&mut self, to: Token, id: GroupId, target: NodeId) {
        let now = self.now();
        let slot = match self.find(id) {
            Ok(slot) => slot,
            Err(error) => return self.fail(to, error),
        };
        let group = self.slots[slot].as_mut().expect("found");
        let leader = group.leader();
        let result = group.core.transfer_leader(now, target);
        self.mark(slot);
        match result {
            Ok(()) => self.await_transfer(to, slot),
            Err(TransferError::NotLeader { .. }) => {
                self.fail(to, RequestError::NotLeader { group: id, leader });
            }
            Err(error) => {
                self.fail(to, RequestError::Refused { group: id, reason: error.to_string() });
            }
        }
    }

    /// The core gives a transfer up after an election timeout; whoever was told to stand for
    /// election by then has as long again to be heard of.
    fn await_transfer(&mut self, to: Token, slot: usize) {
        self.admit(0);
        let deadline = self.now().after(2 * self.config.election_timeout);
        let Some(group) = self.slots[slot].as_mut() else { return };
        let target = group.core.transferring().expect("it has just begun");
        group.hand_over = Some(HandOver { to, target, term: group.core.term(), deadline });
    }

    /// Answers who waits for a transfer, if it is known how it ended.
    pub(super) fn tend_hand_over(&mut self, slot: usize) {
        let now = self.now();
        let Some(group) = self.slots[slot].as_mut() else { return };
        let Some(hand_over) = group.hand_over else { return };
        let Some(result) = end_of(group, &hand_over, now) else { return };
        group.hand_over = None;
        let (group, target) = (group.key.id, hand_over.target.node);
        let failed = |why| RequestError::NotTransferred { group, target, why };
        let result = result.map(|()| Reply::default()).map_err(failed);
        self.answer(Answer::Local(hand_over.to), 0, result);
    }
}

/// How a transfer ended, if it did.
fn end_of(group: &Group, hand_over: &HandOver, now: Now) -> Option<Result<(), TransferFailure>> {
    let HandOver { target, term, deadline, .. } = *hand_over;
    let is_over = now >= deadline;
    let in_core = (group.core.role() == Role::Leader, group.core.term());
    if in_core != (group.is_leader(), group.term()) {
        return None; // the core does not lead any more, or does; the turn tells in a moment
    }
    if group.is_leader() && group.term() == term {
        if group.core.transferring() == Some(target) && !is_over {
            return None;
        }
        return Some(Err(shortfall(group, target)));
    }
    match group.soft.leader {
        Some(leader) if leader.node == target.node => Some(Ok(())),
        Some(leader) => Some(Err(TransferFailure::OtherLeader { leader: leader.node })),
        None => is_over.then_some(Err(TransferFailure::NotElected)),
    }
}

/// Why a leader still is one.
fn shortfall(group: &Group, target: Member) -> TransferFailure {
    let status = group.core.status();
    if !status.conf.is_voter(target) {
        return TransferFailure::NoVoter;
    }
    let matched = status.progress.iter().find(|peer| peer.member == target).map(|p| p.matched);
    match status.last.index.0.saturating_sub(matched.unwrap_or_default().0) {
        0 => TransferFailure::NotElected,
        lacks => TransferFailure::Behind { lacks },
    }
}
