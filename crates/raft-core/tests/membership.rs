//! Scenarios of membership, identity, transfer, rights and reads.

mod common;

use common::disk::Disk;
use common::*;
use refloat_raft_core::*;
use refloat_types::*;

fn join(c: &mut Cluster, node: u64, initial: ConfState) {
    c.add(settings(member(node)), Disk::empty(initial));
}

#[test]
fn c17_no_change_before_an_entry_of_the_own_term_and_the_previous_change_are_applied() {
    let mut c = Cluster::of(3);
    c.auto.apply = false;
    c.now = c.now.after(2 * E);
    c.with_core(1, Core::campaign);
    while c.deliver(|_| true) > 0 {}
    let add = ConfChange::AddVoter(member(4));
    assert_eq!((c.status(1).commit, c.status(1).applied), (Index(1), Index(0)));
    let early = ProposeError::ConfChangeTooEarly { until: Index(1) };
    assert_eq!(c.change(1, add), Err(early.clone()));
    assert!(early.is_retryable());
    assert_eq!(c.status(1).last.index, Index(1), "a refusal leaves no entry");
    c.apply(1, 9);
    let id = c.change(1, add).unwrap();
    while c.deliver(|_| true) > 0 {}
    assert_eq!(c.status(1).commit, id.index);
    let remove = ConfChange::Remove(member(3));
    let pending = ProposeError::ConfChangeTooEarly { until: id.index };
    assert_eq!(c.change(1, remove), Err(pending));
    assert_eq!(c.status(1).conf, conf(1..=3), "it takes effect when applied");
    c.apply(1, 9);
    assert_eq!(c.status(1).conf, conf(1..=4));
    c.change(1, remove).unwrap();
}

#[test]
fn m11_a_change_that_does_not_fit_is_an_error_and_leaves_no_entry() {
    let mut c = Cluster::of(2);
    c.elect(1);
    let last = c.status(1).last;
    let refused = |error| Err(ProposeError::ConfChange(error));
    let (two, three) = (member(2), member(3));
    let other_life = life(2, 9);
    for (change, error) in [
        (ConfChange::AddVoter(two), ConfChangeError::NodeIdInUse(two)),
        (ConfChange::AddLearner(other_life), ConfChangeError::NodeIdInUse(two)),
        (ConfChange::Promote(two), ConfChangeError::NotLearner(two)),
        (ConfChange::Remove(three), ConfChangeError::NotMember(three)),
        (ConfChange::Remove(other_life), ConfChangeError::NotMember(other_life)),
    ] {
        assert_eq!(c.change(1, change), refused(error));
    }
    assert_eq!(c.status(1).last, last);
    let one = Cluster::of(1);
    let mut c = one;
    c.elect(1);
    let last_voter = ConfChangeError::LastVoter(member(1));
    assert_eq!(c.change(1, ConfChange::Remove(member(1))), refused(last_voter));
}

#[test]
fn a_learner_receives_everything_decides_nothing_and_is_promoted() {
    let mut c = Cluster::of(2);
    c.elect(1);
    c.change(1, ConfChange::AddLearner(member(3))).unwrap();
    join(&mut c, 3, conf(1..=2));
    c.run(5 * BEAT);
    assert_eq!(c.status(3).commit, c.status(1).commit);
    // Its ack commits nothing.
    c.propose(1, "x").unwrap();
    c.drop_messages(|m| m.to.node.0 == 2);
    c.deliver(|m| m.to.node.0 == 3);
    c.deliver(|m| m.from.node.0 == 3);
    assert!(c.status(1).commit < c.status(1).last.index);
    // It never campaigns.
    c.now = c.now.after(5 * E);
    c.with_core(3, Core::tick);
    assert_eq!(c.status(3).role, Role::Follower);
    c.wire.clear();
    c.with_core(1, Core::tick);
    c.elect(1);
    c.change(1, ConfChange::Promote(member(3))).unwrap();
    c.stabilize();
    assert_eq!(c.status(3).conf, conf(1..=3));
    c.crash(2);
    c.propose(1, "with the new voter").unwrap();
    c.stabilize();
    assert_eq!(c.status(1).commit, c.status(1).last.index);
}

