//! Elections, leases of voters, and leaders that lose their majority.

mod common;

use common::*;
use refloat_raft_core::*;
use refloat_types::*;

#[test]
fn c07_pre_vote_changes_nothing_and_every_state_answers() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.crash(3);
    // The returning node knows less and has an older term.
    c.propose(1, "x").unwrap();
    c.stabilize();
    c.restart(3);
    c.now = c.now.after(2 * E);
    let before = (c.status(1), c.status(2));
    let term = c.status(1).term;
    c.with_core(3, Core::campaign);
    c.deliver(|m| matches!(m.body, Body::PreVote { .. }));
    let no = |m: &&Message| matches!(m.body, Body::PreVoteResp { granted: false, .. });
    assert_eq!(c.wire.iter().filter(no).count(), 2, "leader and follower answer");
    assert_eq!((c.status(1).term, c.status(2).term), (term, term));
    assert_eq!((before.0.vote, before.1.vote), (c.status(1).vote, c.status(2).vote));
    c.stabilize();
    assert_eq!(c.leader(), Some(1));
}

#[test]
fn c07_a_pre_vote_of_a_higher_term_changes_no_term() {
    let mut c = Cluster::of(3);
    let term = c.status(1).term;
    let last = EntryId::new(Term(9), Index(9));
    let body = Body::PreVote { campaign: Term(10), last };
    c.deliver_one(Message { from: member(2), to: member(1), group: GROUP, term: Term(9), body });
    assert_eq!((c.status(1).term, c.status(1).vote), (term, None));
    let yes = Body::PreVoteResp { campaign: Term(10), granted: true };
    assert_eq!((c.wire.len(), &c.wire[0].body), (1, &yes));
}

#[test]
fn c07_a_pre_vote_is_refused_while_a_leader_is_heard() {
    let mut c = Cluster::of(3);
    c.elect(1);
    let (term, last) = (c.status(2).term, c.status(2).last);
    let body = Body::PreVote { campaign: term.next(), last };
    let ask = Message { from: member(3), to: member(2), group: GROUP, term, body };
    let answer = |c: &mut Cluster| {
        c.deliver_one(ask.clone());
        let answer = c.wire.pop().expect("an answer");
        matches!(answer.body, Body::PreVoteResp { granted: true, .. })
    };
    assert!(!answer(&mut c));
    c.now = c.now.after(E);
    assert!(answer(&mut c), "not heard for an election timeout");
}

#[test]
fn c07_a_lower_term_pre_vote_is_answered_so_that_a_stuck_node_returns() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.elect(2);
    let body = Body::PreVote { campaign: Term(1), last: EntryId::ZERO };
    let message = Message { from: member(3), to: member(1), group: GROUP, term: Term(0), body };
    c.deliver_one(message);
    let answer = c.wire.pop().expect("an answer");
    assert_eq!(answer.term, c.status(1).term, "which tells the term");
    assert!(matches!(answer.body, Body::PreVoteResp { granted: false, .. }));
}

#[test]
fn c07_a_stale_pre_vote_answer_after_winning_is_ignored() {
    let mut c = Cluster::of(3);
    c.elect(1);
    let term = c.status(1).term;
    let body = Body::PreVoteResp { campaign: term, granted: true };
    c.deliver_one(Message { from: member(2), to: member(1), group: GROUP, term: Term(0), body });
    assert_eq!((c.status(1).role, c.status(1).term), (Role::Leader, term));
}

#[test]
fn c07_a_partitioned_node_returns_without_deposing_the_leader() {
    let mut c = Cluster::of(3);
    c.elect(1);
    let term = c.status(1).term;
    for _ in 0..50 {
        c.now = c.now.after(BEAT);
        c.tick_all();
        c.drop_messages(|m| m.from.node.0 == 3 || m.to.node.0 == 3);
        c.stabilize();
    }
    assert_eq!(c.status(3).term, term, "it never got beyond asking");
    c.run(3 * E);
    assert_eq!((c.leader(), c.status(1).term), (Some(1), term));
    assert_eq!(c.status(3).leader, Some(member(1)));
}

