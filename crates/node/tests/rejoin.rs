//! A node that lost its disk comes back by itself, under a new life, and nothing that the old one
//! promised counts for it.

mod support;

use refloat_node::{Consistency, GroupStatus, Input, JobLane, MemberChange, NodeChange};
use refloat_types::{GroupId, Incarnation, Member, NodeId};
use support::Cluster;

const LIFE: u128 = 0xA1A1_0000_0000_0003;
const OTHER: u128 = 0xB2B2_0000_0000_0003;

fn write(cluster: &mut Cluster, at: u64, from: u32, to: u32) {
    for n in from..to {
        cluster.proposed(at, 1, &format!("entry-{n:04}")).expect("applied");
    }
}

fn text(from: u32, to: u32) -> String {
    (from..to).map(|n| format!("entry-{n:04}")).collect::<Vec<_>>().join("\n")
}

/// A formed cluster with so many groups, in the first of which so many commands are applied; who
/// leads that, and another node to which something is to happen.
fn with_commands(groups: u32, commands: u32) -> (Cluster, u64, u64) {
    let mut cluster = Cluster::formed(groups);
    write(&mut cluster, 1, 0, commands);
    let leader = cluster.leader(1).expect("formed");
    (cluster, leader, 1 + leader % 3)
}

fn wait_until(cluster: &mut Cluster, seconds: u64, holds: impl FnMut(&Cluster) -> bool) {
    assert!(cluster.run_until(seconds, holds), "{:#?}", cluster.statuses());
}

fn group_of(cluster: &Cluster, node: u64, group: u64) -> GroupStatus {
    let status = cluster.nodes[&node].status();
    status.groups.into_iter().find(|g| g.group == group).expect("it has the group")
}

/// Wipes a node that is up and lets it join by what another one says; returns when it runs again.
fn wipe(cluster: &mut Cluster, node: u64, life: u128) {
    cluster.kill(node);
    let asked = 1 + node % 3;
    cluster.join(node, life, asked);
    cluster.start(node);
}

#[test]
fn s12_a_wiped_follower_returns_while_the_log_still_starts_at_the_first_entry() {
    let (mut cluster, leader, victim) = with_commands(2, 20);
    wipe(&mut cluster, victim, LIFE);
    wait_until(&mut cluster, 20, |c| c.is_voter(leader, victim, LIFE));
    let settled = cluster.run_until(5, |c| c.nodes[&victim].status().forming.is_none());
    assert!(settled, "{:#?}", cluster.statuses());
    assert_eq!(cluster.nodes[&victim].counters().snapshots_installed, 0);
    // It is a whole voter: with it alone beside one more, everything is there.
    let third = (1..=3).find(|n| *n != leader && *n != victim).expect("three nodes");
    cluster.run_for(500);
    cluster.kill(third);
    assert_eq!(cluster.read(victim, 1, Consistency::Linearizable), Ok(text(0, 20)));
    write(&mut cluster, victim, 20, 30);
    assert_eq!(cluster.read(victim, 1, Consistency::Linearizable), Ok(text(0, 30)));
}

#[test]
fn s11_a_wiped_follower_gets_a_snapshot_and_follows_again() {
    let mut cluster = Cluster::formed(1);
    cluster.config.snapshot_entries = 10;
    for node in 1..=3 {
        cluster.kill(node);
    }
    cluster.start_all();
    cluster.wait_for_leaders(1);
    write(&mut cluster, 1, 0, 60);
    let leader = cluster.leader(1).expect("formed");
    let victim = 1 + leader % 3;
    wipe(&mut cluster, victim, LIFE);
    wait_until(&mut cluster, 20, |c| c.is_voter(leader, victim, LIFE));
    assert!(cluster.nodes[&victim].counters().snapshots_installed > 0);
    assert_eq!(cluster.read(victim, 1, Consistency::Linearizable), Ok(text(0, 60)));
}

#[test]
fn a_wiped_leader_returns_and_everything_it_acknowledged_is_there() {
    let mut cluster = Cluster::formed(1);
    write(&mut cluster, 1, 0, 20);
    let victim = cluster.leader(1).expect("formed");
    let other = 1 + victim % 3;
    wipe(&mut cluster, victim, LIFE);
    wait_until(&mut cluster, 20, |c| c.is_voter(other, victim, LIFE));
    let third = (1..=3).find(|n| *n != other && *n != victim).expect("three nodes");
    cluster.run_for(500);
    cluster.kill(third);
    assert_eq!(cluster.read(victim, 1, Consistency::Linearizable), Ok(text(0, 20)));
}

#[test]
fn a_node_is_wiped_again_and_again() {
    let mut cluster = Cluster::formed(1);
    for turn in 0..6u32 {
        write(&mut cluster, 1 + u64::from(turn) % 3, 10 * turn, 10 * turn + 10);
        let victim = 1 + u64::from(turn) % 3;
        let life = LIFE + (u128::from(turn) << 32);
        wipe(&mut cluster, victim, life);
        let other = 1 + victim % 3;
        let back = cluster.run_until(30, |c| c.is_voter(other, victim, life));
        assert!(back, "turn {turn}: {:#?}", cluster.statuses());
        cluster.run_for(300);
    }
    assert_eq!(cluster.read(1, 1, Consistency::Linearizable), Ok(text(0, 60)));
}

#[test]
fn m10_a_node_that_is_killed_while_it_catches_up_goes_on_in_the_same_life() {
    let mut cluster = Cluster::formed(1);
    write(&mut cluster, 1, 0, 40);
    let leader = cluster.leader(0).expect("formed");
    let victim = 1 + leader % 3;
    cluster.kill(victim);
    cluster.join(victim, LIFE, leader);
    for turn in 0..40 {
        cluster.start(victim);
        cluster.run_for(40 + 35 * turn);
        cluster.power_cut(victim);
    }
    cluster.start(victim);
    wait_until(&mut cluster, 20, |c| c.is_voter(leader, victim, LIFE));
    assert_eq!(cluster.read(victim, 1, Consistency::Linearizable), Ok(text(0, 40)));
}

