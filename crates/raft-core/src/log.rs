//! What the core keeps of the log: where each term begins, and the entries that are not durable.
//!
//! Everything older is the host's, and is asked for when a peer needs it.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use refloat_planted::{Defect, is};
use refloat_types::{Entry, EntryId, EntryKind, Index, IndexSet, LogOp, Term};

use crate::{ConfChange, PersistTicket, Restored};

/// An append that was handed out and is not durable yet: the ticket, and the last entry of the
/// *present* log that its completion proves. A cut lowers it at once, so that the completion of
/// an append of an old term never confirms entries rewritten since, not even by the same ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct InFlight {
    ticket: PersistTicket,
    up_to: Index,
}

/// The log of one replica.
///
/// `compacted <= last`, `durable <= handed <= last`; `tail` ends at `last` and holds
/// at least everything above `durable` that is not inside a snapshot being installed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Log {
    compacted: EntryId,
    runs: Vec<EntryId>,
    last: EntryId,
    durable: Index,
    handed: Index,
    tail: VecDeque<Entry>,
    /// What was appended last, as the list that it came in: all that is to be handed out, or empty.
    fresh: Vec<Entry>,
    fills: Vec<Entry>,
    cut: Option<Index>,
    in_flight: VecDeque<InFlight>,
    fills_in_flight: VecDeque<(PersistTicket, IndexSet)>,
    configs: Vec<(Index, ConfChange)>,
}

impl Log {
    pub(crate) fn restore(restored: &Restored, configs: Vec<(Index, ConfChange)>) -> Log {
        Log {
            compacted: restored.snapshot,
            runs: restored.terms.clone(),
            last: restored.last,
            durable: restored.last.index,
            handed: restored.last.index,
            tail: VecDeque::new(),
            fresh: Vec::new(),
            fills: Vec::new(),
            cut: None,
            in_flight: VecDeque::new(),
            fills_in_flight: VecDeque::new(),
            configs,
        }
    }

    pub(crate) fn last(&self) -> EntryId {
        self.last
    }

    pub(crate) fn durable(&self) -> Index {
        self.durable
    }

    pub(crate) fn compacted(&self) -> EntryId {
        self.compacted
    }

    /// The term of the entry at an index, if the log reaches there.
    pub(crate) fn term(&self, index: Index) -> Option<Term> {
        if index == self.last.index {
            return Some(self.last.term);
        }
        if index > self.last.index || index < self.compacted.index {
            return None;
        }
        let run = self.runs.partition_point(|r| r.index <= index);
        Some(if run == 0 { self.compacted.term } else { self.runs[run - 1].term })
    }

    /// The entries of one term that the log holds, first and last.
    pub(crate) fn run_of(&self, term: Term) -> Option<(Index, Index)> {
        let at = self.runs.binary_search_by_key(&term, |r| r.term).ok()?;
        let end = self.runs.get(at + 1).map_or(self.last.index, |next| next.index.prev());
        Some((self.runs[at].index, end))
    }

    pub(crate) fn id(&self, index: Index) -> EntryId {
        let term = self.term(index).expect("the log knows the term of what it holds");
        EntryId::new(term, index)
    }

    /// Whether the entry is in the log (section 5.3: the rest below it is then the same too).
    pub(crate) fn contains(&self, id: EntryId) -> bool {
        self.term(id.index) == Some(id.term)
    }

    /// The last entry at or below `hint.index` whose term is at most `hint.term`: where two logs
    /// can meet at the latest, found per term instead of per entry (section 5.3, last part).
    /// `None` below what is compacted.
    pub(crate) fn meet(&self, hint: EntryId) -> Option<EntryId> {
        let mut end = hint.index.min(self.last.index);
        for run in self.runs.iter().rev() {
            if run.index > end {
                continue;
            }
            if run.term <= hint.term {
                return Some(EntryId::new(run.term, end));
            }
            end = run.index.prev();
        }
        (end >= self.compacted.index && self.compacted.term <= hint.term).then_some(self.compacted)
    }

    /// Up to where a log that holds `id` is certainly the same as this one. Where this one has
    /// entries of `id`'s term, both hold what that term's leader had there; an older term is only
    /// where they can meet at the latest.
    pub(crate) fn shared(&self, id: EntryId) -> Index {
        let met = self.meet(id).filter(|met| met.term == id.term);
        met.map_or(Index::ZERO, |met| met.index)
    }

