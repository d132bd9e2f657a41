//! No amnesia vote: a replica votes once per term (figure 2), whatever its disk went through, and
//! comes back with no lower term than any it has spoken in.

use std::collections::BTreeMap;

use refloat_types::{GroupKey, Member};

use super::Check;

pub(crate) const NAME: &str = "no amnesia vote";

#[derive(Default)]
pub(crate) struct NoAmnesiaVote {
    votes: BTreeMap<(GroupKey, Member, u64), Member>,
    terms: BTreeMap<(GroupKey, Member), u64>,
}

impl NoAmnesiaVote {
    /// A node has sent something that carries its term.
    pub(crate) fn sent(&mut self, group: GroupKey, node: Member, term: u64) {
        let highest = self.terms.entry((group, node)).or_default();
        *highest = term.max(*highest);
    }

    /// A node has told its vote.
    pub(crate) fn vote(&mut self, group: GroupKey, node: Member, term: u64, who: Member) -> Check {
        let first = *self.votes.entry((group, node, term)).or_insert(who);
        if first == who {
            return Ok(());
        }
        Err(format!("{node} voted for {first} and for {who} in term {term} of {group}"))
    }

    /// A node has read its term and vote from its disk.
    pub(crate) fn boot(
        &mut self,
        group: GroupKey,
        node: Member,
        term: u64,
        vote: Option<u64>,
    ) -> Check {
        let spoken = self.terms.get(&(group, node)).copied().unwrap_or_default();
        if term < spoken {
            return Err(format!(
                "{node} comes back to {group} with term {term}, it has spoken in {spoken}"
            ));
        }
        match self.votes.get(&(group, node, term)) {
            Some(told) if vote != Some(told.node.0) => Err(format!(
                "{node} comes back to term {term} of {group} with the vote {vote:?}, it had \
                 voted for {told}"
            )),
            _ => Ok(()),
        }
    }
}
