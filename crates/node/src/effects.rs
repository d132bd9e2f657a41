//! What a state machine may have beside its state: effects that the leader alone carries out, and
//! versions of its rules.

use bytes::Bytes;

/// Something to be done outside of the state, once, by the replica that leads.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// Tells the program around the node (see [`Builder::notices`](crate::Builder::notices)):
    /// a job for a worker, a mail to be sent.
    Notice(Bytes),
    /// Proposes a command when the leader's wall clock reaches a time, in milliseconds since 1970
    /// as [`split_stamp`](crate::split_stamp) gives it. Another timer of the same id takes its
    /// place. A time that is over is now.
    Timer {
        /// Its name within the group.
        id: u64,
        /// When.
        at_ms: u64,
        /// What is proposed then.
        command: Bytes,
    },
    /// The timer of this id is not needed any more.
    Cancel {
        /// Its name.
        id: u64,
    },
}

/// Effects: an optional part of a [`StateMachine`](crate::StateMachine), handed out by
/// [`StateMachine::effects`](crate::StateMachine::effects).
///
/// **The leader alone carries effects out**, from the moment on in which it has applied an entry
/// of its own term: then its state is at least that of every leader before it. Followers never do.
///
/// **An effect happens at least once**, if the state says for as long as it is owed that it is:
/// a leader that dies in between leaves it to the next one, whose [`Effects::begin`] brings all
/// that is owed again. So whoever gets an effect must bear to get it twice, also from an old leader
/// that does not know yet that it is deposed; and that it was carried out is said by a command.
/// A timer's command is proposed again until it is applied.
///
/// A machine behind [`Sessions`](crate::sessions::Sessions) has the same effects; its timers'
/// commands are no session's, and reach it as they are.
///
/// Effects change nothing in the state, so they are no part of what must be deterministic.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use bytes::Bytes;
/// use refloat_node::{
///     Chunks, Command, Effect, Effects, RestoreError, SnapshotReader, StateMachine, split_stamp,
/// };
///
/// /// Reminders: `text` is owed for a second, then a command takes it out again.
/// #[derive(Default)]
/// struct Reminders {
///     owed: BTreeMap<u64, u64>,
///     new: Vec<u64>,
/// }
///
/// impl Reminders {
///     fn timer(&self, id: u64) -> Effect {
///         let command = Bytes::copy_from_slice(&id.to_le_bytes());
///         Effect::Timer { id, at_ms: self.owed[&id], command }
///     }
/// }
///
/// impl StateMachine for Reminders {
///     fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
///         for command in batch {
///             match (command.payload.first_chunk(), split_stamp(&command.payload)) {
///                 // What the timer proposes is its id and nothing else: the reminder is over.
///                 (Some(id), _) if command.payload.len() == 8 => {
///                     self.owed.remove(&u64::from_le_bytes(*id));
///                 }
///                 (_, Some((now_ms, _text))) => {
///                     self.owed.insert(command.index.0, now_ms + 1_000);
///                     self.new.push(command.index.0);
///                 }
///                 _ => {}
///             }
///         }
///         vec![Bytes::new(); batch.len()]
///     }
///     fn effects(&mut self) -> Option<&mut dyn Effects> {
///         Some(self)
///     }
/// #   fn snapshot(&mut self) -> Chunks { Box::new(std::iter::empty()) }
/// #   fn restore(&mut self, _: &mut SnapshotReader<'_>) -> Result<(), RestoreError> { Ok(()) }
/// }
///
/// impl Effects for Reminders {
///     fn begin(&mut self) -> Vec<Effect> {
///         self.owed.keys().map(|id| self.timer(*id)).collect()
///     }
///     fn take(&mut self) -> Vec<Effect> {
///         let new = std::mem::take(&mut self.new);
///         new.into_iter().filter(|id| self.owed.contains_key(id)).map(|id| self.timer(id)).collect()
///     }
/// }
/// ```
pub trait Effects {
    /// This replica begins to lead: everything that the state owes. Timers of an earlier time as
    /// leader are gone.
    fn begin(&mut self) -> Vec<Effect>;

    /// What the last batch added. Asked after each batch on every replica, so that nothing gathers;
    /// of a follower's answer nothing is carried out, nor of a batch behind which
    /// [`Effects::begin`] is asked.
    fn take(&mut self) -> Vec<Effect>;
}

/// Versions: an optional part of a [`StateMachine`](crate::StateMachine), handed out by
/// [`StateMachine::versions`](crate::StateMachine::versions).
///
/// A program that applies commands by other rules than the one before gives its rules the next
/// number, and keeps the old ones. Which version is in force is replicated with the state: the log
/// says from which entry on, and a snapshot says as of which it was drawn. All groups begin with
/// version 0. **A higher one comes into force when every member of the group, learners included,
/// has announced that it can run it**, so a cluster is upgraded node by node, and switches by
/// itself when the last one is.
///
/// A program that meets a version it cannot run, because it is older than the others, applies
/// nothing more of that group: the group stops on this node and says which version it needs. Its
/// log stays, and the newer program goes on with it.
///
/// ```
/// use bytes::Bytes;
/// use refloat_node::{
///     Chunks, Command, RestoreError, SnapshotReader, StateMachine, Versions,
/// };
///
/// /// Counts by ones; from version 1 on, by what the command says.
/// #[derive(Default)]
/// struct Counter {
///     count: u64,
///     version: u32,
/// }
///
/// impl StateMachine for Counter {
///     fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
///         let one = |command: &Command| {
///             self.count += if self.version == 0 { 1 } else { command.payload.len() as u64 };
///             self.count.to_string().into()
///         };
///         batch.iter().map(one).collect()
///     }
///     fn versions(&mut self) -> Option<&mut dyn Versions> {
///         Some(self)
///     }
/// #   fn snapshot(&mut self) -> Chunks { Box::new(std::iter::empty()) }
/// #   fn restore(&mut self, _: &mut SnapshotReader<'_>) -> Result<(), RestoreError> { Ok(()) }
/// }
///
/// impl Versions for Counter {
///     fn newest(&self) -> u32 {
///         1
///     }
///     fn switch_to(&mut self, version: u32) {
///         self.version = version;
///     }
/// }
/// ```
pub trait Versions {
    /// The highest version that this program can run; it can run all below.
    fn newest(&self) -> u32;

    /// This version is in force from the next command on, and for the snapshot that is restored
    /// next. Asked between two batches, in the same place of the log on every replica. A machine
    /// that keeps its state itself keeps the version with it, and may be told again which one is in
    /// force.
    fn switch_to(&mut self, version: u32);
}
