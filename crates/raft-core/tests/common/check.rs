//! The properties of the paper's figure 3, and this project's rule for what may leave.

use std::collections::BTreeMap;

use refloat_raft_core::{Body, Message, Ready, Role};
use refloat_types::*;

use super::disk::Disk;

#[derive(Default)]
pub struct Checks {
    leaders: BTreeMap<Term, Member>,
    /// What was committed anywhere, ever.
    /// Also the lowest term in which it was known to be.
    pub committed: BTreeMap<Index, (EntryId, Digest, Term)>,
    /// The first membership, for members that are added later.
    pub initial: Option<ConfState>,
    /// How often each was evaluated.
    pub elections: u64,
    pub commits: u64,
    pub messages: u64,
    pub healed: u64,
    /// How often the overwritten end of a log came back.
    pub old_ends: u64,
    /// Entries lost that nobody else had.
    pub lost_alone: u64,
    /// Writes that were given up for want of space.
    pub given_up: u64,
}

impl Checks {
    /// Election safety and leader completeness.
    pub fn role(&mut self, me: Member, ready: &Ready, memory: &Disk) {
        let Some(soft) = ready.soft else { return };
        if soft.role != Role::Leader {
            return;
        }
        let leader = *self.leaders.entry(soft.term).or_insert(me);
        assert_eq!(leader, me, "two leaders in term {}", soft.term);
        self.elections += 1;
        let mut memory = memory.clone();
        if let Some(persist) = &ready.persist {
            memory.persist(persist);
        }
        for (index, (id, _, term)) in self.committed.range(memory.base.index.next()..) {
            if *term < soft.term {
                assert_eq!(memory.id(*index), Some(*id), "{me} leads without what is committed");
            }
        }
    }

    /// State-machine safety.
    pub fn committed(&mut self, entry: &Entry, term: Term) {
        self.commits += 1;
        let what = (entry.id, entry.digest, term);
        let known = self.committed.entry(entry.id.index).or_insert(what);
        known.2 = known.2.min(term);
        assert_eq!((known.0, known.1), (what.0, what.1), "two entries committed at one index");
    }

    /// No message leaves before its term, its vote, or what it acknowledges is durable.
    pub fn message(&mut self, message: &Message, disk: &Disk, base: Index) {
        self.messages += 1;
        assert!(disk.hard.term >= message.term, "{message:?} carries a term that is not durable");
        let own_term = disk.hard.term == message.term;
        match &message.body {
            Body::Vote { .. } if own_term => {
                assert_eq!(disk.hard.vote, Some(message.from), "own vote not durable");
            }
            Body::VoteResp { granted: true } if own_term => {
                assert_eq!(disk.hard.vote, Some(message.to), "vote not durable");
            }
            Body::AppendResp { matched } => {
                assert!(
                    disk.id(matched.index) == Some(*matched) || matched.index < disk.base.index,
                    "{message:?} acks what is not durable"
                );
                // A snapshot on its way to the disk is committed state, which needs no ack.
                let first = base.next();
                let lost = disk.lost.iter().find(|(at, _)| first <= **at && **at <= matched.index);
                assert_eq!(lost, None, "{message:?} acks what is lost");
            }
            _ => {}
        }
    }

    /// Log matching: equal (index, term) means equal up to there.
    pub fn log_matching(disks: &[&Disk]) {
        for (n, a) in disks.iter().enumerate() {
            for b in &disks[n + 1..] {
                let low = a.base.index.max(b.base.index).next();
                let met = a.entries.range(low..).rev().find(|(i, e)| b.id(**i) == Some(e.id));
                let Some((met, _)) = met else { continue };
                let whole = |i: &Index| !b.lost.contains_key(i);
                for (index, entry) in a.entries.range(low..=*met).filter(|(i, _)| whole(i)) {
                    assert_eq!(Some(entry), b.entries.get(index), "logs differ below {met:?}");
                }
            }
        }
    }
}
