//! Disks without space: what goes on, what is refused, and that it resumes by itself.
mod support;

use refloat_node::{Consistency, Input, RequestError};
use refloat_types::GroupId;
use support::Cluster;

#[test]
fn w16_a_full_disk_refuses_proposals_and_resumes_when_there_is_space() {
    let mut cluster = Cluster::formed(1);
    for node in 1..=3 {
        let used = cluster.disks[&node].used();
        cluster.disks[&node].set_capacity(Some(used));
    }
    let mut refused = 0;
    let payload = "x".repeat(30 << 10);
    for _ in 0..60 {
        if cluster.proposed(1, 1, &payload).is_err() {
            refused += 1;
        }
        if refused > 2 {
            break;
        }
    }
    assert!(refused > 0, "the disk never filled");
    assert!(cluster.stops.is_empty(), "{:?}", cluster.stops);
    for node in 1..=3 {
        cluster.disks[&node].set_capacity(None);
    }
    assert!(cluster.run_until(30, |c| c.leader(1).is_some()));
    cluster.run_for(3_000);
    cluster.proposed(1, 1, "space again").expect("resumed without a restart");
}

/// A node that leads neither of two groups.
fn leads_none(cluster: &Cluster, groups: [u64; 2]) -> u64 {
    let leads = |node| groups.iter().any(|group| cluster.leader(*group) == Some(node));
    (1..=3).find(|node| !leads(*node)).expect("two groups have at most two leaders")
}

/// A member on a full disk learns late which groups were created, but it learns it.
#[test]
fn w16_a_group_created_while_a_members_disk_is_full_is_there_when_there_is_space() {
    let mut full_disks = 0;
    for fillers in 0..40 {
        let mut cluster = Cluster::formed(1);
        cluster.run_for(200);
        let full = leads_none(&cluster, [0, 1]);
        let used = cluster.disks[&full].used();
        cluster.disks[&full].set_capacity(Some(used));
        let at = 1 + full % 3;
        for _ in 0..fillers {
            cluster.proposed(at, 1, &"x".repeat(16 << 10)).expect("applied");
        }
        let tokens: Vec<_> = (10..310)
            .map(|id| {
                let create =
                    |to| Input::CreateGroup { to, group: GroupId(id), members: Vec::new() };
                cluster.input(at, create)
            })
            .collect();
        for token in tokens {
            cluster.answer(token).expect("a majority has space");
        }
        cluster.run_for(500);
        full_disks += usize::from(cluster.proposed(full, 1, "?") == Err(RequestError::NoSpace));
        cluster.disks[&full].set_capacity(None);
        let all = |c: &Cluster| {
            let groups = c.nodes[&full].status().groups;
            (10..310).all(|id| groups.iter().any(|g| g.group == id))
        };
        assert!(cluster.run_until(60, all), "{fillers}: groups are missing on node {full}");
    }
    assert!(full_disks > 10, "the disk was full {full_disks} times");
}

#[test]
fn w16_a_full_disk_keeps_voting_in_groups_that_wait_for_no_space() {
    let mut cluster = Cluster::formed(2);
    cluster.run_for(200);
    let leader = cluster.leader(1).expect("formed");
    let full = leads_none(&cluster, [1, 2]);
    let used = cluster.disks[&full].used();
    cluster.disks[&full].set_capacity(Some(used));
    while cluster.proposed(full, 2, "space?") != Err(RequestError::NoSpace) {
        cluster.proposed(1 + full % 3, 2, &"x".repeat(30 << 10)).expect("applied");
    }
    // Without the leader of group 1 its two others need each other.
    cluster.kill(leader);
    let led = |c: &Cluster| c.leader(1).is_some();
    assert!(cluster.run_until(20, led), "{:#?}", cluster.statuses());
}

#[test]
fn w16_a_replica_on_a_full_disk_does_not_let_reads_hang() {
    let mut cluster = Cluster::formed(1);
    cluster.run_for(200);
    let full = leads_none(&cluster, [0, 1]);
    cluster.disks[&full].set_capacity(Some(cluster.disks[&full].used()));
    for _ in 0..60 {
        cluster.proposed(1 + full % 3, 1, &"x".repeat(30 << 10)).expect("applied");
    }
    let before = cluster.time().now;
    let refused = cluster.read(full, 1, Consistency::Linearizable);
    assert!(matches!(refused, Err(RequestError::Unavailable { .. })), "{refused:?}");
    let took = cluster.time().now.since(before);
    assert!(took < 2_500_000, "{took} us");
    cluster.disks[&full].set_capacity(None);
    cluster.run_for(3_000);
    cluster.read(full, 1, Consistency::Linearizable).expect("space again");
}

/// A leader begins with an entry of its own, and reads wait for that. Nodes start meanwhile.
#[test]
fn w16_full_disks_let_leaders_be_elected_that_serve_reads() {
    let mut cluster = Cluster::formed(2);
    cluster.run_for(200);
    cluster.proposed(1, 2, "kept").expect("applied");
    for node in 1..=3 {
        cluster.disks[&node].set_capacity(Some(cluster.disks[&node].used()));
    }
    let large = "x".repeat(30 << 10);
    let full = (0..60).any(|_| cluster.proposed(1, 1, &large) == Err(RequestError::NoSpace));
    assert!(full, "the disks never filled");
    for _ in 0..8 {
        let leader = cluster.leader(2).expect("elected");
        cluster.kill(leader);
        let led = |c: &Cluster| c.leader(2).is_some_and(|l| l != leader);
        assert!(cluster.run_until(20, led), "{:#?}", cluster.statuses());
        let read = cluster.read(1 + leader % 3, 2, Consistency::Linearizable);
        assert_eq!(read, Ok("kept".into()));
        cluster.start(leader);
        cluster.run_for(500);
    }
}