    /// Adds the entry after the last.
    pub(crate) fn push(&mut self, entry: Entry) {
        assert_eq!(entry.id.index, self.last.index.next(), "entries are contiguous");
        assert!(entry.id.term >= self.last.term, "terms never fall along a log");
        if self.runs.is_empty() || entry.id.term != self.last.term {
            self.runs.push(entry.id);
        }
        if entry.kind == EntryKind::Config
            && let Ok(change) = ConfChange::decode(&entry.payload)
        {
            self.configs.push((entry.id.index, change));
        }
        self.last = entry.id;
        self.tail.push_back(entry);
    }

    /// Appends entries that follow the last one. Their list is the one to be written, if nothing
    /// else is to be.
    pub(crate) fn append(&mut self, entries: Vec<Entry>) {
        let alone = self.handed == self.last.index;
        for entry in &entries {
            self.push(entry.clone());
        }
        if alone {
            self.fresh = entries;
        }
    }

    /// Drops everything from `from` on: not durable from this moment.
    pub(crate) fn truncate(&mut self, from: Index) {
        assert!(from > self.compacted.index, "what is compacted is never cut");
        let kept = from.prev();
        self.fresh.clear();
        self.last = self.id(kept);
        self.runs.retain(|r| r.index < from);
        while self.tail.back().is_some_and(|e| e.id.index >= from) {
            self.tail.pop_back();
        }
        self.durable = self.durable.min(kept);
        self.handed = self.handed.min(kept);
        for flight in &mut self.in_flight {
            if !is(Defect::OldAppendConfirms) {
                flight.up_to = flight.up_to.min(kept);
            }
        }
        self.fills.retain(|e| e.id.index < from);
        self.forget_fills(from, Index(u64::MAX));
        self.configs.retain(|(at, _)| *at < from);
    }

    /// Drops everything from `from` on, with nothing in its place.
    pub(crate) fn cut(&mut self, from: Index) {
        let written = self.handed >= from;
        self.truncate(from);
        if written {
            self.cut = Some(self.cut.map_or(from, |at| at.min(from)));
        }
    }

    /// Drops everything from `from` on, which was handed out and not written; with `overwritten`,
    /// what it was to take the place of goes too.
    pub(crate) fn give_up(&mut self, from: Index, overwritten: bool) {
        self.truncate(from);
        if overwritten {
            self.cut = Some(self.cut.map_or(from, |at| at.min(from)));
        }
    }

    /// Writes an entry again that the log names but the store lost. One above `applied` that
    /// changes the membership is known as such from now on.
    pub(crate) fn fill(&mut self, entry: Entry, applied: Index) {
        let index = entry.id.index;
        let Err(at) = self.fills.binary_search_by_key(&index, |e| e.id.index) else { return };
        if entry.kind == EntryKind::Config
            && index > applied
            && let Ok(change) = ConfChange::decode(&entry.payload)
            && let Err(at) = self.configs.binary_search_by_key(&index, |(at, _)| *at)
        {
            self.configs.insert(at, (index, change));
        }
        self.fills.insert(at, entry);
    }

    /// What was handed out to fill these indexes proves nothing about them any more.
    pub(crate) fn forget_fills(&mut self, first: Index, last: Index) {
        for (_, filled) in &mut self.fills_in_flight {
            filled.remove_range(first, last);
        }
    }

    /// The changes to make durable under `ticket`. With `only_cut`, entries wait for a later turn.
    pub(crate) fn hand_out(&mut self, ticket: PersistTicket, only_cut: bool) -> [Option<LogOp>; 3] {
        let cut = self.cut.take().map(|from| LogOp::Cut { from });
        let (mut fill, mut append) = (None, None);
        if only_cut {
            self.in_flight.push_back(InFlight { ticket, up_to: self.handed });
            return [cut, fill, append];
        }
        if !self.fills.is_empty() {
            let filled = self.fills.iter().map(|e| e.id.index).collect();
            self.fills_in_flight.push_back((ticket, filled));
            fill = Some(LogOp::Fill { entries: core::mem::take(&mut self.fills) });
        }
        if self.handed < self.last.index {
            let entries = match core::mem::take(&mut self.fresh) {
                list if list.last().is_some_and(|e| e.id == self.last) => list,
                _ => self.copy(self.handed.next(), u64::MAX),
            };
            append = Some(LogOp::Append { prev: self.id(self.handed), entries });
            self.handed = self.last.index;
            self.in_flight.push_back(InFlight { ticket, up_to: self.handed });
        }
        [cut, fill, append]
    }

