//! Faults, ends and starts.

use std::sync::Arc;

use refloat_log_store::BootError;
use refloat_node::{Input, NodeCore, StartError};
use refloat_types::GroupKey;
use refloat_vfs::{Fault, InFlight, OpKind, Vfs};

use super::{Event, World};
use crate::faults::{Kind, partition};
use crate::invariants::recovery_idempotent;
use crate::invariants::state_machine_safety::Place;
use crate::node::{Crash, Hurt, Process};
use crate::recorder::Recorder;
use crate::trace::mix;

impl World {
    pub(super) fn next_fault(&mut self) {
        if self.old_copy.is_some() {
            // Who heard the later run may not forget it now: no more is promised about old copies.
            return self.after(10_000, Event::NextFault);
        }
        if let Some((wait, kind)) = self.plan.next(&mut self.rng) {
            self.after(wait, Event::Fault(kind));
        }
    }

    pub(super) fn fault(&mut self, kind: Kind) {
        let node = self.rng.index(self.machines.len());
        self.trace.line(self.now, format_args!("fault {kind:?} (node {})", node + 1));
        match kind {
            Kind::Kill => self.strike(node, Crash::Kill),
            Kind::PowerCut => self.strike(node, Crash::PowerCut),
            Kind::Blackout => self.strike_all(Crash::PowerCut),
            Kind::Massacre => self.strike_all(Crash::Kill),
            Kind::Partition => self.part(),
            Kind::Pause => {
                let until = self.now + 50_000 + self.rng.below(1_000_000);
                self.machines[node].paused_until = until;
                self.count("pauses");
            }
            Kind::SlowJobs => {
                let until = self.now + self.rng.below(1_000_000);
                self.machines[node].slow_until = until;
                self.count("slow disks");
            }
            Kind::DiskError => self.fail_disk(node),
            Kind::Rot => self.rot(node),
            Kind::Unreadable => self.lose_sectors(),
            Kind::FullDisk => self.fill_disk(node),
            Kind::HangingDisk => {
                self.machines[node].hangs_until = self.now + 200_000 + self.rng.below(3_000_000);
                self.count("disks that hang");
            }
            Kind::Membership => self.change_members(),
            Kind::Churn => self.churn(node),
            Kind::Wipe => self.wipe_one(),
            Kind::OldCopy => self.put_old_copy_back(),
            Kind::Swap => self.swap(node),
            Kind::Burst => self.burst(node),
            Kind::Transfer => self.operate(node, true),
            Kind::Snapshot => self.operate(node, false),
            Kind::Shutdown => {
                if self.machines[node].process.is_some() {
                    self.machines[node].asked_to_stop = true;
                    self.count("orderly stops");
                    self.input(node, Input::Shutdown);
                }
            }
        }
    }

    /// Ends a process now, or in the middle of one of its next operations on the disk.
    fn strike(&mut self, node: usize, how: Crash) {
        if self.machines[node].process.is_none() {
            return;
        }
        if self.rng.chance(40) {
            return self.crash(node, how);
        }
        let machine = &mut self.machines[node];
        let number = machine.fs.op_count() + self.rng.below(12);
        machine.fs.crash_at(number);
        machine.armed = Some(how);
    }

    pub(super) fn strike_all(&mut self, how: Crash) {
        self.count(match how {
            Crash::Kill => "kills of all nodes",
            Crash::PowerCut => "power cuts of all nodes",
        });
        for node in 0..self.machines.len() {
            if self.machines[node].process.is_some() {
                self.crash(node, how);
            }
        }
    }

