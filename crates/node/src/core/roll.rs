//! The roll of nodes: which life of each counts, when each was heard, and where they are.
//!
//! Group 0 puts the lives of a node in an order: a new one counts once its entry is applied, and
//! none that was replaced comes back. Before that a node that nobody's catalog names is known by
//! the membership of group 0.

use std::collections::BTreeMap;

use refloat_log_store::identity::Origin;
use refloat_types::{ConfState, GroupKey, Incarnation, Member, NodeId, Now};

use super::catalog::{GroupCommand, NodeRecord};
use super::envelope::{Item, Unwelcome};
use super::group::Answer;
use super::{NodeCore, Order, slot};
use crate::api::{Lane, Output};
use crate::card::{Card, CardMember};
use crate::error::StopReason;

/// Lives of one node that are remembered as heard.
const LIVES_HEARD: usize = 16;

/// When a life was heard.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    up: bool,
    at: Now,
}

/// What this node knows of lives and places beside the catalog.
#[derive(Default)]
pub(crate) struct Roll {
    started: Now,
    heard: BTreeMap<NodeId, BTreeMap<Incarnation, Heard>>,
    /// Other lives of known nodes that asked to be taken in, and when they did last.
    arrivals: BTreeMap<NodeId, (Member, Now)>,
    /// Until when no second entry is proposed for a node.
    placing: BTreeMap<NodeId, Now>,
    /// What others said against this life of the node, and when.
    refusals: BTreeMap<NodeId, (Unwelcome, Now)>,
    /// Connections that others refused: why, and when last.
    shut_out: BTreeMap<NodeId, (String, Now)>,
    /// Whom this node refused, and when it last said so.
    refused: BTreeMap<Member, Now>,
    /// Where this node says it is, if it has to say so.
    address: Option<String>,
    say_at: Now,
    /// Where everybody is, as told to the shell.
    told: Option<Card>,
    stale: bool,
}

impl Roll {
    pub(crate) fn new(started: Now) -> Roll {
        Roll { started, stale: true, ..Roll::default() }
    }

    /// When something is to be said again.
    pub(crate) fn wake_at(&self) -> Option<Now> {
        let say = self.address.as_ref().map(|_| self.say_at);
        let tell = self.stale.then_some(self.started);
        say.into_iter().chain(tell).min()
    }
}

/// What a life of a node is to this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The one that counts, or of a node of which no life counts, or in place of a silent one.
    Counts,
    /// Another life counts, and was heard a moment ago.
    Stranger,
    /// Another life took its place.
    Former,
}

impl NodeCore {
    pub(super) fn begin_roll(&mut self) {
        let me = self.me.node;
        let listed = self.identity.members.iter().find(|(node, _)| *node == me);
        let listed = listed.map(|(_, address)| address.clone());
        self.roll.address = self.config.peer_address.clone().or(listed);
    }

    /// The members of the first formation, if this node knows them.
    pub(super) fn founders(&self) -> Option<ConfState> {
        match &self.identity.origin {
            Origin::Join { founders } => Some(ConfState::of_voters(founders.iter().copied())),
            Origin::Init if self.formation.is_formed() => {
                Some(ConfState::of_voters(self.formation.members()))
            }
            Origin::Init => None,
        }
    }

    pub(super) fn record(&self, node: NodeId) -> Option<NodeRecord> {
        self.with_catalog(|catalog| catalog.nodes().get(&node).cloned()).flatten()
    }

    /// The life of a node that counts, or of its replica of group 0.
    pub(super) fn counting_life(&self, node: NodeId) -> Option<Incarnation> {
        if let Some(record) = self.record(node) {
            return record.life;
        }
        let slot = self.by_key.get(&GroupKey::META).copied();
        match slot.and_then(|slot| self.slots[slot].as_ref()) {
            Some(group) => group.core.conf().member(node).map(|member| member.incarnation),
            None => self.formation.life_of(node),
        }
    }

    pub(super) fn standing(&self, from: Member) -> Standing {
        let record = self.record(from.node);
        if record.is_some_and(|record| record.is_former(from.incarnation)) {
            return if self.is_leaving(from) { Standing::Counts } else { Standing::Former };
        }
        match self.counting_life(from.node) {
            Some(life) if !life.is_of(from.incarnation) && self.is_alive(from.node, life) => {
                Standing::Stranger
            }
            _ => Standing::Counts,
        }
    }

