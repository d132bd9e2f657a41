//! Live entries: what a state refers to is read back from every member's log, as it was applied.

use refloat_node::Command;
use refloat_types::{GroupKey, Index, IndexSet};

use super::Check;
use super::state_machine_safety::Applied;
use crate::trace::hash;

pub(crate) const NAME: &str = "live entries";

/// Every so many commands one is referred to for a while,
const EVERY: u64 = 5;
/// and every so many for ever.
const FOR_EVER: u64 = 45;
/// So many indexes long.
const WHILE: u64 = 300;

/// To which commands a machine refers, as the simulator has every machine do; a function of the
/// commands alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    pub(crate) live: IndexSet,
}

impl Kept {
    pub(crate) fn apply(&mut self, index: Index) {
        if index.0.is_multiple_of(EVERY) {
            self.live.insert(index);
            let old = Index(index.0.saturating_sub(WHILE));
            let over = self.live.iter().take_while(|at| *at < old);
            let over: Vec<Index> = over.filter(|at| !at.0.is_multiple_of(FOR_EVER)).collect();
            over.into_iter().for_each(|at| self.live.remove_range(at, at));
        }
    }
}

/// What was read of a log is what was applied.
pub(crate) fn check(applied: &Applied, group: GroupKey, node: u64, read: &[Command]) -> Check {
    let wrong = |command: &&Command| {
        let step = applied.step(group, command.index.0);
        step.is_none_or(|step| step.command != hash(&command.payload))
    };
    match read.iter().find(wrong) {
        None => Ok(()),
        Some(command) => Err(format!(
            "node {node} reads something else at index {} of group {group} than was applied",
            command.index
        )),
    }
}
