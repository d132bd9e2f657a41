//! Full disks: entries wait outside, and everything small goes on.

mod support;

use refloat_node::{
    Consistency, Input, JobLane, MemberChange, MemberStep, MemberTransition, RequestError, Token,
};
use refloat_types::{GroupId, Incarnation, Index, Member, NodeId};
use support::Cluster;

/// All disks have as much space as is in use.
fn fill_disks(cluster: &mut Cluster) {
    for node in 1..=3 {
        let used = cluster.disks[&node].used();
        cluster.disks[&node].set_capacity(Some(used));
    }
}

fn make_space(cluster: &mut Cluster) {
    for node in 1..=3 {
        cluster.disks[&node].set_capacity(None);
    }
}

fn text(n: usize, len: usize) -> String {
    format!("{n} {}", "x".repeat(len))
}

/// Proposes large commands, several in each turn, until there is no space; the numbers of those
/// that were acknowledged.
fn write_until_full(cluster: &mut Cluster, len: usize) -> Vec<usize> {
    let (mut acknowledged, mut full) = (Vec::new(), false);
    for round in 0..40 {
        let leader = cluster.leader(1).expect("led");
        let numbers: Vec<usize> = (4 * round..4 * round + 4).collect();
        let tokens: Vec<Token> =
            numbers.iter().map(|n| cluster.propose(leader, 1, &text(*n, len))).collect();
        for (n, token) in numbers.into_iter().zip(tokens) {
            match cluster.answer(token) {
                Ok(_) => acknowledged.push(n),
                Err(error) => full |= error == RequestError::NoSpace,
            }
        }
        if full {
            return acknowledged;
        }
    }
    panic!("the disks never filled");
}

/// The numbers of the commands that a node's machine holds.
fn numbers(read: &str) -> Vec<usize> {
    read.lines().filter_map(|line| line.split(' ').next()?.parse().ok()).collect()
}

fn read(cluster: &mut Cluster, node: u64) -> Vec<usize> {
    numbers(&cluster.read(node, 1, Consistency::Linearizable).expect("served"))
}

#[test]
fn w16_full_disks_with_entries_that_wait_elect_a_leader_serve_reads_and_go_on_with_space() {
    for n in 0..10 {
        let mut cluster = Cluster::formed(1);
        cluster.run_for(200);
        fill_disks(&mut cluster);
        let kept = write_until_full(&mut cluster, (14 << 10) + n * 900);
        let old = cluster.leader(1).expect("led");
        cluster.kill(old);
        let led = |c: &Cluster| c.leader(1).is_some_and(|leader| leader != old);
        assert!(cluster.run_until(20, led), "{n}: {:#?}", cluster.statuses());
        for node in (1..=3).filter(|node| *node != old) {
            let found = read(&mut cluster, node);
            assert!(kept.iter().all(|n| found.contains(n)), "{n}: {kept:?} became {found:?}");
            // What is left of the log files of the two may take a few more.
            let more = |_| cluster.proposed(node, 1, &text(1000, 30 << 10)).err();
            let refused = (0..10).find_map(more);
            assert_eq!(refused, Some(RequestError::NoSpace), "{n}: at node {node}");
        }
        make_space(&mut cluster);
        cluster.run_for(3_000);
        let leader = cluster.leader(1).expect("led");
        cluster.proposed(leader, 1, "2000 space again").expect("resumed without a restart");
        cluster.start(old);
        cluster.run_for(2_000);
        for node in 1..=3 {
            let found = read(&mut cluster, node);
            let all = kept.iter().chain([&2000]).all(|n| found.contains(n));
            assert!(all, "{n}: {kept:?} became {found:?} at node {node}");
        }
        assert!(cluster.stops.is_empty(), "{:?}", cluster.stops);
    }
}

/// Of a full disk nothing is known while the next file is being prepared: entries come in, and
/// then there is no space for them after all.
#[test]
fn w16_followers_give_up_entries_that_find_no_space_and_elect_each_other() {
    let mut cluster = Cluster::formed(1);
    cluster.run_for(200);
    cluster.proposed(1, 1, "0 kept").expect("applied");
    let old = cluster.leader(1).expect("led");
    let followers: Vec<u64> = (1..=3).filter(|node| *node != old).collect();
    for node in &followers {
        cluster.hold(*node, JobLane::Prepare);
    }
    // The leader has space; what it writes is never acknowledged by anybody else.
    let tokens: Vec<Token> = (1..60).map(|n| cluster.propose(old, 1, &text(n, 30 << 10))).collect();
    cluster.run_for(1_000);
    let mut kept = vec![0];
    for (n, token) in (1..).zip(tokens) {
        if let Some(Ok(_)) = cluster.replies.remove(&token) {
            kept.push(n);
        }
    }
    assert!(kept.len() < 59, "the followers never ran out of space");
    cluster.kill(old);
    let led = |c: &Cluster| c.leader(1).is_some_and(|leader| leader != old);
    assert!(cluster.run_until(20, led), "{:#?}", cluster.statuses());
    for node in &followers {
        let found = read(&mut cluster, *node);
        assert!(kept.iter().all(|n| found.contains(n)), "{kept:?} became {found:?}");
    }
    for node in &followers {
        cluster.release(*node, JobLane::Prepare);
    }
    cluster.run_for(2_000);
    cluster.start(old);
    cluster.run_for(2_000);
    cluster.proposed(old, 1, "2000 with space").expect("resumed");
    let (first, second) = (read(&mut cluster, followers[0]), read(&mut cluster, old));
    assert_eq!(first, second);
}

