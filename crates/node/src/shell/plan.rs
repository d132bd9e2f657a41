//! What a recovery that accepts a loss would do: read from a directory at rest.

use std::collections::BTreeMap;
use std::time::Duration;

use refloat_log_store::identity::{Lineage, NodeIdentity};
use refloat_log_store::{Examination, GroupBoot, GroupState};
use refloat_net::{AskError, HandshakeError, ask};
use refloat_raft_core::ConfChange;
use refloat_types::{ConfState, EntryKind, GroupKey, Incarnation, NodeId};
use serde::Serialize;

use crate::card::Card;
use crate::core::Catalog;

/// How long a member of the old configuration may take to show that it lives.
const PATIENCE: Duration = Duration::from_secs(2);

/// What `recover` does, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Recovery {
    /// The node that goes on.
    pub node: u64,
    /// The epoch of the cluster that begins.
    pub epoch: u32,
    /// Whether an earlier recovery of this directory did not get to its end; this one does.
    pub unfinished: bool,
    /// Nodes that are given up, ascending. They may come back with nothing, by `join`.
    pub lost: Vec<LostNode>,
    /// Every group that goes on, ascending.
    pub groups: Vec<GroupRecovery>,
    /// Groups of the cluster of which this node has no replica that is a member: all that they
    /// held is lost.
    pub without_replica: Vec<u64>,
}

/// A node that is given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LostNode {
    /// Its id.
    pub node: u64,
    /// Where it was; nobody could be asked if that is not known.
    pub address: Option<String>,
    /// Why it is not lost, in a sentence: then nothing is done.
    pub answers: Option<String>,
    #[serde(skip)]
    pub(super) life: Option<Incarnation>,
    #[serde(skip)]
    pub(super) learner: bool,
}

/// What becomes of one group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GroupRecovery {
    /// The group.
    pub group: u64,
    /// Its state now.
    pub state: GroupState,
    /// What a group that is not clean waits for, with the evidence.
    pub waits_for: Option<String>,
    /// Voters of the configuration that is given up.
    pub voters: Vec<u64>,
    /// Up to here it is known to be committed.
    pub commit: u64,
    /// Its log ends here.
    pub last: u64,
    /// The term of that entry. Of two replicas the one with the higher term, and of equal ones
    /// the one with the higher index, has all that was ever committed if one of them has.
    pub last_term: u64,
    /// The log is cut from here on, because this entry is not readable here.
    pub cut_from: Option<u64>,
}

impl GroupRecovery {
    /// The last index that counts as committed from now on.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.cut_from.map_or(self.last, |at| at - 1)
    }
}

/// What somebody at a lost node's address says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Presence {
    /// There is nobody, or somebody who is no node.
    Nobody,
    /// Somebody is there who does not say who he is: a node that hangs does so too.
    Silent,
    /// A node, and which cluster it belongs to.
    Node(Card),
}

/// Asks at a node's peer address who is there. Blocks for a few seconds at most.
#[must_use]
pub fn ask_presence(address: &str) -> Presence {
    match ask(address, PATIENCE) {
        Ok(bytes) => Card::decode(&bytes).map_or(Presence::Silent, Presence::Node),
        Err(AskError::Io { .. }) => Presence::Nobody,
        Err(AskError::Answer { source: HandshakeError::WrongMagic { .. }, .. }) => Presence::Nobody,
        Err(_) => Presence::Silent,
    }
}

/// The groups of a directory that go on: those that know it as a member. A directory that joined
/// and was not taken in yet is none, though the node was one in the life before.
pub(super) fn going_on<'a>(
    identity: &NodeIdentity,
    groups: &'a [GroupBoot],
) -> impl Iterator<Item = &'a GroupBoot> + use<'a> {
    let me = identity.identity.member;
    groups.iter().filter(move |boot| conf_of(boot).iter().any(|member| member.is_of(me)))
}

