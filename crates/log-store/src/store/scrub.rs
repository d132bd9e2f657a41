//! Reads all sealed bytes again and again, slowly, so that what rots is found, and healed, before
//! a second copy rots too.

mod start;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use refloat_segment::{SegmentError, SegmentName};
use refloat_snapshot::{SnapshotError, SnapshotFile};
use refloat_types::{EntryId, Generation, GroupKey, Identity, Index, IndexSet, Now};
use refloat_vfs::Vfs;

use self::start::Share;
use super::read::with_cause;
use super::{Job, LogStore};
use crate::boot::{votes_options, wal_options};
use crate::event::Event;

/// Bytes that one step reads, or one stretch of a file if that is longer.
const STEP: u64 = 256 << 10;
/// Microseconds from the start to the first walk, and between two walks at least.
const REST: u64 = 60_000_000;

/// Counters of the background that reads sealed files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScrubStats {
    /// Bytes read.
    pub bytes: u64,
    /// Walks over everything that came to their end.
    pub cycles: u64,
    /// Places where something does not hold, each time it was seen.
    pub rot: u64,
}

/// One file to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Segment(SegmentName),
    Snapshot(GroupKey, EntryId),
    Log(Generation),
    Votes(Generation),
}

/// Where the background is.
#[derive(Debug, Default)]
pub(crate) struct Scrubber {
    /// What this walk has still to read.
    queue: VecDeque<Target>,
    /// Of the first file in it, how much is left for the end of the walk.
    skip: Share,
    /// A file that was begun.
    begun: Option<(Target, Walk)>,
    busy: bool,
    /// Nothing is read before.
    due: Option<Now>,
    /// When this walk began.
    since: Option<Now>,
    stats: ScrubStats,
}

#[derive(Debug)]
enum Walk {
    Segment(refloat_segment::Scrub),
    Snapshot(Box<refloat_snapshot::Scrub>),
    /// One that is not open yet.
    Closed(PathBuf, Identity, Share),
    Log(refloat_wal::Scrub),
}

impl Walk {
    fn over_snapshot(file: SnapshotFile, skip: Share) -> Walk {
        let chunk = skip.of(file.meta().chunks.into()) as u32;
        Walk::Snapshot(Box::new(match chunk {
            0 => refloat_snapshot::Scrub::new(file),
            _ => refloat_snapshot::Scrub::resume(file, chunk),
        }))
    }
}

/// One step.
#[derive(Debug)]
pub(crate) struct ScrubJob {
    target: Target,
    walk: Walk,
}

#[derive(Debug)]
pub(crate) struct ScrubDone {
    target: Target,
    /// `None` once the file is through.
    walk: Option<Walk>,
    bytes: u64,
    found: Vec<Found>,
}

#[derive(Debug)]
enum Found {
    Segment(SegmentError),
    Snapshot(SnapshotError),
    Log(refloat_wal::Rot),
}

impl ScrubJob {
    pub(super) fn run(self, vfs: &Arc<dyn Vfs>) -> ScrubDone {
        let ScrubJob { target, walk } = self;
        let done = |walk, bytes, found| ScrubDone { target, walk, bytes, found };
        match walk {
            Walk::Segment(mut scrub) => {
                let step = scrub.step(STEP);
                let found = step.found.into_iter().map(Found::Segment).collect();
                done((!scrub.is_done()).then_some(Walk::Segment(scrub)), step.bytes, found)
            }
            Walk::Snapshot(mut scrub) => {
                let step = scrub.step(STEP);
                let found = step.found.into_iter().map(Found::Snapshot).collect();
                done((!scrub.is_done()).then_some(Walk::Snapshot(scrub)), step.bytes, found)
            }
            Walk::Closed(path, identity, skip) => {
                match SnapshotFile::open(vfs.as_ref(), &path, &identity) {
                    Ok(file) => done(Some(Walk::over_snapshot(file, skip)), 4096, Vec::new()),
                    Err(error) => done(None, 4096, vec![Found::Snapshot(error)]),
                }
            }
            Walk::Log(mut scrub) => {
                let step = scrub.step(vfs.as_ref(), STEP);
                let found = step.found.into_iter().map(Found::Log).collect();
                done((!scrub.is_done()).then_some(Walk::Log(scrub)), step.bytes, found)
            }
        }
    }
}

