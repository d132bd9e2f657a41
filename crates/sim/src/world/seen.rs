//! The clients' view of a run.

use bytes::Bytes;
use refloat_types::GroupId;

use crate::history::{Action, History, Operation};
use crate::trace::hash;

/// What clients asked and were told, as a history of registers.
#[derive(Default)]
pub(crate) struct Seen {
    /// Whether the machine has registers.
    pub(crate) on: bool,
    operations: Vec<Option<Operation>>,
}

impl Seen {
    /// A client asks; gives the place of the operation.
    pub(crate) fn begin(
        &mut self,
        (client, now): (u64, u64),
        (group, register): (GroupId, u8),
        write: Option<&[u8]>,
        stale: bool,
    ) -> Option<usize> {
        let action = write.map_or(Action::Read(None), |value| Action::Write(hash(value)));
        let key = format!("{group}/{register}");
        let operation = Operation { client, key, action, begin: now, end: None, stale };
        self.on.then(|| {
            self.operations.push(Some(operation));
            self.operations.len() - 1
        })
    }

    /// It is told the value that it read, or the one that its write replaced.
    pub(crate) fn answered(&mut self, at: usize, now: u64, value: &Bytes) {
        let Some(operation) = self.operations.get_mut(at).and_then(Option::as_mut) else { return };
        let found = (!value.is_empty()).then(|| hash(value));
        operation.end = Some(now);
        operation.action = match operation.action {
            Action::Write(value) => Action::Swapped { value, before: found },
            _ => Action::Read(found),
        };
    }

    /// It is told that nothing happened and nothing will.
    pub(crate) fn refused(&mut self, at: usize) {
        if let Some(operation) = self.operations.get_mut(at) {
            *operation = None;
        }
    }

    pub(crate) fn report(&self) -> History {
        History { operations: self.operations.iter().flatten().cloned().collect() }
    }
}
