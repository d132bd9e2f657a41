//! Other nodes: their frames in, our frames out.

use std::collections::BTreeMap;

use bytes::Bytes;
use refloat_log_store::identity::Origin;
use refloat_raft_core::{Body, Message, StepError};
use refloat_types::{GroupKey, IndexSet, Member, NodeId};

use super::envelope::{self, FrameWriter, Header, Item, Run, Unwelcome};
use super::forward::Forwarded;
use super::groups::mix;
use super::roll::Standing;
use super::{NodeCore, Order};
use crate::api::{Lane, Output};

/// A frame of the bulk lane is closed at this length and the next one begun.
const MAX_BULK_FRAME: usize = 2 << 20;
/// How long small appends follow large ones through the bulk lane, in microseconds.
const BULK_STICKS: u64 = 20_000;

/// What this node knows of another.
#[derive(Default)]
pub(crate) struct Peer {
    /// The life that was heard last.
    pub(crate) member: Option<Member>,
    pub(crate) up: bool,
    /// The highest run number heard of that life.
    pub(crate) run: u64,
    /// Which process had it; 0 until one was heard.
    process: u64,
    urgent: FrameWriter,
    bulk: FrameWriter,
    full: Vec<(Lane, Bytes)>,
    /// Proposals that this node sent to the peer and has no answer to.
    pub(crate) forwarded: BTreeMap<u64, Forwarded>,
    pub(crate) next_forward: u64,
    /// Forwards of the peer's present run that were taken in: none counts twice.
    pub(crate) taken: IndexSet,
}

impl Peer {
    /// Whether it is connected, and which run of it.
    pub(crate) fn is_known(&self) -> bool {
        self.up && self.run > 0
    }

    /// Whom frames are addressed to.
    fn address(&self, node: NodeId) -> Member {
        self.member.unwrap_or_else(|| Header::any_life(node))
    }
}

impl NodeCore {
    pub(super) fn peer_up(&mut self, member: Member) {
        if member.node == self.me.node {
            return;
        }
        self.heard(member, Some(true));
        if !self.is_welcome(member, 0) {
            return;
        }
        let peer = self.peers.entry(member.node).or_default();
        if peer.member != Some(member) {
            peer.member = Some(member);
            (peer.run, peer.process) = (0, 0);
            peer.taken = IndexSet::new();
        }
        peer.up = true;
        self.formation_met(member);
        self.announce_to(member.node);
    }

    pub(super) fn peer_down(&mut self, member: Member) {
        self.heard(member, Some(false));
        let node = member.node;
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if peer.member.is_some_and(|other| other != member) {
            return; // of another life, which is not this one's business
        }
        peer.up = false;
        // Whether they were proposed is not known: the connection is gone, and with it the answers.
        self.forwards_lost(node);
        for slot in 0..self.slots.len() {
            let Some(group) = self.slots[slot].as_mut() else { continue };
            if let Some(member) = group.core.conf().member(node).filter(|_| group.is_leader()) {
                group.core.on_unreachable(member);
                self.mark(slot);
            }
        }
    }

    /// Whether a frame of this life is taken as one of its node. While the cluster forms, only
    /// the stored life is; later every life that was not replaced, unless another one that
    /// counts is alive. A replica's messages are never refused for being unknown here.
    fn is_welcome(&mut self, from: Member, run: u64) -> bool {
        if !self.formation.is_formed() {
            let known = self.formation.life_of(from.node);
            let Some(known) = known.filter(|life| *life != from.incarnation) else { return true };
            self.counters.refused += 1;
            let effects = self.formation.on_peer(from);
            self.formation_effects(effects);
            let item = Item::NotMe { expected: Member::new(from.node, known) };
            self.send_item(from.node, Lane::Urgent, &item);
            return false;
        }
        if self.peers.get(&from.node).is_some_and(|peer| peer.member == Some(from)) {
            return true;
        }
        match self.standing(from) {
            Standing::Counts => true,
            Standing::Stranger => {
                self.counters.refused += 1;
                false
            }
            Standing::Former => {
                let gone = self.record(from.node).is_some_and(|record| record.gone);
                let why = if gone { Unwelcome::Unknown } else { Unwelcome::Superseded };
                self.refuse(from, run, why);
                false
            }
        }
    }

    pub(super) fn frame(&mut self, from: Member, bytes: &Bytes) {
        self.counters.frames_received += 1;
        let Ok((header, items)) = envelope::decode(bytes) else {
            self.counters.refused += 1;
            return;
        };
        if from.node == self.me.node {
            return;
        }
        self.heard(from, None);
        let run = header.run.number;
        if !self.is_welcome(from, run) {
            return self.stranger(from, run, items);
        }
        if !header.is_for(self.me) {
            self.counters.refused += 1;
            if !matches!(items.first(), Some(Item::NotMe { .. })) {
                self.send_item(from.node, Lane::Urgent, &Item::NotMe { expected: self.me });
            }
            return;
        }
        if !self.note_run(from, header.run) {
            self.counters.refused += 1;
            return;
        }
        for item in items {
            self.item(from, run, item);
        }
    }

