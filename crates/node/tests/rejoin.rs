//! A node that lost its disk comes back by itself, under a new life, and nothing that the old one
//! promised counts for it.

mod support;

use refloat_node::{Consistency, Input, JobLane, NodeChange};
use refloat_types::{GroupId, NodeId};
use support::Cluster;
use support::lives::{
    LIFE, OTHER, group_of, is_learner, text, wait_until, wipe, with_commands, write,
};

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

/// Node 3 starts from an older copy of its disk, is told, and stops.
fn is_refused_as_an_old_copy(cluster: &mut Cluster, copy: refloat_vfs::SimFs) {
    cluster.disks.insert(3, copy);
    cluster.start_with_seed(3, 77);
    let stopped = cluster.run_until(10, |c| c.stops.contains_key(&3));
    assert!(stopped, "{:#?}", cluster.statuses());
    let text = cluster.stops[&3].to_string();
    assert!(text.contains("old copy"), "{text}");
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
    is_refused_as_an_old_copy(&mut cluster, copy);
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
    is_refused_as_an_old_copy(&mut cluster, copy);
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
