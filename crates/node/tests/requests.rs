//! What becomes of requests when nodes and connections fail: once, never twice, and within a bound.
mod support;

use refloat_node::{Consistency, Input, JobLane, RequestError};
use refloat_types::{GroupId, NodeId};
use support::Cluster;

#[test]
fn a_forwarded_proposal_is_applied_once_although_the_network_repeats_every_frame() {
    let mut cluster = Cluster::formed(1);
    let leader = cluster.leader(1).expect("formed");
    let other = if leader == 1 { 2 } else { 1 };
    cluster.repeat = true;
    let mut expected = Vec::new();
    for n in 0..10 {
        let text = format!("once {n}");
        cluster.proposed(other, 1, &text).expect("applied");
        expected.push(text);
    }
    assert_eq!(cluster.read(3, 1, Consistency::Linearizable), Ok(expected.join("\n")));
    assert!(cluster.nodes[&other].counters().forwarded >= 10);
}

#[test]
fn a_forward_whose_leader_is_lost_ends_as_unknown_and_is_not_sent_again() {
    let mut cluster = Cluster::formed(1);
    let leader = cluster.leader(1).expect("formed");
    let other = if leader == 1 { 2 } else { 1 };
    let token = cluster.propose(other, 1, "maybe");
    // It is on its way when the leader dies.
    cluster.crank();
    cluster.kill(leader);
    let result = cluster.answer(token);
    assert!(matches!(result, Err(RequestError::Unknown { .. })), "{result:?}");
    cluster.wait_for_leaders(1);
    cluster.start(leader);
    let read = cluster.read(leader, 1, Consistency::Linearizable).expect("read");
    assert!(read.is_empty() || read == "maybe", "{read}");
}

/// Found by the simulator: the answer to a forward of the process before was taken for the
/// answer to another proposal, which was acknowledged without having been committed.
#[test]
fn an_answer_to_a_forward_of_an_earlier_run_is_not_taken_for_another_ones() {
    let mut cluster = Cluster::formed(1);
    let leader = cluster.leader(1).expect("formed");
    let (other, third) = (1 + leader % 3, 1 + (leader + 1) % 3);
    cluster.proposed(leader, 1, "first").expect("applied");
    cluster.run_for(200);
    let first = cluster.applied(leader, 1);
    // Without the third member the leader needs the very node that is about to die.
    cluster.partition(leader, third);
    cluster.propose(other, 1, "old");
    let proposed = |c: &Cluster| c.nodes[&other].counters().forwarded >= 1;
    assert!(cluster.run_until(1, proposed));
    cluster.crank();
    cluster.kill(other);
    cluster.start(other);
    let new = cluster.propose(other, 1, "new");
    let reply = cluster.answer(new).expect("applied");
    assert_eq!(reply.index, first + 2, "behind the old one, whose answer it is not");
}

#[test]
fn a_proposal_that_finds_no_leader_waits_for_the_next_one() {
    let mut cluster = Cluster::formed(1);
    cluster.config.leader_wait = 10_000_000;
    for node in 1..=3 {
        cluster.kill(node);
    }
    cluster.start_all();
    // Nobody leads yet.
    assert_eq!(cluster.leader(1), None);
    assert!(cluster.proposed(2, 1, "patient").is_ok());
}

#[test]
fn budgets_refuse_with_busy_and_too_large() {
    let mut cluster = Cluster::new(1);
    cluster.config.max_pending_bytes = 1000;
    cluster.start_all();
    cluster.wait_for_leaders(1);
    let leader = cluster.leader(1).expect("formed");
    let payload = "x".repeat(400);
    let tokens: Vec<_> = (0..5).map(|_| cluster.propose(leader, 1, &payload)).collect();
    let results: Vec<_> = tokens.into_iter().map(|token| cluster.answer(token)).collect();
    let busy = |r: &&Result<_, _>| matches!(r, Err(RequestError::Busy { limit: 1000, .. }));
    assert_eq!(results.iter().filter(busy).count(), 3, "{results:?}");
    let large = cluster.proposed(leader, 1, &"x".repeat(100 << 10));
    assert!(matches!(large, Err(RequestError::TooLarge { .. })), "{large:?}");
    assert_eq!(cluster.nodes[&leader].counters().pending_bytes, 0, "all bytes came back");
}

#[test]
fn c08_a_leader_cut_off_serves_no_linearizable_read() {
    let mut cluster = Cluster::formed(1);
    let leader = cluster.leader(1).expect("formed");
    cluster.proposed(leader, 1, "old").expect("applied");
    for other in (1..=3).filter(|node| *node != leader) {
        cluster.partition(leader, other);
    }
    let read = cluster.read(leader, 1, Consistency::Linearizable);
    assert!(matches!(read, Err(RequestError::NoLeader { .. })), "{read:?}");
    let other = if leader == 1 { 2 } else { 1 };
    cluster.run_until(10, |c| c.leader(1).is_some_and(|node| node != leader));
    cluster.proposed(other, 1, "new").expect("applied");
    cluster.heal();
    assert_eq!(cluster.read(leader, 1, Consistency::Linearizable), Ok("old\nnew".into()));
}