#[test]
fn m02_a_removed_leader_steps_down_and_its_shouting_changes_nothing() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.change(1, ConfChange::Remove(member(1))).unwrap();
    c.stabilize();
    assert_eq!(c.status(1).role, Role::Follower);
    c.run(5 * E);
    let leader = c.leader().expect("the others go on");
    let term = c.status(leader).term;
    c.with_core(1, Core::campaign);
    c.run(3 * E);
    assert_eq!((c.leader(), c.status(leader).term), (Some(leader), term));
}

#[test]
fn m03_an_overwritten_change_never_took_effect() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.change(1, ConfChange::Remove(member(3))).unwrap();
    c.drop_messages(|_| true);
    c.crash(1);
    c.elect(2);
    c.propose(2, "x").unwrap();
    c.stabilize();
    c.restart(1);
    c.run(3 * E);
    assert_eq!(c.status(1).conf, conf(1..=3));
    assert_eq!(c.status(1).last, c.status(2).last);
    let leader = c.leader().unwrap();
    c.change(leader, ConfChange::AddLearner(member(4))).unwrap();
}

#[test]
fn m04_acks_and_votes_of_another_life_do_not_count() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.propose(1, "x").unwrap();
    let (term, last) = (c.status(1).term, c.status(1).last);
    c.wire.clear();
    let body = Body::AppendResp { matched: last };
    let ghost = Message { from: life(2, 1), to: member(1), group: GROUP, term, body };
    c.deliver_one(ghost);
    assert!(c.status(1).commit < last.index);
    let body = Body::AppendResp { matched: last };
    c.deliver_one(Message { from: member(2), to: member(1), group: GROUP, term, body });
    assert_eq!(c.status(1).commit, last.index);
}

#[test]
fn m04_votes_of_another_life_do_not_elect() {
    let mut c = Cluster::with(3, |config| config.pre_vote = false);
    c.now = c.now.after(2 * E);
    c.with_core(1, Core::campaign);
    let term = c.status(1).term;
    let yes = |from| {
        let body = Body::VoteResp { granted: true };
        Message { from, to: member(1), group: GROUP, term, body }
    };
    c.deliver_one(yes(life(2, 1)));
    c.deliver_one(yes(member(9)));
    assert_eq!(c.status(1).role, Role::Candidate);
    c.deliver_one(yes(member(2)));
    assert_eq!(c.status(1).role, Role::Leader);
}

#[test]
fn m05_a_learner_that_was_promoted_without_knowing_votes_and_campaigns() {
    // Node 1 alone adds node 2. Both hold the change, only node 1 knows that it is committed,
    // and only node 2 kept the last entry: it must campaign, node 1 cannot win.
    let add = ConfChange::AddVoter(member(2)).encode();
    let id = EntryId::new(Term(1), Index(2));
    let change = Entry::new(id, EntryKind::Config, add);
    let mut c = Cluster::empty();
    let short = vec![entry(1, 1), change];
    let mut long = short.clone();
    long.push(entry(2, 3));
    c.add(settings(member(1)), Disk::with_log(conf([1]), 2, short));
    c.add(settings(member(2)), Disk::with_log(conf([1]), 2, long));
    let mut knows = c.nodes[&1].disk.restored();
    (knows.conf, knows.commit, knows.applied) = (conf(1..=2), Index(2), Index(2));
    knows.configs.clear();
    c.crash(1);
    c.restart_with(1, knows);
    c.run(5 * E);
    assert_eq!(c.leader(), Some(2));
    assert_eq!(c.status(1).last, c.status(2).last);
    assert_eq!(c.status(2).conf, conf(1..=2));
}

#[test]
fn m12_a_historical_membership_is_never_used_to_campaign() {
    // Two changes are in the log; the second proves that the first is committed, although the
    // restart remembers no commit index. Before both are applied nobody asks for votes.
    let changes = [ConfChange::AddVoter(member(4)), ConfChange::AddVoter(member(5))];
    let entries = changes.iter().zip([1, 2]).map(|(change, index)| {
        let id = EntryId::new(Term(1), Index(index));
        Entry::new(id, EntryKind::Config, change.encode())
    });
    let mut c = Cluster::empty();
    c.auto.apply = false;
    c.add(settings(member(1)), Disk::with_log(conf(1..=3), 1, entries.collect()));
    assert_eq!(c.status(1).commit, Index(1));
    c.now = c.now.after(2 * E);
    c.with_core(1, Core::campaign);
    assert!(c.wire.is_empty(), "a committed change is unapplied");
    c.apply(1, 1);
    c.now = c.now.after(2 * E);
    c.with_core(1, Core::campaign);
    let asked: Vec<u64> = c.wire.iter().map(|m| m.to.node.0).collect();
    assert_eq!(asked, [2, 3, 4]);
}

