//! A replica that forgot what it had promised, on a node that did not: it begins a new life.
//!
//! Its log may have gaps at the end that nobody can name, and its vote may have been another one.
//! So it says nothing more under the old name. Under the new one it promised nothing yet, and
//! what is left of its log is as good as that of a replica that was away for long.

use bytes::Bytes;
use refloat_log_store::{GroupBoot, GroupState};
use refloat_types::codec::{Put, Reader};
use refloat_types::{GroupKey, GroupWrite, HardState, Incarnation, Member, NodeId, Now};

use super::envelope::Item;
use super::{NodeCore, Order};
use crate::api::Lane;

/// What is known of a new life that is not a voter yet.
#[derive(Clone, Debug)]
pub(crate) struct Rebirth {
    pub(crate) evidence: String,
    /// Its name is durable: others may hear it.
    pub(crate) noted: bool,
    pub(crate) say_at: Now,
    /// Who said that the node was removed: it does not ask any more.
    pub(crate) dismissed_by: Option<NodeId>,
}

impl Rebirth {
    fn is_due(&self, now: Now) -> bool {
        self.dismissed_by.is_none() && now >= self.say_at
    }

    /// What it waits for, as a sentence.
    pub(crate) fn waits_for(&self) -> String {
        let what = match self.dismissed_by {
            None => "its new life to be taken in as a voter".to_owned(),
            Some(node) => format!(
                "nothing any more: node {node} says that this node was removed, and its new life \
                 is not taken in"
            ),
        };
        format!("{what}; because {}", self.evidence)
    }
}

impl NodeCore {
    /// Starts a replica that a boot found to have forgotten its promises.
    pub(super) fn start_reborn(&mut self, mut boot: GroupBoot) {
        let (key, evidence) = (boot.key, boot.waits_for.take().unwrap_or_default());
        // Term and vote were the old life's. The new one never falls behind its own log.
        let term = boot.hard_state.term.max(boot.last.term);
        boot.hard_state = HardState { term, vote: None };
        boot.state = if boot.holes.is_empty() { GroupState::Clean } else { GroupState::Damaged };
        boot.waits_for = (!boot.holes.is_empty()).then(|| evidence.clone());
        let (hard_state, whole) = (boot.hard_state, boot.holes.is_empty());
        let me = Member::new(self.me.node, self.me.incarnation.of_replica(self.identity.run));
        self.start_group_as(boot, me);
        let Some(slot) = self.by_key.get(&key).copied() else { return };
        self.begin_life(slot, me, hard_state, evidence);
        if whole {
            self.order(Order::Healed { slot });
        }
    }

    /// A replica forgot while it ran, as its leader says: it goes on under a new life at once,
    /// but only once in a run, since a run gives out one name.
    pub(super) fn be_reborn(&mut self, slot: usize, evidence: &str) {
        let now = self.now();
        let me = Member::new(self.me.node, self.me.incarnation.of_replica(self.identity.run));
        let Some(group) = self.slots[slot].as_mut().filter(|group| group.me != me) else { return };
        group.me = me;
        group.core.begin_life(now, me);
        group.unwell = None;
        let term = group.core.status().term;
        let whole = group.core.status().holes.is_empty();
        self.begin_life(slot, me, HardState { term, vote: None }, evidence.to_owned());
        if whole {
            self.order(Order::Healed { slot });
        }
        self.mark(slot);
    }

    /// A start found a replica in a life of its own. Nobody may have heard of it yet, or all may
    /// have forgotten: until it is a voter it asks to be taken in, as in the run that it began in.
    pub(super) fn go_on_in_life(&mut self, slot: usize, me: Member, nameless: bool) {
        let say_at = self.now();
        let Some(group) = self.slots[slot].as_mut() else { return };
        if !group.core.conf().is_voter(me) {
            let evidence = "what its old life had promised was lost before this start".to_owned();
            group.rebirth = Some(Rebirth { evidence, noted: true, say_at, dismissed_by: None });
            self.rebirths.insert(slot);
        }
        if nameless {
            self.order(Order::Name { slot, life: encode_life(me) });
        }
    }

    fn begin_life(&mut self, slot: usize, me: Member, hard_state: HardState, evidence: String) {
        let now = self.now();
        let Some(group) = self.slots[slot].as_mut() else { return };
        tracing::warn!(
            node = %self.me.node, group = %group.key, life = %me.incarnation, evidence,
            "replica begins a new life"
        );
        let key = group.key;
        group.rebirth = Some(Rebirth { evidence, noted: false, say_at: now, dismissed_by: None });
        let write = GroupWrite { group: key, hard_state: Some(hard_state), log: None };
        self.order(Order::NewLife { slot, life: encode_life(me), write });
    }

    /// The new life's name is on the disk.
    pub(super) fn life_noted(&mut self, slot: usize) {
        let Some(group) = self.slots[slot].as_mut() else { return };
        if let Some(rebirth) = &mut group.rebirth {
            rebirth.noted = true;
            self.rebirths.insert(slot);
        }
    }

