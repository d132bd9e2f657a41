//! Entries below the snapshot to which the state still refers: read for clients, searched for at
//! other members where they are lost here, and given to members that lost theirs.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use refloat_log_store::Read;
use refloat_planted::{Defect, is};
use refloat_raft_core::{Body, Message};
use refloat_types::{Entry, EntryKind, GroupId, GroupKey, Index, IndexSet, Member, NodeId, Now};

use super::envelope::Item;
use super::group::Answer;
use super::space::Load;
use super::{NodeCore, Wanted};
use crate::api::{Lane, Reply, Token};
use crate::error::RequestError;
use crate::machine::Command;

/// Ranges of live entries that are asked for at once.
pub(super) const LIVE_RANGES: usize = 64;
/// Once no member could give anything, they are asked again after so many election timeouts.
const REST: u64 = 10;

/// What a command in an answer counts for beside its payload, in bytes.
const PER_COMMAND: usize = 64;

/// Entries on their way from the disk, by what they are for.
#[derive(Default)]
pub(super) struct LiveEntries {
    /// Replicas that look for lost ones at other members.
    searches: BTreeMap<usize, Search>,
    /// Members for which some are being read, and how many ranges are left.
    gifts: BTreeMap<(usize, NodeId), usize>,
    /// Requests of clients, in the order in which they came.
    asked: BTreeMap<u64, Asked>,
    next: u64,
}

/// One replica's search.
struct Search {
    /// Who was asked last.
    asked: Option<NodeId>,
    /// When the next one is asked.
    due: Now,
    /// It gave some, and may have more.
    gave: bool,
    /// Members that were asked since one gave something.
    in_vain: usize,
}

/// What a client wants, and what is there of it.
struct Asked {
    to: Token,
    slot: usize,
    rest: VecDeque<(Index, Index)>,
    room: usize,
    /// What of the budget for requests it holds until it is answered.
    held: u64,
    commands: Vec<Command>,
}

/// Whom a range of entries is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// A node that is sent a snapshot.
    Receiver(NodeId),
    /// A member that lost them.
    Member(NodeId),
    /// A client.
    Client(u64),
}

/// A range of one group's entries that is read from the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    pub(super) slot: usize,
    pub(super) whom: Whom,
    pub(super) first: Index,
    pub(super) last: Index,
    pub(super) max_bytes: usize,
}

impl NodeCore {
    /// Reads a range; what comes begins with its first entry and may end before the last.
    pub(super) fn read_kept(&mut self, kept: Kept) {
        if let Some(result) = self.read_at_once(kept) {
            self.kept_read(kept, result);
        }
    }

    /// `None`: it comes from the disk.
    fn read_at_once(&mut self, kept: Kept) -> Option<Result<Vec<Entry>, String>> {
        let first = kept.first;
        let Some(key) = self.slots[kept.slot].as_ref().map(|group| group.key) else {
            return Some(Err("the group is gone".to_owned()));
        };
        match self.store.read(key, first, kept.last, kept.max_bytes) {
            Read::Entries(entries) => Some(Ok(entries)),
            Read::Later(request) => {
                self.fetches.insert(request, Wanted::Kept(kept));
                None
            }
            Read::Unreadable => Some(Err(format!("entry {first} cannot be read here"))),
            _ => Some(Err(format!("entry {first} is not in the log"))),
        }
    }

    /// A read of a range came back from the disk.
    pub(super) fn kept_fetched(&mut self, kept: Kept, result: Result<Vec<Entry>, String>) {
        match result {
            Ok(mut entries) => {
                entries.retain(|entry| entry.id.index <= kept.last);
                self.kept_read(kept, Ok(entries));
            }
            // Of many that are read at once any may be the rotten one.
            Err(_) if kept.last > kept.first => {
                self.read_kept(Kept { last: kept.first, ..kept });
            }
            Err(reason) => {
                self.entry_rots(kept.slot, kept.first, &reason);
                self.kept_read(kept, Err(reason));
            }
        }
    }

