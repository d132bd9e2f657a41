//! One turn: what all groups want, gathered into one write, few frames and some jobs.

use refloat_log_store::{Event, Read, SubmitError};
use refloat_raft_core::{Fetch, Fetched, Holes, Persist, Ready, Role};
use refloat_types::{Entry, EntryId, GroupWrite};

use super::space::Load;
use super::{Durable, NodeCore, Stalled, Wanted, Write};
use crate::api::Output;
use crate::job::Job;

impl NodeCore {
    /// Everything that is due, until nothing is.
    pub(super) fn work(&mut self) {
        if !self.is_closing() {
            self.fire_timers();
        }
        loop {
            self.durable_notices();
            self.store_events();
            if self.over {
                return;
            }
            self.watch_disk();
            if self.dirty.is_empty() || self.is_closing() {
                break;
            }
            let dirty = std::mem::take(&mut self.dirty);
            for slot in &dirty {
                self.turn_group(*slot);
            }
            self.submit_writes();
            self.let_in = Load::default();
            // What is committed can be read only once it is submitted.
            for slot in dirty {
                self.pump(slot);
            }
        }
        self.send_in_turn();
        self.go_on_stopping();
        self.tell_places();
        self.beat_for_quiet_groups();
        self.send_frames();
        while let Some(job) = self.store.poll_job(self.time.now) {
            self.out.push(Output::Job(Job::store(job)));
        }
    }

