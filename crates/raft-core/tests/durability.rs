//! What is durable, and what may leave before it is.

mod common;

use common::*;
use refloat_raft_core::*;
use refloat_types::*;

#[test]
fn c04_a_late_completion_never_confirms_entries_rewritten_since() {
    let mut c = with_logs(1, &[&[], &[], &[]]);
    c.crash(2);
    c.crash(3);
    c.auto.persist = false;
    let same = log_of(&[1, 1, 1, 1, 1]);
    append(&mut c, 2, 1, EntryId::ZERO, same.clone());
    // A leader of term 2 replaces 3..=5, one of term 3 brings the very same entries back.
    append(&mut c, 3, 2, same[1].id, vec![entry(2, 3)]);
    append(&mut c, 2, 3, same[1].id, same[2..].to_vec());
    assert_eq!(c.node(1).pending.len(), 3);
    c.persist(1);
    assert_eq!(c.status(1).durable, Index(2), "the first writing of 3..=5 proves nothing now");
    let acked = c
        .wire
        .iter()
        .any(|m| matches!(m.body, Body::AppendResp { matched } if matched.index > Index(2)));
    assert!(!acked);
    c.persist(1);
    // A crash now leaves the entry of term 2: had 5 been acknowledged, it would be a lie.
    assert_eq!(c.node(1).disk.last(), EntryId::new(Term(2), Index(3)));
    assert_eq!(c.status(1).durable, Index(2));
    c.persist(1);
    assert_eq!(c.status(1).durable, Index(5));
}

#[test]
fn c04_a_cut_lowers_durable_at_once() {
    let mut c = with_logs(1, &[&[1, 1, 1, 1], &[], &[]]);
    c.auto.persist = false;
    assert_eq!(c.status(1).durable, Index(4));
    append(&mut c, 2, 2, entry(1, 2).id, vec![entry(2, 3)]);
    assert_eq!(c.status(1).durable, Index(2));
    c.persist_all(1);
    assert_eq!(c.status(1).durable, Index(3));
}

#[test]
fn c05_single_voter_commits_only_after_its_own_sync() {
    let mut c = Cluster::of(1);
    c.auto.persist = false;
    c.now = c.now.after(2 * E);
    c.with_core(1, Core::tick);
    assert_ne!(c.status(1).role, Role::Leader, "its own vote is not durable yet");
    c.persist(1);
    assert_eq!(c.status(1).role, Role::Leader);
    c.read(1, 1).unwrap();
    let (_, index) = c.propose(1, "x").unwrap();
    assert_eq!(c.status(1).commit, Index(0));
    assert!(c.node(1).reads.is_empty(), "no read before a durable entry of the own term");
    c.persist_all(1);
    assert_eq!(c.status(1).commit, index);
    assert_eq!(c.node(1).reads.len(), 1);
    assert!(c.node(1).applied.iter().any(|e| &e.payload[..] == b"x"));
}

#[test]
fn c05_reads_after_a_restart_are_not_older_than_acks() {
    let mut c = Cluster::of(1);
    c.elect(1);
    let (_, index) = c.propose(1, "acked").unwrap();
    assert_eq!(c.status(1).commit, index);
    // Nothing remembers the commit index.
    c.crash(1);
    c.restart(1);
    assert_eq!(c.status(1).commit, Index(0));
    assert!(c.read(1, 1).is_err());
    c.now = c.now.after(2 * E);
    c.auto.persist = false;
    c.with_core(1, Core::tick);
    c.persist(1);
    c.read(1, 2).unwrap();
    assert!(c.node(1).reads.is_empty());
    c.persist_all(1);
    assert!(c.node(1).reads[0].index >= index);
}

#[test]
fn c06_a_vote_is_not_sent_until_it_is_durable() {
    let mut c = Cluster::of(3);
    c.auto.persist = false;
    c.now = c.now.after(2 * E);
    c.with_core(1, Core::campaign);
    while c.deliver(|m| matches!(m.body, Body::PreVote { .. } | Body::PreVoteResp { .. })) > 0 {}
    assert_eq!(c.status(1).role, Role::Candidate);
    assert!(c.wire.is_empty(), "no request before the own vote is durable");
    c.persist(1);
    assert_eq!(c.deliver(|m| m.to.node.0 == 2), 1);
    assert_eq!(c.status(2).vote, Some(member(1)));
    assert!(!c.wire.iter().any(|m| m.from.node.0 == 2), "no answer before the vote is durable");
    // Its write failed: the process dies, the vote was never given.
    c.crash(2);
    c.restart(2);
    assert_eq!(c.status(2).vote, None);
    c.deliver(|m| m.to.node.0 == 3);
    c.persist(3);
    c.deliver(|m| m.to.node.0 == 1);
    assert_eq!(c.status(1).role, Role::Leader);
}

#[test]
fn c06_the_completion_of_an_older_campaign_is_no_vote_in_this_one() {
    let mut c = Cluster::of(1);
    c.auto.persist = false;
    for _ in 0..2 {
        c.now = c.now.after(2 * E);
        c.with_core(1, Core::campaign);
    }
    assert_eq!((c.status(1).role, c.status(1).term), (Role::Candidate, Term(2)));
    c.persist(1);
    assert_eq!(c.status(1).role, Role::Candidate, "only term 1 is durable");
    c.persist(1);
    assert_eq!(c.status(1).role, Role::Leader);
}

#[test]
fn c06_what_waits_for_an_older_term_is_dropped() {
    let mut c = Cluster::of(3);
    c.auto.persist = false;
    let vote = |from: u64, term: u64| {
        let body = Body::Vote { last: EntryId::ZERO, transfer: false };
        Message { from: member(from), to: member(1), group: GROUP, term: Term(term), body }
    };
    c.deliver_one(vote(2, 1));
    c.deliver_one(vote(3, 2));
    c.persist_all(1);
    let answers: Vec<_> = c.wire.iter().map(|m| (m.to.node.0, m.term.0)).collect();
    assert_eq!(answers, [(3, 2)]);
}

#[test]
fn a_leaders_appends_leave_in_parallel_with_its_own_sync() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.auto.persist = false;
    let (_, index) = c.propose(1, "x").unwrap();
    assert_eq!(c.wire.iter().filter(|m| is_append(m)).count(), 2, "sent before the sync");
    assert!(c.status(1).durable < index);
    c.deliver(|_| true);
    c.persist(2);
    c.persist(3);
    c.deliver(|_| true);
    assert_eq!(c.status(1).commit, index, "two followers suffice, the leader does not count");
    assert!(c.status(1).durable < index);
    c.persist(1);
    assert_eq!(c.status(1).durable, index);
}

#[test]
fn w18_a_leader_counts_itself_only_when_durable() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.auto.persist = false;
    let (_, index) = c.propose(1, "x").unwrap();
    c.deliver(|m| m.to.node.0 == 2);
    c.persist(2);
    c.deliver(|m| m.to.node.0 == 1);
    assert!(c.status(1).commit < index, "one follower and an unsynced leader are no majority");
    c.persist(1);
    assert_eq!(c.status(1).commit, index);
}
