//! Groups in which nothing happens send nothing: their node beats for all of them at once.
//!
//! A beat names the groups that the sender leads in quiet and that the receiver has a replica of,
//! as a sum over group, term and leader. The receiver sums up the groups that follow that node in
//! quiet. Equal sums are as good as a beat of each group. Another sum, or none within an election
//! timeout, or a new run of the node on the other side, wakes the groups concerned: their leader
//! beats for itself again, their followers wait for that as long as for any beat.

use std::collections::{BTreeMap, BTreeSet};

use refloat_types::{GroupKey, Member, NodeId, Now, Term};

use super::NodeCore;
use super::envelope::Item;
use super::groups::mix;
use crate::api::Lane;

/// The sum of some groups. The order in which they came makes no difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) count: u64,
    pub(crate) hash: u64,
}

/// The groups that are quiet here, by the node on the other side.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    led: BTreeMap<NodeId, Side>,
    followed: BTreeMap<NodeId, Side>,
    beat_at: Now,
}

#[derive(Debug, Default)]
struct Side {
    sum: Sum,
    slots: BTreeSet<usize>,
    /// When the node was last heard to lead them in quiet.
    heard_at: Now,
}

/// How a quiet group is counted in, so that it can be counted out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    leads: bool,
    others: Vec<NodeId>,
    hash: u64,
}

impl Sum {
    fn add(&mut self, hash: u64) {
        self.count += 1;
        self.hash = self.hash.wrapping_add(hash);
    }

    fn take(&mut self, hash: u64) {
        self.count -= 1;
        self.hash = self.hash.wrapping_sub(hash);
    }
}

fn hash_of(key: GroupKey, term: Term, leader: Member) -> u64 {
    let life = leader.incarnation.0;
    let words = [key.id.0, key.epoch.0, term.0, leader.node.0, life as u64, (life >> 64) as u64];
    words.into_iter().fold(0, |hash, word| mix(hash ^ word))
}

impl Quiet {
    fn sides(&mut self, leads: bool) -> &mut BTreeMap<NodeId, Side> {
        if leads { &mut self.led } else { &mut self.followed }
    }

    fn count_in(&mut self, slot: usize, mark: &Mark, now: Now) {
        for node in &mark.others {
            let side = self.sides(mark.leads).entry(*node).or_default();
            if side.slots.is_empty() {
                side.heard_at = now;
            }
            side.slots.insert(slot);
            side.sum.add(mark.hash);
        }
    }

    fn count_out(&mut self, slot: usize, mark: &Mark) {
        for node in &mark.others {
            let sides = self.sides(mark.leads);
            if let Some(side) = sides.get_mut(node)
                && side.slots.remove(&slot)
            {
                side.sum.take(mark.hash);
                if side.slots.is_empty() {
                    sides.remove(node);
                }
            }
        }
    }

    fn slots(&self, leads: bool, node: NodeId) -> Vec<usize> {
        let sides = if leads { &self.led } else { &self.followed };
        sides.get(&node).map(|side| side.slots.iter().copied().collect()).unwrap_or_default()
    }
}

impl NodeCore {
    /// Counts a group in or out, if it fell quiet or woke. To be called after whatever may have
    /// done that, and before a beat is compared or sent.
    pub(super) fn note_quiet(&mut self, slot: usize) {
        let now = self.now();
        let Some(group) = self.slots.get_mut(slot).and_then(Option::as_mut) else { return };
        if !group.core.is_quiet() && group.quiet.is_none() {
            return;
        }
        let mark = group.core.is_quiet().then(|| group.quiet_mark()).flatten();
        if mark == group.quiet {
            return;
        }
        let old = std::mem::replace(&mut group.quiet, mark.clone());
        old.iter().for_each(|mark| self.quiet.count_out(slot, mark));
        mark.iter().for_each(|mark| self.quiet.count_in(slot, mark, now));
    }

