//! Committed entries on their way into the state machines, and replies on their way out.

use std::any::Any;

use refloat_log_store::{Read, RequestId};
use refloat_types::{Entry, EntryId, EntryKind, GroupKey, Index};

use super::catalog::Catalog;
use super::group::{Answer, Group, Restoring};
use super::{NodeCore, Wanted};
use crate::api::{Output, Reply, Token};
use crate::error::RequestError;
use crate::job::{Job, MachineAnswers, MachineDone, MachineFailure, MachineJob};
use crate::machine::{Command, Query, StateMachine};

impl NodeCore {
    /// Gives a group's machine its next work, if it is free and there is some.
    pub(super) fn pump(&mut self, slot: usize) {
        let waits_for_a_hole = self.waits_for_a_hole(slot);
        let Some(group) = self.slots[slot].as_ref() else { return };
        let apply = &group.apply;
        if apply.busy || apply.fetching.is_some() {
            return;
        }
        match apply.restoring {
            Restoring::Wanted(id) => return self.restore_machine(slot, id),
            Restoring::Lost(_) => return self.refuse_stale_reads(slot),
            Restoring::No | Restoring::Running(_) => {}
        }
        let (first, committed) = (apply.applied.index.next(), apply.committed);
        // A snapshot that waited for a moment without work might wait for ever, and so might who
        // asks for what is here while the next entry is nowhere.
        if waits_for_a_hole || first > committed || self.wants_capture(slot) {
            return self.ask_machine(slot, Vec::new(), None);
        }
        let last = if apply.careful { first } else { committed }.min(self.written_to(slot));
        if first > last {
            // The sweep comes back to it; who asks for what is here does not wait.
            return self.ask_machine(slot, Vec::new(), None);
        }
        let Some(group) = self.slots[slot].as_mut() else { return };
        let key = group.key;
        match self.store.read(key, first, last, self.config.max_apply_bytes) {
            Read::Entries(entries) => self.apply_entries(slot, entries),
            Read::Later(request) => {
                group.apply.fetching = Some(request);
                self.fetches.insert(request, Wanted::Apply(slot));
            }
            Read::Compacted => {
                let text = format!("entry {first}, which is to be applied, is compacted");
                self.halt_group(slot, text);
            }
            // Written, but not taken by a full disk yet: the sweep comes back to it.
            _ => {}
        }
    }

    /// There is no state to ask, and who may get an old one waits for nothing.
    fn refuse_stale_reads(&mut self, slot: usize) {
        let Some(group) = self.slots[slot].as_mut() else { return };
        let (id, stale) = (group.key.id, std::mem::take(&mut group.reads.stale));
        for read in stale {
            let reason = "the state of this replica cannot be read".to_owned();
            let error = RequestError::Unavailable { group: id, reason };
            self.answer(Answer::Local(read.to), 0, Err(error));
        }
    }

    pub(super) fn apply_read(
        &mut self,
        slot: usize,
        request: RequestId,
        result: Result<Vec<Entry>, String>,
    ) {
        let Some(group) = self.slots[slot].as_mut() else { return };
        if group.apply.fetching != Some(request) {
            return;
        }
        group.apply.fetching = None;
        let careful = std::mem::replace(&mut group.apply.careful, result.is_err());
        match result {
            Ok(entries)
                if entries.first().map(|e| e.id.index)
                    == Some(group.apply.applied.index.next()) =>
            {
                self.apply_entries(slot, entries);
                self.mark(slot);
            }
            Ok(_) => self.mark(slot),
            Err(_) if !careful => self.mark(slot),
            Err(reason) => {
                let first = group.apply.applied.index.next();
                group.apply.unreadable = true;
                self.unreadable(slot, first, reason);
                self.mark(slot);
            }
        }
    }

    fn apply_entries(&mut self, slot: usize, mut entries: Vec<Entry>) {
        let Some(group) = self.slots[slot].as_mut() else { return };
        // What is in memory may reach beyond what is committed.
        entries.retain(|entry| entry.id.index <= group.apply.committed);
        if let Some(bad) = entries.iter().find(|entry| !entry.is_intact()) {
            let text = format!("entry {} does not match its digest", bad.id);
            return self.halt_group(slot, text);
        }
        if group.key == GroupKey::META {
            return self.apply_meta(slot, &entries);
        }
        let Some((entries, switch)) = self.up_to_a_switch(slot, entries) else { return };
        self.ask_machine(slot, entries, switch);
    }

