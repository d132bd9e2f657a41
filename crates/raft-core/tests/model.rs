//! Every behaviour of three real cores within small bounds: crashes that lose what is not
//! durable, one wiped member that returns as a new life, one damaged entry, messages in any
//! order or never. Time stands still; campaigns come from the checker. What a core wants durable
//! is durable with the step, unless the step ends in a crash: then what it sent has left, and
//! what it wrote is lost.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::disk::Disk;
use common::*;
use refloat_raft_core::*;
use refloat_types::*;
use stateright::{Checker, Model, Property};

const ALWAYS: [&str; 2] = ["elections, commits, votes and completeness are safe", "logs match"];
const COMMITTED: &str = "a proposal is committed";
const HEALED: &str = "a damaged replica heals";
const REPLACED: &str = "a wiped member is replaced";

/// How often each thing may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Budget {
    campaigns: u8,
    proposals: u8,
    crashes: u8,
    wipes: u8,
    damages: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Replica {
    me: Member,
    core: Core,
    runs: u64,
    disk: Disk,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    replicas: Vec<Replica>,
    /// Byte forms, so that they have an order. Delivered once each.
    wire: BTreeSet<Vec<u8>>,
    left: Budget,
    leaders: BTreeMap<Term, Member>,
    votes: BTreeMap<(Term, Member), Member>,
    committed: BTreeMap<Index, (EntryId, Digest)>,
    broken: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Action {
    Deliver(Vec<u8>),
    Campaign(usize),
    Propose(usize),
    /// The step happens, what it wrote is lost, and the replica starts again.
    Torn(Box<Action>),
    /// Loses everything, and starts as a new life.
    Wipe(usize),
    /// The leader replaces a life that is gone.
    Replace(usize, Member, Member),
    /// The last durable entry rots, found at a start.
    Damage(usize),
    /// Asks for holes.
    Tick(usize),
}

impl Action {
    /// Whether losing what it writes may matter.
    fn writes(&self) -> bool {
        matches!(self, Action::Deliver(_) | Action::Campaign(_) | Action::Propose(_))
    }
}

/// What becomes of writes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Disks {
    Sync,
    Fail,
}

struct Cores {
    budget: Budget,
    /// Begin with a leader, and its first entry everywhere.
    settled: bool,
}

impl Cores {
    fn start(&self, me: Member, disk: &Disk, runs: u64) -> Core {
        let mut config = settings(me);
        config.pre_vote = false;
        config.check_quorum = false;
        config.run = runs;
        config.seed = runs;
        Core::new(config, disk.restored(), Now(0)).expect("a sound disk")
    }

    fn replica(&self, me: Member, disk: Disk, runs: u64) -> Replica {
        let core = self.start(me, &disk, runs);
        Replica { me, core, runs, disk }
    }
}

impl Model for Cores {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let replica = |n| self.replica(member(n), Disk::empty(conf(1..=3)), 1);
        let mut world = World {
            replicas: (1..=3).map(replica).collect(),
            wire: BTreeSet::new(),
            left: self.budget,
            leaders: BTreeMap::new(),
            votes: BTreeMap::new(),
            committed: BTreeMap::new(),
            broken: None,
        };
        if self.settled {
            self.settle(&mut world);
        }
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        actions.extend(world.wire.iter().cloned().map(Action::Deliver));
        let left = &world.left;
        for (n, replica) in world.replicas.iter().enumerate() {
            let leads = replica.core.role() == Role::Leader;
            if left.campaigns > 0 && !leads {
                actions.push(Action::Campaign(n));
            }
            if left.proposals > 0 && leads {
                actions.push(Action::Propose(n));
            }
            if left.wipes > 0 && !leads && replica.disk != Disk::empty(conf(1..=3)) {
                actions.push(Action::Wipe(n));
            }
            if left.damages > 0 && !replica.disk.entries.is_empty() {
                actions.push(Action::Damage(n));
            }
            if !replica.core.status().holes.is_empty() && replica.core.wake_at() == Some(Now(0)) {
                actions.push(Action::Tick(n));
            }
            if leads {
                for (old, new) in world.ghosts(&replica.core) {
                    actions.push(Action::Replace(n, old, new));
                }
            }
        }
        if left.crashes > 0 {
            let torn = actions.iter().filter(|a| a.writes()).cloned();
            let torn: Vec<Action> = torn.map(|a| Action::Torn(Box::new(a))).collect();
            actions.extend(torn);
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        let touched = match action {
            Action::Torn(action) => {
                world.left.crashes -= 1;
                let n = self.input(&mut world, *action)?;
                let Replica { me, runs, disk, .. } = world.replicas[n].clone();
                world.follow(n, Disks::Fail);
                world.replicas[n] = self.replica(me, disk, runs + 1);
                n
            }
            action => self.input(&mut world, action)?,
        };
        world.follow(touched, Disks::Sync);
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Cores>> {
        fn safe(_: &Cores, world: &World) -> bool {
            world.broken.is_none()
        }
        vec![
            Property::always(ALWAYS[0], safe),
            Property::always(ALWAYS[1], |_, world: &World| world.logs_match()),
            Property::sometimes(COMMITTED, |_, world: &World| {
                world.committed.values().any(|(id, _)| id.index > Index(1))
            }),
            Property::sometimes(HEALED, |model: &Cores, world: &World| {
                model.budget.damages == 0
                    || (world.left.damages == 0
                        && world.replicas.iter().all(|r| r.disk.lost.is_empty())
                        && !world.committed.is_empty())
            }),
            Property::sometimes(REPLACED, |model: &Cores, world: &World| {
                model.budget.wipes == 0
                    || world.replicas.iter().any(|r| r.core.conf().learners.len() == 1)
            }),
        ]
    }
}

impl Cores {
    fn settle(&self, world: &mut World) {
        world.left.campaigns += 1;
        let mut next = Some(Action::Campaign(0));
        while let Some(action) = next {
            let n = self.input(world, action).expect("an input");
            world.follow(n, Disks::Sync);
            next = world.wire.first().cloned().map(Action::Deliver);
        }
        assert_eq!(world.committed.len(), 1);
    }