    /// Whether [`Log::hand_out`] would have something.
    pub(crate) fn has_changes(&self) -> bool {
        self.handed < self.last.index || !self.fills.is_empty() || self.cut.is_some()
    }

    /// Everything handed out up to `ticket` is durable. Answers the ranges of entries that were
    /// written again, first and last of each.
    pub(crate) fn persisted(&mut self, ticket: PersistTicket) -> Vec<(Index, Index)> {
        while let Some(flight) = self.in_flight.pop_front_if(|f| f.ticket <= ticket) {
            self.durable = self.durable.max(flight.up_to);
        }
        assert!(self.durable <= self.handed, "only what was handed out can be durable");
        while self.tail.pop_front_if(|e| e.id.index <= self.durable).is_some() {}
        let done = self.fills_in_flight.partition_point(|(t, _)| *t <= ticket);
        let filled = self.fills_in_flight.drain(..done);
        filled.flat_map(|(_, set)| set.ranges().to_vec()).collect()
    }

    /// Gives back what the queues took for entries that are durable.
    pub(crate) fn keep_no_room(&mut self) {
        self.tail.shrink_to_fit();
        self.in_flight.shrink_to_fit();
    }

    /// The lowest index whose entry the core still holds, up to `last`.
    pub(crate) fn held_from(&self) -> Index {
        self.tail.front().map_or(self.last.index.next(), |e| e.id.index)
    }

    /// Up to where the host can read.
    pub(crate) fn handed(&self) -> Index {
        self.handed
    }

    /// Held entries from `first` on, at least one, up to `max_bytes`, heads included.
    pub(crate) fn copy(&self, first: Index, max_bytes: u64) -> Vec<Entry> {
        let skip = (first - self.held_from()) as usize;
        if max_bytes == u64::MAX {
            return self.tail.range(skip..).cloned().collect();
        }
        let mut left = max_bytes;
        let fits = |e: &&Entry| {
            let fits = weight(e) <= left || left == max_bytes;
            left = left.saturating_sub(weight(e)).min(max_bytes - 1);
            fits
        };
        let count = self.tail.range(skip..).take_while(fits).count();
        self.tail.range(skip..skip + count).cloned().collect()
    }

    /// Membership changes above what is applied, ascending.
    pub(crate) fn configs(&self) -> &[(Index, ConfChange)] {
        &self.configs
    }

    /// Takes the membership changes out that are applied with `index`.
    pub(crate) fn take_configs(&mut self, index: Index) -> Vec<(Index, ConfChange)> {
        let count = self.configs.partition_point(|(at, _)| *at <= index);
        self.configs.drain(..count).collect()
    }

    /// The log at and below `id` is gone.
    pub(crate) fn compact(&mut self, id: EntryId) {
        if id.index <= self.compacted.index {
            return;
        }
        assert!(self.contains(id), "only what the log holds can be compacted");
        let covering = self.runs.partition_point(|r| r.index <= id.index);
        let mut kept = self.runs.split_off(covering);
        if self.last.index > id.index && kept.first().is_none_or(|r| r.index != id.index.next()) {
            kept.insert(0, EntryId::new(id.term, id.index.next()));
        }
        self.runs = kept;
        self.compacted = id;
    }

    /// A snapshot takes the log's place up to `id`. What follows `id` stays if the log holds `id`;
    /// else it conflicts with what is committed and is cut (section 7). Durable with the next
    /// ticket; `committed` is what certainly agrees with the snapshot until then.
    pub(crate) fn install(&mut self, id: EntryId, committed: Index) {
        if self.contains(id) {
            self.configs.retain(|(at, _)| *at > id.index);
            self.fills.retain(|e| e.id.index > id.index);
            self.fresh.clear();
            self.handed = self.handed.max(id.index);
            self.compact(id);
            return;
        }
        if self.handed > id.index {
            self.cut = Some(id.index.next());
        }
        self.durable = self.durable.min(committed);
        for flight in &mut self.in_flight {
            if !is(Defect::InstallKeepsFlights) {
                flight.up_to = flight.up_to.min(committed);
            }
        }
        self.runs.clear();
        self.tail.clear();
        self.fresh.clear();
        self.fills.clear();
        self.forget_fills(Index::ZERO, Index(u64::MAX));
        self.configs.clear();
        self.compacted = id;
        self.last = id;
        self.handed = id.index;
    }
}

/// What an entry counts for in windows and message sizes: payload and head.
pub(crate) fn weight(entry: &Entry) -> u64 {
    entry.payload.len() as u64 + crate::wire::ENTRY_HEAD as u64
}
