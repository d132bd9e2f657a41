//! Giving dead bytes back: which segments are dropped, rewritten or merged.

use std::sync::Arc;

use refloat_segment::{Compaction, Keep, Limits, Segment, SegmentError, SegmentName};
use refloat_types::Now;
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
        limits.avoid = self.rotten.clone();
        limits.worn = self.worn.clone();
        limits.lost = self.lost.clone();
        let plan = refloat_segment::plan_compaction(&self.segments, &keep, &limits);
        self.worth_planning = plan.is_some();
        self.compacting = plan.is_some();
        Some(Job::compact(CompactJob { plan: plan? }))
    }

    /// The output is named by a record before an input is removed; a crash in between leaves both.
    pub(super) fn compacted(&mut self, now: Now, done: CompactDone) -> Result<(), Poisoned> {
        self.compacting = false;
        let output = match done.result {
            Ok(output) => output,
            Err(e) if e.is_retryable() => return self.postpone(now),
            // A rotten input stays as it is, whole, for healing.
            Err(e) if e.is_corruption() => {
                let hurt = e.damage().and_then(|damage| SegmentName::of_path(&damage.path));
                self.hurt.extend(hurt);
                self.rotten.extend(done.inputs);
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
}

impl CompactJob {
    pub(super) fn run(self, vfs: &Arc<dyn Vfs>) -> CompactDone {
        let inputs = self.plan.inputs().to_vec();
        CompactDone { inputs, result: self.plan.run(vfs.as_ref()) }
    }
}