    fn fire_timers(&mut self) {
        let now = self.now();
        while let Some((at, slot)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, slot));
            let Some(group) = self.slots[slot].as_mut() else { continue };
            group.wake = None;
            if group.campaign_at.is_some_and(|at| at <= now) {
                group.campaign_at = None;
                if group.soft.leader.is_none() {
                    group.core.campaign(now);
                }
            }
            group.core.tick(now);
            self.fire_machine_timers(slot);
            self.mark(slot);
        }
        if now >= self.next_sweep && self.needs_sweep() {
            self.sweep();
            self.submit_writes();
            self.feed_starved();
        }
        self.go_on_looking();
        self.listen_for_beats();
        self.announce_if_due();
        self.say_arrival();
        self.say_rebirths();
        self.tend_if_due();
        self.tend_versions_if_due();
    }

    /// Steps one group until it has nothing to say.
    pub(super) fn turn_group(&mut self, slot: usize) {
        let Some(group) = self.slots[slot].as_mut() else { return };
        group.dirty = false;
        self.flush_proposals(slot);
        self.flush_reads(slot);
        while let Some(ready) = self.slots[slot].as_mut().and_then(|group| group.core.ready()) {
            self.carry_out(slot, ready);
        }
        self.note_quiet(slot);
        self.set_timer(slot);
    }

    fn carry_out(&mut self, slot: usize, ready: Ready) {
        if let Some(soft) = ready.soft {
            self.soft_changed(slot, soft);
        }
        if let Some(persist) = ready.persist {
            self.persist(slot, persist, ready.install);
        }
        if ready.healed {
            self.healed(slot);
        }
        if ready.amnesia {
            self.forgot(slot);
        }
        self.alarms(slot, &ready.alarms);
        for message in &ready.messages {
            self.send_raft(slot, message);
        }
        if let Some(group) = self.slots[slot].as_mut() {
            group.core.reuse(ready.messages);
        }
        if !ready.fetch.is_empty() {
            // They may be among what this turn writes.
            self.submit_writes();
            for fetch in ready.fetch {
                self.fetch(slot, fetch);
            }
        }
        if let Some((_, last)) = ready.committed
            && let Some(group) = self.slots[slot].as_mut()
        {
            group.apply.committed = group.apply.committed.max(last);
        }
        for read in ready.reads {
            self.reads_confirmed(slot, read.id, read.index);
        }
        if ready.make_snapshot
            && let Some(group) = self.slots[slot].as_mut()
        {
            group.snapshots.renew(None);
        }
        self.reads_failed(slot, &ready.failed_reads);
        for member in ready.send_snapshot {
            self.send_snapshot(slot, member);
        }
    }

    fn soft_changed(&mut self, slot: usize, soft: refloat_raft_core::SoftState) {
        let Some(group) = self.slots[slot].as_mut() else { return };
        let won = soft.role == Role::Leader && !group.is_leader();
        let deposed = group.is_leader() && (soft.role != Role::Leader || soft.term != group.term());
        tracing::debug!(
            node = %self.me.node, group = %group.key, term = %soft.term, role = ?soft.role,
            leader = ?soft.leader, "role changed"
        );
        group.soft = soft;
        self.counters.role_changes += 1;
        self.counters.elections_won += u64::from(won);
        group.dropped.clear();
        (group.catch_up, group.taking_in) = (Vec::new(), None);
        group.reign.end();
        group.rules.forget();
        group.snapshots.refusals.clear();
        if soft.leader.is_some() {
            group.dismissed_by = None;
        }
        if soft.leader.is_some() {
            let parked = std::mem::take(&mut group.parked);
            for proposal in parked {
                self.route(slot, proposal);
            }
            self.flush_proposals(slot);
            self.flush_reads(slot);
        }
        self.tend_hand_over(slot);
        if deposed {
            self.end_transfers(slot);
        }
        if won {
            self.tend_now();
            self.versions_at = Some(self.now());
        }
    }

    fn persist(
        &mut self,
        slot: usize,
        persist: Persist,
        install: Option<(EntryId, refloat_types::ConfState)>,
    ) {
        let Some(key) = self.slots[slot].as_ref().map(|group| group.key) else { return };
        let mut hard_state = persist.hard_state;
        let mut ops = persist.log.into_iter().flatten().peekable();
        let ticket = persist.ticket;
        while ops.peek().is_some() || hard_state.is_some() {
            let write = GroupWrite { group: key, hard_state: hard_state.take(), log: ops.next() };
            let ticket = (ops.peek().is_none() && install.is_none()).then_some(ticket);
            self.writes.push(Write { slot, write, ticket });
        }
        match install {
            Some((id, conf)) => {
                self.install(slot, id, conf, ticket);
            }
            None if self
                .writes
                .last()
                .is_none_or(|w| w.slot != slot || w.ticket != Some(ticket)) =>
            {
                let write = GroupWrite { group: key, hard_state: None, log: None };
                self.writes.push(Write { slot, write, ticket: Some(ticket) });
            }
            None => {}
        }
    }

    /// Hands all writes of the turn to the store: one submission, one ticket.
    pub(super) fn submit_writes(&mut self) {
        self.hold_unregistered();
        if !self.stalled.is_empty() {
            self.stalled.extend(self.writes.drain(..).map(Stalled::Write));
            return self.retry_stalled();
        }
        if self.writes.is_empty() {
            return;
        }
        let mut writes = std::mem::take(&mut self.writes);
        let batch: Vec<GroupWrite> = writes.iter_mut().map(take_write).collect();
        match self.store.submit(self.time.now, &batch) {
            Ok(ticket) => {
                for write in &writes {
                    if let Some(persisted) = write.ticket {
                        self.await_ticket(ticket, Durable::Persisted(write.slot, persisted));
                    }
                }
                writes.clear();
                self.writes = writes; // its room is used again
            }
            Err(error) => {
                // Some of the batch may have been taken. Writing it once more says the same thing.
                for (write, content) in writes.iter_mut().zip(batch) {
                    write.write = content;
                }
                self.submit_failed(&error);
                self.stalled.extend(writes.into_iter().map(Stalled::Write));
                self.retry_stalled();
            }
        }
    }

    /// What a refused write means for the node.
    pub(super) fn submit_failed(&mut self, error: &SubmitError) {
        match error {
            SubmitError::Poisoned(poisoned) => self.poison(poisoned.reason.clone()),
            SubmitError::NoSpace => {
                tracing::warn!(node = %self.me.node, "no space left: proposals are refused");
            }
            SubmitError::Backlog { .. } | SubmitError::NotYet { .. } => {
                tracing::warn!(node = %self.me.node, %error, "proposals are refused");
            }
            _ => tracing::error!(node = %self.me.node, %error, "write refused"),
        }
    }

    /// Tells the cores what became durable.
    fn durable_notices(&mut self) {
        let durable = self.store.durable();
        while let Some(awaited) = self.tickets.pop_front_if(|a| a.ticket <= durable) {
            match awaited.what {
                Durable::Persisted(slot, ticket) => {
                    let now = self.now();
                    if let Some(group) = self.slots[slot].as_mut() {
                        group.core.on_persisted(now, ticket);
                        self.mark(slot);
                    }
                }
                Durable::Formation(lives) => self.formation_stored(lives),
                Durable::Registered(slot) => self.registered(slot),
                Durable::Installed(slot) => self.mark(slot),
                Durable::NewLife(slot) => self.life_noted(slot),
            }
        }
    }

    fn store_events(&mut self) {
        for event in self.store.take_events() {
            match event {
                Event::Read { request, result } => self.entries_read(request, result),
                Event::SnapshotWritten { group, id } => self.snapshot_published(group, id),
                Event::SnapshotFailed { group, reason } => self.snapshot_failed(group, reason),
                Event::SnapshotChunk { request, result } => self.chunk_read(request, result),
                Event::SnapshotProgress { group, id, next_chunk } => {
                    self.snapshot_progress(group, id, next_chunk);
                }
                Event::SnapshotRefused { group, id, reason } => {
                    self.snapshot_refused(group, id, reason);
                }
                Event::SnapshotReceived { group, meta } => self.snapshot_received(group, meta),
                Event::Rot { evidence, group, entries, configs, snapshot } => {
                    let missing = Holes { missing: entries, may_be_config: configs };
                    self.rot(group, &missing, snapshot, evidence);
                }
                _ => {}
            }
        }
    }

    /// Answers a core that wants entries which it no longer holds.
    fn fetch(&mut self, slot: usize, fetch: Fetch) {
        let now = self.now();
        let Some(group) = self.slots[slot].as_mut() else { return };
        let answer = match self.store.read(group.key, fetch.first, fetch.last, fetch.max_bytes) {
            Read::Entries(entries) => Fetched::Entries(entries),
            Read::Later(request) => {
                self.fetches.insert(request, Wanted::Core(slot, fetch));
                return;
            }
            Read::Compacted => Fetched::Compacted { up_to: group.snapshots.published.index },
            _ => Fetched::Failed,
        };
        group.core.on_fetched(now, fetch.id, answer);
        self.mark(slot);
    }

    /// Entries that a core wants are read, or are not.
    fn fetched(&mut self, slot: usize, fetch: Fetch, result: Result<Vec<Entry>, String>) {
        let (now, first) = (self.now(), fetch.first);
        let answer = match result {
            Ok(entries) => Fetched::Entries(entries),
            // Of many that are read at once any may be the rotten one.
            Err(_) if fetch.last > first => {
                return self.fetch(slot, Fetch { last: first, ..fetch });
            }
            Err(reason) => match self.unreadable(slot, first, reason) {
                true => Fetched::Failed,
                false => {
                    let Some(group) = self.slots[slot].as_ref() else { return };
                    Fetched::Compacted { up_to: group.snapshots.published.index }
                }
            },
        };
        let Some(group) = self.slots[slot].as_mut() else { return };
        group.core.on_fetched(now, fetch.id, answer);
        self.mark(slot);
    }

    fn entries_read(
        &mut self,
        request: refloat_log_store::RequestId,
        result: Result<Vec<Entry>, String>,
    ) {
        match self.fetches.remove(&request) {
            Some(Wanted::Apply(slot)) => self.apply_read(slot, request, result),
            Some(Wanted::Core(slot, fetch)) => self.fetched(slot, fetch, result),
            Some(Wanted::Kept(kept)) => self.kept_fetched(kept, result),
            Some(Wanted::Chunk(..)) | None => {}
        }
    }

    pub(super) fn store_done(&mut self, done: refloat_log_store::Done) {
        if let Err(poisoned) = self.store.complete(self.time.now, done) {
            self.poison(poisoned.reason);
        }
    }

    /// Registers the group's next timer, if it moved closer. One that moved away fires early,
    /// finds nothing due, and is registered anew.
    fn set_timer(&mut self, slot: usize) {
        let grain = self.config.timer_grain.max(1);
        let Some(group) = self.slots[slot].as_mut() else { return };
        let own = group.core.wake_at().into_iter().chain(group.campaign_at);
        let due = own.chain(group.reign.wake_at()).min();
        let Some(due) = due else { return };
        let due = refloat_types::Now(due.0.div_ceil(grain).saturating_mul(grain));
        if let Some(at) = group.wake {
            if at <= due {
                return;
            }
            self.timers.remove(&(at, slot));
        }
        group.wake = Some(due);
        self.timers.insert((due, slot));
    }
}

fn take_write(write: &mut Write) -> GroupWrite {
    let empty = GroupWrite { group: write.write.group, hard_state: None, log: None };
    std::mem::replace(&mut write.write, empty)
}
