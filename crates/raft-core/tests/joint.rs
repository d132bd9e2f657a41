//! Joint memberships, replaced lives, promotion, compare-and-set.

mod common;

use common::disk::Disk;
use common::*;
use refloat_raft_core::*;
use refloat_types::*;

fn several(steps: &[ConfStep], transition: Transition) -> ConfChange {
    ConfChange::Several { steps: steps.to_vec(), transition }
}

fn join(c: &mut Cluster, m: Member, initial: ConfState) {
    c.add(settings(m), Disk::empty(initial));
}

fn is_change(payload: &[u8]) -> Option<ConfChange> {
    ConfChange::decode(payload).ok()
}

/// The changes that a node applied since its start.
fn changes(c: &Cluster, node: u64) -> Vec<ConfChange> {
    let configs = c.nodes[&node].applied.iter().filter(|e| e.kind == EntryKind::Config);
    configs.filter_map(|e| is_change(&e.payload)).collect()
}

/// Voters 1, 2, 3 become 1, 4, 5.
fn swap() -> Vec<ConfStep> {
    vec![
        ConfStep::AddVoter(member(4)),
        ConfStep::AddVoter(member(5)),
        ConfStep::Remove(member(2)),
        ConfStep::Remove(member(3)),
    ]
}

fn three_and_two_joiners() -> Cluster {
    let mut c = Cluster::of(3);
    for node in [4, 5] {
        join(&mut c, member(node), conf(1..=3));
    }
    c.elect(1);
    c.run(2 * BEAT);
    c
}

#[test]
fn m01_the_leader_dies_in_every_phase_of_a_joint_change_and_it_is_left_exactly_once() {
    let (mut done, mut undone, mut phases) = (0, 0, 0);
    for (deliveries, sent_is_lost) in (0..).flat_map(|n| [(n, false), (n, true)]) {
        let mut c = three_and_two_joiners();
        c.change(1, several(&swap(), Transition::Auto)).unwrap();
        let mut count = 0;
        while count < deliveries && !c.wire.is_empty() {
            let message = c.wire.remove(0);
            c.deliver_one(message);
            count += 1;
        }
        if count < deliveries {
            break;
        }
        phases += 1;
        c.crash(1);
        if sent_is_lost {
            c.wire.clear();
        }
        c.run(8 * E);
        let leader = c.leader().unwrap_or_else(|| panic!("no leader after {deliveries}"));
        let before = c.status(leader).commit;
        c.propose(leader, "go on").unwrap();
        c.run(2 * BEAT);
        assert!(c.status(leader).commit > before);
        c.restart(1);
        c.run(8 * E);
        let leader = c.leader().unwrap();
        let conf_now = c.status(leader).conf;
        assert!(!conf_now.is_joint(), "after {deliveries}: {conf_now:?}");
        let applied = changes(&c, leader);
        let left = applied.iter().filter(|change| **change == ConfChange::Leave).count();
        if conf_now == conf([1, 4, 5]) {
            assert_eq!((applied.len(), left), (2, 1), "after {deliveries}");
            done += 1;
        } else {
            assert_eq!((conf_now, applied.len()), (conf(1..=3), 0));
            undone += 1;
        }
    }
    assert!(done > 10 && undone > 0, "{phases} phases, {done} done, {undone} undone");
}

#[test]
fn m01_a_leave_on_its_way_is_not_proposed_again() {
    let mut c = three_and_two_joiners();
    c.auto.apply = false;
    c.change(1, several(&swap(), Transition::Auto)).unwrap();
    c.propose(1, "behind it").unwrap();
    while c.deliver(|_| true) > 0 {}
    c.apply(1, 1);
    c.apply(1, 1);
    for _ in 0..5 {
        c.now = c.now.after(BEAT);
        c.with_core(1, Core::tick);
    }
    let leave = ConfChange::Leave.encode();
    let leaves = c.nodes[&1].memory.entries.values().filter(|e| e.payload == leave).count();
    assert_eq!(leaves, 1);
}

