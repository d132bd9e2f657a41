//! Reads from a lease, and what voters promise for it; ranks; leaders that are forgotten.

mod common;

use common::*;
use refloat_raft_core::*;
use refloat_types::*;

const DRIFT: u64 = E / 10;

fn leased(n: u64) -> Cluster {
    let mut c = Cluster::with(n, |config| config.lease_drift = Some(DRIFT));
    c.elect(1);
    c.run(2 * BEAT);
    c.wire.clear();
    c
}

/// Whether a read at node 1 is served without a message.
fn reads_at_once(c: &mut Cluster) -> bool {
    let before = c.nodes[&1].reads.len();
    assert!(c.wire.is_empty(), "{:?}", c.wire);
    if c.read(1, 7).is_err() {
        return false;
    }
    let sent = std::mem::take(&mut c.wire);
    let served = c.nodes[&1].reads.len() > before;
    assert_ne!(served, sent.iter().any(is_heartbeat), "either at once or by a round");
    served
}

#[test]
fn r02_a_lease_ends_with_its_time_and_not_with_the_clock_of_the_voters() {
    let mut c = leased(3);
    let beaten = c.now;
    assert!(reads_at_once(&mut c));
    c.now = beaten.after(E - DRIFT - 1);
    assert!(reads_at_once(&mut c));
    c.now = beaten.after(E - DRIFT);
    assert!(!reads_at_once(&mut c), "a paused leader reads by asking");
}

#[test]
fn r02_answers_to_an_old_beat_do_not_prolong_a_lease() {
    let mut c = leased(3);
    c.now = c.now.after(BEAT);
    c.with_core(1, Core::tick);
    let sent = c.now;
    c.deliver(|m| [2, 3].contains(&m.to.node.0));
    // The answers come late.
    c.now = sent.after(E - DRIFT - 1);
    c.deliver(|_| true);
    c.wire.clear();
    assert!(reads_at_once(&mut c));
    c.now = sent.after(E - DRIFT);
    assert!(!reads_at_once(&mut c));
}

#[test]
fn r02_no_lease_while_and_after_leadership_is_handed_over() {
    let mut c = leased(3);
    c.with_core(1, |core, now| core.transfer_leader(now, NodeId(2))).unwrap();
    assert!(c.drop_messages(|m| m.body == Body::TimeoutNow) > 0);
    c.wire.clear();
    assert!(!reads_at_once(&mut c));
    // It is given up, but the word to campaign may still arrive.
    c.run(E + 2 * BEAT);
    assert!(c.status(1).transfer.is_none());
    assert_eq!(c.leader(), Some(1));
    c.wire.clear();
    assert!(!reads_at_once(&mut c), "not in the rest of the term");
}

#[test]
fn r02_promises_of_a_minority_or_of_nobody_give_no_lease() {
    let mut c = Cluster::with(3, |config| {
        config.lease_drift = (config.me.node.0 == 1).then_some(DRIFT);
    });
    c.elect(1);
    c.run(2 * BEAT);
    c.wire.clear();
    assert!(!reads_at_once(&mut c), "the others promised nothing");
    let mut c = leased(5);
    for node in [3, 4, 5] {
        c.crash(node);
    }
    c.now = c.now.after(BEAT);
    c.run(E - BEAT);
    c.wire.clear();
    assert!(!reads_at_once(&mut c));
}

#[test]
fn c13_a_clock_that_goes_back_ends_the_lease_until_a_beat_on_a_clock_that_is_there_again() {
    let mut c = leased(3);
    assert!(reads_at_once(&mut c));
    let before = c.now;
    c.now = Now(before.0 - E);
    assert!(!reads_at_once(&mut c), "how old the lease is is not known");
    c.run(E - BEAT);
    c.wire.clear();
    assert!(!reads_at_once(&mut c), "beats of that time say nothing either");
    c.run(3 * BEAT);
    c.wire.clear();
    assert!(reads_at_once(&mut c));
}

/// A member turns leases off, and what it said before overtakes nothing that it says now.
#[test]
fn r02_a_late_promise_does_not_stand_for_a_newer_answer() {
    let mut c = leased(3);
    c.crash(3);
    c.now = c.now.after(E - DRIFT);
    assert!(!reads_at_once(&mut c));
    let round = |m: &Message| match m.body {
        Body::Heartbeat { round, .. } => round,
        _ => 0,
    };
    c.read(1, 8).expect("a leader");
    let newest = c.wire.iter().map(round).max().expect("a beat");
    c.wire.clear();
    let answer = |round, promise| Message {
        from: member(2),
        to: member(1),
        group: GROUP,
        term: c.status(1).term,
        body: Body::HeartbeatResp { round, promise },
    };
    let (late, new) = (answer(newest - 1, true), answer(newest, false));
    c.deliver_one(new);
    c.deliver_one(late);
    c.wire.clear();
    assert!(!reads_at_once(&mut c));
}

fn ask(c: &mut Cluster, to: u64, term: u64, body: Body) -> Option<Message> {
    c.wire.clear();
    let message = Message { from: member(3), to: member(to), group: GROUP, term: Term(term), body };
    c.deliver_one(message);
    c.wire.pop()
}

