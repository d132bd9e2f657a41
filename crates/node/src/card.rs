//! What a node tells whoever asks its peer port for the cluster: all that `join` needs.

use bytes::Bytes;
use refloat_log_store::identity::Lineage;
use refloat_types::codec::{DecodeError, Put, Reader};
use refloat_types::{ClusterId, Incarnation, Member, NodeId};

const VERSION: u8 = 2;

/// A cluster as one of its nodes knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Card {
    /// Its id.
    pub cluster: ClusterId,
    /// Its epoch: who went on alone, each time that a majority was lost for good.
    pub lineage: Lineage,
    /// Its name.
    pub cluster_name: String,
    /// How many data groups it was formed with.
    pub groups: u32,
    /// The members with which it was formed; empty as long as it is not.
    pub founders: Vec<Member>,
    /// Its present nodes.
    pub members: Vec<CardMember>,
    /// Nodes that may join for the first time.
    pub expected: Vec<NodeId>,
}

/// One node on a [`Card`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardMember {
    /// Which.
    pub node: NodeId,
    /// Its life, if known.
    pub life: Option<Incarnation>,
    /// Where other nodes connect to it.
    pub address: String,
    /// Whether it is connected to the node that tells, or is it.
    pub alive: bool,
}

impl Card {
    /// The byte form.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        out.put_u8(VERSION);
        out.put_u128(self.cluster.0);
        self.lineage.encode(&mut out);
        put_text(&mut out, &self.cluster_name);
        out.put_u32(self.groups);
        out.put_u32(len(self.founders.len()));
        self.founders.iter().for_each(|member| out.put_member(*member));
        out.put_u32(len(self.members.len()));
        for member in &self.members {
            out.put_u64(member.node.0);
            out.put_u128(member.life.unwrap_or_default().0);
            out.put_u8(u8::from(member.life.is_some()) | u8::from(member.alive) << 1);
            put_text(&mut out, &member.address);
        }
        out.put_u32(len(self.expected.len()));
        self.expected.iter().for_each(|node| out.put_u64(node.0));
        out.into()
    }

    /// Reads what [`Card::encode`] wrote.
    ///
    /// # Errors
    /// The bytes end too soon, or are of a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Card, DecodeError> {
        let mut r = Reader::new(bytes);
        let version = r.u8("card version")?;
        if !(1..=VERSION).contains(&version) {
            return Err(r.invalid("card version"));
        }
        let cluster = ClusterId(r.u128("cluster")?);
        let lineage = if version == 1 { Lineage::default() } else { Lineage::decode(&mut r)? };
        let cluster_name = read_text(&mut r)?;
        let groups = r.u32("groups")?;
        let count = r.count(24, "founders")?;
        let founders = (0..count).map(|_| r.member("founder")).collect::<Result<_, _>>()?;
        let count = r.count(29, "members")?;
        let members = (0..count).map(|_| read_member(&mut r)).collect::<Result<_, _>>()?;
        let count = r.count(8, "expected nodes")?;
        let expected = (0..count).map(|_| r.u64("expected node").map(NodeId));
        let expected = expected.collect::<Result<_, _>>()?;
        Ok(Card { cluster, lineage, cluster_name, groups, founders, members, expected })
    }
}

fn read_member(r: &mut Reader<'_>) -> Result<CardMember, DecodeError> {
    let (node, life) = (NodeId(r.u64("member")?), Incarnation(r.u128("life")?));
    let flags = r.u8("member flags")?;
    let life = (flags & 1 == 1).then_some(life);
    Ok(CardMember { node, life, address: read_text(r)?, alive: flags & 2 == 2 })
}

fn len(len: usize) -> u32 {
    u32::try_from(len).expect("few nodes")
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    out.put_u32(len(text.len()));
    out.put_slice(text.as_bytes());
}

pub(crate) fn read_text(r: &mut Reader<'_>) -> Result<String, DecodeError> {
    let len = r.count(1, "text")?;
    let bytes = r.bytes(len, "text")?.to_vec();
    String::from_utf8(bytes).map_err(|_| r.invalid("text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_read_as_it_was_written_and_no_cut_of_it_panics() {
        let member = |node, life, alive| CardMember {
            node: NodeId(node),
            life,
            address: format!("node{node}:1"),
            alive,
        };
        let card = Card {
            cluster: ClusterId(7),
            lineage: Lineage::default().next(Incarnation(3)),
            cluster_name: "demo".into(),
            groups: 4,
            founders: vec![Member::new(NodeId(1), Incarnation(9))],
            members: vec![member(1, Some(Incarnation(9)), true), member(2, None, false)],
            expected: vec![NodeId(4)],
        };
        let bytes = card.encode();
        assert_eq!(Card::decode(&bytes), Ok(card));
        for len in 0..bytes.len() {
            assert!(Card::decode(&bytes[..len]).is_err(), "cut at {len}");
        }
    }
}
