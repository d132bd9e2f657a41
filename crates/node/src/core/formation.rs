//! How nodes that were initialised apart become one cluster.
//!
//! A new node neither votes nor campaigns until it has the life of every initial member on its
//! disk, none ever overwritten, and has heard from every member that it stored the same table,
//! or from one member that has formed with the same table. So a member that is wiped and
//! initialised again before the cluster formed can never count twice (scenario M14).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use refloat_types::codec::{DecodeError, Put, Reader};
use refloat_types::{Incarnation, Member, NodeId};

use super::envelope::FormationNews;

/// What a node knows of its cluster's first members. Pure: the host stores and sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Formation {
    me: Member,
    expected: BTreeSet<NodeId>,
    table: BTreeMap<NodeId, Incarnation>,
    /// The whole table is on the disk.
    stored: bool,
    formed: bool,
    /// Who said to have stored the same table.
    agreed: BTreeSet<NodeId>,
    /// What stands in the way, told by others.
    conflict: BTreeMap<NodeId, String>,
}

/// What the host must do after an input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    /// Put [`Formation::encode`] on the disk, then call [`Formation::on_stored`].
    pub(crate) store: bool,
    /// Tell all peers.
    pub(crate) announce: bool,
    /// The table is agreed: store it as formed, create group 0.
    pub(crate) form: bool,
}

impl Formation {
    /// The formation of a node that never heard of any other.
    pub(crate) fn new(me: Member, members: impl IntoIterator<Item = NodeId>) -> Formation {
        let expected: BTreeSet<NodeId> = members.into_iter().chain([me.node]).collect();
        Formation {
            me,
            expected,
            table: BTreeMap::from([(me.node, me.incarnation)]),
            stored: false,
            formed: false,
            agreed: BTreeSet::new(),
            conflict: BTreeMap::new(),
        }
    }

    /// The formation, long over, of the cluster that a node joined.
    pub(crate) fn of_joined(me: Member, founders: &[Member]) -> Formation {
        let table = founders.iter().map(|member| (member.node, member.incarnation)).collect();
        let expected = founders.iter().map(|member| member.node).collect();
        let (agreed, conflict) = (BTreeSet::new(), BTreeMap::new());
        Formation { me, expected, table, stored: true, formed: true, agreed, conflict }
    }

    /// Goes on with what the disk holds. What it holds may rest on a batch that nothing proved
    /// durable: the host stores it once more before this node says anything about it.
    pub(crate) fn restore(&mut self, body: &Bytes) -> Result<(), DecodeError> {
        let mut r = Reader::new(body);
        let formed = r.u8("formed")? == 1;
        let count = r.count(24, "formation members")?;
        for _ in 0..count {
            let member = r.member("formation member")?;
            self.table.insert(member.node, member.incarnation);
        }
        self.formed = formed;
        self.stored = formed;
        Ok(())
    }

