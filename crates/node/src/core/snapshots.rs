//! Snapshots: of own machines, to lagging peers, and from leaders.

use std::collections::BTreeMap;

use bytes::Bytes;
use refloat_log_store::{Chunk, RequestId, SnapshotMeta};
use refloat_raft_core::{PersistTicket, SnapshotOutcome};
use refloat_types::codec::Reader;
use refloat_types::{ConfState, EntryId, GroupId, GroupKey, IndexSet, Member, NodeId, Now};

use super::envelope::{Item, SnapshotEnd};
use super::group::{Answer, Applier, Restoring};
use super::{NodeCore, Order, Wanted};
use crate::api::{Lane, Reply, Token};
use crate::config::Config;
use crate::error::RequestError;
use crate::job::guarded;
use crate::machine::Chunks;

/// An offer without progress is repeated so often before the transfer is given up.
const OFFERS: u32 = 10;

/// The snapshots of one group that are on their way.
#[derive(Default)]
pub(crate) struct Transfers {
    /// The newest that is durable here.
    pub(crate) published: EntryId,
    /// A job draws one from the machine.
    pub(crate) capturing: bool,
    writing: bool,
    /// Somebody wants one, however little was applied since the last.
    wanted: bool,
    /// One that is rotten: where it is the newest, another of the same index takes its place.
    rotten: Option<EntryId>,
    clients: Vec<Token>,
    sending: BTreeMap<NodeId, Outgoing>,
    incoming: Option<Incoming>,
}

/// One snapshot on its way to one peer: at most a window of chunks is under way.
struct Outgoing {
    to: Member,
    meta: SnapshotMeta,
    /// Chunks below are durable there.
    acked: u32,
    /// Chunks below were asked for from the disk; `None` until the peer said where to begin.
    sent: Option<u32>,
    since: Now,
    offers: u32,
}

/// One snapshot on its way in.
struct Incoming {
    meta: SnapshotMeta,
    from: NodeId,
    next: u32,
}

impl Transfers {
    /// Nothing is on its way, and this snapshot is there (zero: none).
    pub(crate) fn after(published: EntryId) -> Transfers {
        Transfers { published, ..Transfers::default() }
    }

    /// Whether the next job should draw a snapshot.
    pub(crate) fn wants_capture(&self, apply: &Applier, config: &Config) -> bool {
        let due = self.wanted
            || apply.entries >= config.snapshot_entries
            || apply.bytes >= config.snapshot_bytes;
        let free = !self.capturing && !self.writing;
        let applied = apply.applied.index;
        let newer = applied > self.published.index
            || applied == self.published.index && self.rotten == Some(self.published);
        due && free && apply.is_in_step() && newer
    }

    /// A new one is to be made, however little was applied since the last.
    pub(crate) fn renew(&mut self, rotten: Option<EntryId>) {
        self.wanted = true;
        self.rotten = rotten.or(self.rotten);
    }

    /// Transfers to peers.
    pub(crate) fn sending(&self) -> u64 {
        self.sending.len() as u64
    }

    /// Forgets a transfer to this member, if there is one.
    pub(crate) fn drop_sending(&mut self, to: Member) -> bool {
        let there = self.sending.get(&to.node).is_some_and(|outgoing| outgoing.to == to);
        there && self.sending.remove(&to.node).is_some()
    }

    pub(crate) fn take_clients(&mut self) -> Vec<Token> {
        std::mem::take(&mut self.clients)
    }
}

impl NodeCore {
    // ---- own snapshots

    pub(super) fn snapshot_now(&mut self, to: Token, id: GroupId) {
        self.admit(0);
        let slot = match self.find(id) {
            Ok(slot) => slot,
            Err(error) => return self.answer(Answer::Local(to), 0, Err(error)),
        };
        let group = self.slots[slot].as_mut().expect("found");
        if group.apply.applied.index <= group.snapshots.published.index {
            let reply = Reply { index: group.snapshots.published.index, payload: Bytes::new() };
            return self.answer(Answer::Local(to), 0, Ok(reply));
        }
        group.snapshots.wanted = true;
        group.snapshots.clients.push(to);
        self.mark(slot);
    }

