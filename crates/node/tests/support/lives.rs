//! What the tests of nodes that come back, or go, have in common: commands, lives, disks.

use refloat_node::GroupStatus;

use super::Cluster;

pub const LIFE: u128 = 0xA1A1_0000_0000_0003;

pub const OTHER: u128 = 0xB2B2_0000_0000_0003;

pub fn write(cluster: &mut Cluster, at: u64, from: u32, to: u32) {
    for n in from..to {
        cluster.proposed(at, 1, &format!("entry-{n:04}")).expect("applied");
    }
}

pub fn text(from: u32, to: u32) -> String {
    (from..to).map(|n| format!("entry-{n:04}")).collect::<Vec<_>>().join("\n")
}

/// A formed cluster with so many groups, in the first of which so many commands are applied; who
/// leads that, and another node to which something is to happen.
pub fn with_commands(groups: u32, commands: u32) -> (Cluster, u64, u64) {
    let mut cluster = Cluster::formed(groups);
    write(&mut cluster, 1, 0, commands);
    let leader = cluster.leader(1).expect("formed");
    (cluster, leader, 1 + leader % 3)
}

pub fn wait_until(cluster: &mut Cluster, seconds: u64, holds: impl FnMut(&Cluster) -> bool) {
    assert!(cluster.run_until(seconds, holds), "{:#?}", cluster.statuses());
}

pub fn group_of(cluster: &Cluster, node: u64, group: u64) -> GroupStatus {
    let status = cluster.nodes[&node].status();
    status.groups.into_iter().find(|g| g.group == group).expect("it has the group")
}

/// Wipes a node that is up and lets it join by what another one says; returns when it runs again.
pub fn wipe(cluster: &mut Cluster, node: u64, life: u128) {
    cluster.kill(node);
    let asked = 1 + node % 3;
    cluster.join(node, life, asked);
    cluster.start(node);
}

/// The name of the life that a node of the tests begins with.
pub fn first_life(node: u64) -> String {
    format!("{:032x}", 0x1000 + u128::from(node))
}

/// Whether a node is a voter again, under another life than its first.
pub fn is_voter_again(cluster: &Cluster, at: u64, group: u64, node: u64) -> bool {
    let members = cluster.members_of(at, group);
    members.iter().any(|m| m.0 == node && m.1 != first_life(node) && m.2 == "voter")
}

pub fn is_learner(cluster: &Cluster, at: u64, node: u64, life: u128) -> bool {
    let wanted = (node, format!("{life:032x}"), "learner");
    (0..=1).all(|group| cluster.members_of(at, group).contains(&wanted))
}
