//! What an operator sets and asks of groups: joint changes, expected memberships, ranks, leases,
//! forgotten leaders.

mod support;

use refloat_node::{
    Consistency, Input, JobLane, MemberChange, MemberStep, MemberTransition, MembershipId,
    RequestError, StopReason, Token, TransferFailure,
};
use refloat_types::{GroupId, Member, NodeId};
use support::Cluster;

fn member(cluster: &Cluster, node: u64) -> Member {
    cluster.nodes[&node].member()
}

fn membership(cluster: &Cluster, node: u64, group: u64) -> MembershipId {
    let status = cluster.nodes[&node].status();
    status.groups.iter().find(|g| g.group == group).expect("a group").membership
}

fn change(
    cluster: &mut Cluster,
    change: MemberChange,
    expected: Option<MembershipId>,
) -> Result<(), RequestError> {
    let leader = cluster.leader(1).expect("a leader");
    let group = GroupId(1);
    let token = cluster.input(leader, |to| Input::ChangeMembers { to, group, change, expected });
    cluster.answer(token).map(drop)
}

fn standing(cluster: &Cluster, at: u64) -> Vec<(u64, &'static str)> {
    cluster.members_of(at, 1).into_iter().map(|(node, _, standing)| (node, standing)).collect()
}

#[test]
fn m01_a_joint_change_passes_both_memberships_and_is_left_by_itself_or_when_asked() {
    for transition in [MemberTransition::Implicit, MemberTransition::Explicit] {
        let mut cluster = Cluster::formed(1);
        cluster.proposed(1, 1, "before").expect("applied");
        let leader = cluster.leader(1).expect("formed");
        let (a, b) = (1 + leader % 3, 1 + (leader + 1) % 3);
        let steps =
            vec![MemberStep::Demote(member(&cluster, a)), MemberStep::Demote(member(&cluster, b))];
        change(&mut cluster, MemberChange::Several { steps, transition }, None).expect("proposed");
        cluster.run_for(1_000);
        let alone = |c: &Cluster| {
            standing(c, leader).iter().filter(|(_, s)| *s == "voter").count() == 1
                && standing(c, leader).iter().filter(|(_, s)| *s == "learner").count() == 2
        };
        if transition == MemberTransition::Explicit {
            let halves = standing(&cluster, leader);
            assert_eq!(halves.iter().filter(|(_, s)| *s == "outgoing").count(), 2, "{halves:?}");
            change(&mut cluster, MemberChange::Leave, None).expect("proposed");
            cluster.run_for(500);
        }
        assert!(alone(&cluster), "{:?}", standing(&cluster, leader));
        cluster.proposed(leader, 1, "after").expect("applied");
        let text = cluster.read(a, 1, Consistency::Linearizable);
        assert_eq!(text, Ok("before\nafter".into()));
    }
}

#[test]
fn m11_a_change_of_another_membership_than_the_expected_is_refused() {
    let mut cluster = Cluster::formed(1);
    cluster.proposed(1, 1, "x").expect("applied");
    let leader = cluster.leader(1).expect("formed");
    let seen = membership(&cluster, leader, 1);
    assert_eq!(membership(&cluster, 1 + leader % 3, 1), seen, "the same name everywhere");
    let other = member(&cluster, 1 + leader % 3);
    change(&mut cluster, MemberChange::Demote(other), Some(seen)).expect("proposed");
    cluster.run_for(500);
    let third = member(&cluster, 1 + (leader + 1) % 3);
    let refused = change(&mut cluster, MemberChange::Demote(third), Some(seen));
    assert!(matches!(refused, Err(RequestError::Refused { .. })), "{refused:?}");
    assert!(standing(&cluster, leader).contains(&(third.node.0, "voter")));
    let now = membership(&cluster, leader, 1);
    assert_ne!(now, seen);
    change(&mut cluster, MemberChange::Promote(other), Some(now)).expect("proposed");
    cluster.run_for(500);
    assert_eq!(membership(&cluster, leader, 1), seen, "equal memberships have one name");
}