    fn kept_read(&mut self, kept: Kept, result: Result<Vec<Entry>, String>) {
        match kept.whom {
            Whom::Receiver(node) => self.live_read(kept.slot, node, result),
            Whom::Member(node) => self.give_live(kept.slot, node, result),
            Whom::Client(request) => {
                self.take_commands(request, kept, result);
                self.read_next(request);
            }
        }
    }

    /// An entry that the log should hold does not read back.
    fn entry_rots(&mut self, slot: usize, index: Index, reason: &str) {
        let Some(group) = self.slots[slot].as_mut() else { return };
        self.store.note_unreadable(group.key, index);
        if index > group.snapshots.published.index {
            self.unreadable(slot, index, reason.to_owned());
            return self.mark(slot);
        }
        tracing::warn!(
            node = %self.me.node, group = %group.key, %index, reason,
            "an entry to which the state refers cannot be read here"
        );
        group.snapshots.renew(None); // the state may refer to it no more
        self.look_for_lost_live(slot);
    }

    // ---- searching

    /// Begins to ask other members for what the snapshots refer to and is lost here, if any is.
    pub(super) fn look_for_lost_live(&mut self, slot: usize) {
        let Some(group) = self.slots[slot].as_ref() else { return };
        if !self.store.lost_live(group.key).is_empty() {
            let due = self.now();
            let begin = || Search { asked: None, due, gave: false, in_vain: 0 };
            self.live.searches.entry(slot).or_insert_with(begin);
        }
    }

    /// Somebody may be there now who has what is looked for.
    pub(super) fn look_again(&mut self) {
        let now = self.now();
        for search in self.live.searches.values_mut() {
            (search.due, search.in_vain) = (search.due.min(now), 0);
        }
    }

    /// When the next member is to be asked.
    pub(super) fn live_wake_at(&self) -> Option<Now> {
        self.live.searches.values().map(|search| search.due).min()
    }

    /// Asks the next member wherever the last one had time enough.
    pub(super) fn go_on_looking(&mut self) {
        let now = self.now();
        let due = self.live.searches.iter().filter(|(_, search)| search.due <= now);
        let due: Vec<usize> = due.map(|(slot, _)| *slot).collect();
        due.into_iter().for_each(|slot| self.ask_next(slot));
    }

    fn ask_next(&mut self, slot: usize) {
        let (now, patience) = (self.now(), self.config.election_timeout);
        let lacks_space = self.lacks_space();
        let Some(group) = self.slots[slot].as_ref() else {
            self.live.searches.remove(&slot);
            return;
        };
        let key = group.key;
        let lost = self.store.lost_live(key);
        let Some(search) = self.live.searches.get_mut(&slot) else { return };
        if lost.is_empty() {
            self.live.searches.remove(&slot);
            tracing::info!(node = %self.me.node, group = %key, "no live entry is lost any more");
            return;
        }
        search.due = now.after(patience);
        if lacks_space {
            return; // there may be none for them
        }
        let is_there = |node: &NodeId| self.peers.get(node).is_some_and(|peer| peer.is_known());
        let members = group.core.conf().iter().map(|member| member.node);
        let mut members: Vec<NodeId> =
            members.filter(|node| *node != self.me.node && is_there(node)).collect();
        members.sort_unstable();
        members.dedup();
        if search.in_vain >= members.len().max(1) {
            search.in_vain = 0;
            search.due = now.after(REST * patience);
            return;
        }
        let last = search.asked.unwrap_or(NodeId(0));
        let is_next = |node: &&NodeId| **node > last || search.gave && **node == last;
        let Some(node) = members.iter().find(is_next).or(members.first()).copied() else { return };
        (search.asked, search.gave, search.in_vain) = (Some(node), false, search.in_vain + 1);
        let live = first_ranges(&lost);
        self.send_item(node, Lane::Urgent, &Item::LiveAsk { group: key, live });
    }

