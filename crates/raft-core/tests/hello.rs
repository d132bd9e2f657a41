//! What a new run declares, and what its leader makes of it.

mod common;

use common::*;
use refloat_raft_core::*;
use refloat_types::*;

/// Three nodes that count their runs; node 1 leads, and node 3 holds three entries of its term.
fn led() -> Cluster {
    let mut c = Cluster::of(3);
    for node in 1..=3 {
        c.crash(node);
        c.node(node).counts_runs = true;
        c.restart(node);
    }
    c.elect(1);
    for text in ["a", "b"] {
        c.propose(1, text).unwrap();
    }
    c.run(2 * BEAT);
    assert_eq!(c.node(1).progress(3).matched, Index(3));
    c
}

fn lose_tail(c: &mut Cluster, node: u64, from: u64) {
    let disk = &mut c.node(node).disk;
    disk.entries.split_off(&Index(from));
    c.node(node).memory = c.nodes[&node].disk.clone();
}

#[test]
fn c16_an_undeclared_loss_is_an_alarm_and_makes_an_amnesiac() {
    let mut c = led();
    c.crash(3);
    lose_tail(&mut c, 3, 3);
    c.restart(3);
    c.run(3 * BEAT);
    let last = EntryId::new(Term(1), Index(2));
    let alarm = Alarm::Regression { member: member(3), acked: Index(3), last };
    assert_eq!(c.nodes[&1].alarms, [alarm], "once");
    assert_eq!(c.status(3).rights, Rights::NONE);
    assert_eq!(c.nodes[&3].disk.rights, Rights::NONE, "the store was told");
    assert_eq!(c.node(1).progress(3).matched, Index(0), "and its acks count no more");
    c.crash(2);
    c.propose(1, "c").unwrap();
    c.run(2 * BEAT);
    assert_eq!(c.status(1).commit, Index(3));
}

#[test]
fn c16_who_was_told_to_be_an_amnesiac_hears_it_again_in_its_next_run() {
    let mut c = led();
    c.crash(3);
    lose_tail(&mut c, 3, 3);
    c.restart(3);
    // It is killed before its disk has noted what it hears.
    while c.nodes[&1].alarms.is_empty() {
        c.now = c.now.after(BEAT);
        c.with_core(1, Core::tick);
        while c.deliver(|m| !matches!(m.body, Body::HelloReply { .. })) > 0 {}
    }
    c.crash(3);
    c.wire.clear();
    c.restart(3);
    c.run(3 * BEAT);
    assert_eq!(c.status(3).rights, Rights::NONE, "the same loss, undeclared again");
    assert_eq!(c.node(1).progress(3).matched, Index(0));
}

#[test]
fn c16_a_loss_is_not_hidden_by_a_refusal_that_overtakes_the_hello() {
    let mut c = led();
    c.crash(3);
    lose_tail(&mut c, 3, 2);
    c.restart(3);
    for _ in 0..3 {
        c.now = c.now.after(BEAT);
        c.with_core(1, Core::tick);
        while c.deliver(|m| !matches!(m.body, Body::Hello(_))) > 0 {}
    }
    c.deliver(|_| true);
    assert!(
        matches!(c.nodes[&1].alarms[..], [Alarm::Regression { .. }]),
        "{:?}",
        c.nodes[&1].alarms
    );
}

#[test]
fn c16_a_declared_loss_is_no_alarm_and_lowers_the_progress() {
    for (rights, hole) in [(Rights::FOLLOW, None), (Rights::ALL, Some(2))] {
        let mut c = led();
        c.crash(3);
        match hole {
            None => lose_tail(&mut c, 3, 3),
            Some(at) => c.node(3).disk.lose(at),
        }
        c.node(3).disk.rights = rights;
        c.node(3).memory = c.nodes[&3].disk.clone();
        c.restart(3);
        c.with_core(1, |core, now| core.tick(now.after(BEAT)));
        c.deliver(|m| m.to.node.0 == 3);
        c.deliver(|m| matches!(m.body, Body::Hello(_)));
        let declared = if hole.is_some() { 1 } else { 2 };
        assert_eq!(c.node(1).progress(3).matched, Index(declared));
        c.run(3 * BEAT);
        assert!(c.nodes[&1].alarms.is_empty());
        assert_eq!(c.node(1).progress(3).matched, Index(3));
        assert_eq!((c.nodes[&3].healed, c.status(3).rights), (1, Rights::ALL));
    }
}

