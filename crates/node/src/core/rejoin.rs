//! A leader's part when a node came back with nothing, is new, or leaves: the membership of each
//! group follows what group 0 says of its nodes, one entry at a time.

use refloat_raft_core::quorum::has_quorum;
use refloat_raft_core::{ConfChange, Message, PeerStatus};
use refloat_types::{ConfState, GroupKey, Incarnation, Index, Member, NodeId, Now};

use super::NodeCore;
use super::catalog::NodeRecord;
use super::envelope::Item;
use super::group::Group;
use super::sending::Outgoing;
use crate::api::Lane;

use std::collections::BTreeMap;

type Nodes = BTreeMap<NodeId, NodeRecord>;

/// How far a learner is that is to become a voter (thesis, 4.2.1): in rounds, each up to what the
/// leader had at its begin, until one is short.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CatchUp {
    member: Member,
    target: Index,
    since: Now,
    /// What it holds, in entries and in chunks of a snapshot, and when that was more than before.
    holds: (Index, u32),
    moved: Now,
}

/// Who gets no further for so many election timeouts gives up its turn, though not its place.
const STILL: u64 = 20;

/// What is to become of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Stay,
    Leave,
    Replace(Member),
}

/// A replica that forgot what it had promised, and asked to be taken back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    life: Incarnation,
    directory: Incarnation,
    at: Now,
}

impl Asked {
    /// Whether it asked in a later life than this one. What it asked for may be long done, and
    /// undone by a start that forgot again; a life of another directory came before in any case,
    /// or group 0 would not have this directory.
    fn is_later_than(&self, life: Incarnation) -> bool {
        life.run_on(self.directory).is_none_or(|run| self.life.run_on(self.directory) > Some(run))
    }
}

impl NodeCore {
    /// A replica on another node asks to be taken back under a new life.
    pub(super) fn reborn_elsewhere(&mut self, from: Member, key: GroupKey, life: Incarnation) {
        if !life.is_of(from.incarnation) {
            self.counters.refused += 1;
            return;
        }
        if self.goes_on_without(key, from.node) {
            let item = Item::Dismissed { group: key, life };
            return self.send_item(from.node, Lane::Urgent, &item);
        }
        let asked = Asked { life, directory: from.incarnation, at: self.now() };
        let known = self.asked.insert((key, from.node), asked);
        if known.is_none_or(|known| known.life != life) {
            self.tend_now();
        }
    }

    /// A replica asks for votes, and this node leads the group without it: it is told, since no
    /// leader speaks to it any more. Not if it knows a later term, whose leader may have added it.
    pub(super) fn answer_who_was_removed(&mut self, from: Member, message: &Message) {
        let (group, life) = (message.group, message.from.incarnation);
        let slot = self.by_key.get(&group).copied();
        let term = slot.and_then(|slot| self.slots[slot].as_ref()).map(Group::term);
        if term.is_some_and(|term| message.term <= term) && self.goes_on_without(group, from.node) {
            self.send_item(from.node, Lane::Urgent, &Item::Dismissed { group, life });
        }
    }

    /// Whether this node leads a group of which a node is no member, nor is to be one. Only with an
    /// own entry applied is that known.
    fn goes_on_without(&self, key: GroupKey, node: NodeId) -> bool {
        let slot = self.by_key.get(&key).copied().filter(|slot| self.leads(*slot));
        let Some(group) = slot.and_then(|slot| self.slots[slot].as_ref()) else { return false };
        let lives = self.record(node).is_some_and(|record| record.life.is_some() && !record.gone);
        group.apply.applied.term == group.term()
            && group.core.conf().member(node).is_none()
            && !(lives && self.is_everywhere(key))
    }

    /// Whether every node is to be a member of a group.
    fn is_everywhere(&self, key: GroupKey) -> bool {
        key.id.0 <= u64::from(self.identity.groups)
    }

    pub(super) fn tend_now(&mut self) {
        self.tend_at = Some(self.now());
    }

    /// Brings the memberships of the groups that this node leads a step closer to what group 0
    /// says. Groups take their turn, so that many snapshots do not leave at once.
    pub(super) fn tend_if_due(&mut self) {
        let now = self.now();
        if self.tend_at.is_none_or(|at| now < at) {
            return;
        }
        let old = 10 * self.config.election_timeout;
        self.asked.retain(|_, asked| now.since(asked.at) < old);
        let nodes = self.with_catalog(|catalog| catalog.nodes().clone()).unwrap_or_default();
        let led: Vec<usize> = self.by_key.values().copied().filter(|s| self.leads(*s)).collect();
        let under_way = led.iter().filter(|slot| self.is_catching_up(**slot, &nodes)).count();
        let mut room = self.config.rejoins.saturating_sub(under_way);
        let mut busy = false;
        for slot in led {
            let text = self.tend_group(slot, &nodes, &mut room);
            busy |= text.is_some();
            if let Some(group) = self.slots[slot].as_mut() {
                group.taking_in = text;
            }
        }
        self.tend_at = busy.then(|| now.after(2 * self.config.heartbeat));
    }

