//! What is written and what comes back.

use std::fmt;

use bytes::Bytes;
use refloat_types::{Generation, GroupKey, LogOp};

/// The position of a batch: a file and a number in it, counted from 1.
/// What a [`Writer::submit`](crate::Writer::submit) wrote is durable once
/// [`Writer::durable`](crate::Writer::durable) has reached the position that it returned.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn {
    /// The file.
    pub generation: Generation,
    /// The batch in the file. Batch 1 holds the checkpoint.
    pub batch: u32,
}

impl Lsn {
    /// Joins a file and a batch number.
    #[must_use]
    pub const fn new(generation: Generation, batch: u32) -> Lsn {
        Lsn { generation, batch }
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.generation, self.batch)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One record, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A change of one group's log.
    Log {
        /// Whose log.
        group: GroupKey,
        /// The change.
        op: LogOp,
    },
    /// Small state: opaque here, kept in full in the batch's directory and in its copy.
    State {
        /// Whose state; the node's own state goes under a key that the caller sets aside.
        group: GroupKey,
        /// The state.
        body: Bytes,
    },
}

impl Record {
    /// The same record, borrowed.
    #[must_use]
    pub fn as_ref(&self) -> RecordRef<'_> {
        match self {
            Record::Log { group, op } => RecordRef::Log { group: *group, op },
            Record::State { group, body } => RecordRef::State { group: *group, body },
        }
    }

    /// Whose record it is.
    #[must_use]
    pub fn group(&self) -> GroupKey {
        match self {
            Record::Log { group, .. } | Record::State { group, .. } => *group,
        }
    }
}

/// One record, borrowed, as [`Writer::submit`](crate::Writer::submit) takes it.
#[derive(Clone, Copy, Debug)]
pub enum RecordRef<'a> {
    /// A change of one group's log.
    Log {
        /// Whose log.
        group: GroupKey,
        /// The change.
        op: &'a LogOp,
    },
    /// Small state.
    State {
        /// Whose state.
        group: GroupKey,
        /// The state.
        body: &'a [u8],
    },
}