    /// Sends entries and the questions that may be asked after them to the machine.
    fn ask_machine(&mut self, slot: usize, entries: Vec<Entry>, switch: Option<u32>) {
        let capture = entries.is_empty() && self.wants_capture(slot);
        let Some(group) = self.slots[slot].as_mut() else { return };
        let last = entries.last().map_or(group.apply.applied, |entry| entry.id);
        let queries = due_queries(group, last.index);
        let begins = group.begins_to_reign(last.term).then_some(last.term);
        if entries.is_empty() && queries.is_empty() && !capture && begins.is_none() {
            return;
        }
        group.apply.changes_members |= entries.iter().any(|e| e.kind == EntryKind::Config);
        let is_command = |entry: &Entry| entry.kind == EntryKind::Command;
        group.apply.batch = entries.iter().map(|e| (e.id, is_command(e))).collect();
        group.apply.bytes += entries.iter().map(|e| e.payload.len() as u64).sum::<u64>();
        let commands: Vec<Command> = entries
            .into_iter()
            .filter(is_command)
            .map(|e| Command { index: e.id.index, payload: e.payload })
            .collect();
        if capture {
            group.snapshots.capturing = true;
        }
        group.apply.busy = true;
        let nothing = commands.is_empty() && queries.is_empty() && switch.is_none();
        if nothing && !capture && begins.is_none() {
            // Nothing for the machine itself: no thread needs to be asked.
            let version = group.rules.in_force;
            let result = Ok(MachineAnswers { version, ..MachineAnswers::default() });
            let done = MachineDone { slot, group: group.key, last, result };
            return self.machine_done(done);
        }
        let (asked, queries) = queries.into_iter().unzip();
        group.apply.asked = asked;
        let job = MachineJob {
            slot,
            group: group.key,
            machine: group.apply.machine.clone(),
            instead_of: None,
            restore: None,
            machine_at: group.apply.machine_at,
            commands,
            last,
            switch,
            version: group.rules.in_force,
            begins,
            queries,
            capture,
        };
        self.out.push(Output::Job(Job::machine(job)));
    }

    /// Begins to replace the machine by a new one with the state of a snapshot, once the
    /// snapshot is published.
    fn restore_machine(&mut self, slot: usize, id: EntryId) {
        let Some(key) = self.slots[slot].as_ref().map(|group| group.key) else { return };
        let Some(file) = self.store.snapshot_file(key).filter(|f| f.meta().id == id) else {
            return;
        };
        // One that keeps its state itself is its only owner; of others a new one is made, so that
        // nothing of the old state can shine through.
        let keeps = self.slots[slot].as_ref().is_some_and(|g| g.apply.machine_at.is_some());
        let fresh = (!keeps).then(|| self.new_machine(key));
        let Some(group) = self.slots[slot].as_mut() else { return };
        let machine = fresh.unwrap_or_else(|| group.apply.machine.clone());
        // The node itself looks into the catalog, whatever a job does: it goes by the old one until
        // the new one is whole.
        let old = match key == GroupKey::META {
            true => group.apply.next_machine.replace(machine.clone()),
            false => Some(std::mem::replace(&mut group.apply.machine, machine.clone())),
        };
        let machine_at = group.apply.machine_at;
        group.apply.restoring = Restoring::Running(id);
        group.apply.busy = true;
        let job = MachineJob {
            slot,
            group: key,
            machine,
            instead_of: old,
            restore: Some(file),
            machine_at,
            commands: Vec::new(),
            last: id,
            switch: None,
            version: 0,
            begins: None,
            queries: Vec::new(),
            capture: false,
        };
        self.out.push(Output::Job(Job::machine(job)));
    }