    /// What is heard of a life that does not count: that it is there, and what its replicas say,
    /// since this node's own knowledge may be old.
    fn stranger(&mut self, from: Member, run: u64, items: Vec<Item>) {
        if !self.formation.is_formed() || self.standing(from) == Standing::Former {
            return;
        }
        for item in items {
            if matches!(item, Item::Arrival { .. } | Item::Formation(_) | Item::Raft(_)) {
                self.item(from, run, item);
            }
        }
    }

    /// Remembers who speaks; `false` for a frame of a run that is over, or of a second process
    /// with the number of one that was heard.
    fn note_run(&mut self, from: Member, Run { number: run, process }: Run) -> bool {
        let peer = self.peers.entry(from.node).or_default();
        if peer.member == Some(from) && (run, process) != (peer.run, peer.process) {
            let seen = peer.run;
            let nonce = if run < seen { 0 } else { process };
            if run <= seen {
                self.refuse(from, run, Unwelcome::RunTaken { seen, nonce });
                return false;
            }
        }
        let first = peer.member != Some(from);
        let new_run = first || run > peer.run;
        if new_run {
            peer.taken = IndexSet::new();
        }
        peer.member = Some(from);
        (peer.run, peer.process) = (run, process);
        // The end of an old connection may be told after the beginning of a new one.
        peer.up = true;
        if new_run {
            self.forwards_lost(from.node);
            self.wake_groups_with(from.node);
            self.look_again();
        }
        if first {
            self.formation_met(from);
        }
        true
    }

    fn item(&mut self, from: Member, run: u64, item: Item) {
        match item {
            Item::Raft(bytes) => self.raft_message(from, &bytes),
            Item::Formation(news) => self.formation_news(from, &news),
            Item::Forward(forward) => self.take_forward(from.node, forward),
            Item::ForwardReply { id, result } => self.forward_reply(from.node, id, result),
            Item::SnapshotOffer { group, name, at, part } => {
                self.snapshot_offered(from, group, name, at, &part);
            }
            Item::SnapshotChunk { group, id, n, digest, bytes } => {
                self.snapshot_chunk_in(group, id, n, digest, bytes);
            }
            Item::SnapshotWants { group, id, live } => {
                self.snapshot_wants(from, group, id, &live);
            }
            Item::SnapshotLive { group, id, last, message } => {
                self.snapshot_live(group, id, last, &message);
            }
            Item::LiveAsk { group, live } => self.live_asked(from, group, &live),
            Item::LiveGive { group, last, message } => {
                self.live_given(from, group, last, &message);
            }
            Item::SnapshotState { group, id, next, end, why } => {
                self.note_refusal(from, group, id, end, why);
                self.snapshot_state(from, group, id, next, end);
            }
            Item::NotMe { expected } => {
                self.counters.refused += 1;
                tracing::warn!(node = %self.me.node, peer = %from, %expected, "peer refused a frame");
            }
            Item::QuietBeat(sum) => self.quiet_beat(from.node, sum),
            Item::VersionAsk { group } => self.version_asked(from, group),
            Item::VersionSays { group, life, version } => {
                if life.is_of(from.incarnation) {
                    self.version_said(Member::new(from.node, life), group, version);
                }
            }
            Item::NotQuiet => self.not_quiet(from.node),
            Item::Arrival { joined, address } => self.arrival(from, run, joined, address),
            Item::Reborn { group, life } => self.reborn_elsewhere(from, group, life),
            Item::Dismissed { group, life } => self.dismissed(from, group, life),
            Item::Unwelcome { life, run, why } => self.unwelcome(from, life, run, why),
        }
    }

    fn raft_message(&mut self, from: Member, bytes: &Bytes) {
        let message = match Message::decode_shared(bytes) {
            Ok(message) if message.from.is_of(from) => message,
            _ => {
                self.counters.refused += 1;
                return;
            }
        };
        if !self.by_key.contains_key(&message.group) {
            self.make_replica(from, &message);
        }
        let Some(slot) = self.by_key.get(&message.group).copied() else { return };
        let now = self.now();
        if matches!(message.body, Body::PreVote { .. } | Body::Vote { .. }) {
            self.answer_who_was_removed(from, &message);
        }
        self.catch_up_with_beats(slot);
        self.let_in_with(slot, &message.body);
        let Some(group) = self.group(slot) else { return };
        let meant = message.to;
        let result = group.core.step(now, message);
        self.note_quiet(slot);
        self.counters.messages_received += 1;
        if let Err(error) = result {
            self.counters.refused += 1;
            if let StepError::NotMe { me, .. } = error {
                self.send_item(from.node, Lane::Urgent, &Item::NotMe { expected: me });
                self.called_by_an_old_name(slot, meant);
            }
            tracing::debug!(node = %self.me.node, peer = %from, %error, "message refused");
        }
        self.mark(slot);
    }

