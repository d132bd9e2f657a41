//! Disks that do not answer: others lead within a bound, and nothing is acknowledged falsely.
mod support;

use refloat_node::{Consistency, JobLane, RequestError};
use support::Cluster;

#[test]
fn w21_a_leader_whose_sync_takes_half_a_minute_acknowledges_nothing_falsely() {
    let mut cluster = Cluster::formed(1);
    let leader = cluster.leader(1).expect("formed");
    let other = 1 + leader % 3;
    cluster.hold(leader, JobLane::Wal);
    cluster.proposed(leader, 1, "on two of three").expect("two disks work");
    cluster.hold(other, JobLane::Wal);
    let hung = cluster.propose(leader, 1, "on one of three");
    cluster.run_for(30_000);
    let answered = matches!(cluster.replies.get(&hung), Some(Ok(_)));
    assert!(!answered, "one disk of three has it");
    // The leader dies with what it never wrote; who acknowledged is there.
    cluster.release(other, JobLane::Wal);
    cluster.kill(leader);
    cluster.run_for(5_000);
    cluster.start(leader);
    cluster.wait_for_leaders(1);
    let read = cluster.read(other, 1, Consistency::Linearizable).expect("led");
    let lines: Vec<&str> = read.lines().collect();
    assert!(lines.contains(&"on two of three"), "{read}");
    let count = lines.iter().filter(|line| **line == "on one of three").count();
    assert!(count <= 1, "{read}");
}

fn role(cluster: &Cluster, node: u64, group: u64) -> (&'static str, Option<u64>) {
    let status = cluster.nodes[&node].status();
    let found = status.groups.iter().find(|g| g.group == group).expect("it has the group");
    (found.role, found.leader)
}

/// Both logs of a node stand still.
fn hang(cluster: &mut Cluster, node: u64) {
    cluster.hold(node, JobLane::Wal);
    cluster.hold(node, JobLane::Votes);
}

fn answer(cluster: &mut Cluster, node: u64) {
    cluster.release(node, JobLane::Votes);
    cluster.release(node, JobLane::Wal);
}

#[test]
fn w21_another_node_leads_within_a_bound_and_who_hung_is_a_useful_follower_again() {
    let mut cluster = Cluster::formed(1);
    let old = cluster.leader(1).expect("formed");
    let (one, two) = (1 + old % 3, 1 + (old + 1) % 3);
    cluster.proposed(old, 1, "before").expect("three disks work");
    hang(&mut cluster, old);
    cluster.proposed(old, 1, "on two of three").expect("two disks are enough");
    // Six election timeouts, and one for the hand-over.
    cluster.run_for(2_900);
    assert_eq!(cluster.leader(1), Some(old), "a slow disk is no reason");
    cluster.run_for(700);
    let new = cluster.leader(1).filter(|node| *node != old).expect("another one leads");
    assert_eq!(role(&cluster, old, 1), ("follower", Some(new)));
    let status = cluster.nodes[&old].status();
    assert_eq!(status.disk.as_deref(), Some("the own disk has not answered for 3 s"));
    assert_eq!(status.groups[1].waits_for, status.disk);
    assert_eq!(cluster.nodes[&old].counters().disk_hangs, 1);
    // Its clients are served, by the others' disks alone, and it keeps out of the way.
    let (term, durable) = (status.groups[1].term, status.groups[1].durable);
    for n in 0..54 {
        cluster.proposed([old, one, two][n % 3], 1, &format!("meanwhile {n}")).expect("applied");
        cluster.run_for(480);
    }
    let status = cluster.nodes[&old].status();
    assert_eq!((cluster.leader(1), status.groups[1].term), (Some(new), term), "nothing flaps");
    assert_eq!(status.groups[1].durable, durable, "it counts nothing that it did not write");
    assert!(status.disk.is_some_and(|text| text.ends_with("29 s") || text.ends_with("30 s")));
    answer(&mut cluster, old);
    cluster.run_for(500);
    assert_eq!(cluster.nodes[&old].status().disk, None);
    assert_eq!(role(&cluster, old, 1), ("follower", Some(new)));
    // Without its disk there is no majority now, nor without its vote.
    let third = if new == one { two } else { one };
    cluster.kill(third);
    cluster.proposed(old, 1, "on its disk").expect("it acknowledges");
    cluster.start(third);
    cluster.run_for(1_000);
    cluster.kill(new);
    cluster.wait_for_leaders(1);
    cluster.proposed(third, 1, "by its vote").expect("it votes, or leads");
    let text = cluster.read(old, 1, Consistency::Linearizable).expect("led");
    assert_eq!(text.lines().count(), 2 + 54 + 2, "each once: {text}");
}

