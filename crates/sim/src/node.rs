//! One simulated machine: a disk, and at times a process on it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use bytes::Bytes;
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
    /// By how many millionths the monotonic clock runs too fast.
    pub(crate) drift_ppm: i64,
    /// The wall clock, in milliseconds, jumps.
    pub(crate) wall_ms: u64,
    pub(crate) paused_until: u64,
    /// Jobs take long until then.
    pub(crate) slow_until: u64,
    /// The disk does not answer until then.
    pub(crate) hangs_until: u64,
    /// How often this process noticed that, and how many groups it led, when it was last looked at.
    pub(crate) seen: (u64, u64),
    /// What it tells whoever joins the cluster.
    pub(crate) card: Option<Bytes>,
    /// What was done to its synced data, if anything.
    pub(crate) hurt: Hurt,
    /// No start of its directory ever came to its end, so it keeps no files ready for a full disk.
    pub(crate) fresh: bool,
    /// The number of the newest start.
    pub(crate) run: u64,
    /// How its disk was at some moment in an older run, with that run's number.
    pub(crate) copy: Option<(u64, SimFs)>,
    /// Another machine has its disk, and it has that one's.
    pub(crate) swapped_with: Option<usize>,
    /// The runs of others that this process heard of.
    pub(crate) heard: BTreeMap<usize, u64>,
    /// It refused to start over what was done to it, and stays down.
    pub(crate) refused: bool,
    /// What the disk's crash point, once hit, stands for.
    pub(crate) armed: Option<Crash>,
    /// Which operation was made to fail: the process may stop for it.
    pub(crate) disk_error: Option<OpKind>,
    /// The process before ended over such an error.
    pub(crate) failed: bool,
    pub(crate) asked_to_stop: bool,
}

/// Damage to what was durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hurt {
    pub(crate) any: bool,
    /// To which copies of the identity, as bits, since the last start.
    pub(crate) identity: u8,
    /// A start was cut short, maybe while it wrote the identity.
    pub(crate) cut_start: bool,
    /// The only file of the log is gone, as only a first run has one alone.
    pub(crate) log: bool,
}

impl Hurt {
    /// Whether the identity may be gone, or all of the log: a node does not start without.
    pub(crate) fn may_refuse(self) -> bool {
        self.identity == 0b11 || (self.identity != 0 && self.cut_start) || self.log
    }
}

/// A running node.
pub(crate) struct Process {
    pub(crate) core: NodeCore,
    pub(crate) inbox: VecDeque<Input>,
    pub(crate) turn_at: Option<u64>,
    /// Which wake-up counts; later ones replace earlier ones.
    pub(crate) wake: u64,
    pub(crate) lanes: BTreeMap<LaneKey, Lane>,
    /// The groups that it led behind its last turn.
    pub(crate) led: BTreeSet<GroupKey>,
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
        Process {
            core,
            inbox: VecDeque::new(),
            turn_at: None,
            wake: 0,
            lanes: BTreeMap::new(),
            led: BTreeSet::new(),
        }
    }
}

impl Machine {
    /// The clocks as this machine shows them.
    pub(crate) fn time(&self, now: u64) -> Time {
        Time { now: Now(self.clock(now)), wall_ms: self.wall_ms + now / 1000 }
    }

    fn clock(&self, now: u64) -> u64 {
        let gained = now as i64 * self.drift_ppm / 1_000_000;
        (now + self.skew).saturating_add_signed(gained)
    }

    /// When this machine's clock shows this, or a little later.
    pub(crate) fn moment(&self, clock: u64) -> u64 {
        let shown = clock.saturating_sub(self.skew);
        let rate = 1_000_000_u64.saturating_add_signed(self.drift_ppm);
        (u128::from(shown) * 1_000_000).div_ceil(u128::from(rate)) as u64 + 1
    }

    pub(crate) fn id(&self) -> u64 {
        self.member.node.0
    }

    /// What a lane key of a job is.
    pub(crate) fn lane_of(job: &Job) -> LaneKey {
        (job.lane(), job.group())
    }
}