#[test]
fn m01_an_explicit_joint_membership_waits_for_its_leave_and_needs_both_halves() {
    let mut c = three_and_two_joiners();
    c.change(1, several(&swap(), Transition::Explicit)).unwrap();
    c.run(5 * BEAT);
    assert!(c.status(1).conf.is_joint());
    let refused = c.change(1, ConfChange::AddLearner(member(6)));
    assert_eq!(refused, Err(ProposeError::ConfChange(ConfChangeError::Joint)));
    // The new half alone commits nothing, nor does the old.
    for dead in [[2, 3], [4, 5]] {
        dead.iter().for_each(|n| c.crash(*n));
        c.propose(1, "x").unwrap();
        c.stabilize();
        assert!(c.status(1).commit < c.status(1).last.index);
        dead.iter().for_each(|n| c.restart(*n));
        c.run(3 * BEAT);
        assert_eq!(c.status(1).commit, c.status(1).last.index);
    }
    c.change(1, ConfChange::Leave).unwrap();
    c.run(3 * BEAT);
    assert_eq!(c.status(1).conf, conf([1, 4, 5]));
    let again = c.change(1, ConfChange::Leave);
    assert_eq!(again, Err(ProposeError::ConfChange(ConfChangeError::NotJoint)));
}

#[test]
fn m01_a_hand_over_postpones_the_leave_and_one_to_a_removed_voter_ends() {
    for (target, removed) in [(3, 2), (3, 3)] {
        let mut c = three_and_two_joiners();
        c.crash(3);
        let steps = [ConfStep::AddVoter(member(4)), ConfStep::Remove(member(removed))];
        c.change(1, several(&steps, Transition::Auto)).unwrap();
        let now = c.now;
        c.node(1).core().transfer_leader(now, NodeId(target)).unwrap();
        c.run(5 * BEAT);
        assert_eq!(c.status(1).transfer.is_some(), target != removed);
        assert_eq!(c.status(1).conf.is_joint(), target != removed);
        c.run(E);
        assert!(!c.status(1).conf.is_joint());
        assert_eq!(changes(&c, 1).len(), 2);
    }
}

#[test]
fn m02_a_leader_that_is_removed_through_a_joint_change_leads_until_it_is_left() {
    let mut c = three_and_two_joiners();
    let steps = [ConfStep::Remove(member(1)), ConfStep::AddVoter(member(4))];
    c.change(1, several(&steps, Transition::Auto)).unwrap();
    c.stabilize();
    assert_eq!(c.status(1).role, Role::Follower);
    c.run(5 * E);
    let leader = c.leader().expect("the others go on");
    assert_eq!(c.status(leader).conf, conf([2, 3, 4]));
}

#[test]
fn m11_a_change_of_a_membership_that_is_not_the_expected_is_refused() {
    let mut c = Cluster::of(3);
    c.elect(1);
    let seen = c.status(1).conf_id;
    assert_eq!(seen, ConfId::of(&conf(1..=3)));
    let change_if = |c: &mut Cluster, expected, change: ConfChange| {
        c.with_core(1, |core, now| core.propose_conf_change_if(now, expected, change))
    };
    change_if(&mut c, seen, ConfChange::AddLearner(member(4))).unwrap();
    c.stabilize();
    let last = c.status(1).last;
    let found = c.status(1).conf_id;
    let stale = ConfChangeError::Stale { expected: seen, found };
    let refused = change_if(&mut c, seen, ConfChange::AddLearner(member(5)));
    assert_eq!(refused, Err(ProposeError::ConfChange(stale)));
    assert_eq!(c.status(1).last, last, "a refusal leaves no entry");
    // The other life of a member is another membership.
    let other = ConfState::of_voters([member(1), member(2), life(3, 1)]);
    assert_ne!(ConfId::of(&other), seen);
    change_if(&mut c, found, ConfChange::AddLearner(member(5))).unwrap();
}

#[test]
fn m10_a_learner_is_promoted_only_when_it_holds_what_is_required() {
    let mut c = Cluster::of(2);
    c.elect(1);
    c.change(1, ConfChange::AddLearner(member(3))).unwrap();
    c.stabilize();
    let required = c.status(1).commit;
    let promote =
        |c: &mut Cluster| c.with_core(1, |core, now| core.promote(now, member(3), required));
    let refused = promote(&mut c).unwrap_err();
    let behind = ConfChangeError::NotCaughtUp { learner: member(3), matched: Index(0), required };
    assert_eq!(refused, ProposeError::ConfChange(behind));
    assert!(refused.is_retryable());
    join(&mut c, member(3), conf(1..=2));
    c.run(5 * BEAT);
    promote(&mut c).unwrap();
    c.stabilize();
    assert_eq!(c.status(1).conf, conf(1..=3));
    let no_learner = ConfChangeError::NotLearner(member(3));
    assert_eq!(promote(&mut c), Err(ProposeError::ConfChange(no_learner)));
}

