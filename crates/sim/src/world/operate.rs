//! What operators ask for.

use bytes::Bytes;
use refloat_node::{GroupStatus, Input, MemberChange, MemberStatus, Token};
use refloat_types::{GroupId, Incarnation, Member, NodeId};

use super::World;
use crate::client::{Client, Request, What};
use crate::faults::Damage;
use crate::invariants::linearizability::Floors;

/// The first id of the groups that come and go.
const FIRST_PASSING: u64 = 101;

/// Whether a group may be deleted in the course of a run.
pub(super) fn is_passing(group: GroupId) -> bool {
    group.0 >= FIRST_PASSING
}

impl World {
    /// What an operator may ask at any time.
    pub(super) fn operate(&mut self, node: usize, transfer: bool) {
        if self.machines[node].process.is_none() {
            return;
        }
        let group = GroupId(self.rng.below(u64::from(self.settings.groups) + 1));
        let target = NodeId(1 + self.rng.below(self.settings.nodes));
        if transfer {
            self.count("transfers asked for");
            self.order(node, group, |to| Input::Transfer { to, group, target });
        } else {
            self.count("snapshots asked for");
            self.order(node, group, |to| Input::Snapshot { to, group });
        }
    }

    fn order(&mut self, node: usize, group: GroupId, input: impl FnOnce(Token) -> Input) {
        self.order_for(node, group, What::Other(group), input);
    }

    pub(super) fn order_for(
        &mut self,
        node: usize,
        group: GroupId,
        what: What,
        input: impl FnOnce(Token) -> Input,
    ) {
        let token = self.clients.token();
        let boot = self.machines[node].boot;
        let (client, floors) = (Client::Operator, Floors::new());
        self.clients
            .open
            .insert(token, Request { client, node, boot, group, floors, what, operation: None });
        self.input(node, input(Token(token)));
    }

    /// Takes a node out of a group, or brings it back by one step. Two voters stay.
    pub(super) fn change_members(&mut self) {
        let group = GroupId(1 + self.rng.below(u64::from(self.settings.groups)));
        let Some((leader, status)) = self.leader_of(group) else { return };
        let member = self.machines[self.rng.index(self.machines.len())].member;
        let voters = status.members.iter().filter(|m| m.member == "voter").count();
        let out = voters > 2;
        let harder = self.rng.chance(50);
        let change = match role(&status, member) {
            Some("voter") if out && harder => MemberChange::Remove(member),
            Some("voter") if out => MemberChange::Demote(member),
            Some("learner") if harder => MemberChange::Promote(member),
            Some("learner") => MemberChange::Remove(member),
            None if harder => MemberChange::AddVoter(member),
            None => MemberChange::AddLearner(member),
            _ => return,
        };
        self.ask_change(leader, group, change);
    }

    /// Creates or deletes one of the groups that come and go.
    pub(super) fn churn(&mut self, node: usize) {
        if self.machines[node].process.is_none() {
            return;
        }
        let group = self.passing_group();
        if self.rng.chance(60) {
            self.count("groups created");
            let members = Vec::new();
            self.order(node, group, |to| Input::CreateGroup { to, group, members });
        } else {
            self.count("groups deleted");
            self.checks.deletable.insert(group);
            self.order(node, group, |to| Input::DeleteGroup { to, group });
        }
    }

    /// One of the groups that come and go.
    pub(super) fn passing_group(&mut self) -> GroupId {
        GroupId(FIRST_PASSING + self.rng.below(3))
    }

    pub(super) fn ask_change(&mut self, leader: usize, group: GroupId, change: MemberChange) {
        self.trace.line(self.now, format_args!("group {group}: {change:?}"));
        self.count(match change {
            MemberChange::Remove(_) => "members removed",
            MemberChange::Demote(_) => "voters made learners",
            MemberChange::Promote(_) => "learners made voters",
            _ => "members added",
        });
        self.order(leader, group, |to| Input::ChangeMembers { to, group, change, expected: None });
    }

    /// In the healed cluster: every node is to be a voter of every group again. Says what is missing.
    pub(super) fn mend_members(&mut self, group: GroupId) -> Option<String> {
        let Some((leader, status)) = self.leader_of(group) else {
            return Some(format!("nobody leads group {group}: {:#?}", self.views_of(group)));
        };
        let missing =
            self.machines.iter().map(|m| m.member).find_map(|member| match role(&status, member) {
                Some("voter") => None,
                Some("learner") => Some(MemberChange::Promote(member)),
                _ => Some(MemberChange::AddLearner(member)),
            });
        let asked = |r: &Request| matches!(r.what, What::Other(asked) if asked == group);
        // A node that lost its disk, or its memory, is taken in without being asked.
        let wiped = matches!(self.plan.damage, Damage::One(_)) && !self.members_left;
        let by_itself = self.recovered || wiped;
        if let Some(change) = missing.clone()
            && !by_itself
            && !self.clients.open.values().any(asked)
        {
            self.ask_change(leader, group, change);
        }
        missing.map(|change| format!("{change:?} waits: {:#?}", self.views_of(group)))
    }

    /// A group as every node sees it.
    pub(super) fn views_of(&self, group: GroupId) -> Vec<GroupStatus> {
        let cores = self.machines.iter().filter_map(|m| m.process.as_ref()).map(|p| &p.core);
        let of = |core: &refloat_node::NodeCore| core.status().groups;
        cores.flat_map(of).filter(|g| g.group == group.0).collect()
    }

    pub(super) fn leader_of(&self, group: GroupId) -> Option<(usize, GroupStatus)> {
        let leads = |(node, machine): (usize, &crate::node::Machine)| {
            let status = machine.process.as_ref()?.core.status();
            let status = status.groups.into_iter().find(|g| g.group == group.0)?;
            (status.role == "leader").then_some((node, status))
        };
        let leaders = self.machines.iter().enumerate().filter_map(leads);
        leaders.max_by_key(|(_, status)| status.term)
    }

    /// A command that some client was told is done, and that is older than this.
    pub(super) fn remember(&mut self, command: &Bytes) {
        self.clients.acknowledged.push_back((self.now, command.clone()));
        if self.clients.acknowledged.len() > 1_000 {
            self.clients.acknowledged.pop_front();
        }
    }
}

fn role(status: &GroupStatus, member: Member) -> Option<&'static str> {
    let life = |m: &MemberStatus| u128::from_str_radix(&m.incarnation, 16).map(Incarnation);
    let is = |m: &&MemberStatus| life(m).is_ok_and(|life| life.is_of(member.incarnation));
    status.members.iter().filter(|m| m.node == member.node.0).find(is).map(|m| m.member)
}