#[test]
fn m15_an_old_membership_does_not_refuse_a_new_life() {
    let mut c = Cluster::of(3);
    c.elect(1);
    let term = c.status(2).term.next();
    let from = life(3, 1);
    let last = EntryId::new(Term(9), Index(9));
    let body = Body::Vote { last, transfer: true };
    c.deliver_one(Message { from, to: member(2), group: GROUP, term, body });
    assert_eq!(c.status(2).vote, Some(from));
    let body = Body::Heartbeat { commit: Index(0), round: 0 };
    c.deliver_one(Message { from, to: member(2), group: GROUP, term, body });
    assert_eq!(c.status(2).leader, Some(from));
}

#[test]
fn t02_what_is_not_meant_for_this_life_or_epoch_is_refused() {
    let mut c = Cluster::of(3);
    let good = Message {
        from: member(2),
        to: member(1),
        group: GROUP,
        term: Term(1),
        body: Body::Heartbeat { commit: Index(0), round: 0 },
    };
    let before = c.status(1);
    let now = c.now;
    for bad in [
        Message { to: life(1, 1), ..good.clone() },
        Message { to: member(2), ..good.clone() },
        Message { group: GroupKey::new(GROUP.id, Epoch(2)), ..good.clone() },
        Message { group: GroupKey::new(GroupId(1), GROUP.epoch), ..good.clone() },
    ] {
        let error = c.node(1).core().step(now, bad).unwrap_err();
        assert_eq!(error, StepError::NotMe { group: GROUP, me: member(1) });
    }
    assert_eq!(c.status(1), before);
    c.node(1).core().step(now, good).unwrap();
}

#[test]
fn transfer_brings_the_target_up_to_date_first() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.propose(1, "x").unwrap();
    let now = c.now;
    c.node(1).core().transfer_leader(now, NodeId(2)).unwrap();
    c.follow(1);
    assert!(!c.wire.iter().any(|m| m.body == Body::TimeoutNow), "it lacks an entry");
    assert_eq!(c.propose(1, "y"), Err(ProposeError::Dropped));
    c.stabilize();
    assert_eq!(c.leader(), Some(2));
    assert_eq!(c.status(2).term, Term(2));
}

#[test]
fn transfer_to_a_dead_target_is_given_up() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.crash(2);
    let transfer = |core: &mut Core, now| core.transfer_leader(now, NodeId(2));
    c.with_core(1, transfer).unwrap();
    let again = c.with_core(1, transfer);
    assert_eq!(again, Err(TransferError::InProgress(member(2))));
    c.run(E + BEAT);
    assert_eq!(c.leader(), Some(1));
    c.propose(1, "x").unwrap();
    let own = c.with_core(1, |core, now| core.transfer_leader(now, NodeId(1)));
    assert_eq!(own, Err(TransferError::IsLeader));
    let nobody = c.with_core(1, |core, now| core.transfer_leader(now, NodeId(8)));
    assert_eq!(nobody, Err(TransferError::NotVoter(NodeId(8))));
}

#[test]
fn r01_no_read_before_the_own_term_is_committed() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.propose(1, "x").unwrap();
    c.stabilize();
    c.now = c.now.after(2 * E);
    c.with_core(1, Core::tick);
    c.with_core(2, Core::campaign);
    while c.deliver(|m| !matches!(m.body, Body::AppendResp { .. })) > 0 {}
    assert_eq!(c.status(2).role, Role::Leader);
    let known = c.status(2).commit;
    c.read(2, 1).unwrap();
    while c.deliver(|m| !matches!(m.body, Body::AppendResp { .. })) > 0 {}
    assert!(c.node(2).reads.is_empty(), "its commit index {known} may be behind");
    c.stabilize();
    assert_eq!(c.nodes[&2].reads, [ReadState { id: ReadId(1), index: c.status(2).commit }]);
}

