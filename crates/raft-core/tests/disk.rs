//! A disk that hangs: who leads without one leaves it to the others, and comes back.

mod common;

use common::*;
use refloat_raft_core::*;
use refloat_types::*;

/// Nodes of which 1 leads and has committed something.
fn led(n: u64) -> Cluster {
    let mut c = Cluster::of(n);
    c.elect(1);
    c.propose(1, "before").unwrap();
    c.stabilize();
    c.wire.clear();
    c
}

fn says(c: &Cluster, from: u64, wanted: impl Fn(&Body) -> bool) -> usize {
    c.wire.iter().filter(|m| m.from.node.0 == from && wanted(&m.body)).count()
}

#[test]
fn w21_a_leader_whose_disk_hangs_hands_over_what_is_under_way_and_follows() {
    let mut c = led(3);
    c.node(1).hangs = true;
    let (_, index) = c.propose(1, "under way").unwrap();
    c.stabilize();
    assert_eq!(c.status(1).commit, index, "two disks are enough");
    assert_eq!(c.status(1).durable, index.prev());
    c.hang(1, Some(3));
    c.stabilize();
    assert_eq!((c.leader(), c.status(1).role), (Some(3), Role::Follower));
    let (_, next) = c.propose(3, "after").unwrap();
    c.run(2 * BEAT);
    assert_eq!(c.status(2).commit, next);
    let last = c.status(1).durable;
    assert!(last < index, "nothing of this is on the disk of node 1");
    let matched = c.nodes[&3].progress(1).matched;
    assert!(matched <= last, "{matched} is more than {last}");
    // The disk answers: a follower as any other, that may lead again.
    c.answer(1);
    c.run(2 * BEAT);
    assert_eq!(c.nodes[&3].progress(1).matched, c.status(3).last.index);
    c.crash(3);
    c.run(4 * E);
    c.propose(c.leader().expect("node 1 votes"), "without node 3").unwrap();
    c.stabilize();
    c.elect(1);
}

#[test]
fn w21_a_hand_over_that_nobody_takes_ends_in_a_step_down() {
    let mut c = led(3);
    c.hang(1, Some(2));
    assert_eq!(c.status(1).transfer, Some(member(2)));
    assert_eq!(c.drop_messages(|m| m.body == Body::TimeoutNow), 1);
    assert!(matches!(c.propose(1, "no"), Err(ProposeError::Dropped)));
    c.now = c.now.after(E);
    c.with_core(1, Core::tick);
    assert_eq!((c.status(1).role, c.status(1).leader), (Role::Follower, None));
    c.run(4 * E);
    assert!([Some(2), Some(3)].contains(&c.leader()), "{:?}", c.leader());
}

#[test]
fn w21_without_a_successor_it_steps_down_at_once_and_fails_the_reads_that_wait() {
    let mut c = led(3);
    c.read(1, 7).unwrap();
    c.hang(1, None);
    assert_eq!(c.status(1).role, Role::Follower);
    assert_eq!(c.node(1).failed_reads, [ReadId(7)]);
    c.stabilize();
    assert!(c.node(1).reads.is_empty(), "an answer to a round of before comes too late");
}

#[test]
fn w21_a_leader_without_which_there_is_no_majority_goes_on_and_serves_reads() {
    for n in [1, 2] {
        let mut c = led(n);
        c.hang(1, (n == 2).then_some(2));
        c.run(3 * E);
        assert_eq!((c.leader(), c.status(1).transfer), (Some(1), None), "of {n}");
        let (_, index) = c.propose(1, "waits").unwrap();
        c.read(1, 7).unwrap();
        c.run(3 * E);
        assert_eq!(c.status(1).commit, index.prev(), "not on its own disk: {n}");
        assert_eq!(c.node(1).reads.len(), 1);
        c.answer(1);
        c.run(2 * BEAT);
        assert_eq!(c.status(1).commit, index);
    }
}

#[test]
fn w21_who_cannot_write_votes_for_nobody_and_does_not_campaign() {
    let mut c = led(3);
    c.crash(3);
    c.crash(1);
    c.restart(1);
    c.hang(1, None);
    c.run(6 * E);
    assert_eq!(c.leader(), None, "node 2 needs a vote that node 1 cannot write down");
    let term = c.status(2).term;
    c.wire.clear();
    c.with_core(2, Core::campaign);
    c.deliver(|_| true);
    let promise = |b: &Body| matches!(b, Body::PreVoteResp { .. } | Body::VoteResp { .. });
    assert_eq!(says(&c, 1, promise), 0, "not even a pre-vote");
    c.with_core(1, Core::campaign);
    assert_eq!((c.status(1).role, c.status(2).term), (Role::Follower, term));
    c.answer(1);
    c.run(4 * E);
    assert!(c.leader().is_some(), "it votes again");
}

#[test]
fn w21_a_candidate_whose_disk_hangs_gives_up_and_takes_no_leadership_that_is_handed_to_it() {
    let mut c = led(3);
    c.node(2).hangs = true;
    c.now = c.now.after(2 * E);
    c.with_core(1, Core::tick);
    c.with_core(2, Core::campaign);
    c.deliver(|m| matches!(m.body, Body::PreVote { .. }));
    c.deliver(|m| matches!(m.body, Body::PreVoteResp { .. }));
    assert_eq!(c.status(2).role, Role::Candidate, "its own vote is under way");
    c.hang(2, None);
    assert_eq!(c.status(2).role, Role::Follower);
    c.run(6 * E);
    let leader = c.leader().expect("of the others");
    c.with_core(leader, |core, now| core.transfer_leader(now, NodeId(2))).unwrap();
    c.run(2 * E);
    assert_eq!(c.leader(), Some(leader));
    assert_eq!(c.status(2).role, Role::Follower);
}

#[test]
fn w21_who_can_write_again_waits_for_a_leader_before_it_stands_for_election() {
    let mut c = led(3);
    c.hang(2, None);
    c.now = c.now.after(5 * E);
    c.answer(2);
    c.with_core(2, Core::tick);
    assert_eq!(c.status(2).role, Role::Follower, "what it slept through is no reason");
    c.now = c.now.after(2 * E);
    c.with_core(2, Core::tick);
    assert_eq!(c.status(2).role, Role::PreCandidate, "there is none");
}

#[test]
fn r02_no_lease_is_left_to_a_leader_that_hands_over_because_its_disk_hangs() {
    let mut c = Cluster::with(3, |config| config.lease_drift = Some(E / 10));
    c.elect(1);
    c.run(2 * BEAT);
    assert!(c.status(1).lease);
    c.hang(1, Some(2));
    assert!(!c.status(1).lease, "node 2 may lead at any moment from now on");
    c.stabilize();
    assert_eq!(c.leader(), Some(2), "promises do not hold against a hand-over");
    assert!(!c.status(1).lease);
}

#[test]
fn w21_what_waits_for_a_disk_that_never_answers_does_not_grow() {
    let mut c = led(3);
    c.hang(1, Some(2));
    c.stabilize();
    assert_eq!(c.leader(), Some(2));
    for n in 0..400 {
        let _ = c.read(1, n);
        c.run(BEAT);
    }
    c.wire.clear();
    // Whatever it wanted to say in all the time leaves now.
    c.answer(1);
    let sent = says(&c, 1, |_| true);
    assert!((1..30).contains(&sent), "{sent}: {:?}", c.wire);
    assert_eq!(says(&c, 1, |b| matches!(b, Body::HeartbeatResp { .. })), 1);
}
