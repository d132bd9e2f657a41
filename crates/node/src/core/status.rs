//! What a node says about itself.

use refloat_log_store::GroupState;
use refloat_raft_core::{PeerState, Role};
use refloat_types::{ConfState, GroupKey, IndexSet, Member};

use super::NodeCore;
use super::group::Group;
use super::groups::Asleep;
use crate::api::MembershipId;
use crate::status::{GroupStatus, MemberStatus, Status};

impl NodeCore {
    /// The node and all its groups, ascending by id.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut groups: Vec<GroupStatus> =
            self.slots.iter().flatten().map(|group| self.running(group)).collect();
        groups.extend(self.asleep.iter().map(|(key, asleep)| resting(*key, asleep)));
        groups.sort_by_key(|group| (group.group, group.epoch));
        Status {
            cluster: self.identity.identity.cluster.to_string(),
            cluster_name: self.identity.cluster_name.clone(),
            node: self.me.node.0,
            incarnation: self.me.incarnation.to_string(),
            run: self.identity.run,
            epoch: self.identity.lineage.epoch(),
            rank: self.config.rank,
            lease_drift: self.config.lease_drift,
            forming: self.formation.waits_for().or_else(|| self.waits_to_be_taken_in()),
            disk: self.disk_says(),
            refused: self.refusals(),
            groups,
        }
    }

    fn running(&self, group: &Group) -> GroupStatus {
        let status = group.core.status();
        let learner = !status.conf.is_voter(group.me);
        let matched = |member: Member| {
            let peer = status.progress.iter().find(|p| p.member == member);
            let own = (member == group.me).then_some(status.durable.0);
            if group.is_leader() { peer.map(|p| p.matched.0).or(own) } else { None }
        };
        let sending = |member: Member| {
            let peer = status.progress.iter().find(|p| p.member == member);
            peer.filter(|_| group.is_leader()).map(|p| sending_name(p.state))
        };
        let refusal = |member: Member| {
            let refusal = group.snapshots.refusals.get(&member.node);
            refusal.filter(|_| group.is_leader()).cloned()
        };
        let lost_live = self.store.lost_live(group.key);
        GroupStatus {
            group: group.key.id.0,
            epoch: group.key.epoch.0,
            role: role_name(status.role, learner),
            term: status.term.0,
            leader: status.leader.map(|member| member.node.0),
            commit: status.commit.0,
            applied: group.apply.applied.index.0,
            durable: status.durable.0,
            snapshot: group.snapshots.published.index.0,
            state: state_name(match &group.rebirth {
                Some(_) => GroupState::Amnesia,
                None if group.snapshots.lost.is_some() => GroupState::Damaged,
                None if group.unwell.is_none() && !lost_live.is_empty() => GroupState::Damaged,
                None => group.unwell.as_ref().map_or(GroupState::Clean, |u| u.state),
            }),
            waits_for: waits_for(group, &status, &lost_live)
                .or_else(|| group.taking_in.clone())
                .or_else(|| self.disk_says())
                .or_else(|| self.lost_majority(&status.conf)),
            quiet: status.quiet,
            lease: status.lease,
            machine_version: group.rules.in_force,
            machine_newest: group.rules.newest,
            transfer: status.transfer.map(|member| member.node.0),
            membership: status.conf_id,
            members: members(&status.conf, matched, sending, refusal),
        }
    }
}

/// What a replica that is not whole waits for, in a sentence.
fn waits_for(
    group: &Group,
    status: &refloat_raft_core::Status,
    lost_live: &IndexSet,
) -> Option<String> {
    if let Some(rebirth) = &group.rebirth {
        return Some(rebirth.waits_for());
    }
    if let Some(node) = group.dismissed_by.filter(|_| group.core.stands_back()) {
        return Some(format!(
            "nothing any more: node {node} says that this node was removed from the group"
        ));
    }
    if status.leader.is_none() && !status.conf.contains(group.me) {
        let text = "a leader that has this node as a member: by its own log it was removed, or \
                    not added yet";
        return Some(text.to_owned());
    }
    if let Some(evidence) = &group.snapshots.lost {
        let index = status.applied;
        return Some(format!("any member that has a snapshot up to {index}; because {evidence}"));
    }
    let Some(unwell) = &group.unwell else {
        let text = format!("any member that has entries {lost_live}, to which the snapshot refers");
        return (!lost_live.is_empty()).then_some(text);
    };
    let mut text = match unwell.state {
        GroupState::Damaged => format!("any member that has entries {}", status.holes),
        GroupState::HeadUnknown if status.leader.is_none() => "a leader".to_owned(),
        GroupState::HeadUnknown => "everything that its leader had".to_owned(),
        GroupState::Amnesia => "a new life of this replica".to_owned(),
        GroupState::Clean => return None,
    };
    if !status.waits_for.is_empty() {
        let nodes: Vec<String> = status.waits_for.iter().map(|m| m.node.to_string()).collect();
        text.push_str(&format!("; nodes {} have not answered for them", nodes.join(", ")));
    }
    Some(format!("{text}; because {}", unwell.evidence))
}

fn resting(key: GroupKey, asleep: &Asleep) -> GroupStatus {
    GroupStatus {
        group: key.id.0,
        epoch: key.epoch.0,
        role: "stopped",
        term: asleep.term.0,
        leader: None,
        commit: asleep.commit.0,
        applied: asleep.applied.0,
        durable: asleep.last.index.0,
        snapshot: asleep.snapshot.index.0,
        state: state_name(asleep.state),
        waits_for: asleep.waits_for.clone(),
        quiet: false,
        lease: false,
        machine_version: 0,
        machine_newest: 0,
        transfer: None,
        membership: MembershipId::of(&asleep.conf),
        members: members(&asleep.conf, |_| None, |_| None, |_| None),
    }
}

fn role_name(role: Role, learner: bool) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Candidate => "candidate",
        Role::PreCandidate => "pre-candidate",
        Role::Follower if learner => "learner",
        Role::Follower => "follower",
    }
}

fn sending_name(state: PeerState) -> &'static str {
    match state {
        PeerState::Probe => "probe",
        PeerState::Replicate => "replicate",
        PeerState::Snapshot => "snapshot",
    }
}

fn state_name(state: GroupState) -> &'static str {
    match state {
        GroupState::Clean => "clean",
        GroupState::Damaged => "damaged",
        GroupState::HeadUnknown => "head-unknown",
        GroupState::Amnesia => "amnesia",
    }
}

fn members(
    conf: &ConfState,
    matched: impl Fn(Member) -> Option<u64>,
    sending: impl Fn(Member) -> Option<&'static str>,
    refusal: impl Fn(Member) -> Option<String>,
) -> Vec<MemberStatus> {
    let standing = |member: Member| {
        let (old, new) = (conf.outgoing.contains(&member), conf.voters.contains(&member));
        match (conf.is_joint(), old, new) {
            (true, false, true) => "incoming",
            (true, true, false) => "outgoing",
            (_, _, true) => "voter",
            _ => "learner",
        }
    };
    let mut members: Vec<MemberStatus> = conf
        .iter()
        .map(|member| MemberStatus {
            node: member.node.0,
            incarnation: member.incarnation.to_string(),
            member: standing(member),
            matched: matched(member),
            sending: sending(member),
            refusal: refusal(member),
        })
        .collect();
    members.sort_by_key(|member| member.node);
    members
}
