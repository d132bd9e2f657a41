//! Blocking work that a node hands out.

use refloat_types::GroupKey;
use refloat_vfs::Vfs;

/// Which thread a job belongs to. Jobs of one lane and, for `Apply`, of one group, should run in
/// the order in which they were handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobLane {
    /// Writing the WAL: one at a time, promises wait for it.
    Wal,
    /// Writing the votes log: one at a time, promises wait for it.
    Votes,
    /// Flushing, compacting, preparing files.
    Flush,
    /// Reading old entries and snapshot chunks.
    Read,
    /// Writing and receiving snapshots, restoring machines.
    Snapshot,
    /// Applying and asking state machines.
    Apply,
}

/// A piece of blocking work: owned, to be run once, on any thread.
pub struct Job {
    kind: Kind,
}

enum Kind {
    Nothing(GroupKey),
}

/// What came out of a [`Job`].
pub struct JobDone {
    _kind: (),
}

impl Job {
    /// Where it belongs.
    #[must_use]
    pub fn lane(&self) -> JobLane {
        match &self.kind {
            Kind::Nothing(_) => JobLane::Apply,
        }
    }

    /// Whose it is, where it belongs to one group.
    #[must_use]
    pub fn group(&self) -> Option<GroupKey> {
        match &self.kind {
            Kind::Nothing(group) => Some(*group),
        }
    }

    /// Does it.
    #[must_use]
    pub fn run(self, _vfs: &dyn Vfs) -> JobDone {
        JobDone { _kind: () }
    }
}
