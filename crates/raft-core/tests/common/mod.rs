//! Nodes around cores: a disk that forgets what was not synced, a wire that does what the test
//! says, a machine that remembers what it applied, and the checks of the paper's figure 3.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod args;
pub mod check;
pub mod disk;
pub mod logs;
pub mod show;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use refloat_raft_core::*;
use refloat_types::*;

use check::Checks;
use disk::Disk;
#[allow(unused_imports, reason = "each test binary uses its own part")]
pub use logs::*;

pub const E: u64 = 1000;
pub const BEAT: u64 = 100;
pub const GROUP: GroupKey = GroupKey::new(GroupId(7), Epoch(3));

/// The member under a small number, in its first life.
pub fn member(node: u64) -> Member {
    life(node, 0)
}

/// The member under a small number, in a given life.
pub fn life(node: u64, life: u128) -> Member {
    Member::new(NodeId(node), Incarnation((u128::from(node) << 96) + life))
}

pub fn conf(voters: impl IntoIterator<Item = u64>) -> ConfState {
    ConfState::of_voters(voters.into_iter().map(member))
}

pub fn command(text: &str) -> (Bytes, Digest) {
    let payload = Bytes::copy_from_slice(text.as_bytes());
    let digest = Digest::of(EntryKind::Command, &payload);
    (payload, digest)
}

pub fn entry(term: u64, index: u64) -> Entry {
    let id = EntryId::new(Term(term), Index(index));
    Entry::new(id, EntryKind::Command, Bytes::from(format!("{term}.{index}")))
}

/// A log given by the term of each entry.
pub fn log_of(terms: &[u64]) -> Vec<Entry> {
    terms.iter().zip(1..).map(|(term, index)| entry(*term, index)).collect()
}

pub fn settings(me: Member) -> Config {
    let mut config = Config::new(me, GROUP);
    config.election_timeout = E;
    config.heartbeat = BEAT;
    config.snapshot_backoff = 2 * E;
    config.seed = 42;
    config
}

/// One batch handed out and not durable.
pub struct Pending {
    pub ticket: PersistTicket,
    pub persist: Persist,
    pub install: Option<(EntryId, ConfState)>,
}

pub struct Node {
    pub config: Config,
    /// `None` while it is down.
    pub core: Option<Core>,
    /// What a crash leaves.
    pub disk: Disk,
    /// What was submitted, durable or not.
    pub memory: Disk,
    pub pending: VecDeque<Pending>,
    pub to_apply: VecDeque<Entry>,
    pub applied: Vec<Entry>,
    pub reads: Vec<ReadState>,
    pub failed_reads: Vec<ReadId>,
    pub wants_snapshot: Vec<Member>,
    pub alarms: Vec<Alarm>,
    /// How often it became whole again.
    pub healed: u64,
    /// Whether `config.run` counts the starts.
    pub counts_runs: bool,
    pub runs: u64,
    /// Its disk takes writes and never says that they are durable.
    pub hangs: bool,
}

impl Node {
    pub fn core(&mut self) -> &mut Core {
        self.core.as_mut().expect("the node is up")
    }

    pub fn status(&self) -> Status {
        self.core.as_ref().expect("the node is up").status()
    }

    pub fn progress(&self, of: u64) -> PeerStatus {
        *self.status().progress.iter().find(|p| p.member.node.0 == of).expect("a peer")
    }
}

/// How much happens by itself.
#[derive(Clone, Copy)]
pub struct Auto {
    /// Submitted work becomes durable at once.
    pub persist: bool,
    /// Committed entries are applied at once.
    pub apply: bool,
}

pub struct Cluster {
    pub nodes: BTreeMap<u64, Node>,
    pub wire: Vec<Message>,
    pub now: Now,
    pub auto: Auto,
    pub checks: Checks,
    /// What happened, for scripts.
    pub trace: Vec<String>,
}

impl Cluster {
    /// Nodes `1..=n`, all voters, with empty logs.
    pub fn of(n: u64) -> Cluster {
        Cluster::with(n, |_| {})
    }

    pub fn with(n: u64, adjust: impl Fn(&mut Config)) -> Cluster {
        let mut cluster = Cluster::empty();
        for node in 1..=n {
            let mut config = settings(member(node));
            adjust(&mut config);
            cluster.add(config, Disk::empty(conf(1..=n)));
        }
        cluster
    }