    /// The process ends; the disk is what this kind of end leaves.
    pub(super) fn crash(&mut self, node: usize, how: Crash) {
        let machine = &mut self.machines[node];
        // A file system whose directory sync failed lets no name through until it is mounted
        // again: the machine restarts with the process.
        let stuck = machine.disk_error == Some(OpKind::SyncDir) && machine.fs.faults_fired() > 0;
        let how = if stuck { Crash::PowerCut } else { how };
        if machine.fs.faults_fired() > 0 {
            self.count("disk errors hit");
        }
        let machine = &mut self.machines[node];
        machine.failed = machine.fs.faults_fired() > 0;
        machine.process = None;
        (machine.paused_until, machine.hangs_until, machine.seen) = (0, 0, (0, 0));
        (machine.armed, machine.disk_error, machine.asked_to_stop) = (None, None, false);
        let inside = machine.fs.is_crashed();
        machine.fs = match how {
            Crash::Kill => {
                let in_flight = match self.rng.below(3) {
                    0 => InFlight::Lost,
                    1 => InFlight::Torn(1 + self.rng.below(24)),
                    _ => InFlight::Done,
                };
                machine.fs.kill_with(in_flight)
            }
            Crash::PowerCut => machine.fs.power_cut_random(&mut self.rng),
        };
        self.trace.event(self.now, 4, node, machine.fs.state_hash());
        let story = machine.fs.story();
        let boot = machine.boot;
        self.trace.line(self.now, format_args!("node {} ends ({how:?}): {story}", node + 1));
        self.count(match (how, inside) {
            (Crash::Kill, false) => "kills",
            (Crash::Kill, true) => "kills inside an operation",
            (Crash::PowerCut, false) => "power cuts",
            (Crash::PowerCut, true) => "power cuts inside an operation",
        });
        for request in self.clients.lost(node) {
            self.ended_unknown(&request);
        }
        for peer in (0..self.machines.len()).filter(|peer| *peer != node) {
            self.disconnect(peer, node);
        }
        if how == Crash::Kill && self.rng.chance(20) {
            let wait = self.rng.below(200_000);
            self.after(wait, Event::PowerCutWhileDown { node, boot });
        }
        let down = match self.rng.below(3) {
            0 => self.rng.below(5_000),
            1 => self.rng.below(200_000),
            _ => self.rng.below(1_500_000),
        };
        self.after(down, Event::Boot { node });
    }

    /// The power goes while only the page cache remembers the killed process.
    pub(super) fn power_cut_while_down(&mut self, node: usize, boot: u64) {
        let machine = &mut self.machines[node];
        if machine.process.is_none() && machine.boot == boot {
            machine.fs = machine.fs.power_cut_random(&mut self.rng);
            self.trace.event(self.now, 5, node, machine.fs.state_hash());
            self.count("power cuts after a kill");
        }
    }

    /// Starts a process from what is on the disk.
    pub(super) fn boot(&mut self, node: usize) {
        if self.machines[node].process.is_some() || self.machines[node].refused {
            return;
        }
        if self.machines[node].swapped_with.is_some() {
            return self.refuse_foreign(node);
        }
        self.machines[node].boot += 1;
        if self.machines[node].boot > 1 {
            self.restarts += 1;
            if !self.healing && self.old_copy.is_none() && self.rng.chance(20) {
                let machine = &mut self.machines[node];
                let number = machine.fs.op_count() + self.rng.below(40);
                machine.fs.crash_at(number);
                let how = if self.rng.chance(50) { Crash::Kill } else { Crash::PowerCut };
                machine.armed = Some(how);
            }
        }
        self.recover_twice(node);
        let machine = &self.machines[node];
        let vfs: Arc<dyn Vfs> = Arc::new(machine.fs.clone());
        let (id, make) = (machine.id(), Arc::clone(&self.machine));
        let applied = Arc::clone(&self.checks.applied);
        let machines = Box::new(move |group: GroupKey| {
            let at = Place { group, node: id };
            let recorder = Recorder::new(at, make(group.id), Arc::clone(&applied));
            Box::new(recorder) as Box<dyn refloat_node::StateMachine>
        });
        let seed = mix(self.seed ^ mix(id) ^ machine.boot);
        let time = machine.time(self.now);
        let started = NodeCore::start(&vfs, self.options(), self.config(), machines, time, seed);
        let machine = &mut self.machines[node];
        if machine.fs.is_crashed() {
            let how = machine.armed.take().unwrap_or(Crash::Kill);
            machine.hurt.cut_start = true;
            self.count("crashes inside a boot");
            return self.crash(node, how);
        }
        match started {
            Ok((core, report)) => {
                self.trace.line(self.now, format_args!("boot: {}", report.summary()));
                let any = machine.hurt.any;
                machine.hurt = Hurt { any, ..Hurt::default() };
                machine.fresh = false;
                machine.run = core.identity().run;
                self.machines[node].heard.clear();
                // Nobody is to believe what an old copy says.
                if self.old_copy != Some(node) {
                    let machine = &self.machines[node];
                    self.checks.on_boot(&core, &report, (machine.hurt.any, machine.failed));
                }
                self.reach(&report);
                self.machines[node].process = Some(Process::new(core));
                self.input(node, Input::Tick);
                for peer in (0..self.machines.len()).filter(|peer| *peer != node) {
                    if self.machines[peer].process.is_some() && self.network.connected(node, peer) {
                        self.connect(node, peer);
                    }
                }
            }
            Err(StartError::Boot(BootError::NoSpace { .. })) if machine.fresh => {
                self.count("first starts refused by a full disk");
                let wait = self.rng.below(200_000);
                self.after(wait, Event::Boot { node });
            }
            Err(error) if self.machines[node].hurt.may_refuse() => {
                self.trace.line(self.now, format_args!("node {id} refuses: {}", chain(&error)));
                self.machines[node].refused = true;
                self.count("starts refused over a lost identity or log");
                if self.healing {
                    self.replace_disk(node);
                    self.after(10_000, Event::Boot { node });
                }
            }
            Err(error) => {
                let text = format!("node {id} does not start: {}", chain(&error));
                self.violate(crate::invariants::NO_SURPRISE_STOP, text);
            }
        }
    }

