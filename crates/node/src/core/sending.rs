//! Snapshots to peers that lag behind what is compacted: first the live entries that they lack,
//! then the chunks.

use refloat_log_store::{Chunk, RequestId, SnapshotMeta};
use refloat_raft_core::{Body, Message};
use refloat_types::{Entry, EntryId, GroupKey, IndexSet, Member, NodeId, Now};

use super::envelope::{Item, SnapshotEnd};
use super::live::{Kept, Whom, first_ranges};
use super::offers::Offer;
use super::{NodeCore, Wanted};
use crate::api::Lane;

/// An offer without progress is repeated so often before the transfer is given up.
const OFFERS: u32 = 10;
/// One snapshot on its way to one peer.
pub(super) struct Outgoing {
    pub(super) to: Member,
    meta: SnapshotMeta,
    /// In the form in which it is offered, until the peer knows all of it.
    offer: Option<Offer>,
    /// Bytes of the offer that the peer has.
    told: u32,
    /// Live entries that the peer asked for and that were not asked for from the disk yet.
    wants: IndexSet,
    /// Reads of live entries under way.
    reading: u32,
    /// Chunks below are durable there.
    acked: u32,
    /// Chunks below were asked for from the disk; `None` until the peer said where to begin.
    sent: Option<u32>,
    since: Now,
    offers: u32,
}

impl Outgoing {
    /// Bytes that are read or on their way. `live` is the most that a round of live entries takes.
    fn in_flight(&self, live: u64) -> u64 {
        let chunks = self.sent.unwrap_or(self.acked).saturating_sub(self.acked);
        let live = if self.reading > 0 { live } else { 0 };
        u64::from(chunks) * self.chunk_len() + live
    }

    fn chunk_len(&self) -> u64 {
        u64::from(self.meta.chunk_len).min(self.meta.payload_len)
    }

    /// The chunk that may be sent next.
    fn next_chunk(&self, window: u32) -> Option<u32> {
        let end = self.meta.chunks.min(self.acked.saturating_add(window.max(1)));
        self.sent.filter(|n| *n < end)
    }

    /// Whether chunks are on their way, so that another snapshot would begin from nothing.
    pub(super) fn is_under_way(&self) -> bool {
        self.told > 0 || self.acked > 0 || self.sent.is_some()
    }

    /// How many chunks are durable there.
    pub(super) fn acked(&self) -> u32 {
        self.acked
    }

    /// `None`: it is too long for any receiver.
    fn offer(&mut self) -> Option<Offer> {
        if self.offer.is_none() {
            self.offer = Offer::of(&self.meta);
        }
        self.offer.clone()
    }

    fn progress(&mut self, now: Now) {
        (self.offers, self.since) = (0, now);
    }
}

impl NodeCore {
    pub(super) fn send_snapshot(&mut self, slot: usize, to: Member) {
        let now = self.now();
        let Some(group) = self.slots[slot].as_mut() else { return };
        let Some(meta) = self.store.latest_snapshot(group.key).cloned() else {
            group.snapshots.renew(None);
            group.core.on_snapshot_sent(now, to, false);
            return self.mark(slot);
        };
        let outgoing = Outgoing {
            to,
            meta,
            offer: None,
            told: 0,
            wants: IndexSet::new(),
            reading: 0,
            acked: 0,
            sent: None,
            since: now,
            offers: 0,
        };
        group.snapshots.sending.insert(to.node, outgoing);
        self.flow.sending.insert((slot, to.node));
        self.offer(slot, to.node);
    }

    fn outgoing(&mut self, slot: usize, node: NodeId) -> Option<&mut Outgoing> {
        self.slots[slot].as_mut()?.snapshots.sending.get_mut(&node)
    }