    /// A member that was asked gives some, or has none.
    pub(super) fn live_given(&mut self, from: Member, key: GroupKey, last: bool, message: &Bytes) {
        let now = self.now();
        let Some(slot) = self.by_key.get(&key).copied() else { return };
        let Some(search) = self.live.searches.get_mut(&slot) else { return };
        if search.asked != Some(from.node) {
            return;
        }
        let entries = match Message::decode_shared(message) {
            Ok(Message { group, body: Body::HoleHave { entries }, .. }) if group == key => entries,
            _ => {
                self.counters.refused += 1;
                return;
            }
        };
        if last {
            search.due = now;
        }
        let Some(group) = self.slots[slot].as_ref() else { return };
        let (lost, newest) = (self.store.lost_live(key), group.snapshots.published.term);
        let is_lost = |e: &Entry| {
            lost.contains(e.id.index) && e.id.term <= newest && e.kind != EntryKind::Config
        };
        let entries: Vec<Entry> =
            entries.into_iter().filter(|e| is_lost(e) && e.is_intact()).collect();
        if entries.is_empty() || self.let_in(slot, Load::of(&entries)).is_err() {
            return; // without space: it is asked for again
        }
        if let Some(search) = self.live.searches.get_mut(&slot) {
            (search.gave, search.in_vain) = (true, 0);
        }
        let found: IndexSet = entries.iter().map(|entry| entry.id.index).collect();
        tracing::info!(
            node = %self.me.node, group = %key, peer = %from.node, entries = %found,
            "lost entries to which the state refers came from a member"
        );
        self.counters.live_filled += entries.len() as u64;
        self.fill_live(slot, key, entries);
    }

    // ---- giving

    /// A member lost entries to which its snapshot refers. They are committed, so whatever stands
    /// at their indexes here, as far as is applied, is the same.
    pub(super) fn live_asked(&mut self, from: Member, key: GroupKey, wants: &IndexSet) {
        let Some(slot) = self.by_key.get(&key).copied() else { return };
        let Some(group) = self.slots[slot].as_ref() else { return };
        let is_member = group.core.conf().member(from.node).is_some();
        if !is_member || self.live.gifts.contains_key(&(slot, from.node)) {
            return;
        }
        let mut here = wants.difference(&self.store.missing_live(key, wants));
        if !is(Defect::LiveGivenUncommitted) {
            here.remove_range(group.apply.applied.index.next(), Index(u64::MAX));
        }
        let here = first_ranges(&here);
        let ranges = here.ranges();
        self.live.gifts.insert((slot, from.node), ranges.len().max(1));
        if ranges.is_empty() {
            return self.give_live(slot, from.node, Ok(Vec::new()));
        }
        let max_bytes = self.config.max_append_bytes / ranges.len();
        for &(first, last) in ranges {
            self.read_kept(Kept { slot, whom: Whom::Member(from.node), first, last, max_bytes });
        }
    }

    fn give_live(&mut self, slot: usize, node: NodeId, result: Result<Vec<Entry>, String>) {
        let Some(left) = self.live.gifts.get_mut(&(slot, node)) else { return };
        *left -= 1;
        let last = *left == 0;
        if last {
            self.live.gifts.remove(&(slot, node));
        }
        let Some(group) = self.slots[slot].as_ref() else { return };
        let (key, from, term) = (group.key, group.me, group.soft.term);
        let Some(to) = group.core.conf().member(node) else { return };
        let body = Body::HoleHave { entries: result.unwrap_or_default() };
        let mut message = Vec::new();
        Message { from, to, group: key, term, body }.encode(&mut message);
        let item = Item::LiveGive { group: key, last, message: message.into() };
        self.send_item(node, Lane::Bulk, &item);
    }

    // ---- clients