    /// Whether a node was removed and some group here does not go on without it yet. Until then
    /// its word counts there: the group may need it for the majority that lets it go.
    fn is_leaving(&self, from: Member) -> bool {
        let last = self.record(from.node).filter(|r| r.gone).and_then(|r| r.former.last().copied());
        last.is_some_and(|life| life.is_of(from.incarnation))
            && self.is_in_a_group(|member| member.is_of(from))
    }

    fn is_in_a_group(&self, who: impl Fn(&Member) -> bool) -> bool {
        self.slots.iter().flatten().any(|group| group.core.conf().iter().any(|m| who(&m)))
    }

    // ---- who was heard

    pub(super) fn heard(&mut self, from: Member, up: Option<bool>) {
        let now = self.now();
        let lives = self.roll.heard.entry(from.node).or_default();
        if lives.len() >= LIVES_HEARD && !lives.contains_key(&from.incarnation) {
            let oldest = lives.iter().filter(|(_, h)| !h.up).min_by_key(|(_, h)| h.at);
            let Some(oldest) = oldest.map(|(life, _)| *life) else { return };
            lives.remove(&oldest);
        }
        let heard = lives.entry(from.incarnation).or_default();
        heard.at = now;
        if let Some(up) = up {
            heard.up = up;
            self.roll.stale = true;
        }
    }

    /// Whether a life was heard within two election timeouts, or this process is too young to
    /// know. `life` may be that of a replica.
    pub(super) fn is_alive(&self, node: NodeId, life: Incarnation) -> bool {
        let patience = 2 * self.config.election_timeout;
        if self.now().since(self.roll.started) < patience {
            return true;
        }
        let lives = self.roll.heard.get(&node);
        let mut heard = lives.into_iter().flatten().filter(|(known, _)| life.is_of(**known));
        heard.any(|(_, heard)| heard.up || self.now().since(heard.at) < patience)
    }

    // ---- being taken in

    /// Whether group 0, as far as applied here, has this node's life and address, and a leader of
    /// it found this node there. What is applied here alone may be behind: nodes that look for
    /// this one elsewhere cannot tell it so.
    fn is_settled(&self) -> bool {
        let meta = self.by_key.get(&GroupKey::META).and_then(|slot| self.slots[*slot].as_ref());
        if meta.is_none_or(|group| group.leader().is_none()) {
            return false;
        }
        let known = self.record(self.me.node);
        let known = known.filter(|record| record.life == Some(self.me.incarnation));
        match (known, &self.roll.address) {
            (Some(record), Some(address)) => record.address == *address,
            (None, Some(address)) => {
                let listed = self.identity.members.iter();
                let listed = listed.filter(|(node, _)| *node == self.me.node);
                self.identity.origin == Origin::Init
                    && listed.into_iter().any(|(_, a)| a == address)
            }
            (_, None) => true,
        }
    }

    /// Says where this node is, until group 0 knows.
    pub(super) fn say_arrival(&mut self) {
        let (now, pause) = (self.now(), self.config.election_timeout);
        if self.roll.address.is_none() || now < self.roll.say_at {
            return;
        }
        if self.is_settled() {
            self.roll.address = None;
            self.roll.refusals.clear();
            return;
        }
        self.roll.say_at = now.after(pause);
        let joined = self.identity.origin != Origin::Init;
        let address = self.roll.address.clone().unwrap_or_default();
        let item = Item::Arrival { joined, address };
        for (node, _) in self.places() {
            if node != self.me.node {
                self.send_item(node, Lane::Urgent, &item);
            }
        }
    }

    /// What a node that joined waits for.
    pub(super) fn waits_to_be_taken_in(&self) -> Option<String> {
        if let Some(text) = &self.superseded {
            return Some(text.clone());
        }
        let recent = |at: &Now| self.now().since(*at) < 10 * self.config.election_timeout;
        let refusals = self.roll.refusals.iter().filter(|(_, (_, at))| recent(at));
        let refusals: Vec<String> =
            refusals.map(|(node, (why, _))| format!("node {node} refuses: {why}")).collect();
        if self.identity.origin == Origin::Init {
            return (!refusals.is_empty()).then(|| refusals.join("; "));
        }
        let slot = self.by_key.get(&GroupKey::META).copied();
        let meta = slot.and_then(|slot| self.slots[slot].as_ref());
        if meta.is_some_and(|group| group.core.conf().contains(group.me)) {
            return None;
        }
        let mut text = vec!["waits for the cluster to take this life of the node in".to_owned()];
        text.extend(refusals);
        Some(text.join("; "))
    }

