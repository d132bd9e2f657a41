//! Scenarios of elections, replication and durability, one function per id.

mod common;

use common::disk::Disk;
use common::*;
use refloat_raft_core::*;
use refloat_types::*;

/// Nodes with these logs, given by the term of each entry, all in `term`.
fn with_logs(term: u64, logs: &[&[u64]]) -> Cluster {
    let mut c = Cluster::empty();
    let n = logs.len() as u64;
    for (log, id) in logs.iter().zip(1..) {
        c.add(settings(member(id)), Disk::with_log(conf(1..=n), term, log_of(log)));
    }
    c
}

fn is_append(m: &Message) -> bool {
    matches!(m.body, Body::Append(_))
}

fn is_heartbeat(m: &Message) -> bool {
    matches!(m.body, Body::Heartbeat { .. } | Body::HeartbeatResp { .. })
}

#[test]
fn c01_figure_7_logs_meet_with_one_probe_per_term() {
    let leader: &[u64] = &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let a: &[u64] = &leader[..9];
    let b: &[u64] = &leader[..4];
    let c: &[u64] = &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6];
    let d: &[u64] = &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7];
    let e: &[u64] = &[1, 1, 1, 4, 4, 4, 4];
    let f: &[u64] = &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3];
    let mut cluster = with_logs(7, &[leader, a, b, c, d, e, f]);
    cluster.elect(1);
    let rejects = |node: u64| {
        let start = format!("{node}->1 ");
        let refused = |l: &&String| l.starts_with(&start) && l.contains("AppendReject");
        cluster.trace.iter().filter(refused).count()
    };
    // Figure 7: a and b lack a suffix, c and d have one too many, e and f diverge in term 4, 2.
    for (node, most) in [(2, 1), (3, 1), (4, 0), (5, 0), (6, 1), (7, 2)] {
        assert!(rejects(node) <= most, "node {node} refused {} probes", rejects(node));
    }
    let whole: Vec<Entry> = cluster.nodes[&1].disk.entries.values().cloned().collect();
    assert_eq!(whole.len(), 11);
    for node in 2..=7 {
        assert!(cluster.nodes[&node].disk.entries.values().eq(&whole), "node {node} differs");
    }
}

#[test]
fn c02_figure_8_entries_of_older_terms_never_commit_by_counting() {
    // Node 1 leads term 4 and has spread its entry of term 2 to a majority.
    let mut c = with_logs(3, &[&[1, 2], &[1, 2], &[1], &[1], &[1, 3]]);
    c.now = c.now.after(2 * E);
    c.with_core(1, Core::campaign);
    while c.deliver(|m| m.from.node.0 != 5 && m.to.node.0 != 5 && !is_append(m)) > 0 {}
    assert_eq!(c.status(1).role, Role::Leader);
    // The new leader's own entry never arrives, only what repairs the logs: node 3 gets 2/2.
    c.drop_messages(|_| true);
    let append = Append {
        prev: EntryId::new(Term(1), Index(1)),
        commit: Index(0),
        entries: vec![entry(2, 2)],
    };
    let body = Body::Append(append);
    let term = c.status(1).term;
    let message = Message { from: member(1), to: member(3), group: GROUP, term, body };
    c.deliver_one(message);
    for node in [2, 3] {
        let body = Body::AppendResp { matched: EntryId::new(Term(2), Index(2)) };
        c.deliver_one(Message { from: member(node), to: member(1), group: GROUP, term, body });
    }
    assert_eq!(c.status(1).commit, Index(0), "entry 2 of term 2 is on a majority, not committed");
    // Its own entry on a majority commits both.
    for node in [2, 3] {
        let body = Body::AppendResp { matched: EntryId::new(term, Index(3)) };
        c.deliver_one(Message { from: member(node), to: member(1), group: GROUP, term, body });
    }
    assert_eq!(c.status(1).commit, Index(3));
}