#[test]
fn a_node_of_a_lower_rank_leads_after_the_leader_died() {
    for ranked in [1, 2, 3] {
        let mut cluster = Cluster::new(1);
        for node in 1..=3 {
            cluster.config.rank = u32::from(node == ranked) * 3;
            cluster.start(node);
        }
        cluster.wait_for_leaders(1);
        let leader = cluster.leader(1).expect("formed");
        cluster.kill(leader);
        cluster.run_for(4_000);
        let next = cluster.leader(1).expect("a new one");
        assert!(next != ranked || leader == ranked, "{next} waits longer than others");
    }
}

fn leased() -> Cluster {
    let mut cluster = Cluster::new(1);
    cluster.config.lease_drift = Some(50_000);
    cluster.start_all();
    cluster.wait_for_leaders(1);
    cluster.proposed(1, 1, "a").expect("applied");
    cluster.run_for(500);
    cluster
}

#[test]
fn r02_reads_from_a_lease_ask_nobody_and_end_with_it() {
    let mut cluster = leased();
    let leader = cluster.leader(1).expect("formed");
    let sent = |c: &Cluster| c.nodes[&leader].counters().messages_sent;
    let before = sent(&cluster);
    for _ in 0..50 {
        let read = cluster.read(leader, 1, Consistency::Linearizable);
        assert_eq!(read, Ok("a".into()));
    }
    let rounds = sent(&cluster) - before;
    assert!(rounds < 25, "{rounds} messages for fifty reads");
    // Cut off, it serves no read that could miss what another leader acknowledged.
    let (a, b) = (1 + leader % 3, 1 + (leader + 1) % 3);
    cluster.partition(leader, a);
    cluster.partition(leader, b);
    assert!(cluster.run_until(10, |c| c.leader(1).is_some_and(|node| node != leader)));
    cluster.proposed(a, 1, "b").expect("applied");
    let late = cluster.read(leader, 1, Consistency::Linearizable);
    assert!(matches!(late, Err(RequestError::NoLeader { .. })), "{late:?}");
}

#[test]
fn r05_a_voter_that_restarts_inside_a_lease_elects_nobody() {
    let mut cluster = leased();
    let leader = cluster.leader(1).expect("formed");
    let (a, b) = (1 + leader % 3, 1 + (leader + 1) % 3);
    cluster.partition(leader, a);
    cluster.partition(leader, b);
    // The moment after its promise it starts anew, and would not know of it.
    cluster.kill(a);
    cluster.start(a);
    let term = |c: &Cluster| c.nodes[&b].status().groups.iter().map(|g| g.term).max();
    let before = term(&cluster);
    cluster.run_for(400);
    assert_eq!(term(&cluster), before, "within an election timeout nobody is elected");
    assert!(cluster.run_until(10, |c| c.leader(1).is_some_and(|node| node != leader)));
}

#[test]
fn a_follower_that_was_told_to_forget_its_leader_believes_the_next_beat() {
    let mut cluster = Cluster::formed(1);
    let leader = cluster.leader(1).expect("formed");
    let follower = 1 + leader % 3;
    let group = GroupId(1);
    let token = cluster.input(follower, |to| Input::ForgetLeader { to, group });
    cluster.answer(token).expect("done");
    // The next beat is believed again.
    cluster.run_for(500);
    cluster.proposed(follower, 1, "x").expect("applied");
    assert_eq!(cluster.leader(1), Some(leader));
    let unknown = cluster.input(follower, |to| Input::ForgetLeader { to, group: GroupId(77) });
    assert!(cluster.answer(unknown).is_err());
}

#[test]
fn a_node_that_stops_in_order_answers_first_what_is_under_way() {
    let mut cluster = Cluster::of(1, 1);
    cluster.start(1);
    cluster.wait_for_leaders(1);
    let token = cluster.propose(1, 1, "under way");
    cluster.input(1, |_| Input::Shutdown);
    cluster.answer(token).expect("applied before the end");
    assert!(cluster.run_until(5, |c| c.stops.contains_key(&1)));
    assert_eq!(cluster.stops[&1], StopReason::Shutdown);
}

