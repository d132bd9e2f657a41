//! Linearizability, white-box, by log index: a read answered as of index i must not have begun
//! after an operation at a higher index was finished. Writes take their place by the log itself.

use std::collections::BTreeMap;

use refloat_types::{Epoch, GroupId, GroupKey};

use super::Check;

pub(crate) const NAME: &str = "linearizability";

/// Per group the highest index that was finished.
pub(crate) type Floors = BTreeMap<GroupKey, u64>;

#[derive(Default)]
pub(crate) struct Linearizability {
    /// The highest index of a finished write or linearizable read.
    finished: Floors,
    pub(crate) count: u64,
}

impl Linearizability {
    /// What was finished in the groups of an id: there is one at a time.
    pub(crate) fn floors(&self, id: GroupId) -> Floors {
        let all = GroupKey::new(id, Epoch(0))..=GroupKey::new(id, Epoch(u64::MAX));
        self.finished.range(all).map(|(group, index)| (*group, *index)).collect()
    }

    fn finished(&mut self, group: GroupKey, index: u64) {
        let highest = self.finished.entry(group).or_default();
        *highest = index.max(*highest);
    }

    /// A write that began when the floor was `floor`.
    pub(crate) fn written(&mut self, group: GroupKey, floor: u64, index: u64) -> Check {
        self.finished(group, index);
        if index > floor {
            return Ok(());
        }
        Err(format!("a write of group {group} went to index {index}, {floor} was finished before"))
    }

    /// A read that began when the floor was `floor`.
    pub(crate) fn answered(&mut self, group: GroupKey, floor: u64, index: u64) -> Check {
        self.count += 1;
        self.finished(group, index);
        if index >= floor {
            return Ok(());
        }
        Err(format!("a read of group {group} saw index {index}, {floor} was finished before it"))
    }
}