    /// A node says where it is. The leader of group 0 has it written down.
    pub(super) fn arrival(&mut self, from: Member, run: u64, joined: bool, address: String) {
        let now = self.now();
        let counts = self.counting_life(from.node);
        if counts.is_some_and(|life| !life.is_of(from.incarnation)) && joined {
            self.roll.arrivals.insert(from.node, (from, now));
        }
        let Some(slot) = self.by_key.get(&GroupKey::META).copied() else { return };
        let Some(group) = self.slots[slot].as_ref().filter(|group| group.is_leader()) else {
            return;
        };
        // Only with an own entry applied the catalog is up to date.
        if group.apply.applied.term != group.term() {
            return;
        }
        let learner = match (self.record(from.node), counts) {
            (Some(record), _) if record.gone => return self.refuse(from, run, Unwelcome::Unknown),
            (Some(record), _) if record.is_former(from.incarnation) => {
                return self.refuse(from, run, Unwelcome::Superseded);
            }
            (Some(record), _) if record.life == Some(from.incarnation) => {
                if record.address == address {
                    return;
                }
                record.learner
            }
            (Some(record), _) => record.learner,
            (None, None) => return self.refuse(from, run, Unwelcome::Unknown),
            (None, Some(life)) => !group.core.conf().is_voter(Member::new(from.node, life)),
        };
        let known = self.record(from.node).is_some();
        let instead_of = match counts {
            // A founder where the first member list has it: nothing to write down.
            Some(life)
                if !known
                    && life.is_of(from.incarnation)
                    && self.places().get(&from.node) == Some(&address) =>
            {
                return;
            }
            Some(life) if life.is_of(from.incarnation) => Some(from.incarnation),
            Some(known) if !joined => {
                return self.refuse(from, run, Unwelcome::InitialisedAgain { known });
            }
            Some(by) if self.is_alive(from.node, by) => {
                return self.refuse(from, run, Unwelcome::NodeIdInUse { by });
            }
            other => other,
        };
        if self.roll.placing.get(&from.node).is_some_and(|until| now < *until) {
            return;
        }
        self.roll.placing.insert(from.node, now.after(self.config.election_timeout));
        tracing::warn!(
            node = %self.me.node, peer = %from, address, ?instead_of,
            "a node arrived: its life and address go into group 0"
        );
        let command = GroupCommand::Place { member: from, instead_of, address, learner };
        self.propose_meta(slot, Answer::Nobody, &command);
    }

    pub(super) fn refuse(&mut self, whom: Member, run: u64, why: Unwelcome) {
        self.counters.refused += 1;
        let (now, pause) = (self.now(), self.config.election_timeout / 2);
        if self.roll.refused.get(&whom).is_some_and(|at| now.since(*at) < pause) {
            return;
        }
        self.roll.refused.retain(|_, at| now.since(*at) < pause);
        self.roll.refused.insert(whom, now);
        let life = whom.incarnation;
        tracing::warn!(node = %self.me.node, peer = %whom, %why, "refused");
        self.send_item(whom.node, Lane::Urgent, &Item::Unwelcome { life, run, why });
    }

    /// Somebody does not take this node for what it says.
    pub(super) fn unwelcome(&mut self, from: Member, life: Incarnation, run: u64, why: Unwelcome) {
        if life != self.me.incarnation {
            return;
        }
        let now = self.now();
        let known = self.roll.refusals.insert(from.node, (why, now));
        if known.is_none_or(|(known, _)| known != why) {
            tracing::error!(node = %self.me.node, peer = %from, %why, "this node is refused");
        }
        if matches!(why, Unwelcome::Unknown | Unwelcome::Superseded) {
            self.all_dismissed(from.node);
        }
        let over = match why {
            Unwelcome::RunTaken { nonce: 0, .. } => true,
            Unwelcome::RunTaken { nonce, .. } => {
                nonce == self.run().process
                    || self.slots.iter().flatten().any(|group| group.core.nonce() == nonce)
            }
            _ => false,
        };
        if over && run == self.identity.run {
            self.end(StopReason::Refused(format!("node {} refuses: {why}", from.node)));
        }
    }