    fn offer(&mut self, slot: usize, node: NodeId) {
        let now = self.now();
        let Some(group) = self.slots[slot].as_mut() else { return };
        let Some(outgoing) = group.snapshots.sending.get_mut(&node) else { return };
        outgoing.offers += 1;
        outgoing.since = now;
        (outgoing.sent, outgoing.reading) = (None, 0);
        let (key, id) = (group.key, outgoing.meta.id);
        match outgoing.offer() {
            Some(offer) => self.send_offer(key, node, &offer),
            None => {
                tracing::warn!(
                    node = %self.me.node, group = %key, %id,
                    "a snapshot refers to too many ranges of live entries to be sent"
                );
                self.sending_ends(slot, node, false);
            }
        }
    }

    /// The peer has a part of the offer and wants the next.
    fn go_on_offering(&mut self, slot: usize, node: NodeId, has: u32) {
        let now = self.now();
        let Some(group) = self.slots[slot].as_mut() else { return };
        let Some(outgoing) = group.snapshots.sending.get_mut(&node) else { return };
        if has > outgoing.told {
            outgoing.progress(now);
        }
        outgoing.told = has;
        let key = group.key;
        if let Some(offer) = outgoing.offer() {
            self.send_rest_of_offer(key, node, &offer, has);
        }
    }

    fn sending_ends(&mut self, slot: usize, node: NodeId, ok: bool) {
        let now = self.now();
        self.flow.sent((slot, node));
        let Some(group) = self.slots[slot].as_mut() else { return };
        let Some(outgoing) = group.snapshots.sending.remove(&node) else { return };
        self.counters.snapshots_sent += u64::from(ok);
        group.core.on_snapshot_sent(now, outgoing.to, ok);
        self.mark(slot);
    }

    /// A transfer to a life that is gone ends.
    pub(super) fn drop_transfer(&mut self, slot: usize, gone: Member) {
        if self.outgoing(slot, gone.node).is_some_and(|outgoing| outgoing.to == gone) {
            self.flow.sent((slot, gone.node));
            if let Some(group) = self.slots[slot].as_mut() {
                group.snapshots.sending.remove(&gone.node);
            }
        }
    }

    /// Who is deposed sends no snapshots any more: the next leader has its own.
    pub(super) fn end_transfers(&mut self, slot: usize) {
        self.flow.forget(slot);
        if let Some(group) = self.slots[slot].as_mut() {
            group.snapshots.sending.clear();
        }
    }

    /// The transfer that a peer's answer belongs to.
    fn answered(&mut self, from: Member, key: GroupKey, id: EntryId) -> Option<usize> {
        let slot = self.by_key.get(&key).copied()?;
        let outgoing = self.outgoing(slot, from.node)?;
        (outgoing.meta.id == id && outgoing.to.is_of(from)).then_some(slot)
    }

    pub(super) fn snapshot_state(
        &mut self,
        from: Member,
        key: GroupKey,
        id: EntryId,
        next: u32,
        end: SnapshotEnd,
    ) {
        let (now, patience) = (self.now(), self.config.election_timeout);
        let Some(slot) = self.answered(from, key, id) else { return };
        let Some(outgoing) = self.outgoing(slot, from.node) else { return };
        match end {
            SnapshotEnd::Installed => self.sending_ends(slot, from.node, true),
            SnapshotEnd::Failed => self.sending_ends(slot, from.node, false),
            // It has no room, and says when it has; in case that is lost, it is asked again.
            SnapshotEnd::Later => outgoing.progress(now.after(3 * patience)),
            SnapshotEnd::Again => self.offer(slot, from.node),
            SnapshotEnd::Told => self.go_on_offering(slot, from.node, next),
            SnapshotEnd::Receiving => {
                outgoing.offer = None;
                if next > outgoing.acked {
                    outgoing.progress(now);
                }
                outgoing.acked = outgoing.acked.max(next);
                outgoing.sent = Some(outgoing.sent.unwrap_or(next).max(next));
                self.flow.want_turn((slot, from.node));
            }
        }
    }

