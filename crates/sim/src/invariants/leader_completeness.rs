//! Leader completeness (figure 3): an entry committed in a term is in the logs of the leaders of
//! all higher terms. Seen in three places: what a leader says is committed extends what was
//! committed before; what it sends agrees with it; and the log with which it won reaches it.

use std::collections::BTreeMap;

use refloat_raft_core::Append;
use refloat_types::{EntryId, GroupKey, Index, Term};

use super::Check;
use super::leader_append_only::LeaderAppendOnly;
use super::log_matching::LogMatching;

pub(crate) const NAME: &str = "leader completeness";

#[derive(Default)]
pub(crate) struct LeaderCompleteness {
    groups: BTreeMap<GroupKey, Committed>,
    /// With which last entry a candidate stood.
    candidates: BTreeMap<(GroupKey, u64, u64), EntryId>,
}

/// The common history of a group, as far as leaders told it.
#[derive(Default)]
struct Committed {
    /// Index → term of the entry, and the lowest term in which it was known to be committed.
    entries: BTreeMap<u64, (u64, u64)>,
}

impl LeaderCompleteness {
    pub(crate) fn candidate(&mut self, group: GroupKey, term: u64, node: u64, last: EntryId) {
        self.candidates.insert((group, term, node), last);
    }

    /// Somebody leads: its log at the election must reach everything committed in earlier terms.
    pub(crate) fn leader(&mut self, group: GroupKey, term: u64, node: u64) -> Check {
        let Some(last) = self.candidates.remove(&(group, term, node)) else { return Ok(()) };
        let Some(committed) = self.groups.get(&group) else { return Ok(()) };
        let earlier = committed.entries.iter().rev().find(|(_, (_, known))| *known < term);
        match earlier {
            Some((index, (entry_term, _))) => {
                let must = EntryId::new(Term(*entry_term), Index(*index));
                if last >= must {
                    return Ok(());
                }
                Err(format!(
                    "node {node} leads {group} in term {term} with a log up to {last}, \
                     committed was {must}"
                ))
            }
            None => Ok(()),
        }
    }

    pub(crate) fn append(&self, group: GroupKey, term: u64, append: &Append) -> Check {
        let Some(committed) = self.groups.get(&group) else { return Ok(()) };
        for id in std::iter::once(append.prev).chain(append.entries.iter().map(|e| e.id)) {
            if let Some((entry_term, known)) = committed.entries.get(&id.index.0)
                && *known < term
                && *entry_term != id.term.0
            {
                return Err(format!(
                    "the leader of {group} in term {term} has {id}, committed there is an entry \
                     of term {entry_term}"
                ));
            }
        }
        Ok(())
    }

    /// A leader says that everything up to an index is committed.
    pub(crate) fn commit(
        &mut self,
        group: GroupKey,
        term: u64,
        commit: u64,
        views: &LeaderAppendOnly,
        log: &LogMatching,
    ) -> Check {
        let committed = self.groups.entry(group).or_default();
        let last = committed.entries.last_key_value().map_or(0, |(index, _)| *index);
        if commit <= last {
            return Ok(());
        }
        let Some(mut at) = views.term_at(group, term, commit) else { return Ok(()) };
        // Back along the predecessors, to where the history is known.
        let mut found = Vec::new();
        let mut index = commit;
        while index > last && index > 0 {
            found.push((index, at));
            match log.prev_term(group, EntryId::new(Term(at), Index(index))) {
                Some(prev) => at = prev,
                None => break,
            }
            index -= 1;
        }
        if index == last
            && let Some((known, _)) = committed.entries.get(&last)
            && *known != at
        {
            return Err(format!(
                "the leader of {group} in term {term} commits {commit} on top of an entry of \
                 term {at} at {last}, where one of term {known} was committed"
            ));
        }
        committed.entries.extend(found.into_iter().map(|(i, t)| (i, (t, term))));
        Ok(())
    }

    /// The term of the committed entry at the highest known index up to a limit.
    pub(crate) fn committed_up_to(&self, group: GroupKey, limit: u64) -> Option<(u64, u64)> {
        let entries = &self.groups.get(&group)?.entries;
        entries.range(..=limit).next_back().map(|(index, (term, _))| (*index, *term))
    }
}
