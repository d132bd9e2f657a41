//! What a follower takes from its leader, and what it refuses.

mod common;

use common::*;
use refloat_raft_core::*;
use refloat_types::*;

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

fn refused(c: &mut Cluster, from: u64, to: u64, body: Body, rule: &str) {
    let (now, before) = (c.now, c.status(to));
    let message =
        Message { from: member(from), to: member(to), group: GROUP, term: before.term, body };
    let error = c.node(to).core().step(now, message);
    assert!(matches!(&error, Err(StepError::Malformed { rule: r, .. }) if *r == rule), "{error:?}");
    assert_eq!(c.status(to), before);
}

/// A leader that tells what is committed was told before all that there is to tell.
#[test]
fn an_append_with_news_of_the_commit_only_is_not_answered_and_a_lost_ack_comes_with_the_next_beat()
{
    let mut c = Cluster::of(3);
    c.elect(1);
    c.run(2 * BEAT);
    let is_ack = |m: &Message| matches!(m.body, Body::AppendResp { .. });
    let (mut acks, mut appends) = (0, 0);
    c.propose(1, "x").unwrap();
    loop {
        acks += c.wire.iter().filter(|m| is_ack(m)).count();
        appends += c.wire.iter().filter(|m| matches!(m.body, Body::Append(_))).count();
        if c.deliver(|_| true) == 0 {
            break;
        }
    }
    assert_eq!((appends, acks), (4, 2), "an entry and its commit to two peers");
    let (_, index) = c.propose(1, "its ack is lost").unwrap();
    c.deliver(|_| true);
    assert_eq!(c.drop_messages(|m| is_ack(m) && m.from == member(2)), 1);
    c.stabilize();
    assert!(c.status(1).commit == index && c.nodes[&1].progress(2).matched < index);
    c.run(2 * BEAT);
    assert_eq!(c.nodes[&1].progress(2).matched, index);
    // Probed, it answers too: a leader that does not know it sends nothing but probes.
    c.with_core(1, |core, _| core.on_unreachable(member(2)));
    let (_, index) = c.propose(1, "probed").unwrap();
    c.run(3 * BEAT);
    let peer = c.nodes[&1].progress(2);
    assert_eq!((peer.state, peer.matched), (PeerState::Replicate, index));
}