#[test]
fn c07_a_node_of_a_higher_term_is_not_stuck() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.crash(3);
    c.node(3).disk.hard.term = Term(9);
    c.node(3).memory.hard.term = Term(9);
    c.restart(3);
    c.run(5 * E);
    let leader = c.leader().expect("a leader");
    assert!(c.status(leader).term > Term(9));
    assert_eq!(c.status(3).leader.map(|m| m.node.0), Some(leader));
}

#[test]
fn votes_are_refused_while_a_leader_is_heard_except_for_a_transfer() {
    let mut c = Cluster::of(3);
    c.elect(1);
    let last = c.status(2).last;
    let term = c.status(2).term;
    let vote = |transfer| Message {
        from: member(3),
        to: member(2),
        group: GROUP,
        term: term.next(),
        body: Body::Vote { last, transfer },
    };
    c.deliver_one(vote(false));
    assert_eq!((c.status(2).term, c.wire.len()), (term, 0), "ignored");
    c.deliver_one(vote(true));
    assert_eq!(c.status(2).vote, Some(member(3)));
}

#[test]
fn c08_an_isolated_leader_steps_down_and_serves_no_read() {
    let mut c = Cluster::of(3);
    c.elect(1);
    let cut = |m: &Message| m.from.node.0 == 1 || m.to.node.0 == 1;
    c.read(1, 7).unwrap();
    c.drop_messages(|_| true);
    for _ in 0..40 {
        c.now = c.now.after(BEAT);
        c.tick_all();
        c.drop_messages(cut);
        c.stabilize();
        if c.leader().is_some_and(|l| l != 1) {
            break;
        }
    }
    assert_ne!(c.status(1).role, Role::Leader);
    assert!(c.node(1).reads.is_empty());
    assert_eq!(c.node(1).failed_reads, [ReadId(7)]);
    assert!(matches!(c.propose(1, "x"), Err(ProposeError::NotLeader { .. })));
}

#[test]
fn c13_a_paused_leader_steps_down_and_time_never_goes_back() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.now = c.now.after(30 * E);
    c.with_core(1, Core::tick);
    assert_eq!(c.status(1).role, Role::Follower);
    let wake = c.node(1).core().wake_at().unwrap();
    c.with_core(1, |core, _| core.tick(Now(0)));
    assert_eq!(c.node(1).core().wake_at(), Some(wake), "an earlier time changes nothing");
}

#[test]
fn c15_groups_of_every_size_elect_and_commit() {
    for n in [1, 2, 4, 5, 7] {
        let mut c = Cluster::of(n);
        c.run(4 * E);
        let leader = c.leader().unwrap_or_else(|| panic!("{n} nodes elect nobody"));
        c.propose(leader, "x").unwrap();
        c.run(2 * BEAT);
        for node in 1..=n {
            assert_eq!(c.status(node).commit, c.status(leader).commit, "{node} of {n}");
        }
    }
}

#[test]
fn votes_that_nobody_asked_for_yet_make_no_leader_before_the_term_is_durable() {
    let mut c = Cluster::with(3, |config| config.pre_vote = false);
    c.auto.persist = false;
    c.now = c.now.after(2 * E);
    c.with_core(1, Core::campaign);
    assert!(c.wire.is_empty(), "the requests wait for the term");
    let body = Body::VoteResp { granted: true };
    for node in [2, 3] {
        let (from, to) = (member(node), member(1));
        c.deliver_one(Message { from, to, group: GROUP, term: Term(1), body: body.clone() });
    }
    assert_eq!(c.status(1).role, Role::Candidate);
    c.persist_all(1);
    assert_eq!(c.status(1).role, Role::Leader);
}