#[test]
fn c16_a_repeated_old_ack_or_hello_is_no_regression() {
    let mut c = led();
    c.crash(3);
    c.restart(3);
    c.with_core(1, |core, now| core.tick(now.after(BEAT)));
    c.deliver(|m| m.to.node.0 == 3);
    let hello = c.wire.iter().find(|m| matches!(m.body, Body::Hello(_))).cloned();
    let hello = hello.expect("a new run says hello");
    c.stabilize();
    c.propose(1, "c").unwrap();
    c.stabilize();
    let body = Body::AppendResp { matched: EntryId::new(Term(1), Index(1)) };
    c.deliver_one(Message { from: member(3), to: member(1), group: GROUP, term: Term(1), body });
    c.deliver_one(hello);
    c.stabilize();
    assert!(c.nodes[&1].alarms.is_empty());
    assert_eq!(c.node(1).progress(3).matched, Index(4));
    assert_eq!(c.status(3).rights, Rights::ALL);
}

#[test]
fn c16_no_ack_leaves_before_the_leader_heard_where_the_run_began() {
    let mut c = led();
    c.crash(3);
    c.restart(3);
    c.propose(1, "c").unwrap();
    c.drop_messages(|m| matches!(m.body, Body::Hello(_)));
    for _ in 0..5 {
        c.now = c.now.after(BEAT);
        c.tick_all();
        while c.deliver(|m| !matches!(m.body, Body::Hello(_))) > 0 {}
        assert_eq!(c.node(1).progress(3).matched, Index(3));
    }
    let hellos = c.drop_messages(|m| matches!(m.body, Body::Hello(_)));
    assert!(hellos >= 3, "it is said until it is answered");
    c.run(2 * BEAT);
    assert_eq!(c.node(1).progress(3).matched, Index(4));
}

#[test]
fn m16_two_processes_of_one_directory_are_noticed() {
    let mut c = led();
    let hello = |run, nonce| {
        let last = EntryId::new(Term(1), Index(3));
        let hello = Hello { run, nonce, last, state: Declared::Clean, holes: vec![] };
        let body = Body::Hello(hello);
        Message { from: member(3), to: member(1), group: GROUP, term: Term(1), body }
    };
    let seen = c.nodes[&3].runs;
    c.deliver_one(hello(seen, 77));
    c.deliver_one(hello(seen - 1, 78));
    let alarm = Alarm::SharedRun { member: member(3), run: seen, nonce: 77 };
    assert_eq!(c.nodes[&1].alarms, [alarm], "an old run's hello may be a late message");
    assert!(!c.wire.iter().any(|m| matches!(m.body, Body::HelloReply { .. })));
}

#[test]
fn m17_a_new_life_says_nothing_as_the_old_one_and_votes_only_under_its_own_name() {
    let mut c = led();
    let life = Member::new(NodeId(3), Incarnation(0x77));
    let now = c.now;
    c.node(3).core.as_mut().unwrap().begin_life(now, life);
    c.run(2 * BEAT);
    assert!(!c.wire.iter().any(|m| m.from == member(3)), "what it was is silent");
    let vote = |to| {
        let body = Body::Vote { last: EntryId::new(Term(9), Index(99)), transfer: true };
        Message { from: member(1), to, group: GROUP, term: Term(50), body }
    };
    let core = c.node(3).core.as_mut().unwrap();
    assert!(core.step(now, vote(member(3))).is_err(), "the old life's vote is not its own");
    assert!(core.step(now, vote(life)).is_ok());
}

