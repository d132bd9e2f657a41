//! One group's part of one generation.

use alloc::collections::{BTreeMap, VecDeque};

use refloat_planted::{Defect, is};
use refloat_types::{Entry, EntryId, Index, LogOp};

/// What an entry is counted with besides its payload, in bytes: the entry itself, twice, because
/// the queue that holds it grows by doubling.
pub const ENTRY_OVERHEAD: u64 = 2 * size_of::<Entry>() as u64;

/// The entries that one generation holds for one group, and the lowest index it cut at.
///
/// An index is in the queue or in the map, never in both.
#[derive(Clone, Debug, Default)]
pub struct Table {
    cut: Option<Index>,
    /// Contiguous; what appends go to.
    dense: VecDeque<Entry>,
    /// Everything that does not touch the queue's end.
    sparse: BTreeMap<Index, Entry>,
    bytes: u64,
}

impl Table {
    /// The lowest index that this generation cut at. From here on nothing of an older generation
    /// may be read.
    #[must_use]
    pub fn cut(&self) -> Option<Index> {
        self.cut
    }

    /// The entry at an index, if this generation holds it.
    #[must_use]
    pub fn get(&self, index: Index) -> Option<&Entry> {
        self.dense_position(index)
            .and_then(|at| self.dense.get(at))
            .or_else(|| if self.sparse.is_empty() { None } else { self.sparse.get(&index) })
    }

    /// All entries, ascending.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        let first = self.dense_first().unwrap_or(Index(u64::MAX));
        self.sparse
            .range(..first)
            .map(|(_, e)| e)
            .chain(&self.dense)
            .chain(self.sparse.range(first..).map(|(_, e)| e))
    }

    /// How many entries it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.dense.len() + self.sparse.len()
    }

    /// Whether it holds no entry. It may still hold a cut.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The highest entry that this generation holds.
    #[must_use]
    pub fn last(&self) -> Option<EntryId> {
        let sparse = self.sparse.last_key_value().map(|(_, e)| e.id);
        let dense = self.dense.back().map(|e| e.id);
        match (sparse, dense) {
            (Some(s), Some(d)) => Some(if s.index > d.index { s } else { d }),
            (one, other) => one.or(other),
        }
    }

    /// Payload bytes plus [`ENTRY_OVERHEAD`] per entry.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn apply(&mut self, op: &LogOp) {
        if let Some(from) = cut_of(op) {
            self.cut_from(from);
        }
        match op {
            LogOp::Append { entries, .. } => entries.iter().for_each(|e| self.append(e)),
            LogOp::Fill { entries } => {
                if let Some(last) = entries.last().filter(|_| is(Defect::FillCuts)) {
                    self.cut_from(last.id.index.next());
                }
                entries.iter().for_each(|e| self.fill(e));
            }
            LogOp::Cut { .. } => {}
        }
    }

    /// Lays a newer generation's table over this one.
    pub(crate) fn overlay(&mut self, newer: &Table) {
        if let Some(cut) = newer.cut {
            self.cut_from(cut);
        }
        newer.entries().for_each(|e| self.fill(e));
    }

    fn dense_first(&self) -> Option<Index> {
        self.dense.front().map(|e| e.id.index)
    }

    fn dense_position(&self, index: Index) -> Option<usize> {
        let first = self.dense_first()?;
        usize::try_from(index.0.checked_sub(first.0)?).ok().filter(|at| *at < self.dense.len())
    }

    fn is_next(&self, index: Index) -> bool {
        self.dense.back().is_some_and(|e| index.0.checked_sub(e.id.index.0) == Some(1))
    }

    fn cut_from(&mut self, from: Index) {
        self.cut = Some(self.cut.map_or(from, |cut| cut.min(from)));
        while self.dense.back().is_some_and(|e| e.id.index >= from) {
            let gone = self.dense.pop_back();
            self.discount(gone.as_ref());
        }
        if !self.sparse.is_empty() {
            for gone in self.sparse.split_off(&from).into_values() {
                self.discount(Some(&gone));
            }
        }
    }

    /// Nothing at or above the entry's index is held: the append's cut went first.
    fn append(&mut self, entry: &Entry) {
        if !self.dense.is_empty() && !self.is_next(entry.id.index) {
            // A new head (a snapshot was installed, or the log has a gap): appends follow here.
            self.sparse.extend(self.dense.drain(..).map(|e| (e.id.index, e)));
        }
        self.bytes += cost(entry);
        self.dense.push_back(entry.clone());
    }

    fn fill(&mut self, entry: &Entry) {
        let index = entry.id.index;
        self.bytes += cost(entry);
        if let Some(held) = self.dense_position(index).and_then(|at| self.dense.get_mut(at)) {
            let gone = core::mem::replace(held, entry.clone());
            self.discount(Some(&gone));
        } else if self.is_next(index) {
            let gone = self.sparse.remove(&index);
            self.discount(gone.as_ref());
            self.dense.push_back(entry.clone());
        } else {
            let gone = self.sparse.insert(index, entry.clone());
            self.discount(gone.as_ref());
        }
    }

    fn discount(&mut self, gone: Option<&Entry>) {
        self.bytes -= gone.map_or(0, cost);
    }
}

/// Where an operation cuts. An append that lost its first entries to damage still cuts behind
/// `prev`: what it overwrote is gone, whether or not what it wrote survived.
pub(crate) fn cut_of(op: &LogOp) -> Option<Index> {
    match op {
        LogOp::Append { prev, entries } => {
            let behind_prev = Index(prev.index.0.saturating_add(1));
            Some(entries.first().map_or(behind_prev, |e| e.id.index.min(behind_prev)))
        }
        LogOp::Cut { from } => Some(*from),
        LogOp::Fill { .. } => None,
    }
}

fn cost(entry: &Entry) -> u64 {
    entry.payload.len() as u64 + ENTRY_OVERHEAD
}

#[cfg(test)]
mod tests;
