//! The world: what happens when, and to whom.

mod crash;
mod damage;
mod live;
mod load;
mod lost_majority;
mod operate;
mod places;
mod removed_leader;
mod seen;
mod settle;
mod wipe;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use refloat_log_store::{Options, identity};
use refloat_node::{Config, GroupStatus, Input, JobDone, Output, Status, StopReason};
use refloat_types::{
    ClusterId, Epoch, GroupId, GroupKey, Identity, Incarnation, IndexSet, Member, NodeId,
};
use refloat_vfs::{Rng, SimFs};

use self::seen::Seen;
use crate::client::Clients;
use crate::faults::{Kind, Plan};
use crate::frame;
use crate::invariants::{Invariants, LEADER_ALONE, NO_SURPRISE_STOP};
use crate::network::Network;
use crate::node::{Crash, Hurt, LaneKey, Machine, data_dir};
use crate::registers::Registers;
use crate::simulation::{MakeCommand, MakeMachine};
use crate::trace::{Trace, hash, mix};
use crate::{Report, Settings, Violation};

/// Everything of one run.
pub(crate) struct World {
    settings: Settings,
    machine: MakeMachine,
    command: MakeCommand,
    seed: u64,
    rng: Rng,
    pub(crate) now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    machines: Vec<Machine>,
    network: Network,
    plan: Plan,
    clients: Clients,
    checks: Invariants,
    trace: Trace,
    fired: BTreeMap<&'static str, u64>,
    reached: BTreeMap<&'static str, u64>,
    history: Seen,
    /// A node that runs from an old copy of its directory, and was not told yet.
    old_copy: Option<usize>,
    restarts: u64,
    healing: bool,
    /// A majority was lost for good, and one node went on.
    recovered: bool,
    /// Members left a group since everything was settled, and come back when they are asked for.
    members_left: bool,
    pub(crate) violation: Option<Violation>,
}

/// Something that happens at a moment. What carries a boot number is void if the process is not
/// that one any more.
enum Event {
    Turn { node: usize, boot: u64 },
    Wake { node: usize, boot: u64, number: u64 },
    RunJob { node: usize, boot: u64, lane: LaneKey },
    JobDone { node: usize, boot: u64, lane: LaneKey, done: Box<JobDone> },
    Deliver { node: usize, boot: u64, from: Member, bytes: Bytes },
    Peer { node: usize, boot: u64, peer: usize, life: Member, peer_boot: Option<u64> },
    Boot { node: usize },
    PowerCutWhileDown { node: usize, boot: u64 },
    Client,
    Fault(Kind),
    NextFault,
    HealNetwork,
    SwapBack { node: usize },
    SpaceBack { node: usize },
    Probe { node: usize, group: u64 },
    ReadLog { node: usize, group: GroupKey, indexes: IndexSet },
}

impl World {
    pub(crate) fn new(
        settings: Settings,
        machine: MakeMachine,
        command: MakeCommand,
        seed: u64,
    ) -> World {
        let mut rng = Rng::new(mix(seed));
        let plan = Plan::draw(&settings.faults, settings.nodes as usize, &mut rng);
        let lines = settings.keep_log.then(Vec::new);
        let network = Network::new(plan.dropped, plan.doubled, plan.late);
        let mut world = World {
            machines: Vec::new(),
            settings,
            machine,
            command,
            seed,
            rng,
            now: 0,
            queue: BTreeMap::new(),
            next_event: 0,
            network,
            plan,
            clients: Clients::default(),
            checks: Invariants::default(),
            trace: Trace { lines, ..Trace::default() },
            fired: BTreeMap::new(),
            reached: BTreeMap::new(),
            history: Seen::default(),
            old_copy: None,
            restarts: 0,
            healing: false,
            recovered: false,
            members_left: false,
            violation: None,
        };
        world.clients.passing = world.plan.has(Kind::Churn);
        let one = (world.machine)(GroupId(1));
        let one: &dyn std::any::Any = one.as_ref();
        world.history.on = one.is::<Registers>();
        world.form();
        world
    }