#[test]
fn m16_a_second_process_under_a_living_nodes_id_is_refused_and_the_first_goes_on() {
    let mut cluster = Cluster::formed(1);
    write(&mut cluster, 1, 0, 5);
    cluster.run_for(2_000);
    // It tells everybody that it is node 3, while node 3 lives.
    cluster.run_beside(3, OTHER, 1, 5_000);
    assert!(cluster.is_voter(1, 3, 0x1003), "{:#?}", cluster.statuses());
    let refused = cluster.nodes[&cluster.leader(0).expect("led")].counters().refused;
    assert!(refused > 0);
    write(&mut cluster, 3, 5, 10);
    assert_eq!(cluster.read(3, 1, Consistency::Linearizable), Ok(text(0, 10)));
}

#[test]
fn m07_two_of_three_wiped_is_safe_and_explained_and_never_a_new_cluster() {
    for order in [[1, 2, 3], [2, 3, 1], [3, 1, 2]] {
        let mut cluster = Cluster::formed(1);
        write(&mut cluster, 1, 0, 10);
        cluster.run_for(300);
        for node in 1..=3 {
            cluster.kill(node);
        }
        cluster.join(1, LIFE, 3);
        cluster.join(2, OTHER, 3);
        for node in order {
            cluster.start(node);
            cluster.run_for(3_000);
        }
        cluster.run_for(5_000);
        assert_eq!(cluster.leader(0), None, "{:#?}", cluster.statuses());
        assert_eq!(cluster.leader(1), None);
        for wiped in [1, 2] {
            let status = cluster.nodes[&wiped].status();
            assert!(status.groups.is_empty(), "{status:#?}");
            assert!(status.forming.is_some_and(|text| text.contains("take this life")));
        }
        let why = group_of(&cluster, 3, 1).waits_for.expect("it says so");
        assert!(why.contains("node 1, 2") && why.contains("recover"), "{why}");
        assert_eq!(cluster.read(3, 1, Consistency::Stale), Ok(text(0, 10)));
        assert!(cluster.proposed(3, 1, "more").is_err());
    }
}

#[test]
fn m22_in_a_group_of_two_the_operator_decides_about_a_wiped_one() {
    let mut cluster = Cluster::of(2, 1);
    cluster.start_all();
    cluster.wait_for_leaders(1);
    write(&mut cluster, 1, 0, 10);
    cluster.run_for(300);
    cluster.kill(2);
    cluster.join(2, LIFE, 1);
    cluster.start(2);
    cluster.run_for(10_000);
    assert_eq!(cluster.leader(1), None, "{:#?}", cluster.statuses());
    let why = group_of(&cluster, 1, 1).waits_for.expect("it says so");
    assert!(why.contains("node 2") && why.contains("recover"), "{why}");
    assert!(cluster.is_voter(1, 2, 0x1002), "nothing was changed");
    assert_eq!(cluster.read(1, 1, Consistency::Stale), Ok(text(0, 10)));
}

#[test]
fn m09_an_old_copy_of_a_directory_is_refused_and_stops() {
    let mut cluster = Cluster::formed(1);
    write(&mut cluster, 1, 0, 10);
    cluster.run_for(300);
    cluster.kill(3);
    let copy = cluster.disks[&3].fork();
    cluster.start(3);
    write(&mut cluster, 3, 10, 20);
    cluster.run_for(300);
    cluster.kill(3);
    // The copy's next run is the one that was just seen.
    cluster.disks.insert(3, copy);
    cluster.start_with_seed(3, 77);
    let stopped = cluster.run_until(10, |c| c.stops.contains_key(&3));
    assert!(stopped, "{:#?}", cluster.statuses());
    let text = cluster.stops[&3].to_string();
    assert!(text.contains("old copy"), "{text}");
}

/// A leader would know the process by its hello. Here the only one that ever led is gone.
#[test]
fn m09_an_old_copy_that_repeats_a_run_is_refused_by_whoever_heard_the_run_before_it_votes() {
    let mut cluster = Cluster::formed(1);
    for group in [0, 1] {
        let leader = cluster.leader(group).expect("formed");
        let (group, target) = (GroupId(group), NodeId(1));
        let token = cluster.input(leader, |to| Input::Transfer { to, group, target });
        assert!(leader == 1 || cluster.answer(token).is_ok());
        assert!(cluster.run_until(5, |c| c.leader(group.0) == Some(1)));
    }
    cluster.kill(2);
    cluster.start(2);
    cluster.kill(3);
    let copy = cluster.disks[&3].fork();
    cluster.start(3);
    cluster.run_for(2_000);
    cluster.kill(3);
    cluster.kill(1);
    cluster.disks.insert(3, copy);
    cluster.start_with_seed(3, 77);
    let stopped = cluster.run_until(10, |c| c.stops.contains_key(&3));
    assert!(stopped, "{:#?}", cluster.statuses());
    let text = cluster.stops[&3].to_string();
    assert!(text.contains("old copy"), "{text}");
    assert_ne!(group_of(&cluster, 2, 1).role, "leader", "nobody was elected with its help");
}

#[test]
fn m09_a_directory_that_was_replaced_does_not_come_back() {
    let mut cluster = Cluster::formed(1);
    write(&mut cluster, 1, 0, 10);
    cluster.run_for(300);
    cluster.kill(3);
    let old = cluster.disks[&3].fork();
    cluster.join(3, LIFE, 1);
    cluster.start(3);
    assert!(cluster.run_until(20, |c| c.is_voter(1, 3, LIFE)), "{:#?}", cluster.statuses());
    cluster.kill(3);
    cluster.run_for(3_000);
    cluster.disks.insert(3, old);
    cluster.start(3);
    cluster.run_for(5_000);
    assert!(cluster.is_voter(1, 3, LIFE), "the old life does not take its place again");
    let refusals = cluster.nodes[&3].status().forming.unwrap_or_default();
    assert!(refusals.contains("took its place"), "{refusals:?}: it knows why");
}