    /// Gives a core an input. Answers which.
    fn input(&self, world: &mut World, action: Action) -> Option<usize> {
        let now = Now(0);
        Some(match action {
            Action::Deliver(bytes) => {
                world.wire.remove(&bytes);
                let message = Message::decode(&bytes).expect("what was encoded");
                let n = world.replicas.iter().position(|r| r.me.node == message.to.node)?;
                let _ = world.replicas[n].core.step(now, message);
                n
            }
            Action::Campaign(n) => {
                world.left.campaigns -= 1;
                world.replicas[n].core.campaign(now);
                n
            }
            Action::Propose(n) => {
                world.left.proposals -= 1;
                let text = if world.left.proposals.is_multiple_of(2) { "a" } else { "b" };
                let _ = world.replicas[n].core.propose(now, vec![command(text)]);
                n
            }
            Action::Wipe(n) => {
                world.left.wipes -= 1;
                let me = Member::new(
                    world.replicas[n].me.node,
                    Incarnation(world.replicas[n].me.incarnation.0 + 1),
                );
                world.replicas[n] = self.replica(me, Disk::empty(conf(1..=3)), 1);
                n
            }
            Action::Replace(n, old, new) => {
                let core = &mut world.replicas[n].core;
                core.on_not_me(now, old);
                let change = ConfChange::replace(old, new);
                core.propose_conf_change(now, change).ok()?;
                n
            }
            Action::Damage(n) => {
                world.left.damages -= 1;
                let disk = &mut world.replicas[n].disk;
                let at = *disk.entries.last_key_value()?.0;
                disk.lose(at.0);
                world.restart(self, n);
                n
            }
            Action::Tick(n) => {
                world.replicas[n].core.tick(now);
                n
            }
            Action::Torn(_) => return None,
        })
    }
}

impl World {
    fn ghosts(&self, core: &Core) -> Vec<(Member, Member)> {
        let living = |m: Member| self.replicas.iter().map(|r| r.me).find(|r| r.node == m.node);
        core.conf().iter().filter_map(|m| living(m).filter(|r| *r != m).map(|r| (m, r))).collect()
    }

    fn restart(&mut self, model: &Cores, n: usize) {
        let Replica { me, runs, disk, .. } = self.replicas[n].clone();
        self.replicas[n] = model.replica(me, disk, runs + 1);
    }

    fn break_rule(&mut self, rule: &'static str) {
        self.broken.get_or_insert(rule);
    }

    fn follow(&mut self, n: usize, disks: Disks) {
        while let Some(ready) = self.replicas[n].core.ready() {
            self.check_leader(n, &ready);
            let replica = &mut self.replicas[n];
            if let Some(persist) = &ready.persist {
                replica.disk.persist(persist);
                if let Some((at, conf)) = &ready.install {
                    replica.disk.install(*at, conf.clone());
                }
            }
            for fetch in ready.fetch {
                let answer = replica.disk.fetch(&fetch);
                replica.core.on_fetched(Now(0), fetch.id, answer);
            }
            if let Some((first, last)) = ready.committed {
                let entries = replica.disk.range(first, last);
                replica.core.on_applied(Now(0), last);
                entries.iter().for_each(|entry| self.check_committed(entry));
            }
            for message in ready.messages {
                self.send(&message);
            }
            if let Some(persist) = ready.persist.filter(|_| disks == Disks::Sync) {
                self.replicas[n].core.on_persisted(Now(0), persist.ticket);
            }
        }
    }