    /// What the disk must hold.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        out.put_u8(u8::from(self.formed));
        out.put_u32(u32::try_from(self.table.len()).expect("few members"));
        self.members().for_each(|member| out.put_member(member));
        out.into()
    }

    pub(crate) fn is_formed(&self) -> bool {
        self.formed
    }

    fn is_complete(&self) -> bool {
        self.expected.iter().all(|node| self.table.contains_key(node))
    }

    /// The first members, as far as known, sorted.
    pub(crate) fn members(&self) -> impl Iterator<Item = Member> + '_ {
        self.table.iter().map(|(node, incarnation)| Member::new(*node, *incarnation))
    }

    /// The stored life of a first member.
    pub(crate) fn life_of(&self, node: NodeId) -> Option<Incarnation> {
        self.table.get(&node).copied()
    }

    /// What to tell others.
    pub(crate) fn news(&self) -> FormationNews {
        FormationNews { stored: self.stored, formed: self.formed, table: self.members().collect() }
    }

    /// A peer showed its life. A life once stored is never replaced.
    pub(crate) fn on_peer(&mut self, peer: Member) -> Effects {
        let mut effects = Effects::default();
        if !self.expected.contains(&peer.node) || self.formed {
            return effects;
        }
        match self.table.get(&peer.node) {
            None => {
                self.table.insert(peer.node, peer.incarnation);
                effects.store = true;
            }
            Some(known) if *known != peer.incarnation => {
                let text = format!(
                    "node {} was initialised again: its first life {known} is stored here, it now says {}",
                    peer.node, peer.incarnation
                );
                self.conflict.insert(peer.node, text);
            }
            Some(_) => {
                self.conflict.remove(&peer.node);
            }
        }
        effects
    }

    /// A table with so many lives, handed out by [`Effects::store`], is durable. It grew since if
    /// it has fewer than now: then the later one counts.
    pub(crate) fn on_stored(&mut self, lives: usize) -> Effects {
        if self.stored || lives < self.table.len() || !self.is_complete() {
            return Effects::default();
        }
        self.stored = true;
        Effects { announce: true, ..self.decide() }
    }

    /// A peer told how far it is.
    pub(crate) fn on_news(&mut self, from: Member, news: &FormationNews) -> Effects {
        if self.formed || self.life_of(from.node) != Some(from.incarnation) {
            return Effects::default();
        }
        if let Some(theirs) = self.disagreement(news) {
            let text = format!(
                "node {} has stored {theirs}, this node knows another life of it: \
                 initialise the member that was wiped with join, or all of them again",
                from.node
            );
            self.conflict.insert(from.node, text);
            return Effects::default();
        }
        self.conflict.remove(&from.node);
        let same = news.table.iter().copied().eq(self.members());
        if same && news.stored {
            self.agreed.insert(from.node);
        }
        if same && news.formed && self.stored {
            self.formed = true;
            return Effects { store: true, announce: true, form: true };
        }
        self.decide()
    }

    fn disagreement(&self, news: &FormationNews) -> Option<Member> {
        let differs = |m: &&Member| self.life_of(m.node).is_some_and(|life| life != m.incarnation);
        news.table.iter().find(differs).copied()
    }

    fn decide(&mut self) -> Effects {
        let others = self.expected.iter().filter(|node| **node != self.me.node);
        if self.formed || !self.stored || !others.into_iter().all(|n| self.agreed.contains(n)) {
            return Effects::default();
        }
        self.formed = true;
        Effects { store: true, announce: true, form: true }
    }

    /// What it waits for, as a sentence; `None` once formed.
    pub(crate) fn waits_for(&self) -> Option<String> {
        if self.formed {
            return None;
        }
        if let Some(conflict) = self.conflict.values().next() {
            return Some(conflict.clone());
        }
        let join = |nodes: Vec<&NodeId>| {
            nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let unknown: Vec<_> =
            self.expected.iter().filter(|node| !self.table.contains_key(node)).collect();
        if !unknown.is_empty() {
            return Some(format!("waits for a first word from node {}", join(unknown)));
        }
        let silent: Vec<_> = self
            .expected
            .iter()
            .filter(|node| **node != self.me.node && !self.agreed.contains(node))
            .collect();
        Some(format!("waits for node {} to have stored the same members", join(silent)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: u64, life: u128) -> Member {
        Member::new(NodeId(node), Incarnation(life))
    }

    fn three(me: Member) -> Formation {
        Formation::new(me, [1, 2, 3].map(NodeId))
    }

    #[test]
    fn a_node_forms_only_after_all_members_stored_the_same_table() {
        let all = [member(1, 11), member(2, 12), member(3, 13)];
        let mut one = three(all[0]);
        assert!(one.on_peer(all[1]).store);
        assert!(one.on_peer(all[2]).store);
        let news = |stored, formed| FormationNews { stored, formed, table: all.to_vec() };
        assert!(!one.on_news(all[1], &news(true, false)).form, "own table not durable");
        assert_eq!(one.on_stored(3), Effects { announce: true, ..Effects::default() });
        assert!(!one.on_news(all[2], &news(false, false)).form, "node 3 has not stored it");
        assert!(one.waits_for().unwrap().contains("node 3"));
        assert!(one.on_news(all[2], &news(true, false)).form);
        assert!(one.is_formed());
    }

    #[test]
    fn one_formed_member_with_the_same_table_is_enough_once_the_own_table_is_stored() {
        let all = [member(1, 11), member(2, 12), member(3, 13)];
        let mut one = three(all[0]);
        one.on_peer(all[1]);
        one.on_peer(all[2]);
        let formed = FormationNews { stored: true, formed: true, table: all.to_vec() };
        assert!(!one.on_news(all[1], &formed).form, "own table not durable");
        one.on_stored(3);
        assert!(one.on_news(all[1], &formed).form);
    }

    #[test]
    fn a_table_that_grew_while_it_was_stored_counts_only_once_the_later_one_is_durable() {
        let mut one = three(member(1, 11));
        one.on_peer(member(2, 12));
        one.on_peer(member(3, 13));
        assert_eq!(one.on_stored(2), Effects::default(), "the one without node 3");
        assert!(!one.news().stored);
        assert!(one.on_stored(3).announce);
        assert!(one.news().stored);
    }

    #[test]
    fn m14_a_second_life_never_replaces_the_stored_one_before_forming() {
        let mut one = three(member(1, 11));
        one.on_peer(member(2, 12));
        assert_eq!(one.on_peer(member(2, 99)), Effects::default());
        assert_eq!(one.life_of(NodeId(2)), Some(Incarnation(12)));
        one.on_peer(member(3, 13));
        one.on_stored(3);
        let table = vec![member(1, 11), member(2, 99), member(3, 13)];
        let news = FormationNews { stored: true, formed: true, table };
        for from in [member(2, 99), member(3, 13)] {
            assert!(!one.on_news(from, &news).form);
        }
        assert!(one.waits_for().unwrap().contains("node 2"));
    }

    #[test]
    fn what_was_stored_is_restored() {
        let all = [member(1, 11), member(2, 12), member(3, 13)];
        let mut one = three(all[0]);
        one.on_peer(all[1]);
        one.on_peer(all[2]);
        one.on_stored(3);
        let mut again = three(all[0]);
        again.restore(&one.encode()).unwrap();
        assert!(!again.news().stored, "not before it is stored once more");
        assert!(again.on_stored(3).announce);
        assert_eq!(again.news(), one.news());
        assert!(again.restore(&Bytes::from_static(&[1, 255, 255, 255, 255])).is_err());
    }
}
