//! Sets of indexes, kept as ranges.

use alloc::vec::Vec;
use core::fmt;

use crate::Index;

/// A set of indexes, stored as sorted, disjoint, non-adjacent inclusive ranges.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct IndexSet {
    ranges: Vec<(Index, Index)>,
}

impl IndexSet {
    /// The empty set.
    #[must_use]
    pub const fn new() -> IndexSet {
        IndexSet { ranges: Vec::new() }
    }

    /// Adds one index.
    pub fn insert(&mut self, index: Index) {
        self.insert_range(index, index);
    }

    /// Adds `first..=last`; nothing if `first > last`.
    pub fn insert_range(&mut self, first: Index, last: Index) {
        if first > last {
            return;
        }
        let start = self.ranges.partition_point(|r| r.1.0.saturating_add(1) < first.0);
        let end = self.ranges.partition_point(|r| r.0.0 <= last.0.saturating_add(1));
        let (mut lo, mut hi) = (first, last);
        if start < end {
            lo = lo.min(self.ranges[start].0);
            hi = hi.max(self.ranges[end - 1].1);
        }
        self.ranges.splice(start..end, [(lo, hi)]);
    }

    /// Takes `first..=last` out; nothing if `first > last`.
    pub fn remove_range(&mut self, first: Index, last: Index) {
        if first > last {
            return;
        }
        let mut kept = Vec::with_capacity(self.ranges.len() + 1);
        for &(lo, hi) in &self.ranges {
            if hi < first || lo > last {
                kept.push((lo, hi));
                continue;
            }
            if lo < first {
                kept.push((lo, first.prev()));
            }
            if hi > last {
                kept.push((last.next(), hi));
            }
        }
        self.ranges = kept;
    }

    /// What is in this set and not in the other. Takes as long as both have ranges, however many
    /// indexes these hold.
    #[must_use]
    pub fn difference(&self, other: &IndexSet) -> IndexSet {
        let mut ranges = Vec::new();
        let mut cuts = other.ranges.iter().peekable();
        for &(first, last) in &self.ranges {
            while cuts.next_if(|cut| cut.1 < first).is_some() {}
            let mut rest = Some(first);
            for cut in cuts.clone().take_while(|cut| cut.0 <= last) {
                let at = rest.take().unwrap_or(first);
                if at < cut.0 {
                    ranges.push((at, cut.0.prev()));
                }
                if cut.1 >= last {
                    break;
                }
                rest = Some(cut.1.next());
            }
            ranges.extend(rest.map(|at| (at, last)));
        }
        IndexSet { ranges }
    }

    /// What is in both sets. Takes as long as both have ranges.
    #[must_use]
    pub fn intersection(&self, other: &IndexSet) -> IndexSet {
        self.difference(&self.difference(other))
    }

    /// Whether an index is in the set.
    #[must_use]
    pub fn contains(&self, index: Index) -> bool {
        let at = self.ranges.partition_point(|r| r.1 < index);
        self.ranges.get(at).is_some_and(|r| r.0 <= index)
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many indexes are in it.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.ranges.iter().map(|r| (r.1 - r.0).saturating_add(1)).sum()
    }

    /// The lowest index in it.
    #[must_use]
    pub fn first(&self) -> Option<Index> {
        self.ranges.first().map(|r| r.0)
    }

    /// The highest index in it.
    #[must_use]
    pub fn last(&self) -> Option<Index> {
        self.ranges.last().map(|r| r.1)
    }

    /// The ranges, ascending, both ends included.
    #[must_use]
    pub fn ranges(&self) -> &[(Index, Index)] {
        &self.ranges
    }

    /// Every index, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Index> + '_ {
        self.ranges.iter().flat_map(|&(lo, hi)| (lo.0..=hi.0).map(Index))
    }
}

impl FromIterator<Index> for IndexSet {
    fn from_iter<I: IntoIterator<Item = Index>>(iter: I) -> IndexSet {
        let mut set = IndexSet::new();
        for index in iter {
            set.insert(index);
        }
        set
    }
}

impl fmt::Debug for IndexSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for IndexSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (n, (lo, hi)) in self.ranges.iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            if lo == hi {
                write!(f, "{comma}{lo}")?;
            } else {
                write!(f, "{comma}{lo}..={hi}")?;
            }
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn behaves_like_a_set_of_numbers() {
        // A small exhaustive-ish walk: a fixed stream of inserts and removes against a model.
        let (mut set, mut model) = (IndexSet::new(), BTreeSet::new());
        let mut x = 12345u64;
        for _ in 0..4000 {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let (first, len, insert) = (x >> 33 & 63, x >> 40 & 7, x >> 50 & 1 == 0);
            let last = first + len;
            if insert {
                set.insert_range(Index(first), Index(last));
                model.extend(first..=last);
            } else {
                set.remove_range(Index(first), Index(last));
                model.retain(|i| !(first..=last).contains(i));
            }
            assert!(set.iter().map(|i| i.0).eq(model.iter().copied()));
            assert_eq!(set.len(), model.len() as u64);
            assert!((0..80).all(|i| set.contains(Index(i)) == model.contains(&i)));
            assert!(set.ranges().windows(2).all(|w| w[0].1.0 + 1 < w[1].0.0), "ranges stay merged");
        }
    }

    #[test]
    fn difference_and_intersection_are_what_one_by_one_would_leave_however_many_indexes_there_are()
    {
        let mut x = 99u64;
        let mut set = || {
            let mut set = IndexSet::new();
            for _ in 0..6 {
                x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                set.insert_range(Index(x >> 33 & 63), Index((x >> 33 & 63) + (x >> 40 & 7)));
            }
            set
        };
        for _ in 0..2000 {
            let (a, b) = (set(), set());
            let left: IndexSet = a.iter().filter(|i| !b.contains(*i)).collect();
            assert_eq!(a.difference(&b), left, "{a} without {b}");
            let both: IndexSet = a.iter().filter(|i| b.contains(*i)).collect();
            assert_eq!(a.intersection(&b), both, "{a} and {b}");
        }
        let mut all = IndexSet::new();
        all.insert_range(Index(1), Index(1 << 60));
        let one: IndexSet = [Index(7)].into_iter().collect();
        assert_eq!(
            all.difference(&one).ranges(),
            &[(Index(1), Index(6)), (Index(8), Index(1 << 60))]
        );
        assert!(one.difference(&all).is_empty());
    }

    #[test]
    fn removing_from_the_lowest_index_does_not_wrap() {
        let mut set: IndexSet = (0..5).map(Index).collect();
        set.remove_range(Index(0), Index(2));
        assert_eq!(set.ranges(), &[(Index(3), Index(4))]);
    }
}
