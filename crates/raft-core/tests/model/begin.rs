//! Where a check begins.

use crate::action::Action;
use crate::common::disk::Disk;
use crate::common::*;
use crate::cores::Cores;
use crate::world::{Disks, World};
use refloat_raft_core::Message;
use refloat_types::NodeId;

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
}

impl Cores {
    pub fn begin(&self) -> World {
        let logs: Logs = match self.begin {
            Begin::Logs(logs)
            | Begin::Overwritten(logs)
            | Begin::Replaced(logs)
            | Begin::Compacted(logs) => logs,
            Begin::Fresh | Begin::Settled | Begin::Proposed => [(&[], 0); 3],
        };
        let replica = |n: u64| {
            let (log, term) = logs[n as usize - 1];
            let mut disk = Disk::with_log(conf(1..=3), term, log_of(log));
            disk.keeps_old = self.budget.old_ends + self.budget.unnoticed > 0;
            self.replica(member(n), disk, 1)
        };
        let mut world = World::new((1..=3).map(replica), self.budget);
        match self.begin {
            Begin::Fresh | Begin::Logs(_) => {}
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

    fn act(&self, world: &mut World, action: Action) {
        self.step(world, action, Disks::Sync).expect("an input");
    }

    /// Delivers what two replicas say to each other, until they are silent or it is enough.
    fn talk(&self, world: &mut World, nodes: [u64; 2], enough: impl Fn(&World) -> bool) {
        let between =
            |m: &Message| nodes.map(NodeId).iter().all(|n| [m.from.node, m.to.node].contains(n));
        while !enough(world) {
            let mut wire = world.wire.iter();
            let next = wire.find(|l| between(&Message::decode(l).expect("a message"))).cloned();
            let Some(next) = next else { return };
            self.act(world, Action::Deliver(next));
        }
    }

    fn settle(&self, world: &mut World) {
        world.left.campaigns += 1;
        self.act(world, Action::Campaign(0));
        while let Some(letter) = world.wire.first().cloned() {
            self.act(world, Action::Deliver(letter));
        }
        assert_eq!(world.committed.len(), 1);
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