#[test]
fn hello_a_replica_that_does_not_know_its_end_waits_for_a_leader_that_heard_it() {
    let mut c = led();
    c.crash(3);
    lose_tail(&mut c, 3, 2);
    c.node(3).disk.rights = Rights::FOLLOW;
    c.restart(3);
    // It neither votes nor campaigns.
    c.crash(2);
    c.with_core(3, |core, now| core.campaign(now));
    let last = EntryId::new(Term(9), Index(9));
    let ask = |body| Message { from: member(2), to: member(3), group: GROUP, term: Term(1), body };
    c.deliver_one(ask(Body::PreVote { campaign: Term(2), last }));
    c.deliver_one(ask(Body::Vote { last, transfer: true }));
    assert!(c.wire.is_empty(), "{:?}", c.wire);
    // Its acks count, truthfully; an answer to another run's hello ends nothing.
    let late = Body::HelloReply { nonce: 1, last: Index(1), regressed: false };
    c.deliver_one(Message { from: member(1), ..ask(late) });
    assert_eq!(c.nodes[&3].healed, 0);
    c.propose(1, "c").unwrap();
    c.auto.persist = false;
    c.now = c.now.after(BEAT);
    c.tick_all();
    while c.deliver(|_| true) > 0 {}
    assert_eq!(c.status(3).last.index, Index(4));
    assert_eq!(c.nodes[&3].healed, 0, "nothing is durable here yet");
    c.auto.persist = true;
    c.persist_all(1);
    c.persist_all(3);
    c.run(2 * BEAT);
    assert_eq!((c.nodes[&3].healed, c.status(1).commit), (1, Index(4)));
    assert_eq!(c.status(3).rights, Rights::ALL);
}

#[test]
fn hello_a_later_leader_with_a_shorter_log_will_do() {
    let mut c = led();
    c.crash(3);
    lose_tail(&mut c, 3, 2);
    c.node(3).disk.rights = Rights::FOLLOW;
    c.restart(3);
    // The leader has a long tail that nobody else gets, answers the hello, and dies.
    for text in ["x", "y", "z"] {
        c.propose(1, text).unwrap();
    }
    c.drop_messages(is_append);
    c.with_core(1, |core, now| core.tick(now.after(BEAT)));
    while c.deliver(|m| m.to.node.0 != 2 && !is_append(m)) > 0 {}
    c.wire.clear();
    c.crash(1);
    // Node 3 may not vote, so the old leader must be back before there is a new one.
    c.restart(1);
    c.crash(1);
    c.node(1).disk.entries.split_off(&Index(4));
    c.node(1).memory = c.nodes[&1].disk.clone();
    c.restart(1);
    c.run(5 * E);
    assert_eq!(c.nodes[&3].healed, 1, "{:?}", c.status(3));
}

#[test]
fn an_amnesiac_confirms_no_read_and_takes_no_entries() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.crash(3);
    c.node(3).disk.rights = Rights::NONE;
    c.restart(3);
    c.crash(2);
    c.wire.clear();
    c.read(1, 1).unwrap();
    c.propose(1, "x").unwrap();
    while c.deliver(|_| true) > 0 {}
    assert!(c.nodes[&1].reads.is_empty(), "a forgotten vote may have made another leader");
    assert_eq!(c.status(3).last.index, Index(1));
}

#[test]
fn s11_the_leader_drops_a_dead_lifes_cursor_at_once() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.run(2 * BEAT);
    c.crash(2);
    let old = member(3);
    c.with_core(1, |core, now| core.on_not_me(now, old));
    assert_eq!(c.node(1).progress(3).matched, Index(0));
    // S14: its late ack makes no quorum, and its late beat keeps no leader.
    let last = c.status(1).last;
    c.propose(1, "x").unwrap();
    let matched = EntryId::new(last.term, last.index.next());
    let late = |body| Message { from: old, to: member(1), group: GROUP, term: last.term, body };
    c.wire.clear();
    c.deliver_one(late(Body::AppendResp { matched }));
    c.deliver_one(late(Body::HeartbeatResp { round: 9, promise: true }));
    assert_eq!(c.status(1).commit, last.index);
    assert!(!c.wire.iter().any(|m| m.to == old && is_append(m)), "nothing more is sent to it");
    c.now = c.now.after(E);
    c.deliver_one(late(Body::HeartbeatResp { round: 9, promise: true }));
    c.with_core(1, Core::tick);
    assert_eq!(c.status(1).role, Role::Follower);
}

