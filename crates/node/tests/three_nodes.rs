//! Three node cores in one thread: form, elect, propose, die, come back.

mod support;

use refloat_node::{Consistency, Input, JobLane, RequestError, StopReason};
use refloat_types::GroupId;
use support::Cluster;
use support::ends::Ends;

#[test]
fn three_nodes_form_elect_and_apply_on_all() {
    let mut cluster = Cluster::formed(2);
    for (n, text) in ["a", "b", "c"].iter().enumerate() {
        let reply = cluster.proposed(1 + n as u64, 1, text).expect("applied");
        assert_eq!(&reply.payload[..], (n + 1).to_string().as_bytes());
    }
    for node in 1..=3 {
        assert_eq!(cluster.read(node, 1, Consistency::Linearizable), Ok("a\nb\nc".into()));
        assert_eq!(cluster.read(node, 2, Consistency::Linearizable), Ok(String::new()));
    }
}

#[test]
fn what_was_acknowledged_survives_the_death_of_all() {
    for power in [false, true] {
        let mut cluster = Cluster::formed(1);
        let mut expected = Vec::new();
        for n in 0..20 {
            let text = format!("command {n}");
            cluster.proposed(1 + n % 3, 1, &text).expect("applied");
            expected.push(text);
        }
        for node in 1..=3 {
            if power { cluster.power_cut(node) } else { cluster.kill(node) }
        }
        cluster.start_all();
        cluster.wait_for_leaders(1);
        for node in 1..=3 {
            let read = cluster.read(node, 1, Consistency::Linearizable);
            assert_eq!(read, Ok(expected.join("\n")), "node {node}, power {power}");
        }
    }
}

#[test]
fn the_same_inputs_give_the_same_outputs() {
    let run = || {
        let mut cluster = Cluster::formed(3);
        for n in 0..30 {
            cluster.propose(1 + n % 3, 1 + n % 3, &format!("x{n}"));
        }
        cluster.run_for(500);
        cluster.kill(2);
        cluster.run_for(3_000);
        cluster.start(2);
        cluster.run_for(1_000);
        cluster.trace
    };
    let (one, two) = (run(), run());
    let differ = one.iter().zip(&two).position(|(a, b)| a != b);
    assert_eq!(differ.map(|at| (&one[at], &two[at])), None);
    assert_eq!(one.len(), two.len());
}

#[test]
fn a_leader_that_dies_is_replaced_and_catches_up() {
    let mut cluster = Cluster::formed(1);
    cluster.proposed(1, 1, "before").expect("applied");
    let leader = cluster.leader(1).expect("formed");
    cluster.kill(leader);
    let other = if leader == 1 { 2 } else { 1 };
    cluster.wait_for_leaders(1);
    cluster.proposed(other, 1, "meanwhile").expect("applied");
    cluster.start(leader);
    assert_eq!(cluster.read(leader, 1, Consistency::Linearizable), Ok("before\nmeanwhile".into()));
}

#[test]
fn proposals_are_stamped_by_the_leader() {
    let mut cluster = Cluster::formed(1);
    let token = cluster.input(1, |to| Input::Propose {
        to,
        group: GroupId(1),
        payload: "tick".into(),
        stamp: true,
        forward: true,
    });
    let before = cluster.time().wall_ms;
    cluster.answer(token).expect("applied");
    let read = |machine: &mut dyn refloat_node::StateMachine| {
        let machine: &mut dyn std::any::Any = machine;
        machine.downcast_mut::<support::Journal>().expect("ours").commands[0].clone()
    };
    let token = cluster.input(2, |to| Input::Read {
        to,
        group: GroupId(1),
        consistency: Consistency::Linearizable,
        query: Box::new(read),
    });
    let stored = cluster.answer(token).expect("read").payload;
    let (stamp, command) = refloat_node::split_stamp(&stored).expect("stamped");
    assert_eq!(&command[..], b"tick");
    assert!((before..=cluster.time().wall_ms).contains(&stamp));
}

