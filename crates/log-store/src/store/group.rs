//! What the running store knows of one group's log.

use refloat_types::{EntryId, Index, IndexSet, LogOp};

use crate::log_map::LogMap;

/// One group's log in memory: no entries, only where they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupLog {
    pub(crate) map: LogMap,
    /// The newest snapshot: the head where the log is empty.
    pub(crate) base: EntryId,
    /// Where the log ends. What the map has above it came before its snapshot, without what stands
    /// in between, and is no part of the log.
    pub(crate) end: Index,
    /// At or below this index only live entries are kept.
    pub(crate) dead: Index,
    /// The highest index known to be on disk. Falls at once when a suffix is overwritten.
    pub(crate) durable: Index,
    /// The commit index that the host told last.
    pub(crate) commit: Index,
    /// Live indexes below the snapshots kept, whether or not their entries are here.
    pub(crate) live: IndexSet,
    /// Entries that the group needs and that are not on this disk, or cannot be read from it,
    /// as far as was noticed.
    pub(crate) unreadable: IndexSet,
    /// The last change of the group's value that was tried, so that no two have one number.
    pub(crate) value_change: u64,
}

impl GroupLog {
    pub(crate) fn last(&self) -> EntryId {
        let term = self.map.term(self.end).filter(|_| self.end > self.base.index);
        term.map_or(self.base, |term| EntryId::new(term, self.end))
    }

    /// Those of these entries that the log does not hold, nor keeps though they are below the
    /// snapshot.
    pub(crate) fn lacks(&self, indexes: &IndexSet) -> IndexSet {
        let mut lacked = indexes.difference(&self.live).difference(&self.map.indexes());
        super::add_all(&mut lacked, &indexes.intersection(&self.unreadable));
        lacked
    }

    /// The entries below the snapshot to which it refers and that cannot be read here.
    pub(crate) fn lost_live(&self) -> IndexSet {
        self.unreadable.intersection(&self.live)
    }

    /// A snapshot was published: what it does not refer to is needed no more.
    pub(crate) fn forget_needless(&mut self) {
        let live = self.lost_live();
        self.unreadable.remove_range(Index(1), self.dead);
        super::add_all(&mut self.unreadable, &live);
    }

    pub(crate) fn apply(&mut self, op: &LogOp) {
        if let Some(from) = op.cut_from() {
            // Before the new entries are on disk the old ones no longer count (scenario W17).
            self.durable = self.durable.min(from.prev());
            self.end = self.end.min(from.prev());
        }
        if let LogOp::Append { prev, entries } = op {
            self.end = prev.index + entries.len() as u64;
        }
        if !self.unreadable.is_empty() {
            // What is cut is needed only once it is written anew.
            let written = op.entries().iter().map(|entry| entry.id.index);
            written.for_each(|index| self.unreadable.remove_range(index, index));
        }
        self.map.apply(op);
    }

    /// A snapshot takes the log's place up to `id`.
    pub(crate) fn install(&mut self, id: EntryId) {
        self.map.drop_through(id.index);
        self.base = id;
        self.end = self.end.max(id.index);
    }

    /// An append up to `last` is on disk; it counts only if it was not overwritten since.
    pub(crate) fn persisted(&mut self, last: EntryId) {
        if self.map.term(last.index) == Some(last.term) {
            self.durable = self.durable.max(last.index);
        }
    }

    /// What may be written down as commit hint: never above what is durable.
    pub(crate) fn hint(&self) -> Index {
        self.commit.min(self.durable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use refloat_types::{Entry, EntryKind, Term};

    fn append(first: u64, last: u64, term: u64) -> LogOp {
        let entry = |i| {
            let id = EntryId::new(Term(term), Index(i));
            Entry::new(id, EntryKind::Command, bytes::Bytes::from_static(b"x"))
        };
        LogOp::Append {
            prev: EntryId::new(Term(1), Index(first - 1)),
            entries: (first..=last).map(entry).collect(),
        }
    }

    #[test]
    fn overwriting_a_suffix_lowers_durable_at_once_and_old_completions_do_not_raise_it() {
        let mut log = GroupLog::default();
        log.apply(&append(1, 9, 1));
        log.persisted(EntryId::new(Term(1), Index(9)));
        log.commit = Index(9);
        assert_eq!(log.hint(), Index(9));
        log.apply(&append(5, 9, 2));
        assert_eq!((log.durable, log.hint()), (Index(4), Index(4)));
        log.persisted(EntryId::new(Term(1), Index(9)));
        assert_eq!(log.durable, Index(4), "a completion of the overwritten entries");
        log.persisted(EntryId::new(Term(2), Index(9)));
        assert_eq!(log.durable, Index(9));
    }
}
