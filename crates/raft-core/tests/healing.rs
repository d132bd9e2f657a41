//! Replicas with holes: what they refuse, who fills them, and what a leader with holes may do.

mod common;

use common::disk::Disk;
use common::*;
use refloat_raft_core::*;
use refloat_types::*;

/// Nodes `1..` with one log, the content of these entries lost at each.
fn damaged(terms: &[u64], lost: &[&[u64]]) -> Cluster {
    let mut c = Cluster::empty();
    let n = lost.len() as u64;
    for (lost, id) in lost.iter().zip(1..) {
        let mut disk = Disk::with_log(conf(1..=n), *terms.last().unwrap(), log_of(terms));
        lost.iter().for_each(|at| disk.lose(*at));
        c.add(settings(member(id)), disk);
    }
    c
}

fn from(node: u64, to: u64, term: u64, body: Body) -> Message {
    Message { from: member(node), to: member(to), group: GROUP, term: Term(term), body }
}

fn range(term: u64, first: u64, last: u64) -> HoleRange {
    HoleRange { term: Term(term), first: Index(first), last: Index(last) }
}

fn never_had(node: u64, to: u64, term: u64, range: HoleRange) -> Message {
    from(node, to, term, Body::HoleNeverHad { ranges: vec![range] })
}

#[test]
fn hole_acks_stop_before_the_first_and_appends_alone_fill_it() {
    let mut c = damaged(&[1, 1, 1, 1, 1, 1], &[&[], &[], &[3, 5]]);
    c.crash(2);
    c.auto.apply = false;
    // Node 3 is not ticked, so it asks nobody.
    c.now = c.now.after(2 * E);
    c.with_core(1, Core::campaign);
    while c.deliver(|m| !matches!(m.body, Body::Append(_))) > 0 {}
    assert_eq!(c.status(1).role, Role::Leader, "it votes by plain comparison");
    c.deliver(is_append);
    let reject = c.wire.iter().find_map(|m| match m.body {
        Body::AppendReject { hint, .. } => Some(hint),
        _ => None,
    });
    assert_eq!(reject.map(|hint| hint.index), Some(Index(2)), "refused at or above a hole");
    while c.deliver(|m| !is_append(m)) > 0 {}
    c.auto.persist = false;
    c.trace.clear();
    c.deliver(is_append);
    let fill = c.trace.iter().find(|line| line.contains("fill [1/3 1/5]"));
    let fill = fill.unwrap_or_else(|| panic!("only the holes are written: {:#?}", c.trace));
    assert!(!fill.contains("append after 1/2"), "the suffix survives");
    let acked = |c: &Cluster| {
        let ack = |m: &Message| match m.body {
            Body::AppendResp { matched } => Some(matched.index),
            _ => None,
        };
        c.wire.iter().filter_map(ack).max()
    };
    assert_eq!(acked(&c), Some(Index(2)), "what is not durable is still a hole");
    c.persist(3);
    assert_eq!(acked(&c), Some(Index(7)));
    assert_eq!((c.nodes[&3].healed, c.status(3).holes.is_empty()), (1, true));
}

#[test]
fn m19_all_replicas_damaged_at_different_places_heal_without_a_leader() {
    let mut c = damaged(&[1, 1, 2, 2, 2, 3], &[&[1, 2], &[3, 6], &[4, 5]]);
    // Less than an election timeout passes.
    c.run(5 * BEAT);
    for node in 1..=3 {
        assert_eq!(c.nodes[&node].healed, 1, "node {node}: {:?}", c.status(node).holes);
        assert_eq!(c.nodes[&node].disk.entries.len(), 6);
        assert_eq!(c.status(node).term, Term(3), "nobody campaigned");
    }
    c.run(3 * E);
    assert!(c.leader().is_some());
}

#[test]
fn m19_an_entry_is_given_in_every_role_and_term() {
    let mut c = damaged(&[1, 1, 1], &[&[2], &[]]);
    c.elect(2);
    c.wire.clear();
    for term in [1, 9] {
        let ask = Body::HoleAsk { ranges: vec![range(1, 2, 2)] };
        c.deliver_one(from(1, 2, term, ask));
        let given = c.wire.pop().expect("an answer");
        assert!(matches!(given.body, Body::HoleHave { .. }), "{given:?}");
        assert_eq!(c.status(2).role, Role::Leader, "a question changes no term");
    }
}