/// What a life said before its directory was gone may still be on its way, its hello ahead of its ack.
#[test]
fn s14_a_late_hello_of_a_dead_life_does_not_make_its_late_ack_count() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.run(2 * BEAT);
    c.crash(2);
    let old = member(3);
    let (_, index) = c.propose(1, "x").unwrap();
    let last = c.status(1).last;
    c.with_core(1, |core, now| core.on_not_me(now, old));
    let late = |body| Message { from: old, to: member(1), group: GROUP, term: last.term, body };
    let (run, nonce, state) = (7, 7, Declared::HeadUnknown);
    let hello = Hello { run, nonce, last, state, holes: Vec::new() };
    c.deliver_one(late(Body::Hello(hello)));
    c.deliver_one(late(Body::AppendResp { matched: last }));
    assert_eq!(c.status(1).commit, index.prev(), "it is on one disk of two that are left");
}

/// Node 3 leads term 1 with entries `2..=5` that nobody else gets; node 1 overwrites them in term
/// 2 with `over` entries of its own, and node 3 acknowledges these. Then node 3's disk loses what
/// overwrote them, and knows that something is missing.
fn overwritten(over: usize) -> Cluster {
    let mut c = Cluster::of(3);
    for node in 1..=3 {
        c.crash(node);
        c.node(node).counts_runs = true;
        c.node(node).disk.keeps_old = true;
        c.restart(node);
    }
    c.elect(3);
    for text in ["a", "b", "c", "d"] {
        c.propose(3, text).unwrap();
    }
    c.wire.clear();
    c.crash(3);
    c.now = c.now.after(2 * E);
    c.elect(1);
    c.restart(3);
    for n in 1..over {
        c.propose(1, &format!("{n}")).unwrap();
    }
    c.run(2 * BEAT);
    assert_eq!(c.status(3).last, c.status(1).last);
    assert_eq!(c.node(1).progress(3).matched, Index(1 + over as u64));
    c.crash(3);
    assert!(c.node(3).disk.bring_old_back(), "something was overwritten");
    c.node(3).memory = c.nodes[&3].disk.clone();
    assert_eq!(c.nodes[&3].disk.last(), EntryId::new(Term(1), Index(5)));
    c.restart(3);
    c
}

#[test]
fn w11_a_replica_whose_overwritten_entries_are_back_never_commits_them() {
    for over in [2, 4, 6] {
        let mut c = overwritten(over);
        // The beats of before the hello, and one that it overtakes.
        let (term, commit) = (c.status(1).term, c.status(1).commit);
        let body = Body::Heartbeat { commit, round: 0 };
        let old = Message { from: member(1), to: member(3), group: GROUP, term, body };
        c.deliver_one(old.clone());
        assert_eq!(c.status(3).commit, Index(0), "nothing was shown to this run");
        c.deliver(|m| matches!(m.body, Body::Hello(_)));
        c.deliver(|m| matches!(m.body, Body::HelloReply { .. }));
        c.deliver_one(old);
        assert_eq!(c.status(3).commit, Index(0), "nothing was shown to this run, {over}");
        c.run(3 * BEAT);
        assert_eq!(c.status(3).commit, commit);
        assert_eq!(c.nodes[&3].applied, c.nodes[&1].applied);
        assert_eq!((c.nodes[&3].healed, c.status(3).rights), (1, Rights::ALL));
        assert!(c.nodes[&1].alarms.is_empty());
    }
}

#[test]
fn w11_overwritten_entries_that_are_back_do_not_count_as_the_leaders() {
    let mut c = overwritten(4);
    c.crash(2);
    c.with_core(1, |core, now| core.tick(now.after(BEAT)));
    c.deliver(|m| m.to.node.0 == 3);
    c.deliver(|m| matches!(m.body, Body::Hello(_)));
    assert_eq!(c.node(1).progress(3).matched, Index(1), "of term 1 the leader has only the first");
}