#[test]
fn m15_a_voter_that_knows_only_the_old_life_follows_and_votes_for_the_new_one() {
    let mut cluster = Cluster::of(5, 1);
    cluster.start_all();
    cluster.wait_for_leaders(1);
    write(&mut cluster, 1, 0, 10);
    cluster.run_for(300);
    // Node 5 is away while node 4 returns under a new life.
    cluster.kill(5);
    cluster.kill(4);
    cluster.join(4, LIFE, 1);
    cluster.start(4);
    assert!(cluster.run_until(20, |c| c.is_voter(1, 4, LIFE)), "{:#?}", cluster.statuses());
    write(&mut cluster, 1, 10, 20);
    cluster.run_for(300);
    // Now it is needed: 1, the new 4, and 5, which knows the old one.
    cluster.kill(2);
    cluster.kill(3);
    cluster.start(5);
    assert!(cluster.members_of(5, 1).iter().any(|m| m.0 == 4 && m.1.ends_with("1004")));
    let serves = cluster.run_until(20, |c| c.leader(1).is_some() && c.is_voter(5, 4, LIFE));
    assert!(serves, "{:#?}", cluster.statuses());
    assert_eq!(cluster.read(5, 1, Consistency::Linearizable), Ok(text(0, 20)));
    assert!(cluster.is_voter(1, 5, 0x1005), "it was not replaced for it");
}

#[test]
fn s14_acks_and_votes_of_a_wiped_life_never_count_again() {
    let mut cluster = Cluster::formed(1);
    cluster.record();
    write(&mut cluster, 1, 0, 10);
    let leader = cluster.leader(1).expect("formed");
    let victim = 1 + leader % 3;
    let third = (1..=3).find(|n| *n != leader && *n != victim).expect("three nodes");
    wipe(&mut cluster, victim, LIFE);
    assert!(
        cluster.run_until(20, |c| c.is_voter(leader, victim, LIFE)),
        "{:#?}",
        cluster.statuses()
    );
    // Alone, the leader has no majority, whatever the old life once said.
    cluster.kill(third);
    cluster.kill(victim);
    let waits = cluster.propose(leader, 1, "alone");
    for _ in 0..30 {
        assert!(cluster.replay(victim, leader) > 0);
        cluster.run_for(20);
    }
    assert!(!cluster.replies.get(&waits).is_some_and(Result::is_ok), "committed by a ghost");
}

#[test]
fn s15_a_deposed_leader_that_reaches_the_wiped_node_first_does_no_harm() {
    let mut cluster = Cluster::formed(1);
    write(&mut cluster, 1, 0, 10);
    let old = cluster.leader(1).expect("formed");
    let victim = 1 + old % 3;
    let next = (1..=3).find(|n| *n != old && *n != victim).expect("three nodes");
    // The leader is cut off, the others elect and write; then one of them loses its disk.
    cluster.partition(old, next);
    cluster.partition(old, victim);
    assert!(cluster.run_until(20, |c| c.leader(1).is_some_and(|n| n != old)));
    write(&mut cluster, next, 10, 20);
    cluster.kill(victim);
    cluster.join(victim, LIFE, next);
    // It meets the deposed one first, and only it.
    cluster.heal();
    cluster.partition(old, next);
    cluster.partition(victim, next);
    cluster.start(victim);
    cluster.partition(victim, next);
    cluster.run_for(5_000);
    assert!(cluster.nodes[&victim].status().groups.is_empty(), "{:#?}", cluster.statuses());
    assert_eq!(cluster.leader(1).filter(|n| *n == old), None, "nobody voted for it");
    cluster.heal();
    wait_until(&mut cluster, 30, |c| c.is_voter(next, victim, LIFE));
    assert_eq!(cluster.read(victim, 1, Consistency::Linearizable), Ok(text(0, 20)));
}

#[test]
fn m17_one_amnesiac_replica_begins_a_new_life_and_the_nodes_others_serve() {
    let (mut cluster, leader, victim) = with_commands(2, 10);
    cluster.run_for(300);
    cluster.kill(victim);
    cluster.forget(victim, 1);
    // Alone with one more node it can serve what it did not forget.
    let third = (1..=3).find(|n| *n != leader && *n != victim).expect("three nodes");
    cluster.kill(third);
    cluster.start(victim);
    let found = group_of(&cluster, victim, 1);
    assert_eq!(found.state, "amnesia", "{found:#?}");
    assert!(found.waits_for.is_some_and(|text| text.contains("the tests say so")));
    assert!(cluster.run_until(10, |c| c.leader(2).is_some()));
    cluster.proposed(victim, 2, "other group").expect("applied");
    // What it forgot it does not vote on: the two have no majority of the three in group 1.
    assert!(cluster.proposed(leader, 1, "no majority").is_err(), "{:#?}", cluster.statuses());
    cluster.start(third);
    let old = format!("{:032x}", 0x1000 + u128::from(victim));
    let back = |c: &Cluster| {
        let members = c.members_of(leader, 1);
        members.iter().any(|m| m.0 == victim && m.1 != old && m.2 == "voter")
            && group_of(c, victim, 1).state == "clean"
    };
    assert!(cluster.run_until(20, back), "{:#?}", cluster.statuses());
    assert!(cluster.members_of(leader, 2).contains(&(victim, old.clone(), "voter")), "untouched");
    // The life outlives a start, and the node can be wiped as any other.
    cluster.run_for(300);
    cluster.power_cut(victim);
    cluster.start(victim);
    cluster.run_for(2_000);
    assert!(back(&cluster), "{:#?}", cluster.statuses());
    wipe(&mut cluster, victim, LIFE);
    wait_until(&mut cluster, 20, |c| c.is_voter(leader, victim, LIFE));
    let all = cluster.read(victim, 1, Consistency::Linearizable).expect("served");
    assert!(all.starts_with(&text(0, 10)), "{all}");
}