#[test]
fn m20_an_entry_that_is_nowhere_whole_halts_the_group_by_name() {
    let mut c = damaged(&[1, 1, 1], &[&[3], &[3], &[3]]);
    c.run(20 * E);
    let named = (1..=3).find(|n| !c.status(*n).waits_for.is_empty()).expect("somebody asked");
    let status = c.status(named);
    assert_eq!(status.holes.first(), Some(Index(3)));
    assert_eq!(status.waits_for.len(), 2, "{:?}", status.waits_for);
    for node in 1..=3 {
        assert_eq!(c.status(node).commit, Index(0));
        assert_eq!(c.status(node).last.index, Index(3), "nothing was cut, nothing appended");
    }
    // The disk of one comes back: all heal.
    c.crash(2);
    c.node(2).disk = Disk::with_log(conf(1..=3), 20, log_of(&[1, 1, 1]));
    c.node(2).disk.hard = c.nodes[&2].memory.hard;
    c.node(2).memory = c.nodes[&2].disk.clone();
    c.restart(2);
    c.run(10 * E);
    assert!((1..=3).all(|n| c.status(n).commit > Index(3)), "{:?}", c.status(1));
}

/// Lets node 1, which has holes and is the only one of `n` that runs, win term 2.
fn lead_alone(c: &mut Cluster, n: u64) {
    c.now = c.now.after(3 * E);
    c.with_core(1, Core::tick);
    assert_eq!(c.status(1).role, Role::Follower, "givers get an election timeout more");
    c.now = c.now.after(3 * E);
    c.with_core(1, Core::tick);
    for node in 2..=n {
        c.deliver_one(from(node, 1, 1, Body::PreVoteResp { campaign: Term(2), granted: true }));
    }
    for node in 2..=n {
        c.deliver_one(from(node, 1, 2, Body::VoteResp { granted: true }));
    }
    assert_eq!(c.status(1).role, Role::Leader);
}

/// A leader of term 2 of `n` nodes whose last entry is lost, and which hears nobody.
fn leader_with_a_hole(n: u64) -> Cluster {
    let mut c = Cluster::empty();
    let mut disk = Disk::with_log(conf(1..=n), 1, log_of(&[1, 1]));
    disk.lose(2);
    c.add(settings(member(1)), disk);
    lead_alone(&mut c, n);
    assert_eq!(c.status(1).last.index, Index(2), "it appends nothing");
    let refused = c.propose(1, "x").unwrap_err();
    assert_eq!(refused, ProposeError::Healing { hole: Index(2) });
    assert!(refused.is_retryable());
    c
}

#[test]
fn m21_never_had_from_a_member_of_an_older_term_does_not_count() {
    let mut c = leader_with_a_hole(5);
    c.deliver_one(never_had(2, 1, 2, range(1, 2, 2)));
    c.deliver_one(never_had(3, 1, 2, range(1, 2, 2)));
    assert_eq!(c.status(1).last.index, Index(2), "two of five, itself never counted");
    c.deliver_one(never_had(4, 1, 1, range(1, 2, 2)));
    c.deliver_one(never_had(2, 1, 2, range(1, 2, 2)));
    c.deliver_one(from(4, 1, 2, Body::HoleNeverHad { ranges: vec![range(1, 3, 3)] }));
    let other_life = Message { from: life(4, 1), ..never_had(4, 1, 2, range(1, 2, 2)) };
    c.deliver_one(other_life);
    assert_eq!(c.status(1).last.index, Index(2));
    assert_eq!(c.status(1).waits_for, [member(4), member(5)]);
    c.deliver_one(never_had(4, 1, 2, range(1, 2, 2)));
    assert_eq!(c.status(1).last, EntryId::new(Term(2), Index(2)), "cut, and the term opened");
    assert_eq!(c.nodes[&1].healed, 1);
}

#[test]
fn m21_of_three_both_others_must_never_have_had_it() {
    let mut c = leader_with_a_hole(3);
    c.deliver_one(never_had(2, 1, 2, range(1, 2, 2)));
    assert_eq!(c.status(1).last.term, Term(1));
    c.deliver_one(never_had(3, 1, 2, range(1, 2, 2)));
    assert_eq!(c.status(1).last.term, Term(2));
}

