//! Nodes and replicas that are removed: they count for as long as a group needs them, and are told.

mod support;

use refloat_node::{Consistency, Input, MemberChange, NodeChange};
use refloat_types::{GroupId, Incarnation, Member, NodeId};
use support::Cluster;
use support::lives::{LIFE, group_of, is_voter_again, text, wait_until, with_commands, write};

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

/// Has the leader of group 1 take a change.
fn change(cluster: &mut Cluster, change: MemberChange) {
    let leader = cluster.leader(1).expect("led");
    let group = GroupId(1);
    let token =
        cluster.input(leader, |to| Input::ChangeMembers { to, group, change, expected: None });
    cluster.answer(token).expect("taken");
}

#[test]
fn m17_a_new_life_of_a_removed_node_is_told_so_and_asks_no_more_until_it_is_added_again() {
    let (mut cluster, leader, victim) = with_commands(2, 10);
    let member = Member::new(NodeId(victim), Incarnation(0x1000 + u128::from(victim)));
    cluster.run_for(300);
    cluster.kill(victim);
    cluster.forget(victim, 1);
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
