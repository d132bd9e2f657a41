//! Forming the cluster, and group 0, which creates all others.

use bytes::Bytes;
use refloat_log_store::identity::Origin;
use refloat_types::codec::Put;
use refloat_types::{ConfState, Entry, EntryKind, GroupId, GroupKey, Index, Member, NodeId};

use super::catalog::{Change, GroupCommand};
use super::envelope::{FormationNews, Item};
use super::formation::Effects;
use super::group::{Answer, Proposal};
use super::{Durable, NodeCore, Order, slot};
use crate::api::{Lane, Reply, Token};
use crate::error::RequestError;

impl NodeCore {
    // ---- forming

    pub(super) fn formation_met(&mut self, peer: Member) {
        let effects = self.formation.on_peer(peer);
        self.formation_effects(effects);
    }

    pub(super) fn formation_news(&mut self, from: Member, news: &FormationNews) {
        let was_formed = self.formation.is_formed();
        let effects = self.formation.on_news(from, news);
        self.formation_effects(effects);
        // Who is still forming may wait for this very word.
        if was_formed && !news.formed {
            let counts = self.counting_life(from.node);
            if counts.is_none_or(|life| !life.is_of(from.incarnation)) {
                self.counters.refused += 1; // initialised again, or never a member
            }
            self.announce_to(from.node);
        }
    }

    pub(super) fn formation_stored(&mut self, lives: usize) {
        let effects = self.formation.on_stored(lives);
        self.formation_effects(effects);
    }

    pub(super) fn formation_effects(&mut self, effects: Effects) {
        if effects.store {
            self.store_formation();
        }
        if effects.form {
            tracing::info!(node = %self.me.node, "cluster formed");
            self.ensure_meta();
            self.roll_changed();
        }
        if effects.announce {
            for node in self.others() {
                self.announce_to(node);
            }
        }
    }

    pub(super) fn store_formation(&mut self) {
        let body = self.formation.encode();
        let then = Some(Durable::Formation(self.formation.members().count()));
        self.order(Order::NodeState { slot: slot::FORMATION, body, then });
    }

    fn others(&self) -> Vec<NodeId> {
        let me = self.me.node;
        self.identity.members.iter().map(|(node, _)| *node).filter(|node| *node != me).collect()
    }

    pub(super) fn announce_to(&mut self, node: NodeId) {
        if self.identity.origin != Origin::Init {
            return; // it has no say in forming
        }
        let news = self.formation.news();
        self.send_item(node, Lane::Urgent, &Item::Formation(news));
    }

    /// Until the cluster is formed, frames may be lost without anybody noticing: say it again.
    pub(super) fn announce_if_due(&mut self) {
        if self.formation.is_formed() || self.now() < self.next_announce {
            return;
        }
        self.next_announce = self.now().after(2 * self.config.heartbeat);
        for node in self.others() {
            self.announce_to(node);
        }
    }

    /// Runs group 0 once the cluster is formed.
    pub(super) fn ensure_meta(&mut self) {
        let key = GroupKey::META;
        if self.store.has_group(key) {
            return;
        }
        let conf = ConfState::of_voters(self.formation.members());
        self.order(Order::Create { key, conf, me: self.me });
    }

    // ---- group 0

    /// Whether the first data groups may still be on their way.
    pub(super) fn meta_is_young(&self) -> bool {
        let slot = self.by_key.get(&GroupKey::META).copied();
        let group = slot.and_then(|slot| self.slots[slot].as_ref());
        group
            .is_some_and(|group| group.apply.applied.index.0 <= u64::from(self.identity.groups) + 2)
    }

