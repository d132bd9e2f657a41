//! One simulated machine: a disk, and at times a process on it.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use refloat_node::{Input, Job, JobLane, NodeCore, Time};
use refloat_types::{GroupKey, Member, Now};
use refloat_vfs::{OpKind, SimFs};

/// Where every node keeps its data.
pub(crate) const DATA_DIR: &str = "/data";

pub(crate) fn data_dir() -> &'static Path {
    Path::new(DATA_DIR)
}

/// How a node's process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    Kill,
    PowerCut,
}

/// One machine.
pub(crate) struct Machine {
    pub(crate) member: Member,
    pub(crate) fs: SimFs,
    pub(crate) process: Option<Process>,
    /// Counts the processes; what belongs to an older one is void.
    pub(crate) boot: u64,
    /// What the monotonic clock shows beyond simulated time.
    pub(crate) skew: u64,
    /// The wall clock, in milliseconds, jumps.
    pub(crate) wall_ms: u64,
    pub(crate) paused_until: u64,
    /// Jobs take long until then.
    pub(crate) slow_until: u64,
    /// What the disk's crash point, once hit, stands for.
    pub(crate) armed: Option<Crash>,
    /// Which operation was made to fail: the process may stop for it.
    pub(crate) disk_error: Option<OpKind>,
    pub(crate) asked_to_stop: bool,
}

/// A running node.
pub(crate) struct Process {
    pub(crate) core: NodeCore,
    pub(crate) inbox: VecDeque<Input>,
    pub(crate) turn_at: Option<u64>,
    /// Which wake-up counts; later ones replace earlier ones.
    pub(crate) wake: u64,
    pub(crate) lanes: BTreeMap<LaneKey, Lane>,
}

/// Jobs of one lane run one after another; those of `Apply` by group.
pub(crate) type LaneKey = (JobLane, Option<GroupKey>);

#[derive(Default)]
pub(crate) struct Lane {
    pub(crate) queue: VecDeque<Job>,
    pub(crate) busy: bool,
}

impl Process {
    pub(crate) fn new(core: NodeCore) -> Process {
        Process { core, inbox: VecDeque::new(), turn_at: None, wake: 0, lanes: BTreeMap::new() }
    }
}

impl Machine {
    /// The clocks as this machine shows them.
    pub(crate) fn time(&self, now: u64) -> Time {
        Time { now: Now(now + self.skew), wall_ms: self.wall_ms + now / 1000 }
    }

    pub(crate) fn id(&self) -> u64 {
        self.member.node.0
    }

    /// What a lane key of a job is.
    pub(crate) fn lane_of(job: &Job) -> LaneKey {
        (job.lane(), job.group())
    }
}