/// Loses everything of a node, which comes back as its next life.
fn wipe(c: &mut Cluster, node: u64, number: u128) {
    let initial = c.nodes[&node].disk.base_conf.clone();
    let mut config = c.nodes[&node].config.clone();
    config.me = life(node, number);
    c.add(config, Disk::empty(initial));
}

fn rejoin(c: &mut Cluster, leader: u64, node: u64, number: u128) {
    let old = c.status(leader).conf.member(NodeId(node)).expect("a member");
    c.with_core(leader, |core, now| core.on_not_me(now, old));
    c.change(leader, ConfChange::replace(old, life(node, number))).unwrap();
    c.run(5 * BEAT);
    let required = c.status(leader).commit;
    c.with_core(leader, |core, now| core.promote(now, life(node, number), required)).unwrap();
    c.run(5 * BEAT);
    assert!(c.status(leader).conf.voters.contains(&life(node, number)));
}

#[test]
fn m06_of_five_a_wiped_voter_never_votes_twice_in_one_term() {
    let mut c = Cluster::with(5, |config| {
        config.pre_vote = false;
        config.check_quorum = false;
    });
    c.elect(3);
    // Nodes 1 and 2 campaign in term 2, each with one voter more. Both need node 5.
    c.with_core(1, Core::campaign);
    c.with_core(2, Core::campaign);
    let asks = |m: &Message| matches!(m.body, Body::Vote { .. });
    for (candidate, voter) in [(1, 3), (1, 5), (2, 4)] {
        c.deliver(|m| asks(m) && m.from == member(candidate) && m.to == member(voter));
    }
    let promise = |m: &Message| !asks(m) && m.from == member(5);
    let delayed: Vec<Message> = c.wire.iter().filter(|m| promise(m)).cloned().collect();
    assert_eq!(
        delayed[..],
        [Message { body: Body::VoteResp { granted: true }, ..delayed[0].clone() }]
    );
    c.drop_messages(promise);
    // Node 5 forgets what it promised, and is back with all that was committed.
    wipe(&mut c, 5, 1);
    let append = Append {
        prev: EntryId::ZERO,
        commit: Index(1),
        entries: c.nodes[&3].disk.range(Index(1), Index(1)),
    };
    let (from, to) = (member(3), life(5, 1));
    c.deliver_one(Message { from, to, group: GROUP, term: Term(1), body: Body::Append(append) });
    assert_eq!(c.status(5).last.index, Index(1));
    c.deliver(|m| m.from.node.0 == 2 || m.to.node.0 == 2);
    c.deliver(|m| m.to.node.0 == 2);
    for vote in delayed {
        c.deliver_one(vote);
    }
    c.deliver(|m| m.to.node.0 == 1);
    // The checks of every step: no second leader. And the old life's vote still counts, once.
    assert_eq!((c.status(1).role, c.status(1).term), (Role::Leader, Term(2)));
}

