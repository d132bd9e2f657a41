//! Snapshots from others: live entries that are not here first, then the chunks, then the install.

use bytes::Bytes;
use refloat_log_store::{Chunk, SnapshotMeta};
use refloat_raft_core::{Body, Message, SnapshotOutcome};
use refloat_types::{
    Entry, EntryId, EntryKind, GroupKey, GroupWrite, Index, IndexSet, LogOp, Member, NodeId, Now,
};

use super::envelope::{Item, SnapshotEnd};
use super::group::Restoring;
use super::live::first_ranges;
use super::offers::{Announced, OfferName};
use super::space::Load;
use super::{NodeCore, Write};
use crate::api::Lane;
use crate::error::RequestError;

/// A reception of which nothing is heard for so many election timeouts makes room for others.
/// What it brought stays on the disk, and another attempt goes on from there.
const PATIENCE: u64 = 6;

/// One snapshot on its way in.
pub(super) struct Incoming {
    meta: SnapshotMeta,
    name: OfferName,
    from: NodeId,
    next: u32,
    /// Live entries that came, and stand above what is known to be committed here.
    came: IndexSet,
    /// Every chunk is here.
    whole: bool,
    heard: Now,
}

impl Incoming {
    /// Nothing of it came yet.
    pub(super) fn begin(meta: SnapshotMeta, name: OfferName, from: NodeId, now: Now) -> Incoming {
        let came = IndexSet::new();
        Incoming { meta, name, from, next: 0, came, whole: false, heard: now }
    }
}

impl NodeCore {
    pub(super) fn snapshot_offered(
        &mut self,
        from: Member,
        key: GroupKey,
        name: OfferName,
        at: u32,
        part: &[u8],
    ) {
        let id = name.id;
        let (now, patience) = (self.now(), PATIENCE * self.config.election_timeout);
        let most = self.config.snapshot_receptions;
        let Some(slot) = self.by_key.get(&key).copied() else { return };
        let Some(group) = self.slots[slot].as_mut() else { return };
        // What is committed is known here, unless a hole keeps it from being applied.
        let status = group.core.status();
        let cures =
            status.applied < id.index && status.holes.first().is_some_and(|hole| hole <= id.index);
        let lost = match group.apply.restoring {
            Restoring::Lost(lost) => lost.index <= id.index,
            _ => false,
        };
        if group.apply.committed >= id.index && !cures && !lost {
            return self.say_state(from.node, key, id, 0, SnapshotEnd::Installed);
        }
        let (incoming, announced) = (&group.snapshots.incoming, &group.snapshots.announced);
        let is_whole = incoming.as_ref().is_some_and(|i| i.name == name);
        let known = is_whole || announced.as_ref().is_some_and(|a| a.is(name));
        let speaks = incoming.as_ref().map(|i| (i.from, i.heard));
        let speaks = speaks.into_iter().chain(announced.as_ref().map(|a| (a.from, a.heard)));
        // If two senders took each other's place with each offer, both would begin anew for ever. One
        // of them at most leads here, and who is deposed sends no more.
        let leads = group.soft.leader.is_some_and(|leader| leader.node == from.node);
        let mut arrives = speaks
            .filter(|(who, heard)| *who != from.node && !leads && now.since(*heard) <= patience);
        if !known && arrives.next().is_some() {
            return self.say_state(from.node, key, id, 0, SnapshotEnd::Later);
        }
        if !known && !self.flow.begin_receiving(key, most) {
            self.flow.let_wait(key, from.node, id);
            return self.say_state(from.node, key, id, 0, SnapshotEnd::Later);
        }
        let Some(group) = self.slots[slot].as_mut() else { return };
        match group.snapshots.incoming.as_mut().filter(|_| is_whole) {
            Some(incoming) => {
                (incoming.from, incoming.heard) = (from.node, now);
                self.go_on_receiving(slot, true);
            }
            None => self.take_part_of_offer(slot, from, name, at, part),
        }
    }

