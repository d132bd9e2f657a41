//! The live segments of a node.

use std::sync::Arc;

use refloat_types::{EntryId, GroupKey, Index, IndexSet, Term};

use crate::{GroupMeta, Segment, SegmentName, TermRun};

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
        let mut claims = Claims::new(first, last);
        let mut sources = Vec::new();
        for segment in self.segments.iter().rev() {
            let Some(meta) = segment.group(group) else { continue };
            let spans = claims.claim(&meta).into_iter();
            sources.extend(spans.map(|(first, last)| Source {
                segment: Arc::clone(segment),
                first,
                last,
            }));
        }
        sources.sort_unstable_by_key(|source| source.first);
        sources
    }

    /// Which indexes the segments supply, and of which term; ascending.
    #[must_use]
    pub fn term_runs(&self, group: GroupKey) -> Vec<TermRun> {
        let mut runs: Vec<TermRun> = Vec::new();
        for source in self.all(group) {
            let Some(meta) = source.segment.group(group) else { continue };
            for run in runs_within(meta.terms, source.first, source.last) {
                match runs.last_mut() {
                    Some(last) if last.term == run.term && last.last.next() == run.first => {
                        last.last = run.last;
                    }
                    _ => runs.push(run),
                }
            }
        }
        runs
    }

    /// The term of one index.
    #[must_use]
    pub fn term(&self, group: GroupKey, index: Index) -> Option<Term> {
        let source = self.plan(group, index, index).pop()?;
        source.segment.group(group)?.term(index)
    }

    /// The entries that change the membership, ascending.
    #[must_use]
    pub fn configs(&self, group: GroupKey) -> Vec<EntryId> {
        let mut configs = Vec::new();
        for source in self.all(group) {
            let Some(meta) = source.segment.group(group) else { continue };
            let from = meta.configs.partition_point(|index| *index < source.first);
            let inside = meta.configs[from..].iter().take_while(|index| **index <= source.last);
            let ids = inside.filter_map(|index| Some(EntryId::new(meta.term(*index)?, *index)));
            configs.extend(ids);
        }
        configs
    }

    /// The lowest index that any segment cut at.
    #[must_use]
    pub fn lowest_cut(&self, group: GroupKey) -> Option<Index> {
        self.segments.iter().filter_map(|s| s.group(group)?.cut).min()
    }

    fn all(&self, group: GroupKey) -> Vec<Source> {
        self.plan(group, Index::ZERO, Index(u64::MAX))
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

/// An inclusive range of indexes.
pub(crate) type Span = (Index, Index);

/// Which indexes no newer segment supplied or hid: what is handed on from newer to older.
pub(crate) struct Claims {
    unclaimed: Vec<Span>,
}

impl Claims {
    pub(crate) fn new(first: Index, last: Index) -> Claims {
        let unclaimed = if first <= last { vec![(first, last)] } else { Vec::new() };
        Claims { unclaimed }
    }

    /// What a segment supplies: its runs as far as they are unclaimed. Then its cut hides the rest.
    pub(crate) fn claim(&mut self, meta: &GroupMeta<'_>) -> Vec<Span> {
        let mut held = IndexSet::new();
        for (first, last) in &self.unclaimed {
            for run in runs_within(meta.terms, *first, *last) {
                held.insert_range(run.first, run.last);
            }
        }
        self.unclaimed = without(&self.unclaimed, held.ranges());
        if let Some(cut) = meta.cut {
            self.unclaimed = without(&self.unclaimed, &[(cut, Index(u64::MAX))]);
        }
        held.ranges().to_vec()
    }
}

/// Ascending spans without what others, also ascending, cover. Linear: there may be many.
fn without(spans: &[Span], covered: &[Span]) -> Vec<Span> {
    let mut left = Vec::with_capacity(spans.len());
    let mut covered = covered.iter().peekable();
    for (mut first, last) in spans.iter().copied() {
        let mut all_covered = false;
        while covered.next_if(|c| c.1 < first).is_some() {}
        while let Some((from, to)) = covered.peek().filter(|c| c.0 <= last) {
            if first < *from {
                left.push((first, from.prev()));
            }
            if *to >= last {
                all_covered = true;
                break;
            }
            first = to.next();
            covered.next();
        }
        if !all_covered {
            left.push((first, last));
        }
    }
    left
}

/// The parts of ascending runs that lie between two indexes.
fn runs_within(runs: &[TermRun], first: Index, last: Index) -> impl Iterator<Item = TermRun> {
    let from = runs.partition_point(|run| run.last < first);
    runs[from..].iter().take_while(move |run| run.first <= last).map(move |run| TermRun {
        term: run.term,
        first: run.first.max(first),
        last: run.last.min(last),
    })
}
