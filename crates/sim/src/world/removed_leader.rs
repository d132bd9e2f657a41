//! A leader that is removed from a group of two, and is switched off for good as soon as it does not
//! lead any more: who stays must not wait for it.

use refloat_node::MemberChange;
use refloat_types::GroupId;
use refloat_vfs::Rng;

use super::{Event, World};
use crate::client::{Client, What};
use crate::invariants::LIVENESS;
use crate::node::Crash;
use crate::trace::mix;

/// How long a change, or an election without the removed one, may take.
const PATIENCE_US: u64 = 5_000_000;

impl World {
    /// In some runs; what the cluster came to is settled before and must be again afterwards.
    pub(super) fn survives_a_removed_leader(&mut self) -> bool {
        if Rng::new(mix(self.seed ^ 0x1ea7)).below(100) >= self.settings.removed_leaders {
            return true;
        }
        // Of a node that joined again group 0 says that it belongs to all groups: their leaders
        // take it back, whoever removed it.
        if self.machines.iter().any(|machine| machine.member != self.first_life(machine.id())) {
            return true;
        }
        let group = GroupId(1 + self.rng.below(u64::from(self.settings.groups)));
        if let Err(evidence) = self.remove_a_leader(group) {
            if self.violation.is_none() {
                self.checks.note(LIVENESS, Ok(()));
                self.violate(LIVENESS, format!("{evidence}: {:#?}", self.views_of(group)));
            }
            return false;
        }
        self.heal();
        self.settle()
    }

    fn remove_a_leader(&mut self, group: GroupId) -> Result<(), String> {
        self.members_left = true;
        let (leader, _) = self.leader_of(group).ok_or("nobody leads")?;
        let others: Vec<usize> = (0..self.machines.len()).filter(|n| *n != leader).collect();
        let Some((stays, leave)) = others.split_first() else { return Ok(()) };
        for node in leave {
            let member = self.machines[*node].member;
            self.ask_change(leader, group, MemberChange::Remove(member));
            let knows = |world: &World, of: usize| world.is_out(of, group, *node);
            if !self.run_until(PATIENCE_US, |world| knows(world, leader) && knows(world, *stays)) {
                return Err(format!("{member} does not leave {group}"));
            }
        }
        self.ask_change(leader, group, MemberChange::Remove(self.machines[leader].member));
        self.lose_the_news(leader, *stays, group);
        let left =
            |world: &World| world.is_out(leader, group, leader) && !world.leads(leader, group);
        if !self.run_until(PATIENCE_US, left) {
            return Err(format!("node {} does not leave {group}", leader + 1));
        }
        self.count("removed leaders switched off");
        let how = if self.rng.chance(50) { Crash::Kill } else { Crash::PowerCut };
        self.machines[leader].refused = true;
        self.crash(leader, how);
        let goes_on = self.goes_on_at(*stays, group);
        self.machines[leader].refused = false;
        goes_on
    }

    /// Who stays acknowledges its leader's removal, and for a while nothing of what the leader says
    /// arrives: first of all not that the removal is committed.
    fn lose_the_news(&mut self, leader: usize, stays: usize, group: GroupId) {
        let of = |world: &World, node: usize| {
            let groups = world.status(node).unwrap_or_default().groups;
            groups.into_iter().find(|g| g.group == group.0)
        };
        let before = of(self, leader).map(|g| g.commit);
        self.run_until(PATIENCE_US, |world| of(world, stays).map(|g| g.durable) > before);
        self.network.block(leader, stays);
        let lasts = self.rng.below(self.settings.election_timeout / 2);
        self.after(lasts, Event::HealNetwork);
    }

    /// It leads by itself, and serves.
    fn goes_on_at(&mut self, node: usize, group: GroupId) -> Result<(), String> {
        if !self.run_until(PATIENCE_US, |world| world.leads(node, group)) {
            return Err(format!("node {} waits for who was removed", node + 1));
        }
        self.ask(Client::Probe, node, group, 0);
        let probe = |event: &Event| matches!(event, Event::Probe { .. });
        let served = |world: &World| {
            let writes = |what: &What| matches!(what, What::Write(_));
            let asked = world.clients.open.values().any(|r| writes(&r.what));
            !asked && !world.queue.values().any(probe)
        };
        let served = self.run_until(PATIENCE_US, served);
        if served { Ok(()) } else { Err(format!("node {} does not serve", node + 1)) }
    }

    fn leads(&self, node: usize, group: GroupId) -> bool {
        let status = self.status(node).unwrap_or_default();
        status.groups.iter().any(|g| g.group == group.0 && g.role == "leader")
    }

    /// Whether a node knows that another one, or itself, is no member any more.
    fn is_out(&self, node: usize, group: GroupId, other: usize) -> bool {
        let status = self.status(node).unwrap_or_default();
        let id = self.machines[other].id();
        let group = status.groups.iter().find(|g| g.group == group.0);
        group.is_none_or(|g| g.members.iter().all(|m| m.node != id))
    }
}
