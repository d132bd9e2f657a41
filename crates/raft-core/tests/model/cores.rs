//! What can happen next, and what it leads to.

use crate::common::disk::Disk;
use crate::common::*;
use crate::world::{Budget, Disks, Letter, Replica, Shared, World};
use refloat_raft_core::*;
use refloat_types::*;
use stateright::{Model, Property};

pub const SAFE: &str = "elections, commits, votes, acks and completeness are safe";
pub const MATCH: &str = "logs match";
pub const COMMITTED: &str = "a proposal is committed";
pub const HEALED: &str = "a damaged replica heals";
pub const CUT: &str = "a leader cuts at a hole that nobody else ever had";
pub const REPLACED: &str = "a wiped member is replaced";
pub const PROMOTED: &str = "a new life votes";

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Deliver(Letter),
    /// As delivered, and it may arrive again.
    Repeat(Letter),
    Campaign(usize),
    /// Two election timeouts pass at a replica with holes, then it campaigns.
    CampaignLate(usize),
    Propose(usize),
    /// The step happens, what it wrote stays on its way to the disk.
    Lag(Box<Action>),
    /// The oldest batch under way is durable.
    Sync(usize),
    /// The power goes after so many batches under way, and the replica starts again.
    Crash(usize, usize),
    /// The step happens, what it wrote is lost, and the replica starts again.
    Torn(Box<Action>),
    /// Loses everything, and starts as a new life.
    Wipe(usize),
    /// Forgets term and vote, and goes on as a new life over its old log.
    Forget(usize),
    /// The leader replaces a life that is gone.
    Replace(usize, Member, Member),
    /// The leader makes a learner a voter.
    Promote(usize, Member),
    /// The last durable entry rots, found at a start.
    Damage(usize),
    /// Asks for holes.
    Tick(usize),
}

impl Action {
    /// Whether what it writes may be late or lost.
    fn writes(&self) -> bool {
        use Action::{Campaign, CampaignLate, Deliver, Propose};
        matches!(self, Deliver(_) | Campaign(_) | CampaignLate(_) | Propose(_))
    }
}

