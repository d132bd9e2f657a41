//! A replica that cannot prove what it voted begins a new life of its own, and the others of its
//! node go on.

mod support;

use refloat_node::{Consistency, Input};
use refloat_types::{GroupId, NodeId};
use support::Cluster;
use support::lives::{
    LIFE, group_of, is_voter_again, text, wait_until, wipe, with_commands, write,
};

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
