//! Three node cores on simulated disks, a network that is cranked by hand, one thread.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod debts;
pub mod ends;
pub mod keeper;
pub mod lives;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use refloat_log_store::identity::{self, NodeIdentity};
use refloat_log_store::{Options, boot, run_jobs};
use refloat_node::{
    Card, Chunks, Command, Config, Consistency, Input, Job, JobLane, Lane, NodeCore, Output, Query,
    Reply, RequestError, RestoreError, SnapshotReader, StateMachine, StopReason, Time, Token,
};
use refloat_types::{
    ClusterId, GroupId, GroupKey, Identity, Incarnation, Index, Member, NodeId, Now,
};
use refloat_vfs::{SimFs, Vfs};

pub const DIR: &str = "/data";

/// Remembers every command; `panic` panics, `bomb` panics when it is snapshotted.
#[derive(Default)]
pub struct Journal {
    pub commands: Vec<Bytes>,
}

impl StateMachine for Journal {
    fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
        let one = |command: &Command| {
            assert_ne!(&command.payload[..], b"panic", "asked to");
            self.commands.push(command.payload.clone());
            Bytes::from(self.commands.len().to_string())
        };
        batch.iter().map(one).collect()
    }

    fn snapshot(&mut self) -> Chunks {
        let commands = self.commands.clone();
        Box::new(commands.into_iter().map(|command| {
            assert_ne!(&command[..], b"bomb", "asked to");
            let mut chunk = (command.len() as u32).to_le_bytes().to_vec();
            chunk.extend_from_slice(&command);
            chunk.into()
        }))
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader<'_>) -> Result<(), RestoreError> {
        while !snapshot.is_over() {
            let len = u32::from_le_bytes(snapshot.array()?);
            self.commands.push(snapshot.next_bytes(len as usize)?);
        }
        Ok(())
    }
}

/// The commands that a machine holds, one per line.
pub fn journal_text(machine: &mut dyn StateMachine) -> Bytes {
    let machine: &mut dyn std::any::Any = machine;
    let journal = machine.downcast_mut::<Journal>().expect("the tests' machine");
    let lines: Vec<String> =
        journal.commands.iter().map(|c| String::from_utf8_lossy(c).into_owned()).collect();
    lines.join("\n").into()
}

pub type MakeMachine = Arc<dyn Fn(u64, GroupKey) -> Box<dyn StateMachine> + Send + Sync>;

pub struct Cluster {
    pub nodes: BTreeMap<u64, NodeCore>,
    pub disks: BTreeMap<u64, SimFs>,
    pub replies: BTreeMap<Token, Result<Reply, RequestError>>,
    pub stops: BTreeMap<u64, StopReason>,
    pub cut: BTreeSet<(u64, u64)>,
    /// Everything that came out, in order: equal runs have equal traces.
    pub trace: Vec<String>,
    pub config: Config,
    pub store: fn() -> Options,
    /// Every frame arrives twice.
    pub repeat: bool,
    /// Jobs of these nodes and lanes wait until released.
    holding: BTreeSet<(u64, JobLane)>,
    held: Vec<(u64, Job)>,
    /// Which frames the network loses.
    pub loses: Option<fn(&[u8]) -> bool>,
    /// All frames sent since [`Cluster::record`].
    recorded: Option<Vec<(Member, u64, Bytes)>>,
    members: u64,
    /// Who ran last under each id.
    members_seen: BTreeMap<u64, Member>,
    /// What state machines had their leaders tell, and which node did.
    pub notices: Vec<(u64, Bytes)>,
    /// What each node tells who asks it.
    pub cards: BTreeMap<u64, Card>,
    /// Where each node says that all are.
    pub places: BTreeMap<u64, BTreeMap<NodeId, String>>,
    /// Makes a node's machines, if they are no journals.
    pub machines: Option<MakeMachine>,
    /// How each node names its cluster to others, and how it did before.
    names: BTreeMap<u64, (ClusterId, Vec<ClusterId>)>,
    now: u64,
    network: VecDeque<(Member, u64, Bytes)>,
    pending: VecDeque<(u64, Input)>,
    next_token: u64,
}

impl Cluster {
    /// Initialised, not started.
    pub fn new(groups: u32) -> Cluster {
        Cluster::of(3, groups)
    }