    /// Of some starts it is seen, on a copy of the disk, that another one would come to the same.
    fn recover_twice(&mut self, node: usize) {
        let machine = &self.machines[node];
        let seed = mix(self.seed ^ mix(machine.id()) ^ machine.boot);
        if machine.hurt.any || !seed.is_multiple_of(4) {
            return;
        }
        let check = recovery_idempotent::check(&machine.fs, &self.options(), seed);
        let check = check.map_err(|text| format!("node {}: {text}", node + 1));
        self.checks.note(recovery_idempotent::NAME, check);
    }

    /// Counts what the boot found, so that a run shows how far it got.
    fn reach(&mut self, report: &refloat_log_store::BootReport) {
        let mut add = |name, n: u64| {
            if n > 0 {
                *self.reached.entry(name).or_default() += n;
            }
        };
        add("boots with segments", u64::from(report.segments > 0));
        add("boots with a snapshot", u64::from(report.groups.iter().any(|g| g.snapshot > 0)));
        add("boots with repairs", u64::from(!report.repaired.is_empty()));
        add("boots over several log files", u64::from(report.files.len() > 3));
    }

    fn part(&mut self) {
        let (name, cuts) = partition(self.machines.len(), &mut self.rng);
        self.network.heal();
        self.count(name);
        // A cut link is noticed, or is not.
        let noticed = self.rng.chance(50);
        for (a, b) in cuts {
            self.network.block(a, b);
            if noticed {
                self.disconnect(a, b);
                self.disconnect(b, a);
            }
        }
        let lasts = 50_000 + self.rng.below(2_000_000);
        self.after(lasts, Event::HealNetwork);
    }

    pub(super) fn heal_network(&mut self) {
        self.network.heal();
        for a in 0..self.machines.len() {
            for b in a + 1..self.machines.len() {
                if self.machines[a].process.is_some() && self.machines[b].process.is_some() {
                    self.connect(a, b);
                }
            }
        }
    }

    /// One of the next writes or syncs fails: the process must stop and promise nothing.
    fn fail_disk(&mut self, node: usize) {
        let kinds = [OpKind::Write, OpKind::Sync, OpKind::SyncDir, OpKind::Rename];
        let kind = kinds[self.rng.index(kinds.len())];
        let skip = self.rng.below(4);
        let machine = &mut self.machines[node];
        // One at a time: what the one before may have left undecided depends on which it was.
        if machine.process.is_some() && machine.disk_error.is_none() {
            machine.fs.inject(Fault::on(kind).after(skip));
            machine.disk_error = Some(kind);
            self.count("disk errors armed");
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