    /// Initialises every node's directory and schedules the first events.
    fn form(&mut self) {
        let nodes = self.settings.nodes;
        let members: Vec<(NodeId, String)> =
            (1..=nodes).map(|n| (NodeId(n), format!("node-{n}:1"))).collect();
        for n in 1..=nodes {
            let member = self.first_life(n);
            let fs = SimFs::new();
            let identity = identity::NodeIdentity {
                identity: Identity { cluster: ClusterId(u128::from(mix(self.seed))), member },
                cluster_name: "simulated".to_owned(),
                groups: self.settings.groups,
                members: members.clone(),
                run: 0,
                origin: identity::Origin::Init,
                lineage: identity::Lineage::default(),
                recovering: false,
            };
            identity::create(&fs, data_dir(), &identity).expect("a new disk takes an identity");
            let drift_ppm = self.drift();
            self.machines.push(Machine {
                member,
                fs,
                process: None,
                boot: 0,
                skew: self.rng.below(1 << 40),
                drift_ppm,
                wall_ms: self.rng.below(1 << 40),
                paused_until: 0,
                slow_until: 0,
                hangs_until: 0,
                seen: (0, 0),
                card: None,
                hurt: Hurt::default(),
                fresh: true,
                run: 0,
                copy: None,
                swapped_with: None,
                heard: BTreeMap::new(),
                refused: false,
                armed: None,
                disk_error: None,
                failed: false,
                asked_to_stop: false,
            });
            let at = self.rng.below(20_000);
            self.at(at, Event::Boot { node: n as usize - 1 });
        }
        for _ in 0..self.settings.clients {
            let wait = self.rng.below(50_000);
            self.after(wait, Event::Client);
        }
        self.next_fault();
    }

    /// A node as it is when the cluster begins.
    fn first_life(&self, node: u64) -> Member {
        let incarnation = Incarnation(u128::from(mix(self.seed ^ node)) | 1 << 64);
        Member::new(NodeId(node), incarnation)
    }

    fn drift(&mut self) -> i64 {
        let limit = self.plan.drift_ppm;
        self.rng.below(2 * limit + 1) as i64 - limit as i64
    }

    /// Both phases, to the end or to the first invariant that does not hold.
    pub(crate) fn run(&mut self) {
        while self.violation.is_none() && self.now < self.settings.fault_us {
            if !self.step() {
                break;
            }
        }
        if self.violation.is_none() {
            self.heal_and_settle();
        }
    }

