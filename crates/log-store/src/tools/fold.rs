//! The logs of a directory folded by a second, plain reader: every entry read and verified, laid
//! into one ordered map per group, in the order in which they were written.
//!
//! A start keeps runs, memtables and plans instead. Two ways to one answer.

use std::collections::BTreeMap;
use std::fmt;

use refloat_segment::{Segment, SegmentName};
use refloat_types::{
    Digest, EntryId, Generation, GroupKey, HardState, Index, IndexSet, LogOp, Term,
};
use refloat_vfs::Vfs;
use refloat_wal::{Lsn, Record, Trust, Visit};

use super::look::Progress;
use crate::boot::{Examination, examine, votes_options, wal_options};
use crate::error::BootError;
use crate::options::Options;
use crate::small_state::{Change, later};
use crate::state::{GroupBoot, GroupState};
use crate::store::with_cause;

const READ_LEN: usize = 256 << 10;

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Segment(SegmentName),
    Wal(Generation),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Segment(name) => write!(f, "seg/{name}"),
            Place::Wal(generation) => write!(f, "wal/{:020}.wal", generation.0),
        }
    }
}

/// One entry that is here and verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) term: Term,
    pub(super) digest: Digest,
    pub(super) place: Place,
}

/// All that both logs and the segments say of one group.
#[derive(Debug, Default)]
pub(super) struct Folded {
    pub(super) entries: BTreeMap<Index, Held>,
    /// Entries that something names and that do not verify, with what is wrong.
    pub(super) lost: BTreeMap<Index, (EntryId, String)>,
    /// Those at or below both snapshots to which one of them refers.
    pub(super) lost_live: BTreeMap<Index, (EntryId, String)>,
    /// Term and vote by each log.
    pub(super) by_log: HardState,
    pub(super) by_votes: HardState,
    /// The commit hint as it stands on the disk, not clamped.
    pub(super) hint: Index,
}

impl Folded {
    fn cut(&mut self, from: Index) {
        self.entries.split_off(&from);
        self.lost.split_off(&from);
    }

    fn put(&mut self, id: EntryId, digest: Digest, place: Place) {
        self.lost.remove(&id.index);
        self.entries.insert(id.index, Held { term: id.term, digest, place });
    }

    fn lose(&mut self, id: EntryId, why: String) {
        self.entries.remove(&id.index);
        self.lost.insert(id.index, (id, why));
    }

    /// Leaves out what is dead: what stands so low, unless a snapshot refers to it.
    fn drop_through(&mut self, through: Index, live: &IndexSet) {
        self.entries = self.entries.split_off(&through.next());
        let above = self.lost.split_off(&through.next());
        self.lost_live = std::mem::replace(&mut self.lost, above);
        self.lost_live.retain(|index, _| live.contains(*index));
    }
}

pub(super) type Folds = BTreeMap<GroupKey, Folded>;

/// Folds all groups of an examined directory.
pub(super) fn fold(
    vfs: &dyn Vfs,
    options: &Options,
    seen: &Examination,
    progress: Progress<'_>,
) -> Result<Folds, BootError> {
    let mut folds = Folds::new();
    for segment in seen.segments.set.iter() {
        progress(&format!("segment {}", segment.name()));
        lay_segment(segment, &mut folds);
    }
    progress("the log, entry by entry");
    let flushed = seen.replay.state.flushed;
    let mut walk = Walk { folds, flushed, is_votes: false };
    read(vfs, &wal_options(options, seen.identity().identity), &mut walk)?;
    walk.is_votes = true;
    read(vfs, &votes_options(options, seen.identity().identity), &mut walk)?;
    let mut folds = walk.folds;
    folds.retain(|key, _| seen.replay.state.groups.contains_key(key));
    for (key, record) in &seen.replay.state.groups {
        let live = seen.live.get(key).cloned().unwrap_or_default();
        folds.entry(*key).or_default().drop_through(record.previous.index, &live);
    }
    Ok(folds)
}

fn read(vfs: &dyn Vfs, options: &refloat_wal::Options, walk: &mut Walk) -> Result<(), BootError> {
    refloat_wal::scan(vfs, options, walk)
        .map(drop)
        .map_err(|e| BootError::Refused { reason: with_cause(&e) })
}

fn lay_segment(segment: &Segment, folds: &mut Folds) {
    let place = Place::Segment(segment.name());
    for meta in segment.groups() {
        let fold = folds.entry(meta.group).or_default();
        if let Some(cut) = meta.cut {
            fold.cut(cut);
        }
        let Some((mut next, last)) = meta.first().zip(meta.last()).map(|(f, l)| (f.index, l.index))
        else {
            continue;
        };
        while next <= last {
            let part = segment.salvage(meta.group, next, last, READ_LEN);
            part.entries.iter().for_each(|entry| fold.put(entry.id, entry.digest, place));
            for damage in &part.damage {
                let named = damage.first.index.0..=damage.last.index.0;
                for index in named.map(Index) {
                    if let Some(term) = meta.term(index) {
                        fold.lose(EntryId::new(term, index), damage.to_string());
                    }
                }
            }
            if part.next <= next {
                break;
            }
            next = part.next;
        }
    }
}

