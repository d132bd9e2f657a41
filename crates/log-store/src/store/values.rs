//! An opaque value per group, for hosts that keep a vote in a form of their own.

use bytes::Bytes;
use refloat_types::{GroupKey, Now};
use refloat_wal::RecordRef;

use super::LogStore;
use crate::error::SubmitError;
use crate::event::Ticket;
use crate::small_state::GroupValue;

/// The longest value of a group in bytes: every checkpoint holds all of them.
pub const MAX_GROUP_VALUE: usize = 4096;

impl LogStore {
    /// Keeps a value of the host's own for a group, in place of the one before; a boot hands it
    /// back in [`crate::GroupBoot::value`].
    ///
    /// The value may carry a vote, so it is kept as one is: written to both logs, durable when
    /// both are synced, and where neither log can prove the last one the group is
    /// [`crate::GroupState::Amnesia`] rather than handed an older one.
    ///
    /// # Errors
    /// The value does not count for the running store. After [`SubmitError::NoSpace`] one of the
    /// logs may hold it all the same: until another value is durable, the next boot may bring it.
    pub fn put_group_value(
        &mut self,
        _now: Now,
        key: GroupKey,
        body: Bytes,
    ) -> Result<Ticket, SubmitError> {
        self.check_alive()?;
        if body.len() > MAX_GROUP_VALUE {
            return Err(SubmitError::ValueTooLarge { len: body.len() });
        }
        let (Some(record), Some(log)) = (self.state.groups.get(&key), self.logs.get_mut(&key))
        else {
            return Err(SubmitError::UnknownGroup);
        };
        // A number is not used again after a refusal, so that what one log took then never
        // stands beside another value of the same number.
        log.value_change += 1;
        let change = record.value_change(GroupValue { change: log.value_change, body });
        let body = change.encode();
        let records = [RecordRef::State { group: key, body: &body }];
        let (wal, votes) = self.submit_to_both(&records, &records)?;
        self.state.apply(key, &change);
        Ok(self.tickets.issue(wal, votes, Vec::new()))
    }

    /// The value that was kept for a group last, durable or not yet.
    #[must_use]
    pub fn group_value(&self, key: GroupKey) -> Option<&Bytes> {
        self.state.groups.get(&key)?.value.get()
    }
}
