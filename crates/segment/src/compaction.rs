//! Giving back the space of dead entries.

use std::cmp::Reverse;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use refloat_planted::{Defect, is};
use refloat_types::{GroupKey, Index, IndexSet};
use refloat_vfs::Vfs;

use crate::format::{Head, MAX_INPUTS};
use crate::frame::HEAD_LEN;
use crate::set::{Claims, Span};
use crate::write::write_with;
use crate::writer::Writer;
use crate::{GroupMeta, Segment, SegmentError, SegmentName, SegmentSet, Source};

/// How much is read at once while copying.
const COPY_LEN: usize = 256 << 10;

/// Which entries of a group are still needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Those above an index (the older kept snapshot's), and the live ones at or below it.
    Log {
        /// All above this are kept.
        above: Index,
        /// These are kept too.
        live: IndexSet,
    },
    /// None: the group was deleted.
    Gone,
}

/// When a compaction is worth its writes. Sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// A segment with a smaller share of needed bytes than this is rewritten.
    pub live_percent: u8,
    /// Segments shorter than this are merged with their neighbours.
    pub small: u64,
    /// How many small neighbours make a merge worth it.
    pub merge_from: usize,
    /// No merge makes a longer output, unless there are more segments than `max_segments`.
    pub target: u64,
    /// More segments than this are merged whatever their size: a read may have to ask each.
    pub max_segments: usize,
    /// Segments to leave alone, for instance because they have holes that are being healed.
    pub avoid: Vec<SegmentName>,
    /// Segments to write anew though nothing of them is dead, because one copy of something that
    /// they hold twice does not verify ([`SegmentError::Copy`]). Those that opened as
    /// [impaired](Segment::is_impaired) are written anew without being named.
    pub worn: Vec<SegmentName>,
    /// Segments that should be there and are not. An output that took in what is older and what
    /// is newer than such a one would hide which of it a lost cut may have hidden.
    pub lost: Vec<SegmentName>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            live_percent: 50,
            small: 16 << 20,
            merge_from: 4,
            target: 256 << 20,
            max_segments: 32,
            avoid: Vec::new(),
            worn: Vec::new(),
            lost: Vec::new(),
        }
    }
}

impl Keep {
    /// The parts of a span that are needed.
    fn needed(&self, (first, last): Span) -> Vec<Span> {
        let Keep::Log { above, live } = self else { return Vec::new() };
        let mut spans: Vec<Span> = Vec::new();
        let from = live.ranges().partition_point(|live| live.1 < first);
        let below = last.min(*above);
        for (lo, hi) in live.ranges()[from..].iter().take_while(|live| live.0 <= below) {
            spans.push((first.max(*lo), below.min(*hi)));
        }
        if last > *above {
            let start = first.max(above.next());
            match spans.last_mut() {
                Some(span) if span.1.next() == start => span.1 = last,
                _ => spans.push((start, last)),
            }
        }
        spans
    }

    /// Whether a cut may still hide something needed, in any older segment, known here or not.
    /// `below` is the lowest cut of all newer segments: what lies above is hidden without it.
    fn needs_cut(&self, cut: Index, below: Index) -> bool {
        cut < below && !self.needed((cut, below.prev())).is_empty()
    }
}

/// One compaction, ready to run: owns all it needs.
#[derive(Debug)]
pub struct Compaction {
    dir: PathBuf,
    head: Head,
    steps: Vec<Step>,
}

/// What the output will hold for one group.
#[derive(Debug)]
struct Step {
    group: GroupKey,
    cut: Option<Index>,
    /// Ascending.
    sources: Vec<Source>,
}

impl Compaction {
    /// The segments that the output replaces, or that go without one, oldest first.
    #[must_use]
    pub fn inputs(&self) -> &[SegmentName] {
        &self.head.inputs
    }

    /// Writes the output and makes it durable. Blocking. `None` if nothing of the inputs is needed.
    ///
    /// The inputs stay. The caller publishes the output in their place (or their removal), and
    /// only when that is durable removes them ([`crate::remove_files`]).
    ///
    /// # Errors
    /// As [`crate::write()`], and [`SegmentError::Damaged`] if an entry that is needed cannot be
    /// read; the inputs are then as before.
    pub fn run(&self, vfs: &dyn Vfs) -> Result<Option<Segment>, SegmentError> {
        if self.steps.is_empty() {
            return Ok(None);
        }
        let head = Head { name: self.free_name(vfs)?, ..self.head.clone() };
        write_with(vfs, &self.dir, head, |writer| {
            self.steps.iter().try_for_each(|step| step.copy(writer))
        })
        .map(Some)
    }

