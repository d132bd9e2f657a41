//! Three cores as a model: what can happen next in a state.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::action::{Action, Known};
use crate::begin::Begin;
use crate::budget::Budget;
use crate::clocks::{DRIFT, Voting};
use crate::common::disk::Disk;
use crate::common::*;
use crate::world::{Disks, Hangs, Letter, Past, Replica, World};
use refloat_raft_core::*;
use refloat_types::*;
use stateright::{Model, Property};

pub struct Cores {
    pub budget: Budget,
    pub begin: Begin,
    /// Whether runs are numbered, so that each start is declared to the leader.
    pub numbered: bool,
    /// Whether each append brings one entry at most.
    pub one_by_one: bool,
    pub voting: Voting,
}

impl Model for Cores {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![self.begin()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.broken.is_some() {
            return;
        }
        let left = &world.left;
        // A loss that nobody can know of is noticed by the leader of its term, if it is that term
        // for long enough; no more is promised.
        let unnoticed = world.loss_is_unnoticed();
        let deaf = |letter: &&Letter| !(unnoticed && is_of_election(letter));
        actions.extend(world.wire.iter().filter(deaf).cloned().map(Action::Deliver));
        actions.extend(world.streams.iter().cloned().map(Action::Stream));
        for n in 0..world.replicas.len() {
            self.actions_of(world, n, actions);
            self.faults_of(world, n, actions);
        }
        self.time(world, actions);
        let writing: Vec<Action> = actions.iter().filter(|a| a.writes()).cloned().collect();
        if left.crashes > 0 {
            actions.extend(writing.iter().cloned().map(|a| Action::Torn(Box::new(a))));
        }
        if left.lags > 0 {
            actions.extend(writing.into_iter().map(|a| Action::Lag(Box::new(a))));
        }
        if left.repeats > 0 {
            actions.extend(world.wire.iter().filter(deaf).cloned().map(Action::Repeat));
            actions.extend(world.streams.iter().cloned().map(Action::StreamFails));
        }
    }

    /// A core that panics is one that broke a rule, or that was made to believe something false.
    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let next = catch_unwind(AssertUnwindSafe(|| self.next(last, action)));
        next.unwrap_or_else(|_| {
            let mut world = last.clone();
            world.break_rule("no panic");
            Some(world)
        })
    }

    fn properties(&self) -> Vec<Property<Cores>> {
        crate::properties::all()
    }
}