#[test]
fn m17_an_amnesiac_replica_of_group_0_begins_a_new_life_too() {
    let mut cluster = Cluster::formed(1);
    write(&mut cluster, 1, 0, 10);
    cluster.run_for(300);
    let victim = 1 + cluster.leader(0).expect("formed") % 3;
    let other = 1 + victim % 3;
    cluster.kill(victim);
    cluster.forget(victim, 0);
    cluster.start(victim);
    let old = format!("{:032x}", 0x1000 + u128::from(victim));
    let back = cluster.run_until(20, |c| {
        let members = c.members_of(other, 0);
        members.iter().any(|m| m.0 == victim && m.1 != old && m.2 == "voter")
    });
    assert!(back, "{:#?}", cluster.statuses());
    // Groups that are created from now on know it, and it them.
    let token =
        cluster.input(other, |to| Input::CreateGroup { to, group: GroupId(9), members: vec![] });
    cluster.answer(token).expect("created");
    assert!(cluster.run_until(10, |c| c.leader(9).is_some()));
    cluster.proposed(victim, 9, "new group").expect("applied");
    cluster.run_for(300);
    assert_eq!(cluster.read(victim, 9, Consistency::Stale), Ok("new group".into()));
    cluster.power_cut(victim);
    cluster.start(victim);
    cluster.run_for(3_000);
    assert_eq!(cluster.read(victim, 9, Consistency::Linearizable), Ok("new group".into()));
    wipe(&mut cluster, victim, LIFE);
    wait_until(&mut cluster, 20, |c| c.is_voter(other, victim, LIFE));
}

/// The name of the life that a node of the tests begins with.
fn first_life(node: u64) -> String {
    format!("{:032x}", 0x1000 + u128::from(node))
}

/// Whether a node is a voter again, under another life than its first.
fn is_voter_again(cluster: &Cluster, at: u64, group: u64, node: u64) -> bool {
    let members = cluster.members_of(at, group);
    members.iter().any(|m| m.0 == node && m.1 != first_life(node) && m.2 == "voter")
}

#[test]
fn m17_a_new_life_that_is_killed_before_anybody_took_it_in_asks_again_after_the_start() {
    let (mut cluster, leader, victim) = with_commands(1, 10);
    cluster.run_for(300);
    (1..=3).for_each(|node| cluster.kill(node));
    cluster.forget(victim, 1);
    // Alone it begins its new life, and nobody hears of it.
    cluster.start(victim);
    cluster.run_for(500);
    cluster.kill(victim);
    (1..=3).for_each(|node| cluster.start(node));
    let found = group_of(&cluster, victim, 1);
    assert_eq!(found.state, "amnesia", "{found:#?}");
    assert!(found.waits_for.is_some_and(|text| text.contains("taken in as a voter")));
    wait_until(&mut cluster, 60, |c| is_voter_again(c, leader, 1, victim));
    assert!(cluster.run_until(5, |c| group_of(c, victim, 1).state == "clean"));
    assert_eq!(cluster.read(victim, 1, Consistency::Linearizable), Ok(text(0, 10)));
}

#[test]
fn m17_a_new_life_is_made_a_voter_though_all_nodes_start_again_while_it_is_a_learner() {
    let (mut cluster, leader, victim) = with_commands(1, 10);
    cluster.run_for(300);
    cluster.kill(victim);
    cluster.forget(victim, 1);
    cluster.start(victim);
    let is_learner =
        |c: &Cluster| c.members_of(leader, 1).iter().any(|m| m.0 == victim && m.2 == "learner");
    assert!(cluster.run_until(20, is_learner), "{:#?}", cluster.statuses());
    (1..=3).for_each(|node| cluster.kill(node));
    (1..=3).for_each(|node| cluster.start(node));
    wait_until(&mut cluster, 30, |c| is_voter_again(c, leader, 1, victim));
    // It counts: with one more node it is a majority.
    let third = (1..=3).find(|n| *n != leader && *n != victim).expect("three nodes");
    cluster.run_for(500);
    cluster.kill(third);
    write(&mut cluster, victim, 10, 20);
}

const REBORN: u8 = 10;
const DISMISSED: u8 = 18;

/// How many items of a kind a node sent, in all that was recorded.
fn items(cluster: &Cluster, node: u64, kind: u8) -> usize {
    const HEADER: usize = 1 + 8 + 8 + 24;
    let count = |frame: &[u8]| {
        let (mut at, mut found) = (HEADER, 0);
        while let Some(head) = frame.get(at..at + 5) {
            found += usize::from(head[0] == kind);
            at += 5 + u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        }
        found
    };
    let frames = cluster.frames().filter(|(from, _, _)| from.node.0 == node);
    frames.map(|(_, _, bytes)| count(bytes)).sum()
}

/// How many times a replica on a node asked to be taken back.
fn asked_back(cluster: &Cluster, node: u64) -> usize {
    items(cluster, node, REBORN)
}

#[test]
fn m17_a_new_life_of_a_removed_node_is_told_so_and_asks_no_more_until_it_is_added_again() {
    let (mut cluster, leader, victim) = with_commands(2, 10);
    let member = Member::new(NodeId(victim), Incarnation(0x1000 + u128::from(victim)));
    let group = GroupId(1);
    cluster.run_for(300);
    cluster.kill(victim);
    cluster.forget(victim, 1);
    let change = |cluster: &mut Cluster, change| {
        let at = cluster.leader(1).expect("led");
        let ask = |to| Input::ChangeMembers { to, group, change, expected: None };
        let token = cluster.input(at, ask);
        cluster.answer(token).expect("taken");
    };
    // Group 0 says nothing of a first member, so nobody brings it in again by himself.
    change(&mut cluster, MemberChange::Remove(member));
    cluster.run_for(500);
    cluster.start(victim);
    let told = |c: &Cluster| {
        let text = group_of(c, victim, 1).waits_for.unwrap_or_default();
        text.contains("was removed") && text.contains("the tests say so")
    };
    assert!(cluster.run_until(10, told), "{:#?}", cluster.nodes[&victim].status());
    cluster.record();
    cluster.run_for(10_000);
    assert_eq!(asked_back(&cluster, victim), 0, "it has its answer");
    assert!(told(&cluster) && group_of(&cluster, victim, 1).state == "amnesia");
    cluster.proposed(victim, 2, "other group").expect("the node goes on");
    // The operator takes it in after all, by the name that it had.
    change(&mut cluster, MemberChange::AddLearner(member));
    wait_until(&mut cluster, 20, |c| is_voter_again(c, leader, 1, victim));
    assert!(cluster.run_until(5, |c| group_of(c, victim, 1).waits_for.is_none()));
}