    /// Initialised, not started, with so many nodes.
    pub fn of(members: u64, groups: u32) -> Cluster {
        let mut cluster = Cluster {
            nodes: BTreeMap::new(),
            disks: BTreeMap::new(),
            replies: BTreeMap::new(),
            stops: BTreeMap::new(),
            cut: BTreeSet::new(),
            trace: Vec::new(),
            config: Config::default(),
            store: || {
                let mut options = Options::new(DIR);
                options.wal_file_size = 256 << 10;
                options.votes_file_size = 64 << 10;
                options
            },
            repeat: false,
            holding: BTreeSet::new(),
            held: Vec::new(),
            loses: None,
            recorded: None,
            members,
            members_seen: BTreeMap::new(),
            notices: Vec::new(),
            cards: BTreeMap::new(),
            places: BTreeMap::new(),
            machines: None,
            names: BTreeMap::new(),
            now: 1_000_000,
            network: VecDeque::new(),
            pending: VecDeque::new(),
            next_token: 0,
        };
        for node in 1..=members {
            cluster.disks.insert(node, SimFs::new());
            cluster.init(node, 0x1000 + u128::from(node), groups);
        }
        cluster
    }

    /// Makes a node's directory.
    pub fn init(&mut self, node: u64, life: u128, groups: u32) {
        let member = Member::new(NodeId(node), Incarnation(life));
        let id = NodeIdentity {
            identity: Identity { cluster: ClusterId(77), member },
            cluster_name: "test".into(),
            groups,
            members: (1..=self.members).map(|n| (NodeId(n), format!("node{n}:1"))).collect(),
            run: 0,
            origin: identity::Origin::Init,
            lineage: identity::Lineage::default(),
            recovering: false,
        };
        identity::create(&self.disks[&node], &PathBuf::from(DIR), &id).expect("an empty disk");
    }

    /// Puts an empty disk into a machine that is down, and makes a directory on it for the same
    /// node, as `join` does by what node `asked` says.
    pub fn join(&mut self, node: u64, life: u128, asked: u64) {
        let address = format!("node{node}:1");
        self.join_at(node, life, asked, &address);
    }

    /// The same, with an address of its own.
    pub fn join_at(&mut self, node: u64, life: u128, asked: u64, address: &str) {
        self.disks.insert(node, SimFs::new());
        let card = self.cards[&asked].clone();
        let mut members: BTreeMap<NodeId, String> =
            card.members.iter().map(|m| (m.node, m.address.clone())).collect();
        members.insert(NodeId(node), address.to_owned());
        let member = Member::new(NodeId(node), Incarnation(life));
        let id = NodeIdentity {
            identity: Identity { cluster: card.cluster, member },
            cluster_name: card.cluster_name,
            groups: card.groups,
            members: members.into_iter().collect(),
            run: 0,
            origin: identity::Origin::Join { founders: card.founders },
            lineage: card.lineage,
            recovering: false,
        };
        identity::create(&self.disks[&node], &PathBuf::from(DIR), &id).expect("an empty disk");
    }

    /// The members of a group as a node knows them: node, life, standing.
    pub fn members_of(&self, node: u64, group: u64) -> Vec<(u64, String, &'static str)> {
        let status = self.nodes[&node].status();
        let found = status.groups.iter().find(|g| g.group == group);
        let members = found.into_iter().flat_map(|g| &g.members);
        members.map(|m| (m.node, m.incarnation.clone(), m.member)).collect()
    }

    /// Whether every group of `at` has this life of a node as a voter, and no other of it.
    pub fn is_voter(&self, at: u64, node: u64, life: u128) -> bool {
        let life = Incarnation(life).to_string();
        self.nodes[&at].status().groups.iter().all(|g| {
            let of_node: Vec<_> = g.members.iter().filter(|m| m.node == node).collect();
            matches!(of_node[..], [one] if one.incarnation == life && one.member == "voter")
        })
    }