#[test]
fn a_forward_that_comes_late_to_the_next_run_of_the_leader_is_not_applied_again() {
    let mut cluster = Cluster::formed(1);
    let leader = cluster.leader(1).expect("formed");
    let other = 1 + leader % 3;
    cluster.record();
    cluster.proposed(other, 1, "once").expect("applied");
    cluster.kill(leader);
    cluster.start(leader);
    cluster.wait_for_leaders(1);
    let now = cluster.leader(1).expect("elected");
    if now != leader {
        let transfer = |to| Input::Transfer { to, group: GroupId(1), target: NodeId(leader) };
        let token = cluster.input(now, transfer);
        cluster.answer(token).expect("begun");
        assert!(cluster.run_until(10, |c| c.leader(1) == Some(leader)));
    }
    assert!(cluster.replay(other, leader) > 0);
    cluster.run_for(500);
    cluster.proposed(other, 1, "end").expect("applied");
    assert_eq!(cluster.read(leader, 1, Consistency::Linearizable), Ok("once\nend".into()));
}

#[test]
fn a_forward_ends_as_soon_as_the_leader_shows_a_new_run() {
    let mut cluster = Cluster::formed(1);
    let leader = cluster.leader(1).expect("formed");
    let other = 1 + leader % 3;
    // The old process never answers, and nobody says that the connection is gone.
    cluster.hold(leader, JobLane::Wal);
    cluster.hold(1 + other % 3, JobLane::Wal);
    let token = cluster.propose(other, 1, "open");
    cluster.run_for(100);
    cluster.kill(leader);
    cluster.start(leader);
    let result = cluster.answer(token);
    assert!(matches!(result, Err(RequestError::Unknown { .. })), "{result:?}");
}

#[test]
fn a_read_whose_index_is_never_applied_here_ends_within_a_bound() {
    let mut cluster = Cluster::formed(1);
    let leader = cluster.leader(1).expect("formed");
    let other = 1 + leader % 3;
    cluster.hold(other, JobLane::Apply);
    cluster.proposed(leader, 1, "slow to apply there").expect("applied elsewhere");
    let read = cluster.read(other, 1, Consistency::Linearizable);
    assert!(matches!(read, Err(RequestError::Unavailable { .. })), "{read:?}");
    cluster.release(other, JobLane::Apply);
    let read = cluster.read(other, 1, Consistency::Linearizable);
    assert_eq!(read, Ok("slow to apply there".into()));
}

#[test]
fn a_read_of_what_is_here_ends_within_a_bound_though_the_machine_is_not_to_be_had() {
    let mut cluster = Cluster::formed(1);
    let leader = cluster.leader(1).expect("formed");
    cluster.hold(leader, JobLane::Apply);
    cluster.propose(leader, 1, "takes long to be applied");
    cluster.run_for(500);
    let late = cluster.read(leader, 1, Consistency::Stale);
    assert!(matches!(late, Err(RequestError::Unavailable { .. })), "{late:?}");
    cluster.release(leader, JobLane::Apply);
    let text = cluster.read(leader, 1, Consistency::Stale);
    assert_eq!(text, Ok("takes long to be applied".into()));
}

#[test]
fn r01_a_follower_read_that_spans_a_change_of_leader_sees_what_was_acknowledged_before_it() {
    let mut cluster = Cluster::formed(1);
    for round in 0..6 {
        let leader = cluster.leader(1).expect("a leader");
        let reader = 1 + leader % 3;
        let text = format!("round {round}");
        cluster.proposed(leader, 1, &text).expect("applied");
        let tokens: Vec<_> = (0..4)
            .map(|n| {
                if n == round % 4 {
                    cluster.kill(leader);
                }
                let token = cluster.input(reader, |to| Input::Read {
                    to,
                    group: GroupId(1),
                    consistency: Consistency::Linearizable,
                    query: Box::new(support::journal_text),
                });
                (0..round).for_each(|_| cluster.crank());
                token
            })
            .collect();
        cluster.run_for(300);
        cluster.start(leader);
        for token in tokens {
            let reply = cluster.answer(token).expect("a leader comes in time");
            let seen = String::from_utf8_lossy(&reply.payload).into_owned();
            assert!(seen.ends_with(&text), "{seen}");
        }
        cluster.wait_for_leaders(1);
    }
}