    /// Asks for live entries as long as some are missing, then for chunks.
    pub(super) fn go_on_receiving(&mut self, slot: usize, say: bool) {
        let wants = self.missing_live(slot);
        let Some(group) = self.slots[slot].as_ref() else { return };
        let Some(incoming) = group.snapshots.incoming.as_ref() else { return };
        let (key, id, from, next) = (group.key, incoming.meta.id, incoming.from, incoming.next);
        if !wants.is_empty() {
            if self.lacks_space() {
                return; // there may be no space for them: it is offered again
            }
            let item = Item::SnapshotWants { group: key, id, live: wants };
            return self.send_item(from, Lane::Urgent, &item);
        }
        if incoming.whole {
            let meta = incoming.meta.clone();
            return self.snapshot_received(key, meta);
        }
        let meta = incoming.meta.clone();
        if say {
            self.say_state(from, key, id, next, SnapshotEnd::Receiving);
        }
        self.store.receive_snapshot(meta, None);
    }

    /// Live entries that this replica lacks, the lowest few ranges.
    fn missing_live(&self, slot: usize) -> IndexSet {
        let Some(group) = self.slots[slot].as_ref() else { return IndexSet::new() };
        let Some(incoming) = group.snapshots.incoming.as_ref() else { return IndexSet::new() };
        let (live, commit) = (&incoming.meta.live, group.core.commit());
        let absent = self.store.missing_live(group.key, live);
        lowest_lacking(live, &absent, commit, &group.core.status().holes, &incoming.came)
    }

    /// Live entries arrive. They go into the log before the snapshot that refers to them does, in
    /// the same order on the disk; own entries that contradict them are cut first.
    pub(super) fn snapshot_live(
        &mut self,
        key: GroupKey,
        id: EntryId,
        last: bool,
        message: &Bytes,
    ) {
        let now = self.now();
        let Some(slot) = self.by_key.get(&key).copied() else { return };
        let entries = match Message::decode_shared(message) {
            Ok(Message { body: Body::HoleHave { entries }, .. }) => entries,
            _ => {
                self.counters.refused += 1;
                return;
            }
        };
        let Some(group) = self.slots[slot].as_ref() else { return };
        if group.snapshots.incoming.as_ref().is_none_or(|incoming| incoming.meta.id != id)
            || self.let_in(slot, Load::of(&entries)).is_err()
        {
            return; // without space: it is offered again
        }
        let Some(group) = self.slots[slot].as_mut() else { return };
        let Some(incoming) = group.snapshots.incoming.as_mut() else { return };
        incoming.heard = now;
        let live = &incoming.meta.live;
        let fits = |e: &Entry| live.contains(e.id.index) && e.kind != EntryKind::Config;
        let entries: Vec<Entry> =
            entries.into_iter().filter(|e| fits(e) && e.is_intact()).collect();
        entries.iter().for_each(|e| incoming.came.insert(e.id.index));
        for entry in &entries {
            group.core.on_committed_elsewhere(now, entry.id);
        }
        // What the core cuts is written before what takes its place.
        self.turn_group(slot);
        self.fill_live(slot, key, entries);
        if last {
            self.go_on_receiving(slot, true);
        }
        self.mark(slot);
    }

    pub(super) fn fill_live(&mut self, slot: usize, group: GroupKey, entries: Vec<Entry>) {
        let Some(running) = self.slots[slot].as_ref() else { return };
        let commit = running.core.commit();
        let lacked = self
            .store
            .missing_live(group, &entries.iter().map(|entry| entry.id.index).collect::<IndexSet>());
        let new = |e: &Entry| e.id.index > commit || lacked.contains(e.id.index);
        let entries: Vec<Entry> = entries.into_iter().filter(new).collect();
        if !entries.is_empty() {
            let log = Some(LogOp::Fill { entries });
            let write = GroupWrite { group, hard_state: None, log };
            self.writes.push(Write { slot, write, ticket: None });
            self.submit_writes();
        }
    }

