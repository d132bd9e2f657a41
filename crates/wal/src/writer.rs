//! The writing side, steppable.

use bytes::Bytes;
use refloat_types::{Generation, GroupKey, Now};
use refloat_vfs::Vfs;

use crate::{Lsn, Options, Poisoned, Record, RecordRef, Scan, SubmitError};

/// Writes the log. Takes time as an argument and hands its file work out as [`Job`]s.
#[derive(Debug)]
pub struct Writer {
    generation: Generation,
}

/// Blocking file work, to be run anywhere and answered with its [`Done`].
#[derive(Debug)]
pub struct Job {
    _private: (),
}

impl Job {
    /// Whether nothing waits for it: it prepares, checks or recycles files. May run beside a
    /// write, on another thread.
    #[must_use]
    pub fn is_background(&self) -> bool {
        false
    }

    /// Does the work. Blocks.
    #[must_use]
    pub fn run(self, vfs: &dyn Vfs) -> Done {
        let _ = vfs;
        Done { _private: () }
    }
}

/// What came of a [`Job`]; to be given to [`Writer::done`].
#[derive(Debug)]
pub struct Done {
    _private: (),
}

/// Counters since the writer was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Batches written, seals and checkpoints included.
    pub batches: u64,
    /// Bytes handed to the disk.
    pub bytes: u64,
    /// Writes or syncs that returned durable.
    pub syncs: u64,
    /// Records taken.
    pub records: u64,
}

impl Writer {
    /// Goes on after a scan, in a new file.
    #[must_use]
    pub fn resume(
        scan: Scan,
        options: Options,
        checkpoint: Vec<(GroupKey, Bytes)>,
        again: Vec<Record>,
    ) -> Writer {
        let _ = (scan, options, checkpoint, again);
        Writer { generation: Generation(1) }
    }
    /// The file that the next [`Writer::submit`] goes to.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }
    /// Whether to submit these without rolling over first. `false` only where rolling over helps
    /// and a next file is there.
    #[must_use]
    pub fn fits(&self, records: &[RecordRef<'_>]) -> bool {
        let _ = records;
        true
    }
    /// Later submits go to the next file, whose first batch is this checkpoint.
    pub fn roll(&mut self, checkpoint: Vec<(GroupKey, Bytes)>) -> Generation {
        let _ = checkpoint;
        self.generation
    }
    /// Takes records into the open batch.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub fn submit(&mut self, records: &[RecordRef<'_>]) -> Result<Lsn, SubmitError> {
        let _ = records;
        Err(SubmitError::Closed)
    }
    /// The next piece of file work, if any.
    pub fn poll(&mut self, now: Now) -> Option<Job> {
        let _ = now;
        None
    }
    /// Takes the result of a job.
    ///
    /// # Errors
    /// A write or a sync failed, now or earlier.
    pub fn done(&mut self, now: Now, done: Done) -> Result<(), Poisoned> {
        let _ = (now, done);
        Ok(())
    }
    /// Everything up to this position is durable.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        Lsn::default()
    }
    /// Whether nothing is waiting to be written and nothing is in flight (background work aside).
    #[must_use]
    pub fn is_idle(&self) -> bool {
        true
    }
    /// Whether the new file is linked: before, nothing may be acknowledged and no vote may leave.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        false
    }
    /// When [`Writer::poll`] has something to do although nobody submits.
    #[must_use]
    pub fn wake_at(&self) -> Option<Now> {
        None
    }
    /// Small state that the next seal carries.
    pub fn seal_with(&mut self, bodies: Vec<(GroupKey, Bytes)>) {
        let _ = bodies;
    }
    /// Files below may be recycled.
    pub fn release(&mut self, below: Generation) {
        let _ = below;
    }
    /// Ends the log in order: a `closed` batch behind what is pending.
    pub fn close(&mut self) {}
    /// Counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::default()
    }
}