    fn leads(&self, slot: usize) -> bool {
        self.slots[slot].as_ref().is_some_and(|group| group.is_leader())
    }

    /// Whether a group's turn to take somebody in is under way. Who went away meanwhile, or gets no
    /// further, holds up nobody else.
    fn is_catching_up(&self, slot: usize, nodes: &Nodes) -> bool {
        let Some(group) = self.slots[slot].as_ref() else { return false };
        let (now, patience) = (self.now(), STILL * self.config.election_timeout);
        let is_here = |node| self.peers.get(&node).is_some_and(|peer| peer.up);
        let stands = |c: &CatchUp| now.since(c.moved) > patience;
        let stands = |m: &Member| group.catch_up.iter().any(|c| c.member == *m && stands(c));
        let mut learners = group.core.conf().learners.iter();
        learners.any(|m| is_here(m.node) && !stands(m) && self.is_to_vote(group.key, *m, nodes))
    }

    /// The learners of a group that are to be voters.
    pub(super) fn learners_to_vote(&self, slot: usize, nodes: &Nodes) -> Vec<Member> {
        let Some(group) = self.slots[slot].as_ref() else { return Vec::new() };
        let learners = group.core.conf().learners.iter().copied();
        learners.filter(|m| self.is_to_vote(group.key, *m, nodes)).collect()
    }

    /// Whether a learner is one only until it has caught up.
    fn is_to_vote(&self, key: GroupKey, member: Member, nodes: &Nodes) -> bool {
        match nodes.get(&member.node).and_then(|r| r.life.map(|life| (life, r.learner))) {
            Some((life, learner)) => member.incarnation.is_of(life) && !learner,
            None => self
                .asked
                .get(&(key, member.node))
                .is_some_and(|asked| asked.life == member.incarnation),
        }
    }

    fn due(&self, key: GroupKey, member: Member, nodes: &Nodes) -> Due {
        let record = nodes.get(&member.node);
        if record.is_some_and(|record| record.gone) {
            return Due::Leave;
        }
        let life = record.and_then(|record| record.life);
        let asked = self.asked.get(&(key, member.node));
        let asked = asked.filter(|asked| match life {
            Some(life) => life == asked.directory,
            None => member.incarnation.is_of(asked.directory),
        });
        let asked = asked.filter(|asked| asked.is_later_than(member.incarnation));
        match (asked.map(|asked| asked.life), life) {
            (Some(life), _) => Due::Replace(Member::new(member.node, life)),
            (None, Some(life)) if !member.incarnation.is_of(life) => {
                Due::Replace(Member::new(member.node, life))
            }
            _ => Due::Stay,
        }
    }

    /// One step for one group; says what is left to do, if anything is.
    fn tend_group(&mut self, slot: usize, nodes: &Nodes, room: &mut usize) -> Option<String> {
        let group = self.slots[slot].as_ref()?;
        let (key, me, conf) = (group.key, group.me, group.core.conf().clone());
        // Also while somebody else waits for a turn: the turns end with it.
        let catching_up = self.promote_who_caught_up(slot, nodes);
        for member in conf.iter().filter(|member| member.node != me.node) {
            match self.due(key, member, nodes) {
                Due::Replace(new) => {
                    return Some(self.replace(slot, &conf, member, new, nodes, room));
                }
                Due::Leave => return Some(self.remove(slot, member)),
                Due::Stay => {}
            }
        }
        if self.due(key, me, nodes) == Due::Leave {
            return Some(self.leave(slot));
        }
        let everywhere = self.is_everywhere(key);
        let missing = nodes.iter().filter(|(node, _)| everywhere && conf.member(**node).is_none());
        let mut new = missing.filter_map(|(node, r)| Some(Member::new(*node, r.life?)));
        let Some(new) = new.next() else { return catching_up };
        if *room == 0 {
            return Some(format!("its turn to take node {} in", new.node));
        }
        *room -= 1;
        self.change(slot, &ConfChange::AddLearner(new));
        Some(format!("node {} to be added as a learner", new.node))
    }

