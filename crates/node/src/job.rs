//! Blocking work that a node hands out.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use refloat_log_store as log_store;
use refloat_snapshot::SnapshotFile;
use refloat_types::{EntryId, GroupKey, Index, IndexSet, Term};
use refloat_vfs::Vfs;

use crate::core::versions;
use crate::effects::Effect;
use crate::machine::{Chunks, Command, Query, RestoreError, StateMachine};
use crate::snapshot_reader::SnapshotReader;

/// Which thread a job belongs to. Jobs of one lane and, for `Apply`, of one group, run in
/// the order in which they were handed out; lanes are independent of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobLane {
    /// Writing the WAL: one at a time, promises wait for it.
    Wal,
    /// Writing the votes log: one at a time, promises wait for it.
    Votes,
    /// Preparing the next log files, and reading sealed ones for rot: nobody waits for it.
    Prepare,
    /// Flushing, compacting, removing files, and letting go of state that nobody needs any more.
    Flush,
    /// Reading old entries.
    Read,
    /// Writing, reading and receiving snapshots.
    Snapshot,
    /// Applying to, asking, capturing and restoring state machines.
    Apply,
}

/// A group's state machine. At most one job at a time holds it, so the lock never waits for long.
pub(crate) type SharedMachine = Arc<Mutex<Box<dyn StateMachine>>>;

/// A piece of blocking work: owned, to be run once, on any thread.
pub struct Job {
    kind: Kind,
}

enum Kind {
    Store(Box<log_store::Job>),
    Machine(Box<MachineJob>),
    /// What is left of a group that is gone.
    LetGo(GroupKey, Box<dyn Any + Send>),
}

/// What came out of a [`Job`].
pub struct JobDone {
    pub(crate) outcome: Outcome,
}

pub(crate) enum Outcome {
    Store(Box<log_store::Done>),
    Machine(Box<MachineDone>),
    LetGo,
    /// The pieces of a machine's snapshot ended in a panic.
    SourcePanicked {
        group: GroupKey,
        reason: String,
    },
    /// The store's own work did: what it held is lost, so the node cannot go on.
    StorePanicked(String),
}

/// What a panic in a machine's snapshot is turned into, so that it can be told from one in the
/// store, whose thread draws the pieces.
struct SourcePanic {
    group: GroupKey,
    reason: String,
}

/// The same pieces; a panic that they end in names the group.
pub(crate) fn guarded(group: GroupKey, mut chunks: Chunks) -> impl Iterator<Item = Bytes> + Send {
    std::iter::from_fn(move || {
        let next = catch_unwind(AssertUnwindSafe(|| chunks.next()));
        next.unwrap_or_else(|panic| {
            let reason = panic_text(panic.as_ref());
            resume_unwind(Box::new(SourcePanic { group, reason }))
        })
    })
}

/// Work on one group's state machine, in this order: restore, apply, switch, effects, ask, capture.
pub(crate) struct MachineJob {
    pub(crate) slot: usize,
    pub(crate) group: GroupKey,
    pub(crate) machine: SharedMachine,
    /// What the machine takes the place of: it may be large, and ends on the job's thread.
    pub(crate) instead_of: Option<SharedMachine>,
    pub(crate) restore: Option<Arc<SnapshotFile>>,
    /// What the machine said after the job before.
    pub(crate) machine_at: Option<Index>,
    pub(crate) commands: Vec<Command>,
    /// The state is as of this entry when the job is through.
    pub(crate) last: EntryId,
    /// The version that the last entry puts in force.
    pub(crate) switch: Option<u32>,
    /// The version in force before.
    pub(crate) version: u32,
    /// The replica begins to carry effects out.
    pub(crate) begins: Option<Term>,
    pub(crate) queries: Vec<Query>,
    pub(crate) capture: bool,
}

/// What a [`MachineJob`] brings back.
pub(crate) struct MachineDone {
    pub(crate) slot: usize,
    pub(crate) group: GroupKey,
    pub(crate) last: EntryId,
    pub(crate) result: Result<MachineAnswers, MachineFailure>,
}

#[derive(Default)]
pub(crate) struct MachineAnswers {
    pub(crate) restored: bool,
    /// What a machine that keeps its state itself says.
    pub(crate) machine_at: Option<Index>,
    pub(crate) replies: Vec<Bytes>,
    pub(crate) answers: Vec<Bytes>,
    pub(crate) captured: Option<(Chunks, IndexSet)>,
    /// The version in force now.
    pub(crate) version: u32,
    pub(crate) begun: Option<Term>,
    pub(crate) effects: Vec<Effect>,
}

