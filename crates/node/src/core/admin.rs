//! What operators ask of a group.

use refloat_types::{GroupId, GroupKey};

use super::NodeCore;
use super::catalog::GroupCommand;
use super::group::Answer;
use crate::api::{MemberChange, MembershipId, NodeChange, Reply, Token};
use crate::error::RequestError;

impl NodeCore {
    pub(super) fn change_members(
        &mut self,
        to: Token,
        id: GroupId,
        change: MemberChange,
        expected: Option<MembershipId>,
    ) {
        let now = self.now();
        // It needs so little space that a full disk takes it: it may be the way out.
        let slot = match self.budget(0).and_then(|()| self.find(id)) {
            Ok(slot) => slot,
            Err(error) => return self.fail(to, error),
        };
        let group = self.slots[slot].as_mut().expect("found");
        let leader = group.leader();
        let result = match expected {
            Some(expected) => group.core.propose_conf_change_if(now, expected, change),
            None => group.core.propose_conf_change(now, change),
        };
        self.mark(slot);
        match result {
            Ok(at) => {
                self.admit(0);
                let reply = Reply { index: at.index, ..Reply::default() };
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

    pub(super) fn forget_leader(&mut self, to: Token, id: GroupId) {
        let now = self.now();
        let slot = match self.find(id) {
            Ok(slot) => slot,
            Err(error) => return self.fail(to, error),
        };
        let group = self.slots[slot].as_mut().expect("found");
        group.core.forget_leader(now);
        self.mark(slot);
        self.admit(0);
        self.answer(Answer::Local(to), 0, Ok(Reply::default()));
    }

    /// Has a change of the cluster's nodes written into group 0, if it fits what is known here.
    pub(super) fn change_nodes(&mut self, to: Token, change: NodeChange) {
        let id = GroupKey::META.id;
        let found = self.admission(0).and_then(|()| self.find(id));
        let checked = found.and_then(|slot| match self.node_command(slot, change) {
            Ok(command) => Ok((slot, command)),
            Err(reason) => Err(RequestError::Refused { group: id, reason }),
        });
        match checked {
            Ok((slot, command)) => {
                self.admit(0);
                self.propose_meta(slot, Answer::Local(to), &command);
            }
            Err(error) => self.fail(to, error),
        }
    }

    fn node_command(&self, meta: usize, change: NodeChange) -> Result<GroupCommand, String> {
        let Some(group) = self.slots[meta].as_ref() else { return Err("it is gone".to_owned()) };
        let conf = group.core.conf();
        let member = |node| conf.member(node);
        match change {
            NodeChange::Add { node, .. } if member(node).is_some() => {
                Err(format!("node {node} belongs to the cluster already"))
            }
            NodeChange::Add { node, learner } => Ok(GroupCommand::Expect { node, learner }),
            NodeChange::Promote { node } => match self.record(node) {
                Some(record) if record.learner && !record.gone => {
                    Ok(GroupCommand::Promote { node })
                }
                _ => Err(format!("node {node} was not added as a learner")),
            },
            NodeChange::Remove { node } => {
                let others = conf.voters.iter().filter(|m| m.node != node).count();
                let expected = self.record(node).is_some_and(|record| !record.gone);
                match member(node) {
                    None if !expected => Err(format!("node {node} does not belong to the cluster")),
                    Some(_) if others == 0 => Err(format!("node {node} is the last voter")),
                    known => {
                        let life = known.map(|member| member.incarnation);
                        Ok(GroupCommand::Dismiss { node, life })
                    }
                }
            }
        }
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
