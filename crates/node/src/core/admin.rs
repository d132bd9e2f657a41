//! What operators ask of a group.

use bytes::Bytes;
use refloat_types::{GroupId, NodeId};

use super::NodeCore;
use super::group::Answer;
use crate::api::{MemberChange, Reply, Token};
use crate::error::RequestError;

impl NodeCore {
    pub(super) fn change_members(&mut self, to: Token, id: GroupId, change: MemberChange) {
        let now = self.now();
        let slot = match self.admission(0).and_then(|()| self.find(id)) {
            Ok(slot) => slot,
            Err(error) => return self.fail(to, error),
        };
        let group = self.slots[slot].as_mut().expect("found");
        let leader = group.leader();
        let result = group.core.propose_conf_change(now, change);
        self.mark(slot);
        match result {
            Ok(at) => {
                self.admit(0);
                let reply = Reply { index: at.index, payload: Bytes::new() };
                self.answer(Answer::Local(to), 0, Ok(reply));
            }
            Err(refloat_raft_core::ProposeError::NotLeader { .. }) => {
                self.fail(to, RequestError::NotLeader { group: id, leader });
            }
            Err(error) => {
                let reason = with_causes(&error);
                self.fail(to, RequestError::Refused { group: id, reason });
            }
        }
    }

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
        self.admit(0);
        let result = match result {
            Ok(()) => Ok(Reply::default()),
            Err(refloat_raft_core::TransferError::NotLeader { .. }) => {
                Err(RequestError::NotLeader { group: id, leader })
            }
            Err(error) => Err(RequestError::Refused { group: id, reason: error.to_string() }),
        };
        self.answer(Answer::Local(to), 0, result);
    }
}

/// An error and its causes in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
