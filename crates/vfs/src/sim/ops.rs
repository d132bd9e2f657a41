//! What was asked of the file system: the log of operations, armed faults, the crash point.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use super::disk::Disk;
use super::faults::Fault;
use super::names::Ino;
use crate::error::{FileError, reason};

/// How many operations the log keeps; older ones fall out.
pub const OP_LOG_LEN: usize = 16_384;

/// The kinds of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpKind {
    /// Opening a file that exists.
    Open,
    /// Opening, or locking, a file that did not exist: a new name.
    Create,
    /// Creating a directory.
    CreateDir,
    /// Reading bytes.
    Read,
    /// Writing bytes; durable ones if the handle is.
    Write,
    /// `sync_data` of a file.
    Sync,
    /// Setting a length.
    SetLen,
    /// Reserving space.
    Allocate,
    /// Renaming. The path of the operation is the old name.
    Rename,
    /// Removing a file.
    Remove,
    /// `sync_dir` of a directory.
    SyncDir,
    /// Listing a directory.
    List,
    /// Taking a lock.
    Lock,
    /// Asking for a length, for existence or for free space.
    Stat,
}

impl OpKind {
    /// Whether it changes the disk or makes something durable. Only these are numbered, since a
    /// crash between two of them is the same crash wherever it falls.
    #[must_use]
    pub fn changes_disk(self) -> bool {
        !matches!(self, OpKind::Open | OpKind::Read | OpKind::List | OpKind::Lock | OpKind::Stat)
    }

    pub(super) fn verb(self) -> &'static str {
        match self {
            OpKind::Open => "open",
            OpKind::Create => "create",
            OpKind::CreateDir => "create directory",
            OpKind::Read => "read",
            OpKind::Write => "write",
            OpKind::Sync => "sync",
            OpKind::SetLen => "set the length of",
            OpKind::Allocate => "allocate",
            OpKind::Rename => "rename",
            OpKind::Remove => "remove",
            OpKind::SyncDir => "sync directory",
            OpKind::List => "list",
            OpKind::Lock => "lock",
            OpKind::Stat => "look up",
        }
    }
}

/// One operation, as the log shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Op {
    /// Its number among those that change the disk.
    pub number: Option<u64>,
    /// What was asked for.
    pub kind: OpKind,
    /// On which path; for a rename the old one.
    pub path: Arc<Path>,
    /// The new name of a rename.
    pub to: Option<Arc<Path>>,
    /// From where, for reads and writes.
    pub offset: u64,
    /// How many bytes of a read or write; the length asked for otherwise.
    pub len: u64,
    /// Whether a fault or the crash hit it.
    pub failed: bool,
}

impl Op {
    pub(super) fn new(kind: OpKind, path: impl Into<Arc<Path>>) -> Op {
        Op { number: None, kind, path: path.into(), to: None, offset: 0, len: 0, failed: false }
    }

    pub(super) fn range(self, offset: u64, len: u64) -> Op {
        Op { offset, len, ..self }
    }

    pub(super) fn wrap(&self, error: io::Error) -> io::Error {
        match self.kind {
            OpKind::Read | OpKind::Write => {
                FileError::wrap_at(self.kind.verb(), &self.path, self.offset, error)
            }
            _ => FileError::wrap(self.kind.verb(), &self.path, error),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(number) = self.number {
            write!(f, "{number}: ")?;
        }
        write!(f, "{} {}", self.kind.verb(), self.path.display())?;
        match (self.kind, &self.to) {
            (_, Some(to)) => write!(f, " to {}", to.display())?,
            (OpKind::Read | OpKind::Write, _) => write!(f, " at {}+{}", self.offset, self.len)?,
            (OpKind::SetLen | OpKind::Allocate, _) => write!(f, " {}", self.len)?,
            _ => {}
        }
        f.write_str(if self.failed { " (failed)" } else { "" })
    }
}

/// The log, and what is to go wrong.
#[derive(Clone, Debug, Default)]
pub(super) struct Ops {
    pub(super) count: u64,
    pub(super) log: VecDeque<Op>,
    pub(super) crash_at: Option<u64>,
    pub(super) faults: Vec<Fault>,
    pub(super) faults_fired: u64,
    pub(super) stopped: Option<Stopped>,
}

/// The process is gone; every further call fails.
#[derive(Clone, Debug)]
pub(super) struct Stopped {
    /// The operation that was under way, and the state before it.
    pub(super) in_flight: Option<(Op, Option<Ino>, Box<Disk>)>,
}

/// What is to become of an operation.
pub(super) enum Step {
    Go,
    /// It fails; of a write half the sectors arrive all the same.
    Fail(io::Error),
    /// The crash comes while it is under way.
    Crash(Box<Disk>),
}

impl Step {
    pub(super) fn goes(&self) -> bool {
        matches!(self, Step::Go)
    }
}

impl Disk {
    /// Logs an operation and decides whether it may happen.
    pub(super) fn begin(&mut self, op: &mut Op) -> io::Result<Step> {
        if self.ops.stopped.is_some() {
            return Err(op.wrap(crashed()));
        }
        if self.read_only && op.kind.changes_disk() && !is_sync(op.kind) {
            return Err(op.wrap(reason(ErrorKind::ReadOnlyFilesystem, "mounted read-only")));
        }
        if op.kind.changes_disk() {
            op.number = Some(self.ops.count);
            self.ops.count += 1;
        }
        let step = self.decide(op);
        op.failed = !step.goes();
        if self.ops.log.len() == OP_LOG_LEN {
            self.ops.log.pop_front();
        }
        self.ops.log.push_back(op.clone());
        Ok(step)
    }

    fn decide(&mut self, op: &Op) -> Step {
        if op.number.is_some() && op.number == self.ops.crash_at {
            return Step::Crash(Box::new(self.clone()));
        }
        let hit = self.ops.faults.iter_mut().find_map(|fault| fault.hits(op));
        self.ops.faults.retain(|fault| !fault.is_spent());
        if let Some(error) = hit {
            self.ops.faults_fired += 1;
            return Step::Fail(error);
        }
        Step::Go
    }

    /// The result of an operation that was carried out as far as the step allowed.
    pub(super) fn end<T>(
        &mut self,
        op: Op,
        ino: Option<Ino>,
        step: Step,
        result: io::Result<T>,
    ) -> io::Result<T> {
        match step {
            Step::Go => result.map_err(|e| op.wrap(e)),
            Step::Fail(error) => Err(op.wrap(error)),
            Step::Crash(before) => {
                let error = op.wrap(crashed());
                let op = Op { failed: false, ..op };
                self.ops.stopped = Some(Stopped { in_flight: Some((op, ino, before)) });
                Err(error)
            }
        }
    }
}

fn is_sync(kind: OpKind) -> bool {
    matches!(kind, OpKind::Sync | OpKind::SyncDir)
}

#[derive(Debug)]
struct Crashed;

impl fmt::Display for Crashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the simulated process has crashed")
    }
}

impl Error for Crashed {}

pub(super) fn crashed() -> io::Error {
    io::Error::other(Crashed)
}

/// Whether an error, or any of its causes, says that the simulated process has crashed.
#[must_use]
pub fn is_crash(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if error.is::<Crashed>() || inner.is_some_and(|inner| inner.is::<Crashed>()) {
            return true;
        }
        next = error.source();
    }
    false
}
