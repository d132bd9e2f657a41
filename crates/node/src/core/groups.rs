//! Starting and stopping replicas.

use std::sync::Arc;

use parking_lot::Mutex;
use refloat_log_store::{GroupBoot, GroupState};
use refloat_raft_core::{Config as CoreConfig, Core, Holes, Restored, Rights, Role, SoftState};
use refloat_types::{ConfState, EntryId, GroupKey, Index, Member, Now, Term};

use super::NodeCore;
use super::effects::Reign;
use super::group::{Answer, Applier, Group, Reads, Restoring, Unwell};
use super::snapshots::Transfers;
use super::versions::Rules;
use crate::api::Output;
use crate::error::RequestError;
use crate::job::{Job, SharedMachine};

/// A replica that does not run here, and why.
#[derive(Clone, Debug)]
pub(crate) struct Asleep {
    pub(crate) state: GroupState,
    pub(crate) waits_for: Option<String>,
    pub(crate) term: Term,
    pub(crate) commit: Index,
    /// How far the machine had come when it stopped.
    pub(crate) applied: Index,
    pub(crate) last: EntryId,
    pub(crate) snapshot: EntryId,
    pub(crate) conf: ConfState,
}

impl Asleep {
    pub(crate) fn of_boot(boot: GroupBoot) -> Asleep {
        Asleep {
            state: boot.state,
            waits_for: boot.waits_for,
            term: boot.hard_state.term,
            commit: boot.commit,
            applied: boot.snapshot.index,
            last: boot.last,
            snapshot: boot.snapshot,
            conf: boot.conf,
        }
    }

    /// The error of every request to it.
    pub(crate) fn refusal(&self, key: GroupKey) -> RequestError {
        let reason = match &self.waits_for {
            Some(text) => format!("{}: {text}", self.state),
            None => self.state.to_string(),
        };
        RequestError::Unavailable { group: key.id, reason }
    }
}

impl NodeCore {
    /// Runs a replica from what the store found.
    pub(super) fn start_group(&mut self, boot: GroupBoot) {
        let me = super::rebirth::life_of_replica(self.me, &boot);
        let (key, nameless) = (boot.key, boot.value.is_none());
        self.start_group_as(boot, me);
        let slot = self.by_key.get(&key).copied().filter(|_| me != self.me);
        if let Some(slot) = slot {
            self.go_on_in_life(slot, me, nameless);
        }
    }

    pub(super) fn start_group_as(&mut self, boot: GroupBoot, me: Member) {
        let (key, snapshot) = (boot.key, boot.snapshot);
        let unwell = Unwell::of_boot(&boot);
        let lost_live = boot.lost_live.clone();
        let asleep = Asleep::of_boot(boot.clone());
        let restored = Restored {
            hard_state: boot.hard_state,
            conf: boot.conf,
            snapshot,
            terms: boot.terms,
            last: boot.last,
            commit: boot.commit,
            applied: snapshot.index,
            configs: boot.configs,
            rights: match boot.state {
                GroupState::Clean | GroupState::Damaged => Rights::ALL,
                GroupState::HeadUnknown => Rights::FOLLOW,
                GroupState::Amnesia => Rights::NONE,
            },
            holes: Holes { missing: boot.holes, may_be_config: boot.config_holes },
        };
        if !self.run_group(key, me, restored) {
            let text = "what the disk holds is not a state that a replica can have".to_owned();
            self.asleep.insert(key, Asleep { waits_for: Some(text), ..asleep });
        } else if let Some(slot) = self.by_key.get(&key).copied()
            && let Some(group) = self.slots[slot].as_mut()
        {
            group.unwell = unwell;
            if !lost_live.is_empty() {
                tracing::warn!(
                    node = %self.me.node, group = %key, entries = %lost_live,
                    "entries to which the snapshot refers are lost: asking the other members for \
                     them, and making another snapshot"
                );
                group.snapshots.renew(None);
                self.look_for_lost_live(slot);
            }
        }
    }

    /// Runs a replica of a group that has just been created.
    pub(super) fn start_new_group(&mut self, key: GroupKey, conf: &ConfState, me: Member) {
        let first = conf.voters.get(key.id.0 as usize % conf.voters.len().max(1)).copied();
        self.run_group(key, me, Restored::empty(conf.clone()));
        // Somebody must stand first. Who is drawn from the id, so that leaders spread over the
        // nodes; the others wait a whole election timeout.
        // One that should rather not lead leaves it to these.
        let mine = first == Some(me) && self.config.rank == 0;
        if let Some(slot) = self.by_key.get(&key).copied().filter(|_| mine) {
            let at = self.now().after(2 * self.config.heartbeat);
            if let Some(group) = &mut self.slots[slot] {
                group.campaign_at = Some(at);
                group.wake = Some(at);
            }
            self.timers.insert((at, slot));
        }
    }

