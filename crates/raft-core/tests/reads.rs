//! Linearizable reads.

mod common;

use common::*;
use refloat_raft_core::*;
use refloat_types::*;

/// Node 2 leads in the place of node 1, and nothing of its own term is committed yet.
fn just_elected() -> Cluster {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.propose(1, "x").unwrap();
    c.stabilize();
    c.now = c.now.after(2 * E);
    c.with_core(1, Core::tick);
    c.with_core(2, Core::campaign);
    while c.deliver(|m| !matches!(m.body, Body::AppendResp { .. })) > 0 {}
    assert_eq!(c.status(2).role, Role::Leader);
    c
}

#[test]
fn r01_no_read_before_the_own_term_is_committed() {
    let mut c = just_elected();
    let known = c.status(2).commit;
    c.read(2, 1).unwrap();
    while c.deliver(|m| !matches!(m.body, Body::AppendResp { .. })) > 0 {}
    assert!(c.node(2).reads.is_empty(), "its commit index {known} may be behind");
    c.stabilize();
    assert_eq!(c.nodes[&2].reads, [ReadState { id: ReadId(1), index: c.status(2).commit }]);
}

#[test]
fn r01_one_round_serves_all_reads_that_wait() {
    let mut c = Cluster::of(3);
    c.elect(1);
    let now = c.now;
    for id in 0..100 {
        c.node(1).core().read_index(now, ReadId(id)).unwrap();
    }
    c.follow(1);
    assert_eq!(c.wire.len(), 2, "one beat per peer");
    assert!(c.node(1).reads.is_empty());
    c.deliver(|m| m.to.node.0 == 2);
    c.deliver(|m| m.to.node.0 == 1);
    assert_eq!(c.node(1).reads.len(), 100);
}

#[test]
fn r01_a_late_answer_to_an_earlier_run_is_no_answer() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.run(2 * BEAT);
    c.read(2, 1).unwrap();
    c.deliver(|m| m.to.node.0 == 1);
    c.deliver(|m| matches!(m.body, Body::Heartbeat { .. }));
    c.deliver(|m| matches!(m.body, Body::HeartbeatResp { .. }));
    let late =
        c.wire.iter().find(|m| matches!(m.body, Body::ReadIndexResp { .. })).unwrap().clone();
    c.wire.clear();
    c.crash(2);
    c.restart(2);
    c.propose(1, "newer").unwrap();
    c.run(2 * BEAT);
    c.read(2, 2).unwrap();
    c.deliver_one(late);
    assert!(c.node(2).reads.is_empty(), "the same count, another run");
    c.stabilize();
    assert_eq!(c.nodes[&2].reads, [ReadState { id: ReadId(2), index: c.status(1).commit }]);
}

#[test]
fn r03_a_follower_reads_through_its_leader_and_fails_with_it() {
    let mut c = Cluster::of(3);
    assert_eq!(c.read(2, 0), Err(ReadError::NoLeader));
    c.elect(1);
    let now = c.now;
    for id in [1, 2, 3] {
        c.node(2).core().read_index(now, ReadId(id)).unwrap();
    }
    c.follow(2);
    assert_eq!(c.wire.len(), 1, "one question for a turn's reads");
    c.stabilize();
    assert_eq!(c.node(2).reads.len(), 3);
    c.read(2, 4).unwrap();
    c.wire.clear();
    c.crash(1);
    c.run(3 * E);
    assert_eq!(c.node(2).failed_reads, [ReadId(4)]);
}

#[test]
fn r03_a_follower_reads_fail_at_once_when_another_leads() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.read(2, 1).unwrap();
    c.wire.clear();
    let body = Body::Heartbeat { commit: Index(0), round: 0 };
    let (from, to, term) = (member(3), member(2), c.status(2).term.next());
    c.deliver_one(Message { from, to, group: GROUP, term, body });
    assert_eq!(c.node(2).failed_reads, [ReadId(1)]);
}

