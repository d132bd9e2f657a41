//! The second phase: nothing goes wrong any more, and the cluster must serve again.

use std::collections::BTreeSet;

use refloat_node::GroupStatus;
use refloat_types::{Epoch, GroupId, GroupKey};

use super::operate::is_passing;
use super::{Event, World};
use crate::invariants::{ANSWERS, BLACK_BOX, LIVENESS};
use crate::node::Crash;

/// How often the cluster is looked at, in simulated microseconds.
const LOOK_EVERY: u64 = 50_000;

impl World {
    /// Twice: what the cluster came to must also be what it finds after a power cut of all nodes.
    pub(super) fn heal_and_settle(&mut self) {
        self.heal();
        if self.settle() {
            self.trace.line(self.now, format_args!("settled; the power goes once more"));
            self.strike_all(Crash::PowerCut);
            self.heal();
            if self.settle()
                && self.gives_all_back()
                && self.survives_a_removed_leader()
                && self.survives_a_lost_majority()
                && self.gives_all_back()
            {
                self.finish();
            }
        }
    }

    /// What rotted and was not noticed is noticed by this, while there are others who have it.
    fn gives_all_back(&mut self) -> bool {
        self.ask_for_all();
        self.settle()
    }

    /// In some runs all but one of the nodes are lost in the end, which must cost nothing either.
    fn survives_a_lost_majority(&mut self) -> bool {
        if !self.is_to_lose_its_majority() {
            return true;
        }
        self.lose_the_majority();
        if self.violation.is_some() {
            return false;
        }
        self.heal();
        self.settle()
    }

    pub(super) fn settle(&mut self) -> bool {
        let begin = self.now;
        let mut next_look = begin + LOOK_EVERY;
        let mut why = "nothing happened".to_owned();
        while self.now < begin + self.settings.heal_us {
            if !self.step() || self.violation.is_some() {
                break;
            }
            if self.now >= next_look {
                next_look = self.now + LOOK_EVERY;
                match self.unsettled() {
                    Some(reason) => why = reason,
                    None => return true,
                }
            }
        }
        if self.violation.is_none() {
            let after = (self.now - begin) as f64 / 1e6;
            self.checks.note(LIVENESS, Ok(()));
            self.violate(LIVENESS, format!("after {after:.1} s: {why}"));
        }
        false
    }

    pub(super) fn heal(&mut self) {
        self.trace.line(self.now, format_args!("healed"));
        self.healing = true;
        self.network.calm();
        for node in 0..self.machines.len() {
            self.swap_back(node);
        }
        for node in 0..self.machines.len() {
            let machine = &mut self.machines[node];
            (machine.paused_until, machine.slow_until, machine.hangs_until) = (0, 0, 0);
            machine.fs.set_capacity(None);
            machine.armed = None;
            machine.fs.crash_at(u64::MAX);
            machine.fs.clear_faults();
            if machine.refused {
                self.replace_disk(node);
            }
            if self.machines[node].process.is_none() {
                let wait = self.rng.below(50_000);
                self.after(wait, Event::Boot { node });
            }
            for group in self.groups_to_probe() {
                self.after(1_000, Event::Probe { node, group });
            }
        }
        self.heal_network();
    }

