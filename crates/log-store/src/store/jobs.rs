//! Blocking file work as plain values: what a lane runs, and what it brings back.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use refloat_vfs::Vfs;

use super::aside;
use super::compact::{CompactDone, CompactJob};
use super::flush::{FlushDone, FlushJob};
use super::read::{ReadDone, ReadJob};
use super::scrub::{ScrubDone, ScrubJob};
use super::snapshots::{SnapshotDone, SnapshotJob};
use super::{LogStore, Then};
use crate::error::Poisoned;

/// Which jobs may not overtake each other. A host runs the jobs of one lane one at a time and in
/// order; lanes are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Lane {
    /// Writes to the main log: a job here delays every acknowledgement.
    Wal,
    /// Writes to the votes log.
    Votes,
    /// Preparing the next WAL files.
    Prepare,
    /// Flushes, compaction, and removals of segments.
    Flush,
    /// Reads of old entries.
    Read,
    /// Snapshots written, read, received and removed.
    Snapshot,
    /// Sealed files read for rot, in small steps: nobody waits for it.
    Scrub,
}

/// A piece of blocking file work. Owned: it needs nothing but the file system.
#[derive(Debug)]
pub struct Job(Work);

#[derive(Debug)]
enum Work {
    Wal(refloat_wal::Job),
    Votes(refloat_wal::Job),
    Flush(Box<FlushJob>),
    Compact(Box<CompactJob>),
    Read(ReadJob),
    Snapshot(Box<SnapshotJob>),
    Scrub(Box<ScrubJob>),
    /// In the lane that writes files of these names, so that a name that is written anew is not
    /// removed by an order that comes late.
    Remove(Vec<PathBuf>, Lane),
    /// Damaged files that nothing needs, in the same lane as their removal would be.
    SetAside(Vec<PathBuf>, Lane),
}

/// What a [`Job`] brings back.
#[derive(Debug)]
pub struct Done(Outcome);

#[derive(Debug)]
enum Outcome {
    Wal(refloat_wal::Done),
    Votes(refloat_wal::Done),
    Flush(Box<FlushDone>),
    Compact(Box<CompactDone>),
    Read(ReadDone),
    Snapshot(Box<SnapshotDone>),
    Scrub(Box<ScrubDone>),
    Removed,
}

impl Job {
    /// Where the job belongs.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match &self.0 {
            Work::Wal(job) if job.is_background() => Lane::Prepare,
            Work::Votes(job) if job.is_background() => Lane::Prepare,
            Work::Wal(_) => Lane::Wal,
            Work::Votes(_) => Lane::Votes,
            Work::Flush(_) | Work::Compact(_) => Lane::Flush,
            Work::Remove(_, lane) | Work::SetAside(_, lane) => *lane,
            Work::Read(_) => Lane::Read,
            Work::Snapshot(_) => Lane::Snapshot,
            Work::Scrub(_) => Lane::Scrub,
        }
    }

    /// Does the work on the calling thread.
    #[must_use]
    pub fn run(self, vfs: &Arc<dyn Vfs>) -> Done {
        Done(match self.0 {
            Work::Wal(job) => Outcome::Wal(job.run(vfs.as_ref())),
            Work::Votes(job) => Outcome::Votes(job.run(vfs.as_ref())),
            Work::Flush(job) => Outcome::Flush(Box::new(job.run(vfs))),
            Work::Compact(job) => Outcome::Compact(Box::new(job.run(vfs))),
            Work::Read(job) => Outcome::Read(job.run(vfs)),
            Work::Snapshot(job) => Outcome::Snapshot(Box::new(job.run(vfs))),
            Work::Scrub(job) => Outcome::Scrub(Box::new(job.run(vfs))),
            Work::Remove(paths, _) => {
                remove_all(vfs.as_ref(), &paths);
                Outcome::Removed
            }
            Work::SetAside(paths, _) => {
                paths.iter().for_each(|path| aside::keep(vfs.as_ref(), path));
                Outcome::Removed
            }
        })
    }

    pub(super) fn wal(job: refloat_wal::Job) -> Job {
        Job(Work::Wal(job))
    }
    pub(super) fn votes(job: refloat_wal::Job) -> Job {
        Job(Work::Votes(job))
    }
    pub(super) fn flush(job: FlushJob) -> Job {
        Job(Work::Flush(Box::new(job)))
    }
    pub(super) fn compact(job: CompactJob) -> Job {
        Job(Work::Compact(Box::new(job)))
    }
    pub(super) fn read(job: ReadJob) -> Job {
        Job(Work::Read(job))
    }
    pub(super) fn snapshot(job: SnapshotJob) -> Job {
        Job(Work::Snapshot(Box::new(job)))
    }
    pub(super) fn scrub(job: ScrubJob) -> Job {
        Job(Work::Scrub(Box::new(job)))
    }
    pub(super) fn remove(paths: Vec<PathBuf>) -> Job {
        Job(Work::Remove(paths, Lane::Flush))
    }
    pub(super) fn set_aside(paths: Vec<PathBuf>, lane: Lane) -> Job {
        Job(Work::SetAside(paths, lane))
    }
    pub(super) fn remove_snapshots(paths: Vec<PathBuf>) -> Job {
        Job(Work::Remove(paths, Lane::Snapshot))
    }
}

/// Nothing relies on a removal: what stays behind is retired again by the next boot.
fn remove_all(vfs: &dyn Vfs, paths: &[PathBuf]) {
    for path in paths {
        match vfs.remove_file(path) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(_) => continue,
        }
    }
}

impl LogStore {
    pub(super) fn complete_one(
        &mut self,
        now: refloat_types::Now,
        done: Done,
    ) -> Result<(), Poisoned> {
        let poisoned = |p: refloat_wal::Poisoned| Poisoned { reason: super::with_cause(&p) };
        match done.0 {
            Outcome::Wal(done) => self.wal.done(now, done).map_err(poisoned),
            Outcome::Votes(done) => self.votes.done(now, done).map_err(poisoned),
            // Too late to be published; a failure is too late to hurt.
            Outcome::Flush(_) | Outcome::Compact(_) | Outcome::Snapshot(_) if self.closing => {
                Ok(())
            }
            Outcome::Flush(done) => self.flushed(now, *done),
            Outcome::Compact(done) => self.compacted(now, *done),
            Outcome::Read(done) => {
                self.answer_read(done);
                Ok(())
            }
            Outcome::Snapshot(done) => self.snapshot_done(*done),
            Outcome::Scrub(done) => {
                self.scrubbed(now, *done);
                Ok(())
            }
            Outcome::Removed => Ok(()),
        }
    }

    pub(super) fn act(&mut self, _now: refloat_types::Now, then: Then) {
        match then {
            Then::Released(generation) => {
                self.forgive_rotten();
                self.memtables.release(generation);
                self.release_evidence();
                let below = generation.next();
                self.wal.release(self.hold_from.map_or(below, |hold| below.min(hold)));
            }
            Then::Remove { dead, damaged } => {
                self.queue.push_back(Job::remove(dead));
                if !damaged.is_empty() {
                    self.queue.push_back(Job::set_aside(damaged, Lane::Flush));
                }
            }
            Then::SnapshotPublished { group, id, previous } => {
                self.snapshot_published(group, id, previous);
                self.forgive_rotten();
            }
            Then::GroupGone(group) => {
                self.forgive_rotten();
                self.leaving.remove(&group);
                self.forget_snapshots(group);
                self.release_evidence();
            }
            Then::Healed => self.release_evidence(),
        }
    }
}