    /// A name that no file bears: an output that was never published may stand there, and its
    /// removal may be under way.
    fn free_name(&self, vfs: &dyn Vfs) -> Result<SegmentName, SegmentError> {
        let mut name = self.head.name;
        loop {
            let path = self.dir.join(name.to_string());
            if !vfs.exists(&path).map_err(SegmentError::io(&path, "look for"))? {
                return Ok(name);
            }
            let (what, expected, found) = ("revision", u32::MAX.into(), u32::MAX.into());
            let too_large = SegmentError::TooLarge { what, expected, found };
            name.revision = name.revision.checked_add(1).ok_or(too_large)?;
        }
    }
}

impl Step {
    fn copy(&self, writer: &mut Writer<'_>) -> Result<(), SegmentError> {
        writer.group(self.group, self.cut)?;
        for Source { segment, first, last } in &self.sources {
            let mut next = *first;
            loop {
                let entries = segment.read(self.group, next, *last, COPY_LEN)?;
                entries.iter().try_for_each(|entry| writer.entry(entry))?;
                match entries.last() {
                    Some(entry) if entry.id.index < *last => next = entry.id.index.next(),
                    _ => break,
                }
            }
        }
        Ok(())
    }
}

/// Chooses the most useful compaction, or none: first what costs no write (dead segments), then
/// what has only one good copy left of what should be there twice, then what frees most (segments with few needed bytes, and runs of small ones), then what bounds the
/// number of files. `keep` is asked once per group, or twice if something is chosen. Reads no
/// file; walks over the index of every group of every segment.
#[must_use]
pub fn plan_compaction(
    set: &SegmentSet,
    keep: &dyn Fn(GroupKey) -> Keep,
    limits: &Limits,
) -> Option<Compaction> {
    let segments: Vec<&Arc<Segment>> = set.iter().collect();
    let shares = shares(set, &segments, keep);
    let allowed = |at: usize| !limits.avoid.contains(&segments[at].name());
    let dead: Vec<usize> =
        (0..segments.len()).filter(|at| allowed(*at) && !shares[*at].needed).collect();
    let (chosen, steps) = if dead.is_empty() {
        let worn = |at: &usize| {
            let segment = segments[*at];
            segment.is_impaired() || limits.worn.contains(&segment.name())
        };
        let chosen = match (0..segments.len()).find(|at| allowed(*at) && worn(at)) {
            Some(at) => vec![at],
            None => {
                let names: Vec<SegmentName> = segments.iter().map(|s| s.name()).collect();
                let apart = |at: usize| is_apart(&names, at, &limits.lost);
                choose_window(&shares, limits, &allowed, &apart)?.collect()
            }
        };
        let steps = steps(set, &segments, &chosen, keep);
        (chosen, steps)
    } else {
        (dead, Vec::new())
    };
    let inputs: Vec<&Arc<Segment>> = chosen.iter().map(|at| segments[*at]).collect();
    let newest = inputs.last()?;
    let name = newest.name();
    let head = Head {
        identity: newest.identity(),
        name: SegmentName::new(name.generation, name.revision.saturating_add(1)),
        first_generation: inputs.iter().map(|s| s.first_generation()).min()?,
        inputs: inputs.iter().map(|s| s.name()).collect(),
    };
    Some(Compaction { dir: newest.path().parent()?.to_path_buf(), head, steps })
}

/// How much of a segment is needed.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    /// The length of the file.
    file_len: u64,
    /// Bytes of all entries.
    bytes: u64,
    /// Bytes of needed entries, by the average per group.
    needed_bytes: u64,
    /// Whether there is a needed entry or cut.
    needed: bool,
}

fn shares(
    set: &SegmentSet,
    segments: &[&Arc<Segment>],
    keep: &dyn Fn(GroupKey) -> Keep,
) -> Vec<Share> {
    let share = |s: &&Arc<Segment>| Share { file_len: s.file_len(), ..Share::default() };
    let mut shares: Vec<Share> = segments.iter().map(share).collect();
    for group in set.groups() {
        resolve(segments, group, &keep(group), |at, meta, cut, spans| {
            let share = &mut shares[at];
            let needed: u64 = spans.iter().map(|(first, last)| *last - *first + 1).sum();
            let bytes = meta.bytes + meta.count * HEAD_LEN as u64;
            share.bytes += bytes;
            share.needed_bytes +=
                (u128::from(bytes) * u128::from(needed) / u128::from(meta.count.max(1))) as u64;
            share.needed |= needed > 0 || cut.is_some();
        });
    }
    shares
}

