//! What of a group's log is missing, and of which terms it was.
//!
//! A hole keeps its index and its term: a replica that has lost an entry still knows that there
//! was one, and compares logs by it. A hole's term is known from the directory of the damaged
//! batch, or from its neighbours, since terms only rise along a log.

use refloat_types::{EntryId, Index, IndexSet};

use crate::log_map::LogMap;

/// A group's log, holes included, as far as terms are known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outline {
    /// All entries above the snapshot, also those that cannot be read.
    pub(crate) map: LogMap,
    /// Those that cannot be read.
    pub(crate) holes: IndexSet,
    /// Where the outline ends although the log may not: behind it terms are unknown.
    pub(crate) ends_before: Option<Index>,
}

impl Outline {
    /// Of the entries that are there, above `base`, and the ids of lost ones that the log names.
    pub(crate) fn new<'a>(
        found: &LogMap,
        base: EntryId,
        lost: impl IntoIterator<Item = &'a EntryId>,
    ) -> Outline {
        let mut outline = Outline { map: found.clone(), ..Outline::default() };
        for id in lost {
            if id.index > base.index && found.term(id.index).is_none() {
                outline.map.put(*id);
                outline.holes.insert(id.index);
            }
        }
        outline.bridge_gaps(base);
        outline
    }

    /// Between two entries of one term there are only entries of that term.
    fn bridge_gaps(&mut self, base: EntryId) {
        for (first, last) in self.map.gaps(base.index).ranges() {
            let before = match first.prev() {
                at if at == base.index => (at.0 > 0).then_some(base.term),
                at => self.map.term(at),
            };
            match before {
                Some(term) if self.map.term(last.next()) == Some(term) => {
                    self.map.put_run(*first, *last, term);
                    self.holes.insert_range(*first, *last);
                }
                _ => return self.end_before(*first),
            }
        }
    }

    /// Ends the outline: nothing from `at` on is relied on.
    pub(crate) fn end_before(&mut self, at: Index) {
        self.map.cut(at);
        self.holes.remove_range(at, Index(u64::MAX));
        self.ends_before = Some(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use refloat_types::Term;

    fn map(runs: &[(u64, u64, u64)]) -> LogMap {
        let mut map = LogMap::default();
        for (first, last, term) in runs {
            map.put_run(Index(*first), Index(*last), Term(*term));
        }
        map
    }

    fn id(term: u64, index: u64) -> EntryId {
        EntryId::new(Term(term), Index(index))
    }

    #[test]
    fn a_hole_has_the_term_that_the_log_names_or_that_stands_on_both_sides() {
        let lost = [id(2, 6)];
        let outline = Outline::new(&map(&[(1, 2, 1), (4, 5, 1), (7, 9, 2)]), EntryId::ZERO, &lost);
        assert_eq!(outline.holes.iter().map(|i| i.0).collect::<Vec<_>>(), [3, 6]);
        assert_eq!(outline.map.term(Index(3)), Some(Term(1)));
        assert_eq!(outline.map.last(), Some(id(2, 9)));
        assert_eq!(outline.ends_before, None);
    }

    #[test]
    fn lost_entries_at_the_end_are_part_of_the_log() {
        let lost = [id(1, 3), id(2, 4)];
        let outline = Outline::new(&map(&[(1, 2, 1)]), EntryId::ZERO, &lost);
        assert_eq!(outline.map.last(), Some(id(2, 4)));
        assert_eq!(outline.holes.iter().count(), 2);
    }

    #[test]
    fn where_terms_are_not_known_the_outline_ends() {
        let outline = Outline::new(&map(&[(1, 2, 1), (5, 9, 3)]), EntryId::ZERO, &[]);
        assert_eq!((outline.map.last(), outline.ends_before), (Some(id(1, 2)), Some(Index(3))));
        assert!(outline.holes.is_empty());
        let outline = Outline::new(&map(&[(3, 9, 3)]), EntryId::ZERO, &[]);
        assert_eq!((outline.map.last(), outline.ends_before), (None, Some(Index(1))));
        let outline = Outline::new(&map(&[(13, 19, 3)]), id(3, 10), &[]);
        assert_eq!(outline.holes.iter().map(|i| i.0).collect::<Vec<_>>(), [11, 12]);
    }

    #[test]
    fn what_is_not_above_the_snapshot_or_is_there_is_no_hole() {
        let lost = [id(1, 3), id(1, 7)];
        let outline = Outline::new(&map(&[(6, 9, 1)]), id(1, 5), &lost);
        assert!(outline.holes.is_empty() && outline.ends_before.is_none());
    }
}
