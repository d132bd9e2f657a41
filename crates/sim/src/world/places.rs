//! Directories that are not what or where they should be, and too much at once.

use bytes::Bytes;
use refloat_log_store::identity;
use refloat_types::{GroupId, Member};
use refloat_vfs::InFlight;

use super::{Event, World};
use crate::client::Client;
use crate::faults::Damage;
use crate::frame;
use crate::invariants::{NO_FOREIGN, OLD_COPY};
use crate::node::{Crash, Machine, data_dir};

impl World {
    // ---- old copies

    /// A frame arrives: its receiver knows from now on that the sender had this run.
    pub(super) fn hears(&mut self, node: usize, from: Member, bytes: &Bytes) {
        let Some(sender) = self.machines.iter().position(|m| m.member == from) else { return };
        let heard = self.machines[node].heard.entry(sender).or_default();
        *heard = frame::run(bytes).unwrap_or_default().max(*heard);
    }

    /// Puts back the copy of a node's directory that was kept, if all others heard a later run than
    /// the copy's: whoever did not can refuse nothing. Else keeps copies for another time.
    pub(super) fn put_old_copy_back(&mut self) {
        if self.machines.iter().any(|m| !is_undisturbed(m, self.now)) {
            return;
        }
        let may =
            |node: &usize| self.plan.damage != Damage::One(*node) && self.is_known_later(*node);
        let Some(node) = (0..self.machines.len()).find(may) else {
            for machine in &mut self.machines {
                let copy = machine.fs.fork().kill_with(InFlight::Done);
                machine.copy = Some((machine.run, copy));
            }
            return;
        };
        self.crash(node, Crash::Kill);
        let machine = &mut self.machines[node];
        let now = machine.fs.clone();
        let Some((run, copy)) = machine.copy.take() else { return };
        machine.fs = copy;
        // What it was is what it will be again, once somebody noticed.
        machine.copy = Some((machine.run, now));
        self.old_copy = Some(node);
        self.trace.line(self.now, format_args!("node {}: a copy of run {run} is back", node + 1));
        self.count("old copies of directories put back");
    }

    /// Whether there is a copy of a node's directory, and all others heard a later run.
    fn is_known_later(&self, node: usize) -> bool {
        let Some((old, _)) = &self.machines[node].copy else { return false };
        let told = |m: &Machine| m.heard.get(&node).is_some_and(|heard| heard > old);
        self.machines.iter().enumerate().all(|(other, m)| other == node || told(m))
    }

    /// The node was refused: the person in charge finds the directory that it should have.
    pub(super) fn old_copy_found(&mut self, node: usize) {
        self.checks.note(OLD_COPY, Ok(()));
        self.old_copy = None;
        self.crash(node, Crash::Kill);
        let machine = &mut self.machines[node];
        if let Some((_, fs)) = machine.copy.take() {
            machine.fs = fs;
        }
    }

    // ---- swapped places

    /// Two nodes are started on each other's directories.
    pub(super) fn swap(&mut self, node: usize) {
        let other = (node + 1) % self.machines.len();
        let free = |m: &Machine| m.swapped_with.is_none() && !m.refused;
        if other == node || !free(&self.machines[node]) || !free(&self.machines[other]) {
            return;
        }
        for node in [node, other] {
            if self.machines[node].process.is_some() {
                self.crash(node, Crash::Kill);
            }
        }
        self.exchange(node, other);
        self.machines[node].swapped_with = Some(other);
        self.machines[other].swapped_with = Some(node);
        self.count("directories swapped");
        for node in [node, other] {
            self.after(1_000, Event::Boot { node });
        }
        let wait = 10_000 + self.rng.below(1_000_000);
        self.after(wait, Event::SwapBack { node });
    }

    fn exchange(&mut self, a: usize, b: usize) {
        let fs = self.machines[a].fs.clone();
        self.machines[a].fs = std::mem::replace(&mut self.machines[b].fs, fs);
        for node in [a, b] {
            self.machines[node].fs.set_capacity(None);
        }
    }

    /// A start in another node's place: the identity says whose directory it is, and nothing of it
    /// is touched.
    pub(super) fn refuse_foreign(&mut self, node: usize) {
        let (fs, member) = (&self.machines[node].fs, self.machines[node].member);
        let before = fs.state_hash();
        let found = identity::load(fs, data_dir()).map(|found| found.identity.member);
        let check = match found {
            Ok(found) if found == member => Err(format!("{found} stands in a swapped place")),
            _ if fs.state_hash() != before => Err(format!("{member} changed what it refused")),
            _ => Ok(()),
        };
        self.checks.note(NO_FOREIGN, check);
    }

    pub(super) fn swap_back(&mut self, node: usize) {
        let Some(other) = self.machines[node].swapped_with.take() else { return };
        self.machines[other].swapped_with = None;
        self.exchange(node, other);
        for node in [node, other] {
            let wait = self.rng.below(50_000);
            self.after(wait, Event::Boot { node });
        }
    }

    // ---- overload

    /// Far more requests than a node takes, in no time.
    pub(super) fn burst(&mut self, node: usize) {
        if self.machines[node].process.is_none() {
            return;
        }
        self.count("bursts of requests");
        for _ in 0..1_000 + self.rng.below(2_000) {
            let group = GroupId(1 + self.rng.below(u64::from(self.settings.groups)));
            let kind = self.rng.below(100);
            self.ask(Client::Burst, node, group, kind);
        }
    }
}

/// Whether it runs, and nothing is about to end it.
fn is_undisturbed(machine: &Machine, now: u64) -> bool {
    let calm = machine.armed.is_none() && machine.disk_error.is_none() && !machine.asked_to_stop;
    machine.process.is_some() && calm && machine.paused_until <= now
}