#[test]
fn r05_a_voter_that_restarts_inside_a_lease_votes_for_nobody() {
    let mut c = leased(3);
    c.crash(2);
    c.restart(2);
    let last = EntryId::new(Term(9), Index(9));
    let vote = |transfer| Body::Vote { last, transfer };
    assert_eq!(ask(&mut c, 2, 5, vote(false)), None, "it does not know what it promised");
    let pre = ask(&mut c, 2, 4, Body::PreVote { campaign: Term(5), last }).expect("an answer");
    assert_eq!(pre.body, Body::PreVoteResp { campaign: Term(5), granted: false });
    c.now = c.now.after(E - 1);
    assert_eq!(ask(&mut c, 2, 5, vote(false)), None);
    assert_eq!(c.status(2).term, Term(1));
    let handed = ask(&mut c, 2, 5, vote(true)).expect("an answer");
    assert_eq!(handed.body, Body::VoteResp { granted: true }, "transfer excepted");
    c.now = c.now.after(1);
    let vote = ask(&mut c, 2, 6, vote(false)).expect("an answer");
    assert_eq!(vote.body, Body::VoteResp { granted: true });
}

#[test]
fn r05_a_promise_outlives_a_higher_term_and_binds_the_voter_itself() {
    let mut c = leased(3);
    let term = c.status(2).term.0 + 1;
    assert_eq!(ask(&mut c, 2, term, Body::Behind), None);
    assert_eq!((c.status(2).term, c.status(2).leader), (Term(term), None));
    let last = EntryId::new(Term(9), Index(9));
    let answer = ask(&mut c, 2, term, Body::Vote { last, transfer: false });
    assert_eq!(answer.map(|m| m.body), Some(Body::VoteResp { granted: false }));
    c.wire.clear();
    c.with_core(2, Core::campaign);
    assert!(c.wire.is_empty(), "{:?}", c.wire);
}

#[test]
fn r02_leases_that_cannot_work_are_refused() {
    let refused = |adjust: fn(&mut Config)| {
        let mut config = settings(member(1));
        config.lease_drift = Some(DRIFT);
        adjust(&mut config);
        Core::new(config, Restored::empty(conf(1..=3)), Now(0)).unwrap_err()
    };
    let needs = RestoreError::Needs { field: "lease_drift", needs: "check_quorum" };
    assert_eq!(refused(|c| c.check_quorum = false), needs);
    let (found, most) = (E, E - 1);
    let bounds = RestoreError::Setting { field: "lease_drift", found, least: 0, most };
    assert_eq!(refused(|c| c.lease_drift = Some(E)), bounds);
}

/// What a lease promises, under random faults: a read that a leader serves at once never misses
/// a commit that was there before it began.
#[test]
fn r02_lease_reads_are_linearizable_under_pauses_and_partitions() {
    let mut served = 0;
    for seed in 0..200u64 {
        let mut c = Cluster::with(3, |config| {
            config.lease_drift = Some(DRIFT);
            config.seed = seed;
        });
        let mut x = seed;
        let mut chance = |n: u64| {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (x >> 33) % n
        };
        for step in 0..400 {
            let id = 1 + chance(3);
            let apart = chance(6) == 0;
            match chance(10) {
                0..=3 => {
                    c.now = c.now.after(chance(BEAT * 2));
                    let paused = chance(4);
                    for node in (1..=3).filter(|n| *n != paused) {
                        if c.nodes[&node].core.is_some() {
                            c.with_core(node, Core::tick);
                        }
                    }
                }
                4 if apart => {
                    c.wire.retain(|m| m.from.node.0 != id && m.to.node.0 != id);
                }
                5 if apart => c.crash(id),
                5 => {
                    for node in 1..=3 {
                        if c.nodes[&node].core.is_none() {
                            c.restart(node);
                        }
                    }
                }
                6 if c.nodes[&id].core.is_some() => {
                    let _ = c.propose(id, &format!("{step}"));
                }
                7 if c.nodes[&id].core.is_some() => {
                    let known = c.checks.committed.last_key_value().map_or(Index(0), |(at, _)| *at);
                    let before = c.nodes[&id].reads.len();
                    let leads = c.status(id).role == Role::Leader;
                    let _ = c.read(id, step);
                    if let Some(read) = c.nodes[&id].reads.get(before).filter(|_| leads) {
                        assert!(read.index >= known, "seed {seed}: {read:?} misses {known}");
                        served += 1;
                    }
                }
                8 if apart && c.nodes[&id].core.is_some() => {
                    let to = NodeId(1 + chance(3));
                    let _ = c.with_core(id, |core, now| core.transfer_leader(now, to));
                }
                _ => {
                    c.deliver(|m| m.to.node.0 == id);
                }
            }
        }
    }
    assert!(served > 100, "{served} reads from a lease");
}

#[test]
fn rank_decides_who_campaigns_first() {
    for preferred in 1..=3 {
        let mut c = Cluster::with(3, |config| {
            config.rank = u32::from(config.me.node.0 != preferred);
        });
        c.run(3 * E);
        assert_eq!(c.leader(), Some(preferred));
        // The others still can.
        c.crash(preferred);
        c.run(6 * E);
        assert!(c.leader().is_some());
    }
}

#[test]
fn a_forgotten_leader_is_replaced_at_once() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.run(2 * BEAT);
    c.crash(1);
    c.with_core(2, Core::campaign);
    c.stabilize();
    assert_ne!(c.status(2).role, Role::Leader, "node 3 keeps faith");
    c.with_core(3, Core::forget_leader);
    c.with_core(2, Core::campaign);
    c.stabilize();
    assert_eq!(c.status(2).role, Role::Leader);
    let mut c = leased(3);
    c.with_core(3, Core::forget_leader);
    assert_eq!(c.status(3).leader, Some(member(1)), "never where leases are on");
}
