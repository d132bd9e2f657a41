//! Giving dead bytes back: which segments are dropped, rewritten or merged.

use std::sync::Arc;

use refloat_segment::{Compaction, Keep, Limits, Segment, SegmentError, SegmentName};
use refloat_types::{GroupKey, Index, Now};
use refloat_vfs::Vfs;

use super::read::with_cause;
use super::{Job, LogStore, Then};
use crate::error::{Poisoned, SubmitError};
use crate::small_state::{Change, NODE};

#[derive(Debug)]
pub(crate) struct CompactJob {
    plan: Compaction,
}

#[derive(Debug)]
pub(crate) struct CompactDone {
    inputs: Vec<SegmentName>,
    result: Result<Option<Segment>, SegmentError>,
}

/// Segments that compaction leaves alone, because one of them did not read back.
#[derive(Debug)]
pub(crate) struct Rotten {
    inputs: Vec<SegmentName>,
    /// What could not be read and was needed.
    damage: Option<(SegmentName, GroupKey, Index, Index)>,
}

impl LogStore {
    /// Planned again only when something changed since the last plan that found nothing to do.
    pub(super) fn start_compaction(&mut self) -> Option<Job> {
        if self.compacting || self.flushing || !self.worth_planning {
            return None;
        }
        let dead = self.dead();
        let keep = |group| match dead.get(&group) {
            Some(dead) => Keep::Log { above: dead.through, live: dead.live.clone() },
            None => Keep::Gone,
        };
        let mut limits = Limits::default();
        limits.small = self.options.small_segment;
        limits.live_percent = self.options.live_percent;
        limits.avoid = self.rotten.iter().flat_map(|rotten| rotten.inputs.clone()).collect();
        limits.worn = self.worn.clone();
        limits.lost = self.lost.clone();
        let plan = refloat_segment::plan_compaction(&self.segments, &keep, &limits);
        self.worth_planning = plan.is_some();
        self.compacting = plan.is_some();
        Some(Job::compact(CompactJob { plan: plan? }))
    }

    /// The output is named by a record before an input is removed; a crash in between leaves both.
    pub(super) fn compacted(&mut self, now: Now, done: CompactDone) -> Result<(), Poisoned> {
        (self.compacting, self.compacts_first) = (false, false);
        let output = match done.result {
            Ok(output) => output,
            Err(e) if e.is_retryable() => return self.postpone(now),
            Err(e) if e.is_corruption() => {
                self.input_is_rotten(done.inputs, e);
                return Ok(());
            }
            Err(e) => return Err(Poisoned { reason: with_cause(&e) }),
        };
        let add: Vec<SegmentName> = output.iter().map(Segment::name).collect();
        let dir = self.options.segment_dir();
        let is_hurt = |name: &SegmentName| {
            let impaired = self.segments.get(*name).is_some_and(|segment| segment.is_impaired());
            impaired || self.hurt.contains(name)
        };
        let (damaged, dead): (Vec<SegmentName>, Vec<SegmentName>) =
            done.inputs.iter().partition(|name| is_hurt(name));
        let paths = |names: Vec<SegmentName>| -> Vec<std::path::PathBuf> {
            names.iter().map(|name| dir.join(name.to_string())).collect()
        };
        let removal = Then::Remove { dead: paths(dead), damaged: paths(damaged) };
        let flushed = self.state.flushed;
        let change = Change::Segments { flushed, add, remove: done.inputs.clone() };
        let ticket = match self.submit_change(NODE, change) {
            Ok(ticket) => ticket,
            // The inputs stay named; the output is made again later.
            Err(SubmitError::NoSpace) => return self.postpone(now),
            Err(e) => return Err(Poisoned { reason: e.to_string() }),
        };
        self.segments.replace(&done.inputs, output.map(Arc::new));
        self.worn.retain(|name| !done.inputs.contains(name));
        self.hurt.retain(|name| !done.inputs.contains(name));
        self.after.push_back((ticket, removal));
        Ok(())
    }

    /// A rotten input stays as it is, whole, and so do those that were to be merged with it. What
    /// it lost is told at once, as if the scrub had come by.
    fn input_is_rotten(&mut self, inputs: Vec<SegmentName>, error: SegmentError) {
        let damaged = error.damage().and_then(|damage| {
            let name = SegmentName::of_path(&damage.path)?;
            Some((name, damage.group, damage.first.index, damage.last.index))
        });
        let name = damaged.map(|(name, ..)| name).or(inputs.first().copied());
        self.rotten.push(Rotten { inputs, damage: damaged });
        if let Some(name) = name {
            self.segment_is_rotten(name, error);
        }
    }

    /// Segments or snapshots changed: those which were left alone are read again once what they
    /// lost is needed from them no more.
    pub(super) fn forgive_rotten(&mut self) {
        let mut rotten = std::mem::take(&mut self.rotten);
        rotten.retain(|rotten| {
            rotten.damage.is_some_and(|(name, group, first, last)| {
                self.is_compacted_from(name, group, (first, last))
            })
        });
        self.rotten = rotten;
        self.worth_planning = true;
    }
}

impl CompactJob {
    pub(super) fn run(self, vfs: &Arc<dyn Vfs>) -> CompactDone {
        let inputs = self.plan.inputs().to_vec();
        CompactDone { inputs, result: self.plan.run(vfs.as_ref()) }
    }
}