    /// The machine's state as of `id` is drawn: write it.
    pub(super) fn captured(&mut self, slot: usize, id: EntryId, chunks: Chunks, live: IndexSet) {
        let Some(group) = self.slots[slot].as_mut() else { return };
        group.snapshots.capturing = false;
        if group.apply.restoring != Restoring::No {
            // One from the leader overtook it: the membership is not as of `id` any more, and the
            // store would not take it. Who asked for one is answered when that one is published.
            return;
        }
        group.snapshots.wanted = false;
        group.snapshots.rotten = None;
        group.snapshots.writing = true;
        (group.apply.entries, group.apply.bytes) = (0, 0);
        // Nothing was applied since the job began, so the membership is as of `id`.
        let conf = group.core.conf().clone();
        let source = guarded(group.key, chunks);
        self.store.write_snapshot(group.key, id, conf, live, Box::new(source));
    }

    /// The pieces of a machine's snapshot ended in a panic: the machine is not to be trusted.
    pub(super) fn source_panicked(&mut self, key: GroupKey, reason: String) {
        self.counters.panics += 1;
        if let Some(slot) = self.by_key.get(&key).copied() {
            self.halt_group(slot, reason);
        }
    }

    pub(super) fn snapshot_published(&mut self, key: GroupKey, id: EntryId) {
        let Some(slot) = self.by_key.get(&key).copied() else { return };
        let Some(group) = self.slots[slot].as_mut() else { return };
        let previous = std::mem::replace(&mut group.snapshots.published, id);
        group.snapshots.writing = false;
        // Two snapshots are kept; what is dead lies below the older one.
        if previous != EntryId::ZERO && previous.index < id.index {
            group.core.on_compacted(previous);
        }
        group.core.on_snapshot_made(id.index);
        self.counters.snapshots_written += 1;
        let reply = Reply { index: id.index, payload: Bytes::new() };
        for token in group.snapshots.take_clients() {
            self.answer(Answer::Local(token), 0, Ok(reply.clone()));
        }
        self.mark(slot);
    }

    pub(super) fn snapshot_failed(&mut self, key: GroupKey, reason: String) {
        let Some(slot) = self.by_key.get(&key).copied() else { return };
        let Some(group) = self.slots[slot].as_mut() else { return };
        group.snapshots.writing = false;
        tracing::warn!(node = %self.me.node, group = %key, reason, "snapshot failed");
        for token in group.snapshots.take_clients() {
            let error = RequestError::Refused { group: key.id, reason: reason.clone() };
            self.answer(Answer::Local(token), 0, Err(error));
        }
    }

    // ---- to a lagging peer

    pub(super) fn send_snapshot(&mut self, slot: usize, to: Member) {
        let now = self.now();
        let Some(group) = self.slots[slot].as_mut() else { return };
        let Some(meta) = self.store.latest_snapshot(group.key).cloned() else {
            group.snapshots.wanted = true;
            group.core.on_snapshot_sent(now, to, false);
            return self.mark(slot);
        };
        let outgoing = Outgoing { to, meta, acked: 0, sent: None, since: now, offers: 0 };
        if group.snapshots.sending.insert(to.node, outgoing).is_none() {
            self.sending += 1;
        }
        self.offer(slot, to.node);
    }

    fn offer(&mut self, slot: usize, node: NodeId) {
        let now = self.now();
        let Some(group) = self.slots[slot].as_mut() else { return };
        let Some(outgoing) = group.snapshots.sending.get_mut(&node) else { return };
        outgoing.offers += 1;
        outgoing.since = now;
        outgoing.sent = None;
        let mut meta = Vec::new();
        outgoing.meta.encode(&mut meta);
        let item = Item::SnapshotOffer { group: group.key, meta: meta.into() };
        self.send_item(node, Lane::Urgent, &item);
    }

