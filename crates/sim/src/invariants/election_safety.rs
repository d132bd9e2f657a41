//! Election safety (figure 3): at most one leader can be elected in a given term.

use std::collections::BTreeMap;

use refloat_types::GroupKey;

use super::Check;

pub(crate) const NAME: &str = "election safety";

#[derive(Default)]
pub(crate) struct ElectionSafety {
    leaders: BTreeMap<(GroupKey, u64), u64>,
}

impl ElectionSafety {
    /// A node acts as the leader of a term.
    pub(crate) fn leader(&mut self, group: GroupKey, term: u64, node: u64) -> Check {
        let first = *self.leaders.entry((group, term)).or_insert(node);
        if first == node {
            return Ok(());
        }
        Err(format!("nodes {first} and {node} both lead {group} in term {term}"))
    }
}