    /// Applies entries of group 0: they change which groups this node has.
    pub(super) fn apply_meta(&mut self, slot: usize, entries: &[Entry]) {
        let Some(last) = entries.last().map(|entry| entry.id) else { return };
        let mut replies = Vec::new();
        for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Command) {
            let index = entry.id.index;
            let change = self.with_catalog(|c| c.apply_one(index, &entry.payload)).flatten();
            let changed = change.is_some();
            // What was carried out before a restart is not carried out again; what is only kept
            // in memory is.
            if let Some(change) = change
                && (index > self.catalog_mark || change == Change::Node)
            {
                self.act_on(change);
            }
            replies.push(Bytes::copy_from_slice(&[u8::from(changed)]));
        }
        let batch: Vec<_> = entries.iter().map(|e| (e.id, e.kind == EntryKind::Command)).collect();
        self.reply_all(slot, &batch, replies);
        self.raise_catalog_mark(last.index);
        self.advance_applied(slot, last, entries.len() as u64);
        if entries.iter().any(|entry| entry.kind == EntryKind::Config) {
            self.roll_changed();
        }
        self.propose_first_groups(slot);
    }

    /// The effects of entries up to here must not be repeated after a restart: a group that was
    /// created and deleted again would come back as an empty one that forgot its votes.
    pub(super) fn raise_catalog_mark(&mut self, index: Index) {
        if index <= self.catalog_mark {
            return;
        }
        self.catalog_mark = index;
        let mut body = Vec::new();
        body.put_u64(index.0);
        self.order(Order::NodeState { slot: slot::CATALOG_MARK, body: body.into(), then: None });
    }

    fn act_on(&mut self, change: Change) {
        match change {
            Change::Created(key, conf) => {
                let me = conf.iter().find(|member| member.is_of(self.me));
                if let Some(me) = me {
                    self.order(Order::Create { key, conf, me });
                }
            }
            Change::Node => self.roll_changed(),
            Change::Deleted(key) => {
                if let Some(slot) = self.by_key.get(&key).copied()
                    && let Some(group) = self.slots[slot].take()
                {
                    self.forget_group(slot, group, RequestError::UnknownGroup { group: key.id });
                }
                self.asleep.remove(&key);
                self.order(Order::Delete { key });
            }
        }
    }

    /// After a snapshot of group 0 was installed: the groups created and deleted in between.
    pub(super) fn reconcile_catalog(&mut self, applied: Index) {
        let wanted: Vec<(GroupKey, ConfState)> = self
            .with_catalog(|c| c.groups().map(|(key, conf)| (key, conf.clone())).collect())
            .unwrap_or_default();
        let gone: Vec<GroupKey> = self
            .store
            .groups()
            .filter(|key| *key != GroupKey::META && key.epoch.0 <= applied.0)
            .filter(|key| !wanted.iter().any(|(wanted, _)| wanted == key))
            .collect();
        for key in gone {
            self.act_on(Change::Deleted(key));
        }
        for (key, conf) in wanted {
            if key.epoch.0 > self.catalog_mark.0 {
                self.act_on(Change::Created(key, conf));
            }
        }
        self.raise_catalog_mark(applied);
        self.roll_changed();
    }

    /// The first leader of group 0 creates the data groups that the cluster was formed with.
    fn propose_first_groups(&mut self, slot: usize) {
        let Some(group) = self.slots[slot].as_ref().filter(|g| g.is_leader()) else { return };
        // Only with an own entry applied: then the catalog is up to date.
        if group.apply.applied.term != group.term() || !group.waiting.is_empty() {
            return;
        }
        let conf = ConfState::of_voters(group.core.conf().voters.iter().copied());
        if self.with_catalog(|catalog| catalog.is_seeded()) != Some(false) {
            return;
        }
        let mut commands: Vec<GroupCommand> = Vec::new();
        for id in (1..=u64::from(self.identity.groups)).map(GroupId) {
            commands.push(GroupCommand::Create { group: id, conf: conf.clone() });
        }
        commands.push(GroupCommand::Seeded);
        for command in commands {
            self.propose_meta(slot, Answer::Nobody, &command);
        }
    }

    pub(super) fn propose_meta(&mut self, slot: usize, answer: Answer, command: &GroupCommand) {
        let deadline = self.now().after(self.config.leader_wait);
        let payload = command.encode();
        self.pending_bytes += payload.len() as u64;
        self.route(slot, Proposal { answer, payload, stamp: false, deadline });
    }

    pub(super) fn create_group(&mut self, to: Token, id: GroupId, nodes: &[NodeId]) {
        self.admit(0);
        if id == GroupKey::META.id || self.by_id.contains_key(&id) {
            return self.answer(Answer::Local(to), 0, Ok(Reply::default()));
        }
        let space = self.admission(0).and_then(|()| self.space_for_a_group());
        let slot = match space.and_then(|()| self.find(GroupKey::META.id)) {
            Ok(slot) => slot,
            Err(error) => return self.answer(Answer::Local(to), 0, Err(error)),
        };
        let meta = self.slots[slot].as_ref().expect("found").core.conf().clone();
        // Who is just being taken in there has promised nothing here: it is a voter at once.
        let placed = self.with_catalog(|catalog| catalog.nodes().clone()).unwrap_or_default();
        let voters = meta.voters.into_iter().chain(self.learners_to_vote(slot, &placed));
        let chosen = voters.filter(|m| nodes.is_empty() || nodes.contains(&m.node));
        let conf = ConfState::of_voters(chosen);
        if let Some(node) = nodes.iter().find(|node| conf.member(**node).is_none()) {
            let reason = format!("node {node} is no voter of group 0");
            let error = RequestError::Refused { group: id, reason };
            return self.answer(Answer::Local(to), 0, Err(error));
        }
        let command = GroupCommand::Create { group: id, conf };
        self.propose_meta(slot, Answer::Local(to), &command);
    }

    pub(super) fn delete_group(&mut self, to: Token, id: GroupId) {
        self.admit(0);
        if id == GroupKey::META.id {
            let reason = "group 0 cannot be deleted".to_owned();
            let error = RequestError::Refused { group: id, reason };
            return self.answer(Answer::Local(to), 0, Err(error));
        }
        // A full disk takes it: it is the way out.
        match self.budget(0).and_then(|()| self.find(GroupKey::META.id)) {
            Ok(slot) => {
                self.propose_meta(slot, Answer::Local(to), &GroupCommand::Delete { group: id });
            }
            Err(error) => self.answer(Answer::Local(to), 0, Err(error)),
        }
    }
}
