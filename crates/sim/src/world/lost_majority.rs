//! A majority that is lost for good: one node goes on alone by an operator's order, whoever of the
//! others comes back is superseded, and with empty disks they are taken in again.

use std::sync::Arc;

use refloat_node::{Presence, recover};
use refloat_types::GroupId;
use refloat_vfs::{InFlight, Rng, Vfs};

use super::{Event, World};
use crate::invariants::{NO_SURPRISE_STOP, SUPERSEDED};
use crate::node::Crash;
use crate::trace::mix;

/// How long a node that is left behind has to hear of it.
const GHOST_US: u64 = 3_000_000;
/// How long the survivor has to lead everything.
const ALONE_US: u64 = 10_000_000;

impl World {
    /// Whether the cluster of this run loses its majority in the end.
    pub(super) fn is_to_lose_its_majority(&self) -> bool {
        Rng::new(mix(self.seed ^ 0x5a1e)).below(100) < self.settings.lost_majorities
    }

    /// The cluster is settled, so whoever is left has everything, and owes it to the clients.
    pub(super) fn lose_the_majority(&mut self) {
        let survivor = self.rng.index(self.machines.len());
        let how = if self.rng.chance(50) { Crash::Kill } else { Crash::PowerCut };
        self.trace.line(self.now, format_args!("all but node {} are lost", survivor + 1));
        self.strike_all(how);
        self.count("majorities lost for good");
        for machine in &mut self.machines {
            (machine.refused, machine.card) = (true, None);
        }
        self.recovered = true;
        if let Err(evidence) = self.go_on_alone(survivor) {
            return self.violate(NO_SURPRISE_STOP, evidence);
        }
        self.machines[survivor].refused = false;
        self.after(1_000, Event::Boot { node: survivor });
        if !self.run_until(ALONE_US, |world| world.leads_everything(survivor)) {
            let text = format!("node {} does not lead: {:#?}", survivor + 1, self.status(survivor));
            return self.violate(crate::invariants::LIVENESS, text);
        }
        let ghost = (survivor + 1) % self.machines.len();
        if ghost != survivor && self.rng.chance(50) {
            self.let_return(ghost);
        }
    }

    /// The operator's order, given again as often as it is cut off.
    fn go_on_alone(&mut self, node: usize) -> Result<(), String> {
        loop {
            let fs = self.machines[node].fs.clone();
            if self.rng.chance(50) {
                fs.crash_at(fs.op_count() + self.rng.below(80));
            }
            let vfs: Arc<dyn Vfs> = Arc::new(fs.clone());
            let done = recover(&vfs, &self.options(), &mut |_| Presence::Nobody);
            if fs.is_crashed() {
                self.count("recoveries of one node cut off");
                self.machines[node].fs = match self.rng.chance(50) {
                    true => fs.kill_with(InFlight::Done),
                    false => fs.power_cut_random(&mut self.rng),
                };
                continue;
            }
            fs.crash_at(u64::MAX);
            let done = done.map_err(|error| format!("node {} does not recover: {error}", node + 1));
            return done.map(|_| ());
        }
    }

    /// One of the lost comes back as it was: it hears that it counts for nothing, and leads nothing.
    fn let_return(&mut self, ghost: usize) {
        self.machines[ghost].refused = false;
        self.after(1_000, Event::Boot { node: ghost });
        let told = |world: &World| {
            let status = world.status(ghost);
            status.is_some_and(|s| s.forming.is_some_and(|text| text.contains("superseded")))
        };
        let heard = self.run_until(GHOST_US, told);
        let leads = self.status(ghost).is_some_and(|s| s.groups.iter().any(|g| g.role == "leader"));
        let check = match (heard, leads) {
            (true, false) => Ok(()),
            _ => Err(format!("node {} was left behind: {:#?}", ghost + 1, self.status(ghost))),
        };
        self.checks.note(SUPERSEDED, check);
        self.crash(ghost, Crash::Kill);
        // Nobody joins by what it says.
        (self.machines[ghost].refused, self.machines[ghost].card) = (true, None);
    }

    pub(super) fn status(&self, node: usize) -> Option<refloat_node::Status> {
        self.machines[node].process.as_ref().map(|process| process.core.status())
    }

    fn leads_everything(&self, node: usize) -> bool {
        let mut groups = (0..=u64::from(self.settings.groups)).map(GroupId);
        let status = self.status(node);
        let leads = |group: GroupId| {
            let mut groups = status.iter().flat_map(|status| &status.groups);
            groups.any(|g| g.group == group.0 && g.role == "leader" && g.applied == g.commit)
        };
        groups.all(leads)
    }

    pub(super) fn run_until(
        &mut self,
        patience: u64,
        mut done: impl FnMut(&World) -> bool,
    ) -> bool {
        let end = self.now + patience;
        while self.now < end && self.violation.is_none() {
            if done(self) {
                return true;
            }
            if !self.step() {
                break;
            }
        }
        done(self)
    }
}
