//! The end of a node: in order, or at once.

use std::collections::BTreeSet;

use refloat_types::{NodeId, Now};

use super::NodeCore;
use crate::api::Output;
use crate::error::{RequestError, StopReason};

/// An orderly end under way.
pub(crate) struct Stopping {
    /// Leaderships are handed over until then at the latest.
    pub(crate) deadline: Now,
    /// Groups whose leadership is being handed over.
    handing: BTreeSet<usize>,
    closing: bool,
}

impl NodeCore {
    pub(super) fn begin_shutdown(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        let deadline = self.now().after(self.config.election_timeout);
        let mut handing = BTreeSet::new();
        let now = self.now();
        for slot in 0..self.slots.len() {
            let Some(target) = self.successor(slot) else { continue };
            if let Some(group) = self.slots[slot].as_mut() {
                // A group that cannot be handed over elects a leader by its timeout.
                let _ = group.core.transfer_leader(now, target);
                self.mark(slot);
                handing.insert(slot);
            }
        }
        self.stopping = Some(Stopping { deadline, handing, closing: false });
    }

    /// Whether somebody else leads a group, so that this node's vote is not needed any more.
    fn is_handed_over(&self, slot: usize) -> bool {
        let group = self.slots[slot].as_ref();
        group.is_none_or(|group| group.leader().is_some_and(|node| node != self.me.node))
    }

    /// The member that has most of a group's log and is connected.
    pub(super) fn successor(&self, slot: usize) -> Option<NodeId> {
        let group = self.slots[slot].as_ref().filter(|group| group.is_leader())?;
        let status = group.core.status();
        status
            .progress
            .iter()
            .filter(|p| p.member != group.me && status.conf.is_voter(p.member))
            .filter(|p| self.peers.get(&p.member.node).is_some_and(|peer| peer.up))
            .max_by_key(|p| (p.matched, std::cmp::Reverse(p.member.node)))
            .map(|p| p.member.node)
    }

    pub(super) fn go_on_stopping(&mut self) {
        let now = self.now();
        let Some(stopping) = self.stopping.as_ref() else { return };
        let handed = stopping.handing.iter().all(|slot| self.is_handed_over(*slot));
        let busy = self.slots.iter().flatten().any(|group| group.apply.busy);
        let Some(stopping) = self.stopping.as_mut() else { return };
        if !stopping.closing {
            let drained = handed && self.pending == 0 && !busy;
            if !drained && now < stopping.deadline {
                return;
            }
            stopping.closing = true;
            stopping.deadline = Now(u64::MAX);
            self.store.close();
        }
        if self.store.is_closed() {
            self.end(StopReason::Shutdown);
        }
    }

    /// A write failed: nothing may be promised any more.
    pub(super) fn poison(&mut self, cause: String) {
        if !self.over {
            tracing::error!(node = %self.me.node, cause, "poisoned");
            self.end(StopReason::Poisoned(cause));
        }
    }

    /// Answers everybody and falls silent.
    pub(super) fn end(&mut self, reason: StopReason) {
        self.over = true;
        for slot in 0..self.slots.len() {
            if let Some(group) = self.slots[slot].take() {
                self.forget_group(slot, group, RequestError::Stopped);
            }
        }
        let peers: Vec<NodeId> = self.peers.keys().copied().collect();
        for node in peers {
            self.forwards_lost(node);
        }
        // Nothing that may rest on the failed write leaves this node.
        if reason != StopReason::Shutdown {
            self.out.retain(|output| matches!(output, Output::Reply { .. }));
        }
        // Told last, behind the answers and frames of this turn.
        self.ended = Some(reason);
    }

    /// Whether the node closes its log: nothing may be written any more.
    pub(super) fn is_closing(&self) -> bool {
        self.stopping.as_ref().is_some_and(|stopping| stopping.closing)
    }
}
