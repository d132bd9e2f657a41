//! Membership, identity and transfer.

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
    assert_eq!(c.change(1, add.clone()), Err(early.clone()));
    assert!(early.is_retryable());
    assert_eq!(c.status(1).last.index, Index(1), "a refusal leaves no entry");
    c.apply(1, 9);
    let id = c.change(1, add).unwrap();
    while c.deliver(|_| true) > 0 {}
    assert_eq!(c.status(1).commit, id.index);
    let remove = ConfChange::Remove(member(3));
    let pending = ProposeError::ConfChangeTooEarly { until: id.index };
    assert_eq!(c.change(1, remove.clone()), Err(pending));
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
    assert_eq!(c.change(1, ConfChange::Remove(member(1))), refused(ConfChangeError::NoVoters));
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

/// The change of a leader that removes itself, committed and applied there; what it said then is
/// lost.
fn removed(members: u64, down: &[u64]) -> Cluster {
    let mut c = Cluster::with(members, |config| config.check_quorum = false);
    c.elect(1);
    down.iter().for_each(|node| c.crash(*node));
    c.change(1, ConfChange::Remove(member(1))).unwrap();
    c.deliver(|m| m.from.node.0 == 1);
    c.deliver(|m| m.to.node.0 == 1);
    c.wire.clear();
    assert_eq!(c.status(1).conf, conf(2..=members));
    assert_eq!(c.status(2).conf, conf(1..=members), "it does not know yet");
    c
}

#[test]
fn m02_a_removed_leader_leads_on_until_those_that_stay_can_do_without_it() {
    let mut c = removed(2, &[]);
    assert_eq!(c.status(1).role, Role::Leader);
    assert_eq!(c.propose(1, "x"), Err(ProposeError::Dropped));
    // It says so again at its next beat, and is answered.
    c.now = c.now.after(BEAT);
    c.with_core(1, Core::tick);
    c.deliver(|m| m.to.node.0 == 2);
    assert_eq!(c.status(2).conf, conf(2..=2));
    assert_eq!(c.status(1).role, Role::Leader);
    c.deliver(|m| matches!(m.body, Body::HeartbeatResp { .. }));
    assert_eq!(c.status(1).role, Role::Follower);
    // It is gone for good at once.
    c.crash(1);
    c.stabilize();
    assert_eq!(c.status(2).role, Role::Leader, "it was told to campaign");
    c.propose(2, "alone").unwrap();
    c.stabilize();
    assert_eq!(c.status(2).commit, c.status(2).last.index);
}

#[test]
fn m02_a_removed_leader_waits_an_election_timeout_at_most() {
    let mut c = removed(3, &[3]);
    c.crash(2);
    let wake = c.node(1).core().wake_at().expect("it beats");
    assert!(wake <= c.now.after(BEAT));
    c.now = c.now.after(E - 1);
    c.with_core(1, |core, now| {
        core.tick(now);
    });
    assert_eq!(c.status(1).role, Role::Leader);
    c.now = c.now.after(1);
    c.with_core(1, Core::tick);
    assert_eq!(c.status(1).role, Role::Follower);
}

#[test]
fn m02_who_alone_knows_of_a_removal_takes_over_when_the_time_is_up() {
    let mut c = removed(4, &[4]);
    // 2 hears of it, 3 does not.
    for _ in 0..3 {
        c.now = c.now.after(BEAT);
        c.with_core(1, Core::tick);
        c.drop_messages(|m| {
            m.to.node.0 == 3 && matches!(m.body, Body::Heartbeat { .. } | Body::Append(_))
        });
        c.deliver(|m| m.to.node.0 == 2);
        c.deliver(|m| m.from.node.0 == 2);
    }
    assert_eq!((c.status(2).conf, c.status(3).conf), (conf(2..=4), conf(1..=4)));
    assert_eq!(c.status(1).role, Role::Leader);
    c.now = c.now.after(E);
    c.with_core(1, Core::tick);
    assert_eq!(c.status(1).role, Role::Follower);
    c.crash(1);
    c.stabilize();
    assert_eq!(c.status(2).role, Role::Leader);
    assert_eq!(c.status(3).conf, conf(2..=4));
}

#[test]
fn a_leader_that_becomes_a_learner_hands_over() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.change(1, ConfChange::Demote(member(1))).unwrap();
    c.stabilize();
    let leader = c.leader().expect("another one leads, and no time has passed");
    assert_ne!(leader, 1);
    c.propose(leader, "x").unwrap();
    c.stabilize();
    assert_eq!(c.status(1).commit, c.status(leader).commit, "it learns");
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