/// Hangs a leader's disk; whoever leads before an election could be held was chosen by it.
fn heir(cluster: &mut Cluster, old: u64, cut: Option<u64>) -> Option<u64> {
    hang(cluster, old);
    cluster.propose(old, 1, "waits for the disk");
    cluster.run_for(200);
    cut.iter().for_each(|node| cluster.partition(old, *node));
    cluster.run_for(3_100);
    cluster.leader(1).filter(|node| *node != old)
}

#[test]
fn w21_the_lead_goes_to_a_connected_member_that_has_most_of_the_log() {
    let mut cluster = Cluster::formed(1);
    let old = cluster.leader(1).expect("formed");
    let others: Vec<u64> = (1..=3).filter(|node| *node != old).collect();
    let found = heir(&mut cluster, old, Some(others[0]));
    assert_eq!(found, Some(others[1]), "the other one is not to be reached");
    let mut cluster = Cluster::of(5, 1);
    cluster.start_all();
    cluster.wait_for_leaders(1);
    let old = cluster.leader(1).expect("formed");
    let slow = (1..=5).find(|node| *node != old).expect("others");
    hang(&mut cluster, slow);
    let found = heir(&mut cluster, old, None).expect("three disks work");
    assert_ne!(found, slow, "it has not written what the others have");
}

#[test]
fn w21_a_leader_that_can_reach_nobody_to_hand_over_to_steps_down_and_fails_its_reads() {
    let mut cluster = Cluster::formed(1);
    let old = cluster.leader(1).expect("formed");
    let (one, two) = (1 + old % 3, 1 + (old + 1) % 3);
    hang(&mut cluster, old);
    // Nobody takes over: the successor's disk hangs as well.
    hang(&mut cluster, one);
    let lost = cluster.propose(old, 1, "on no disk but one");
    cluster.run_for(4_500);
    assert_ne!(role(&cluster, old, 1).0, "leader");
    let read = cluster.read(old, 1, Consistency::Linearizable);
    assert!(matches!(read, Err(RequestError::NoLeader { .. })), "{read:?}");
    assert!(!matches!(cluster.replies.get(&lost), Some(Ok(_))), "one disk has it");
    cluster.run_for(20_000);
    assert_eq!(role(&cluster, two, 1).1, None, "two disks of three hang");
    answer(&mut cluster, one);
    cluster.wait_for_leaders(1);
    cluster.proposed(two, 1, "goes on").expect("two disks of three");
    answer(&mut cluster, old);
    cluster.run_for(1_000);
    let text = cluster.read(old, 1, Consistency::Linearizable).expect("led");
    assert!(text.ends_with("goes on"), "{text}");
}

#[test]
fn w21_a_node_alone_does_not_lose_itself_to_its_hanging_disk() {
    let mut cluster = Cluster::of(1, 1);
    cluster.start_all();
    cluster.wait_for_leaders(1);
    cluster.proposed(1, 1, "before").expect("its disk works");
    hang(&mut cluster, 1);
    let waits = cluster.propose(1, 1, "waits");
    cluster.run_for(8_000);
    assert_eq!(cluster.leader(1), Some(1));
    assert!(cluster.nodes[&1].status().disk.is_some());
    assert_eq!(cluster.read(1, 1, Consistency::Linearizable), Ok("before".into()));
    assert!(!cluster.replies.contains_key(&waits), "nothing is acknowledged");
    answer(&mut cluster, 1);
    cluster.answer(waits).expect("it is on the disk now");
}

#[test]
fn w21_quiet_groups_of_a_hanging_node_are_led_elsewhere_too() {
    let mut cluster = Cluster::new(3);
    cluster.config.quiet_after = Some(200_000);
    cluster.start_all();
    cluster.wait_for_leaders(3);
    cluster.run_for(2_000);
    let old = cluster.leader(1).expect("formed");
    hang(&mut cluster, old);
    cluster.proposed(old, 1, "one write is enough").expect("two disks");
    cluster.run_for(4_500);
    for group in 0..=3 {
        assert!(cluster.leader(group).is_some_and(|node| node != old), "group {group}");
    }
    let status = cluster.nodes[&old].status();
    assert!(status.groups.iter().all(|g| g.role == "follower"), "{status:#?}");
}

#[test]
fn w21_a_full_disk_is_no_disk_that_hangs() {
    let mut cluster = Cluster::formed(1);
    let leader = cluster.leader(1).expect("formed");
    let used = cluster.disks[&leader].used();
    cluster.disks[&leader].set_capacity(Some(used));
    let payload = "x".repeat(30 << 10);
    let refused = (0..60).find(|_| {
        let result = cluster.proposed(leader, 1, &payload);
        matches!(result, Err(RequestError::NoSpace))
    });
    assert!(refused.is_some(), "the disk is full");
    cluster.run_for(10_000);
    assert_eq!(cluster.leader(1), Some(leader), "it goes on to serve reads");
    assert_eq!(cluster.nodes[&leader].status().disk, None);
}
