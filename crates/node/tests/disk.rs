//! A disk that does not answer, where nothing else would show it.

mod support;

use refloat_node::{Input, JobLane, RequestError};
use refloat_types::GroupId;
use support::Cluster;

/// Both logs of a node stand still.
fn hang(cluster: &mut Cluster, node: u64) {
    cluster.hold(node, JobLane::Wal);
    cluster.hold(node, JobLane::Votes);
}

#[test]
fn w21_a_node_that_nothing_else_wakes_says_in_time_that_its_disk_hangs() {
    let mut cluster = Cluster::of(1, 1);
    cluster.config.proposal_timeout = 1_000_000;
    cluster.start(1);
    cluster.wait_for_leaders(1);
    cluster.run_for(500);
    let patience = u64::from(cluster.config.disk_patience) * cluster.config.election_timeout;
    hang(&mut cluster, 1);
    let since = cluster.time().now;
    let outcome = cluster.proposed(1, 1, "not on the disk");
    assert!(matches!(outcome, Err(RequestError::Unknown { .. })), "{outcome:?}");
    let wakes = cluster.nodes[&1].wake_at().expect("it waits for its disk");
    assert!(wakes <= since.after(patience + 10_000), "{wakes:?}, written at {since:?}");
    let said = |c: &Cluster| c.nodes[&1].status().disk.is_some();
    assert!(cluster.run_until(4, said));
}

#[test]
fn w21_a_group_that_is_created_while_the_disk_hangs_is_not_campaigned_for() {
    let mut cluster = Cluster::formed(1);
    let slow = 1 + cluster.leader(0).expect("formed") % 3;
    let other = 1 + slow % 3;
    hang(&mut cluster, slow);
    cluster.proposed(other, 1, "written elsewhere").expect("two disks are enough");
    let hangs = |c: &Cluster| c.nodes[&slow].status().disk.is_some();
    assert!(cluster.run_until(10, hangs));
    // Of this group the slow node is the one that should stand first.
    let id = 9 + slow - 1;
    let create = |to| Input::CreateGroup { to, group: GroupId(id), members: Vec::new() };
    let token = cluster.input(other, create);
    cluster.answer(token).expect("created");
    let role = |c: &Cluster| {
        let status = c.nodes[&slow].status();
        status.groups.iter().find(|g| g.group == id).map(|g| (g.role, g.term))
    };
    assert!(cluster.run_until(5, |c| role(c).is_some()), "{:#?}", cluster.statuses());
    let stands = |c: &Cluster| {
        let groups = c.statuses().into_iter().filter(|status| status.node != slow);
        let mut groups = groups.flat_map(|status| status.groups).filter(|g| g.group == id);
        groups.any(|g| g.role == "candidate" || g.role == "leader")
    };
    let mut stood = false;
    for _ in 0..2_000 {
        cluster.crank();
        // Its term is that of another one's campaign.
        stood |= stands(&cluster);
        let (role, term) = role(&cluster).expect("it has the group");
        assert!(role == "follower" && (stood || term == 0), "{role} in term {term}");
    }
    assert!(cluster.run_until(5, |c| c.leader(id).is_some_and(|leader| leader != slow)));
}
