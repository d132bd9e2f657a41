//! Who belongs to a group.

use alloc::vec::Vec;

use crate::codec::{DecodeError, Put, Reader};
use crate::{Member, NodeId};

/// The membership of one group, joint while `outgoing` is not empty (section 6 of the paper).
/// Lists are sorted by node and hold each node once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConfState {
    /// Members whose majority decides.
    pub voters: Vec<Member>,
    /// The voters of the configuration being left; their majority is needed too.
    pub outgoing: Vec<Member>,
    /// Members that receive everything and decide nothing.
    pub learners: Vec<Member>,
    /// Voters of `outgoing` that become learners when the joint configuration is left.
    pub learners_next: Vec<Member>,
    /// Whether the leader leaves the joint configuration by itself.
    pub auto_leave: bool,
}

impl ConfState {
    /// A configuration of these voters.
    #[must_use]
    pub fn of_voters(voters: impl IntoIterator<Item = Member>) -> ConfState {
        let mut voters: Vec<Member> = voters.into_iter().collect();
        voters.sort_unstable();
        voters.dedup();
        ConfState { voters, ..ConfState::default() }
    }

    /// Whether two majorities are needed.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether this identity, life included, is a voter of either half.
    #[must_use]
    pub fn is_voter(&self, member: Member) -> bool {
        self.voters.contains(&member) || self.outgoing.contains(&member)
    }

    /// Whether this identity, life included, belongs to the group in any role.
    #[must_use]
    pub fn contains(&self, member: Member) -> bool {
        self.is_voter(member)
            || self.learners.contains(&member)
            || self.learners_next.contains(&member)
    }

    /// The member that this configuration knows under a node id.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<Member> {
        self.iter().find(|m| m.node == node)
    }

    /// All members, each once, voters first.
    pub fn iter(&self) -> impl Iterator<Item = Member> + '_ {
        let second = self.outgoing.iter().filter(|m| !self.voters.contains(m));
        let third = self
            .learners
            .iter()
            .chain(&self.learners_next)
            .filter(|m| !self.voters.contains(m) && !self.outgoing.contains(m));
        self.voters.iter().chain(second).chain(third).copied()
    }

    /// Appends the byte form: four lists, each a `u32` count and the members, then `auto_leave`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for list in [&self.voters, &self.outgoing, &self.learners, &self.learners_next] {
            out.put_u32(
                u32::try_from(list.len()).expect("a configuration has fewer than 2^32 members"),
            );
            for member in list {
                out.put_member(*member);
            }
        }
        out.put_u8(u8::from(self.auto_leave));
    }

    /// Reads what [`ConfState::encode`] wrote.
    ///
    /// # Errors
    /// The bytes end too soon, a list does not ascend, so that a member may be in it twice and
    /// would count twice, or a flag is neither 0 nor 1.
    pub fn decode(reader: &mut Reader<'_>) -> Result<ConfState, DecodeError> {
        let mut lists: [Vec<Member>; 4] = Default::default();
        for list in &mut lists {
            let count = reader.count(24, "conf state members")?;
            for _ in 0..count {
                list.push(reader.member("conf state member")?);
            }
            if !list.is_sorted_by(|a, b| a < b) {
                return Err(reader.invalid("conf state members"));
            }
        }
        let auto_leave = match reader.u8("conf state auto leave")? {
            0 => false,
            1 => true,
            _ => return Err(reader.invalid("conf state auto leave")),
        };
        let [voters, outgoing, learners, learners_next] = lists;
        Ok(ConfState { voters, outgoing, learners, learners_next, auto_leave })
    }
}