    fn run_group(&mut self, key: GroupKey, me: Member, restored: Restored) -> bool {
        let soft = SoftState { role: Role::Follower, leader: None, term: restored.hard_state.term };
        let snapshot = restored.snapshot;
        let core = match Core::new(self.core_config(key, me), restored, self.now()) {
            Ok(core) => core,
            Err(error) => {
                tracing::error!(node = %self.me.node, group = %key, %error, "replica not started");
                return false;
            }
        };
        let slot = self.slots.len();
        let machine = self.new_machine(key);
        let (machine_at, newest, has_effects) = {
            let mut machine = machine.lock();
            let newest = machine.versions().map_or(0, |versions| versions.newest());
            (machine.applied(), newest, machine.effects().is_some())
        };
        self.slots.push(Some(Group {
            key,
            me,
            core,
            soft,
            dirty: false,
            wake: None,
            campaign_at: None,
            unwell: None,
            rebirth: None,
            dismissed_by: None,
            catch_up: Vec::new(),
            dropped: Default::default(),
            taking_in: None,
            proposals: Vec::new(),
            parked: Default::default(),
            waiting: Default::default(),
            reads: Reads::default(),
            hand_over: None,
            apply: Applier {
                machine,
                next_machine: None,
                machine_at,
                committed: snapshot.index,
                applied: EntryId::ZERO,
                busy: false,
                restoring: if snapshot == EntryId::ZERO {
                    Restoring::No
                } else {
                    Restoring::Wanted(snapshot)
                },
                changes_members: false,
                fetching: None,
                careful: false,
                unreadable: false,
                batch: Vec::new(),
                asked: Vec::new(),
                entries: 0,
                bytes: 0,
            },
            reign: Reign::of(has_effects),
            rules: Rules::of(newest),
            quiet: None,
            snapshots: Transfers::after(snapshot),
            bulk_until: Now(0),
        }));
        if self.disk_hangs
            && let Some(group) = self.slots[slot].as_mut()
        {
            group.core.disk_hangs(self.time.now, None);
        }
        self.by_id.insert(key.id, slot);
        self.by_key.insert(key, slot);
        self.mark(slot);
        true
    }

    fn core_config(&self, key: GroupKey, me: Member) -> CoreConfig {
        let mut config = CoreConfig::new(me, key);
        config.election_timeout = self.config.election_timeout;
        config.heartbeat = self.config.heartbeat;
        config.rank = self.config.rank;
        config.lease_drift = self.config.lease_drift;
        config.quiet_after = self.config.quiet_after;
        config.max_append_bytes = self.config.max_append_bytes;
        config.max_inflight_msgs = self.config.max_inflight_msgs;
        config.max_inflight_bytes = self.config.max_inflight_bytes;
        config.max_uncommitted_bytes = self.config.max_uncommitted_bytes;
        config.run = self.identity.run;
        config.seed = mix(mix(self.seed ^ mix(key.id.0)) ^ self.me.node.0.rotate_left(17));
        config
    }

    /// A machine of the user's; group 0's is the catalog, which the node itself looks into.
    pub(super) fn new_machine(&mut self, key: GroupKey) -> SharedMachine {
        if key == GroupKey::META {
            return Arc::new(Mutex::new(Box::new(super::catalog::Catalog::default())));
        }
        Arc::new(Mutex::new((self.machines)(key)))
    }

    /// Ends a replica in this process: its machine failed. Its log stays; the other groups go on.
    pub(super) fn halt_group(&mut self, slot: usize, reason: String) {
        self.stop_group(slot, format!("stopped, restart the node: {reason}"));
    }

    /// Ends a replica in this process; what it waits for says why, and what to do.
    pub(super) fn stop_group(&mut self, slot: usize, waits_for: String) {
        let Some(group) = self.slots[slot].take() else { return };
        let key = group.key;
        tracing::error!(node = %self.me.node, group = %key, waits_for, "group stopped");
        let status = group.core.status();
        let asleep = Asleep {
            state: GroupState::Clean,
            waits_for: Some(waits_for),
            term: status.term,
            commit: status.commit,
            applied: group.apply.applied.index,
            last: status.last,
            snapshot: group.snapshots.published,
            conf: status.conf,
        };
        let refusal = asleep.refusal(key);
        self.asleep.insert(key, asleep);
        self.forget_group(slot, group, refusal);
    }

    /// Answers all that waits for a replica that is gone, and drops every trace of it.
    pub(super) fn forget_group(&mut self, slot: usize, mut group: Group, refusal: RequestError) {
        self.flow.forget(slot);
        self.reception_over(group.key);
        self.forget_live(slot, &refusal);
        self.forget_quiet(slot, group.quiet.as_ref());
        self.by_key.remove(&group.key);
        self.unregistered.remove(&slot);
        self.starved.remove(&slot);
        if self.by_id.get(&group.key.id) == Some(&slot) {
            self.by_id.remove(&group.key.id);
        }
        if let Some(at) = group.wake {
            self.timers.remove(&(at, slot));
        }
        let unknown = RequestError::Unknown { group: group.key.id };
        for waiting in group.waiting.drain(..) {
            self.answer(waiting.answer, waiting.bytes, Err(unknown.clone()));
        }
        for proposal in group.proposals.drain(..).chain(group.parked.drain(..)) {
            let bytes = proposal.payload.len() as u64;
            self.answer(proposal.answer, bytes, Err(refusal.clone()));
        }
        let mut tokens = group.reads.take_all();
        tokens.append(&mut group.apply.asked);
        for token in tokens {
            self.answer(Answer::Local(token), 0, Err(refusal.clone()));
        }
        let transfer = group.hand_over.take().map(|hand_over| hand_over.to);
        for token in group.snapshots.take_clients().into_iter().chain(transfer) {
            self.answer(Answer::Local(token), 0, Err(refusal.clone()));
        }
        // Its state may be large: this thread, on which all groups run, does not drop it.
        if !self.over {
            let remains = (group.apply.machine, group.apply.next_machine);
            self.out.push(Output::Job(Job::let_go(group.key, remains)));
        }
    }

    /// Puts a group on the list of those that the turn looks at.
    pub(super) fn mark(&mut self, slot: usize) {
        if let Some(group) = self.slots[slot].as_mut().filter(|group| !group.dirty) {
            group.dirty = true;
            self.dirty.push(slot);
        }
    }

    pub(super) fn group(&mut self, slot: usize) -> Option<&mut Group> {
        self.slots.get_mut(slot)?.as_mut()
    }
}

/// A good spread of bits (the finaliser of SplitMix64).
pub(super) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