    /// The store had no space for live entries that came: the snapshot is to be offered again.
    pub(super) fn live_refused(&mut self, slot: usize) {
        let Some(group) = self.slots[slot].as_ref() else { return };
        let Some(incoming) = group.snapshots.incoming.as_ref() else { return };
        let (key, id) = (group.key, incoming.meta.id);
        self.snapshot_refused(key, id, RequestError::NoSpace.to_string());
    }

    pub(super) fn snapshot_chunk_in(
        &mut self,
        key: GroupKey,
        id: EntryId,
        n: u32,
        digest: u32,
        bytes: Bytes,
    ) {
        let now = self.now();
        let Some(slot) = self.by_key.get(&key).copied() else { return };
        let incoming = self.slots[slot].as_mut().and_then(|g| g.snapshots.incoming.as_mut());
        let Some(incoming) = incoming.filter(|incoming| incoming.meta.id == id) else { return };
        incoming.heard = now;
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

    pub(super) fn say_state(
        &mut self,
        to: NodeId,
        key: GroupKey,
        id: EntryId,
        next: u32,
        end: SnapshotEnd,
    ) {
        let why = String::new();
        self.send_item(to, Lane::Urgent, &Item::SnapshotState { group: key, id, next, end, why });
    }

    /// Tells who sent a snapshot why it could not be taken.
    pub(super) fn say_refusal(&mut self, to: NodeId, group: GroupKey, id: EntryId, why: String) {
        let item = Item::SnapshotState { group, id, next: 0, end: SnapshotEnd::Failed, why };
        self.send_item(to, Lane::Urgent, &item);
    }

    /// Tells the leader, which heard that a snapshot has arrived, why it is of no use here.
    pub(super) fn tell_leader(&mut self, slot: usize, id: EntryId, why: String) {
        let Some(group) = self.slots[slot].as_ref() else { return };
        if let Some(leader) = group.leader().filter(|leader| *leader != group.me.node) {
            self.say_refusal(leader, group.key, id, why);
        }
    }

    /// The disk did not take what came of a snapshot.
    pub(super) fn snapshot_refused(&mut self, key: GroupKey, id: EntryId, reason: String) {
        tracing::warn!(node = %self.me.node, group = %key, %id, reason, "snapshot not received");
        let Some(slot) = self.by_key.get(&key).copied() else { return };
        let Some(group) = self.slots[slot].as_mut() else { return };
        if group.snapshots.incoming.as_ref().is_some_and(|incoming| incoming.meta.id == id)
            && let Some(incoming) = group.snapshots.incoming.take()
        {
            self.say_refusal(incoming.from, key, id, reason);
            self.reception_over(key);
        }
    }

    /// A whole snapshot is here: verified, synced, under its name. The core decides, once nothing
    /// that it refers to is missing.
    pub(super) fn snapshot_received(&mut self, key: GroupKey, meta: SnapshotMeta) {
        let now = self.now();
        let Some(slot) = self.by_key.get(&key).copied() else { return };
        let Some(group) = self.slots[slot].as_mut() else { return };
        if let Some(incoming) = group.snapshots.incoming.as_mut().filter(|i| i.meta == meta) {
            incoming.whole = true;
            if !self.missing_live(slot).is_empty() {
                return self.go_on_receiving(slot, false);
            }
        }
        let Some(group) = self.slots[slot].as_mut() else { return };
        let (id, chunks) = (meta.id, meta.chunks);
        let from = group.snapshots.incoming.take().map(|incoming| incoming.from);
        let end = match group.core.on_snapshot_received(now, id, meta.conf) {
            // It stands in the place of the one that was lost already.
            Ok(SnapshotOutcome::Obsolete) if group.apply.restoring == Restoring::Lost(id) => {
                group.apply.restoring = Restoring::Wanted(id);
                SnapshotEnd::Installed
            }
            Ok(SnapshotOutcome::Install | SnapshotOutcome::Obsolete) => SnapshotEnd::Installed,
            Err(error) => {
                tracing::warn!(node = %self.me.node, group = %key, %error, "snapshot refused");
                from.into_iter().for_each(|to| self.say_refusal(to, key, id, error.to_string()));
                SnapshotEnd::Failed
            }
        };
        if let Some(from) = from.filter(|_| end == SnapshotEnd::Installed) {
            self.say_state(from, key, id, chunks, end);
        }
        self.reception_over(key);
        self.mark(slot);
    }

    /// There is room for another reception.
    pub(super) fn reception_over(&mut self, key: GroupKey) {
        let slot = self.by_key.get(&key).copied();
        if let Some(group) = slot.and_then(|slot| self.slots[slot].as_mut()) {
            group.snapshots.announced = None;
        }
        if let Some((next, from, id)) = self.flow.received(key) {
            self.say_state(from, next, id, 0, SnapshotEnd::Again);
        }
    }

    /// Receptions that stand still make room for others.
    pub(super) fn sweep_receptions(&mut self) {
        let (now, patience) = (self.now(), PATIENCE * self.config.election_timeout);
        for key in self.flow.receiving.clone() {
            let slot = self.by_key.get(&key).copied();
            let group = slot.and_then(|slot| self.slots[slot].as_mut());
            let Some(group) = group else {
                self.reception_over(key);
                continue;
            };
            let stands = |incoming: &Incoming| now.since(incoming.heard) > patience;
            let silent = |announced: &Announced| now.since(announced.heard) > patience;
            if group.snapshots.incoming.as_deref().is_none_or(stands)
                && group.snapshots.announced.as_ref().is_none_or(silent)
            {
                (group.snapshots.incoming, group.snapshots.announced) = (None, None);
                self.store.stop_receiving(key);
                self.reception_over(key);
            }
        }
    }
}

/// The lowest few ranges of what is absent of a live set, or doubtful: what is here above the
/// commit index may be another entry of the same index, until the very one came.
fn lowest_lacking(
    live: &IndexSet,
    absent: &IndexSet,
    commit: Index,
    holes: &IndexSet,
    came: &IndexSet,
) -> IndexSet {
    let mut certain = came.clone();
    let mut committed = IndexSet::new();
    committed.insert_range(Index(1), commit);
    let committed = committed.difference(holes);
    committed.ranges().iter().for_each(|(first, last)| certain.insert_range(*first, *last));
    let doubtful = live.difference(&certain);
    let mut all = first_ranges(absent);
    let doubtful = first_ranges(&doubtful);
    doubtful.ranges().iter().for_each(|(first, last)| all.insert_range(*first, *last));
    first_ranges(&all)
}

#[cfg(test)]
mod tests {
    use super::super::live::LIVE_RANGES;
    use super::*;