#[test]
fn hole_never_had_is_said_by_the_whole_only() {
    let ask = || Body::HoleAsk { ranges: vec![range(1, 1, 9)] };
    let answers = |c: &mut Cluster| {
        c.wire.clear();
        c.deliver_one(from(1, 2, 1, ask()));
        std::mem::take(&mut c.wire).into_iter().map(|m| m.body).collect::<Vec<_>>()
    };
    let never = |first| Body::HoleNeverHad { ranges: vec![range(1, first, 9)] };
    let mut c = damaged(&[1, 1, 1], &[&[], &[2]]);
    let said = answers(&mut c);
    assert!(said.contains(&never(4)), "{said:?}");
    let given = |b: &Body| match b {
        Body::HoleHave { entries } => entries.iter().map(|e| e.id.index.0).collect(),
        _ => Vec::new(),
    };
    assert_eq!(said.iter().flat_map(given).collect::<Vec<_>>(), [1, 3], "not the damaged one");
    // One that does not know its end gives, and denies nothing.
    c.crash(2);
    c.node(2).disk.rights = Rights::FOLLOW;
    c.restart(2);
    let said = answers(&mut c);
    assert!(!said.iter().any(|b| matches!(b, Body::HoleNeverHad { .. })), "{said:?}");
    assert_eq!(said.iter().flat_map(given).collect::<Vec<_>>(), [1, 3]);
    // A compacted entry was committed.
    let mut c = Cluster::of(2);
    c.elect(2);
    c.propose(2, "x").unwrap();
    c.stabilize();
    c.compact(2);
    let said = answers(&mut c);
    assert!(said.contains(&Body::HoleCompacted { up_to: Index(2) }), "{said:?}");
    assert!(said.contains(&never(3)), "{said:?}");
}

#[test]
fn hole_that_may_be_a_membership_change_never_campaigns() {
    let mut c = damaged(&[1, 1], &[&[2]]);
    c.crash(1);
    c.node(1).disk.lost.insert(Index(2), (EntryId::new(Term(1), Index(2)), true));
    c.restart(1);
    c.run(10 * E);
    assert_eq!((c.status(1).role, c.status(1).term), (Role::Follower, Term(1)));
}

#[test]
fn hole_of_a_leader_is_resolved_by_a_follower_that_has_it() {
    let mut c = damaged(&[1, 1, 1, 1], &[&[2, 4], &[], &[1]]);
    c.crash(2);
    c.run(6 * E);
    assert!(c.status(1).holes.is_empty(), "node 3 has them");
    assert!(c.status(3).holes.is_empty(), "node 1 has it");
    assert!(c.leader().is_some_and(|n| c.status(n).commit == Index(5)));
}

#[test]
fn hole_that_is_compacted_at_the_only_other_is_cured_by_its_snapshot() {
    let mut c = Cluster::of(2);
    c.elect(2);
    for text in ["a", "b", "c"] {
        c.propose(2, text).unwrap();
    }
    c.stabilize();
    c.run(2 * BEAT);
    let last = c.status(1).last;
    c.compact(2);
    // Both restart; node 1 alone has the last entry, so it must lead.
    c.crash(1);
    c.crash(2);
    let (term, index) = (last.term, last.index.next());
    let newer = Entry::new(EntryId::new(term, index), EntryKind::Command, "d".into());
    c.node(1).disk.entries.insert(index, newer);
    c.node(1).disk.lose(3);
    c.node(1).memory = c.nodes[&1].disk.clone();
    c.restart(1);
    c.restart(2);
    c.run(10 * E);
    assert_eq!(c.nodes[&1].healed, 1, "{:?}", c.status(1));
    assert!(c.status(1).commit > index, "the last entry was kept and committed");
    assert_eq!(c.status(1).commit, c.status(2).commit);
}

#[test]
fn hole_overwritten_by_a_leader_is_gone() {
    let mut c = damaged(&[1, 1, 1], &[&[3]]);
    c.crash(1);
    c.node(1).disk.base_conf = conf(1..=3);
    c.restart(1);
    append(&mut c, 2, 2, EntryId::new(Term(1), Index(2)), vec![entry(2, 3)]);
    assert_eq!(c.nodes[&1].healed, 1);
    let Some(Body::Hello(hello)) = c.wire.pop().map(|m| m.body) else { panic!("it says hello") };
    let reply = Body::HelloReply { nonce: hello.nonce, last: Index(3), regressed: false };
    c.deliver_one(from(2, 1, 2, reply));
    let acked = c
        .wire
        .iter()
        .any(|m| m.body == Body::AppendResp { matched: EntryId::new(Term(2), Index(3)) });
    assert!(acked, "{:?}", c.wire);
}