    /// A leader speaks to a replica that was never here: it begins empty, with the membership
    /// that the group began with. Not where this node's directory may have known it.
    fn make_replica(&mut self, from: Member, message: &Message) {
        let key = message.group;
        if !matches!(message.body, Body::Append(_) | Body::Heartbeat { .. }) {
            return;
        }
        if message.to != self.me {
            self.counters.refused += 1;
            self.send_item(from.node, Lane::Urgent, &Item::NotMe { expected: self.me });
            return;
        }
        let known = self.store.has_group(key) || self.asleep.contains_key(&key);
        if known || self.unmakeable.contains(&key) {
            return;
        }
        let conf = if key == GroupKey::META {
            self.founders().filter(|_| self.identity.origin != Origin::Init)
        } else {
            let meta = self.by_key.get(&GroupKey::META).copied();
            let meta = meta.and_then(|slot| self.slots[slot].as_ref());
            // What was deleted is still there while the catalog is being read again.
            let current = meta.is_some_and(|g| g.apply.applied.index >= self.catalog_mark);
            self.with_catalog(|c| c.group(key).cloned()).flatten().filter(|_| current)
        };
        if let Some(conf) = conf {
            self.order(Order::Create { key, conf, me: self.me });
        }
    }

    /// This process, as its frames name it.
    pub(super) fn run(&self) -> Run {
        Run { number: self.identity.run, process: mix(self.seed) | 1 }
    }

    /// Puts a message between replicas into the frame of its receiver.
    pub(super) fn send_raft(&mut self, slot: usize, message: &Message) {
        let (run, now, limit) = (self.run(), self.now(), self.config.urgent_bytes);
        let Some(group) = self.slots[slot].as_mut() else { return };
        let entries = match &message.body {
            Body::Append(append) => append.entries.iter().map(|e| e.payload.len() + 17).sum(),
            _ => 0,
        };
        if entries > limit {
            group.bulk_until = now.after(BULK_STICKS);
        }
        let bulk = entries > 0 && now < group.bulk_until;
        let to = message.to.node;
        let peer = self.peers.entry(to).or_default();
        let address = peer.address(to);
        let writer = if bulk { &mut peer.bulk } else { &mut peer.urgent };
        writer.put_raft(run, address, |out| message.encode(out));
        self.counters.messages_sent += 1;
        let (lane, limit) =
            if bulk { (Lane::Bulk, MAX_BULK_FRAME) } else { (Lane::Urgent, limit * 4) };
        if writer.len() > limit {
            let frame = writer.take();
            peer.full.push((lane, frame));
        }
    }

    pub(super) fn send_item(&mut self, to: NodeId, lane: Lane, item: &Item) {
        let run = self.run();
        let peer = self.peers.entry(to).or_default();
        let address = match item {
            Item::Formation(_)
            | Item::NotMe { .. }
            | Item::Arrival { .. }
            | Item::Reborn { .. }
            | Item::Dismissed { .. }
            | Item::Unwelcome { .. } => Header::any_life(to),
            _ => peer.address(to),
        };
        let writer = match lane {
            Lane::Urgent => &mut peer.urgent,
            Lane::Bulk => &mut peer.bulk,
        };
        // The address stands in the frame's header: another one needs another frame.
        if address != peer.member.unwrap_or(address) && !writer.is_empty() {
            let frame = writer.take();
            peer.full.push((lane, frame));
        }
        writer.put_item(run, address, item);
        if address != peer.member.unwrap_or(address) || writer.len() > MAX_BULK_FRAME {
            let frame = writer.take();
            peer.full.push((lane, frame));
        }
    }

    /// One frame per peer, lane and turn.
    pub(super) fn send_frames(&mut self) {
        for (node, peer) in &mut self.peers {
            for (lane, writer) in [(Lane::Urgent, &mut peer.urgent), (Lane::Bulk, &mut peer.bulk)] {
                if !writer.is_empty() {
                    peer.full.push((lane, writer.take()));
                }
            }
            for (lane, bytes) in peer.full.drain(..) {
                self.counters.frames_sent += 1;
                self.out.push(Output::Send { to: *node, lane, bytes });
            }
        }
    }
}
