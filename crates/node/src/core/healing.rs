//! Replicas that miss something: what the core says of them, and where it is kept.

use refloat_log_store::GroupState;
use refloat_raft_core::{Alarm, Holes};
use refloat_types::{EntryId, GroupKey, Index, IndexSet};

use super::envelope::Unwelcome;
use super::group::{Restoring, Unwell};
use super::{NodeCore, Order};

impl NodeCore {
    /// Nothing is missing any more. The record goes behind the entries that made it so.
    pub(super) fn healed(&mut self, slot: usize) {
        let Some(group) = self.slots[slot].as_mut() else { return };
        let Some(unwell) = group.unwell.take() else { return };
        tracing::info!(
            node = %self.me.node, group = %group.key, was = %unwell.state, "replica is whole again"
        );
        self.order(Order::Healed { slot });
    }

    /// This replica's leader remembers more of it than it does.
    pub(super) fn forgot(&mut self, slot: usize) {
        let Some(group) = self.slots[slot].as_mut() else { return };
        let evidence = "it lost entries that it had acknowledged, as its leader remembers";
        tracing::error!(node = %self.me.node, group = %group.key, evidence, "replica forgot");
        group.unwell = Some(Unwell { state: GroupState::Amnesia, evidence: evidence.to_owned() });
        self.order(Order::Amnesia { slot, evidence });
        self.be_reborn(slot, evidence);
    }

    pub(super) fn alarms(&mut self, slot: usize, alarms: &[Alarm]) {
        let Some(group) = self.slots[slot].as_ref() else { return };
        let mut shared = Vec::new();
        for alarm in alarms {
            match alarm {
                Alarm::Regression { member, acked, last } => tracing::error!(
                    node = %self.me.node, group = %group.key, member = %member.node,
                    %acked, %last,
                    "a replica lost what it had acknowledged: its disk lost a flush, or an old \
                     copy of its directory was started"
                ),
                Alarm::SharedRun { member, run, nonce } => {
                    tracing::error!(
                        node = %self.me.node, group = %group.key, member = %member.node, run,
                        "two processes run from copies of one data directory"
                    );
                    shared.push((*member, *run, *nonce));
                }
                other => tracing::error!(node = %self.me.node, group = %group.key, ?other, "alarm"),
            }
        }
        // Whoever said it last is the second one, and hears this.
        for (member, run, nonce) in shared {
            let heard = self.peers.get(&member.node).and_then(|peer| peer.member);
            let whom = heard.filter(|heard| member.is_of(*heard)).unwrap_or(member);
            self.refuse(whom, run, Unwelcome::RunTaken { seen: run, nonce });
        }
    }

    /// An entry that the log names could not be read: rot, found while the node runs. Any member
    /// may give it; if it is applied, a snapshot of the own machine cures it as well. `false`:
    /// there is one already, and nobody needs the entry.
    pub(super) fn unreadable(&mut self, slot: usize, index: Index, reason: String) -> bool {
        let now = self.now();
        let Some(group) = self.slots[slot].as_mut() else { return false };
        if index <= group.snapshots.published.index {
            return false;
        }
        if index <= group.apply.applied.index {
            group.snapshots.renew(None);
        }
        tracing::warn!(
            node = %self.me.node, group = %group.key, %index, reason,
            "an entry cannot be read here: asking the other members for it"
        );
        let mut missing = IndexSet::new();
        missing.insert(index);
        let config = self.store.is_config(group.key, index);
        let may_be_config = if config { missing.clone() } else { IndexSet::new() };
        group.core.on_damage(now, &Holes { may_be_config, missing });
        group.unwell.get_or_insert(Unwell { state: GroupState::Damaged, evidence: reason });
        true
    }

    /// The background found bytes that are not what they were. What the state machine has applied
    /// is cured by a new snapshot of it, without any other member; the rest is asked for.
    pub(super) fn rot(
        &mut self,
        key: Option<GroupKey>,
        entries: &Holes,
        snapshot: Option<EntryId>,
        evidence: String,
    ) {
        let now = self.now();
        tracing::warn!(node = %self.me.node, group = ?key, evidence, "rot found on the disk");
        let slot = key.and_then(|key| self.by_key.get(&key).copied());
        let Some(group) = slot.and_then(|slot| self.slots[slot].as_mut()) else { return };
        // The machine may not have been restored yet.
        let applied = group.apply.applied.index.max(group.snapshots.published.index);
        let above = |set: &IndexSet| {
            let mut above = set.clone();
            above.remove_range(Index(1), applied);
            above
        };
        let missing = Holes {
            missing: above(&entries.missing),
            may_be_config: above(&entries.may_be_config),
        };
        if missing.missing != entries.missing || snapshot.is_some() {
            group.snapshots.renew(snapshot);
        }
        if !missing.missing.is_empty() {
            group.core.on_damage(now, &missing);
            group.unwell.get_or_insert(Unwell { state: GroupState::Damaged, evidence });
        }
        if let Some(slot) = slot {
            self.look_for_lost_live(slot);
            self.mark(slot);
        }
    }

    /// The snapshot that a machine was to be restored from cannot be read any more. It stands for
    /// what is compacted, so another member has one that reaches as far, or makes it when asked;
    /// without one a start may still find an older snapshot and the log above it.
    pub(super) fn snapshot_lost(&mut self, slot: usize, id: EntryId, reason: String) {
        let now = self.now();
        let Some(group) = self.slots[slot].as_mut() else { return };
        group.apply.busy = false;
        if group.apply.restoring != Restoring::Running(id) {
            return self.mark(slot); // a newer one took its place
        }
        let alone = group.core.conf().iter().all(|member| member == group.me);
        if alone || !self.store.lose_snapshot(group.key, id) {
            return self.halt_group(slot, reason);
        }
        tracing::warn!(
            node = %self.me.node, group = %group.key, %id, reason,
            "a snapshot rotted before its use: asking the other members for one"
        );
        group.apply.restoring = Restoring::Lost(id);
        group.snapshots.lost = Some(reason);
        group.core.on_state_lost(now);
        self.mark(slot);
    }

    /// The machine is restored.
    pub(super) fn snapshot_found(&mut self, slot: usize) {
        let now = self.now();
        let Some(group) = self.slots[slot].as_mut() else { return };
        if group.snapshots.lost.take().is_some() {
            tracing::info!(node = %self.me.node, group = %group.key, "the state is there again");
            group.core.on_state_back(now);
        }
    }

    /// Whether the next entry to apply is one that others were asked for.
    pub(super) fn waits_for_a_hole(&mut self, slot: usize) -> bool {
        let Some(group) = self.slots[slot].as_mut().filter(|g| g.apply.unreadable) else {
            return false;
        };
        let next = group.apply.applied.index.next();
        group.apply.unreadable = group.core.status().holes.contains(next);
        group.apply.unreadable
    }
}