#[test]
fn m17_a_new_life_on_a_node_that_left_the_cluster_asks_no_more() {
    let mut cluster = Cluster::of(4, 1);
    cluster.start_all();
    cluster.wait_for_leaders(1);
    write(&mut cluster, 1, 0, 10);
    cluster.run_for(300);
    cluster.kill(4);
    cluster.forget(4, 1);
    let change = NodeChange::Remove { node: NodeId(4) };
    let token = cluster.input(1, |to| Input::ChangeNodes { to, change });
    cluster.answer(token).expect("written down");
    let gone = |c: &Cluster| c.members_of(1, 1).iter().all(|m| m.0 != 4);
    assert!(cluster.run_until(10, gone), "{:#?}", cluster.statuses());
    cluster.start(4);
    let told = |c: &Cluster| {
        let text = group_of(c, 4, 1).waits_for.unwrap_or_default();
        text.contains("was removed")
    };
    assert!(cluster.run_until(10, told), "{:#?}", cluster.nodes[&4].status());
    cluster.record();
    cluster.run_for(10_000);
    assert_eq!(asked_back(&cluster, 4), 0, "it has its answer");
    assert!(!cluster.nodes[&4].status().refused.is_empty(), "{:#?}", cluster.nodes[&4].status());
}

/// The others took nothing of a node any more as soon as group 0 let it go: of two, the one that was
/// left had no majority to take the other one out of any group.
#[test]
fn m02_a_node_that_leaves_counts_in_each_group_until_that_goes_on_without_it() {
    for (nodes, leaver) in [(2, 1), (2, 2), (4, 3)] {
        let mut cluster = Cluster::of(nodes, 3);
        cluster.start_all();
        cluster.wait_for_leaders(3);
        let stays = 1 + leaver % 2;
        write(&mut cluster, stays, 0, 10);
        // Of four, three are needed to let one go, and this one is down.
        if nodes == 4 {
            cluster.kill(4);
        }
        let change = NodeChange::Remove { node: NodeId(leaver) };
        let token = cluster.input(stays, |to| Input::ChangeNodes { to, change });
        cluster.answer(token).expect("written down");
        let in_a_group = |c: &Cluster| {
            (0..=3).any(|group| c.members_of(stays, group).iter().any(|m| m.0 == leaver))
        };
        let mut cut_off = false;
        wait_until(&mut cluster, 20, |c| {
            cut_off |= in_a_group(c) && !c.places[&stays].contains_key(&NodeId(leaver));
            !in_a_group(c)
        });
        assert!(!cut_off, "it was needed, and nobody spoke to it");
        cluster.run_for(200);
        let listed = |c: &Cluster| c.places[&stays].contains_key(&NodeId(leaver));
        assert!(listed(&cluster), "it is still there, and has to be told");
        cluster.kill(leaver);
        cluster.run_for(200);
        assert!(!listed(&cluster), "{:?}", cluster.places);
        if nodes == 4 {
            cluster.start(4);
        }
        cluster.proposed(stays, 1, "without it").expect("applied");
        let all = text(0, 10) + "\nwithout it";
        assert_eq!(cluster.read(stays, 1, Consistency::Linearizable), Ok(all));
    }
}

/// A leader that heard only of the first of two lives took the second for the one to replace.
#[test]
fn m17_of_two_lives_of_one_directory_the_later_run_counts_whichever_was_heard_last() {
    let (mut cluster, leader, victim) = with_commands(1, 10);
    let third = (1..=3).find(|n| *n != leader && *n != victim).expect("three nodes");
    cluster.run_for(300);
    // Its first life is heard by the third node alone, its second by the leader alone.
    let forget = |cluster: &mut Cluster, unheard_by| {
        cluster.kill(victim);
        cluster.forget(victim, 1);
        cluster.heal();
        cluster.partition(victim, unheard_by);
        cluster.start(victim);
    };
    forget(&mut cluster, leader);
    cluster.run_for(300);
    forget(&mut cluster, third);
    wait_until(&mut cluster, 4, |c| is_voter_again(c, leader, 1, victim));
    let life = |c: &Cluster, at| {
        let of = c.members_of(at, 1).into_iter().find(|m| m.0 == victim);
        of.map(|m| m.1)
    };
    let second = life(&cluster, leader);
    let (group, target) = (GroupId(1), NodeId(third));
    let token = cluster.input(leader, |to| Input::Transfer { to, group, target });
    cluster.answer(token).expect("handed over");
    assert!(cluster.run_until(1, |c| c.leader(1) == Some(third)));
    cluster.heal();
    cluster.run_for(8_000);
    assert_eq!(cluster.leader(1), Some(third));
    assert_eq!(life(&cluster, third), second, "the life that runs");
    // A third one is later than both.
    forget(&mut cluster, leader);
    let third_life = |c: &Cluster| is_voter_again(c, third, 1, victim) && life(c, third) != second;
    assert!(cluster.run_until(20, third_life), "{:#?}", cluster.statuses());
}

#[test]
fn m17_a_new_groups_replica_keeps_the_new_lifes_name_though_a_power_cut_takes_its_record() {
    for cranks in 0..14 {
        let mut cluster = Cluster::formed(1);
        cluster.run_for(300);
        let victim = 1 + cluster.leader(0).expect("formed") % 3;
        let other = 1 + victim % 3;
        cluster.kill(victim);
        cluster.forget(victim, 0);
        cluster.start(victim);
        let back = cluster.run_until(20, |c| is_voter_again(c, other, 0, victim));
        assert!(back, "{:#?}", cluster.statuses());
        cluster.run_for(1_000);
        cluster.input(other, |to| Input::CreateGroup {
            to,
            group: GroupId(9),
            members: Vec::new(),
        });
        let has = |c: &Cluster| c.nodes[&victim].status().groups.iter().any(|g| g.group == 9);
        assert!(cluster.run_until(10, has));
        (0..cranks).for_each(|_| cluster.crank());
        cluster.power_cut(victim);
        cluster.start(victim);
        let follows = cluster.run_until(40, |c| {
            let groups = c.nodes[&victim].status().groups;
            groups.iter().any(|g| g.group == 9 && g.leader.is_some() && g.applied > 0)
        });
        assert!(follows, "{cranks} cranks: {:#?}", cluster.statuses());
        // The name that it found out is as durable as one that was given to it.
        cluster.power_cut(victim);
        cluster.start(victim);
        let third = 1 + other % 3;
        cluster.kill(third);
        cluster.proposed(victim, 9, "counts").expect("the two are a majority");
    }
}

