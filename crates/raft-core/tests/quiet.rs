//! Groups in which nothing happens.

mod common;

use common::*;
use refloat_raft_core::*;
use refloat_types::*;

fn quiet_after(micros: u64) -> Cluster {
    let mut c = Cluster::with(3, |config| config.quiet_after = Some(micros));
    c.elect(1);
    c.run(micros + 3 * BEAT);
    c
}

fn is_quiet(c: &Cluster) -> bool {
    (1..=3).all(|n| c.status(n).quiet)
}

#[test]
fn an_idle_group_falls_quiet_and_sends_nothing() {
    let mut c = quiet_after(E);
    assert!(is_quiet(&c));
    for node in 1..=3 {
        assert_eq!(c.node(node).core().wake_at(), None);
    }
    c.trace.clear();
    c.run(20 * E);
    assert_eq!(c.trace, Vec::<String>::new());
    assert_eq!((c.leader(), c.status(1).term), (Some(1), Term(1)));
}

#[test]
fn the_first_write_after_idling_needs_one_round() {
    let mut c = quiet_after(E);
    c.run(20 * E);
    c.propose(1, "x").unwrap();
    c.stabilize();
    assert_eq!(c.status(1).commit, c.status(1).last.index);
    c.run(2 * BEAT);
    assert!(!is_quiet(&c));
    assert_eq!((c.leader(), c.status(1).term), (Some(1), Term(1)));
    c.run(2 * E);
    assert!(is_quiet(&c));
    // A read wakes as well, at a follower too, and is served by a round.
    for node in [2, 1] {
        c.read(node, node).unwrap();
        c.stabilize();
        assert_eq!(c.nodes[&node].reads.len(), 1);
        c.run(2 * E);
        assert!(is_quiet(&c));
    }
}

#[test]
fn a_group_in_which_somebody_lacks_something_stays_awake() {
    let mut c = Cluster::with(3, |config| config.quiet_after = Some(E));
    c.elect(1);
    c.crash(3);
    c.propose(1, "x").unwrap();
    c.run(6 * E);
    assert!(!c.status(1).quiet && !c.status(2).quiet);
    c.restart(3);
    c.run(3 * E);
    assert!(is_quiet(&c));
}

#[test]
fn a_group_with_a_slow_disk_stays_awake() {
    let mut c = Cluster::with(3, |config| config.quiet_after = Some(E));
    c.elect(1);
    c.auto.persist = false;
    c.propose(1, "x").unwrap();
    for _ in 0..4 * E / BEAT {
        c.now = c.now.after(BEAT);
        c.tick_all();
        while c.deliver(|_| true) > 0 {}
        c.persist_all(1);
        c.persist_all(2);
    }
    assert_eq!(c.status(1).applied, c.status(1).last.index);
    assert!(!c.status(1).quiet, "node 3 answers, and has not written the last entry");
    c.auto.persist = true;
    c.persist_all(3);
    c.run(2 * E);
    assert!(is_quiet(&c));
}

#[test]
fn a_follower_that_missed_the_word_wakes_the_leader() {
    let mut c = Cluster::with(3, |config| config.quiet_after = Some(E));
    c.elect(1);
    while !c.status(1).quiet {
        c.now = c.now.after(BEAT);
        c.tick_all();
        c.drop_messages(|m| matches!(m.body, Body::Quiet { .. }) && m.to.node.0 == 3);
        c.stabilize();
    }
    assert!(!c.status(3).quiet);
    // It times out and asks for pre-votes; it is told that the leader lives.
    c.run(3 * E);
    assert_eq!((c.leader(), c.status(1).term), (Some(1), Term(1)));
    c.run(3 * E);
    assert!(is_quiet(&c));
}

#[test]
fn a_follower_that_restarts_is_welcomed_by_a_quiet_group() {
    let mut c = quiet_after(E);
    c.crash(2);
    c.run(5 * E);
    c.restart(2);
    c.run(3 * E);
    assert_eq!((c.leader(), c.status(1).term), (Some(1), Term(1)));
    c.run(3 * E);
    assert!(is_quiet(&c));
}

#[test]
fn a_quiet_group_whose_leader_is_gone_elects_another_when_the_host_wakes_it() {
    let mut c = quiet_after(E);
    // The host of the leader beats for it: nobody else is wanted.
    c.run(5 * E);
    c.with_core(2, |core, now| core.on_quiet_beat(now, member(1)));
    let last = EntryId::new(Term(9), Index(9));
    let body = Body::PreVote { campaign: Term(2), last };
    c.deliver_one(Message { from: member(3), to: member(2), group: GROUP, term: Term(1), body });
    let denied = Body::PreVoteResp { campaign: Term(2), granted: false };
    assert_eq!(c.wire.pop().map(|m| m.body), Some(denied));
    c.wire.clear();
    c.crash(1);
    for node in [2, 3] {
        c.with_core(node, Core::wake);
    }
    c.run(4 * E);
    assert!(c.leader().is_some_and(|n| n != 1));
}

#[test]
fn a_hand_over_of_a_quiet_group_wakes_it_and_is_given_up_in_time() {
    let mut c = quiet_after(E);
    c.crash(2);
    c.with_core(1, |core, now| core.transfer_leader(now, NodeId(2))).unwrap();
    assert!(!c.status(1).quiet);
    assert!(c.propose(1, "x").is_err(), "the hand-over is under way");
    c.run(2 * E);
    c.propose(1, "x").unwrap();
}

#[test]
fn news_of_a_life_that_is_gone_wakes_a_quiet_group() {
    let mut c = quiet_after(E);
    c.with_core(1, |core, now| core.on_not_me(now, member(3)));
    c.run(3 * E);
    assert!(!c.status(1).quiet, "who is gone does not agree");
}
