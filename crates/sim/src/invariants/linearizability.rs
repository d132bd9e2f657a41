//! Linearizability, white-box, by log index: a read answered as of index i must not have begun
//! after an operation at a higher index was finished. Writes take their place by the log itself.

use std::collections::BTreeMap;

use refloat_types::GroupId;

use super::Check;

pub(crate) const NAME: &str = "linearizability";

#[derive(Default)]
pub(crate) struct Linearizability {
    /// The highest index of a finished write or linearizable read.
    finished: BTreeMap<GroupId, u64>,
    pub(crate) count: u64,
}

impl Linearizability {
    pub(crate) fn floor(&self, group: GroupId) -> u64 {
        self.finished.get(&group).copied().unwrap_or_default()
    }

    fn finished(&mut self, group: GroupId, index: u64) {
        let highest = self.finished.entry(group).or_default();
        *highest = index.max(*highest);
    }

    /// A write that began when the floor was `floor`.
    pub(crate) fn written(&mut self, group: GroupId, floor: u64, index: u64) -> Check {
        self.finished(group, index);
        if index > floor {
            return Ok(());
        }
        Err(format!("a write of group {group} went to index {index}, {floor} was finished before"))
    }

    /// A read that began when the floor was `floor`.
    pub(crate) fn answered(&mut self, group: GroupId, floor: u64, index: u64) -> Check {
        self.count += 1;
        self.finished(group, index);
        if index >= floor {
            return Ok(());
        }
        Err(format!("a read of group {group} saw index {index}, {floor} was finished before it"))
    }
}