    /// The disk of a node that is down says that one of its replicas forgot its promises.
    pub fn forget(&self, node: u64, group: u64) {
        let vfs: Arc<dyn Vfs> = Arc::new(self.disks[&node].clone());
        let mut store = boot(&vfs, (self.store)()).expect("the disk is good").store;
        let key = store.groups().find(|key| key.id == GroupId(group)).expect("it has the group");
        store.note_amnesia(Now(0), key, "the tests say so").expect("written");
        run_jobs(&mut store, &vfs, Now(0)).expect("a good disk");
    }

    /// A cluster that is formed and whose groups have leaders.
    pub fn formed(groups: u32) -> Cluster {
        let mut cluster = Cluster::new(groups);
        cluster.start_all();
        cluster.wait_for_leaders(groups);
        cluster
    }

    pub fn time(&self) -> Time {
        Time { now: Now(self.now), wall_ms: 1_700_000_000_000 + self.now / 1000 }
    }

    pub fn start(&mut self, node: u64) {
        self.start_with_seed(node, node);
    }

    /// Starts a node whose random choices are others than those of its first start.
    pub fn start_with_seed(&mut self, node: u64, seed: u64) {
        let vfs: Arc<dyn Vfs> = Arc::new(self.disks[&node].clone());
        let core = self.core_on(node, &vfs, seed);
        let member = core.member();
        self.members_seen.insert(node, member);
        let id = identity::load(&self.disks[&node], DIR.as_ref()).expect("it just started");
        self.names.insert(node, (id.to_others().cluster, id.former_clusters()));
        for other in self.nodes.keys().copied().collect::<Vec<_>>() {
            if self.strangers(node, other) {
                self.refuse(node, other);
                self.refuse(other, node);
            } else if !self.cut.contains(&(node, other)) {
                let peer = self.nodes[&other].member();
                self.pending.push_back((other, Input::PeerUp(member)));
                self.pending.push_back((node, Input::PeerUp(peer)));
            }
        }
        self.nodes.insert(node, core);
        self.stops.remove(&node);
    }

    /// Whether two nodes name their cluster differently, so that no connection comes to be.
    fn strangers(&self, a: u64, b: u64) -> bool {
        let name = |node| self.names.get(node).map(|(name, _)| *name);
        name(&a) != name(&b)
    }

    /// What a node hears from another one that it is a stranger to.
    fn refuse(&mut self, node: u64, by: u64) {
        let superseded = self.names[&by].1.contains(&self.names[&node].0);
        let reason = if superseded { "superseded" } else { "wrong cluster" }.to_owned();
        let refused = Input::PeerRefused { node: NodeId(by), reason, superseded };
        self.pending.push_back((node, refused));
    }

    fn core_on(&self, node: u64, vfs: &Arc<dyn Vfs>, seed: u64) -> NodeCore {
        let make = self.machines.clone();
        let machines = Box::new(move |group| match &make {
            Some(make) => make(node, group),
            None => Box::<Journal>::default() as Box<dyn StateMachine>,
        });
        let (core, _report) =
            NodeCore::start(vfs, (self.store)(), self.config.clone(), machines, self.time(), seed)
                .expect("the disk is good");
        core
    }

    /// A process beside the others that bears the id of one of them. The others hear it; what
    /// they answer goes to the one that was there first.
    pub fn run_beside(&mut self, node: u64, life: u128, asked: u64, millis: u64) {
        let first = self.disks[&node].clone();
        self.join(node, life, asked);
        let disk = self.disks.insert(node, first).expect("just made");
        let vfs: Arc<dyn Vfs> = Arc::new(disk);
        let mut core = self.core_on(node, &vfs, 1);
        let me = core.member();
        let end = self.now + millis * 1000;
        while self.now < end {
            let mut out = Vec::new();
            core.turn(self.time(), &mut out);
            for output in out {
                match output {
                    Output::Send { to, bytes, .. } => self.network.push_back((me, to.0, bytes)),
                    Output::Job(job) => core.step(self.time(), Input::Done(job.run(&vfs))),
                    _ => {}
                }
            }
            self.crank();
        }
    }

    pub fn start_all(&mut self) {
        for node in 1..=self.members {
            if !self.nodes.contains_key(&node) {
                self.start(node);
            }
        }
    }

    /// Ends a process: its memory is gone, what it wrote is in the page cache.
    pub fn kill(&mut self, node: u64) {
        self.nodes.remove(&node);
        self.disks.insert(node, self.disks[&node].kill());
        self.lost(node);
    }