    pub(super) fn machine_done(&mut self, done: MachineDone) {
        let MachineDone { slot, group: key, last, result } = done;
        let current = self.slots.get_mut(slot).and_then(Option::as_mut).filter(|g| g.key == key);
        let Some(group) = current else {
            // Of a group that is gone everybody is answered already. What was drawn of its state may
            // be as large as that.
            let drawn = result.ok().and_then(|answers| answers.captured);
            self.out.extend(drawn.map(|drawn| Output::Job(Job::let_go(key, drawn))));
            return;
        };
        let batch = std::mem::take(&mut group.apply.batch);
        let answers = match result {
            Ok(answers) => answers,
            Err(MachineFailure::Restore(reason)) => {
                self.tell_leader(slot, last, reason.clone());
                return self.halt_group(slot, reason);
            }
            Err(MachineFailure::Rotten(reason)) => return self.snapshot_lost(slot, last, reason),
            Err(MachineFailure::Broken(reason)) => {
                self.counters.panics += 1;
                return self.halt_group(slot, reason);
            }
        };
        let asked = std::mem::take(&mut group.apply.asked);
        if let Some(next) = group.apply.next_machine.take_if(|_| answers.restored) {
            group.apply.machine = next;
        }
        group.apply.machine_at = answers.machine_at.or(group.apply.machine_at);
        group.rules.in_force = answers.version;
        self.counters.applied += answers.replies.len() as u64;
        self.reply_all(slot, &batch, answers.replies);
        for (to, payload) in asked.into_iter().zip(answers.answers) {
            let reply = Reply { index: last.index, payload, ..Reply::default() };
            self.answer(Answer::Local(to), 0, Ok(reply));
        }
        self.advance_applied(slot, last, batch.len() as u64);
        self.carry_effects(slot, answers.begun, answers.effects);
        if let Some((chunks, live)) = answers.captured {
            self.captured(slot, last, chunks, live);
        }
        if answers.restored {
            self.snapshot_found(slot);
        }
        if answers.restored && key == GroupKey::META {
            self.reconcile_catalog(last.index);
        }
    }

    /// Moves the applied index, in the group, its core and the store's hint.
    pub(super) fn advance_applied(&mut self, slot: usize, last: EntryId, entries: u64) {
        let now = self.now();
        let Some(group) = self.slots[slot].as_mut() else { return };
        group.apply.busy = false;
        if group.apply.restoring == Restoring::Running(last) {
            group.apply.restoring = Restoring::No;
            group.apply.changes_members = true;
            (group.apply.entries, group.apply.bytes) = (0, 0);
        }
        if last.index > group.apply.applied.index {
            group.apply.applied = last;
            group.apply.entries += entries;
            // While a snapshot waits to replace the machine, the core is ahead already.
            if group.apply.restoring == Restoring::No {
                group.core.on_applied(now, last.index);
            }
            self.store.hint_commit(group.key, group.apply.committed);
        }
        if std::mem::take(&mut group.apply.changes_members) {
            self.roll_changed();
        }
        self.mark(slot);
    }

    /// Finds for every applied entry the proposal that waits for it.
    pub(super) fn reply_all(
        &mut self,
        slot: usize,
        batch: &[(EntryId, bool)],
        replies: Vec<bytes::Bytes>,
    ) {
        let mut replies = replies.into_iter();
        for (id, is_command) in batch {
            let reply = if *is_command { replies.next() } else { None };
            let Some(group) = self.slots[slot].as_mut() else { return };
            let group_id = group.key.id;
            if group.waiting.front().is_none_or(|w| w.id.index > id.index) {
                continue;
            }
            let Some(waiting) = group.waiting.pop_front() else { continue };
            let result = match reply {
                Some(payload) if waiting.id == *id => {
                    Ok(Reply { index: id.index, payload, ..Reply::default() })
                }
                // Another leader's entry is committed in its place, so it never will be.
                _ if waiting.id.index == id.index => {
                    Err(RequestError::Superseded { group: group_id })
                }
                _ => Err(RequestError::Unknown { group: group_id }),
            };
            self.answer(waiting.answer, waiting.bytes, result);
        }
    }

    /// Looks into group 0's machine.
    pub(super) fn with_catalog<R>(&self, look: impl FnOnce(&mut Catalog) -> R) -> Option<R> {
        let slot = self.by_key.get(&GroupKey::META).copied()?;
        let machine = self.slots[slot].as_ref()?.apply.machine.clone();
        let mut machine = machine.lock();
        let machine: &mut dyn StateMachine = machine.as_mut();
        let machine: &mut dyn Any = machine;
        machine.downcast_mut::<Catalog>().map(look)
    }
}

/// The questions that may be asked once `last` is applied.
fn due_queries(group: &mut Group, last: Index) -> Vec<(Token, Query)> {
    let mut due = std::mem::take(&mut group.reads.stale);
    let confirmed = &mut group.reads.confirmed;
    while confirmed.front().is_some_and(|(at, _)| *at <= last) {
        let (_, batch) = confirmed.pop_front().expect("just seen");
        due.extend(batch);
    }
    due.into_iter().map(|read| (read.to, read.query)).collect()
}