/// Where a check begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Nobody leads, all logs are empty.
    Fresh,
    /// The first replica leads, and its first entry is everywhere.
    Settled,
    /// As settled, and a second entry is with the leader, and on its way to the others.
    Proposed,
    /// Nobody leads. The logs, by the terms of their entries, and the highest term that each saw.
    Logs([(&'static [u64], u64); 3]),
}

pub struct Cores {
    pub budget: Budget,
    pub begin: Begin,
    /// Whether runs are numbered, so that each start is declared to the leader.
    pub numbered: bool,
    /// Whether each append brings one entry at most.
    pub one_by_one: bool,
}

impl Model for Cores {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let replica = |n: u64| {
            let (log, term): (&[u64], u64) = match self.begin {
                Begin::Logs(logs) => logs[n as usize - 1],
                _ => (&[], 0),
            };
            self.replica(member(n), Disk::with_log(conf(1..=3), term, log_of(log)), 1)
        };
        let mut world = World::new((1..=3).map(replica), self.budget);
        if matches!(self.begin, Begin::Settled | Begin::Proposed) {
            self.settle(&mut world);
        }
        if self.begin == Begin::Proposed {
            world.left.proposals += 1;
            self.step(&mut world, Action::Propose(0), Disks::Sync).expect("an input");
        }
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        let left = &world.left;
        actions.extend(world.wire.iter().cloned().map(Action::Deliver));
        for n in 0..world.replicas.len() {
            self.actions_of(world, n, actions);
        }
        let writing: Vec<Action> = actions.iter().filter(|a| a.writes()).cloned().collect();
        if left.crashes > 0 {
            actions.extend(writing.iter().cloned().map(|a| Action::Torn(Box::new(a))));
        }
        if left.lags > 0 {
            actions.extend(writing.into_iter().map(|a| Action::Lag(Box::new(a))));
        }
        if left.repeats > 0 {
            actions.extend(world.wire.iter().cloned().map(Action::Repeat));
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Torn(action) => {
                world.left.crashes -= 1;
                let disk = |n: usize| last.replicas[n].disk.clone();
                let n = self.step(&mut world, *action, Disks::Later)?;
                self.restart(&mut world, n, disk(n));
            }
            Action::Lag(action) => {
                world.left.lags -= 1;
                let n = self.step(&mut world, *action, Disks::Later)?;
                if world.replicas[n].pending.is_empty() {
                    return None;
                }
            }
            action => {
                self.step(&mut world, action, Disks::Sync)?;
            }
        }
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Cores>> {
        vec![
            Property::always(SAFE, |_, world: &World| world.broken.is_none()),
            Property::always(MATCH, |_, world: &World| world.logs_match()),
            Property::sometimes(COMMITTED, |_, world: &World| {
                world.committed.values().any(|(id, ..)| id.index > Index(1))
            }),
            Property::sometimes(HEALED, |model: &Cores, world: &World| {
                world.left.damages < model.budget.damages
                    && world.replicas.iter().all(|r| r.disk.lost.is_empty())
                    && world.committed.len() > 1
            }),
            Property::sometimes(CUT, |model: &Cores, world: &World| {
                world.left.damages < model.budget.damages
                    && world.replicas.iter().any(|r| {
                        r.core.role() == Role::Leader && r.clock > Now(0) && r.disk.lost.is_empty()
                    })
            }),
            Property::sometimes(REPLACED, |model: &Cores, world: &World| {
                world.lives_ended(model)
                    && world.replicas.iter().any(|r| r.core.conf().learners.len() == 1)
            }),
            Property::sometimes(PROMOTED, |model: &Cores, world: &World| {
                world.lives_ended(model)
                    && world.replicas.iter().any(|r| {
                        let conf = r.core.conf();
                        world.replicas.iter().all(|m| conf.is_voter(m.me))
                    })
            }),
        ]
    }
}

impl Cores {
    fn replica(&self, me: Member, disk: Disk, runs: u64) -> Replica {
        let mut config = settings(me);
        config.pre_vote = false;
        config.check_quorum = false;
        config.run = if self.numbered { runs } else { 0 };
        config.seed = runs;
        if self.one_by_one {
            config.max_append_bytes = 1;
        }
        let core = Core::new(config, disk.restored(), Now(0)).expect("a sound disk");
        Replica { me, core, runs, clock: Now(0), disk, pending: Vec::new() }
    }

    fn settle(&self, world: &mut World) {
        world.left.campaigns += 1;
        let mut next = Some(Action::Campaign(0));
        while let Some(action) = next {
            self.step(world, action, Disks::Sync).expect("an input");
            next = world.wire.first().cloned().map(Action::Deliver);
        }
        assert_eq!(world.committed.len(), 1);
    }

    fn actions_of(&self, world: &World, n: usize, actions: &mut Vec<Action>) {
        let (left, replica) = (&world.left, &world.replicas[n]);
        let leads = replica.core.role() == Role::Leader;
        let holes = !replica.disk.lost.is_empty();
        if left.campaigns > 0 && !leads {
            actions.push(if holes { Action::CampaignLate(n) } else { Action::Campaign(n) });
        }
        if left.proposals > 0 && leads {
            actions.push(Action::Propose(n));
        }
        if !replica.pending.is_empty() {
            actions.push(Action::Sync(n));
            if left.crashes > 0 {
                let kept = 0..=replica.pending.len();
                actions.extend(kept.map(|kept| Action::Crash(n, kept)));
            }
        }
        if left.wipes > 0 && !leads && replica.disk != Disk::empty(conf(1..=3)) {
            actions.push(Action::Wipe(n));
        }
        if left.forgets > 0 && !leads && !replica.disk.entries.is_empty() {
            actions.push(Action::Forget(n));
        }
        if left.damages > 0 && !replica.disk.entries.is_empty() {
            actions.push(Action::Damage(n));
        }
        if holes && replica.core.wake_at().is_some_and(|at| at <= replica.clock) {
            actions.push(Action::Tick(n));
        }
        if leads {
            let ghosts = world.ghosts(&replica.core);
            actions.extend(ghosts.into_iter().map(|(old, new)| Action::Replace(n, old, new)));
            let learners = replica.core.conf().learners.iter();
            actions.extend(learners.map(|m| Action::Promote(n, *m)));
        }
    }

    fn restart(&self, world: &mut World, n: usize, disk: Disk) {
        let Replica { me, runs, .. } = *world.replicas[n];
        world.replicas[n] = Shared::new(self.replica(me, disk, runs + 1));
        world.drive(n, Disks::Sync, |_| {});
    }

    /// Does it. Answers at which replica, or `None` if nothing can come of it.
    fn step(&self, world: &mut World, action: Action, disks: Disks) -> Option<usize> {
        let n = match action {
            Action::Deliver(letter) => {
                world.wire.remove(&letter);
                return deliver(world, &letter, disks);
            }
            Action::Repeat(letter) => {
                world.left.repeats -= 1;
                return deliver(world, &letter, disks);
            }
            Action::Campaign(n) => {
                world.left.campaigns -= 1;
                world.drive(n, disks, |r| r.core.campaign(r.clock));
                n
            }
            Action::CampaignLate(n) => {
                world.left.campaigns -= 1;
                world.drive(n, disks, campaign_late);
                n
            }
            Action::Propose(n) => {
                world.left.proposals -= 1;
                let text = if world.left.proposals.is_multiple_of(2) { "a" } else { "b" };
                world.drive(n, disks, |r| drop(r.core.propose(r.clock, vec![command(text)])));
                n
            }
            Action::Sync(n) => {
                world.drive(n, disks, Replica::sync);
                n
            }
            Action::Crash(n, kept) => {
                world.left.crashes -= 1;
                let mut replica = (*world.replicas[n]).clone();
                replica.lose_all_but(kept);
                self.restart(world, n, replica.disk);
                n
            }
            Action::Wipe(n) => {
                world.left.wipes -= 1;
                let old = world.replicas[n].me;
                let new = Member::new(old.node, Incarnation(old.incarnation.0 + 1));
                let replica = self.replica(new, Disk::empty(conf(1..=3)), 1);
                world.replicas[n] = Shared::new(replica);
                n
            }
            Action::Forget(n) => {
                world.left.forgets -= 1;
                let Replica { me, runs, .. } = *world.replicas[n];
                let mut disk = world.replicas[n].disk.clone();
                disk.hard = HardState { term: disk.last().term, vote: None };
                let mut amnesiac = disk.clone();
                amnesiac.rights = Rights::NONE;
                let mut replica = self.replica(me, amnesiac, runs + 1);
                replica.disk = disk;
                replica.me = Member::new(me.node, Incarnation(me.incarnation.0 + 1));
                replica.core.begin_life(replica.clock, replica.me);
                world.replicas[n] = Shared::new(replica);
                world.drive(n, Disks::Sync, |_| {});
                n
            }
            Action::Replace(n, old, new) => {
                world.drive(n, disks, |r| {
                    r.core.on_not_me(r.clock, old);
                    let change = ConfChange::replace(old, new);
                    drop(r.core.propose_conf_change(r.clock, change));
                });
                n
            }
            Action::Promote(n, learner) => {
                world.drive(n, disks, |r| {
                    let required = r.core.commit();
                    drop(r.core.promote(r.clock, learner, required));
                });
                n
            }
            Action::Damage(n) => {
                world.left.damages -= 1;
                let mut disk = world.replicas[n].disk.clone();
                let at = *disk.entries.last_key_value()?.0;
                disk.lose(at.0);
                self.restart(world, n, disk);
                n
            }
            Action::Tick(n) => {
                world.drive(n, disks, |r| r.core.tick(r.clock));
                n
            }
            Action::Torn(_) | Action::Lag(_) => return None,
        };
        Some(n)
    }
}

impl World {
    fn lives_ended(&self, model: &Cores) -> bool {
        (self.left.wipes, self.left.forgets) != (model.budget.wipes, model.budget.forgets)
    }
}

fn deliver(world: &mut World, letter: &Letter, disks: Disks) -> Option<usize> {
    let message = Message::decode(letter).expect("what was encoded");
    let n = world.replicas.iter().position(|r| r.me.node == message.to.node)?;
    world.drive(n, disks, |r| drop(r.core.step(r.clock, message)));
    Some(n)
}

fn campaign_late(replica: &mut Replica) {
    replica.clock = replica.clock.after(2 * E);
    replica.core.tick(replica.clock);
    replica.clock = replica.clock.after(E);
    replica.core.campaign(replica.clock);
}

pub fn show(action: &Action) -> String {
    match action {
        Action::Deliver(letter) => show::message(&Message::decode(letter).expect("a message")),
        Action::Repeat(letter) => format!("{}, and again", show(&Action::Deliver(letter.clone()))),
        Action::Torn(action) => format!("{}, then a crash", show(action)),
        Action::Lag(action) => format!("{}, not durable yet", show(action)),
        other => format!("{other:?}"),
    }
}