/// Walks over a group's segments from new to old and says what of each is needed: its cut, if that
/// still hides something, and the spans that no newer segment supplies or hides.
fn resolve(
    segments: &[&Arc<Segment>],
    group: GroupKey,
    keep: &Keep,
    mut visit: impl FnMut(usize, GroupMeta<'_>, Option<Index>, Vec<Span>),
) {
    let mut claims = Claims::new(Index::ZERO, Index(u64::MAX));
    let mut below = Index(u64::MAX);
    for (at, segment) in segments.iter().enumerate().rev() {
        let Some(meta) = segment.group(group) else { continue };
        let spans = claims.claim(&meta).into_iter().flat_map(|span| keep.needed(span)).collect();
        let cut = meta.cut.filter(|cut| keep.needs_cut(*cut, below));
        visit(at, meta, cut, spans);
        below = below.min(meta.cut.unwrap_or(below));
    }
}

fn steps(
    set: &SegmentSet,
    segments: &[&Arc<Segment>],
    chosen: &[usize],
    keep: &dyn Fn(GroupKey) -> Keep,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let concerned =
        |group: &GroupKey| chosen.iter().any(|at| segments[*at].group(*group).is_some());
    for group in set.groups().into_iter().filter(concerned) {
        let mut step = Step { group, cut: None, sources: Vec::new() };
        resolve(segments, group, &keep(group), |at, _, cut, spans| {
            if !chosen.contains(&at) {
                return;
            }
            step.cut = [step.cut, cut].into_iter().flatten().min();
            let source = |(first, last)| Source { segment: Arc::clone(segments[at]), first, last };
            step.sources.extend(spans.into_iter().map(source));
        });
        if step.cut.is_some() || !step.sources.is_empty() {
            step.sources.sort_unstable_by_key(|source| source.first);
            steps.push(step);
        }
    }
    steps
}

/// Segments that follow each other and are worth rewriting as one. Only neighbours: an output takes
/// the place of its newest input, and a segment in between would end up on the wrong side.
fn choose_window(
    shares: &[Share],
    limits: &Limits,
    allowed: &dyn Fn(usize) -> bool,
    apart: &dyn Fn(usize) -> bool,
) -> Option<Range<usize>> {
    let windows = || windows(shares.len(), allowed, apart);
    let cost = |w: &Range<usize>| shares[w.clone()].iter().map(|s| s.needed_bytes).sum::<u64>();
    let freed = |w: &Range<usize>| shares[w.clone()].iter().map(|s| s.bytes).sum::<u64>() - cost(w);
    let worth = |w: &Range<usize>| cost(w) <= limits.target && is_worth(&shares[w.clone()], limits);
    let best = windows().filter(worth).max_by_key(|w| (freed(w), w.len(), Reverse(w.start)));
    best.or_else(|| {
        let too_many = shares.len().checked_sub(limits.max_segments).filter(|n| *n > 0)?;
        let len = (too_many + 1).min(MAX_INPUTS);
        // The widest run that may be merged, if `avoid` leaves none of that length.
        let len = windows().map(|w| w.len()).filter(|l| *l <= len).max().filter(|l| *l > 1)?;
        windows().filter(|w| w.len() == len).min_by_key(|w| (cost(w), w.start))
    })
}

/// Whether something lost stands between a segment and the one before it.
fn is_apart(names: &[SegmentName], at: usize, lost: &[SegmentName]) -> bool {
    let (Some(before), Some(here)) =
        (at.checked_sub(1).and_then(|at| names.get(at)), names.get(at))
    else {
        return false;
    };
    let between = lost.iter().any(|lost| before < lost && lost < here);
    between && !is(Defect::MergedAcrossALoss)
}

fn windows(
    len: usize,
    allowed: &dyn Fn(usize) -> bool,
    apart: &dyn Fn(usize) -> bool,
) -> impl Iterator<Item = Range<usize>> {
    (0..len).flat_map(move |start| {
        let joins = |at: &usize| allowed(*at) && (*at == start || !apart(*at));
        let end = (start..len.min(start + MAX_INPUTS)).take_while(joins).count() + start;
        (start + 1..=end).map(move |end| start..end)
    })
}

/// Every member gains by it: each has few needed bytes, or is small. A merge of small ones waits
/// until there are some of like size, so that no byte is copied for every flush.
fn is_worth(window: &[Share], limits: &Limits) -> bool {
    let sparse = |s: &Share| {
        let limit = u128::from(s.bytes) * u128::from(limits.live_percent);
        s.bytes > 0 && u128::from(s.needed_bytes) * 100 < limit
    };
    let small = |s: &Share| s.file_len < limits.small;
    if !window.iter().all(|s| sparse(s) || small(s)) {
        return false;
    }
    if window.iter().any(sparse) {
        return window.iter().all(sparse);
    }
    let total: u64 = window.iter().map(|s| s.file_len).sum();
    let largest = window.iter().map(|s| s.file_len).max().unwrap_or_default();
    window.len() >= limits.merge_from.max(2) && largest <= total - largest
}

#[cfg(test)]
mod tests;