impl Cores {
    fn next(&self, last: &World, action: Action) -> Option<World> {
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

    pub fn replica(&self, me: Member, disk: Disk, runs: u64) -> Replica {
        let mut config = settings(me);
        config.pre_vote = self.voting == Voting::PreVote;
        config.check_quorum = self.voting != Voting::Plain;
        config.lease_drift = (self.voting == Voting::Leases).then_some(DRIFT);
        config.run = if self.numbered { runs } else { 0 };
        config.seed = runs;
        if self.one_by_one {
            config.max_append_bytes = 1;
        }
        let core = Core::new(config, disk.restored(), Now(0)).expect("a sound disk");
        Replica {
            me,
            core,
            runs,
            clock: Now(0),
            heard: None,
            voting: self.voting,
            machine: disk.base.index,
            disk,
            pending: Vec::new(),
            hangs: None,
            unnoticed: false,
            past: Past::default(),
        }
    }

    /// What is slow at another replica than a leader lets nobody read for too long.
    fn time(&self, world: &World, actions: &mut Vec<Action>) {
        let leads = |n: &usize| world.replicas[*n].core.role() == Role::Leader;
        if world.left.passes > 0 && self.voting == Voting::Leases {
            let leaders = (0..world.replicas.len()).filter(leads);
            actions.extend(leaders.map(|n| Action::Pass(Some(n))));
        } else if world.left.passes > 0 {
            actions.push(Action::Pass(None));
        }
    }

    fn actions_of(&self, world: &World, n: usize, actions: &mut Vec<Action>) {
        let (left, replica) = (&world.left, &world.replicas[n]);
        let leads = replica.core.role() == Role::Leader;
        let holes = !replica.disk.lost.is_empty();
        if left.campaigns > 0 && !leads && !world.loss_is_unnoticed() {
            actions.push(if holes { Action::CampaignLate(n) } else { Action::Campaign(n) });
        }
        if left.proposals > 0 && leads {
            actions.push(Action::Propose(n));
        }
        if left.removals > 0 && leads {
            actions.push(Action::Leave(n));
        }
        let due = replica.core.wake_at().is_some_and(|at| at <= replica.clock);
        if left.beats > 0 && leads && (due || self.budget.passes == 0) {
            actions.push(Action::Beat(n));
        }
        if !replica.pending.is_empty() {
            if replica.hangs.is_none() {
                actions.push(Action::Sync(n));
            }
            if left.crashes > 0 {
                let kept = 0..=replica.pending.len();
                actions.extend(kept.map(|kept| Action::Crash(n, kept)));
            }
        }
        if due && !replica.core.status().holes.is_empty() {
            actions.push(Action::Tick(n));
        }
        if leads {
            let ghosts = world.ghosts(&replica.core);
            actions.extend(ghosts.into_iter().map(|(old, new)| Action::Replace(n, old, new)));
            self.changes(world, n, actions);
        }
        let knows = replica.core.leader().is_some();
        if left.reads > 0 && knows {
            actions.push(Action::Read(n));
        }
    }

    fn changes(&self, world: &World, n: usize, actions: &mut Vec<Action>) {
        let (left, conf) = (&world.left, world.replicas[n].core.conf());
        let me = world.replicas[n].me;
        if self.begin != Begin::Learner || left.promotions > 0 {
            actions.extend(conf.learners.iter().map(|m| Action::Promote(n, *m)));
        }
        if left.swaps > 0 {
            let swaps = conf.learners.iter().flat_map(|l| conf.voters.iter().map(|v| (*v, *l)));
            actions.extend(swaps.map(|(out, joins)| Action::Swap(n, out, joins)));
        }
        let others = conf.voters.iter().filter(|m| **m != me);
        if left.drops > 0 {
            actions.extend(others.clone().next_back().map(|m| Action::Drop(n, *m)));
        }
        if left.transfers > 0 {
            actions.extend(others.map(|m| Action::Transfer(n, m.node)));
        }
    }

    fn faults_of(&self, world: &World, n: usize, actions: &mut Vec<Action>) {
        let (left, replica) = (&world.left, &world.replicas[n]);
        let leads = replica.core.role() == Role::Leader;
        if left.wipes > 0 && !leads && replica.disk != Disk::empty(conf(1..=3)) {
            actions.push(Action::Wipe(n));
        }
        if left.forgets > 0 && !leads && !replica.disk.entries.is_empty() {
            actions.push(Action::Forget(n));
        }
        if left.damages > 0 && !replica.disk.entries.is_empty() {
            actions.push(Action::Damage(n));
        }
        if left.compactions > 0 && replica.compacts_at().is_some() {
            actions.push(Action::Compact(n));
        }
        if left.old_ends > 0 && !replica.disk.old.is_empty() {
            actions.push(Action::OldEnd(n, Known::HeadUnknown));
        }
        if left.unnoticed > 0 && world.leader_would_notice(replica) {
            actions.push(Action::OldEnd(n, Known::Unnoticed));
        }
        if left.falls > 0 && leads {
            actions.push(Action::Fall(n));
        }
        if left.jumps > 0 && !leads {
            actions.push(Action::Jump(n));
        }
        if left.hangs > 0 && replica.hangs.is_none() {
            actions.push(Action::Hang(n));
        }
        if let Some(hangs) = replica.hangs {
            actions.push(Action::Answer(n));
            if hangs == Hangs::Untold {
                let others = world.replicas.iter().map(|r| r.me.node);
                let others = others.filter(|node| leads && *node != replica.me.node);
                actions.extend(others.map(|to| Action::HangTold(n, Some(to))));
                actions.push(Action::HangTold(n, None));
            }
        }
    }
}

fn is_of_election(letter: &Letter) -> bool {
    let message = Message::decode(letter).expect("what was encoded");
    matches!(message.body, Body::Vote { .. } | Body::VoteResp { .. } | Body::TimeoutNow)
}