    /// Remembers why a peer could not take a snapshot, until it takes one. It may have said before
    /// that it has all of it.
    pub(super) fn note_refusal(
        &mut self,
        from: Member,
        key: GroupKey,
        id: EntryId,
        end: SnapshotEnd,
        why: String,
    ) {
        let Some(slot) = self.by_key.get(&key).copied() else { return };
        let Some(group) = self.slots[slot].as_mut().filter(|group| group.is_leader()) else {
            return;
        };
        match end {
            SnapshotEnd::Installed => drop(group.snapshots.refusals.remove(&from.node)),
            SnapshotEnd::Failed if group.core.conf().member(from.node).is_some() => {
                tracing::warn!(
                    node = %self.me.node, group = %key, peer = %from, %id, why,
                    "a member could not take a snapshot"
                );
                let text = format!("snapshot up to {}: {why}", id.index);
                group.snapshots.refusals.insert(from.node, text);
            }
            _ => {}
        }
    }

    /// The peer lacks live entries, and asks for them before any chunk.
    pub(super) fn snapshot_wants(
        &mut self,
        from: Member,
        key: GroupKey,
        id: EntryId,
        wants: &IndexSet,
    ) {
        let now = self.now();
        let Some(slot) = self.answered(from, key, id) else { return };
        let Some(outgoing) = self.outgoing(slot, from.node).filter(|o| o.reading == 0) else {
            return;
        };
        outgoing.progress(now);
        outgoing.wants = first_ranges(&outgoing.meta.live.intersection(wants));
        self.flow.want_turn((slot, from.node));
    }

    /// Gives the transfers their turns, as far as rate and memory allow.
    pub(super) fn send_in_turn(&mut self) {
        let (now, window) = (self.now(), self.config.snapshot_window);
        let (rate, most) = (self.config.snapshot_rate, self.config.snapshot_inflight_bytes);
        let live = self.config.max_append_bytes as u64;
        while let Some((slot, node)) = self.flow.next_turn() {
            let cost = self.outgoing(slot, node).and_then(|outgoing| {
                let chunk = || outgoing.next_chunk(window).map(|_| outgoing.chunk_len());
                if outgoing.wants.is_empty() { chunk() } else { Some(live) }
            });
            let Some(cost) = cost else {
                self.flow.turn_over();
                continue;
            };
            let used = self.snapshot_bytes_out();
            if !self.flow.is_due(now) || used > 0 && used + cost > most {
                return;
            }
            self.flow.turn_over();
            let lives = self.outgoing(slot, node).map(|o| std::mem::take(&mut o.wants));
            match lives.filter(|wants| !wants.is_empty()) {
                Some(wants) => self.read_live(slot, node, &wants),
                None => {
                    self.flow.spend(now, cost, rate);
                    self.counters.snapshot_bytes_sent += cost;
                    self.read_chunk(slot, node);
                }
            }
            self.flow.want_turn((slot, node));
        }
    }

    /// Bytes of snapshots that are asked for from the disk and not acknowledged by their receivers.
    pub(super) fn snapshot_bytes_out(&self) -> u64 {
        let live = self.config.max_append_bytes as u64;
        let of = |(slot, node): &(usize, NodeId)| {
            let group = self.slots[*slot].as_ref()?;
            group.snapshots.sending.get(node).map(|outgoing| outgoing.in_flight(live))
        };
        self.flow.sending.iter().filter_map(of).sum()
    }

    fn read_chunk(&mut self, slot: usize, node: NodeId) {
        let window = self.config.snapshot_window;
        let Some(group) = self.slots[slot].as_mut() else { return };
        let Some(outgoing) = group.snapshots.sending.get_mut(&node) else { return };
        let Some(n) = outgoing.next_chunk(window) else { return };
        outgoing.sent = Some(n + 1);
        let (id, to) = (outgoing.meta.id, outgoing.to);
        match self.store.read_snapshot_chunk(group.key, id, n) {
            Some(request) => {
                self.fetches.insert(request, Wanted::Chunk(slot, node, id));
            }
            // A newer one took its place meanwhile: that one is sent instead.
            None => self.send_snapshot(slot, to),
        }
    }

