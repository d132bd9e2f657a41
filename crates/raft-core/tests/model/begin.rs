//! Where a check begins.

use std::collections::BTreeSet;

use crate::action::Action;
use crate::clocks::Voting;
use crate::common::disk::Disk;
use crate::common::*;
use crate::cores::Cores;
use crate::world::{Disks, Letter, Stream, World};
use refloat_raft_core::{Body, Message};
use refloat_types::{Index, NodeId};

/// Logs by the terms of their entries, and the highest term that each replica saw.
pub type Logs = [(&'static [u64], u64); 3];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Nobody leads, all logs are empty.
    Fresh,
    /// The first replica leads, and its first entry is everywhere.
    Settled,
    /// As settled, and a second entry is with the leader, and on its way to the others.
    Proposed,
    /// Nobody leads.
    Logs(Logs),
    /// The first leads by the second's vote, and has overwritten the third's log by the first
    /// entry that differs, as it knows.
    Overwritten(Logs),
    /// As overwritten, but by all that the leader has, so that it is committed; another proposal is
    /// on its way.
    Replaced(Logs),
    /// The first leads, committed its entry with the second and compacted all; its snapshot is on
    /// its way to the third.
    Compacted(Logs),
    /// The first leads a term, and its first entry is on its way to a learner. The second leads a
    /// newer one and has committed another entry there; its snapshot is on its way to the learner,
    /// which had asked for one because it lost its own, and has not heard of the newer leader.
    Elsewhere,
    /// As settled, and a beat is on its way to the others.
    Beaten,
    /// As settled, with a lease: the third answered a beat.
    Leased,
    /// As settled, with a fourth replica, a learner that has the first entry too.
    Learner,
    /// As with a learner, which is to take the third's place: the leader and the second have the
    /// joint membership, and only the leader knows that it is committed; the fourth is told of it.
    Joint,
}

impl Cores {
    pub fn begin(&self) -> World {
        match self.begin {
            Begin::Elsewhere => return self.elsewhere(),
            Begin::Learner => return self.with_a_learner(),
            Begin::Joint => return self.joint(),
            _ => {}
        }
        let logs: Logs = match self.begin {
            Begin::Logs(logs)
            | Begin::Overwritten(logs)
            | Begin::Replaced(logs)
            | Begin::Compacted(logs) => logs,
            _ => [(&[], 0); 3],
        };
        let replica = |n: u64| {
            let (log, term) = logs[n as usize - 1];
            let mut disk = Disk::with_log(conf(1..=3), term, log_of(log));
            disk.keeps_old = self.budget.old_ends + self.budget.unnoticed > 0;
            self.replica(member(n), disk, 1)
        };
        let mut world = World::new((1..=3).map(replica), self.budget);
        match self.begin {
            Begin::Beaten => self.beat(&mut world),
            Begin::Leased => {
                self.beat(&mut world);
                self.talk(&mut world, [1, 3], |_| false);
                world.wire.clear();
                assert!(world.replicas[0].core.status().lease);
            }
            Begin::Fresh | Begin::Logs(_) | Begin::Elsewhere | Begin::Learner | Begin::Joint => {}
            Begin::Settled => self.settle(&mut world),
            Begin::Proposed => {
                self.settle(&mut world);
                world.left.proposals += 1;
                self.act(&mut world, Action::Propose(0));
            }
            Begin::Overwritten(_) => self.overwrite(&mut world, 1),
            Begin::Replaced(_) => {
                self.overwrite(&mut world, usize::MAX);
                world.left.proposals += 1;
                self.act(&mut world, Action::Propose(0));
            }
            Begin::Compacted(_) => self.compact(&mut world),
        }
        world
    }

    /// How long the replicas have run.
    fn past(&self) -> u64 {
        if self.voting == Voting::Plain { 0 } else { 4 * E }
    }

    fn act(&self, world: &mut World, action: Action) {
        self.step(world, action, Disks::Sync).expect("an input");
    }

    /// Delivers what two replicas say to each other, until they are silent or it is enough.
    fn talk(&self, world: &mut World, nodes: [u64; 2], enough: impl Fn(&World) -> bool) {
        while !enough(world) {
            let next = world.wire.iter().find(|letter| is_between(letter, nodes)).cloned();
            let Some(next) = next else { return };
            self.act(world, Action::Deliver(next));
        }
    }

    fn settle(&self, world: &mut World) {
        // Long enough after the start to have promised nothing.
        (0..world.replicas.len())
            .for_each(|n| world.set_clock(n, |clock| clock.after(self.past())));
        world.left.campaigns += 1;
        self.act(world, Action::Campaign(0));
        while let Some(letter) = world.wire.first().cloned() {
            self.act(world, Action::Deliver(letter));
        }
        assert_eq!(world.committed.len(), 1);
    }

    fn beat(&self, world: &mut World) {
        self.settle(world);
        (0..3).for_each(|n| world.set_clock(n, |clock| clock.after(BEAT)));
        world.drive(0, Disks::Sync, |r| r.core.tick(r.clock));
        assert_eq!(world.wire.len(), 2);
    }

    fn with_a_learner(&self) -> World {
        let mut members = conf(1..=3);
        members.learners.push(member(4));
        let replica = |n| self.replica(member(n), Disk::empty(members.clone()), 1);
        let mut world = World::new((1..=4).map(replica), self.budget);
        self.settle(&mut world);
        world
    }

    fn joint(&self) -> World {
        let mut world = self.with_a_learner();
        world.left.swaps += 1;
        self.act(&mut world, Action::Swap(0, member(3), member(4)));
        let joint = |world: &World| world.replicas[0].core.conf().is_joint();
        self.talk(&mut world, [1, 2], joint);
        assert!(joint(&world));
        world.wire.retain(|letter| is_between(letter, [1, 4]) && !is_beat(letter));
        world
    }

    /// Elects the first, which brings so many entries, or all, to the third.
    fn overwrite(&self, world: &mut World, entries: usize) {
        world.left.campaigns += 1;
        self.act(world, Action::Campaign(0));
        self.talk(world, [1, 2], |world| world.newest_leader().is_some());
        let brought = |world: &World| {
            let [leader, .., third] = &world.replicas[..] else { return false };
            let status = leader.core.status();
            let peer = status.progress.iter().find(|p| p.member == third.me);
            let same =
                leader.disk.entries.iter().filter(|(at, e)| third.disk.id(**at) == Some(e.id));
            let brought = same.count() - 1;
            brought == entries.min(leader.disk.entries.len() - 1)
                && peer.is_some_and(|p| p.matched == third.disk.last().index)
        };
        self.talk(world, [1, 3], brought);
        assert!(brought(world) && !world.replicas[2].disk.old.is_empty(), "{world:#?}");
    }

    fn elsewhere(&self) -> World {
        let mut members = conf(1..=3);
        members.learners.push(member(4));
        let first = entry(1, 1).id;
        let replica = |n: u64| {
            let log: &[u64] = if n == 2 { &[1, 2] } else { &[1] };
            let mut disk = Disk::with_log(members.clone(), 2, log_of(log));
            disk.compact(first, members.clone());
            self.replica(member(n), disk, 1)
        };
        let mut world = World::new((1..=4).map(replica), self.budget);
        world.left.campaigns += 3;
        world.left.beats += 1;
        // The second tries first, and nobody hears it.
        self.act(&mut world, Action::Campaign(1));
        world.wire.clear();
        self.act(&mut world, Action::Campaign(0));
        self.talk(&mut world, [1, 3], |world| world.newest_leader().is_some());
        let mine = take(&mut world, [1, 4]);
        world.wire.clear();
        self.act(&mut world, Action::Campaign(1));
        self.talk(&mut world, [2, 3], |_| false);
        let at = world.replicas[1].disk.id(Index(2)).expect("an entry of the second's own");
        world.drive(1, Disks::Sync, |r| {
            r.disk.compact(at, members.clone());
            r.core.on_compacted(at);
        });
        world.wire.clear();
        world.drive(3, Disks::Sync, |r| r.core.on_state_lost(r.clock));
        // It asks the first, then the second.
        for _ in 0..2 {
            world.wire.clear();
            world.drive(3, Disks::Sync, |r| {
                r.core.tick(r.clock);
                r.clock = r.clock.after(4 * E);
            });
        }
        self.talk(&mut world, [2, 4], |_| false);
        world.wire = mine;
        self.act(&mut world, Action::Beat(0));
        let there = |s: &Stream| s.from == member(2) && s.to == member(4) && s.at == at;
        assert!(matches!(&world.streams[..], [stream] if there(stream)), "{:?}", world.streams);
        assert_eq!(world.committed[&at.index].0, at);
        world
    }

    fn compact(&self, world: &mut World) {
        world.left.campaigns += 1;
        world.left.compactions += 1;
        self.act(world, Action::Campaign(0));
        self.talk(world, [1, 2], |_| false);
        let last = world.replicas[0].disk.last().index;
        assert_eq!(world.replicas[0].core.commit(), last);
        self.act(world, Action::Compact(0));
        // What was said to the third is lost, so that it has its own log when it hears the beat.
        world.wire.clear();
        let before = world.replicas[2].disk.entries.clone();
        world.left.beats += 1;
        self.act(world, Action::Beat(0));
        self.talk(world, [1, 3], |_| false);
        assert!(world.replicas[2].disk.entries == before && world.streams.len() == 1);
    }
}

/// Takes what is on the wire between two nodes.
fn take(world: &mut World, nodes: [u64; 2]) -> BTreeSet<Letter> {
    let wire = std::mem::take(&mut world.wire);
    wire.into_iter().filter(|letter| is_between(letter, nodes)).collect()
}

fn is_beat(letter: &Letter) -> bool {
    let message = Message::decode(letter).expect("a message");
    matches!(message.body, Body::Heartbeat { .. })
}

fn is_between(letter: &Letter, nodes: [u64; 2]) -> bool {
    let message = Message::decode(letter).expect("a message");
    let ends = [message.from.node, message.to.node];
    nodes.map(NodeId).iter().all(|node| ends.contains(node))
}