#[test]
fn c03_deposed_leader_with_a_tail_does_not_commit_it_by_a_beat() {
    let mut c = Cluster::of(3);
    c.elect(1);
    for n in 0..5 {
        c.propose(1, &format!("lost {n}")).unwrap();
    }
    c.drop_messages(|_| true);
    // Node 2 leads the others further than node 1's tail reaches.
    c.now = c.now.after(2 * E);
    c.with_core(2, Core::campaign);
    let without_1 = |m: &Message| m.from.node.0 != 1 && m.to.node.0 != 1;
    while c.deliver(without_1) > 0 {}
    for n in 0..9 {
        c.propose(2, &format!("kept {n}")).unwrap();
        while c.deliver(without_1) > 0 {}
    }
    c.drop_messages(|_| true);
    let (term, commit) = (c.status(2).term, c.status(2).commit);
    assert!(commit > c.status(1).last.index);
    // What node 2 sends: node 1 acknowledged nothing in this term, so the beat tells nothing.
    c.now = c.now.after(BEAT);
    c.with_core(2, Core::tick);
    c.deliver(|m| m.to.node.0 == 1 && is_heartbeat(m));
    assert_eq!(c.status(1).term, term);
    assert!(c.status(1).commit < c.status(1).last.index, "the tail is not committed");
    c.run(2 * E);
    assert!(c.nodes[&1].disk.entries.values().eq(c.nodes[&2].disk.entries.values()));
}

/// Steps an append of a leader into a lone follower, whose disk is slow.
fn append(c: &mut Cluster, from: u64, term: u64, prev: EntryId, entries: Vec<Entry>) {
    let body = Body::Append(Append { prev, commit: Index(0), entries });
    c.deliver_one(Message {
        from: member(from),
        to: member(1),
        group: GROUP,
        term: Term(term),
        body,
    });
}

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
fn s06_pre_vote_of_a_lagging_follower_ends_its_snapshot_back_off() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.crash(3);
    for n in 0..5 {
        c.propose(1, &format!("{n}")).unwrap();
        c.stabilize();
    }
    c.compact(1);
    c.restart(3);
    c.now = c.now.after(BEAT);
    c.tick_all();
    while c.deliver(|_| true) > 0 {}
    assert_eq!(c.node(1).wants_snapshot, [member(3)]);
    c.send_snapshot(1, 3, false);
    assert_eq!(c.node(1).progress(3).state, PeerState::Snapshot);
    let wake = c.node(1).core().wake_at();
    for _ in 0..3 {
        c.now = c.now.after(BEAT);
        c.with_core(1, Core::tick);
        while c.deliver(|_| true) > 0 {}
    }
    assert!(wake.is_some() && c.node(1).wants_snapshot.is_empty(), "it is left alone");
    c.now = c.now.after(BEAT / 2);
    c.with_core(3, Core::campaign);
    c.deliver(|m| matches!(m.body, Body::PreVote { .. }) && m.to.node.0 == 1);
    assert_eq!(c.node(1).wants_snapshot, [member(3)], "at once, no timer");
    c.send_snapshot(1, 3, true);
    c.stabilize();
    assert_eq!(c.status(3).commit, c.status(1).commit);
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
fn c09_a_wholly_lost_window_is_sent_again() {
    let mut c = Cluster::with(2, |config| config.max_inflight_msgs = 4);
    c.elect(1);
    for n in 0..4 {
        c.propose(1, &format!("{n}")).unwrap();
        c.drop_messages(is_append);
    }
    c.propose(1, "no room left").unwrap();
    assert!(!c.wire.iter().any(is_append), "the window is full");
    assert_eq!(c.node(1).progress(2).inflight, 4);
    c.run(2 * BEAT);
    assert_eq!(c.node(1).progress(2).matched, c.status(1).last.index);
    assert_eq!(c.node(1).progress(2).state, PeerState::Replicate);
}

#[test]
fn n10_the_window_is_bounded_in_bytes_and_one_message_always_fits() {
    let mut c = Cluster::with(2, |config| config.max_inflight_bytes = 100);
    c.elect(1);
    c.wire.clear();
    for _ in 0..5 {
        c.propose(1, &"x".repeat(60)).unwrap();
    }
    assert_eq!(c.wire.iter().filter(|m| is_append(m)).count(), 2, "77 bytes with the head, twice");
    c.stabilize();
    c.propose(1, &"x".repeat(1000)).unwrap();
    assert_eq!(c.wire.iter().filter(|m| is_append(m)).count(), 1);
    c.stabilize();
    assert_eq!(c.status(2).last, c.status(1).last);
}

#[test]
fn c09_a_caught_up_peer_does_not_stay_in_probe() {
    let mut c = Cluster::of(2);
    c.elect(1);
    c.with_core(1, |core, _| core.on_unreachable(member(2)));
    assert_eq!(c.node(1).progress(2).state, PeerState::Probe);
    c.run(2 * BEAT);
    assert_eq!(c.node(1).progress(2).state, PeerState::Replicate);
}

