//! Disks that are replaced by empty ones: the node joins its cluster again, as a new life.

use std::collections::BTreeMap;

use refloat_log_store::identity::{self, NodeIdentity, Origin};
use refloat_node::Card;
use refloat_types::{Identity, Incarnation, Member, NodeId};
use refloat_vfs::SimFs;

use super::World;
use crate::faults::Damage;
use crate::node::{Crash, Hurt, data_dir};
use crate::trace::mix;

impl World {
    /// Takes everything from the one node of this run that may lose it.
    pub(super) fn wipe_one(&mut self) {
        let Damage::One(node) = self.plan.damage else { return };
        if self.someones_card(node).is_none() || self.machines[node].swapped_with.is_some() {
            return;
        }
        if self.machines[node].process.is_some() {
            self.crash(node, Crash::Kill);
        }
        self.replace_disk(node);
    }

    /// An empty disk, and `join` by what another node says.
    pub(super) fn replace_disk(&mut self, node: usize) {
        let Some(card) = self.someones_card(node) else { return };
        let id = NodeId(node as u64 + 1);
        let mut members: BTreeMap<NodeId, String> =
            card.members.iter().map(|m| (m.node, m.address.clone())).collect();
        members.entry(id).or_insert_with(|| format!("node-{}:1", id.0));
        let life = u128::from(mix(self.seed ^ self.rng.next_u64())) << 64 | 1 << 63;
        let member = Member::new(id, Incarnation(life));
        let identity = NodeIdentity {
            identity: Identity { cluster: card.cluster, member },
            cluster_name: card.cluster_name,
            groups: card.groups,
            members: members.into_iter().collect(),
            run: 0,
            origin: Origin::Join { founders: card.founders },
            lineage: card.lineage,
            recovering: false,
        };
        let fs = SimFs::new();
        identity::create(&fs, data_dir(), &identity).expect("a new disk takes an identity");
        let machine = &mut self.machines[node];
        (machine.fs, machine.member, machine.copy) = (fs, member, None);
        (machine.hurt, machine.refused, machine.fresh) = (Hurt::default(), false, true);
        self.trace.line(self.now, format_args!("node {id} has an empty disk, and joins again"));
        self.count("disks replaced by empty ones");
    }

    /// What one of the others tells a node that joins; nothing as long as it is not formed.
    fn someones_card(&self, node: usize) -> Option<Card> {
        let others = self.machines.iter().enumerate().filter(|(other, _)| *other != node);
        let cards = others.filter_map(|(_, machine)| machine.card.as_ref());
        let cards = cards.filter_map(|bytes| Card::decode(bytes).ok());
        cards.filter(|card| !card.founders.is_empty()).max_by_key(|card| card.members.len())
    }
}