/// A disk that is known to be full lets nothing in at its leader: no proposal ends as unknown.
#[test]
fn w16_a_leader_on_a_full_disk_refuses_what_it_could_not_write() {
    let mut cluster = Cluster::formed(1);
    cluster.run_for(200);
    let leader = cluster.leader(1).expect("led");
    cluster.disks[&leader].set_capacity(Some(cluster.disks[&leader].used()));
    let mut refused = 0;
    for n in 0..60 {
        let before = cluster.time().now;
        match cluster.proposed(leader, 1, &text(n, 30 << 10)) {
            Ok(_) => assert_eq!(refused, 0, "there is no more space than before"),
            Err(error) => {
                assert_eq!(error, RequestError::NoSpace);
                assert!(cluster.time().now.since(before) < 100_000, "it is refused at once");
                refused += 1;
            }
        }
    }
    assert!(refused > 30, "{refused}");
    // Members come and go all the same.
    let gone = 1 + leader % 3;
    let member = Member::new(NodeId(gone), Incarnation(0x1000 + u128::from(gone)));
    let change = MemberChange::Remove(member);
    let token = cluster.input(leader, |to| Input::ChangeMembers {
        to,
        group: GroupId(1),
        change,
        expected: None,
    });
    cluster.answer(token).expect("a removal needs little space");
    let removed = |c: &Cluster| c.members_of(leader, 1).len() == 2;
    assert!(cluster.run_until(5, removed), "{:?}", cluster.members_of(leader, 1));
}

/// Whether there is space is looked at from time to time, and requests that are refused at once in
/// quick succession do not put that off.
#[test]
fn w16_service_resumes_though_clients_never_pause() {
    let mut cluster = Cluster::formed(1);
    cluster.run_for(200);
    fill_disks(&mut cluster);
    write_until_full(&mut cluster, 30 << 10);
    make_space(&mut cluster);
    let leader = cluster.leader(1).expect("led");
    let resumed = (0..400).any(|n| {
        let token = cluster.propose(leader, 1, &text(n, 10));
        cluster.run_for(10);
        matches!(cluster.replies.remove(&token), Some(Ok(_)))
    });
    assert!(resumed, "no space for four seconds: {:#?}", cluster.statuses());
}

/// A follower that has no space neither gets the same again and again, nor counts on it.
#[test]
fn w16_a_follower_on_a_full_disk_is_sent_little_and_has_all_soon_after_there_is_space() {
    let mut cluster = Cluster::formed(1);
    cluster.run_for(200);
    let leader = cluster.leader(1).expect("led");
    let full = 1 + leader % 3;
    cluster.disks[&full].set_capacity(Some(cluster.disks[&full].used()));
    for n in 0..60 {
        cluster.proposed(leader, 1, &text(n, 30 << 10)).expect("two have space");
    }
    cluster.run_for(2_000);
    cluster.record();
    cluster.run_for(5_000);
    let bytes: usize =
        cluster.frames().filter(|(_, to, _)| *to == full).map(|(_, _, frame)| frame.len()).sum();
    assert!(bytes < 60 << 10, "{bytes} bytes in five seconds");
    cluster.disks[&full].set_capacity(None);
    let last = cluster.applied(leader, 1);
    let there = |c: &Cluster| c.applied(full, 1) == last;
    assert!(cluster.run_until(3, there), "{:#?}", cluster.statuses());
}