#[test]
fn c11_uncommitted_bytes_are_bounded_when_the_quorum_is_gone() {
    let mut c = Cluster::with(3, |config| {
        config.max_uncommitted_bytes = 100;
        config.check_quorum = false;
    });
    c.elect(1);
    c.crash(2);
    c.crash(3);
    let taken = (0..1000).filter(|n| c.propose(1, &format!("{n:010}")).is_ok()).count();
    assert_eq!(taken, 10);
    let busy = c.propose(1, "more than that").unwrap_err();
    assert_eq!(busy, ProposeError::Busy { uncommitted: 100, limit: 100 });
    assert!(busy.is_retryable());
    c.wire.clear();
    c.restart(2);
    c.run(4 * E);
    assert_eq!(c.status(1).uncommitted_bytes, 0);
    let leader = c.leader().unwrap();
    assert!(c.propose(leader, &"x".repeat(500)).is_ok(), "one batch always fits");
}

#[test]
fn c12_repeated_and_reordered_appends_never_cut_what_longer_ones_brought() {
    let mut c = with_logs(1, &[&[], &[], &[]]);
    let log = log_of(&[1, 1, 1, 1]);
    append(&mut c, 2, 1, EntryId::ZERO, log.clone());
    append(&mut c, 2, 1, EntryId::ZERO, log[..2].to_vec());
    append(&mut c, 2, 1, log[0].id, vec![]);
    assert_eq!(c.status(1).last.index, Index(4));
    append(&mut c, 3, 2, log[3].id, vec![]);
    append(&mut c, 2, 1, log[0].id, vec![]);
    assert_eq!(c.status(1).term, Term(2));
    assert!(matches!(c.wire.last().map(|m| &m.body), Some(Body::Behind)));
}

#[test]
fn c14_commit_beyond_a_voters_log_is_resent_without_panic() {
    let mut c = Cluster::of(3);
    c.elect(1);
    for n in 0..5 {
        c.propose(1, &format!("{n}")).unwrap();
        c.stabilize();
    }
    // The disk of node 2 lied: what it acknowledged in this term is gone.
    c.crash(2);
    c.node(2).disk.entries.split_off(&Index(3));
    c.node(2).memory = c.node(2).disk.clone();
    c.restart(2);
    assert_eq!(c.status(2).last.index, Index(2));
    c.run(3 * BEAT);
    assert_eq!(c.status(2).last.index, c.status(1).last.index);
    assert_eq!(c.status(2).commit, c.status(1).commit);
    assert_eq!(c.leader(), Some(1));
}

#[test]
fn c14_commit_beyond_the_log_in_an_append_waits_for_the_entries() {
    let mut c = with_logs(1, &[&[1], &[], &[]]);
    let body = Body::Append(Append {
        prev: entry(1, 1).id,
        commit: Index(100),
        entries: vec![entry(1, 2)],
    });
    let message = Message { from: member(2), to: member(1), group: GROUP, term: Term(1), body };
    c.deliver_one(message);
    assert_eq!(c.status(1).commit, Index(2));
}

#[test]
fn a_follower_commits_only_what_this_leader_validated() {
    // Node 1 has an entry of its own that the leader of term 2 never saw.
    let mut c = with_logs(1, &[&[1, 1, 1], &[], &[]]);
    let body = Body::Append(Append { prev: entry(1, 1).id, commit: Index(3), entries: vec![] });
    let message = Message { from: member(2), to: member(1), group: GROUP, term: Term(2), body };
    c.deliver_one(message);
    assert_eq!(c.status(1).commit, Index(1), "the entries 2 and 3 may be no leader's");
}

#[test]
fn what_an_older_leader_validated_is_not_committed_by_a_newer_one() {
    let mut c = with_logs(1, &[&[], &[], &[]]);
    append(&mut c, 2, 1, EntryId::ZERO, log_of(&[1, 1, 1]));
    let commit = Index(3);
    let body = Body::Append(Append { prev: entry(1, 1).id, commit, entries: vec![] });
    c.deliver_one(Message { from: member(3), to: member(1), group: GROUP, term: Term(2), body });
    assert_eq!(c.status(1).commit, Index(1));
}