#[test]
fn without_a_quorum_there_is_no_answer_but_a_typed_one() {
    let mut cluster = Cluster::formed(1);
    let leader = cluster.leader(1).expect("formed");
    for node in (1..=3).filter(|node| *node != leader) {
        cluster.kill(node);
    }
    let unknown = cluster.proposed(leader, 1, "lost?");
    assert!(matches!(unknown, Err(RequestError::Unknown { .. })), "{unknown:?}");
    let read = cluster.read(leader, 1, Consistency::Linearizable);
    assert!(matches!(read, Err(RequestError::NoLeader { .. })), "{read:?}");
    assert_eq!(cluster.read(leader, 1, Consistency::Stale), Ok(String::new()));
    let none = cluster.proposed(leader, 1, "none");
    assert!(matches!(none, Err(RequestError::NoLeader { .. })), "{none:?}");
}

fn mortal(groups: u32, ends: &Ends) -> Cluster {
    let mut cluster = Cluster::new(groups);
    cluster.machines = Some(ends.machines());
    cluster.start_all();
    cluster.wait_for_leaders(groups);
    cluster
}

/// To drop a state takes as long as it is large, and all groups of a node run on one thread.
#[test]
fn the_state_of_a_deleted_group_is_dropped_by_a_job_while_the_others_go_on() {
    let ends = Ends::default();
    let mut cluster = mortal(2, &ends);
    cluster.proposed(1, 2, "large").expect("applied");
    cluster.run_for(200);
    (1..=3).for_each(|node| cluster.hold(node, JobLane::Flush));
    let token = cluster.input(1, |to| Input::DeleteGroup { to, group: GroupId(2) });
    cluster.answer(token).expect("deleted");
    cluster.run_for(500);
    assert_eq!(ends.states(), 0, "nobody had the time for it yet");
    assert!((1..=3).all(|node| !cluster.holds_quick_ones(node)), "no thread of others runs it");
    let create = |to| Input::CreateGroup { to, group: GroupId(2), members: Vec::new() };
    let token = cluster.input(2, create);
    cluster.answer(token).expect("created again");
    for group in [1, 2] {
        cluster.proposed(2, group, "meanwhile").expect("applied");
    }
    (1..=3).for_each(|node| cluster.release(node, JobLane::Flush));
    cluster.run_for(100);
    assert_eq!(ends.states(), 3, "those of the group's first life");
}

/// What is drawn of a state for a snapshot may be as large as the state.
#[test]
fn what_was_drawn_of_a_group_that_was_deleted_meanwhile_is_dropped_by_a_job_too() {
    let ends = Ends::default();
    let mut cluster = mortal(2, &ends);
    cluster.proposed(1, 2, "large").expect("applied");
    cluster.run_for(200);
    cluster.hold(1, JobLane::Apply);
    let snapshot = cluster.input(1, |to| Input::Snapshot { to, group: GroupId(2) });
    assert!(cluster.run_until(5, |c| c.held(1, JobLane::Apply) == 1), "it is about to be drawn");
    let token = cluster.input(2, |to| Input::DeleteGroup { to, group: GroupId(2) });
    cluster.answer(token).expect("deleted");
    let gone = |c: &Cluster| c.nodes[&1].status().groups.iter().all(|g| g.group != 2);
    assert!(cluster.run_until(5, gone));
    cluster.answer(snapshot).expect_err("there is nothing to keep");
    cluster.hold(1, JobLane::Flush);
    cluster.release(1, JobLane::Apply);
    cluster.run_for(100);
    assert_eq!(ends.drawn(), 0, "not by the thread of all groups");
    assert_eq!(cluster.files(1, "snap", "snap").len(), 0, "and it is no snapshot");
    cluster.release(1, JobLane::Flush);
    cluster.run_for(100);
    assert_eq!(ends.drawn(), 1);
    cluster.proposed(1, 1, "the others go on").expect("applied");
}