#[test]
fn a_node_that_joins_elsewhere_is_found_at_its_new_address() {
    let mut cluster = Cluster::formed(1);
    cluster.kill(3);
    cluster.config.peer_address = Some("elsewhere:7".into());
    cluster.join(3, LIFE, 1);
    cluster.start(3);
    cluster.config.peer_address = None;
    assert!(cluster.run_until(20, |c| c.is_voter(1, 3, LIFE)), "{:#?}", cluster.statuses());
    for node in [1, 2] {
        assert_eq!(cluster.places[&node][&NodeId(3)], "elsewhere:7");
        // Durable: it is the same after a start.
        cluster.kill(node);
        cluster.places.remove(&node);
        cluster.start(node);
        assert!(cluster.run_until(5, |c| c.places.contains_key(&node)
            && c.places[&node].get(&NodeId(3)).is_some_and(|a| a == "elsewhere:7")));
    }
}

#[test]
fn t08_a_node_that_goes_back_to_its_listed_address_is_found_there() {
    let mut cluster = Cluster::formed(1);
    let found = |c: &Cluster, at: &str| {
        [1, 2].iter().all(|n| c.places.get(n).is_some_and(|p| p[&NodeId(3)] == at))
    };
    for (address, expected) in [(Some("elsewhere:7"), "elsewhere:7"), (None, "node3:1")] {
        cluster.kill(3);
        cluster.config.peer_address = address.map(Into::into);
        cluster.start(3);
        assert!(cluster.run_until(10, |c| found(c, expected)), "{:?}", cluster.places);
    }
    // Said once, and written down once.
    let last = |c: &Cluster| c.nodes[&1].status().groups[0].commit;
    let before = last(&cluster);
    cluster.kill(3);
    cluster.start(3);
    cluster.run_for(3_000);
    let leader_changed = last(&cluster) - before;
    assert!(leader_changed <= 1, "{leader_changed} entries for an address that is known");
}

#[test]
fn many_groups_of_a_wiped_node_come_back_a_few_at_a_time() {
    let mut cluster = Cluster::new(30);
    cluster.config.rejoins = 2;
    cluster.start_all();
    cluster.wait_for_leaders(30);
    cluster.kill(3);
    cluster.run_until(10, |c| (0..=30).all(|g| c.leader(g).is_some_and(|n| n != 3)));
    cluster.join(3, LIFE, 1);
    cluster.start(3);
    let (mut most, mut waited) = (0, false);
    let back = cluster.run_until(60, |c| {
        for node in [1, 2] {
            let groups = c.nodes[&node].status().groups;
            let led = groups.iter().filter(|g| g.role == "leader");
            let learners = led.clone().filter(|g| g.members.iter().any(|m| m.member == "learner"));
            most = most.max(learners.count());
            waited |=
                led.clone().any(|g| g.waits_for.as_ref().is_some_and(|t| t.contains("its turn")));
        }
        c.is_voter(1, 3, LIFE)
    });
    assert!(back, "{:#?}", cluster.statuses());
    assert!(most <= 2 && waited, "{most} at once");
}

#[test]
fn a_node_that_was_added_as_a_learner_stays_one_until_it_is_promoted() {
    let mut cluster = Cluster::formed(1);
    write(&mut cluster, 1, 0, 10);
    let order = |cluster: &mut Cluster, change| {
        let token = cluster.input(2, |to| Input::ChangeNodes { to, change });
        cluster.answer(token)
    };
    let node = NodeId(4);
    assert!(order(&mut cluster, NodeChange::Promote { node }).is_err(), "nobody");
    order(&mut cluster, NodeChange::Add { node, learner: true }).expect("written down");
    cluster.run_for(100);
    assert_eq!(cluster.cards[&1].expected, [node]);
    cluster.disks.insert(4, refloat_vfs::SimFs::new());
    cluster.join(4, LIFE, 1);
    cluster.start(4);
    let learns = |c: &Cluster| {
        c.members_of(1, 1).iter().any(|m| m.0 == 4 && m.2 == "learner")
            && c.members_of(1, 0).iter().any(|m| m.0 == 4 && m.2 == "learner")
    };
    assert!(cluster.run_until(20, learns), "{:#?}", cluster.statuses());
    cluster.run_for(5_000);
    assert!(learns(&cluster), "{:#?}", cluster.statuses());
    assert_eq!(cluster.read(4, 1, Consistency::Stale), Ok(text(0, 10)));
    order(&mut cluster, NodeChange::Promote { node }).expect("written down");
    assert!(cluster.run_until(20, |c| c.is_voter(1, 4, LIFE)), "{:#?}", cluster.statuses());
    // The leader of group 0 itself may be asked to leave.
    let leader = cluster.leader(0).expect("led");
    order(&mut cluster, NodeChange::Remove { node: NodeId(leader) }).expect("written down");
    let at = (1..=4).find(|n| *n != leader).expect("others");
    let gone = cluster
        .run_until(20, |c| (0..=1).all(|g| c.members_of(at, g).iter().all(|m| m.0 != leader)));
    assert!(gone, "{:#?}", cluster.statuses());
    cluster.kill(leader);
    assert!(cluster.proposed(at, 1, "without it").is_ok());
}

/// Adds a fourth node, by what the first one says, and starts it.
fn add_a_fourth(cluster: &mut Cluster, learner: bool) {
    let change = NodeChange::Add { node: NodeId(4), learner };
    let token = cluster.input(1, |to| Input::ChangeNodes { to, change });
    cluster.answer(token).expect("written down");
    cluster.run_for(100);
    cluster.disks.insert(4, refloat_vfs::SimFs::new());
    cluster.join(4, LIFE, 1);
    cluster.start(4);
}

fn is_learner(cluster: &Cluster, at: u64, node: u64, life: u128) -> bool {
    let wanted = (node, format!("{life:032x}"), "learner");
    (0..=1).all(|group| cluster.members_of(at, group).contains(&wanted))
}