#[test]
fn m06_a_wiped_voters_delayed_old_vote_makes_no_second_leader_and_loses_no_commit() {
    let mut c = Cluster::with(5, |config| {
        config.pre_vote = false;
        config.check_quorum = false;
    });
    c.elect(1);
    // Node 4 asks for votes in term 2; 3 and 5 give theirs, that of 5 stays on the way.
    c.now = c.now.after(3 * E);
    c.with_core(4, Core::campaign);
    c.deliver(|m| matches!(m.body, Body::Vote { .. }) && [3, 5].contains(&m.to.node.0));
    c.deliver(|m| m.from.node.0 == 3);
    let votes: Vec<Message> = c.wire.iter().filter(|m| m.from.node.0 == 5).cloned().collect();
    assert_eq!(votes.len(), 1);
    c.wire.clear();
    // Nodes 1, 2, 5 go on in term 3 and commit what 3 and 4 lack.
    let cut_off = |m: &Message| [3, 4].contains(&m.from.node.0) || [3, 4].contains(&m.to.node.0);
    c.now = c.now.after(BEAT);
    c.with_core(1, Core::tick);
    let settle = |c: &mut Cluster| {
        for _ in 0..20 {
            c.drop_messages(cut_off);
            c.deliver(|_| true);
        }
    };
    settle(&mut c);
    assert_eq!(c.status(1).role, Role::Follower, "node 5 told it of term 2");
    c.with_core(1, Core::campaign);
    settle(&mut c);
    assert_eq!((c.status(1).role, c.status(1).term), (Role::Leader, Term(3)));
    c.propose(1, "committed by 1, 2 and 5").unwrap();
    settle(&mut c);
    let kept = c.status(1).commit;
    assert_eq!(kept, c.status(1).last.index);
    // Node 5 loses its disk and comes back as a new life, with the help of 1, 2 and 3.
    wipe(&mut c, 5, 1);
    let lost_4 = |m: &Message| m.from.node.0 == 4 || m.to.node.0 == 4;
    let old = member(5);
    c.with_core(1, |core, now| core.on_not_me(now, old));
    c.change(1, ConfChange::replace(old, life(5, 1))).unwrap();
    let pump = |c: &mut Cluster| {
        for _ in 0..8 {
            c.now = c.now.after(BEAT);
            c.with_core(1, Core::tick);
            for _ in 0..10 {
                c.drop_messages(lost_4);
                c.deliver(|_| true);
            }
        }
    };
    pump(&mut c);
    let promote = |core: &mut Core, now| core.promote(now, life(5, 1), kept);
    c.with_core(1, promote).unwrap();
    pump(&mut c);
    assert!(c.status(1).conf.voters.contains(&life(5, 1)));
    // Now the old vote arrives, twice. Term 2 may have its one leader; it commits nothing, since
    // no ack of the old life comes, and nobody else is left in its term.
    for vote in votes.iter().chain(&votes) {
        c.deliver_one(vote.clone());
    }
    assert_eq!((c.status(4).role, c.status(4).term), (Role::Leader, Term(2)));
    c.propose(4, "never committed").unwrap();
    let body = Body::AppendResp { matched: c.status(4).last };
    let ghost = Message { from: life(5, 1), to: member(4), group: GROUP, term: Term(2), body };
    c.deliver_one(ghost);
    assert_eq!(c.status(4).commit, Index(1));
    // In the new membership the old life is nobody.
    let vote = Body::VoteResp { granted: true };
    c.deliver_one(Message { from: old, to: member(1), group: GROUP, term: Term(3), body: vote });
    c.run(5 * E);
    let leader = c.leader().unwrap();
    assert!(c.status(leader).term >= Term(3));
    for node in 1..=5 {
        assert!(c.status(node).commit >= kept);
        assert_eq!(c.nodes[&node].disk.id(kept), c.nodes[&leader].disk.id(kept));
    }
}

#[test]
fn s11_a_wiped_follower_returns_as_a_new_life_while_the_leader_lives() {
    for compacted in [false, true] {
        let mut c = Cluster::of(3);
        c.elect(1);
        for text in ["a", "b", "c"] {
            c.propose(1, text).unwrap();
        }
        c.run(2 * BEAT);
        if compacted {
            c.compact(1);
        }
        wipe(&mut c, 3, 1);
        let now = c.now;
        let beat = Body::Heartbeat { commit: Index(4), round: 0 };
        let old =
            Message { from: member(1), to: member(3), group: GROUP, term: Term(1), body: beat };
        let refused = c.node(3).core().step(now, old);
        assert_eq!(refused, Err(StepError::NotMe { group: GROUP, me: life(3, 1) }));
        // S12 is the turn without a snapshot: the log still starts at the first entry.
        rejoin(&mut c, 1, 3, 1);
        assert_eq!(c.status(3).commit, c.status(1).commit);
        c.crash(2);
        c.propose(1, "with the new life").unwrap();
        c.stabilize();
        assert_eq!(c.status(1).commit, c.status(1).last.index);
    }
}