    /// Ends a machine: only what was synced is left.
    pub fn power_cut(&mut self, node: u64) {
        self.nodes.remove(&node);
        let disk = self.disks[&node].power_cut(|_| refloat_vfs::Fate::Lost);
        self.disks.insert(node, disk);
        self.lost(node);
    }

    fn lost(&mut self, node: u64) {
        self.pending.retain(|(to, _)| *to != node);
        self.held.retain(|(at, _)| *at != node);
        self.holding.retain(|(at, _)| *at != node);
        self.network.retain(|(from, to, _)| *to != node && from.node.0 != node);
        let Some(member) = self.members_seen.get(&node).copied() else { return };
        for other in self.nodes.keys() {
            self.pending.push_back((*other, Input::PeerDown(member)));
        }
    }

    pub fn partition(&mut self, a: u64, b: u64) {
        self.cut.extend([(a, b), (b, a)]);
        self.network.retain(|(from, to, _)| {
            !(from.node.0 == a && *to == b || from.node.0 == b && *to == a)
        });
        for (node, other) in [(a, b), (b, a)] {
            if let Some(member) = self.members_seen.get(&other) {
                self.pending.push_back((node, Input::PeerDown(*member)));
            }
        }
    }

    pub fn heal(&mut self) {
        for (a, b) in std::mem::take(&mut self.cut) {
            let core = self.nodes.get(&b).filter(|_| !self.strangers(a, b));
            if let Some(core) = core {
                self.pending.push_back((a, Input::PeerUp(core.member())));
            }
        }
    }

    /// Jobs of this lane do not run on this node until [`Cluster::release`].
    pub fn hold(&mut self, node: u64, lane: JobLane) {
        self.holding.insert((node, lane));
    }

    /// Runs what was held, in order.
    pub fn release(&mut self, node: u64, lane: JobLane) {
        let vfs: Arc<dyn Vfs> = Arc::new(self.disks[&node].clone());
        self.release_on(node, lane, &vfs);
    }

    /// The same, on another file system.
    pub fn release_on(&mut self, node: u64, lane: JobLane, vfs: &Arc<dyn Vfs>) {
        self.holding.remove(&(node, lane));
        let (mine, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|(at, job)| *at == node && job.lane() == lane);
        self.held = rest;
        for (_, job) in mine {
            self.pending.push_back((node, Input::Done(job.run(vfs))));
        }
    }

    /// Flips a bit in every place of a node's files of a kind where `text` stands; says in how many.
    pub fn rot_in(&self, node: u64, folder: &str, text: &str) -> usize {
        let disk = &self.disks[&node];
        let mut hits = 0;
        for path in self.files(node, folder, folder) {
            let bytes = disk.contents(&path).expect("a file");
            let places = bytes.windows(text.len()).enumerate();
            for (at, _) in places.filter(|(_, window)| *window == text.as_bytes()) {
                disk.corrupt(&path, |bytes| bytes[at] ^= 0x40).expect("a file");
                hits += 1;
            }
        }
        hits
    }

    /// Damages the middle of every file of a kind on a node's disk; says how many there are.
    pub fn rot_files(&self, node: u64, folder: &str, ending: &str) -> usize {
        let disk = &self.disks[&node];
        let files = self.files(node, folder, ending);
        for path in &files {
            disk.corrupt(path, |bytes| {
                let at = bytes.len() / 2;
                bytes[at..at + 100].iter_mut().for_each(|byte| *byte ^= 0x40);
            })
            .expect("a file");
        }
        files.len()
    }

    /// The files of a kind on a node's disk.
    pub fn files(&self, node: u64, folder: &str, ending: &str) -> Vec<PathBuf> {
        let is_it = |path: &PathBuf| {
            path.starts_with(PathBuf::from(DIR).join(folder))
                && path.extension().is_some_and(|found| found == ending)
        };
        self.disks[&node].files().into_keys().filter(is_it).collect()
    }

    /// How many jobs of a node's lane are held.
    pub fn held(&self, node: u64, lane: JobLane) -> usize {
        self.held.iter().filter(|(at, job)| *at == node && job.lane() == lane).count()
    }