/// Each breaks a rule that every sound sender keeps; nothing of it may be taken.
#[test]
fn t01_messages_of_no_sound_sender_are_refused_by_name() {
    let mut c = Cluster::of(3);
    for id in [1, 2, 1] {
        c.elect(id);
    }
    c.run(BEAT);
    let (term, prev) = (c.status(1).term, c.status(1).last);
    assert_eq!((prev, c.status(2).commit), (EntryId::new(Term(3), Index(3)), Index(3)));
    let append = |prev, entries| Body::Append(Append { prev, commit: Index(0), entries });
    let garbage = EntryId::new(term, Index(4));
    let garbage = Entry::new(garbage, EntryKind::Config, "?".into());
    let to_follower = [
        (append(prev, vec![entry(3, 5)]), "entries with a gap"),
        (append(EntryId::new(term, Index(0)), vec![]), "a previous entry that cannot be"),
        (append(prev, vec![entry(2, 4)]), "entries with a falling term"),
        (append(prev, vec![entry(4, 4)]), "an entry of a later term"),
        (append(prev, vec![garbage]), "an unreadable membership entry"),
        (append(EntryId::ZERO, log_of(&[1, 1])), "an append that contradicts committed entries"),
        (Body::Heartbeat { commit: Index(1 << 62), round: 0 }, "a number beyond all bounds"),
        (
            Body::PreVote { campaign: Term(9), last: prev },
            "pre-vote for a term that is not the next",
        ),
    ];
    for (body, rule) in to_follower {
        refused(&mut c, 1, 2, body, rule);
    }
    let beat = Body::Heartbeat { commit: Index(0), round: 0 };
    refused(&mut c, 3, 2, beat.clone(), "two leaders in one term");
    refused(&mut c, 2, 1, beat, "two leaders in one term");
    let matched = EntryId::new(term, Index(4));
    refused(&mut c, 2, 1, Body::AppendResp { matched }, "an ack beyond the leader's log");
}

fn refused(c: &mut Cluster, from: u64, to: u64, body: Body, rule: &str) {
    let (now, before) = (c.now, c.status(to));
    let message =
        Message { from: member(from), to: member(to), group: GROUP, term: before.term, body };
    let error = c.node(to).core().step(now, message);
    assert!(matches!(&error, Err(StepError::Malformed { rule: r, .. }) if *r == rule), "{error:?}");
    assert_eq!(c.status(to), before);
}

/// A leader that contradicts itself within a term; what it validated before does not count.
#[test]
fn t01_a_leader_that_cuts_its_own_entries_commits_nothing_beyond_the_log() {
    let mut c = with_logs(1, &[&[], &[], &[]]);
    append(&mut c, 2, 2, EntryId::ZERO, log_of(&[1, 1, 1, 1, 1]));
    let other = Append { prev: entry(1, 1).id, commit: Index(5), entries: vec![entry(2, 2)] };
    let body = Body::Append(other);
    c.deliver_one(Message { from: member(2), to: member(1), group: GROUP, term: Term(2), body });
    assert_eq!((c.status(1).last.index, c.status(1).commit), (Index(2), Index(2)));
}

#[test]
fn c10_a_peer_behind_the_compacted_log_gets_a_snapshot_and_is_electable() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.crash(3);
    for n in 0..5 {
        c.propose(1, &format!("{n}")).unwrap();
        c.stabilize();
    }
    c.compact(1);
    c.compact(2);
    c.restart(3);
    c.run(5 * BEAT);
    assert_eq!(c.status(3).compacted, c.status(1).compacted);
    assert_eq!(c.status(3).last, c.status(1).last);
    // N08: no entry was ever written after the snapshot; its head makes node 3 electable.
    c.elect(3);
    assert_eq!(c.status(3).role, Role::Leader);
}

#[test]
fn n08_install_then_lead_in_a_quiet_group() {
    let mut c = with_logs(5, &[&[], &[], &[]]);
    let id = EntryId::new(Term(5), Index(40));
    for node in [1, 2] {
        let outcome =
            c.with_core(node, |core, now| core.on_snapshot_received(now, id, conf(1..=3)));
        assert_eq!(outcome, Ok(SnapshotOutcome::Install));
    }
    assert_eq!(c.status(1).last, id);
    c.elect(1);
    assert!(c.status(1).commit > id.index);
    let late = EntryId::new(Term(5), Index(30));
    let outcome = c.with_core(1, |core, now| core.on_snapshot_received(now, late, conf(1..=3)));
    assert_eq!(outcome, Ok(SnapshotOutcome::Obsolete), "N11: commit never falls");
}