/// What a full disk keeps for small writes comes to an end too, and then even the empty entry with
/// which a leader begins its term waits. What it takes the place of is still in the store, and is
/// not what was committed there.
#[test]
fn w16_an_entry_that_another_one_replaced_is_not_applied_while_that_one_waits_for_space() {
    let mut cluster = Cluster::formed(6);
    cluster.proposed(1, 1, "before").expect("applied");
    let old = cluster.leader(1).expect("led");
    let others: Vec<u64> = (1..=3).filter(|node| *node != old).collect();
    others.iter().for_each(|node| cluster.partition(old, *node));
    let replaced = cluster.propose(old, 1, "replaced");
    let elsewhere = |leader: Option<u64>| leader.is_some_and(|leader| leader != old);
    let elected = |c: &Cluster| (0..=6).all(|group| elsewhere(c.leader(group)));
    assert!(cluster.run_until(10, elected), "{:#?}", cluster.statuses());
    let leader = cluster.leader(1).expect("led");
    let other = if leader == others[0] { others[1] } else { others[0] };
    cluster.lead(other, 2);
    cluster.proposed(leader, 1, "after").expect("two have space");
    // It hears of the term, but not from its leader.
    cluster.heal();
    cluster.partition(old, leader);
    cluster.disks[&old].set_capacity(Some(cluster.disks[&old].used()));
    cluster.run_for(1_000);
    use_up_all_room(&mut cluster, other, old, 2);
    cluster.heal();
    cluster.run_for(1_000);
    assert_eq!(cluster.applied(old, 1), Index(2), "{:#?}", cluster.nodes[&old].status());
    let here = cluster.read(old, 1, Consistency::Stale).expect("served");
    assert_eq!(here, "before", "only what is committed");
    make_space(&mut cluster);
    cluster.run_for(3_000);
    assert!(cluster.replies.remove(&replaced).is_some_and(|result| result.is_err()));
    for node in 1..=3 {
        let here = cluster.read(node, 1, Consistency::Linearizable).expect("served");
        assert_eq!(here, "before\nafter", "at node {node}");
    }
}

/// A follower on a full disk gets changes of a membership until not even these find room.
fn use_up_all_room(cluster: &mut Cluster, leader: u64, full: u64, group: u64) {
    for round in 0..400 {
        let step = |n: u64| match (round % 2, Member::new(NodeId(100 + n), Incarnation(9))) {
            (0, member) => MemberStep::AddLearner(member),
            (_, member) => MemberStep::Remove(member),
        };
        let steps = (0..64).map(step).collect();
        let change = MemberChange::Several { steps, transition: MemberTransition::Auto };
        let token = cluster.input(leader, |to| Input::ChangeMembers {
            to,
            group: GroupId(group),
            change,
            expected: None,
        });
        cluster.answer(token).expect("the leader has space");
        cluster.run_for(100);
        if cluster.applied(full, group) < cluster.applied(leader, group) {
            return;
        }
    }
    panic!("there is always room");
}

/// To delete what is large is how an operator makes space. There is none for another log file then, nor
/// for a flush, but for a segment with the little that others have in the large one.
#[test]
fn w16_a_group_is_deleted_while_all_disks_are_full_and_its_space_lets_the_others_go_on() {
    // In the end no large entries find room, or not even little ones.
    for (asked, len) in [(1, 30 << 10), (2, 30 << 10), (3, 30 << 10), (1, 10), (2, 10), (3, 10)] {
        let mut cluster = Cluster::formed(2);
        cluster.proposed(1, 1, "0 kept").expect("applied");
        for n in 0..60 {
            cluster.proposed(1, 2, &text(n, 30 << 10)).expect("there is space yet");
        }
        cluster.run_for(1_000);
        for node in 1..=3 {
            let used = cluster.disks[&node].used();
            cluster.disks[&node].set_capacity(Some(used + (200 << 10)));
        }
        let is_refused = |c: &mut Cluster, node| {
            (0..2_000).any(|n| c.proposed(node, 1, &text(n, len)) == Err(RequestError::NoSpace))
        };
        assert!((1..=3).all(|node| is_refused(&mut cluster, node)));
        let used: Vec<u64> = (1..=3).map(|node| cluster.disks[&node].used()).collect();
        let group = GroupId(2);
        let token = cluster.input(asked, |to| Input::DeleteGroup { to, group });
        cluster.answer(token).expect("deletes work on a full disk");
        let resumed = (0..100).any(|_| {
            cluster.run_for(100);
            cluster.proposed(asked, 1, &text(2000, 30 << 10)).is_ok()
        });
        let now: Vec<u64> = (1..=3).map(|node| cluster.disks[&node].used()).collect();
        assert!(resumed, "asked node {asked}: {used:?} became {now:?}, {:#?}", cluster.statuses());
        for node in 1..=3 {
            let found = read(&mut cluster, node);
            assert!(found.contains(&0) && found.contains(&2000), "{found:?} at node {node}");
        }
        assert!(cluster.stops.is_empty(), "{:?}", cluster.stops);
    }
}