struct Walk {
    folds: Folds,
    flushed: Generation,
    is_votes: bool,
}

impl Walk {
    fn small(&mut self, group: GroupKey, change: &Change) {
        let (hard_state, hint) = match change {
            Change::HardState { hard_state, .. } | Change::Value { hard_state, .. } => {
                (Some(*hard_state), None)
            }
            Change::CheckpointGroup(record) => (Some(record.hard_state), Some(record.commit_hint)),
            Change::CommitHint(hint) => (None, Some(*hint)),
            // Entries of a deleted group that are in segments go with its registration, below.
            Change::Deleted if !self.is_votes => {
                self.folds.remove(&group);
                return;
            }
            _ => return,
        };
        // The votes log does not say which groups were deleted.
        let fold = match self.is_votes {
            true => self.folds.get_mut(&group),
            false => Some(self.folds.entry(group).or_default()),
        };
        let Some(fold) = fold else { return };
        if let Some(hs) = hard_state {
            let known = if self.is_votes { &mut fold.by_votes } else { &mut fold.by_log };
            *known = later(*known, hs);
        }
        fold.hint = hint.unwrap_or(fold.hint);
    }

    fn log(&mut self, at: Lsn, group: GroupKey, op: &LogOp, missing: &[EntryId]) {
        // What was flushed counts as the segments have it.
        if at.generation <= self.flushed {
            return;
        }
        let fold = self.folds.entry(group).or_default();
        match op {
            LogOp::Append { prev, .. } => fold.cut(prev.index.next()),
            LogOp::Cut { from } => fold.cut(*from),
            LogOp::Fill { .. } => {}
        }
        for entry in op.entries() {
            fold.put(entry.id, entry.digest, Place::Wal(at.generation));
        }
        for id in missing {
            fold.lose(*id, format!("batch {at} of the log does not verify"));
        }
    }
}

impl Visit for Walk {
    fn record(&mut self, at: Lsn, _trust: Trust, record: Record, missing: &[EntryId]) {
        match record {
            Record::State { group, body } => {
                if let Ok(change) = Change::decode(&body) {
                    self.small(group, &change);
                }
            }
            Record::Log { group, op } if !self.is_votes => self.log(at, group, &op, missing),
            Record::Log { .. } => {}
        }
    }
}

/// Where the fold and the start's own reading of a group differ: never, or there is a defect in
/// one of them. What only the fold verified (entries of segments) is no difference; nor is what a
/// running node wrote between the two readings, so a group that differs is examined once more.
pub(super) fn differences(
    vfs: &dyn Vfs,
    options: &Options,
    seen: &Examination,
    folds: &Folds,
) -> Vec<String> {
    let differing: Vec<_> =
        seen.groups().iter().filter(|g| !of_group(seen, folds, g).is_empty()).collect();
    if differing.is_empty() {
        return Vec::new();
    }
    let Ok(again) = examine(vfs, options) else { return Vec::new() };
    let stands = |group: &&&GroupBoot| again.groups().contains(group);
    differing.iter().filter(stands).flat_map(|group| of_group(seen, folds, group)).collect()
}

fn of_group(seen: &Examination, folds: &Folds, group: &GroupBoot) -> Vec<String> {
    let mut found = Vec::new();
    let (Some(map), Some(fold)) = (seen.maps.get(&group.key), folds.get(&group.key)) else {
        return vec![format!("group {}: only one reader finds it", group.key)];
    };
    let above = group.snapshot.index.next();
    let mut by_fold = fold.entries.range(above..).map(|(index, held)| (*index, held.term));
    // Where the end of a log is not proven, the start relies on nothing behind a place where terms
    // are not known; reading everything shows it all the same.
    let relied = |index: Index| group.state < GroupState::HeadUnknown || index <= group.last.index;
    let wrong = by_fold.find(|(index, term)| relied(*index) && map.term(*index) != Some(*term));
    if let Some((index, term)) = wrong {
        found.push(format!(
                "group {}: entry {index} is of term {term} by reading everything, of {:?} by the start's reading",
                group.key,
                map.term(index).map(|t| t.0)
            ));
    }
    // A hole may be named by nothing but a damaged record of a log file that was flushed.
    let hole = group.holes.last();
    let last = fold.entries.keys().chain(fold.lost.keys()).chain(&hole).max().copied();
    let last = last.unwrap_or_default().max(group.snapshot.index);
    if last < group.last.index {
        found.push(format!(
            "group {}: the log ends at {last} by reading everything, at {} by the start's reading",
            group.key, group.last.index
        ));
    }
    found
}
