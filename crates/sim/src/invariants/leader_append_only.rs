//! Leader append-only (figure 3): a leader never overwrites or deletes entries in its log.
//! Seen in what it sends: within one term, the entry at an index never changes.

use std::collections::BTreeMap;

use refloat_raft_core::Append;
use refloat_types::GroupKey;

use super::Check;

pub(crate) const NAME: &str = "leader append-only";

#[derive(Default)]
pub(crate) struct LeaderAppendOnly {
    /// Group and leader's term → index → the entry's term.
    views: BTreeMap<(GroupKey, u64), BTreeMap<u64, u64>>,
}

impl LeaderAppendOnly {
    pub(crate) fn append(&mut self, group: GroupKey, term: u64, append: &Append) -> Check {
        let view = self.views.entry((group, term)).or_default();
        let entries = append.entries.iter().map(|entry| entry.id);
        for id in std::iter::once(append.prev).chain(entries) {
            let first = *view.entry(id.index.0).or_insert(id.term.0);
            if first != id.term.0 {
                return Err(format!(
                    "the leader of {group} in term {term} had an entry of term {first} at {}, \
                     now one of term {}",
                    id.index, id.term
                ));
            }
        }
        Ok(())
    }

    /// The term of the entry at an index in the log of a term's leader, if it was seen.
    pub(crate) fn term_at(&self, group: GroupKey, term: u64, index: u64) -> Option<u64> {
        self.views.get(&(group, term))?.get(&index).copied()
    }
}
