//! Monotone pointers: term, commit, applied and snapshot never fall while a process lives, and
//! snapshot ≤ applied ≤ commit. (`durable` may fall: a suffix is overwritten.)

use std::collections::BTreeMap;

use refloat_node::GroupStatus;

use super::Check;

pub(crate) const NAME: &str = "monotone pointers";

#[derive(Default)]
pub(crate) struct MonotonePointers {
    /// Node, its boot, group, epoch.
    seen: BTreeMap<(u64, u64, u64, u64), [u64; 4]>,
}

impl MonotonePointers {
    pub(crate) fn look(&mut self, node: u64, boot: u64, status: &GroupStatus) -> Check {
        let new = [status.term, status.commit, status.applied, status.snapshot];
        let key = (node, boot, status.group, status.epoch);
        let old = self.seen.insert(key, new).unwrap_or(new);
        let names = ["term", "commit", "applied", "snapshot"];
        for ((name, old), new) in names.iter().zip(old).zip(new) {
            if new < old {
                let group = status.group;
                return Err(format!("{name} of group {group} on node {node}: {new} after {old}"));
            }
        }
        let [_, commit, applied, _] = new;
        if applied > commit {
            let group = status.group;
            return Err(format!(
                "node {node} applied {applied} of group {group}, committed is {commit}"
            ));
        }
        Ok(())
    }
}