#[test]
fn groups_are_created_and_deleted_through_group_0() {
    let mut cluster = Cluster::formed(1);
    let create = |to| Input::CreateGroup { to, group: GroupId(9), members: Vec::new() };
    let token = cluster.input(2, create);
    cluster.answer(token).expect("created");
    cluster.proposed(3, 9, "hello").expect("applied");
    let token = cluster.input(1, create);
    cluster.answer(token).expect("creation is idempotent");
    assert_eq!(cluster.read(1, 9, Consistency::Linearizable), Ok("hello".into()));
    let token = cluster.input(3, |to| Input::DeleteGroup { to, group: GroupId(9) });
    cluster.answer(token).expect("deleted");
    cluster.run_for(500);
    let gone = cluster.proposed(2, 9, "ghost");
    assert_eq!(gone, Err(RequestError::UnknownGroup { group: GroupId(9) }));
    // A new life of the same id begins empty, also after a restart replays group 0.
    let token = cluster.input(2, create);
    cluster.answer(token).expect("created again");
    for node in 1..=3 {
        cluster.kill(node);
    }
    cluster.start_all();
    cluster.wait_for_leaders(1);
    assert_eq!(cluster.read(1, 9, Consistency::Linearizable), Ok(String::new()));
}

#[test]
fn s08_a_power_cut_after_the_first_ack_of_a_new_group_loses_neither_group_nor_write() {
    let mut cluster = Cluster::formed(0);
    let token =
        cluster.input(1, |to| Input::CreateGroup { to, group: GroupId(5), members: vec![] });
    cluster.answer(token).expect("created");
    cluster.proposed(1, 5, "first").expect("applied");
    for node in 1..=3 {
        cluster.power_cut(node);
    }
    cluster.start_all();
    assert!(cluster.run_until(20, |c| c.leader(5).is_some()), "{:#?}", cluster.statuses());
    assert_eq!(cluster.read(2, 5, Consistency::Linearizable), Ok("first".into()));
}

#[test]
fn o04_a_panic_in_apply_stops_that_group_and_no_other() {
    let mut cluster = Cluster::formed(2);
    cluster.proposed(1, 2, "fine").expect("applied");
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let broken = cluster.proposed(1, 1, "panic");
    std::panic::set_hook(hook);
    assert!(broken.is_err(), "{broken:?}");
    cluster.run_for(2_000);
    cluster.proposed(1, 2, "still fine").expect("the other group lives");
    let status = cluster.nodes[&1].status();
    let group = status.groups.iter().find(|g| g.group == 1).expect("listed");
    assert_eq!(group.role, "stopped");
    assert!(group.waits_for.as_deref().is_some_and(|text| text.contains("asked to")), "{group:?}");
    let refused = cluster.proposed(1, 1, "more");
    assert!(matches!(refused, Err(RequestError::Unavailable { .. })), "{refused:?}");
}

#[test]
fn o08_shutdown_hands_leadership_over_and_closes_the_log() {
    let mut cluster = Cluster::formed(1);
    cluster.proposed(1, 1, "kept").expect("applied");
    let leader = cluster.leader(1).expect("formed");
    let _ = cluster.input(leader, |_| Input::Shutdown);
    assert!(cluster.run_until(10, |c| c.stops.contains_key(&leader)));
    assert_eq!(cluster.stops[&leader], StopReason::Shutdown);
    // No election timeout passes: the successor led before the old leader was gone.
    assert!(cluster.leader(1).is_some_and(|next| next != leader), "{:#?}", cluster.statuses());
    let other = if leader == 1 { 2 } else { 1 };
    cluster.proposed(other, 1, "after").expect("applied");
    cluster.start(leader);
    assert_eq!(cluster.read(leader, 1, Consistency::Linearizable), Ok("kept\nafter".into()));
}
