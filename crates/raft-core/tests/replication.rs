//! How a leader brings logs together and commits them.

mod common;

use common::*;
use refloat_raft_core::*;
use refloat_types::*;

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
