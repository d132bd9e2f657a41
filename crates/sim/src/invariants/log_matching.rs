//! Log matching (figure 3): if two logs hold an entry of the same index and term, they are
//! identical up to it. Seen as: an entry of one index and term has one content and one
//! predecessor, whoever sends it.

use std::collections::BTreeMap;

use refloat_raft_core::Append;
use refloat_types::{Digest, EntryId, GroupKey};

use super::Check;

pub(crate) const NAME: &str = "log matching";

#[derive(Default)]
pub(crate) struct LogMatching {
    groups: BTreeMap<GroupKey, Entries>,
}

/// Index and term → content and the term before it.
type Entries = BTreeMap<(u64, u64), (Digest, u64)>;

impl LogMatching {
    pub(crate) fn append(&mut self, group: GroupKey, append: &Append) -> Check {
        let known = self.groups.entry(group).or_default();
        let mut prev = append.prev;
        for entry in &append.entries {
            if entry.id.index != prev.index.next() {
                return Err(format!("{group}: {} follows {} in one append", entry.id, prev));
            }
            let new = (entry.digest, prev.term.0);
            let first = *known.entry((entry.id.index.0, entry.id.term.0)).or_insert(new);
            if first.0 != new.0 {
                return Err(format!("{group}: two contents of entry {}", entry.id));
            }
            if first.1 != new.1 {
                let (a, b) = (first.1, new.1);
                return Err(format!("{group}: entry {} follows terms {a} and {b}", entry.id));
            }
            prev = entry.id;
        }
        Ok(())
    }

    /// The term of the entry before this one.
    pub(crate) fn prev_term(&self, group: GroupKey, id: EntryId) -> Option<u64> {
        let entries = self.groups.get(&group)?;
        entries.get(&(id.index.0, id.term.0)).map(|(_, prev)| *prev)
    }
}