#[test]
fn a_node_that_stops_in_order_waits_for_its_machines_within_a_bound() {
    for answers in [true, false] {
        let mut cluster = Cluster::formed(1);
        cluster.run_for(300);
        let leader = cluster.leader(1).expect("formed");
        let follower = 1 + leader % 3;
        // It leads nothing, and nobody waits for it.
        (0..=1).for_each(|group| lead_elsewhere(&mut cluster, follower, group));
        cluster.hold(follower, JobLane::Apply);
        cluster.proposed(1 + follower % 3, 1, "slow to apply there").expect("applied elsewhere");
        cluster.run_for(200);
        cluster.input(follower, |_| Input::Shutdown);
        cluster.run_for(200);
        assert!(!cluster.stops.contains_key(&follower), "its machine works");
        if answers {
            cluster.release(follower, JobLane::Apply);
        }
        let before = cluster.time().now;
        assert!(cluster.run_until(5, |c| c.stops.contains_key(&follower)));
        let took = cluster.time().now.since(before);
        assert_eq!(took < 100_000, answers, "{took} us");
    }
}

fn lead_elsewhere(cluster: &mut Cluster, node: u64, group: u64) {
    if cluster.leader(group) == Some(node) {
        let (group_id, target) = (GroupId(group), refloat_types::NodeId(1 + node % 3));
        let token = cluster.input(node, |to| Input::Transfer { to, group: group_id, target });
        cluster.answer(token).expect("under way");
        assert!(cluster.run_until(5, |c| c.leader(group).is_some_and(|leader| leader != node)));
    }
}

/// Timers that fire together fire late, but not by more than a beat.
#[test]
fn beats_that_are_shorter_than_the_grain_of_timers_come_in_time() {
    let mut cluster = Cluster::new(1);
    (cluster.config.election_timeout, cluster.config.heartbeat) = (20_000, 1_000);
    cluster.start_all();
    cluster.wait_for_leaders(1);
    cluster.run_for(300);
    let sent = |c: &Cluster| c.nodes.values().map(|n| n.counters().messages_sent).sum::<u64>();
    let before = sent(&cluster);
    cluster.run_for(1_000);
    // Two groups, two followers each: a beat and an answer.
    let beats = (sent(&cluster) - before) / 8;
    assert!(beats > 400, "{beats} beats in a second");
}

/// Asks a node to hand group 1 over.
fn transfer(cluster: &mut Cluster, asked: u64, target: u64) -> Token {
    let (group, target) = (GroupId(1), NodeId(target));
    cluster.input(asked, |to| Input::Transfer { to, group, target })
}

fn not_transferred(target: u64, why: TransferFailure) -> RequestError {
    RequestError::NotTransferred { group: GroupId(1), target: NodeId(target), why }
}

#[test]
fn a_transfer_is_answered_when_the_other_node_leads() {
    for _ in 0..3 {
        let mut cluster = Cluster::formed(1);
        let leader = cluster.leader(1).expect("formed");
        let target = 1 + leader % 3;
        // It lacks something yet: before it can lead it has to be brought up to date.
        cluster.hold(target, JobLane::Wal);
        let written = cluster.propose(leader, 1, "on its way");
        cluster.run_for(100);
        let token = transfer(&mut cluster, leader, target);
        cluster.run_for(100);
        assert_eq!(cluster.replies.get(&token), None, "node {target} cannot lead yet");
        cluster.release(target, JobLane::Wal);
        cluster.answer(token).expect("handed over");
        assert_eq!(cluster.leader(1), Some(target));
        let known = |node: u64| cluster.nodes[&node].status().groups[1].leader;
        assert_eq!(known(leader), Some(target), "who answers knows it");
        cluster.answer(written).expect("applied");
        cluster.proposed(leader, 1, "after").expect("applied");
    }
}

