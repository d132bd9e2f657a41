//! What is written besides logs and votes, in its place among them, also while the disk is full.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use refloat_log_store::{SubmitError, Ticket};
use refloat_raft_core::PersistTicket;
use refloat_types::{ConfState, EntryId, GroupKey, GroupWrite, LogOp, Member};

use super::{Durable, NodeCore, Write, rebirth};

/// Something that found no space: it is tried again, in order, until it goes through. Giving one
/// up would lose what a committed entry decided (a group that exists everywhere but here).
pub(super) enum Stalled {
    Write(Write),
    Order(Order),
}

/// What must not overtake each other: the writes of one group, and those of the node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Line {
    Group(usize),
    Node,
}

impl Stalled {
    /// The replica that it belongs to.
    pub(super) fn slot(&self) -> Option<usize> {
        match self.line() {
            Line::Group(slot) => Some(slot),
            Line::Node => None,
        }
    }

    fn line(&self) -> Line {
        match self {
            Stalled::Write(write) => Line::Group(write.slot),
            Stalled::Order(order) => order.slot().map_or(Line::Node, Line::Group),
        }
    }
}

/// One write that is not of a turn's batch.
pub(super) enum Order {
    /// Makes a received snapshot the head of a group's log.
    Install { slot: usize, id: EntryId, conf: ConfState, ticket: PersistTicket },
    /// Notes that nothing is missing in a group's log any more, behind what made it so.
    Healed { slot: usize },
    /// Notes that a replica forgot what it had promised.
    Amnesia { slot: usize, evidence: &'static str },
    /// Registers a group and starts its replica.
    Create { key: GroupKey, conf: ConfState, me: Member },
    /// Notes the name of a new group's replica whose life is not the directory's.
    Name { slot: usize, life: Bytes },
    /// Notes the name of a replica's new life, with the term that it begins in.
    NewLife { slot: usize, life: Bytes, write: GroupWrite },
    /// Removes a group whose replica is stopped.
    Delete { key: GroupKey },
    /// Keeps a value of the node's own.
    NodeState { slot: u32, body: Bytes, then: Option<Durable> },
}

impl Order {
    /// The replica that it belongs to.
    fn slot(&self) -> Option<usize> {
        match self {
            Order::Install { slot, .. }
            | Order::Healed { slot }
            | Order::Amnesia { slot, .. }
            | Order::Name { slot, .. }
            | Order::NewLife { slot, .. } => Some(*slot),
            Order::Create { .. } | Order::Delete { .. } | Order::NodeState { .. } => None,
        }
    }
}

impl NodeCore {
    /// Replicas of which something waits for space.
    pub(super) fn stalled_slots(&self) -> BTreeSet<usize> {
        self.stalled.iter().filter_map(Stalled::slot).chain(self.starved.keys().copied()).collect()
    }

    /// Carries an order out, or lets it wait behind what found no space before it.
    pub(super) fn order(&mut self, order: Order) {
        self.submit_writes();
        if self.over {
            return;
        }
        match order.slot().and_then(|slot| self.unregistered.get_mut(&slot)) {
            Some(waiting) => waiting.push(Stalled::Order(order)),
            None => {
                self.stalled.push_back(Stalled::Order(order));
                self.retry_stalled();
            }
        }
    }

    /// Keeps back what groups write that are not registered yet. It would be durable behind the
    /// registration in the main log, but before it in the votes log, and a start that finds a vote
    /// for a group that nobody registered cannot tell it from one of a group that was deleted.
    pub(super) fn hold_unregistered(&mut self) {
        if self.unregistered.is_empty() {
            return;
        }
        for write in std::mem::take(&mut self.writes) {
            match self.unregistered.get_mut(&write.slot) {
                Some(waiting) => waiting.push(Stalled::Write(write)),
                None => self.writes.push(write),
            }
        }
    }

    /// A new group's registration is on the disk: what it wrote since may follow.
    pub(super) fn registered(&mut self, slot: usize) {
        let Some(waiting) = self.unregistered.remove(&slot) else { return };
        self.submit_writes();
        self.stalled.extend(waiting);
        self.retry_stalled();
        if self.slots[slot].is_some() {
            self.mark(slot);
        }
    }

    /// Submits what did not get through, one by one. What belongs to one group stays in order; a
    /// group whose writes are small (a vote) does not wait for another one's large ones, for which
    /// a full disk has no room while it has some for votes.
    pub(super) fn retry_stalled(&mut self) {
        let (mut blocked, mut kept) = (BTreeSet::new(), VecDeque::new());
        while let Some(stalled) = self.stalled.pop_front() {
            if self.over {
                return;
            }
            let line = stalled.line();
            if blocked.contains(&line) {
                kept.push_back(stalled);
            } else if let Some(stalled) = self.retry(stalled) {
                blocked.insert(line);
                kept.push_back(stalled);
            }
        }
        self.stalled = kept;
    }