#[test]
fn a_node_that_loses_its_disk_while_another_one_is_added_comes_back_and_so_does_that() {
    for leads in [false, true] {
        let mut cluster = Cluster::formed(1);
        write(&mut cluster, 1, 0, 10);
        cluster.run_for(300);
        add_a_fourth(&mut cluster, false);
        let listed = |c: &Cluster| c.members_of(1, 0).iter().any(|m| m.0 == 4);
        wait_until(&mut cluster, 20, listed);
        // In the middle of it, one that follows or the one that sees to it.
        let meta = cluster.leader(0).expect("led");
        let victim = if leads { meta } else { (1..=3).find(|n| *n != meta).expect("three") };
        let stays = (1..=3).find(|n| *n != victim).expect("three");
        cluster.kill(victim);
        cluster.join(victim, OTHER, stays);
        cluster.start(victim);
        let all = |c: &Cluster| c.is_voter(stays, 4, LIFE) && c.is_voter(stays, victim, OTHER);
        wait_until(&mut cluster, 60, all);
        cluster.run_for(500);
        cluster.kill(stays);
        cluster.proposed(victim, 1, "three of four").expect("applied");
        let all = text(0, 10) + "\nthree of four";
        assert_eq!(cluster.read(4, 1, Consistency::Linearizable), Ok(all));
    }
}

#[test]
fn a_learner_that_loses_its_disk_comes_back_as_a_learner() {
    let mut cluster = Cluster::formed(1);
    write(&mut cluster, 1, 0, 10);
    add_a_fourth(&mut cluster, true);
    wait_until(&mut cluster, 20, |c| is_learner(c, 1, 4, LIFE));
    cluster.kill(4);
    cluster.join(4, OTHER, 1);
    cluster.start(4);
    wait_until(&mut cluster, 20, |c| is_learner(c, 1, 4, OTHER));
    cluster.run_for(5_000);
    assert!(is_learner(&cluster, 1, 4, OTHER), "{:#?}", cluster.statuses());
    assert_eq!(cluster.read(4, 1, Consistency::Linearizable), Ok(text(0, 10)));
}

/// Found by the simulator: it was created without the node, which never got it.
#[test]
fn a_group_that_is_created_while_a_wiped_node_is_taken_back_gets_the_node_too() {
    let mut cluster = Cluster::formed(1);
    let leader = cluster.leader(0).expect("formed");
    let victim = 1 + leader % 3;
    wipe(&mut cluster, victim, LIFE);
    let is_learner = |c: &Cluster| {
        c.members_of(leader, 0).iter().any(|(node, _, role)| *node == victim && *role == "learner")
    };
    assert!(cluster.run_until(20, is_learner), "{:#?}", cluster.statuses());
    let asked = cluster.input(leader, |to| Input::CreateGroup {
        to,
        group: GroupId(7),
        members: Vec::new(),
    });
    cluster.answer(asked).expect("created");
    let back = |c: &Cluster| c.is_voter(leader, victim, LIFE) && c.members_of(victim, 7).len() == 3;
    assert!(cluster.run_until(20, back), "{:#?}", cluster.statuses());
    cluster.proposed(victim, 7, "served").expect("applied");
}

/// Five nodes with three groups, of which one at a time takes somebody in.
fn five_in_turn() -> Cluster {
    let mut cluster = Cluster::of(5, 3);
    cluster.config.rejoins = 1;
    cluster.start_all();
    cluster.wait_for_leaders(3);
    write(&mut cluster, 1, 0, 20);
    cluster
}

/// Wipes a node; the first one, which stays, says how to join.
fn wipe_by_the_first(cluster: &mut Cluster, node: u64, life: u128) {
    cluster.kill(node);
    cluster.join(node, life, 1);
    cluster.start(node);
}

#[test]
fn two_nodes_that_lose_their_disks_at_once_do_not_wait_for_each_others_turns() {
    let mut cluster = five_in_turn();
    wipe_by_the_first(&mut cluster, 4, LIFE);
    wipe_by_the_first(&mut cluster, 5, OTHER);
    let back = cluster.run_until(60, |c| c.is_voter(1, 4, LIFE) && c.is_voter(1, 5, OTHER));
    assert!(back, "{:#?}", cluster.statuses());
}

/// Wipes node 4 and waits until node 1 has it as a learner again.
fn taking_back(cluster: &mut Cluster) {
    wipe_by_the_first(cluster, 4, LIFE);
    wait_until(cluster, 20, |c| {
        let members = &group_of(c, 1, 1).members;
        members.iter().any(|m| m.node == 4 && m.member == "learner")
    });
}

#[test]
fn a_node_that_dies_while_it_is_taken_back_holds_up_nobody_else() {
    let mut cluster = five_in_turn();
    taking_back(&mut cluster);
    cluster.kill(4);
    wipe_by_the_first(&mut cluster, 5, OTHER);
    wait_until(&mut cluster, 60, |c| c.is_voter(1, 5, OTHER));
}

#[test]
fn a_node_that_gets_no_further_while_it_is_taken_back_holds_up_nobody_else() {
    let mut cluster = five_in_turn();
    taking_back(&mut cluster);
    // It lives and says so, and its disk does not answer.
    cluster.hold(4, JobLane::Wal);
    wipe_by_the_first(&mut cluster, 5, OTHER);
    wait_until(&mut cluster, 60, |c| c.is_voter(1, 5, OTHER));
    // Its place is kept.
    cluster.release(4, JobLane::Wal);
    wait_until(&mut cluster, 60, |c| c.is_voter(1, 4, LIFE));
}