/// Why a state machine did not do its work.
#[derive(Debug)]
pub(crate) enum MachineFailure {
    /// It refused the snapshot.
    Restore(String),
    /// The snapshot cannot be read.
    Rotten(String),
    /// It panicked, or returned another number of replies than it got commands.
    Broken(String),
}

impl Job {
    pub(crate) fn store(job: log_store::Job) -> Job {
        Job { kind: Kind::Store(Box::new(job)) }
    }

    pub(crate) fn machine(job: MachineJob) -> Job {
        Job { kind: Kind::Machine(Box::new(job)) }
    }

    /// Drops what is left of a group: it may be large, and others must not wait for that.
    pub(crate) fn let_go(group: GroupKey, remains: impl Any + Send) -> Job {
        Job { kind: Kind::LetGo(group, Box::new(remains)) }
    }

    /// Where it belongs.
    #[must_use]
    pub fn lane(&self) -> JobLane {
        match &self.kind {
            Kind::Machine(_) => JobLane::Apply,
            Kind::LetGo(..) => JobLane::Flush,
            Kind::Store(job) => match job.lane() {
                log_store::Lane::Wal => JobLane::Wal,
                log_store::Lane::Votes => JobLane::Votes,
                log_store::Lane::Prepare | log_store::Lane::Scrub => JobLane::Prepare,
                log_store::Lane::Read => JobLane::Read,
                log_store::Lane::Snapshot => JobLane::Snapshot,
                _ => JobLane::Flush,
            },
        }
    }

    /// Whose it is, where it belongs to one group.
    #[must_use]
    pub fn group(&self) -> Option<GroupKey> {
        match &self.kind {
            Kind::Machine(job) => Some(job.group),
            Kind::LetGo(group, _) => Some(*group),
            Kind::Store(_) => None,
        }
    }

    /// Whether it is a matter of memory alone, so that who must not wait for a disk may run it. A
    /// machine that is restored is read from one.
    #[must_use]
    pub fn is_quick(&self) -> bool {
        match &self.kind {
            Kind::Machine(job) => job.restore.is_none(),
            Kind::Store(_) | Kind::LetGo(..) => false,
        }
    }

    /// Does it, on the calling thread.
    #[must_use]
    pub fn run(self, vfs: &Arc<dyn Vfs>) -> JobDone {
        let outcome = match self.kind {
            Kind::Store(job) => run_store(*job, vfs),
            Kind::Machine(job) => Outcome::Machine(Box::new(job.run())),
            Kind::LetGo(group, remains) => {
                // Nothing of the group runs any more that this could matter to.
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(remains))) {
                    let reason = panic_text(panic.as_ref());
                    tracing::error!(%group, reason, "while the state of a group was let go");
                }
                Outcome::LetGo
            }
        };
        JobDone { outcome }
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Job({:?}, {:?})", self.lane(), self.group())
    }
}

impl fmt::Debug for JobDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobDone").finish_non_exhaustive()
    }
}

/// Runs a job of the store; a panic ends as an outcome, never as a thread that is gone in silence.
fn run_store(job: log_store::Job, vfs: &Arc<dyn Vfs>) -> Outcome {
    match catch_unwind(AssertUnwindSafe(|| job.run(vfs))) {
        Ok(done) => Outcome::Store(Box::new(done)),
        Err(panic) => match panic.downcast::<SourcePanic>() {
            Ok(source) => Outcome::SourcePanicked { group: source.group, reason: source.reason },
            Err(panic) => {
                Outcome::StorePanicked(format!("a job panicked: {}", message(panic.as_ref())))
            }
        },
    }
}

impl MachineJob {
    fn run(mut self) -> MachineDone {
        let (slot, group, last) = (self.slot, self.group, self.last);
        // The machine is not touched again after a panic: the group stops.
        let result = catch_unwind(AssertUnwindSafe(|| self.work()))
            .unwrap_or_else(|panic| Err(MachineFailure::Broken(panic_text(panic.as_ref()))));
        MachineDone { slot, group, last, result }
    }

