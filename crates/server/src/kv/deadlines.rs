//! When the next deadline of each group passes, for who has to propose the sweep.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use refloat_types::GroupId;

/// "There is no deadline."
const NONE: u64 = u64::MAX;

/// The next deadline of every group on this node. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Deadlines {
    groups: Arc<Mutex<BTreeMap<GroupId, Next>>>,
}

/// The next deadline of one group, kept up to date by its state machine.
#[derive(Clone, Debug)]
pub struct Next(Arc<AtomicU64>);

impl Default for Next {
    fn default() -> Next {
        Next(Arc::new(AtomicU64::new(NONE)))
    }
}

impl Next {
    /// Notes when the next deadline passes, in milliseconds since 1970.
    pub fn note(&self, at_ms: Option<u64>) {
        self.0.store(at_ms.unwrap_or(NONE), Ordering::Relaxed);
    }

    fn is_over(&self, now_ms: u64) -> bool {
        self.0.load(Ordering::Relaxed) <= now_ms
    }
}

impl Deadlines {
    /// A place for a state machine of this group; that of an earlier one is forgotten.
    pub fn of(&self, group: GroupId) -> Next {
        let next = Next::default();
        self.groups.lock().insert(group, next.clone());
        next
    }

    /// The groups with a deadline that has passed.
    pub fn over(&self, now_ms: u64) -> Vec<GroupId> {
        let groups = self.groups.lock();
        groups.iter().filter(|(_, next)| next.is_over(now_ms)).map(|(group, _)| *group).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_groups_whose_deadline_has_passed_are_over() {
        let deadlines = Deadlines::default();
        let (one, two) = (deadlines.of(GroupId(1)), deadlines.of(GroupId(2)));
        one.note(Some(10));
        two.note(Some(20));
        assert_eq!(deadlines.over(9), []);
        assert_eq!(deadlines.over(10), [GroupId(1)]);
        assert_eq!(deadlines.over(20), [GroupId(1), GroupId(2)]);
        one.note(None);
        assert_eq!(deadlines.over(u64::MAX - 1), [GroupId(2)]);
        deadlines.of(GroupId(2));
        assert_eq!(deadlines.over(u64::MAX - 1), []);
    }
}