    /// New lives ask to be taken in, until they are.
    pub(super) fn say_rebirths(&mut self) {
        if self.rebirths.is_empty() {
            return;
        }
        let (now, pause) = (self.now(), self.config.election_timeout);
        let me = self.me.node;
        let nodes = self.with_catalog(|catalog| catalog.nodes().get(&me).map(|r| r.learner));
        let only_learns = nodes.flatten().unwrap_or(false);
        let mut due = Vec::new();
        for slot in self.rebirths.clone() {
            let Some(group) = self.slots[slot].as_mut() else {
                self.rebirths.remove(&slot);
                continue;
            };
            let conf = group.core.conf();
            if conf.is_voter(group.me) || only_learns && conf.learners.contains(&group.me) {
                tracing::info!(node = %self.me.node, group = %group.key, "replica is taken in");
                group.rebirth = None;
                self.rebirths.remove(&slot);
            } else if let Some(rebirth) = group.rebirth.as_mut().filter(|r| r.is_due(now)) {
                rebirth.say_at = now.after(pause);
                due.push(Item::Reborn { group: group.key, life: group.me.incarnation });
            }
        }
        let mut others = self.places();
        others.remove(&self.me.node);
        for item in &due {
            for node in others.keys() {
                self.send_item(*node, Lane::Urgent, item);
            }
        }
    }

    /// When a new life speaks next.
    pub(super) fn rebirth_wake_at(&self) -> Option<Now> {
        let groups = self.rebirths.iter().filter_map(|slot| self.slots[*slot].as_ref());
        let asking = groups.filter_map(|group| group.rebirth.as_ref());
        asking.filter(|rebirth| rebirth.dismissed_by.is_none()).map(|rebirth| rebirth.say_at).min()
    }

    /// The leader of a group goes on without this node's replica.
    pub(super) fn dismissed(&mut self, from: Member, key: GroupKey, life: Incarnation) {
        let Some(slot) = self.by_key.get(&key).copied() else { return };
        if self.slots[slot].as_ref().is_some_and(|group| group.me.incarnation == life) {
            self.stop_asking(slot, from.node);
            self.stand_back(slot, from.node);
        }
    }

    /// This node belongs to no group any more.
    pub(super) fn all_dismissed(&mut self, by: NodeId) {
        for slot in 0..self.slots.len() {
            self.stop_asking(slot, by);
            self.stand_back(slot, by);
        }
    }

    /// A replica that is no member any more asks nobody for votes, and says why.
    fn stand_back(&mut self, slot: usize, by: NodeId) {
        let now = self.now();
        let Some(group) = self.slots[slot].as_mut() else { return };
        if group.dismissed_by.replace(by).is_none() && group.rebirth.is_none() {
            tracing::error!(
                node = %self.me.node, group = %group.key, %by,
                "this node was removed from the group"
            );
        }
        group.core.stand_back(now);
        self.mark(slot);
    }

    fn stop_asking(&mut self, slot: usize, by: NodeId) {
        let Some(group) = self.slots[slot].as_mut() else { return };
        let Some(rebirth) = group.rebirth.as_mut().filter(|r| r.dismissed_by.is_none()) else {
            return;
        };
        rebirth.dismissed_by = Some(by);
        tracing::error!(
            node = %self.me.node, group = %group.key, %by,
            "this node was removed: the replica's new life is not taken in"
        );
    }

    /// A leader has the replica as a member in its former life: the node was added again.
    pub(super) fn called_by_an_old_name(&mut self, slot: usize, meant: Member) {
        let (now, me) = (self.now(), self.me);
        let Some(group) = self.slots[slot].as_mut().filter(|_| meant.is_of(me)) else { return };
        if let Some(rebirth) = group.rebirth.as_mut().filter(|r| r.dismissed_by.is_some()) {
            (rebirth.dismissed_by, rebirth.say_at) = (None, now);
        }
    }
}

/// The life of a replica: the directory's, unless another one was noted. A group may be registered
/// and the note of its replica's name lost, if the process ended between the two: then its first
/// membership knows the name, and under the directory's the replica would be no member.
pub(crate) fn life_of_replica(directory: Member, boot: &GroupBoot) -> Member {
    let noted = boot.value.as_ref();
    let noted = noted.and_then(|bytes| Reader::new(bytes).u128("life of a replica").ok());
    match noted {
        Some(life) => Member::new(directory.node, Incarnation(life)),
        None => boot.conf.iter().find(|member| member.is_of(directory)).unwrap_or(directory),
    }
}

/// The form in which the store keeps a replica's life.
pub(crate) fn encode_life(me: Member) -> Bytes {
    let mut out = Vec::with_capacity(16);
    out.put_u128(me.incarnation.0);
    out.into()
}