#[test]
fn hole_filled_by_false_or_foreign_entries_stays() {
    let mut c = damaged(&[1, 1, 1], &[&[2], &[]]);
    let good = entry(1, 2);
    let rotten = Entry { payload: "rot".into(), ..good.clone() };
    let elsewhere = entry(2, 2);
    for bad in [rotten, elsewhere, entry(1, 1), entry(1, 9)] {
        c.deliver_one(from(2, 1, 1, Body::HoleHave { entries: vec![bad] }));
        assert_eq!(c.status(1).holes.first(), Some(Index(2)));
    }
    c.deliver_one(from(2, 1, 1, Body::HoleHave { entries: vec![good] }));
    assert!(c.status(1).holes.is_empty());
}

#[test]
fn hole_found_while_running_is_filled_and_a_leader_need_not_step_down() {
    for hurt in [1, 2] {
        let mut c = Cluster::of(3);
        c.elect(1);
        c.propose(1, "x").unwrap();
        c.run(2 * BEAT);
        for disk in [0, 1] {
            let node = c.node(hurt);
            if disk == 0 { &mut node.disk } else { &mut node.memory }.lose(2);
        }
        let holes = Holes { missing: [Index(2)].into_iter().collect(), ..Holes::default() };
        c.with_core(hurt, |core, now| core.on_damage(now, &holes));
        assert_eq!(c.status(1).role, Role::Leader);
        c.propose(1, "y").unwrap();
        c.run(8 * BEAT);
        assert!(c.status(hurt).holes.is_empty());
        assert_eq!((c.leader(), c.status(1).term), (Some(1), Term(1)));
        assert_eq!(c.nodes[&hurt].disk.entries.len(), 3);
        assert_eq!(c.node(1).progress(2).matched, Index(3));
    }
}

#[test]
fn hole_in_thousands_of_entries_is_asked_for_in_a_window() {
    let terms = vec![1; 5000];
    let lost: Vec<u64> = (1..=5000).filter(|n| n % 1000 != 0).collect();
    let mut c = damaged(&terms, &[&lost, &[]]);
    c.with_core(1, Core::tick);
    let Some(Body::HoleAsk { ranges }) = c.wire.first().map(|m| m.body.clone()) else {
        panic!("asks at once")
    };
    let asked: u64 = ranges.iter().map(|r| (r.last - r.first) + 1).sum();
    assert!(asked <= 1024 && ranges.len() <= HoleRange::MAX);
    c.stabilize();
    assert_eq!(c.nodes[&1].healed, 1, "each answer brings the next question");
}

#[test]
fn hole_that_a_giver_lost_too_is_cured_by_the_snapshot_that_covers_it() {
    // Node 2 keeps the log below its newest snapshot, and cannot read all of that any more.
    let mut c = with_logs(1, &[&[1, 1, 1], &[1, 1, 1], &[1, 1, 1]]);
    c.elect(3);
    let (now, term) = (c.now, c.status(2).term);
    let core = c.node(2).core();
    let ask = Body::HoleAsk { ranges: vec![range(1, 2, 2)] };
    core.step(now, from(1, 2, term.0, ask)).unwrap();
    let fetch = core.ready().expect("a wish").fetch;
    core.on_fetched(now, fetch[0].id, Fetched::Compacted { up_to: Index(3) });
    let said = core.ready().expect("an answer").messages;
    assert_eq!(said[0].body, Body::HoleCompacted { up_to: Index(3) });
    core.step(now, from(1, 2, term.0, Body::SnapshotAsk { index: Index(2) })).unwrap();
    assert_eq!(core.ready().expect("a wish").send_snapshot, [member(1)]);
    // No snapshot here reaches so far, but one could be made that does.
    core.step(now, from(1, 2, term.0, Body::SnapshotAsk { index: Index(4) })).unwrap();
    let ready = core.ready().expect("a wish");
    assert!(ready.make_snapshot && ready.send_snapshot.is_empty());
    core.step(now, from(1, 2, term.0, Body::SnapshotAsk { index: Index(5) })).unwrap();
    assert!(core.ready().is_none(), "nothing of that is applied here");
}