#[test]
fn r01_a_read_behind_a_deposed_leader_fails() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.read(1, 1).unwrap();
    let beats: Vec<Message> = c.wire.drain(..).collect();
    c.now = c.now.after(2 * E);
    c.with_core(2, Core::campaign);
    while c.deliver(|m| m.from.node.0 != 1 && m.to.node.0 != 1) > 0 {}
    assert_eq!(c.status(2).role, Role::Leader);
    c.propose(2, "newer").unwrap();
    for beat in beats {
        c.deliver_one(beat);
    }
    c.stabilize();
    assert!(c.node(1).reads.is_empty());
    assert_eq!(c.node(1).failed_reads, [ReadId(1)]);
}

#[test]
fn r03_in_a_group_of_three_the_question_of_a_follower_confirms_its_leader() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.run(2 * BEAT);
    c.wire.clear();
    c.read(2, 1).unwrap();
    c.deliver(|m| m.to.node.0 == 1);
    let sent: Vec<_> = c.wire.iter().map(|m| m.body.clone()).collect();
    assert!(matches!(sent[..], [Body::ReadIndexResp { index: Some(_), .. }]), "{sent:?}");
    c.stabilize();
    assert_eq!(c.nodes[&2].reads, [ReadState { id: ReadId(1), index: c.status(1).commit }]);
}

/// Whether node 1 answers a question of node 2 without asking anybody.
fn is_answered_at_once(c: &mut Cluster) -> bool {
    c.wire.clear();
    c.read(2, 9).unwrap();
    c.deliver(|m| m.to.node.0 == 1);
    c.wire.iter().any(|m| matches!(m.body, Body::ReadIndexResp { index: Some(_), .. }))
}

#[test]
fn r03_a_question_confirms_no_leader_of_which_it_makes_no_majority() {
    let mut five = Cluster::of(5);
    five.elect(1);
    five.run(2 * BEAT);
    assert!(!is_answered_at_once(&mut five));
    five.stabilize();
    assert_eq!(five.nodes[&2].reads.len(), 1, "a round answers it");

    let mut alone = Cluster::of(3);
    alone.elect(1);
    alone.run(2 * BEAT);
    // It reads for others as well: theirs are not confirmed by it.
    alone.read(1, 5).unwrap();
    assert!(is_answered_at_once(&mut alone));
    assert!(alone.nodes[&1].reads.is_empty(), "this read began after that question may have");
}

#[test]
fn r03_a_question_confirms_nothing_in_a_life_that_is_gone_or_without_the_right_to_ack() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.run(2 * BEAT);
    c.with_core(2, |core, now| core.set_rights(now, Rights::NONE));
    assert!(!is_answered_at_once(&mut c), "who forgot its vote may have voted for another");
    let mut c = Cluster::of(3);
    c.elect(1);
    c.run(2 * BEAT);
    c.with_core(1, |core, now| core.on_not_me(now, member(2)));
    assert!(!is_answered_at_once(&mut c), "its directory, and its vote with it, is gone");
}

#[test]
fn r03_a_question_is_answered_by_a_round_until_the_own_term_is_committed() {
    let mut c = just_elected();
    c.wire.clear();
    c.read(3, 1).unwrap();
    c.deliver(|m| m.to.node.0 == 2);
    assert!(!c.wire.iter().any(|m| matches!(m.body, Body::ReadIndexResp { .. })));
}

#[test]
fn r03_a_question_confirms_nothing_before_the_hello_of_its_run_is_answered() {
    let mut c = Cluster::of(3);
    c.nodes.values_mut().for_each(|node| node.counts_runs = true);
    c.elect(1);
    c.run(2 * BEAT);
    c.crash(2);
    c.restart(2);
    c.wire.clear();
    c.now = c.now.after(BEAT);
    c.with_core(1, Core::tick);
    c.deliver(|m| m.to.node.0 == 2);
    assert!(!is_answered_at_once(&mut c), "what this run lost is not known yet");
    c.run(4 * BEAT);
    assert!(is_answered_at_once(&mut c));
}
