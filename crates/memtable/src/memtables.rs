//! The active generation and the frozen ones below it.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

use refloat_types::{Entry, EntryId, Generation, GroupKey, Index, LogOp};

use crate::{Memtable, Table};

/// The memtables of one node: one active, and frozen ones of lower generations.
#[derive(Clone, Debug)]
pub struct Memtables {
    active: Memtable,
    /// Oldest first.
    frozen: VecDeque<Arc<Memtable>>,
    /// Groups dropped while frozen generations up to this one still hold them.
    dropped: BTreeMap<GroupKey, Generation>,
}

/// What the memtables know about one index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// Here it is.
    Entry(&'a Entry),
    /// It was cut away and not written again: older generations and segments hold, at best, what
    /// was overwritten, and must not be asked.
    Cut,
    /// No memtable holds it and none cut it: segments may hold it.
    Older,
}

impl Memtables {
    /// Empty, with this generation active.
    #[must_use]
    pub fn new(active: Generation) -> Memtables {
        Memtables {
            active: Memtable::new(active),
            frozen: VecDeque::new(),
            dropped: BTreeMap::new(),
        }
    }

    /// The generation that takes writes.
    #[must_use]
    pub fn active_generation(&self) -> Generation {
        self.active.generation()
    }

    /// The memtable that takes writes.
    #[must_use]
    pub fn active(&self) -> &Memtable {
        &self.active
    }

    /// The frozen memtables, oldest first.
    pub fn frozen(&self) -> impl DoubleEndedIterator<Item = &Arc<Memtable>> + ExactSizeIterator {
        self.frozen.iter()
    }

    /// What all generations are counted with, in bytes. A dropped group's part of a frozen
    /// generation counts until that generation is released, because its memory does.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.active.bytes() + self.frozen.iter().map(|table| table.bytes()).sum::<u64>()
    }

    /// What the memtables know about an index.
    #[must_use]
    pub fn lookup(&self, group: GroupKey, index: Index) -> Lookup<'_> {
        lookup(self.tables(group), index)
    }

    /// Appends to `out` the entries from `first` to `last`, until one is not in memory or
    /// `max_bytes` of payload are exceeded; one entry is always given, however large.
    /// Returns the first index not given, which is `last + 1` if all were.
    /// [`Memtables::lookup`] of that index says whether segments may be asked.
    pub fn read(
        &self,
        group: GroupKey,
        first: Index,
        last: Index,
        max_bytes: usize,
        out: &mut Vec<Entry>,
    ) -> Index {
        let tables: Vec<&Table> = self.tables(group).collect();
        let (mut next, mut bytes) = (first, 0usize);
        while next <= last {
            let Lookup::Entry(entry) = lookup(tables.iter().copied(), next) else { break };
            bytes = bytes.saturating_add(entry.payload.len());
            if bytes > max_bytes && next != first {
                break;
            }
            out.push(entry.clone());
            next = next.next();
        }
        next
    }

    /// All entries of a group that may be read from memory, ascending. For boot: it builds a map.
    #[must_use]
    pub fn visible(&self, group: GroupKey) -> Vec<&Entry> {
        let tables: Vec<&Table> = self.tables(group).collect();
        let mut seen = BTreeMap::new();
        for table in tables.into_iter().rev() {
            if let Some(cut) = table.cut() {
                seen.split_off(&cut);
            }
            seen.extend(table.entries().map(|e| (e.id.index, e)));
        }
        seen.into_values().collect()
    }

    /// The highest entry of a group that may be read from memory.
    #[must_use]
    pub fn last(&self, group: GroupKey) -> Option<EntryId> {
        let (mut best, mut below) = (None::<EntryId>, Index(u64::MAX));
        for table in self.tables(group) {
            let candidate = match table.last() {
                Some(id) if id.index >= below => {
                    table.entries().map(|e| e.id).take_while(|id| id.index < below).last()
                }
                other => other,
            };
            if let Some(id) = candidate.filter(|id| best.is_none_or(|b| id.index > b.index)) {
                best = Some(id);
            }
            below = below.min(table.cut().unwrap_or(below));
        }
        best
    }

    /// The lowest index that any generation in memory cut at: from here on no segment may be read.
    #[must_use]
    pub fn lowest_cut(&self, group: GroupKey) -> Option<Index> {
        self.tables(group).filter_map(Table::cut).min()
    }

    /// Applies one operation to the active generation.
    pub fn apply(&mut self, group: GroupKey, op: &LogOp) {
        self.active.apply(group, op);
    }

    /// Freezes the active generation and starts the next one. Returns the frozen one.
    ///
    /// # Panics
    /// `next` is not above the active generation: two WAL files would share one memtable, and the
    /// release of the first would lose the second.
    pub fn freeze(&mut self, next: Generation) -> Arc<Memtable> {
        assert!(next > self.active.generation(), "a generation's number is never used twice");
        let frozen = Arc::new(core::mem::replace(&mut self.active, Memtable::new(next)));
        self.frozen.push_back(Arc::clone(&frozen));
        frozen
    }

    /// Forgets the frozen generations up to this one: their segments are published.
    /// The active generation stays, whatever is asked.
    pub fn release(&mut self, up_to: Generation) {
        while self.frozen.front().is_some_and(|table| table.generation() <= up_to) {
            self.frozen.pop_front();
        }
        self.dropped.retain(|_, generation| *generation > up_to);
    }

    /// Forgets a group. Later writes to the same key start from nothing in memory; a segment may
    /// still hold its entries, so that a new life of the same key starts with a
    /// [`LogOp::Cut`] of everything. Frozen memtables already handed out still hold it.
    pub fn drop_group(&mut self, group: GroupKey) {
        self.active.remove(group);
        if let Some(newest) = self.frozen.back() {
            self.dropped.insert(group, newest.generation());
        }
    }

    /// The group's tables, newest generation first.
    fn tables(&self, group: GroupKey) -> impl Iterator<Item = &Table> {
        let dropped = self.dropped.get(&group).copied();
        let visible = move |table: &&Arc<Memtable>| dropped.is_none_or(|d| table.generation() > d);
        let frozen = self.frozen.iter().rev().take_while(visible);
        self.active.table(group).into_iter().chain(frozen.filter_map(move |t| t.table(group)))
    }
}

fn lookup<'a>(newest_first: impl Iterator<Item = &'a Table>, index: Index) -> Lookup<'a> {
    for table in newest_first {
        if let Some(entry) = table.get(index) {
            return Lookup::Entry(entry);
        }
        if table.cut().is_some_and(|cut| index >= cut) {
            return Lookup::Cut;
        }
    }
    Lookup::Older
}