impl LogStore {
    /// The next step, if one is due.
    pub(super) fn start_scrub(&mut self, now: Now) -> Option<Job> {
        if self.options.scrub_rate == 0 || self.scrub.busy {
            return None;
        }
        let due = *self.scrub.due.get_or_insert(now.after(REST));
        if now < due {
            return None;
        }
        if self.scrub.since.is_none() {
            self.scrub.since = Some(now);
            self.plan_walk();
        }
        let mut next = self.scrub.begun.take();
        while next.is_none() {
            let Some(target) = self.scrub.queue.pop_front() else {
                self.end_cycle(now);
                return None;
            };
            let skip = std::mem::take(&mut self.scrub.skip);
            next = self.walk_over(target, skip).map(|walk| (target, walk));
        }
        let (target, walk) = next?;
        self.scrub.busy = true;
        Some(Job::scrub(ScrubJob { target, walk }))
    }

    /// The first walk of a run begins where none of the last ones did, and goes round.
    fn plan_walk(&mut self) {
        self.scrub.queue = self.all_sealed();
        if self.scrub.stats.cycles > 0 {
            return;
        }
        let lengths: Vec<u64> =
            self.scrub.queue.iter().map(|target| self.length_of(*target)).collect();
        let (first, skip) = start::of_walk(self.run, &lengths);
        self.scrub.queue.rotate_left(first);
        // A log file is read from its start.
        let first = self.scrub.queue.front().copied();
        let first = first.filter(|file| matches!(file, Target::Segment(_) | Target::Snapshot(..)));
        if skip > Share::NONE && first.is_some() {
            // Whole, since a digest may be over all of it.
            self.scrub.queue.extend(first);
            self.scrub.skip = skip;
        }
    }

    /// About how long a file is: what it weighs where a walk has to begin somewhere.
    fn length_of(&self, target: Target) -> u64 {
        match target {
            Target::Segment(name) => self.segments.get(name).map_or(0, |file| file.file_len()),
            // The one before it will be about as long.
            Target::Snapshot(group, _) => {
                self.snapshot_file(group).map_or(0, |file| file.file_len())
            }
            Target::Log(_) => self.options.wal_file_size,
            Target::Votes(_) => self.options.votes_file_size,
        }
    }

    fn end_cycle(&mut self, now: Now) {
        self.scrub.stats.cycles += 1;
        let since = self.scrub.since.take().unwrap_or(now);
        self.scrub.due = Some(since.after(self.options.scrub_cycle).max(now.after(REST)));
    }

    fn all_sealed(&self) -> VecDeque<Target> {
        let segments = self.segments.iter().map(|segment| Target::Segment(segment.name()));
        let snapshots = self
            .published
            .iter()
            .flat_map(|(group, ids)| ids.iter().map(|id| Target::Snapshot(*group, *id)));
        let logs = self.wal.complete_files().map(Target::Log);
        let votes = self.votes.complete_files().map(Target::Votes);
        snapshots.chain(segments).chain(logs).chain(votes).collect()
    }

    /// `None` where the file is gone meanwhile.
    fn walk_over(&self, target: Target, skip: Share) -> Option<Walk> {
        if !self.is_sealed(target) {
            return None;
        }
        Some(match target {
            Target::Segment(name) => {
                let segment = self.segments.get(name)?.clone();
                let from = skip.of(segment.file_len());
                Walk::Segment(refloat_segment::Scrub::resume(segment, from))
            }
            Target::Snapshot(group, id) => match self.snapshot_file(group) {
                Some(file) if file.meta().id == id => Walk::over_snapshot((*file).clone(), skip),
                _ => Walk::Closed(self.snapshot_path(group, id), self.identity, skip),
            },
            Target::Log(generation) => {
                let options = wal_options(&self.options, self.identity);
                Walk::Log(refloat_wal::Scrub::new(options, generation))
            }
            Target::Votes(generation) => {
                let options = votes_options(&self.options, self.identity);
                Walk::Log(refloat_wal::Scrub::new(options, generation))
            }
        })
    }

    fn is_sealed(&self, target: Target) -> bool {
        match target {
            Target::Segment(name) => self.segments.get(name).is_some(),
            Target::Snapshot(group, id) => {
                self.published.get(&group).is_some_and(|ids| ids.contains(&id))
            }
            Target::Log(generation) => self.wal.complete_files().any(|file| file == generation),
            Target::Votes(generation) => self.votes.complete_files().any(|file| file == generation),
        }
    }

    pub(super) fn scrubbed(&mut self, now: Now, done: ScrubDone) {
        self.scrub.busy = false;
        self.scrub.begun = done.walk.map(|walk| (done.target, walk));
        self.scrub.stats.bytes += done.bytes;
        let rate = self.options.scrub_rate.max(1);
        self.scrub.due = Some(now.after(done.bytes.saturating_mul(1_000_000) / rate));
        // What was given up while it was read is nobody's loss.
        if self.is_sealed(done.target) {
            done.found.into_iter().for_each(|found| self.rot(done.target, found));
        }
    }