#[test]
fn a_transfer_that_does_not_succeed_says_why_in_time_and_the_leader_goes_on() {
    let mut cluster = Cluster::formed(1);
    let leader = cluster.leader(1).expect("formed");
    let (target, third) = (1 + leader % 3, 1 + (leader + 1) % 3);
    let bound = 2 * cluster.config.election_timeout + 100_000;
    cluster.run_for(200);

    cluster.partition(leader, target);
    cluster.proposed(leader, 1, "one").expect("two of three");
    cluster.proposed(leader, 1, "two").expect("two of three");
    let begun = cluster.time().now;
    let token = transfer(&mut cluster, leader, target);
    let behind = not_transferred(target, TransferFailure::Behind { lacks: 2 });
    assert_eq!(cluster.answer(token), Err(behind));
    assert!(cluster.time().now.since(begun) < bound);
    cluster.proposed(leader, 1, "three").expect("it leads on");
    cluster.heal();
    cluster.run_for(1_000);

    // It is told, and cannot write down that it votes for itself.
    cluster.hold(target, JobLane::Votes);
    cluster.hold(target, JobLane::Wal);
    let begun = cluster.time().now;
    let token = transfer(&mut cluster, leader, target);
    let stuck = not_transferred(target, TransferFailure::NotElected);
    assert_eq!(cluster.answer(token), Err(stuck));
    assert!(cluster.time().now.since(begun) < bound);

    // Nothing is begun.
    let token = transfer(&mut cluster, third, target);
    assert!(matches!(cluster.answer(token), Err(RequestError::NotLeader { .. })));
    let token = transfer(&mut cluster, leader, 9);
    assert!(matches!(cluster.answer(token), Err(RequestError::Refused { .. })));
}

#[test]
fn a_transfer_that_ends_with_another_leader_says_whom() {
    let mut cluster = Cluster::formed(1);
    let leader = cluster.leader(1).expect("formed");
    let (target, third) = (1 + leader % 3, 1 + (leader + 1) % 3);
    // The target lacks what the third has, so that only the third can be elected by these two.
    cluster.partition(leader, target);
    cluster.proposed(leader, 1, "one").expect("two of three");
    cluster.partition(leader, third);
    cluster.run_for(cluster.config.election_timeout / 2_000);
    let token = transfer(&mut cluster, leader, target);
    assert!(cluster.run_until(10, |c| c.leader(1) == Some(third)));
    cluster.heal();
    let other = not_transferred(target, TransferFailure::OtherLeader { leader: NodeId(third) });
    assert_eq!(other.leader_hint(), Some(NodeId(third)));
    assert_eq!(cluster.answer(token), Err(other));
}

#[test]
fn a_transfer_to_one_that_is_removed_meanwhile_says_so() {
    let mut cluster = Cluster::formed(1);
    let leader = cluster.leader(1).expect("formed");
    let (target, third) = (1 + leader % 3, 1 + (leader + 1) % 3);
    cluster.proposed(leader, 1, "before").expect("applied");
    cluster.partition(leader, target);
    cluster.hold(third, JobLane::Wal);
    let change = MemberChange::Remove(member(&cluster, target));
    let expected = None;
    let group = GroupId(1);
    let asked = cluster.input(leader, |to| Input::ChangeMembers { to, group, change, expected });
    cluster.answer(asked).expect("proposed");
    let token = transfer(&mut cluster, leader, target);
    cluster.run_for(20);
    assert_eq!(cluster.replies.get(&token), None, "it is a voter yet, and lacks its removal");
    cluster.release(third, JobLane::Wal);
    assert_eq!(cluster.answer(token), Err(not_transferred(target, TransferFailure::NoVoter)));
    cluster.proposed(leader, 1, "it leads on").expect("two of two");
}

#[test]
fn a_transfer_that_its_leaders_end_cuts_off_is_answered() {
    let mut cluster = Cluster::formed(1);
    let leader = cluster.leader(1).expect("formed");
    let target = 1 + leader % 3;
    cluster.partition(leader, target);
    cluster.proposed(leader, 1, "one").expect("two of three");
    let token = transfer(&mut cluster, leader, target);
    cluster.run_for(20);
    cluster.input(leader, |_| Input::Shutdown);
    assert!(cluster.answer(token).is_err());
    assert!(cluster.run_until(5, |c| c.stops.contains_key(&leader)), "{:?}", cluster.stops);
}