pub(super) fn plan(found: &Examination, presence: &mut dyn FnMut(&str) -> Presence) -> Recovery {
    let (identity, groups) = (found.identity(), found.groups());
    let catalog = catalog_of(found);
    let old = match identity.recovering {
        true => identity.lineage.clone().before(),
        false => identity.lineage.clone(),
    };
    let mut lost = lost_nodes(identity, groups, &catalog);
    for node in &mut lost {
        let there = node.address.as_deref().map(&mut *presence);
        node.answers = there.and_then(|there| objection(&there, identity, &old));
    }
    let going: Vec<&GroupBoot> = going_on(identity, groups).collect();
    let here = |key: GroupKey| going.iter().any(|boot| boot.key == key);
    Recovery {
        node: identity.identity.member.node.0,
        epoch: old.epoch() + 1,
        unfinished: identity.recovering,
        lost,
        groups: going.iter().map(|boot| plan_group(boot)).collect(),
        without_replica: catalog
            .groups()
            .filter(|(key, _)| !here(*key))
            .map(|(key, _)| key.id.0)
            .collect(),
    }
}

fn plan_group(boot: &GroupBoot) -> GroupRecovery {
    let conf = conf_of(boot);
    GroupRecovery {
        group: boot.key.id.0,
        state: boot.state,
        waits_for: boot.waits_for.clone(),
        voters: conf.voters.iter().chain(&conf.outgoing).map(|member| member.node.0).collect(),
        commit: boot.commit.0,
        last: boot.last.index.0,
        last_term: boot.last.term.0,
        cut_from: boot.holes.first().map(|at| at.0),
    }
}

/// The newest configuration in the log that is kept.
fn conf_of(boot: &GroupBoot) -> ConfState {
    let kept = |at| boot.holes.first().is_none_or(|hole| at < hole);
    let entries = boot.configs.iter().filter(|entry| kept(entry.id.index));
    let changes = entries.filter_map(|entry| ConfChange::decode(&entry.payload).ok());
    changes.fold(boot.conf.clone(), |conf, change| change.apply(&conf).unwrap_or(conf))
}

/// What group 0 would know if all that is readable of its log were committed, as it will be.
fn catalog_of(found: &Examination) -> Catalog {
    let mut catalog = Catalog::default();
    let mut first = refloat_types::Index(1);
    if let Some(file) = found.snapshot_file(GroupKey::META) {
        first = file.meta().id.index.next();
        if crate::job::restore(&mut catalog, file).is_err() {
            catalog = Catalog::default();
        }
    }
    let entries = found.entries(GroupKey::META, first);
    for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Command) {
        catalog.apply_one(entry.id.index, &entry.payload);
    }
    catalog
}

/// The other nodes that belong to the cluster.
fn lost_nodes(identity: &NodeIdentity, groups: &[GroupBoot], catalog: &Catalog) -> Vec<LostNode> {
    let me = identity.identity.member.node;
    let first: BTreeMap<NodeId, &String> = identity.members.iter().map(|(n, a)| (*n, a)).collect();
    let meta = groups.iter().find(|boot| boot.key == GroupKey::META).map(conf_of);
    let meta = meta.unwrap_or_default();
    let placed = catalog.nodes().iter().filter(|(_, record)| record.life.is_some());
    let mut nodes: Vec<NodeId> = first.keys().copied().collect();
    nodes.extend(meta.iter().map(|member| member.node));
    nodes.extend(placed.map(|(node, _)| *node));
    nodes.sort_unstable();
    nodes.dedup();
    let belongs =
        |node: &NodeId| *node != me && catalog.nodes().get(node).is_none_or(|record| !record.gone);
    let lost = nodes.into_iter().filter(belongs).map(|node| {
        let record = catalog.nodes().get(&node);
        let placed = record.filter(|record| record.life.is_some());
        let address = placed.map(|record| &record.address).or(first.get(&node).copied());
        LostNode {
            node: node.0,
            address: address.cloned(),
            answers: None,
            life: placed
                .and_then(|record| record.life)
                .or_else(|| meta.member(node).map(|member| member.incarnation)),
            learner: record.is_some_and(|record| record.learner),
        }
    });
    lost.collect()
}

/// Why who is there says that the node is not lost.
fn objection(there: &Presence, identity: &NodeIdentity, old: &Lineage) -> Option<String> {
    match there {
        Presence::Nobody => None,
        Presence::Silent => Some("somebody is there and does not say who".into()),
        Presence::Node(card) if card.cluster != identity.identity.cluster => None,
        // Given up before: it is a member of nothing that goes on here.
        Presence::Node(card) if old.supersedes(&card.lineage) => None,
        Presence::Node(card) if card.lineage == *old => Some("it answers".into()),
        Presence::Node(card) => Some(format!(
            "it answers, in epoch {}, which began without this node",
            card.lineage.epoch()
        )),
    }
}