    pub(super) fn chunk_read(&mut self, request: RequestId, result: Result<Chunk, String>) {
        let Some(Wanted::Chunk(slot, node, id)) = self.fetches.remove(&request) else { return };
        let Some(group) = self.slots[slot].as_ref() else { return };
        let of_this = |outgoing: &&Outgoing| outgoing.meta.id == id;
        if group.snapshots.sending.get(&node).filter(of_this).is_none() {
            return; // of a snapshot that another one replaced meanwhile
        }
        let group = group.key;
        match result {
            Ok(Chunk { n, digest, bytes }) => {
                let item = Item::SnapshotChunk { group, id, n, digest, bytes };
                self.send_item(node, Lane::Bulk, &item);
            }
            Err(reason) => {
                tracing::warn!(node = %self.me.node, %group, reason, "snapshot chunk cannot be read");
                self.sending_ends(slot, node, false);
            }
        }
    }

    fn read_live(&mut self, slot: usize, node: NodeId, wants: &IndexSet) {
        let max_bytes = self.config.max_append_bytes / wants.ranges().len().max(1);
        if let Some(outgoing) = self.outgoing(slot, node) {
            outgoing.reading = wants.ranges().len() as u32;
        }
        for &(first, last) in wants.ranges() {
            self.read_kept(Kept { slot, whom: Whom::Receiver(node), first, last, max_bytes });
        }
    }

    /// Live entries came from memory or from the disk: they go out, and with the last of a round
    /// the peer is asked what it lacks now.
    pub(super) fn live_read(
        &mut self,
        slot: usize,
        node: NodeId,
        result: Result<Vec<Entry>, String>,
    ) {
        let (now, rate) = (self.now(), self.config.snapshot_rate);
        let Some(group) = self.slots[slot].as_mut() else { return };
        let Some(outgoing) = group.snapshots.sending.get_mut(&node) else { return };
        let (key, id) = (group.key, outgoing.meta.id);
        outgoing.reading = outgoing.reading.saturating_sub(1);
        let last = outgoing.reading == 0;
        match result {
            Ok(entries) => {
                let bytes: u64 = entries.iter().map(|entry| entry.payload.len() as u64 + 17).sum();
                let (from, to, term) = (group.me, outgoing.to, group.soft.term);
                let body = Body::HoleHave { entries };
                let mut message = Vec::new();
                Message { from, to, group: key, term, body }.encode(&mut message);
                self.flow.spend(now, bytes, rate);
                self.counters.snapshot_bytes_sent += bytes;
                let item = Item::SnapshotLive { group: key, id, last, message: message.into() };
                self.send_item(node, Lane::Bulk, &item);
            }
            Err(reason) => {
                tracing::warn!(node = %self.me.node, group = %key, reason, "live entries cannot be read");
                self.sending_ends(slot, node, false);
            }
        }
    }

    /// Transfers without progress are offered again, and given up in the end.
    pub(super) fn sweep_transfers(&mut self) {
        let (now, patience) = (self.now(), self.config.election_timeout);
        for (slot, node) in self.flow.sending.clone() {
            // What waits here is not the peer's fault.
            let waits = self.flow.awaits_turn((slot, node));
            let Some(outgoing) = self.outgoing(slot, node) else {
                self.flow.sent((slot, node));
                continue;
            };
            if waits {
                outgoing.progress(now);
            }
            match (now.since(outgoing.since) > patience, outgoing.offers) {
                (true, offers) if offers < OFFERS => self.offer(slot, node),
                (true, _) => self.sending_ends(slot, node, false),
                _ => {}
            }
        }
    }
}