/// Node 3 has an end of term 3, above which or in place of which node 1, that leads in term 4, has
/// entries of term 2. It acknowledged these, and nothing of term 4.
fn acknowledged_below_an_end_of_a_higher_term(end: &[u64]) -> (Cluster, Cluster) {
    let mut c = with_logs(3, &[&[1, 2, 2], &[1, 2, 2], end]);
    for node in 1..=3 {
        c.crash(node);
        c.node(node).counts_runs = true;
        c.node(node).config.max_append_bytes = 1;
        c.node(node).config.max_inflight_msgs = 1;
        if node < 3 {
            c.restart(node);
        }
    }
    c.elect(1);
    c.restart(3);
    let before = with_logs(3, &[&[], &[], end]);
    for _ in 0..12 {
        c.now = c.now.after(BEAT);
        c.tick_all();
        while !c.wire.is_empty() {
            let message = c.wire.remove(0);
            c.deliver_one(message);
            // What comes of term 4 does not get to its disk.
            let disk = &c.nodes[&3].disk;
            let there = disk.id(Index(3)) == Some(EntryId::new(Term(2), Index(3)));
            let there = there && disk.hard.term == Term(4);
            c.node(3).hangs |= there;
        }
    }
    assert_eq!(c.node(1).progress(3).matched, Index(3), "the entries of term 2");
    (c, before)
}

/// The leader went on to believe the acknowledgement, so it looked for the end of the log above
/// it, where the replica refused everything, for ever.
#[test]
fn c16_an_old_end_of_a_higher_term_that_came_back_is_no_alarm_does_not_count_and_is_overwritten() {
    let (mut c, before) = acknowledged_below_an_end_of_a_higher_term(&[1, 3, 3, 3]);
    c.crash(3);
    assert_eq!(c.nodes[&3].disk.last(), EntryId::new(Term(2), Index(3)), "it was overwritten");
    c.node(3).disk.entries = before.nodes[&3].disk.entries.clone();
    c.node(3).memory = c.nodes[&3].disk.clone();
    c.restart(3);
    c.with_core(1, |core, now| core.tick(now.after(BEAT)));
    c.deliver(|m| m.to.node.0 == 3);
    c.deliver(|m| matches!(m.body, Body::Hello(_)));
    assert_eq!(c.node(1).progress(3).matched, Index(0), "of term 3 the leader has nothing");
    c.run(5 * BEAT);
    assert_eq!(c.node(1).progress(3).matched, Index(4));
    assert_eq!(c.status(3).last, c.status(1).last);
    assert!(c.nodes[&1].alarms.is_empty(), "{:?}", c.nodes[&1].alarms);
}

#[test]
fn c16_an_end_of_a_higher_term_above_what_was_acknowledged_is_no_loss() {
    let (mut c, _) = acknowledged_below_an_end_of_a_higher_term(&[1, 2, 2, 3, 3]);
    c.crash(3);
    assert_eq!(c.nodes[&3].disk.last(), EntryId::new(Term(3), Index(5)), "not overwritten yet");
    c.restart(3);
    c.run(5 * BEAT);
    assert!(c.nodes[&1].alarms.is_empty(), "{:?}", c.nodes[&1].alarms);
    assert_eq!((c.status(3).rights, c.status(3).last), (Rights::ALL, c.status(1).last));
}

#[test]
fn w11_where_a_lost_ends_term_is_unknown_nothing_counts_and_the_probe_finds_it() {
    let mut c = with_logs(2, &[&[1, 1, 1], &[1, 1, 1], &[1, 1, 1]]);
    c.elect(1);
    assert_eq!(c.node(1).progress(3).matched, Index(4));
    // An old end of term 2, which may begin anywhere behind the first entry.
    let last = EntryId::new(Term(2), Index(6));
    let hello = Hello { run: 2, nonce: 1, last, state: Declared::HeadUnknown, holes: vec![] };
    let body = Body::Hello(hello);
    let term = c.status(1).term;
    c.deliver_one(Message { from: member(3), to: member(1), group: GROUP, term, body });
    let peer = c.node(1).progress(3);
    assert_eq!((peer.matched, peer.next), (Index(0), Index(4)));
}
