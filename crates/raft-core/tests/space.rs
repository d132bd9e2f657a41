//! A disk without space: entries stay outside, and whatever needs little goes on.

mod common;

use common::*;
use refloat_raft_core::*;
use refloat_types::*;

fn led() -> Cluster {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.propose(1, "before").unwrap();
    c.stabilize();
    c.run(2 * BEAT);
    c
}

/// Runs for some beats; how often each body passed.
fn count(c: &mut Cluster, beats: u64, wanted: impl Fn(&Message) -> bool) -> usize {
    let mut seen = 0;
    for _ in 0..beats {
        c.now = c.now.after(BEAT);
        c.tick_all();
        for _ in 0..50 {
            seen += c.wire.iter().filter(|m| wanted(m)).count();
            if c.deliver(|_| true) == 0 {
                break;
            }
        }
    }
    seen
}

fn brings_entries_to(m: &Message, node: u64) -> bool {
    m.to == member(node) && matches!(&m.body, Body::Append(a) if !a.entries.is_empty())
}

fn is_reject_of(m: &Message, node: u64) -> bool {
    m.from == member(node) && matches!(m.body, Body::AppendReject { .. })
}

#[test]
fn w16_entries_for_which_there_is_no_space_stay_outside_and_are_not_sent_again_and_again() {
    let mut c = led();
    let before = c.status(3).last;
    c.space(3, false);
    let mut index = before.index;
    for n in 0..20 {
        index = c.propose(1, &format!("n{n}")).unwrap().1;
        c.deliver(|_| true);
    }
    c.stabilize();
    assert_eq!(c.status(1).commit, index, "two have space");
    assert_eq!(c.status(3).last, before, "nothing came in");
    let next = c.nodes[&1].progress(3).next;
    let sent = count(&mut c, 20, |m| brings_entries_to(m, 3) || is_reject_of(m, 3));
    assert_eq!(sent, 0, "it waits outside");
    assert_eq!(c.nodes[&1].progress(3).next, next, "the cursor stays");
    assert_eq!(c.leader(), Some(1), "beats are answered");
    // With space it asks for what it lacks, at once.
    c.space(3, true);
    c.stabilize();
    assert_eq!((c.status(3).last.index, c.nodes[&1].progress(3).matched), (index, index));
}

#[test]
fn w16_a_connection_that_comes_and_goes_brings_one_window_and_no_more() {
    let mut c = led();
    c.space(3, false);
    for n in 0..20 {
        c.propose(1, &format!("n{n}")).unwrap();
    }
    c.stabilize();
    for _ in 0..3 {
        c.with_core(1, |core, _| core.on_unreachable(member(3)));
        let sent = count(&mut c, 20, |m| brings_entries_to(m, 3) || is_reject_of(m, 3));
        assert!(sent <= 3, "{sent} messages");
    }
}

#[test]
fn w16_without_space_anywhere_a_leader_is_elected_commits_its_term_and_removes_a_member() {
    let mut c = led();
    (1..=3).for_each(|id| c.space(id, false));
    c.crash(1);
    c.run(4 * E);
    let leader = c.leader().expect("votes need no space");
    let last = c.status(leader).last;
    assert_eq!((c.status(leader).commit, last.term), (last.index, c.status(leader).term));
    c.read(leader, 9).unwrap();
    c.run(2 * BEAT);
    assert_eq!(c.node(leader).reads.len(), 1);
    let at = c.change(leader, ConfChange::Remove(member(1))).expect("a small entry");
    c.run(4 * BEAT);
    assert_eq!(c.status(5 - leader).commit, at.index);
}

/// The first append of a new leader does not fit, for other reasons than space.
#[test]
fn w16_a_new_leader_finds_where_the_logs_meet_though_there_is_no_space() {
    let mut c = Cluster::empty();
    let logs = [&[1, 1, 2, 2][..], &[1, 1, 1, 1, 1, 1], &[1, 1, 1, 1, 1, 1]];
    for (id, terms) in (1..).zip(logs) {
        let term = if id == 1 { 2 } else { 1 };
        c.add(settings(member(id)), disk::Disk::with_log(conf(1..=3), term, log_of(terms)));
    }
    (1..=3).for_each(|id| c.space(id, false));
    c.elect(1);
    c.run(4 * BEAT);
    assert_eq!(c.nodes[&1].progress(2).matched, Index(2), "as far as they are equal");
    assert_eq!(c.status(2).last.index, Index(6), "nothing takes the place of what is there");
    c.space(2, true);
    c.run(2 * BEAT);
    assert_eq!(c.status(1).commit, Index(5));
    assert_eq!(c.status(2).last, c.status(1).last);
}

#[test]
fn w16_holes_are_not_asked_for_while_nothing_could_fill_them() {
    let mut c = led();
    c.propose(1, "to be lost").unwrap();
    c.stabilize();
    let lost = c.status(3).last.index;
    c.crash(3);
    c.node(3).disk.lose(lost.0);
    c.restart(3);
    c.space(3, false);
    let asks = |m: &Message| matches!(m.body, Body::HoleAsk { .. });
    let sent = count(&mut c, 10, |m| asks(m) || brings_entries_to(m, 3));
    assert!(sent <= 2, "{sent} messages about what cannot be written");
    assert_eq!(c.status(3).holes.first(), Some(lost));
    c.space(3, true);
    c.run(3 * BEAT);
    assert!(c.status(3).holes.is_empty());
}

#[test]
fn w16_who_gives_entries_up_does_not_win_with_them() {
    let mut c = Cluster::with(3, |config| config.pre_vote = false);
    c.elect(1);
    c.run(2 * BEAT);
    c.auto.persist = false;
    let kept = c.status(2).last;
    c.propose(1, "found no space").unwrap();
    c.deliver(|m| m.to == member(2));
    assert!(c.status(2).last > kept);
    c.crash(1);
    c.crash(3);
    c.restart(3);
    c.wire.clear();
    // It asks for votes with what it has, and then has it no more.
    c.with_core(2, Core::campaign);
    assert_eq!(c.status(2).role, Role::Candidate);
    c.give_up(2);
    assert_eq!((c.status(2).role, c.status(2).last), (Role::Follower, kept));
    c.auto.persist = true;
    c.persist_all(2);
    c.stabilize();
    assert_eq!(c.status(2).role, Role::Follower, "votes that were given to what is gone");
    c.run(4 * E);
    assert!(c.leader().is_some());
}

#[test]
fn w16_what_is_given_up_is_no_longer_counted_as_committed_here_and_comes_again() {
    let mut c = led();
    let kept = c.status(2).last;
    c.node(2).hangs = true;
    c.auto.apply = false;
    let (_, index) = c.propose(1, "on two disks").unwrap();
    while c.deliver(|_| true) > 0 {}
    assert_eq!(c.status(2).commit, index);
    c.give_up(2);
    assert_eq!((c.status(2).last, c.status(2).commit), (kept, index), "known, and not here");
    c.node(2).hangs = false;
    c.space(2, true);
    c.auto.apply = true;
    c.persist_all(2);
    c.run(2 * BEAT);
    assert_eq!(c.status(2).applied, index);
    let last = c.node(2).applied.last().expect("applied").id.index;
    assert_eq!(last, index);
}