    pub fn empty() -> Cluster {
        Cluster {
            nodes: BTreeMap::new(),
            wire: Vec::new(),
            now: Now(0),
            auto: Auto { persist: true, apply: true },
            checks: Checks::default(),
            trace: Vec::new(),
        }
    }

    pub fn add(&mut self, config: Config, disk: Disk) {
        let id = config.me.node.0;
        let node = Node {
            config,
            core: None,
            memory: disk.clone(),
            disk,
            pending: VecDeque::new(),
            to_apply: VecDeque::new(),
            applied: Vec::new(),
            reads: Vec::new(),
            failed_reads: Vec::new(),
            wants_snapshot: Vec::new(),
            alarms: Vec::new(),
            healed: 0,
            counts_runs: false,
            runs: 0,
            hangs: false,
        };
        self.nodes.insert(id, node);
        self.restart(id);
    }

    pub fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).expect("a known node")
    }

    pub fn status(&self, id: u64) -> Status {
        self.nodes[&id].status()
    }

    /// Gives a core an input, then follows its wishes.
    pub fn with_core<T>(&mut self, id: u64, input: impl FnOnce(&mut Core, Now) -> T) -> T {
        let now = self.now;
        let answer = input(self.node(id).core(), now);
        self.follow(id);
        answer
    }

    /// Loses what is not durable.
    pub fn crash(&mut self, id: u64) {
        let node = self.node(id);
        node.core = None;
        node.hangs = false;
        node.memory = node.disk.clone();
        node.pending.clear();
        node.to_apply.clear();
        node.wants_snapshot.clear();
    }

    pub fn restart(&mut self, id: u64) {
        let restored = self.nodes[&id].disk.restored();
        self.restart_with(id, restored);
    }

    pub fn restart_with(&mut self, id: u64, restored: Restored) {
        let now = self.now;
        let node = self.node(id);
        node.runs += 1;
        node.applied.clear();
        let mut config = node.config.clone();
        config.seed = config.seed.wrapping_add(node.runs);
        if node.counts_runs {
            config.run = node.runs;
        }
        node.core = Some(Core::new(config, restored, now).expect("a sound disk"));
        self.follow(id);
    }

    /// A disk stops answering, and after some time the host says so.
    pub fn hang(&mut self, id: u64, successor: Option<u64>) {
        self.node(id).hangs = true;
        self.with_core(id, |core, now| core.disk_hangs(now, successor.map(NodeId)));
    }

    /// It answers again, with all that it was given.
    pub fn answer(&mut self, id: u64) {
        self.node(id).hangs = false;
        self.persist_all(id);
        self.with_core(id, Core::disk_answers);
    }

    /// A disk has space for entries, or has none any more.
    pub fn space(&mut self, id: u64, has_space: bool) {
        self.with_core(id, |core, now| core.set_space(now, has_space));
    }

    /// The store has no space for what waits, from the first write with entries on that are not
    /// handed to the machine; who leads waits for space.
    pub fn give_up(&mut self, id: u64) {
        let now = self.now;
        let node = self.nodes.get_mut(&id).expect("a known node");
        if node.status().role == Role::Leader {
            return;
        }
        let applied = node.status().applied;
        let (mut gone, mut refused): (Option<Index>, Vec<EntryId>) = (None, Vec::new());
        for pending in &mut node.pending {
            for op in &mut pending.persist.log {
                let Some(LogOp::Append { prev, entries }) = op else { continue };
                let first = entries[0].id;
                let follows = gone.is_none_or(|at| prev.index >= at);
                if first.index > applied && follows {
                    gone = Some(first.index);
                    refused.push(first);
                    *op = None;
                    self.checks.given_up += 1;
                } else if gone.is_some() {
                    gone = Some(Index(u64::MAX)); // what follows stands on this one
                }
            }
        }
        node.memory = node.disk.clone();
        for pending in &node.pending {
            node.memory.persist(&pending.persist);
            if let Some((at, conf)) = &pending.install {
                node.memory.install(*at, conf.clone());
            }
        }
        for first in refused {
            node.to_apply.retain(|entry| entry.id.index < first.index);
            let overwritten = node.memory.last().index >= first.index;
            node.core().give_up_entries(now, first, overwritten);
        }
        self.follow(id);
    }

    /// Does what a core wishes, in the order of `Ready`.
    pub fn follow(&mut self, id: u64) {
        loop {
            let node = self.nodes.get_mut(&id).expect("a known node");
            let Some(ready) = node.core.as_mut().and_then(Core::ready) else { return };
            self.checks.role(node.config.me, &ready, &node.memory);
            self.follow_one(id, ready);
        }
    }

    fn follow_one(&mut self, id: u64, ready: Ready) {
        self.show_ready(id, &ready);
        let now = self.now;
        let node = self.nodes.get_mut(&id).expect("a known node");
        if let Some(persist) = ready.persist {
            node.memory.persist(&persist);
            if let Some((at, conf)) = &ready.install {
                node.memory.install(*at, conf.clone());
                node.to_apply.clear();
            }
            let ticket = persist.ticket;
            node.pending.push_back(Pending { ticket, persist, install: ready.install });
        } else {
            assert!(ready.install.is_none(), "an install comes with a ticket");
        }
        for message in ready.messages {
            self.checks.message(&message, &node.disk, node.memory.base.index);
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            assert_eq!(Message::decode(&bytes).as_ref(), Ok(&message));
            self.wire.push(message);
        }
        for fetch in ready.fetch {
            let answer = node.memory.fetch(&fetch);
            node.core().on_fetched(now, fetch.id, answer);
        }
        if let Some((first, last)) = ready.committed {
            let term = node.core().term();
            for entry in node.memory.range(first, last) {
                self.checks.committed(&entry, term);
                node.to_apply.push_back(entry);
            }
        }
        node.reads.extend(ready.reads);
        node.failed_reads.extend(ready.failed_reads);
        node.wants_snapshot.extend(ready.send_snapshot);
        node.alarms.extend(ready.alarms);
        node.healed += u64::from(ready.healed);
        if ready.healed {
            node.disk.rights = Rights::ALL;
        }
        if ready.amnesia {
            node.disk.rights = Rights::NONE;
        }
        if self.auto.persist {
            while self.persist_one(id) {}
        }
        if self.auto.apply {
            while self.apply_some(id, usize::MAX) {}
        }
    }

    /// Makes the oldest submitted batch durable and tells the core.
    pub fn persist(&mut self, id: u64) -> bool {
        let done = self.persist_one(id);
        self.follow(id);
        done
    }

    pub fn persist_all(&mut self, id: u64) {
        while self.persist(id) {}
    }

    fn persist_one(&mut self, id: u64) -> bool {
        let now = self.now;
        let node = self.node(id);
        if node.hangs {
            return false;
        }
        let Some(pending) = node.pending.pop_front() else { return false };
        node.disk.persist(&pending.persist);
        if let Some((at, conf)) = pending.install {
            node.disk.install(at, conf);
        }
        node.core().on_persisted(now, pending.ticket);
        true
    }

    pub fn apply(&mut self, id: u64, count: usize) {
        self.apply_some(id, count);
        self.follow(id);
    }

    fn apply_some(&mut self, id: u64, count: usize) -> bool {
        let now = self.now;
        let node = self.node(id);
        let count = count.min(node.to_apply.len());
        let entries: Vec<Entry> = node.to_apply.drain(..count).collect();
        let Some(last) = entries.last().map(|e| e.id.index) else { return false };
        node.applied.extend(entries);
        node.core().on_applied(now, last);
        true
    }

    /// A snapshot at the applied index; the log below is gone.
    pub fn compact(&mut self, id: u64) {
        let node = self.node(id);
        let status = node.status();
        if status.applied > status.durable || status.applied <= node.disk.base.index {
            return;
        }
        let at = node.memory.id(status.applied).expect("applied entries are there");
        node.disk.compact(at, status.conf.clone());
        node.memory.compact(at, status.conf);
        node.core().on_compacted(at);
    }

    /// Streams the newest snapshot of one node to another, whole or not.
    pub fn send_snapshot(&mut self, from: u64, to: u64, ok: bool) {
        let now = self.now;
        let sender = self.node(from);
        sender.wants_snapshot.retain(|m| m.node.0 != to);
        let (at, conf) = (sender.disk.base, sender.disk.base_conf.clone());
        let mut ok = ok;
        if ok && let Some(core) = self.node(to).core.as_mut() {
            ok = core.on_snapshot_received(now, at, conf).is_ok();
            self.follow(to);
        }
        let receiver = self.nodes[&to].config.me;
        if self.node(from).core.is_some() {
            self.with_core(from, |core, now| core.on_snapshot_sent(now, receiver, ok));
        }
    }

    pub fn deliver_one(&mut self, message: Message) {
        let to = message.to.node.0;
        if self.nodes.get(&to).is_none_or(|n| n.core.is_none()) {
            return;
        }
        self.trace.push(show::message(&message));
        let result = self.with_core(to, |core, now| core.step(now, message));
        if let Err(error) = result {
            self.trace.push(format!("  refused: {error}"));
        }
    }

    /// Delivers what is on the wire now and matches; the rest stays.
    pub fn deliver(&mut self, wanted: impl Fn(&Message) -> bool) -> usize {
        let (now, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.wire).into_iter().partition(|m| wanted(m));
        self.wire = later;
        let count = now.len();
        for message in now {
            self.deliver_one(message);
        }
        count
    }

    pub fn drop_messages(&mut self, unwanted: impl Fn(&Message) -> bool) -> usize {
        let before = self.wire.len();
        self.wire.retain(|m| !unwanted(m));
        before - self.wire.len()
    }

    /// Delivers, persists and applies until nothing moves.
    pub fn stabilize(&mut self) {
        for _ in 0..10_000 {
            let mut moved = self.deliver(|_| true) > 0;
            let ids: Vec<u64> = self.nodes.keys().copied().collect();
            for id in ids {
                if self.nodes[&id].core.is_none() {
                    continue;
                }
                moved |= self.persist(id);
                moved |= self.apply_some(id, usize::MAX);
                self.follow(id);
                for to in std::mem::take(&mut self.node(id).wants_snapshot) {
                    moved = true;
                    self.trace.push(format!("snapshot {id}->{}", to.node));
                    self.send_snapshot(id, to.node.0, true);
                }
            }
            if !moved {
                return;
            }
        }
        panic!("the cluster never becomes quiet");
    }

    /// Lets time pass in steps of a beat, ticking everybody, and stabilizing after each.
    pub fn run(&mut self, micros: u64) {
        let end = self.now.after(micros);
        while self.now < end {
            self.now = self.now.after(BEAT).min(end);
            self.tick_all();
            self.stabilize();
        }
    }

    pub fn tick_all(&mut self) {
        let ids: Vec<u64> = self.nodes.keys().copied().collect();
        for id in ids {
            if self.nodes[&id].core.is_some() {
                self.with_core(id, Core::tick);
            }
        }
    }

    /// Elects a node in a quiet cluster: a pause, by which another leader gives up, and a campaign.
    pub fn elect(&mut self, id: u64) {
        self.now = self.now.after(2 * E);
        if let Some(leader) = self.leader() {
            self.with_core(leader, Core::tick);
        }
        self.with_core(id, Core::campaign);
        self.stabilize();
        assert_eq!(self.status(id).role, Role::Leader, "elect {id}: {:?}", self.status(id));
    }

    pub fn propose(&mut self, id: u64, text: &str) -> Result<(Term, Index), ProposeError> {
        let commands = vec![command(text)];
        self.with_core(id, |core, now| core.propose(now, commands))
    }

    pub fn read(&mut self, id: u64, read: u64) -> Result<(), ReadError> {
        self.with_core(id, |core, now| core.read_index(now, ReadId(read)))
    }

    pub fn change(&mut self, id: u64, change: ConfChange) -> Result<EntryId, ProposeError> {
        self.with_core(id, |core, now| core.propose_conf_change(now, change))
    }

    pub fn leader(&self) -> Option<u64> {
        let leads = |n: &&Node| n.core.as_ref().is_some_and(|c| c.role() == Role::Leader);
        let newest = self.nodes.values().filter(leads).max_by_key(|n| n.status().term);
        newest.map(|n| n.config.me.node.0)
    }
}