    /// Whether one of a node's held jobs is a matter of memory alone.
    pub fn holds_quick_ones(&self, node: u64) -> bool {
        self.held.iter().any(|(at, job)| *at == node && job.is_quick())
    }

    /// Remembers every frame from now on.
    pub fn record(&mut self) {
        self.recorded = Some(Vec::new());
    }

    /// All remembered frames: from whom, to whom.
    pub fn frames(&self) -> impl Iterator<Item = &(Member, u64, Bytes)> {
        self.recorded.iter().flatten()
    }

    /// Delivers once more all remembered frames from one node to another.
    pub fn replay(&mut self, from: u64, to: u64) -> usize {
        let all = self.recorded.iter().flatten();
        let again: Vec<_> = all.filter(|f| f.0.node.0 == from && f.1 == to).cloned().collect();
        self.network.extend(again.iter().cloned());
        again.len()
    }

    pub fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    pub fn input(&mut self, node: u64, make: impl FnOnce(Token) -> Input) -> Token {
        let token = self.token();
        self.pending.push_back((node, make(token)));
        token
    }

    pub fn propose(&mut self, node: u64, group: u64, payload: &str) -> Token {
        let payload = Bytes::from(payload.to_owned());
        self.input(node, |to| Input::Propose {
            to,
            group: GroupId(group),
            payload,
            stamp: false,
            forward: true,
        })
    }

    /// Proposes and cranks until there is an answer.
    pub fn proposed(
        &mut self,
        node: u64,
        group: u64,
        payload: &str,
    ) -> Result<Reply, RequestError> {
        let token = self.propose(node, group, payload);
        self.answer(token)
    }

    /// What a group's machine at a node holds.
    pub fn read(
        &mut self,
        node: u64,
        group: u64,
        consistency: Consistency,
    ) -> Result<String, RequestError> {
        self.ask(node, group, consistency, Box::new(journal_text))
    }

    /// What a query of a group's machine at a node answers, as text.
    pub fn ask(
        &mut self,
        node: u64,
        group: u64,
        consistency: Consistency,
        query: Query,
    ) -> Result<String, RequestError> {
        let group = GroupId(group);
        let token = self.input(node, |to| Input::Read { to, group, consistency, query });
        let reply = self.answer(token)?;
        Ok(String::from_utf8_lossy(&reply.payload).into_owned())
    }

    pub fn answer(&mut self, token: Token) -> Result<Reply, RequestError> {
        assert!(self.run_until(30, |c| c.replies.contains_key(&token)), "no answer to {token:?}");
        self.replies.remove(&token).expect("just seen")
    }

    /// Cranks until something holds, at most so many simulated seconds.
    pub fn run_until(&mut self, seconds: u64, mut done: impl FnMut(&Cluster) -> bool) -> bool {
        let end = self.now + seconds * 1_000_000;
        while !done(self) {
            if self.now > end {
                return false;
            }
            self.crank();
        }
        true
    }

    pub fn run_for(&mut self, millis: u64) {
        let end = self.now + millis * 1000;
        while self.now < end {
            self.crank();
        }
    }

    /// Delivers everything that waits, lets every node take a turn; if nothing waits, time passes.
    pub fn crank(&mut self) {
        let time = self.time();
        let idle = self.pending.is_empty() && self.network.is_empty();
        for (to, input) in std::mem::take(&mut self.pending) {
            if let Some(core) = self.nodes.get_mut(&to) {
                core.step(time, input);
            }
        }
        for (from, to, bytes) in std::mem::take(&mut self.network) {
            let lost = self.loses.is_some_and(|loses| loses(&bytes));
            if lost || self.cut.contains(&(from.node.0, to)) || self.strangers(from.node.0, to) {
                continue;
            }
            if let Some(core) = self.nodes.get_mut(&to) {
                core.step(time, Input::Frame { from, bytes });
            }
        }
        let ids: Vec<u64> = self.nodes.keys().copied().collect();
        for id in ids {
            self.turn(id);
        }
        if idle && self.pending.is_empty() && self.network.is_empty() {
            let wake = self.nodes.values().filter_map(NodeCore::wake_at).min();
            let next = wake.map_or(self.now + 10_000, |at| at.0).min(self.now + 10_000);
            self.now = next.max(self.now + 100);
        } else {
            self.now += 50;
        }
    }

