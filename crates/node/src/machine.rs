//! What a user brings: a state machine.

use std::any::Any;
use std::error::Error;
use std::fmt;

use bytes::Bytes;
use refloat_types::{GroupKey, Index, IndexSet};

use crate::effects::{Effects, Versions};
use crate::snapshot_reader::SnapshotReader;

/// One committed command, in the order of the log.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    /// Its index in the group's log. Ascending, with gaps where the log holds something else.
    pub index: Index,
    /// What was proposed; eight bytes longer at the front if it was proposed with a time stamp
    /// (see [`split_stamp`]).
    pub payload: Bytes,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} B", self.index, self.payload.len())
    }
}

/// Splits what was proposed with a time stamp into the leader's wall clock (milliseconds since
/// 1970) and the command itself. `None` if there are fewer than eight bytes.
#[must_use]
pub fn split_stamp(payload: &Bytes) -> Option<(u64, Bytes)> {
    let stamp = payload.first_chunk::<8>()?;
    Some((u64::from_le_bytes(*stamp), payload.slice(8..)))
}

/// The state of a snapshot, piece by piece. Must own what it reads from: the machine goes on
/// applying while the pieces are written.
pub type Chunks = Box<dyn Iterator<Item = Bytes> + Send>;

/// A deterministic state machine: the same commands in the same order give the same state and
/// the same replies on every member. No clock, no randomness, no iteration in hash order.
///
/// Three methods are enough:
///
/// ```
/// use bytes::Bytes;
/// use refloat_node::{Chunks, Command, RestoreError, SnapshotReader, StateMachine};
///
/// #[derive(Default)]
/// struct Counter(u64);
///
/// impl StateMachine for Counter {
///     fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
///         let one = |_: &Command| {
///             self.0 += 1;
///             self.0.to_string().into()
///         };
///         batch.iter().map(one).collect()
///     }
///     fn snapshot(&mut self) -> Chunks {
///         Box::new(std::iter::once(Bytes::copy_from_slice(&self.0.to_le_bytes())))
///     }
///     fn restore(&mut self, snapshot: &mut SnapshotReader<'_>) -> Result<(), RestoreError> {
///         self.0 = u64::from_le_bytes(snapshot.array()?);
///         Ok(())
///     }
/// }
/// ```
pub trait StateMachine: Any + Send {
    /// Applies committed commands and returns exactly one reply for each, in their order.
    ///
    /// A panic stops this group on this node, and only this group.
    fn apply(&mut self, batch: &[Command]) -> Vec<Bytes>;

    /// Takes a picture of the state as it is now. Called between two batches; the pieces are
    /// drawn later, on another thread. Pieces of 64 KiB to 1 MiB suit the disk and the network.
    fn snapshot(&mut self) -> Chunks;

    /// Replaces the whole state by a snapshot's: the bytes that [`StateMachine::snapshot`] drew,
    /// each verified, as one stream. Called on a new machine, or on the old one if that keeps its
    /// state itself ([`StateMachine::applied`]).
    ///
    /// # Errors
    /// The bytes do not mean anything to this machine; also taken for one: bytes left over. If the
    /// file turns out to be damaged they end early, and whatever is returned is ignored.
    fn restore(&mut self, snapshot: &mut SnapshotReader<'_>) -> Result<(), RestoreError>;

    /// For machines that keep their state on a disk of their own: the index of the last command
    /// in it, zero before the first. `None`, as here, for all others.
    ///
    /// The contract: state and index change together, whatever crashes (one transaction), and
    /// nothing else changes them; whether they are synced is the machine's own affair, because
    /// what it lost is applied again. After a restart the machine is given what lies above its
    /// index only; if that is below the node's snapshot, it is restored first. An index that does
    /// not move to the last command of each batch, or moves between two batches, would be a
    /// command applied twice or never: the group stops on this node and says so.
    fn applied(&self) -> Option<Index> {
        None
    }

    /// The indexes at or below the snapshot whose entries the state still refers to: they stay in
    /// the log behind a compaction, go to a member that lacks them before the snapshot does, and
    /// are fetched from other members where a disk lost them. Whoever asks the machine where they
    /// are reads them back by [`Group::commands`](crate::Group::commands).
    /// None, unless the machine keeps its payloads in the log.
    fn live_indexes(&self) -> IndexSet {
        IndexSet::new()
    }

    /// What the leader's replica does beside the state: timers, notices. None, unless given. To be
    /// answered alike at all times.
    fn effects(&mut self) -> Option<&mut dyn Effects> {
        None
    }

    /// Versions of the rules by which commands are applied. Only version 0, unless given. To be
    /// answered alike at all times.
    fn versions(&mut self) -> Option<&mut dyn Versions> {
        None
    }
}

/// The pieces of a snapshot mean nothing to the state machine that was to be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreError {
    reason: String,
}

impl RestoreError {
    /// Makes one from a sentence without a full stop.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> RestoreError {
        RestoreError { reason: reason.into() }
    }
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "restore the state machine: {}", self.reason)
    }
}

impl Error for RestoreError {}

/// Makes a state machine for a group: an empty one, or one that opens what it kept itself. Called
/// when the group starts on this node, and again for each snapshot that replaces the state of a
/// machine in memory. A group that is deleted and created again has another epoch: what a machine
/// keeps on a disk belongs under both, or the new group would find the old one's state. The machine of
/// a deleted group is dropped on another thread, and may live a moment longer than its group.
pub type MachineFactory = Box<dyn Fn(GroupKey) -> Box<dyn StateMachine> + Send + Sync>;

/// A question to a state machine, asked between two batches, on an apply thread.
pub type Query = Box<dyn FnOnce(&mut dyn StateMachine) -> Bytes + Send>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_split_off_and_a_short_payload_has_none() {
        let mut payload = 77u64.to_le_bytes().to_vec();
        payload.extend_from_slice(b"set");
        assert_eq!(split_stamp(&payload.into()), Some((77, Bytes::from_static(b"set"))));
        assert_eq!(split_stamp(&Bytes::from_static(b"seven b")), None);
    }
}