    /// Carries out the next event; `false`: nothing will ever happen again.
    fn step(&mut self) -> bool {
        let Some(((at, _), event)) = self.queue.pop_first() else { return false };
        self.now = self.now.max(at);
        self.happen(event);
        if let Some((invariant, evidence)) = self.checks.broken.take() {
            self.violate(invariant, evidence);
        }
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Turn { node, boot } if self.lives(node, boot) => self.turn(node),
            Event::Wake { node, boot, number } if self.lives(node, boot) => {
                let process = self.machines[node].process.as_ref();
                if process.is_some_and(|process| process.wake == number) {
                    self.input(node, Input::Tick);
                }
            }
            Event::RunJob { node, boot, lane } if self.lives(node, boot) => {
                self.run_job(node, lane);
            }
            Event::JobDone { node, boot, lane, done } if self.lives(node, boot) => {
                self.job_done(node, lane, *done);
            }
            Event::Deliver { node, boot, from, bytes } if self.lives(node, boot) => {
                self.hears(node, from, &bytes);
                self.input(node, Input::Frame { from, bytes });
            }
            Event::Peer { node, boot, peer, life, peer_boot } if self.lives(node, boot) => {
                self.peer(node, (peer, life), peer_boot);
            }
            Event::Boot { node } => self.boot(node),
            Event::PowerCutWhileDown { node, boot } => self.power_cut_while_down(node, boot),
            Event::Client => self.client(),
            Event::Fault(kind) if !self.healing => {
                self.fault(kind);
                self.next_fault();
            }
            Event::NextFault if !self.healing => self.next_fault(),
            Event::HealNetwork => self.heal_network(),
            Event::SwapBack { node } => self.swap_back(node),
            Event::SpaceBack { node } => self.machines[node].fs.set_capacity(None),
            Event::Probe { node, group } => self.probe(node, group),
            Event::ReadLog { node, group, indexes } => self.ask_for(node, group, indexes, true),
            _ => {}
        }
    }

    // ---- time

    fn at(&mut self, at: u64, event: Event) {
        self.next_event += 1;
        self.queue.insert((at.max(self.now), self.next_event), event);
    }

    fn after(&mut self, wait: u64, event: Event) {
        self.at(self.now + wait, event);
    }

    fn lives(&self, node: usize, boot: u64) -> bool {
        let machine = &self.machines[node];
        machine.boot == boot && machine.process.is_some()
    }

    fn violate(&mut self, invariant: &'static str, evidence: String) {
        let at_us = self.now;
        self.trace.line(self.now, format_args!("VIOLATION {invariant}: {evidence}"));
        self.violation.get_or_insert(Violation { invariant, evidence, at_us });
    }

    fn count(&mut self, fault: &'static str) {
        *self.fired.entry(fault).or_default() += 1;
    }

    // ---- a node's turn

    /// Gives a node something; it turns a little later, with what has come by then.
    fn input(&mut self, node: usize, input: Input) {
        let wait = self.rng.below(150);
        let (now, machine) = (self.now, &mut self.machines[node]);
        let (boot, paused_until) = (machine.boot, machine.paused_until);
        let Some(process) = machine.process.as_mut() else { return };
        process.inbox.push_back(input);
        if process.turn_at.is_none() {
            let at = (now + wait).max(paused_until);
            process.turn_at = Some(at);
            self.at(at, Event::Turn { node, boot });
        }
    }

    fn turn(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        if machine.paused_until > self.now {
            let (at, boot) = (machine.paused_until, machine.boot);
            return self.at(at, Event::Turn { node, boot });
        }
        let time = machine.time(self.now);
        let Some(process) = machine.process.as_mut() else { return };
        process.turn_at = None;
        let inputs = process.inbox.len() as u64;
        for input in process.inbox.drain(..) {
            process.core.step(time, input);
        }
        let mut outputs = Vec::new();
        process.core.turn(time, &mut outputs);
        self.trace.event(self.now, 1, node, inputs << 32 ^ outputs.len() as u64);
        let mut stop = None;
        for output in outputs {
            match output {
                Output::Stop(reason) => stop = Some(reason),
                output => self.output(node, output),
            }
        }
        self.look(node);
        match stop {
            Some(reason) => self.stopped(node, reason),
            None => self.set_alarm(node),
        }
    }

    /// Checks what a node shows of itself.
    fn look(&mut self, node: usize) {
        let machine = &self.machines[node];
        let Some(process) = machine.process.as_ref() else { return };
        let status = process.core.status();
        let counters = process.core.counters();
        self.checks.on_turn(machine.id(), machine.boot, &status.groups);
        // What rots between its arrival and its use may stop a group, so may a lost cluster, and
        // who is no member is not asked which rules it can run.
        let member = |group: &&GroupStatus| group.members.iter().any(|m| m.node == machine.id());
        let mut stopped = status.groups.iter().filter(|group| group.role == "stopped");
        let stopped = stopped.find(member);
        if let Some(group) =
            stopped.filter(|_| !machine.hurt.any && !machine.asked_to_stop && !self.recovered)
        {
            let (id, group) = (machine.id(), format!("{group:?}"));
            self.violate(NO_SURPRISE_STOP, format!("node {id}: {group}"));
            return;
        }
        let limits = [self.settings.memory_limit, MAX_PENDING];
        self.checks.on_counters(machine.id(), &counters, limits);
        let led = status.groups.iter().filter(|g| g.role == "leader").count() as u64;
        let machine = &mut self.machines[node];
        if let Some(process) = machine.process.as_mut() {
            process.led = led_groups(&status);
        }
        let before = std::mem::replace(&mut machine.seen, (counters.disk_hangs, led));
        if counters.disk_hangs > before.0 {
            *self.reached.entry("hanging disks noticed").or_default() += 1;
            *self.reached.entry("leaders whose disk hung").or_default() += before.1;
        }
    }

    fn set_alarm(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        let Some(process) = machine.process.as_mut() else { return };
        process.wake += 1;
        let (boot, number) = (machine.boot, process.wake);
        if let Some(due) = process.core.wake_at() {
            let at = machine.moment(due.0).max(self.now + 1);
            self.at(at, Event::Wake { node, boot, number });
        }
    }

    fn output(&mut self, node: usize, output: Output) {
        match output {
            Output::Send { to, lane, bytes } => self.send(node, to, lane, bytes),
            Output::Job(job) => {
                let lane = Machine::lane_of(&job);
                let Some(process) = self.machines[node].process.as_mut() else { return };
                let queue = process.lanes.entry(lane).or_default();
                queue.queue.push_back(job);
                if !queue.busy {
                    queue.busy = true;
                    self.start_job(node, lane);
                }
            }
            Output::Reply { to, result } => self.reply(node, to.0, result),
            Output::Places { card, .. } => self.machines[node].card = Some(card),
            Output::Notice { group, .. } => {
                // It may have led when the turn began.
                let led =
                    self.machines[node].process.as_ref().is_some_and(|p| p.led.contains(&group));
                let leads =
                    led || self.status(node).is_some_and(|s| led_groups(&s).contains(&group));
                let text = || format!("node {} of {group} does not lead", node + 1);
                self.checks.note(LEADER_ALONE, if leads { Ok(()) } else { Err(text()) });
            }
            Output::Stop(_) => {}
        }
    }

    fn stopped(&mut self, node: usize, reason: StopReason) {
        let machine = &self.machines[node];
        let expected = match &reason {
            StopReason::Shutdown => machine.asked_to_stop,
            StopReason::Poisoned(_) => machine.disk_error.is_some(),
            StopReason::Refused(_) if self.old_copy == Some(node) => {
                self.trace.line(self.now, format_args!("node {} stops: {reason}", machine.id()));
                return self.old_copy_found(node);
            }
            _ => false,
        };
        self.trace.line(self.now, format_args!("node {} stops: {reason}", machine.id()));
        if !expected {
            self.violate(NO_SURPRISE_STOP, format!("node {}: {reason}", self.machines[node].id()));
            return;
        }
        self.crash(node, Crash::Kill);
    }

    // ---- frames

    fn send(&mut self, node: usize, to: NodeId, lane: refloat_node::Lane, bytes: Bytes) {
        let Some(peer) = self.machines.iter().position(|m| m.member.node == to) else { return };
        let decoded = frame::decode(&bytes);
        let free = decoded.as_ref().is_some_and(|frame| frame.only_raft);
        if self.old_copy != Some(node) {
            let messages = decoded.iter().flat_map(|frame| &frame.messages);
            messages.for_each(|message| self.checks.on_message(message));
        }
        self.trace.event(self.now, 2, node, hash(&bytes) ^ to.0);
        let from = self.machines[node].member;
        let fate = self.network.fate(self.now, (node, peer, lane), free, &mut self.rng);
        if let Some(name) = fate.name {
            self.count(name);
        }
        let boot = self.machines[peer].boot;
        for at in fate.arrivals {
            let bytes = bytes.clone();
            self.at(at, Event::Deliver { node: peer, boot, from, bytes });
        }
    }

    /// A connection comes up (with this process of the peer) or goes down.
    fn peer(&mut self, node: usize, (peer, member): (usize, Member), peer_boot: Option<u64>) {
        match peer_boot {
            Some(boot) if self.lives(peer, boot) && self.network.connected(node, peer) => {
                let input = self.refusal(node, peer).unwrap_or(Input::PeerUp(member));
                self.input(node, input);
            }
            Some(_) => {}
            None => self.input(node, Input::PeerDown(member)),
        }
    }

    /// What a handshake says to a node whose cluster is not, or is not any more, the peer's.
    fn refusal(&self, node: usize, peer: usize) -> Option<Input> {
        let identity = |node: usize| Some(self.machines[node].process.as_ref()?.core.identity());
        let (mine, its) = (&identity(node)?.lineage, &identity(peer)?.lineage);
        let superseded = its.supersedes(mine);
        let reason = if superseded { "superseded" } else { "wrong cluster" }.to_owned();
        let node = self.machines[peer].member.node;
        (mine != its).then_some(Input::PeerRefused { node, reason, superseded })
    }

    fn connect(&mut self, a: usize, b: usize) {
        for (node, peer) in [(a, b), (b, a)] {
            let boot = self.machines[node].boot;
            let (life, peer_boot) = (self.machines[peer].member, Some(self.machines[peer].boot));
            let wait = 100 + self.rng.below(5_000);
            self.after(wait, Event::Peer { node, boot, peer, life, peer_boot });
        }
    }

    fn disconnect(&mut self, node: usize, peer: usize) {
        let (boot, life) = (self.machines[node].boot, self.machines[peer].member);
        let wait = 100 + self.rng.below(2_000);
        self.after(wait, Event::Peer { node, boot, peer, life, peer_boot: None });
    }

    // ---- jobs

    fn start_job(&mut self, node: usize, lane: LaneKey) {
        let boot = self.machines[node].boot;
        let slow = self.machines[node].slow_until > self.now;
        let wait = if slow { self.rng.below(40_000) } else { self.rng.below(60) };
        let hangs = self.machines[node].hangs_until;
        self.at((self.now + wait).max(hangs), Event::RunJob { node, boot, lane });
    }

    fn run_job(&mut self, node: usize, lane: LaneKey) {
        let machine = &mut self.machines[node];
        let boot = machine.boot;
        if machine.paused_until > self.now {
            let at = machine.paused_until;
            return self.at(at, Event::RunJob { node, boot, lane });
        }
        let Some(process) = machine.process.as_mut() else { return };
        let Some(job) = process.lanes.get_mut(&lane).and_then(|l| l.queue.pop_front()) else {
            return;
        };
        let vfs: std::sync::Arc<dyn refloat_vfs::Vfs> = std::sync::Arc::new(machine.fs.clone());
        let hit_before = machine.fs.faults_fired();
        let done = job.run(&vfs);
        if machine.fs.faults_fired() > hit_before && self.trace.lines.is_some() {
            let failed = machine.fs.ops().into_iter().rev().find(|op| op.failed);
            let text = failed.map_or_else(String::new, |op| op.to_string());
            let (now, id) = (self.now, machine.id());
            self.trace.line(now, format_args!("node {id}: disk error in {lane:?}: {text}"));
        }
        let machine = &mut self.machines[node];
        self.trace.event(self.now, 3, node, machine.fs.op_count());
        if machine.fs.is_crashed() {
            let how = machine.armed.take().unwrap_or(Crash::Kill);
            return self.crash(node, how);
        }
        let wait = 20 + self.rng.below(150);
        self.after(wait, Event::JobDone { node, boot, lane, done: Box::new(done) });
    }

    fn job_done(&mut self, node: usize, lane: LaneKey, done: JobDone) {
        let Some(process) = self.machines[node].process.as_mut() else { return };
        let queue = process.lanes.entry(lane).or_default();
        queue.busy = !queue.queue.is_empty();
        if queue.busy {
            self.start_job(node, lane);
        } else {
            process.lanes.remove(&lane);
        }
        self.input(node, Input::Done(done));
    }

    // ---- settings of the nodes

    fn options(&self) -> Options {
        let mut options = Options::new(data_dir());
        options.wal_file_size = self.settings.wal_file_size;
        options.votes_file_size = self.settings.votes_file_size;
        options.small_segment = self.settings.wal_file_size / 2;
        options
    }

    fn config(&self) -> Config {
        let mut config = Config::default();
        config.election_timeout = self.settings.election_timeout;
        config.heartbeat = self.settings.election_timeout / 5;
        config.leader_wait = LEADER_WAIT;
        config.proposal_timeout = PROPOSAL_TIMEOUT;
        config.max_pending_bytes = MAX_PENDING;
        config.max_append_bytes = 8 << 10;
        config.max_inflight_msgs = 8;
        config.max_inflight_bytes = 64 << 10;
        config.snapshot_entries = self.settings.snapshot_entries;
        config.urgent_bytes = 2 << 10;
        config.timer_grain = 1_000;
        config
    }

    pub(crate) fn report(mut self) -> Report {
        Report {
            seed: self.seed,
            violation: self.violation,
            faults: self.fired,
            evaluated: std::mem::take(&mut self.checks.evaluated),
            trace_hash: self.trace.hash,
            events: self.trace.events,
            simulated_us: self.now,
            acknowledged: self.checks.acknowledged(),
            reads: self.checks.reads(),
            unknown: self.clients.unknown,
            restarts: self.restarts,
            reached: self.reached,
            history: self.history.report(),
            log: self.trace.lines.take().unwrap_or_default(),
        }
    }
}

fn led_groups(status: &Status) -> BTreeSet<GroupKey> {
    let led = status.groups.iter().filter(|group| group.role == "leader");
    led.map(|group| GroupKey::new(GroupId(group.group), Epoch(group.epoch))).collect()
}

const LEADER_WAIT: u64 = 1_000_000;
const PROPOSAL_TIMEOUT: u64 = 2_000_000;
const MAX_PENDING: u64 = 1 << 20;