    /// Reads commands back from the log of this node, the lowest first, as many as fit into one
    /// answer.
    pub(super) fn commands(&mut self, to: Token, id: GroupId, indexes: &IndexSet) {
        let room = self.config.max_append_bytes;
        let held = (room as u64).min(self.config.max_payload);
        let slot = match self.budget(held).and_then(|()| self.find(id)) {
            Ok(slot) => slot,
            Err(error) => return self.fail(to, error),
        };
        let applied = self.slots[slot].as_ref().map_or(Index::ZERO, |g| g.apply.applied.index);
        if let Some(index) = indexes.last().filter(|last| *last > applied) {
            return self.fail(to, RequestError::NotKept { group: id, index, lost: false });
        }
        self.admit(held);
        let rest = indexes.ranges().iter().copied().collect();
        let request = self.live.next;
        self.live.next += 1;
        let asked = Asked { to, slot, rest, room, held, commands: Vec::new() };
        self.live.asked.insert(request, asked);
        self.read_next(request);
    }

    /// Goes on with a request until its next range has to come from the disk.
    fn read_next(&mut self, request: u64) {
        while let Some(asked) = self.live.asked.get(&request) {
            let (slot, max_bytes) = (asked.slot, asked.room);
            let Some((first, last)) = asked.rest.front().copied().filter(|_| max_bytes > 0) else {
                return self.commands_end(request, None);
            };
            let kept = Kept { slot, whom: Whom::Client(request), first, last, max_bytes };
            let Some(result) = self.read_at_once(kept) else { return };
            self.take_commands(request, kept, result);
        }
    }

    fn take_commands(&mut self, request: u64, kept: Kept, result: Result<Vec<Entry>, String>) {
        let Some(asked) = self.live.asked.get_mut(&request) else { return };
        let entries = result.unwrap_or_default();
        let last = entries.iter().take_while(|entry| entry.is_intact()).last();
        let Some(last) = last.map(|entry| entry.id.index) else {
            return self.commands_end(request, Some(kept));
        };
        match asked.rest.front_mut() {
            Some(range) if last < range.1 => range.0 = last.next(),
            _ => drop(asked.rest.pop_front()),
        }
        let read = entries.into_iter().take_while(|entry| entry.id.index <= last);
        for entry in read.filter(|entry| entry.kind == EntryKind::Command) {
            asked.room = asked.room.saturating_sub(entry.payload.len() + PER_COMMAND);
            asked.commands.push(Command { index: entry.id.index, payload: entry.payload });
        }
    }

    /// Answers with what was read, unless the very first entry could not be.
    fn commands_end(&mut self, request: u64, failed: Option<Kept>) {
        let Some(Asked { to, slot, held, commands, .. }) = self.live.asked.remove(&request) else {
            return;
        };
        let group = self.slots[slot].as_ref();
        let id = group.map_or(GroupId(0), |group| group.key.id);
        let applied = group.map_or(Index::ZERO, |group| group.apply.applied.index);
        let result = match failed.filter(|_| commands.is_empty()) {
            None => Ok(Reply { index: applied, payload: Bytes::new(), commands }),
            Some(Kept { first: index, .. }) => {
                let lost = group.is_some_and(|group| self.store.is_unreadable(group.key, index));
                Err(RequestError::NotKept { group: id, index, lost })
            }
        };
        self.answer(Answer::Local(to), held, result);
    }

    /// Nothing is read for a replica that is gone.
    pub(super) fn forget_live(&mut self, slot: usize, refusal: &RequestError) {
        self.live.searches.remove(&slot);
        self.live.gifts.retain(|(of, _), _| *of != slot);
        let gone = self.live.asked.extract_if(.., |_, asked| asked.slot == slot);
        let gone: Vec<Asked> = gone.map(|(_, asked)| asked).collect();
        for Asked { to, held, .. } in gone {
            self.answer(Answer::Local(to), held, Err(refusal.clone()));
        }
    }
}

/// As much of a set as one question names.
pub(super) fn first_ranges(set: &IndexSet) -> IndexSet {
    let mut few = IndexSet::new();
    let ranges = set.ranges().iter().take(LIVE_RANGES);
    ranges.for_each(|(first, last)| few.insert_range(*first, *last));
    few
}