#[test]
fn m21_an_answer_about_a_hole_that_was_cut_is_late_while_a_lower_one_is_being_filled() {
    let mut c = Cluster::empty();
    let mut disk = Disk::with_log(conf(1..=3), 1, log_of(&[1, 1, 1]));
    [1, 3].iter().for_each(|at| disk.lose(*at));
    c.add(settings(member(1)), disk);
    lead_alone(&mut c, 3);
    // The entry of the first hole is given, and not durable yet.
    c.auto.persist = false;
    c.deliver_one(from(2, 1, 2, Body::HoleHave { entries: vec![entry(1, 1)] }));
    c.deliver_one(never_had(2, 1, 2, range(1, 3, 3)));
    c.deliver_one(never_had(3, 1, 2, range(1, 3, 3)));
    assert_eq!(c.status(1).last.index, Index(2), "cut");
    // The leader asked more than once, so it hears more than once.
    c.deliver_one(never_had(2, 1, 2, range(1, 3, 3)));
    assert_eq!(c.status(1).last.index, Index(2));
    c.persist_all(1);
    assert_eq!(c.nodes[&1].healed, 1);
    assert_eq!(c.status(1).last, EntryId::new(Term(2), Index(3)), "the term is opened");
}

#[test]
fn hole_below_what_is_committed_is_no_leave_to_contradict_it() {
    let mut c = Cluster::of(3);
    c.elect(1);
    for text in ["a", "b", "c"] {
        c.propose(1, text).unwrap();
    }
    c.run(2 * BEAT);
    let status = c.status(3);
    assert_eq!(status.commit, Index(4));
    c.node(3).disk.lose(3);
    c.node(3).memory = c.nodes[&3].disk.clone();
    let holes = Holes { missing: [Index(3)].into_iter().collect(), ..Holes::default() };
    c.with_core(3, |core, now| core.on_damage(now, &holes));
    c.wire.clear();
    let now = c.now;
    let prev = EntryId::new(Term(1), Index(2));
    let append = Append { prev, commit: Index(2), entries: vec![entry(9, 3)] };
    let refused = c.node(3).core().step(now, from(2, 3, 9, Body::Append(append)));
    assert!(matches!(refused, Err(StepError::Malformed { .. })), "{refused:?}");
    assert_eq!(c.status(3).last, status.last);
}

#[test]
fn hole_behind_a_snapshot_that_the_log_contradicts_is_gone_with_what_was_there() {
    // Entries 3 and 4 were never committed, and 4 is lost; a snapshot has another 3.
    let mut c = damaged(&[1, 1, 2, 2], &[&[], &[], &[4]]);
    let id = EntryId::new(Term(1), Index(3));
    let outcome = c.with_core(3, |core, now| core.on_snapshot_received(now, id, conf(1..=3)));
    assert_eq!(outcome, Ok(SnapshotOutcome::Install));
    assert_eq!((c.status(3).last, c.status(3).holes.len()), (id, 0));
    assert_eq!(c.node(3).healed, 1);
    c.now = c.now.after(E);
    c.with_core(3, Core::tick);
    assert!(!c.wire.iter().any(|m| matches!(m.body, Body::HoleAsk { .. })), "it misses nothing");
}

#[test]
fn hole_that_a_leader_compacts_is_not_asked_about_any_more() {
    let mut c = damaged(&[1, 1, 1, 1, 1], &[&[], &[], &[]]);
    c.elect(1);
    let applied = c.status(1).applied;
    // A later leader finds two entries unreadable, of which one is applied.
    c.crash(2);
    c.crash(3);
    c.propose(1, "x").unwrap();
    let last = c.status(1).last;
    c.wire.clear();
    let missing: IndexSet = [Index(2), last.index].into_iter().collect();
    let holes = Holes { missing, ..Holes::default() };
    c.with_core(1, |core, now| core.on_damage(now, &holes));
    c.restart(2);
    c.restart(3);
    for _ in 0..3 {
        c.now = c.now.after(E);
        c.with_core(1, Core::tick);
    }
    c.now = c.now.after(E);
    c.with_core(1, Core::campaign);
    while c.deliver(|m| !matches!(m.body, Body::HoleAsk { .. })) > 0 {}
    assert_eq!(c.status(1).role, Role::Leader);
    c.wire.clear();
    let at = EntryId::new(Term(1), applied.min(Index(5)));
    c.with_core(1, |core, _| core.on_compacted(at));
    let term = c.status(1).term.0;
    let range = HoleRange { term: last.term, first: last.index, last: last.index };
    c.deliver_one(never_had(2, 1, term, range));
    c.deliver_one(never_had(3, 1, term, range));
    assert_eq!(c.status(1).holes.len(), 0, "cut: the others never had it");
}