    /// What is not yet as it should be.
    fn unsettled(&mut self) -> Option<String> {
        let groups = (1..=u64::from(self.settings.groups)).map(GroupId);
        let missing: Vec<String> = groups.filter_map(|group| self.mend_members(group)).collect();
        if let Some(text) = missing.into_iter().next() {
            return Some(text);
        }
        if let Some(node) = self.old_copy {
            return Some(format!("node {} runs from an old copy", self.machines[node].id()));
        }
        if let Some((token, request)) = self.clients.open.iter().next() {
            let (node, group) = (self.machines[request.node].id(), request.group);
            let views = (
                self.views_of(GroupId(0)),
                self.views_of(group),
                (0..3).map(|n| self.catalog(n)).collect::<Vec<_>>(),
            );
            return Some(format!(
                "request {token} to node {node}, group {group} is not answered: {views:#?}"
            ));
        }
        if let Some(Event::ReadLog { node, group, indexes }) =
            self.queue.values().find(|event| matches!(event, Event::ReadLog { .. }))
        {
            return Some(format!("node {} lacks some of {indexes} of group {group}", node + 1));
        }
        let probes = self.queue.values().filter(|e| matches!(e, Event::Probe { .. })).count();
        if probes > 0 {
            return Some(format!("{probes} probes are not acknowledged"));
        }
        let mut catalogs = (0..self.machines.len()).filter_map(|node| self.catalog(node));
        let Some(groups) = catalogs.next() else { return Some("no node is up".to_owned()) };
        if let Some(other) = catalogs.find(|other| *other != groups) {
            let missing = groups.symmetric_difference(&other).next().map(|key| key.id);
            let views = missing.map(|group| self.views_of(group)).unwrap_or_default();
            return Some(format!("the groups here are {groups:?} and there {other:?}: {views:#?}"));
        }
        groups.iter().find_map(|group| self.unsettled_group(*group))
    }

    /// The groups that a node knows, if it can know.
    pub(super) fn catalog(&self, node: usize) -> Option<BTreeSet<GroupKey>> {
        let process = self.machines[node].process.as_ref()?;
        let groups = process.core.status().groups;
        let keys = groups.iter().map(|g| GroupKey::new(GroupId(g.group), Epoch(g.epoch)));
        Some(keys.collect())
    }

    /// All that are there for good, and those that come and go as far as somebody knows them.
    fn groups_to_probe(&self) -> BTreeSet<u64> {
        let known = (0..self.machines.len()).filter_map(|node| self.catalog(node)).flatten();
        let passing = known.map(|key| key.id).filter(|id| is_passing(*id));
        passing.map(|id| id.0).chain(1..=u64::from(self.settings.groups)).collect()
    }

    fn unsettled_group(&self, key: GroupKey) -> Option<String> {
        let group = key.id.0;
        let mut first: Option<GroupStatus> = None;
        for machine in &self.machines {
            let id = machine.id();
            let Some(process) = &machine.process else { return Some(format!("node {id} is down")) };
            let status = process.core.status();
            let Some(found) = status.groups.into_iter().find(|g| g.group == group) else {
                return Some(format!("node {id} has no group {group}"));
            };
            if found.leader.is_none() || found.applied != found.commit || found.state != "clean" {
                return Some(format!("node {id}, group {group}: {found:?}"));
            }
            let first = first.get_or_insert_with(|| found.clone());
            if (first.term, first.leader, first.applied)
                != (found.term, found.leader, found.applied)
            {
                return Some(format!("group {group}: {first:?} and {found:?}"));
            }
        }
        let applied = self.checks.applied.lock();
        let mut positions = applied.positions(key);
        let (first_node, first) = positions.next()?;
        positions.find(|(_, position)| *position != first).map(|(node, position)| {
            format!("group {group}: node {first_node} at {first:?}, node {node} at {position:?}")
        })
    }

    fn finish(&mut self) {
        self.checks.note(LIVENESS, Ok(()));
        self.checks.note(ANSWERS, Ok(()));
        self.checks.at_end();
        if let Err(error) = self.history.report().check() {
            self.checks.note(BLACK_BOX, Err(error.to_string()));
        }
        self.checks.note(BLACK_BOX, Ok(()));
        for machine in &self.machines {
            let Some(process) = &machine.process else { continue };
            let counters = process.core.counters();
            for (name, n) in [
                ("snapshots installed", counters.snapshots_installed),
                ("snapshots written", counters.snapshots_written),
                ("live entries filled", counters.live_filled),
                ("elections won since the last start", counters.elections_won),
            ] {
                *self.reached.entry(name).or_default() += n;
            }
        }
        if let Some((invariant, evidence)) = self.checks.broken.take() {
            self.violate(invariant, evidence);
        }
    }
}