    /// Counts a group out that ends.
    pub(super) fn forget_quiet(&mut self, slot: usize, mark: Option<&Mark>) {
        mark.into_iter().for_each(|mark| self.quiet.count_out(slot, mark));
    }

    /// A follower that wakes knows how long its leader was heard.
    pub(super) fn catch_up_with_beats(&mut self, slot: usize) {
        let Some(group) = self.slots[slot].as_mut() else { return };
        if let (Some(mark), Some(leader)) = (&group.quiet, group.soft.leader)
            && let Some(side) = self.quiet.followed.get(&leader.node).filter(|_| !mark.leads)
        {
            group.core.on_quiet_beat(side.heard_at, leader);
        }
    }

    fn wake(&mut self, slots: Vec<usize>) {
        let now = self.now();
        for slot in slots {
            self.catch_up_with_beats(slot);
            if let Some(group) = self.slots[slot].as_mut() {
                group.core.wake(now);
                self.mark(slot);
            }
            self.note_quiet(slot);
        }
    }

    /// The node on the other side runs anew: what it thought of its groups is gone.
    pub(super) fn wake_groups_with(&mut self, node: NodeId) {
        let mut slots = self.quiet.slots(true, node);
        slots.extend(self.quiet.slots(false, node));
        self.wake(slots);
    }

    /// A node says which groups it leads in quiet.
    pub(super) fn quiet_beat(&mut self, from: NodeId, sum: Sum) {
        let now = self.now();
        let known = self.quiet.followed.get_mut(&from);
        match known {
            Some(side) if side.sum == sum => side.heard_at = now,
            None if sum == Sum::default() => {}
            _ => {
                let slots = self.quiet.slots(false, from);
                self.wake(slots);
                self.send_item(from, Lane::Urgent, &Item::NotQuiet);
            }
        }
    }

    /// A node does not think that the groups are quiet which this one leads so.
    pub(super) fn not_quiet(&mut self, from: NodeId) {
        let slots = self.quiet.slots(true, from);
        self.wake(slots);
    }

    /// Wakes what follows a node that is not heard any more.
    pub(super) fn listen_for_beats(&mut self) {
        let (now, patience) = (self.now(), self.config.election_timeout);
        let silent: Vec<NodeId> = self
            .quiet
            .followed
            .iter()
            .filter(|(_, side)| now.since(side.heard_at) >= patience)
            .map(|(node, _)| *node)
            .collect();
        for node in silent {
            let slots = self.quiet.slots(false, node);
            self.wake(slots);
        }
    }

    /// Beats for the groups that this node leads in quiet.
    pub(super) fn beat_for_quiet_groups(&mut self) {
        let now = self.now();
        if self.quiet.led.is_empty() || now < self.quiet.beat_at {
            return;
        }
        self.quiet.beat_at = now.after(self.config.heartbeat);
        let sums: Vec<(NodeId, Sum)> = self.quiet.led.iter().map(|(n, s)| (*n, s.sum)).collect();
        for (node, sum) in sums {
            self.send_item(node, Lane::Urgent, &Item::QuietBeat(sum));
        }
    }

    pub(super) fn quiet_wake_at(&self) -> Option<Now> {
        let beat = (!self.quiet.led.is_empty()).then_some(self.quiet.beat_at);
        let heard = self.quiet.followed.values().map(|side| side.heard_at).min();
        let silent = heard.map(|at| at.after(self.config.election_timeout));
        [beat, silent].into_iter().flatten().min()
    }
}

impl super::group::Group {
    /// How the group is to be counted while it is quiet.
    fn quiet_mark(&self) -> Option<Mark> {
        let leads = self.core.role() == refloat_raft_core::Role::Leader;
        let leader = self.core.leader()?;
        let others = if leads {
            let nodes: BTreeSet<NodeId> = self.core.conf().iter().map(|m| m.node).collect();
            nodes.into_iter().filter(|node| *node != self.me.node).collect()
        } else {
            vec![leader.node]
        };
        Some(Mark { leads, others, hash: hash_of(self.key, self.core.term(), leader) })
    }
}
