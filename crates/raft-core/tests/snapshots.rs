//! Peers behind the compacted log, snapshots that arrive, old entries from the host.

mod common;

use common::*;
use refloat_raft_core::*;
use refloat_types::*;

/// Node 1 leads three, and compacted what node 3 missed, which is down.
fn compacted_without_the_third() -> Cluster {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.crash(3);
    for n in 0..5 {
        c.propose(1, &format!("{n}")).unwrap();
        c.stabilize();
    }
    c.compact(1);
    c
}

#[test]
fn s06_pre_vote_of_a_lagging_follower_ends_its_snapshot_back_off() {
    let mut c = compacted_without_the_third();
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
fn c10_a_peer_behind_the_compacted_log_gets_a_snapshot_and_is_electable() {
    let mut c = compacted_without_the_third();
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

fn asks(c: &Cluster, of: u64) -> Vec<(u64, Index)> {
    let ask = |m: &Message| match m.body {
        Body::SnapshotAsk { index } if m.from.node.0 == of => Some((m.to.node.0, index)),
        _ => None,
    };
    c.wire.iter().filter_map(ask).collect()
}

#[test]
fn n02_who_lost_the_state_behind_its_log_leads_nobody_and_asks_one_member_after_the_other() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.propose(1, "a").unwrap();
    c.stabilize();
    c.compact(1);
    c.with_core(1, Core::on_state_lost);
    assert_eq!(c.status(1).role, Role::Follower, "whoever leads answers reads from the state");
    c.with_core(1, Core::campaign);
    assert_eq!(c.status(1).role, Role::Follower);
    c.run(3 * E);
    assert!([Some(2), Some(3)].contains(&c.leader()), "it votes");
    c.wire.clear();
    let applied = c.status(1).last;
    assert_eq!(c.status(1).applied, applied.index);
    let mut asked = Vec::new();
    for _ in 0..12 {
        c.now = c.now.after(E);
        c.with_core(1, Core::tick);
        asked.extend(asks(&c, 1));
        c.wire.clear();
    }
    assert!(asked.iter().all(|(_, index)| *index == applied.index), "{asked:?}");
    assert!([2, 3].iter().all(|n| asked.iter().any(|(to, _)| to == n)), "{asked:?}");
    let (now, conf) = (c.now, conf(1..=3));
    c.with_core(1, Core::on_state_back);
    c.now = now.after(9 * E);
    c.with_core(1, Core::tick);
    assert_eq!(asks(&c, 1), [], "it has what it needs");
    let again = c.with_core(1, |core, now| {
        core.on_state_lost(now);
        core.on_snapshot_received(now, applied, conf)
    });
    assert_eq!(again, Ok(SnapshotOutcome::Obsolete), "the very same is the host's to put in place");
}

#[test]
fn n02_a_snapshot_of_what_is_committed_but_not_applied_is_installed_where_the_state_is_lost() {
    for lost in [false, true] {
        let mut c = Cluster::of(3);
        c.elect(1);
        c.auto.apply = false;
        for text in ["a", "b", "c"] {
            c.propose(1, text).unwrap();
        }
        for _ in 0..3 {
            while c.deliver(|_| true) > 0 {}
            c.now = c.now.after(BEAT);
            c.tick_all();
        }
        assert_eq!((c.status(3).commit, c.status(3).applied), (Index(4), Index(1)));
        let (id, conf) = (EntryId::new(Term(1), Index(3)), conf(1..=3));
        let outcome = c.with_core(3, |core, now| {
            if lost {
                core.on_state_lost(now);
            }
            core.on_snapshot_received(now, id, conf)
        });
        let expected = if lost { SnapshotOutcome::Install } else { SnapshotOutcome::Obsolete };
        assert_eq!(outcome, Ok(expected));
        assert_eq!(c.status(3).applied, if lost { Index(3) } else { Index(1) });
    }
}

#[test]
fn n02_a_member_that_is_asked_for_more_than_its_snapshot_has_makes_one_and_then_sends_it() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.propose(1, "a").unwrap();
    c.stabilize();
    let (term, index) = (c.status(2).term, Index(2));
    let ask = |index| {
        let body = Body::SnapshotAsk { index };
        Message { from: member(3), to: member(2), group: GROUP, term, body }
    };
    let now = c.now;
    let core = c.node(2).core();
    core.step(now, ask(index)).unwrap();
    let ready = core.ready().expect("a wish");
    assert!(ready.make_snapshot && ready.send_snapshot.is_empty());
    core.on_snapshot_made(index);
    core.step(now, ask(index)).unwrap();
    let ready = core.ready().expect("a wish");
    assert!(!ready.make_snapshot && ready.send_snapshot == [member(3)]);
    core.step(now, ask(Index(9))).unwrap();
    assert!(core.ready().is_none_or(|r| !r.make_snapshot && r.send_snapshot.is_empty()));
}