    fn sending_ends(&mut self, slot: usize, node: NodeId, ok: bool) {
        let now = self.now();
        let Some(group) = self.slots[slot].as_mut() else { return };
        let Some(outgoing) = group.snapshots.sending.remove(&node) else { return };
        self.sending = self.sending.saturating_sub(1);
        self.counters.snapshots_sent += u64::from(ok);
        group.core.on_snapshot_sent(now, outgoing.to, ok);
        self.mark(slot);
    }

    pub(super) fn snapshot_state(
        &mut self,
        from: Member,
        key: GroupKey,
        id: EntryId,
        next: u32,
        end: SnapshotEnd,
    ) {
        let now = self.now();
        let Some(slot) = self.by_key.get(&key).copied() else { return };
        let Some(group) = self.slots[slot].as_mut() else { return };
        let Some(outgoing) = group.snapshots.sending.get_mut(&from.node) else { return };
        if outgoing.meta.id != id || !outgoing.to.is_of(from) {
            return;
        }
        match end {
            SnapshotEnd::Installed => self.sending_ends(slot, from.node, true),
            SnapshotEnd::Failed => self.sending_ends(slot, from.node, false),
            SnapshotEnd::Receiving => {
                if next > outgoing.acked {
                    outgoing.offers = 0;
                    outgoing.since = now;
                }
                outgoing.acked = outgoing.acked.max(next);
                outgoing.sent = Some(outgoing.sent.unwrap_or(next).max(next));
                self.send_chunks(slot, from.node);
            }
        }
    }

    /// Asks the disk for chunks as far as the window allows.
    fn send_chunks(&mut self, slot: usize, node: NodeId) {
        let window = self.config.snapshot_window.max(1);
        loop {
            let Some(group) = self.slots[slot].as_mut() else { return };
            let key = group.key;
            let Some(outgoing) = group.snapshots.sending.get_mut(&node) else { return };
            let Some(n) = outgoing.sent else { return };
            if n >= outgoing.meta.chunks.min(outgoing.acked.saturating_add(window)) {
                return;
            }
            outgoing.sent = Some(n + 1);
            let (id, to) = (outgoing.meta.id, outgoing.to);
            match self.store.read_snapshot_chunk(key, id, n) {
                Some(request) => {
                    self.fetches.insert(request, Wanted::Chunk(slot, node));
                }
                // A newer one took its place meanwhile: that one is sent instead.
                None => return self.send_snapshot(slot, to),
            }
        }
    }