    /// A node does not let this one in.
    pub(super) fn peer_refused(&mut self, node: NodeId, reason: String, superseded: bool) {
        if superseded && self.superseded.is_none() {
            let text = format!(
                "node {node} refuses: {reason}; erase the data directory and come back with join"
            );
            tracing::error!(node = %self.me.node, text, "the cluster went on without this node");
            let body = text.clone().into_bytes().into();
            self.order(Order::NodeState { slot: slot::SUPERSEDED, body, then: None });
            for at in 0..self.slots.len() {
                self.stop_group(at, text.clone());
            }
            self.superseded = Some(text);
        }
        let now = self.now();
        self.roll.shut_out.insert(node, (reason, now));
    }

    /// What other nodes said against this one lately, one sentence each.
    pub(super) fn refusals(&self) -> Vec<String> {
        let recent = |at: &Now| self.now().since(*at) < 10 * self.config.election_timeout;
        let said = self.roll.refusals.iter().map(|(node, (why, at))| (node, why.to_string(), at));
        let shut = self.roll.shut_out.iter().map(|(node, (why, at))| (node, why.clone(), at));
        let all = said.chain(shut).filter(|(_, _, at)| recent(at));
        all.map(|(node, why, _)| format!("node {node} refuses: {why}")).collect()
    }

    /// Group 0 decided something about a node.
    pub(super) fn roll_changed(&mut self) {
        self.roll.stale = true;
        self.roll.say_at = self.now();
        self.tend_now();
        let former: Vec<NodeId> = self
            .peers
            .values()
            .filter_map(|peer| peer.member)
            .filter(|member| self.standing(*member) == Standing::Former)
            .map(|member| member.node)
            .collect();
        for node in former {
            self.forwards_lost(node);
            if let Some(peer) = self.peers.get_mut(&node) {
                (peer.member, peer.up, peer.run) = (None, false, 0);
            }
        }
    }

    // ---- where everybody is

    /// All nodes that belong to the cluster, as far as known here, with their addresses.
    pub(super) fn places(&self) -> BTreeMap<NodeId, String> {
        let mut places: BTreeMap<NodeId, String> = self.identity.members.iter().cloned().collect();
        let nodes = self.with_catalog(|catalog| catalog.nodes().clone()).unwrap_or_default();
        for (node, record) in nodes {
            let needed = self.is_in_a_group(|member| member.node == node);
            // Who is still there has to be told that it was removed.
            if record.gone && !needed && !self.is_connected(node) {
                places.remove(&node);
            } else if record.life.is_some() || record.gone && !record.address.is_empty() {
                places.insert(node, record.address);
            }
        }
        places
    }

    /// Tells the shell where everybody is, and what to answer to who asks, if that changed.
    pub(super) fn tell_places(&mut self) {
        if !std::mem::take(&mut self.roll.stale) {
            return;
        }
        let places = self.places();
        let member = |(node, address): (&NodeId, &String)| CardMember {
            node: *node,
            life: self.counting_life(*node),
            address: address.clone(),
            alive: *node == self.me.node || self.is_connected(*node),
        };
        let expected = self.with_catalog(|catalog| {
            let open = |r: &NodeRecord| r.life.is_none() && !r.gone;
            catalog.nodes().iter().filter(|(_, r)| open(r)).map(|(node, _)| *node).collect()
        });
        let card = Card {
            cluster: self.identity.identity.cluster,
            lineage: self.identity.lineage.clone(),
            cluster_name: self.identity.cluster_name.clone(),
            groups: self.identity.groups,
            founders: self.founders().map(|conf| conf.voters).unwrap_or_default(),
            members: places.iter().map(member).collect(),
            expected: expected.unwrap_or_default(),
        };
        if self.roll.told.as_ref() != Some(&card) {
            self.out.push(Output::Places { peers: places, card: card.encode() });
            self.roll.told = Some(card);
        }
    }

    fn is_connected(&self, node: NodeId) -> bool {
        self.roll.heard.get(&node).is_some_and(|lives| lives.values().any(|heard| heard.up))
    }

    /// A voter of which another life came back, as it says: the old one is lost.
    pub(super) fn lost_life(&self, member: Member) -> Option<Member> {
        let (arrived, at) = self.roll.arrivals.get(&member.node)?;
        let recent = self.now().since(*at) < 10 * self.config.election_timeout;
        let other = !member.incarnation.is_of(arrived.incarnation);
        (recent && other).then_some(*arrived)
    }
}