    fn send(&mut self, message: &Message) {
        if message.body == (Body::VoteResp { granted: true }) {
            let given = *self.votes.entry((message.term, message.from)).or_insert(message.to);
            if given != message.to {
                self.break_rule("two votes of one life in one term");
            }
        }
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.wire.insert(bytes);
    }

    fn check_leader(&mut self, n: usize, ready: &Ready) {
        let Some(soft) = ready.soft.filter(|soft| soft.role == Role::Leader) else { return };
        let me = self.replicas[n].me;
        if *self.leaders.entry(soft.term).or_insert(me) != me {
            self.break_rule("two leaders in one term");
        }
        let log = &self.replicas[n].disk;
        let lacks = |(at, (id, _)): (&Index, &(EntryId, Digest))| {
            id.term < soft.term && log.id(*at) != Some(*id)
        };
        if self.committed.iter().any(lacks) {
            self.break_rule("a leader without what is committed");
        }
    }

    fn check_committed(&mut self, entry: &Entry) {
        let what = (entry.id, entry.digest);
        if *self.committed.entry(entry.id.index).or_insert(what) != what {
            self.break_rule("two entries committed at one index");
        }
    }

    fn logs_match(&self) -> bool {
        let whole = |d: &Disk, i: Index| d.entries.get(&i).cloned();
        self.replicas.iter().enumerate().all(|(n, a)| {
            self.replicas[n + 1..].iter().all(|b| {
                let (a, b) = (&a.disk, &b.disk);
                let met = a.entries.iter().rev().find(|(i, e)| b.id(**i) == Some(e.id));
                let Some((met, _)) = met else { return true };
                (1..=met.0).map(Index).all(|i| match (whole(a, i), whole(b, i)) {
                    (Some(x), Some(y)) => x == y,
                    _ => true,
                })
            })
        })
    }
}

/// Checks all behaviours of at most `depth` steps, or as many as the time allows. `seen` are the
/// properties of which an example must be met.
fn check(budget: Budget, settled: bool, depth: usize, most: Duration, seen: &[&str]) {
    let checker =
        Cores { budget, settled }.checker().threads(2).target_max_depth(depth).timeout(most);
    let checker = checker.spawn_bfs().join();
    let (states, unique) = (checker.state_count(), checker.unique_state_count());
    println!("{budget:?}: {states} states, {unique} unique, depth {}", checker.max_depth());
    let mut examples: Vec<&str> = Vec::new();
    for (name, path) in checker.discoveries() {
        if ALWAYS.contains(&name) {
            let broken = path.last_state().broken;
            let actions: Vec<String> = path.into_actions().iter().map(show).collect();
            panic!("{name}: {broken:?}\n{}", actions.join("\n"));
        }
        examples.push(name);
    }
    for name in seen {
        assert!(examples.contains(name), "no example of: {name}");
    }
}

fn show(action: &Action) -> String {
    match action {
        Action::Deliver(bytes) => show::message(&Message::decode(bytes).expect("what was encoded")),
        Action::Torn(action) => format!("{}, then a crash", show(action)),
        other => format!("{other:?}"),
    }
}

#[test]
fn c02_model_elections_and_commits_with_crashes() {
    let budget = Budget { campaigns: 2, crashes: 1, ..Budget::default() };
    check(budget, false, 9, Duration::from_secs(20), &[]);
    let budget = Budget { campaigns: 1, proposals: 2, crashes: 1, ..Budget::default() };
    check(budget, true, 9, Duration::from_secs(20), &[COMMITTED]);
}

#[test]
fn m06_model_a_wiped_member_returns_as_a_new_life() {
    let budget = Budget { campaigns: 1, proposals: 1, wipes: 1, ..Budget::default() };
    check(budget, true, 10, Duration::from_secs(20), &[REPLACED]);
}

#[test]
fn m19_model_a_damaged_member() {
    let budget = Budget { campaigns: 1, proposals: 1, damages: 1, ..Budget::default() };
    check(budget, true, 9, Duration::from_secs(20), &[HEALED]);
}

/// `cargo test --release -p refloat-raft-core --test model -- --ignored`, for ten minutes.
#[test]
#[ignore = "takes ten minutes"]
fn c12_model_everything_at_once() {
    let budget = Budget { campaigns: 3, proposals: 2, crashes: 2, wipes: 1, damages: 1 };
    check(budget, true, 60, Duration::from_secs(600), &[COMMITTED, HEALED, REPLACED]);
}