    /// Gives back what still finds no space.
    fn retry(&mut self, stalled: Stalled) -> Option<Stalled> {
        let write = match stalled {
            Stalled::Order(order) => return self.carry_order(order).map(Stalled::Order),
            Stalled::Write(write) => write,
        };
        self.slots[write.slot].as_ref()?;
        if self.leaves_a_gap(&write.write) {
            return self.without_entries(write);
        }
        match self.store.submit(self.time.now, std::slice::from_ref(&write.write)) {
            Ok(ticket) => {
                if let Some(persisted) = write.ticket {
                    self.await_ticket(ticket, Durable::Persisted(write.slot, persisted));
                }
            }
            Err(SubmitError::TooLarge { .. }) if splits(&write) => {
                for half in split(write).into_iter().rev() {
                    self.stalled.push_front(Stalled::Write(half));
                }
            }
            Err(error) if error.waits_for_room() => {
                return self.without_entries(write);
            }
            Err(error) => {
                self.submit_failed(&error);
                if !self.over {
                    self.halt_group(write.slot, format!("its write was refused: {error}"));
                }
            }
        }
        None
    }

    /// What is left of a write that finds no space is tried at once.
    fn without_entries(&mut self, mut write: Write) -> Option<Stalled> {
        let gives_up = self.give_up_entries(&mut write);
        let write = Stalled::Write(write);
        if !gives_up {
            return Some(write);
        }
        self.stalled.push_front(write);
        None
    }

    /// Carries an order out; gives it back if there is no space for it.
    fn carry_order(&mut self, order: Order) -> Option<Order> {
        let now = self.time.now;
        let group = order.slot().map(|slot| self.slots[slot].as_ref().map(|group| group.key));
        let Some(key) = group.unwrap_or(Some(GroupKey::META)) else {
            return None; // the replica is gone
        };
        let done = match &order {
            Order::Install { id, conf, .. } => self.store.install_snapshot(now, key, *id, conf),
            Order::Healed { .. } => self.store.note_healed(now, key),
            Order::Amnesia { evidence, .. } => self.store.note_amnesia(now, key, evidence),
            Order::Create { key, .. }
                if self.asleep.contains_key(key) || self.by_key.contains_key(key) =>
            {
                return None;
            }
            Order::Create { key, conf, .. } => self.store.create_group(now, *key, conf),
            Order::Name { life, .. } => self.store.put_group_value(now, key, life.clone()),
            Order::NewLife { life, write, .. } => self
                .store
                .submit(now, std::slice::from_ref(write))
                .and_then(|_| self.store.note_new_life(now, key, life.clone())),
            Order::Delete { key } => self.store.delete_group(now, *key),
            Order::NodeState { slot, body, .. } => {
                self.store.put_node_state(now, *slot, body.clone())
            }
        };
        match done {
            Ok(ticket) => self.order_taken(order, ticket),
            Err(error) if error.waits_for_room() => return Some(order),
            Err(error) => self.order_refused(&order, &error),
        }
        None
    }

    fn order_taken(&mut self, order: Order, at: Ticket) {
        match order {
            Order::Install { slot, ticket, .. } => {
                self.await_ticket(at, Durable::Persisted(slot, ticket));
                self.await_ticket(at, Durable::Installed(slot));
            }
            Order::Create { key, conf, me } => {
                self.start_new_group(key, &conf, me);
                let Some(slot) = self.by_key.get(&key).copied() else { return };
                let life = rebirth::encode_life(me);
                let name = (me != self.me).then_some(Stalled::Order(Order::Name { slot, life }));
                self.unregistered.insert(slot, name.into_iter().collect());
                self.await_ticket(at, Durable::Registered(slot));
            }
            Order::NewLife { slot, .. } => self.await_ticket(at, Durable::NewLife(slot)),
            Order::NodeState { then, .. } => {
                then.into_iter().for_each(|then| self.await_ticket(at, then));
            }
            Order::Healed { .. }
            | Order::Amnesia { .. }
            | Order::Name { .. }
            | Order::Delete { .. } => {}
        }
    }

    fn order_refused(&mut self, order: &Order, error: &SubmitError) {
        self.submit_failed(error);
        if let Order::Create { key, .. } = order {
            self.unmakeable.insert(*key);
        }
        if let Order::Install { slot, id, .. } = order
            && !self.over
        {
            self.tell_leader(*slot, *id, error.to_string());
            self.halt_group(*slot, format!("a snapshot cannot be installed: {error}"));
        }
    }
}

fn splits(write: &Write) -> bool {
    let entries = write.write.log.as_ref().map_or(0, |op| op.entries().len());
    entries > 1 || (entries > 0 && write.write.hard_state.is_some())
}

/// Two writes that say the same as one: for what does not fit into one WAL file.
fn split(write: Write) -> [Write; 2] {
    let Write { slot, write: GroupWrite { group, hard_state, log }, ticket } = write;
    let part = |hard_state, log, ticket| Write {
        slot,
        write: GroupWrite { group, hard_state, log },
        ticket,
    };
    let halves = match log {
        Some(LogOp::Append { prev, mut entries }) if entries.len() > 1 => {
            let rest = entries.split_off(entries.len() / 2);
            let middle = entries.last().map_or(prev, |entry| entry.id);
            Some((LogOp::Append { prev, entries }, LogOp::Append { prev: middle, entries: rest }))
        }
        Some(LogOp::Fill { mut entries }) if entries.len() > 1 => {
            let rest = entries.split_off(entries.len() / 2);
            Some((LogOp::Fill { entries }, LogOp::Fill { entries: rest }))
        }
        log => return [part(hard_state, None, None), part(None, log, ticket)],
    };
    let (first, second) = halves.expect("both arms give two");
    [part(hard_state, Some(first), None), part(None, Some(second), ticket)]
}