    fn turn(&mut self, id: u64) {
        let (time, disk) = (self.time(), self.disks[&id].clone());
        let vfs: Arc<dyn Vfs> = Arc::new(disk);
        let Some(core) = self.nodes.get_mut(&id) else { return };
        let mut out = Vec::new();
        core.turn(time, &mut out);
        let me = core.member();
        let mut over = false;
        for output in out {
            assert!(!over, "node {id}: something behind its end");
            self.trace.push(format!("{} {}", time.now.0, describe(id, &output)));
            match output {
                Output::Send { to, bytes, .. } => {
                    if let Some(recorded) = &mut self.recorded {
                        recorded.push((me, to.0, bytes.clone()));
                    }
                    if self.repeat {
                        self.network.push_back((me, to.0, bytes.clone()));
                    }
                    self.network.push_back((me, to.0, bytes));
                }
                Output::Job(job) if self.holding.contains(&(id, job.lane())) => {
                    self.held.push((id, job));
                }
                Output::Job(job) => self.pending.push_back((id, Input::Done(job.run(&vfs)))),
                Output::Reply { to, result } => {
                    let twice = self.replies.insert(to, result);
                    assert!(twice.is_none(), "{to:?} answered twice");
                }
                Output::Places { peers, card } => {
                    self.places.insert(id, peers);
                    self.cards.insert(id, Card::decode(&card).expect("a card"));
                }
                Output::Notice { payload, .. } => self.notices.push((id, payload)),
                Output::Stop(reason) => {
                    self.stops.insert(id, reason);
                    over = true;
                }
            }
        }
        if over {
            self.nodes.remove(&id);
            self.lost(id);
        }
    }

    /// The node that leads a group, if a majority agrees.
    pub fn leader(&self, group: u64) -> Option<u64> {
        let leads = |core: &&NodeCore| {
            core.status().groups.iter().any(|g| g.group == group && g.role == "leader")
        };
        let mut leaders: Vec<(u64, u64)> = self
            .nodes
            .values()
            .filter(leads)
            .map(|core| {
                let status = core.status();
                let term = status.groups.iter().find(|g| g.group == group).map_or(0, |g| g.term);
                (term, core.member().node.0)
            })
            .collect();
        leaders.sort_unstable();
        leaders.last().map(|(_, node)| *node)
    }

    /// Has a node lead a group.
    pub fn lead(&mut self, node: u64, group: u64) {
        let leader = self.leader(group).expect("led");
        if leader != node {
            let target = NodeId(node);
            let transfer = |to| Input::Transfer { to, group: GroupId(group), target };
            let token = self.input(leader, transfer);
            self.answer(token).expect("handed over");
            assert_eq!(self.leader(group), Some(node));
        }
    }

    pub fn wait_for_leaders(&mut self, groups: u32) {
        let all = |c: &Cluster| (0..=u64::from(groups)).all(|group| c.leader(group).is_some());
        assert!(self.run_until(20, all), "no leaders: {:#?}", self.statuses());
    }

    pub fn statuses(&self) -> Vec<refloat_node::Status> {
        self.nodes.values().map(NodeCore::status).collect()
    }

    pub fn applied(&self, node: u64, group: u64) -> Index {
        let status = self.nodes[&node].status();
        Index(status.groups.iter().find(|g| g.group == group).map_or(0, |g| g.applied))
    }
}

fn describe(id: u64, output: &Output) -> String {
    match output {
        Output::Send { to, lane, bytes } => {
            let lane = if *lane == Lane::Bulk { "bulk" } else { "urgent" };
            let sum =
                bytes.iter().fold(0u32, |sum, b| sum.wrapping_mul(31).wrapping_add(u32::from(*b)));
            format!("n{id} -> n{to} {lane} {} B {sum:08x}", bytes.len())
        }
        Output::Job(job) => format!("n{id} {job:?}"),
        Output::Reply { to, result } => format!("n{id} {to:?} {result:?}"),
        Output::Places { peers, .. } => format!("n{id} places {peers:?}"),
        Output::Notice { group, payload } => format!("n{id} {group} notice {payload:?}"),
        Output::Stop(reason) => format!("n{id} stop {reason}"),
    }
}