#[test]
fn r01_one_round_serves_all_reads_that_wait() {
    let mut c = Cluster::of(3);
    c.elect(1);
    let now = c.now;
    for id in 0..100 {
        c.node(1).core().read_index(now, ReadId(id)).unwrap();
    }
    c.follow(1);
    assert_eq!(c.wire.len(), 2, "one beat per peer");
    assert!(c.node(1).reads.is_empty());
    c.deliver(|m| m.to.node.0 == 2);
    c.deliver(|m| m.to.node.0 == 1);
    assert_eq!(c.node(1).reads.len(), 100);
}

#[test]
fn r01_a_late_answer_to_an_earlier_run_is_no_answer() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.run(2 * BEAT);
    c.read(2, 1).unwrap();
    c.deliver(|m| m.to.node.0 == 1);
    c.deliver(|m| matches!(m.body, Body::Heartbeat { .. }));
    c.deliver(|m| matches!(m.body, Body::HeartbeatResp { .. }));
    let late =
        c.wire.iter().find(|m| matches!(m.body, Body::ReadIndexResp { .. })).unwrap().clone();
    c.wire.clear();
    c.crash(2);
    c.restart(2);
    c.propose(1, "newer").unwrap();
    c.run(2 * BEAT);
    c.read(2, 2).unwrap();
    c.deliver_one(late);
    assert!(c.node(2).reads.is_empty(), "the same count, another run");
    c.stabilize();
    assert_eq!(c.nodes[&2].reads, [ReadState { id: ReadId(2), index: c.status(1).commit }]);
}

#[test]
fn r03_a_follower_reads_through_its_leader_and_fails_with_it() {
    let mut c = Cluster::of(3);
    assert_eq!(c.read(2, 0), Err(ReadError::NoLeader));
    c.elect(1);
    let now = c.now;
    for id in [1, 2, 3] {
        c.node(2).core().read_index(now, ReadId(id)).unwrap();
    }
    c.follow(2);
    assert_eq!(c.wire.len(), 1, "one question for a turn's reads");
    c.stabilize();
    assert_eq!(c.node(2).reads.len(), 3);
    c.read(2, 4).unwrap();
    c.wire.clear();
    c.crash(1);
    c.run(3 * E);
    assert_eq!(c.node(2).failed_reads, [ReadId(4)]);
}

#[test]
fn r03_a_follower_reads_fail_at_once_when_another_leads() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.read(2, 1).unwrap();
    c.wire.clear();
    let body = Body::Heartbeat { commit: Index(0), round: 0 };
    let (from, to, term) = (member(3), member(2), c.status(2).term.next());
    c.deliver_one(Message { from, to, group: GROUP, term, body });
    assert_eq!(c.node(2).failed_reads, [ReadId(1)]);
}

#[test]
fn r01_a_read_behind_a_deposed_leader_fails() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.read(1, 1).unwrap();
    let beats: Vec<Message> = c.wire.drain(..).collect();
    c.now = c.now.after(2 * E);
    c.with_core(2, Core::campaign);
    while c.deliver(|m| m.from.node.0 != 1 && m.to.node.0 != 1) > 0 {}
    assert_eq!(c.status(2).role, Role::Leader);
    c.propose(2, "newer").unwrap();
    for beat in beats {
        c.deliver_one(beat);
    }
    c.stabilize();
    assert!(c.node(1).reads.is_empty());
    assert_eq!(c.node(1).failed_reads, [ReadId(1)]);
}

fn restored(terms: &[u64], rights: Rights) -> Restored {
    let disk = Disk::with_log(conf(1..=3), *terms.last().unwrap(), log_of(terms));
    Restored { rights, ..disk.restored() }
}

#[test]
fn rights_a_replica_that_may_not_vote_answers_nobody_and_follows() {
    let mut c = Cluster::of(3);
    c.crash(3);
    let nothing = Restored { rights: Rights::NONE, ..Restored::empty(conf(1..=3)) };
    c.restart_with(3, nothing);
    c.crash(2);
    c.now = c.now.after(2 * E);
    c.with_core(1, Core::campaign);
    c.stabilize();
    assert_ne!(c.status(1).role, Role::Leader, "the ghost of node 3 elects nobody");
    c.restart(2);
    c.elect(1);
    c.crash(2);
    c.propose(1, "x").unwrap();
    c.stabilize();
    assert!(c.status(1).commit < c.status(1).last.index, "nor does it commit");
    assert_eq!(c.node(1).progress(3).matched, Index(0));
    c.now = c.now.after(9 * E);
    c.with_core(3, Core::tick);
    assert_eq!(c.status(3).role, Role::Follower);
}

