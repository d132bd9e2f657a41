//! What snapshots may take of a node: bytes a second, bytes in memory, receptions at once.
//!
//! Sending, the transfers of all groups take turns. A turn asks the disk for one chunk; it waits
//! until the rate allows it and the bytes that are asked for and not acknowledged leave room.
//! Receiving, so many groups take in a snapshot at once; others are told to wait, and invited when
//! there is room.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use refloat_types::{EntryId, GroupKey, NodeId, Now};

/// How far the sender may fall behind its rate and catch up at once, in microseconds.
const BURST: u64 = 50_000;

/// One transfer to a peer: the group's slot, and the peer.
pub(super) type Transfer = (usize, NodeId);

/// A node's side of all transfers.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// Transfers to peers.
    pub(super) sending: BTreeSet<Transfer>,
    /// Those that have something to send, in turn.
    turns: VecDeque<Transfer>,
    /// Before then the next bytes may not leave.
    next_at: Now,
    /// Groups that take a snapshot in.
    pub(super) receiving: BTreeSet<GroupKey>,
    /// Who offered one and was told to wait, in order.
    waiting: VecDeque<GroupKey>,
    offered: BTreeMap<GroupKey, (NodeId, EntryId)>,
}

impl Flow {
    /// Whether anything is under way.
    pub(super) fn is_busy(&self) -> bool {
        !self.sending.is_empty() || !self.receiving.is_empty()
    }

    /// Gives a transfer a turn, unless it waits for one.
    pub(super) fn want_turn(&mut self, transfer: Transfer) {
        if !self.turns.contains(&transfer) {
            self.turns.push_back(transfer);
        }
    }

    pub(super) fn next_turn(&mut self) -> Option<Transfer> {
        self.turns.front().copied()
    }

    pub(super) fn turn_over(&mut self) {
        self.turns.pop_front();
    }

    /// Whether a transfer waits for the others, the rate or room.
    pub(super) fn awaits_turn(&self, transfer: Transfer) -> bool {
        self.turns.contains(&transfer)
    }

    /// Forgets a transfer.
    pub(super) fn sent(&mut self, transfer: Transfer) {
        self.sending.remove(&transfer);
        self.turns.retain(|turn| *turn != transfer);
    }

    /// A replica is gone, and its transfers with it.
    pub(super) fn forget(&mut self, slot: usize) {
        self.sending.retain(|transfer| transfer.0 != slot);
        self.turns.retain(|transfer| transfer.0 != slot);
    }

    /// Whether the rate lets bytes leave now.
    pub(super) fn is_due(&self, now: Now) -> bool {
        self.next_at <= now
    }

    /// Bytes leave. A rate of 0 is none.
    pub(super) fn spend(&mut self, now: Now, bytes: u64, rate: u64) {
        let Some(takes) = bytes.saturating_mul(1_000_000).checked_div(rate) else { return };
        let begin = self.next_at.max(Now(now.0.saturating_sub(BURST)));
        self.next_at = begin.after(takes.max(1));
    }

    /// When the rate lets go on whoever has a turn. What waits for room in memory is woken by an
    /// acknowledgement.
    pub(super) fn wake_at(&self, now: Now) -> Option<Now> {
        (!self.turns.is_empty() && self.next_at > now).then_some(self.next_at)
    }

    /// Takes a group in, if fewer than `most` are.
    pub(super) fn begin_receiving(&mut self, group: GroupKey, most: usize) -> bool {
        if !self.receiving.contains(&group) && self.receiving.len() >= most.max(1) {
            return false;
        }
        self.offered.remove(&group);
        self.receiving.insert(group);
        true
    }

    /// Remembers an offer for which there is no room.
    pub(super) fn let_wait(&mut self, group: GroupKey, from: NodeId, id: EntryId) {
        if self.offered.insert(group, (from, id)).is_none() && !self.waiting.contains(&group) {
            self.waiting.push_back(group);
        }
    }

    /// A group's reception is over. Answers who may offer again.
    pub(super) fn received(&mut self, group: GroupKey) -> Option<(GroupKey, NodeId, EntryId)> {
        if !self.receiving.remove(&group) {
            return None;
        }
        while let Some(next) = self.waiting.pop_front() {
            if let Some((from, id)) = self.offered.remove(&next) {
                return Some((next, from, id));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use refloat_types::{Epoch, GroupId};

    #[test]
    fn the_rate_is_kept_over_time_and_an_idle_sender_saves_up_little() {
        let (mut flow, mut now, mut sent) = (Flow::default(), Now(10_000_000), 0u64);
        let (rate, chunk) = (1_000_000, 10_000);
        let end = now.after(2_000_000);
        while now < end {
            while flow.is_due(now) {
                flow.spend(now, chunk, rate);
                sent += chunk;
            }
            now = now.after(1_000);
        }
        let most = 2 * rate + rate * BURST / 1_000_000 + chunk;
        assert!((2 * rate - chunk..=most).contains(&sent), "{sent}");
        flow.spend(now, u64::MAX, 0);
        assert!(flow.is_due(now.after(1_000)), "no rate, no wait");
    }

    #[test]
    fn receptions_beyond_the_bound_wait_in_order_and_each_is_invited_once() {
        let key = |id| GroupKey::new(GroupId(id), Epoch(1));
        let mut flow = Flow::default();
        assert!(flow.begin_receiving(key(1), 1));
        for id in [2, 3, 2] {
            assert!(!flow.begin_receiving(key(id), 1));
            flow.let_wait(key(id), NodeId(9), EntryId::ZERO);
        }
        assert_eq!(flow.received(key(1)).map(|next| next.0), Some(key(2)));
        assert_eq!(flow.received(key(1)), None, "it is over already");
        assert!(flow.begin_receiving(key(3), 1), "one that did not wait for its invitation");
        assert_eq!(flow.received(key(3)), None);
    }
}