    fn set(ranges: &[(u64, u64)]) -> IndexSet {
        let mut set = IndexSet::new();
        ranges.iter().for_each(|(first, last)| set.insert_range(Index(*first), Index(*last)));
        set
    }

    #[test]
    fn what_is_certain_is_committed_and_no_hole_or_came_and_is_not_asked_for() {
        let live = set(&[(2, 4), (8, 9), (20, 1 << 60)]);
        let absent = set(&[(20, 1 << 60)]);
        let lacking = |commit, holes, came| {
            lowest_lacking(&live, &absent, Index(commit), &set(holes), &set(came))
        };
        assert_eq!(lacking(10, &[], &[]), absent);
        assert_eq!(lacking(10, &[(3, 3)], &[]), set(&[(3, 3), (20, 1 << 60)]));
        assert_eq!(lacking(3, &[], &[(8, 8)]), set(&[(4, 4), (9, 9), (20, 1 << 60)]));
        let many: Vec<(u64, u64)> = (1..=1000).map(|n| (3 * n, 3 * n)).collect();
        let many = set(&many);
        let few =
            lowest_lacking(&many, &IndexSet::new(), Index(0), &IndexSet::new(), &IndexSet::new());
        assert_eq!((few.ranges().len(), few.last()), (LIVE_RANGES, Some(Index(3 * 64))));
    }
}
