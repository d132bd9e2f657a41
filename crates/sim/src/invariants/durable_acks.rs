//! Durability of a replica's acks: what it acknowledged to a leader, and what was then committed,
//! is in its log after any kill and any power cut.

use std::collections::BTreeMap;

use refloat_types::{GroupKey, Member};

use super::Check;
use super::leader_append_only::LeaderAppendOnly;
use super::leader_completeness::LeaderCompleteness;

pub(crate) const NAME: &str = "durability of acks";

#[derive(Default)]
pub(crate) struct DurableAcks {
    /// Group and node → leader's term → how far its log is here.
    acks: BTreeMap<(GroupKey, Member), BTreeMap<u64, u64>>,
}

impl DurableAcks {
    pub(crate) fn ack(&mut self, group: GroupKey, node: Member, term: u64, matched: u64) {
        let highest = self.acks.entry((group, node)).or_default().entry(term).or_default();
        *highest = matched.max(*highest);
    }

    /// A node comes back with a log up to `last`.
    pub(crate) fn boot(
        &self,
        group: GroupKey,
        node: Member,
        last: u64,
        committed: &LeaderCompleteness,
        views: &LeaderAppendOnly,
    ) -> Check {
        let Some(acks) = self.acks.get(&(group, node)) else { return Ok(()) };
        for (term, matched) in acks {
            let Some((index, entry_term)) = committed.committed_up_to(group, *matched) else {
                continue;
            };
            // What this leader had there may have lost against another; then nothing is owed.
            if views.term_at(group, *term, index) == Some(entry_term) && last < index {
                return Err(format!(
                    "{node} comes back to {group} with a log up to {last}, it had \
                     acknowledged {index}, which is committed"
                ));
            }
        }
        Ok(())
    }

    /// A group in which a node acknowledged committed entries is there after a boot.
    pub(crate) fn all_present(
        &self,
        node: Member,
        present: &[GroupKey],
        deleted: &dyn Fn(GroupKey) -> bool,
        committed: &LeaderCompleteness,
    ) -> Check {
        let mine =
            self.acks.iter().filter(|((group, n), _)| n.is_of(node) && !present.contains(group));
        let mine = mine.filter(|((group, _), _)| !deleted(*group));
        for ((group, _), acks) in mine {
            let matched = acks.values().copied().max().unwrap_or_default();
            if committed.committed_up_to(*group, matched).is_some() {
                return Err(format!("{node} comes back without {group}, where it had acks"));
            }
        }
        Ok(())
    }
}