    /// Somebody else than the scrub read a segment and found it rotten.
    pub(super) fn segment_is_rotten(&mut self, name: SegmentName, error: SegmentError) {
        self.rot(Target::Segment(name), Found::Segment(error));
    }

    fn rot(&mut self, target: Target, found: Found) {
        self.scrub.stats.rot += 1;
        let (mut group, mut entries, mut snapshot) = (None, IndexSet::new(), None);
        let evidence = match (&found, target) {
            (Found::Segment(error), Target::Segment(name)) => {
                self.hurt.insert(name);
                if matches!(error, SegmentError::Copy { .. }) {
                    self.worn.push(name);
                    self.worth_planning = true;
                }
                if let Some(damage) = error.damage() {
                    group = Some(damage.group);
                    let (first, last) = (damage.first.index, damage.last.index);
                    entries = self.needed_from(name, damage.group, first, last);
                    if let Some(log) = self.logs.get_mut(&damage.group) {
                        super::add_all(&mut log.unreadable, &entries);
                    }
                }
                with_cause(error)
            }
            (Found::Snapshot(error), Target::Snapshot(key, id)) => {
                (group, snapshot) = (Some(key), Some(id));
                self.snapshot_is_rotten(key, id);
                with_cause(error)
            }
            (Found::Segment(error), _) => with_cause(error),
            (Found::Snapshot(error), _) => with_cause(error),
            // The memtables hold what of it is not in segments, and a checkpoint the rest.
            (Found::Log(rot), _) => rot.to_string(),
        };
        let configs = group.map(|group| self.segments.configs(group)).unwrap_or_default();
        let configs =
            configs.iter().map(|id| id.index).filter(|at| entries.contains(*at)).collect();
        self.events.push(Event::Rot { evidence, group, entries, configs, snapshot });
    }

    /// Whether an entry is a membership change, of one that stands in a segment.
    #[must_use]
    pub fn is_config(&self, group: GroupKey, index: Index) -> bool {
        self.segments.configs(group).iter().any(|id| id.index == index)
    }

    /// Of these entries, those which the group still needs and has nowhere but in this segment.
    fn needed_from(
        &self,
        name: SegmentName,
        group: GroupKey,
        first: Index,
        last: Index,
    ) -> IndexSet {
        let below_cut = self.memtables.lowest_cut(group).map_or(last, |cut| last.min(cut.prev()));
        let Some(log) = self.logs.get(&group) else { return IndexSet::new() };
        let mut needed = self.needed_above(log.base.index, name, group, (first, below_cut));
        for index in needed.clone().iter() {
            let in_memory = self.memtables.lookup(group, index);
            if !matches!(in_memory, refloat_memtable::Lookup::Older) {
                needed.remove_range(index, index);
            }
        }
        needed
    }

    /// Whether compaction takes one of these entries from this segment: those above the older of
    /// the two snapshots that are kept, and what these refer to.
    pub(super) fn is_compacted_from(
        &self,
        name: SegmentName,
        group: GroupKey,
        span: (Index, Index),
    ) -> bool {
        let dead = self.logs.get(&group).map_or(Index::ZERO, |log| log.dead);
        !self.needed_above(dead, name, group, span).is_empty()
    }

    /// Of these entries, those which no other segment supplies and that stand above an index, or
    /// that a snapshot refers to.
    fn needed_above(
        &self,
        above: Index,
        name: SegmentName,
        group: GroupKey,
        (first, last): (Index, Index),
    ) -> IndexSet {
        let mut needed = IndexSet::new();
        let Some(log) = self.logs.get(&group) else { return needed };
        let sources = self.segments.plan(group, first, last).into_iter();
        for source in sources.filter(|source| source.segment.name() == name) {
            let mut index = source.first;
            while index <= source.last {
                let is_above = index > above && log.map.term(index).is_some();
                if is_above || log.live.contains(index) {
                    needed.insert(index);
                }
                index = index.next();
            }
        }
        needed
    }

    pub(super) fn scrub_wakes_at(&self) -> Option<Now> {
        let wanted = self.options.scrub_rate > 0 && !self.scrub.busy;
        self.scrub.due.filter(|_| wanted)
    }

    pub(super) fn scrub_stats(&self) -> ScrubStats {
        self.scrub.stats
    }
}
