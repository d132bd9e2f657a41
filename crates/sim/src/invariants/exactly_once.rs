//! Exactly once: a request is applied at one index of one group, whatever was sent again, forwarded
//! or left open on the way. That it is applied at all if it was acknowledged is
//! [`durable_writes`](super::durable_writes); requests of sessions, which clients may send again
//! themselves, are in `crates/sim/tests/sessions.rs`.

use std::collections::BTreeMap;

use refloat_types::GroupKey;

use super::Check;

pub(crate) const NAME: &str = "exactly once";

#[derive(Debug, Default)]
pub(crate) struct ExactlyOnce {
    /// Request → where it was applied first.
    places: BTreeMap<u64, (GroupKey, u64)>,
    pub(crate) evaluated: u64,
}

impl ExactlyOnce {
    pub(crate) fn applied(&mut self, request: u64, at: (GroupKey, u64)) -> Check {
        self.evaluated += 1;
        let first = *self.places.entry(request).or_insert(at);
        if first == at {
            return Ok(());
        }
        let ((group, index), (other, second)) = (first, at);
        Err(format!("request {request} at {index} of {group} and at {second} of {other}"))
    }

    /// Where a request was applied, if anywhere.
    pub(crate) fn place_of(&self, request: u64) -> Option<(GroupKey, u64)> {
        self.places.get(&request).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use refloat_types::{Epoch, GroupId};

    #[test]
    fn a_request_that_is_applied_at_a_second_index_or_by_a_second_group_is_seen() {
        let group = |id| GroupKey::new(GroupId(id), Epoch(1));
        let mut once = ExactlyOnce::default();
        for _replica in 0..3 {
            assert_eq!(once.applied(7, (group(1), 4)), Ok(()));
        }
        assert_eq!(once.place_of(7), Some((group(1), 4)));
        assert!(once.applied(7, (group(1), 5)).is_err());
        assert!(once.applied(7, (group(2), 4)).is_err());
    }
}