    fn work(&mut self) -> Result<MachineAnswers, MachineFailure> {
        drop(self.instead_of.take());
        let mut machine = self.machine.lock();
        let mut done = MachineAnswers { version: self.version, ..MachineAnswers::default() };
        let before = machine.applied();
        if self.machine_at.is_some() && before != self.machine_at {
            return Err(stands_elsewhere(before, self.machine_at));
        }
        let kept = |index| before.is_some_and(|at| at >= index);
        if let Some(file) = self.restore.take() {
            // What the machine kept itself may be ahead.
            if !kept(file.meta().id.index) {
                restore(machine.as_mut(), &file)?;
                let (now, id) = (machine.applied(), file.meta().id);
                if now.is_some_and(|at| at > id.index) {
                    return Err(stands_elsewhere(now, Some(id.index)));
                }
            }
            done.version = version_of(&file).map_err(MachineFailure::Restore)?;
            done.restored = true;
        }
        let before = machine.applied();
        let kept = |index| before.is_some_and(|at| at >= index);
        let known = self.commands.partition_point(|command| kept(command.index));
        done.replies = vec![Bytes::new(); known];
        let commands = &self.commands[known..];
        if let Some(last) = commands.last() {
            let replies = machine.apply(commands);
            if replies.len() != commands.len() {
                return Err(MachineFailure::Broken(format!(
                    "the state machine returned {} replies to {} commands",
                    replies.len(),
                    commands.len()
                )));
            }
            done.replies.extend(replies);
            let now = machine.applied();
            if now.is_some() && now != Some(last.index) {
                return Err(stands_elsewhere(now, Some(last.index)));
            }
        }
        if let Some(version) = self.switch {
            // One that keeps its state itself may be behind this entry already.
            if let Some(versions) = machine.versions().filter(|_| !kept(self.last.index)) {
                versions.switch_to(version);
            }
            done.version = version;
        }
        done.machine_at = machine.applied();
        if let Some(effects) = machine.effects() {
            done.effects = effects.take();
            if self.begins.is_some() {
                done.effects = effects.begin();
            }
            done.begun = self.begins;
        }
        for query in self.queries.drain(..) {
            done.answers.push(query(machine.as_mut()));
        }
        if self.capture {
            let live = machine.live_indexes();
            let head = std::iter::once(versions::snapshot_head(done.version));
            done.captured = Some((Box::new(head.chain(machine.snapshot())), live));
        }
        Ok(done)
    }
}

fn stands_elsewhere(at: Option<Index>, expected: Option<Index>) -> MachineFailure {
    let show = |at: Option<Index>| at.map_or("nowhere".to_owned(), |at| at.to_string());
    MachineFailure::Broken(format!(
        "the state machine says that it applied up to {}, it was given up to {}: a command would \
         be applied twice or never",
        show(at),
        show(expected)
    ))
}

/// Feeds a snapshot to a machine. A damaged file ends early, and its error counts, not the machine's.
pub(crate) fn restore(
    machine: &mut dyn StateMachine,
    file: &SnapshotFile,
) -> Result<(), MachineFailure> {
    let mut damage = None;
    let mut chunks = file.chunks().map_while(|chunk| match chunk {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            damage = Some(error.to_string());
            None
        }
    });
    let mut snapshot = SnapshotReader::new(&mut chunks);
    let begun = begin_restore(machine, &mut snapshot);
    let head = snapshot.position();
    let restored = begun.and_then(|()| machine.restore(&mut snapshot));
    let restored = restored.and_then(|()| match snapshot.is_over() {
        true => Ok(()),
        false => Err(RestoreError::new(format!(
            "it took {} bytes and left the rest",
            snapshot.position() - head
        ))),
    });
    drop(chunks);
    match (damage, restored) {
        (Some(damage), _) => Err(MachineFailure::Rotten(damage)),
        (None, restored) => restored.map_err(|error| MachineFailure::Restore(error.to_string())),
    }
}

/// Tells the machine by which rules the state that follows was made.
fn begin_restore(
    machine: &mut dyn StateMachine,
    snapshot: &mut SnapshotReader<'_>,
) -> Result<(), RestoreError> {
    let version = versions::read_head(snapshot)?;
    let newest = machine.versions().map_or(0, |versions| versions.newest());
    if version > newest {
        return Err(RestoreError::new(versions::too_new(version, newest, "the snapshot")));
    }
    if let Some(versions) = machine.versions() {
        versions.switch_to(version);
    }
    Ok(())
}

/// The version in force as of a snapshot.
fn version_of(file: &SnapshotFile) -> Result<u32, String> {
    let mut chunks = file.chunks().map_while(Result::ok);
    versions::read_head(&mut SnapshotReader::new(&mut chunks)).map_err(|error| error.to_string())
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    format!("the state machine panicked: {}", message(panic))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "no message".into())
}
