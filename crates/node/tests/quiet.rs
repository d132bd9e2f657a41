//! Groups in which nothing happens, and nodes that beat for all of them at once.

mod support;

use refloat_node::{Consistency, Input};
use refloat_types::GroupId;
use support::Cluster;

const GROUPS: u32 = 8;

fn quiet() -> Cluster {
    let mut cluster = Cluster::new(GROUPS);
    cluster.config.quiet_after = Some(200_000);
    cluster.start_all();
    cluster.wait_for_leaders(GROUPS);
    assert!(cluster.run_until(10, all_quiet), "{:?}", cluster.nodes[&1].status());
    cluster
}

fn all_quiet(cluster: &Cluster) -> bool {
    cluster.nodes.values().all(|node| node.status().groups.iter().all(|group| group.quiet))
}

fn terms(cluster: &Cluster) -> Vec<u64> {
    cluster.nodes.values().flat_map(|n| n.status().groups).map(|g| g.term).collect()
}

#[test]
fn o01_idle_groups_send_nothing_and_their_nodes_one_beat() {
    let mut cluster = quiet();
    let sent = |c: &Cluster| -> (u64, u64) {
        let counters = c.nodes.values().map(|n| n.counters());
        counters.fold((0, 0), |sum, c| (sum.0 + c.messages_sent, sum.1 + c.frames_sent))
    };
    let (before, terms_before) = (sent(&cluster), terms(&cluster));
    cluster.run_for(10_000);
    let after = sent(&cluster);
    assert_eq!(after.0, before.0, "no group said anything");
    // At most a beat per pair of nodes and heartbeat interval.
    let frames = after.1 - before.1;
    assert!((200..=1_300).contains(&frames), "{frames} frames in ten seconds");
    assert_eq!(terms(&cluster), terms_before);
    assert!(all_quiet(&cluster));
    cluster.proposed(2, 3, "x").expect("applied");
    assert_eq!(cluster.read(3, 3, Consistency::Linearizable), Ok("x".into()));
    assert_eq!(terms(&cluster), terms_before);
    assert!(cluster.run_until(5, all_quiet), "and falls quiet again");
}

#[test]
fn o09_a_quiet_group_whose_leaders_node_restarts_within_the_beat_gets_a_leader() {
    let mut cluster = quiet();
    let leader = cluster.leader(1).expect("formed");
    cluster.kill(leader);
    cluster.start_with_seed(leader, 99);
    assert!(cluster.run_until(4, |c| c.leader(1).is_some()), "nobody leads");
    let asked = 1 + leader % 3;
    cluster.proposed(asked, 1, "after").expect("applied");
    assert!(cluster.run_until(10, all_quiet));
}

#[test]
fn o09_quiet_groups_of_a_node_that_dies_get_leaders() {
    let mut cluster = quiet();
    let leader = cluster.leader(1).expect("formed");
    cluster.kill(leader);
    cluster.run_for(3_000);
    for group in 1..=u64::from(GROUPS) {
        let other = cluster.leader(group).filter(|node| *node != leader);
        assert!(other.is_some(), "group {group} follows the dead");
    }
    cluster.start(leader);
    assert!(cluster.run_until(10, all_quiet));
}

#[test]
fn o10_a_quiet_group_stopped_by_a_panic_while_its_node_beats_gets_a_leader() {
    let mut cluster = quiet();
    let leader = cluster.leader(1).expect("formed");
    cluster.proposed(leader, 1, "bomb").expect("applied");
    assert!(cluster.run_until(10, all_quiet));
    let before = terms(&cluster);
    let group = GroupId(1);
    let snapshot = cluster.input(leader, |to| Input::Snapshot { to, group });
    assert!(cluster.answer(snapshot).is_err(), "the machine panics");
    let other = 1 + leader % 3;
    assert!(
        cluster.run_until(4, |c| c.leader(1).is_some_and(|node| node != leader)),
        "nobody leads: {:?}",
        cluster.nodes[&other].status()
    );
    cluster.proposed(other, 1, "after").expect("applied");
    assert_ne!(terms(&cluster), before);
    cluster.proposed(leader, 2, "others serve").expect("applied");
}

#[test]
fn a_quiet_leader_that_is_cut_off_is_replaced_and_follows_when_it_is_back() {
    let mut cluster = quiet();
    let leader = cluster.leader(1).expect("formed");
    let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    for other in &others {
        cluster.partition(leader, *other);
    }
    cluster.run_for(3_000);
    cluster.proposed(others[0], 1, "without it").expect("applied");
    cluster.heal();
    cluster.run_for(2_000);
    assert_eq!(cluster.read(leader, 1, Consistency::Linearizable), Ok("without it".into()));
    assert!(cluster.run_until(10, all_quiet));
}

#[test]
fn a_follower_that_does_not_agree_that_groups_are_quiet_wakes_them() {
    let mut cluster = quiet();
    let leader = cluster.leader(1).expect("formed");
    let other = 1 + leader % 3;
    // It was away for a moment: its groups wait for beats again, its leaders do not know.
    cluster.kill(other);
    cluster.start(other);
    let before = terms(&cluster);
    cluster.run_for(5_000);
    assert_eq!(terms(&cluster).len(), before.len());
    assert!(cluster.run_until(10, all_quiet));
    assert!(cluster.leader(1).is_some());
    cluster.proposed(other, 1, "x").expect("applied");
}

#[test]
fn o08_a_node_stops_in_order_and_hands_its_quiet_groups_over() {
    let mut cluster = quiet();
    let leader = cluster.leader(1).expect("formed");
    cluster.input(leader, |_| Input::Shutdown);
    assert!(cluster.run_until(3, |c| c.stops.contains_key(&leader)), "still there");
    let other = 1 + leader % 3;
    assert!(cluster.run_until(1, |c| c.leader(1).is_some_and(|node| node != leader)));
    cluster.proposed(other, 1, "x").expect("applied");
}