#[test]
fn rights_without_the_right_to_vote_no_vote_and_no_pre_vote_is_answered() {
    let mut c = Cluster::of(2);
    let nothing = Restored { rights: Rights::NONE, ..Restored::empty(conf(1..=2)) };
    c.restart_with(1, nothing);
    let last = EntryId::new(Term(1), Index(9));
    let ask = |term, body| Message { from: member(2), to: member(1), group: GROUP, term, body };
    c.deliver_one(ask(Term(1), Body::PreVote { campaign: Term(2), last }));
    c.deliver_one(ask(Term(2), Body::Vote { last, transfer: true }));
    c.deliver_one(ask(Term(1), Body::Vote { last, transfer: true }));
    assert_eq!((c.wire.len(), c.status(1).vote), (0, None));
    c.with_core(1, |core, now| core.set_rights(now, Rights::ALL));
    c.deliver_one(ask(Term(2), Body::Vote { last, transfer: true }));
    assert_eq!((c.wire.len(), c.status(1).vote), (1, Some(member(2))));
}

#[test]
fn rights_acks_stop_before_the_first_hole_until_it_is_filled() {
    let mut c = Cluster::of(3);
    let terms = [1, 1, 1, 1, 1, 1];
    for node in [1, 3] {
        c.crash(node);
        c.node(node).disk = Disk::with_log(conf(1..=3), 1, log_of(&terms));
        c.node(node).memory = c.nodes[&node].disk.clone();
    }
    c.restart(1);
    // Node 3 has holes at 3 and 5: it knows their terms, not their content.
    let rights = Rights { ack_up_to: Some(Index(2)), may_campaign: false, ..Rights::ALL };
    c.auto.apply = false;
    c.restart_with(3, restored(&terms, rights));
    for hole in [3, 5] {
        c.node(3).disk.entries.remove(&Index(hole));
        c.node(3).memory.entries.remove(&Index(hole));
    }
    c.crash(2);
    c.now = c.now.after(2 * E);
    c.with_core(1, Core::campaign);
    while c.deliver(|m| !matches!(m.body, Body::Append(_))) > 0 {}
    assert_eq!(c.status(1).role, Role::Leader, "it votes by plain comparison");
    c.deliver(|_| true);
    let reject = c.wire.iter().find(|m| matches!(m.body, Body::AppendReject { .. })).unwrap();
    let Body::AppendReject { hint, .. } = reject.body else { unreachable!() };
    assert_eq!(hint.index, Index(2), "what lies at or above a hole is refused");
    c.auto.apply = true;
    c.run(3 * BEAT);
    assert_eq!(c.node(3).core().rights().ack_up_to, None, "replication filled the holes");
    assert_eq!(c.status(1).commit, c.status(1).last.index);
    assert_eq!(c.node(3).disk.entries.len(), 7);
}

#[test]
fn restored_state_that_cannot_be_is_refused() {
    let good = restored(&[1, 1, 2], Rights::ALL);
    let new = |restored: Restored| Core::new(settings(member(1)), restored, Now(0)).map(|_| ());
    assert_eq!(new(good.clone()), Ok(()));
    let last = EntryId::new(Term(2), Index(4));
    let bad = [
        Restored { commit: Index(4), ..good.clone() },
        Restored { applied: Index(2), commit: Index(1), ..good.clone() },
        Restored { snapshot: EntryId::new(Term(1), Index(1)), ..good.clone() },
        Restored { terms: vec![], ..good.clone() },
        Restored { last: EntryId::new(Term(1), Index(3)), ..good.clone() },
        Restored { hard_state: HardState { term: Term(1), vote: None }, ..good.clone() },
        Restored { configs: vec![entry(1, 2)], ..good.clone() },
    ];
    for restored in bad {
        let error = new(restored.clone()).expect_err(&format!("{restored:?}"));
        assert!(error.to_string().starts_with("restore replica: "));
    }
    assert_eq!(new(Restored { last, ..good }), Ok(()));
}