    pub(super) fn chunk_read(&mut self, request: RequestId, result: Result<Chunk, String>) {
        let Some(Wanted::Chunk(slot, node)) = self.fetches.remove(&request) else { return };
        let Some(group) = self.slots[slot].as_ref() else { return };
        let Some(outgoing) = group.snapshots.sending.get(&node) else { return };
        let (group, id) = (group.key, outgoing.meta.id);
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

    /// Transfers without progress are offered again, and given up in the end.
    pub(super) fn sweep_snapshots(&mut self) {
        let (now, patience) = (self.now(), self.config.election_timeout);
        let mut stuck = Vec::new();
        for (slot, group) in self.slots.iter().enumerate() {
            let Some(group) = group else { continue };
            let late = |out: &&Outgoing| now.since(out.since) > patience;
            let late = group.snapshots.sending.values().filter(late);
            stuck.extend(late.map(|out| (slot, out.to.node, out.offers)));
        }
        for (slot, node, offers) in stuck {
            if offers < OFFERS {
                self.offer(slot, node);
            } else {
                self.sending_ends(slot, node, false);
            }
        }
    }

    // ---- from a leader

    pub(super) fn snapshot_offered(&mut self, from: Member, key: GroupKey, bytes: &Bytes) {
        let meta = match SnapshotMeta::decode(&mut Reader::new(bytes)) {
            Ok(meta) if meta.group == key && meta.check().is_ok() => meta,
            _ => {
                self.counters.refused += 1;
                return;
            }
        };
        let Some(slot) = self.by_key.get(&key).copied() else { return };
        let Some(group) = self.slots[slot].as_mut() else { return };
        // What is committed is known here, unless a hole keeps it from being applied.
        let status = group.core.status();
        let cures = status.applied < meta.id.index
            && status.holes.first().is_some_and(|hole| hole <= meta.id.index);
        if group.apply.committed >= meta.id.index && !cures {
            return self.say_state(from.node, key, meta.id, meta.chunks, SnapshotEnd::Installed);
        }
        let transfers = &mut group.snapshots;
        match transfers.incoming.as_mut().filter(|incoming| incoming.meta == meta) {
            Some(incoming) => {
                incoming.from = from.node;
                let next = incoming.next;
                self.say_state(from.node, key, meta.id, next, SnapshotEnd::Receiving);
            }
            None => {
                let incoming = Incoming { meta: meta.clone(), from: from.node, next: 0 };
                transfers.incoming = Some(incoming);
            }
        }
        self.store.receive_snapshot(meta, None);
    }

    pub(super) fn snapshot_chunk_in(
        &mut self,
        key: GroupKey,
        id: EntryId,
        n: u32,
        digest: u32,
        bytes: Bytes,
    ) {
        let Some(slot) = self.by_key.get(&key).copied() else { return };
        let incoming = self.slots[slot].as_ref().and_then(|g| g.snapshots.incoming.as_ref());
        let Some(incoming) = incoming.filter(|incoming| incoming.meta.id == id) else { return };
        let meta = incoming.meta.clone();
        self.store.receive_snapshot(meta, Some(Chunk { n, digest, bytes }));
    }

    pub(super) fn snapshot_progress(&mut self, key: GroupKey, id: EntryId, next: u32) {
        let Some(slot) = self.by_key.get(&key).copied() else { return };
        let incoming = self.slots[slot].as_mut().and_then(|g| g.snapshots.incoming.as_mut());
        let Some(incoming) = incoming.filter(|incoming| incoming.meta.id == id) else { return };
        incoming.next = next;
        let to = incoming.from;
        self.say_state(to, key, id, next, SnapshotEnd::Receiving);
    }

    fn say_state(&mut self, to: NodeId, key: GroupKey, id: EntryId, next: u32, end: SnapshotEnd) {
        self.send_item(to, Lane::Urgent, &Item::SnapshotState { group: key, id, next, end });
    }

    /// A whole snapshot is here: verified, synced, under its name. The core decides.
    pub(super) fn snapshot_received(&mut self, key: GroupKey, meta: SnapshotMeta) {
        let now = self.now();
        let Some(slot) = self.by_key.get(&key).copied() else { return };
        let Some(group) = self.slots[slot].as_mut() else { return };
        let (id, chunks) = (meta.id, meta.chunks);
        let from = group.snapshots.incoming.take().map(|incoming| incoming.from);
        let end = match group.core.on_snapshot_received(now, id, meta.conf) {
            Ok(SnapshotOutcome::Install | SnapshotOutcome::Obsolete) => SnapshotEnd::Installed,
            Err(error) => {
                tracing::warn!(node = %self.me.node, group = %key, %error, "snapshot refused");
                SnapshotEnd::Failed
            }
        };
        if let Some(from) = from {
            self.say_state(from, key, id, chunks, end);
        }
        self.mark(slot);
    }

    /// Makes a received snapshot the head of the group's log, and then its machine's state.
    pub(super) fn install(
        &mut self,
        slot: usize,
        id: EntryId,
        conf: ConfState,
        ticket: PersistTicket,
    ) {
        self.order(Order::Install { slot, id, conf, ticket });
        let Some(group) = self.slots[slot].as_mut() else { return };
        let key = group.key;
        self.counters.snapshots_installed += 1;
        group.apply.restoring = Restoring::Wanted(id);
        group.apply.fetching = None;
        group.apply.committed = group.apply.committed.max(id.index);
        // What the snapshot swallowed is applied or replaced; which of the two is not known here.
        let keep = group.waiting.partition_point(|waiting| waiting.id.index <= id.index);
        let swallowed: Vec<_> = group.waiting.drain(..keep).collect();
        for waiting in swallowed {
            let unknown = RequestError::Unknown { group: key.id };
            self.answer(waiting.answer, waiting.bytes, Err(unknown));
        }
    }
}
