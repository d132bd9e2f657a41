//! Snapshots: made, sent to a member that lags, restored after a restart.

mod support;

use refloat_node::{Consistency, Input};
use refloat_types::GroupId;
use support::Cluster;

/// A formed cluster with small files, whose groups snapshot after every few commands.
fn snapshotting(groups: u32) -> Cluster {
    let mut cluster = Cluster::new(groups);
    cluster.config.snapshot_entries = 10;
    cluster.start_all();
    cluster.wait_for_leaders(groups);
    cluster
}

fn write(cluster: &mut Cluster, node: u64, numbers: std::ops::Range<u32>) {
    for n in numbers {
        cluster.proposed(node, 1, &format!("command {n} {}", "x".repeat(100))).expect("applied");
    }
}

fn expected(count: u32) -> String {
    let lines: Vec<String> =
        (0..count).map(|n| format!("command {n} {}", "x".repeat(100))).collect();
    lines.join("\n")
}

#[test]
fn a_machine_comes_back_from_its_snapshot_and_the_log_behind_it() {
    let mut cluster = snapshotting(1);
    write(&mut cluster, 1, 0..35);
    cluster.run_for(500);
    let status = cluster.nodes[&2].status();
    assert!(status.groups[1].snapshot >= 20, "{status:#?}");
    for node in 1..=3 {
        cluster.kill(node);
    }
    cluster.start_all();
    cluster.wait_for_leaders(1);
    for node in 1..=3 {
        assert_eq!(cluster.read(node, 1, Consistency::Linearizable), Ok(expected(35)));
    }
    write(&mut cluster, 2, 35..40);
    assert_eq!(cluster.read(3, 1, Consistency::Linearizable), Ok(expected(40)));
}

#[test]
fn c10_a_follower_below_the_compacted_log_gets_a_snapshot_and_follows() {
    let mut cluster = snapshotting(1);
    write(&mut cluster, 1, 0..5);
    let leader = cluster.leader(1).expect("formed");
    let lagging = if leader == 3 { 2 } else { 3 };
    cluster.kill(lagging);
    write(&mut cluster, leader, 5..60);
    cluster.run_for(500);
    cluster.start(lagging);
    let caught_up = cluster.run_until(20, |c| c.applied(lagging, 1) >= c.applied(leader, 1));
    assert!(caught_up, "{:#?}", cluster.statuses());
    assert_eq!(cluster.read(lagging, 1, Consistency::Stale), Ok(expected(60)));
    assert!(cluster.nodes[&lagging].counters().snapshots_installed >= 1);
    // What was installed is there after a power cut, too.
    write(&mut cluster, leader, 60..63);
    for node in 1..=3 {
        cluster.power_cut(node);
    }
    cluster.start_all();
    cluster.wait_for_leaders(1);
    assert_eq!(cluster.read(lagging, 1, Consistency::Linearizable), Ok(expected(63)));
}

#[test]
fn n12_a_receiver_that_dies_in_mid_transfer_gets_the_snapshot_after_its_restart() {
    let mut cluster = snapshotting(1);
    // Several chunks, so that there is a middle.
    let large = "y".repeat(50 << 10);
    write(&mut cluster, 1, 0..5);
    let leader = cluster.leader(1).expect("formed");
    let lagging = if leader == 3 { 2 } else { 3 };
    cluster.kill(lagging);
    for _ in 0..25 {
        cluster.proposed(leader, 1, &large).expect("applied");
    }
    cluster.run_for(500);
    cluster.start(lagging);
    for _ in 0..40 {
        cluster.crank();
    }
    cluster.power_cut(lagging);
    cluster.start(lagging);
    let caught_up = cluster.run_until(30, |c| c.applied(lagging, 1) >= c.applied(leader, 1));
    assert!(caught_up, "{:#?}", cluster.statuses());
    let one = cluster.read(leader, 1, Consistency::Linearizable).expect("read");
    assert_eq!(cluster.read(lagging, 1, Consistency::Stale), Ok(one));
}

#[test]
fn group_0_is_restored_from_a_snapshot_with_the_groups_it_created() {
    let mut cluster = snapshotting(3);
    let lagging = 3;
    cluster.kill(lagging);
    cluster.wait_for_leaders(3);
    for id in 10..40 {
        let create = |to| Input::CreateGroup { to, group: GroupId(id), members: vec![] };
        let token = cluster.input(1, create);
        cluster.answer(token).expect("created");
    }
    let token = cluster.input(1, |to| Input::DeleteGroup { to, group: GroupId(2) });
    cluster.answer(token).expect("deleted");
    cluster.run_for(500);
    cluster.start(lagging);
    let all = |c: &Cluster| {
        let status = c.nodes[&lagging].status();
        let has = |id| status.groups.iter().any(|g| g.group == id);
        (10..40).all(has) && !has(2)
    };
    assert!(cluster.run_until(20, all), "{:#?}", cluster.nodes[&lagging].status());
    assert!(cluster.nodes[&lagging].counters().snapshots_installed >= 1);
    let token = cluster.input(lagging, |to| Input::Snapshot { to, group: GroupId(0) });
    cluster.answer(token).expect("a snapshot on demand");
}
