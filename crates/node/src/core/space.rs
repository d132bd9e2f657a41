//! The door for entries: what the store would refuse for lack of space is not let into a core,
//! where it would stand before votes.

use refloat_log_store::SubmitError;
use refloat_raft_core::{Body, Role};
use refloat_types::{Entry, GroupId, GroupKey, GroupWrite, Index, LogOp};

use super::catalog::GroupCommand;
use super::requests::SWEEP;
use super::{NodeCore, Stalled, Write};
use crate::error::RequestError;

/// About as many bytes are needed for a new group.
const GROUP: usize = 1024;

/// Entries that need space, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    entries: usize,
    payload: usize,
}

impl Load {
    pub(super) fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Load {
        let bulky = entries.into_iter().filter(|entry| entry.is_bulky());
        Load::of_payloads(bulky.map(|entry| entry.payload.len()))
    }

    pub(super) fn of_payloads(lens: impl IntoIterator<Item = usize>) -> Load {
        lens.into_iter()
            .fold(Load::default(), |sum, len| sum.and(Load { entries: 1, payload: len }))
    }

    fn of_body(body: &Body) -> Load {
        match body {
            Body::Append(append) => Load::of(&append.entries),
            Body::HoleHave { entries } => Load::of(entries),
            _ => Load::default(),
        }
    }

    fn and(self, more: Load) -> Load {
        Load {
            entries: self.entries.saturating_add(more.entries),
            payload: self.payload.saturating_add(more.payload),
        }
    }
}

impl NodeCore {
    /// Whether something waits for space, in here or outside.
    pub(super) fn lacks_space(&self) -> bool {
        !self.stalled.is_empty() || !self.starved.is_empty()
    }

    /// Whether a request that needs space may come in.
    pub(super) fn space_for_requests(&self) -> Result<(), RequestError> {
        if let Some((used, limit)) = self.store.backlog() {
            return Err(RequestError::Busy { used, limit });
        }
        if !self.stalled.is_empty() {
            let busy = self.space_for(Load { entries: 1, payload: 0 }).err();
            return Err(busy.unwrap_or(RequestError::NoSpace));
        }
        match self.starved.values().next() {
            Some(load) => self.space_for(*load),
            None => Ok(()),
        }
    }