#[test]
fn n11_an_install_keeps_what_continues_it_and_cuts_what_does_not() {
    let mut c = with_logs(4, &[&[1, 1, 1, 1], &[1, 1, 1, 1], &[]]);
    let inside = EntryId::new(Term(1), Index(2));
    c.with_core(1, |core, now| core.on_snapshot_received(now, inside, conf(1..=3))).unwrap();
    assert_eq!(c.status(1).last.index, Index(4));
    let other = EntryId::new(Term(3), Index(2));
    c.with_core(2, |core, now| core.on_snapshot_received(now, other, conf(1..=3))).unwrap();
    assert_eq!(c.status(2).last, other);
    assert!(c.node(2).disk.entries.is_empty());
}

#[test]
fn n11_a_snapshot_is_acknowledged_only_when_its_install_is_durable() {
    let mut c = with_logs(5, &[&[], &[], &[]]);
    c.auto.persist = false;
    let beat = Body::Heartbeat { commit: Index(0), round: 0 };
    let term = Term(5);
    c.deliver_one(Message { from: member(3), to: member(1), group: GROUP, term, body: beat });
    c.wire.clear();
    let id = EntryId::new(Term(5), Index(40));
    c.with_core(1, |core, now| core.on_snapshot_received(now, id, conf(1..=3))).unwrap();
    assert!(c.wire.is_empty());
    c.persist(1);
    assert!(matches!(c.wire[0].body, Body::AppendResp { matched } if matched == id));
}

#[test]
fn n06_an_ack_of_another_entry_at_the_index_does_not_count() {
    // As in figure 8: node 2 leads term 3 with its entry 3/2, of which nobody heard. Entry 2/2 was
    // committed by a leader of term 4, whose snapshot reaches node 1 before its term does.
    let mut c = with_logs(2, &[&[1], &[1], &[1]]);
    c.elect(2);
    let (term, own) = (c.status(2).term, c.status(2).last);
    assert_eq!(own, EntryId::new(Term(3), Index(2)));
    let mut c = with_logs(2, &[&[1], &[1], &[1]]);
    c.now = c.now.after(2 * E);
    c.with_core(2, Core::campaign);
    while c.deliver(|m| !is_append(m)) > 0 {}
    assert_eq!((c.status(2).role, c.status(2).last), (Role::Leader, own));
    let id = EntryId::new(Term(2), Index(2));
    c.with_core(1, |core, now| core.on_snapshot_received(now, id, conf(1..=3))).unwrap();
    c.deliver(|m| m.to.node.0 == 1);
    c.deliver(|m| m.to.node.0 == 2);
    let body = Body::AppendResp { matched: id };
    c.deliver_one(Message { from: member(1), to: member(2), group: GROUP, term, body });
    assert_eq!(c.status(2).commit, Index(0), "3/2 must never be committed beside 2/2");
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
fn old_entries_are_fetched_and_a_failed_fetch_is_asked_again() {
    let mut c = Cluster::with(3, |config| config.max_append_bytes = 64);
    c.elect(1);
    c.crash(3);
    for n in 0..20 {
        c.propose(1, &format!("entry {n}")).unwrap();
        c.stabilize();
    }
    c.restart(3);
    c.node(1).memory.fetch_fails = true;
    c.run(3 * BEAT);
    assert!(c.status(3).last.index < c.status(1).last.index);
    c.node(1).memory.fetch_fails = false;
    c.run(3 * BEAT);
    assert_eq!(c.status(3).last, c.status(1).last);
}

#[test]
fn an_idle_leader_only_beats() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.run(2 * BEAT);
    for _ in 0..10 {
        c.now = c.now.after(BEAT);
        c.with_core(1, Core::tick);
        assert!(c.wire.iter().all(is_heartbeat), "{:?}", c.wire);
        while c.deliver(|_| true) > 0 {}
        assert!(c.nodes.values().all(|n| n.pending.is_empty()));
    }
}

#[test]
fn appends_of_a_turn_leave_together() {
    let mut c = Cluster::of(3);
    c.elect(1);
    let now = c.now;
    let core = c.node(1).core();
    for n in 0..10 {
        core.propose(now, vec![command(&format!("{n}")), command("and")]).unwrap();
    }
    c.follow(1);
    let sizes: Vec<usize> = c
        .wire
        .iter()
        .filter_map(|m| if let Body::Append(a) = &m.body { Some(a.entries.len()) } else { None })
        .collect();
    assert_eq!(sizes, [20, 20]);
}