/// Nothing of it is damaged, and nobody who leads speaks to it any more.
#[test]
fn m17_a_whole_replica_of_a_removed_node_is_told_so_and_asks_no_more_until_it_is_added_again() {
    let mut cluster = Cluster::formed(2);
    write(&mut cluster, 1, 0, 10);
    let leader = cluster.leader(1).expect("formed");
    let victim = 1 + leader % 3;
    let member = Member::new(NodeId(victim), Incarnation(0x1000 + u128::from(victim)));
    cluster.run_for(300);
    cluster.kill(victim);
    let change = |cluster: &mut Cluster, change| {
        let at = cluster.leader(1).expect("led");
        let ask = |to| Input::ChangeMembers { to, group: GroupId(1), change, expected: None };
        let token = cluster.input(at, ask);
        cluster.answer(token).expect("taken");
    };
    change(&mut cluster, MemberChange::Remove(member));
    cluster.run_for(500);
    cluster.start(victim);
    let told = |c: &Cluster| {
        let text = group_of(c, victim, 1).waits_for.unwrap_or_default();
        text.contains("this node was removed from the group")
    };
    assert!(cluster.run_until(10, told), "{:#?}", cluster.nodes[&victim].status());
    for _ in 0..100 {
        cluster.run_for(100);
        let group = group_of(&cluster, victim, 1);
        assert_eq!((group.role, told(&cluster)), ("follower", true), "it has its answer");
    }
    cluster.proposed(victim, 2, "other group").expect("the node goes on");
    change(&mut cluster, MemberChange::AddLearner(member));
    let back = |c: &Cluster| {
        let members = c.members_of(leader, 1);
        members.iter().any(|m| m.0 == victim && m.2 == "learner")
            && group_of(c, victim, 1).waits_for.is_none()
    };
    assert!(cluster.run_until(20, back), "{:#?}", cluster.statuses());
}

/// A leader that was away knows neither that it is deposed nor whom the next one added. Its word kept
/// the only member that could be elected from ever asking again.
#[test]
fn m17_a_leader_of_an_older_term_dismisses_nobody() {
    let mut cluster = Cluster::formed(1);
    write(&mut cluster, 1, 0, 5);
    let old = cluster.leader(1).expect("formed");
    let away = cluster.nodes.remove(&old).expect("it runs");
    wait_until(&mut cluster, 20, |c| (0..=1).all(|g| c.leader(g).is_some()));
    let next = cluster.leader(1).expect("elected");
    let change = NodeChange::Add { node: NodeId(4), learner: false };
    let token = cluster.input(next, |to| Input::ChangeNodes { to, change });
    cluster.answer(token).expect("written down");
    cluster.run_for(100);
    cluster.disks.insert(4, refloat_vfs::SimFs::new());
    cluster.join(4, LIFE, next);
    cluster.start(4);
    wait_until(&mut cluster, 20, |c| c.is_voter(next, 4, LIFE));
    // What it has alone with the leader that dies makes it the only one to be elected.
    let third = (1..=3).find(|n| *n != old && *n != next).expect("three");
    cluster.partition(next, third);
    cluster.partition(4, third);
    cluster.propose(next, 1, "on two of four");
    cluster.run_for(200);
    cluster.kill(next);
    cluster.record();
    cluster.run_for(2_000);
    cluster.nodes.insert(old, away);
    assert!(cluster.replay(4, old) > 0, "it asked for votes meanwhile");
    cluster.heal();
    wait_until(&mut cluster, 20, |c| c.leader(1) == Some(4));
}

#[test]
fn a_whole_node_that_left_the_cluster_says_so_for_each_group_and_asks_for_no_votes() {
    let mut cluster = Cluster::of(4, 1);
    cluster.start_all();
    cluster.wait_for_leaders(1);
    write(&mut cluster, 1, 0, 10);
    let change = NodeChange::Remove { node: NodeId(4) };
    let token = cluster.input(1, |to| Input::ChangeNodes { to, change });
    cluster.answer(token).expect("written down");
    let gone = |c: &Cluster| c.members_of(1, 1).iter().all(|m| m.0 != 4);
    assert!(cluster.run_until(10, gone), "{:#?}", cluster.statuses());
    cluster.run_for(5_000);
    for _ in 0..50 {
        cluster.run_for(100);
        for group in [0, 1] {
            let group = group_of(&cluster, 4, group);
            assert!(["follower", "learner"].contains(&group.role), "{}", group.role);
            let text = group.waits_for.unwrap_or_default();
            assert!(text.contains("removed"), "group {}: {text}", group.group);
        }
    }
}

/// It does not know yet that the entry is committed by which the node was added again.
#[test]
fn m17_a_new_leader_sends_nobody_away_before_it_applied_an_entry_of_its_own() {
    let mut cluster = Cluster::of(4, 1);
    cluster.start_all();
    cluster.wait_for_leaders(1);
    write(&mut cluster, 1, 0, 10);
    let old = cluster.leader(1).expect("formed");
    let away = 1 + old % 4;
    let others: Vec<u64> = (1..=4).filter(|node| ![old, away].contains(node)).collect();
    let member = Member::new(NodeId(away), Incarnation(0x1000 + u128::from(away)));
    let ask = |to, change| Input::ChangeMembers { to, group: GroupId(1), change, expected: None };
    cluster.run_for(300);
    cluster.kill(away);
    let token = cluster.input(old, |to| ask(to, MemberChange::Remove(member)));
    cluster.answer(token).expect("taken");
    cluster.run_for(500);
    cluster.record();
    cluster.start(away);
    cluster.run_for(3_000);
    assert!(items(&cluster, old, DISMISSED) > 0, "it asked for votes and was told");
    cluster.kill(away);
    // Added again; who leads dies before the others know that this is committed.
    let log_end = |c: &Cluster, node| group_of(c, node, 1).durable;
    let before: Vec<u64> = others.iter().map(|node| log_end(&cluster, *node)).collect();
    cluster.input(old, |to| ask(to, MemberChange::AddLearner(member)));
    let written = |c: &Cluster| others.iter().zip(&before).all(|(n, end)| log_end(c, *n) > *end);
    assert!(cluster.run_until(2, written));
    assert!(
        others.iter().all(|node| group_of(&cluster, *node, 1).commit < log_end(&cluster, *node))
    );
    cluster.kill(old);
    // What the node asked for is heard again and again while the next leader begins.
    let is_member = |c: &Cluster, at: u64| c.members_of(at, 1).iter().any(|m| m.0 == away);
    let mut led = 0;
    for _ in 0..100_000 {
        cluster.crank();
        let leader = cluster.leader(1).filter(|leader| *leader != old);
        if let Some(leader) = leader {
            led += 1;
            cluster.replay(away, leader);
            if is_member(&cluster, leader) {
                break;
            }
        }
    }
    cluster.run_for(200);
    assert!(led > 1, "there was a time in which it did not know");
    let sent: usize = others.iter().map(|node| items(&cluster, *node, DISMISSED)).sum();
    assert_eq!(sent, 0, "it is a member");
}