    fn space_for(&self, load: Load) -> Result<(), RequestError> {
        let Load { entries, payload } = self.let_in.and(load);
        match self.store.takes(entries, payload) {
            Err(SubmitError::NoSpace) => Err(RequestError::NoSpace),
            Err(SubmitError::Backlog { used, limit }) => Err(RequestError::Busy { used, limit }),
            Err(SubmitError::NotYet { needed, room }) => {
                Err(RequestError::Busy { used: needed, limit: room })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Lets entries into a replica's core, unless there is no space for them, or others wait.
    pub(super) fn let_in(&mut self, slot: usize, load: Load) -> Result<(), RequestError> {
        if load.entries == 0 || self.is_meta(slot) {
            return Ok(());
        }
        let result = match self.starved.contains_key(&slot) || self.waits_in_line(slot) {
            true => Err(RequestError::NoSpace),
            false => self.space_for(load),
        };
        match &result {
            Ok(()) => self.let_in = self.let_in.and(load),
            Err(_) => self.starve(slot, load),
        }
        result
    }

    /// Opens or shuts the door before a message is stepped.
    pub(super) fn let_in_with(&mut self, slot: usize, body: &Body) {
        // The core leaves outside what it has not got; the rest of the message counts.
        let _ = self.let_in(slot, Load::of_body(body));
    }

    /// Group 0 has what is kept for votes: a deletion that goes through it makes space.
    fn is_meta(&self, slot: usize) -> bool {
        self.by_key.get(&GroupKey::META) == Some(&slot)
    }

    /// Whether a forwarded proposal needs none of the space that entries need.
    pub(super) fn makes_space(group: GroupId, payload: &[u8]) -> bool {
        group == GroupKey::META.id
            && matches!(GroupCommand::decode(payload), Ok(GroupCommand::Delete { .. }))
    }

    /// Whether there is space for what group 0 says about one more group.
    pub(super) fn space_for_a_group(&self) -> Result<(), RequestError> {
        self.space_for(Load::of_payloads([GROUP]))
    }

    fn starve(&mut self, slot: usize, load: Load) {
        let now = self.now();
        if self.starved.contains_key(&slot) {
            return;
        }
        let Some(group) = self.slots[slot].as_mut() else { return };
        if self.starved.is_empty() {
            if self.next_sweep < now {
                self.next_sweep = now.after(SWEEP);
            }
            tracing::warn!(node = %self.me.node, group = %group.key, "no space for entries");
        }
        group.core.set_space(now, false);
        self.starved.insert(slot, load);
    }

    fn waits_in_line(&self, slot: usize) -> bool {
        self.stalled.iter().any(|stalled| stalled.slot() == Some(slot))
    }

    /// Opens the door again for replicas whose entries find space now.
    pub(super) fn feed_starved(&mut self) {
        let now = self.now();
        for (slot, load) in std::mem::take(&mut self.starved) {
            if self.slots[slot].is_none() {
                continue;
            }
            if self.waits_in_line(slot) || self.space_for(load).is_err() {
                self.starved.insert(slot, load);
                continue;
            }
            if let Some(group) = self.slots[slot].as_mut() {
                group.core.set_space(now, true);
                self.mark(slot);
            }
        }
    }

    /// What the store refused after all: a replica that does not lead gives its entries up, as a
    /// crash would take them, and only its votes wait. A leader's wait for space: others may hold
    /// them already. `false`: there is nothing to give up.
    pub(super) fn give_up_entries(&mut self, write: &mut Write) -> bool {
        let now = self.now();
        let load = match write.write.group {
            GroupKey::META => Load::default(),
            _ => Load::of(write.write.log.iter().flat_map(LogOp::entries)),
        };
        let follows_what_is_gone = self.leaves_a_gap(&write.write);
        let Some(group) = self.slots[write.slot].as_mut() else { return false };
        if group.core.role() == Role::Leader || load.entries == 0 && !follows_what_is_gone {
            return false;
        }
        match write.write.log.take() {
            Some(LogOp::Append { entries, .. }) => {
                let Some(first) = entries.first().map(|entry| entry.id) else { return true };
                let overwritten = self.store.last(group.key).index >= first.index;
                group.core.give_up_entries(now, first, overwritten);
                let kept = group.apply.committed.min(first.index.prev());
                group.apply.committed = kept.max(group.apply.applied.index);
            }
            Some(LogOp::Fill { entries }) => {
                // Of several writes under one ticket, which is reported all the same, only the last
                // bears it.
                group.core.give_up_fills(now, &entries);
                if write.ticket.is_none() {
                    self.live_refused(write.slot);
                }
            }
            Some(LogOp::Cut { .. }) | None => {}
        }
        self.starve(write.slot, load);
        self.mark(write.slot);
        true
    }

    /// Whether a write follows entries that were given up.
    pub(super) fn leaves_a_gap(&self, write: &GroupWrite) -> bool {
        match &write.log {
            Some(LogOp::Append { prev, .. }) => prev.index > self.store.last(write.group).index,
            _ => false,
        }
    }

    /// Up to where a group's entries that are committed can be read: what waits for space is not
    /// there, and what it overwrites is.
    pub(super) fn written_to(&self, slot: usize) -> Index {
        let writes = self.stalled.iter().filter_map(|stalled| match stalled {
            Stalled::Write(write) if write.slot == slot => write.write.log.as_ref(),
            _ => None,
        });
        let first = writes.filter_map(LogOp::cut_from).min();
        first.map_or(Index(u64::MAX), Index::prev)
    }
}