    fn replace(
        &mut self,
        slot: usize,
        conf: &ConfState,
        old: Member,
        new: Member,
        nodes: &Nodes,
        room: &mut usize,
    ) -> String {
        let now = self.now();
        let Some(group) = self.slots[slot].as_mut() else { return String::new() };
        let key = group.key;
        // Nothing that the old life said counts any more, and nothing is under way to it.
        if !group.dropped.contains(&old) {
            tracing::warn!(node = %self.me.node, group = %key, %old, %new, "a member has a new life");
            group.core.on_not_me(now, old);
            group.dropped.insert(old);
            self.drop_transfer(slot, old);
        }
        let alive = |m: Member| !matches!(self.due(key, m, nodes), Due::Replace(_));
        if !has_quorum(conf, alive) {
            return format!(
                "node {} came back with nothing, and without its old life no majority is left: \
                 the operator decides (recover --accept-loss)",
                old.node
            );
        }
        if *room == 0 {
            return format!("its turn to take node {} back", old.node);
        }
        *room -= 1;
        self.change(slot, &ConfChange::replace(old, new));
        format!("node {} to be taken back as a learner", old.node)
    }

    fn remove(&mut self, slot: usize, member: Member) -> String {
        self.change(slot, &ConfChange::Remove(member));
        format!("node {} to be removed", member.node)
    }

    /// A leader that has to go hands over first; alone it stays.
    fn leave(&mut self, slot: usize) -> String {
        let now = self.now();
        if let Some(target) = self.successor(slot)
            && let Some(group) = self.slots[slot].as_mut()
        {
            let _ = group.core.transfer_leader(now, target);
            self.mark(slot);
        }
        "another node to lead, so that this one can be removed".to_owned()
    }

    /// Makes voters of the learners that hold what the leader had a moment ago; says what the first
    /// of the others lacks.
    fn promote_who_caught_up(&mut self, slot: usize, nodes: &Nodes) -> Option<String> {
        let (now, round) = (self.now(), self.config.election_timeout);
        let learners = self.learners_to_vote(slot, nodes);
        let group = self.slots[slot].as_mut()?;
        group.catch_up.retain(|known| learners.contains(&known.member));
        let (status, mut lacks) = (group.core.status(), None);
        for member in learners {
            let of_member = |p: &&PeerStatus| p.member == member;
            let matched = status.progress.iter().find(of_member).map_or(Index::ZERO, |p| p.matched);
            let chunks = group.snapshots.sending.get(&member.node).map_or(0, Outgoing::acked);
            let (target, holds) = (status.last.index, (matched, chunks));
            let begin = CatchUp { member, target, since: now, holds, moved: now };
            let known = group.catch_up.iter().position(|known| known.member == member);
            let at = known.unwrap_or_else(|| {
                group.catch_up.push(begin);
                group.catch_up.len() - 1
            });
            let known = &mut group.catch_up[at];
            if holds > known.holds {
                (known.holds, known.moved) = (holds, now);
            }
            let target = known.target;
            lacks.get_or_insert_with(|| {
                let node = member.node;
                format!("node {node} to catch up as a learner: it holds {matched} of {target}")
            });
            if matched < target {
                continue;
            }
            if now.since(group.catch_up[at].since) > round {
                group.catch_up[at] = begin;
            } else if group.core.promote(now, member, target).is_ok() {
                group.catch_up.remove(at);
            }
        }
        if lacks.is_some() {
            self.mark(slot);
        }
        lacks
    }

    /// Proposes a change; one that comes too early is proposed again.
    fn change(&mut self, slot: usize, change: &ConfChange) {
        let now = self.now();
        let Some(group) = self.slots[slot].as_mut() else { return };
        match group.core.propose_conf_change(now, change.clone()) {
            Ok(at) => {
                tracing::info!(node = %self.me.node, group = %group.key, ?change, %at, "change proposed");
            }
            Err(error) => {
                tracing::debug!(node = %self.me.node, group = %group.key, ?change, %error, "not yet");
            }
        }
        self.mark(slot);
    }

    /// Why a group has no majority and will have none, if that is known here: too many of its
    /// voters came back with nothing.
    pub(super) fn lost_majority(&self, conf: &ConfState) -> Option<String> {
        if has_quorum(conf, |member| self.lost_life(member).is_none()) {
            return None;
        }
        let lost = |m: &Member| self.lost_life(*m).map(|_| m.node.to_string());
        let lost: Vec<String> = conf.voters.iter().filter_map(lost).collect();
        Some(format!(
            "a majority of its voters, which cannot be had: node {} came back with nothing; if the \
             old directories are lost for good, the operator decides (recover --accept-loss)",
            lost.join(", ")
        ))
    }
}
