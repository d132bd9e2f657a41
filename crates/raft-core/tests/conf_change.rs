//! The mathematics of membership changes.

mod common;

use common::*;
use proptest::prelude::*;
use refloat_raft_core::quorum::{committed_index, has_quorum};
use refloat_raft_core::*;
use refloat_types::*;

fn any_step() -> impl Strategy<Value = ConfStep> {
    (1..7u64, 0..2u128, 0..5u8).prop_map(|(node, number, kind)| {
        let m = life(node, number);
        match kind {
            0 => ConfStep::AddVoter(m),
            1 => ConfStep::AddLearner(m),
            2 => ConfStep::Promote(m),
            3 => ConfStep::Demote(m),
            _ => ConfStep::Remove(m),
        }
    })
}

fn any_steps() -> impl Strategy<Value = Vec<ConfStep>> {
    proptest::collection::vec(any_step(), 1..5)
}

/// Memberships of nodes 1 to 6 that are not joint.
fn any_conf() -> impl Strategy<Value = ConfState> {
    proptest::collection::vec((0..4u8, 0..2u128), 6).prop_map(|roles| {
        let mut conf = ConfState::of_voters([life(9, 0)]);
        conf.voters.clear();
        for ((role, number), node) in roles.into_iter().zip(1..) {
            match role {
                0 | 1 => conf.voters.push(life(node, number)),
                2 => conf.learners.push(life(node, number)),
                _ => {}
            }
        }
        if conf.voters.is_empty() {
            conf.voters.push(life(9, 0));
        }
        conf
    })
}

fn several(steps: &[ConfStep], transition: Transition) -> ConfChange {
    ConfChange::Several { steps: steps.to_vec(), transition }
}

/// Every node at most once, each list sorted, nobody in two roles of what is being entered.
fn assert_sound(conf: &ConfState) {
    for list in [&conf.voters, &conf.outgoing, &conf.learners, &conf.learners_next] {
        assert!(list.is_sorted_by(|a, b| a.node < b.node), "{conf:?}");
    }
    assert!(!conf.voters.is_empty());
    let entered = conf.voters.iter().chain(&conf.learners).chain(&conf.learners_next);
    let mut nodes: Vec<NodeId> = entered.map(|m| m.node).collect();
    nodes.sort_unstable();
    assert!(nodes.is_sorted_by(|a, b| a < b), "{conf:?}");
    assert!(conf.learners_next.iter().all(|m| conf.outgoing.contains(m)), "{conf:?}");
    assert!(!conf.learners.iter().any(|m| conf.is_voter(*m)), "{conf:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..Default::default() })]

    /// The way through a joint membership ends where the simple way ends.
    #[test]
    fn m01_the_simple_path_equals_the_joint_path(conf in any_conf(), steps in any_steps()) {
        let joint = several(&steps, Transition::Implicit).apply(&conf);
        let explicit = several(&steps, Transition::Explicit).apply(&conf);
        let auto = several(&steps, Transition::Auto).apply(&conf);
        let left = match joint {
            Ok(joint) => {
                assert_sound(&joint);
                prop_assert!(joint.is_joint() && joint.auto_leave);
                prop_assert_eq!(&joint.outgoing, &conf.voters);
                let explicit = explicit.unwrap();
                prop_assert!(!explicit.auto_leave);
                prop_assert_eq!(ConfState { auto_leave: true, ..explicit }, joint.clone());
                prop_assert_eq!(
                    ConfChange::Remove(joint.voters[0]).apply(&joint),
                    Err(ConfChangeError::Joint)
                );
                ConfChange::Leave.apply(&joint).unwrap()
            }
            Err(error) => {
                prop_assert_eq!(auto, Err(error.clone()));
                prop_assert_eq!(explicit, Err(error));
                return Ok(());
            }
        };
        assert_sound(&left);
        prop_assert_eq!(ConfChange::Leave.apply(&left), Err(ConfChangeError::NotJoint));
        let auto = auto.unwrap();
        if auto.is_joint() {
            prop_assert_eq!(ConfChange::Leave.apply(&auto), Ok(left));
        } else {
            prop_assert_eq!(auto, left);
        }
    }

    /// Steps one after the other lead where they lead together.
    #[test]
    fn one_change_of_several_steps_equals_several_changes(conf in any_conf(), steps in any_steps()) {
        let together = several(&steps, Transition::Implicit).apply(&conf);
        let mut apart = Ok(conf);
        for step in steps {
            apart = apart.and_then(|conf| several(&[step], Transition::Auto).apply(&conf));
        }
        if let (Ok(apart), Ok(together)) = (apart, together) {
            prop_assert_eq!(apart, ConfChange::Leave.apply(&together).unwrap());
        }
    }

    /// Any two memberships that follow each other have no two quorums that do not meet.
    #[test]
    fn quorums_of_neighbouring_memberships_meet(
        conf in any_conf(),
        steps in any_steps(),
        transition in prop::sample::select(vec![
            Transition::Auto, Transition::Implicit, Transition::Explicit,
        ]),
        yes in any::<u64>(),
    ) {
        let Ok(next) = several(&steps, transition).apply(&conf) else { return Ok(()) };
        let mut chain = vec![conf, next.clone()];
        chain.extend(ConfChange::Leave.apply(&next));
        let says = |m: Member| yes >> (m.node.0 * 2 + (m.incarnation.0 as u64 & 1)) & 1 == 1;
        for pair in chain.windows(2) {
            let both = has_quorum(&pair[0], says) && has_quorum(&pair[1], |m| !says(m));
            prop_assert!(!both, "{:?} and {:?} decide apart", pair[0], pair[1]);
        }
    }

    #[test]
    fn joint_with_an_empty_half_equals_the_other_half_and_halves_commute(
        a in any_conf(),
        b in any_conf(),
        matched in proptest::collection::vec(0..9u64, 20),
    ) {
        let at = |m: Member| Index(matched[(m.node.0 * 2 + (m.incarnation.0 as u64 & 1)) as usize % 20]);
        let empty = ConfState { outgoing: Vec::new(), ..a.clone() };
        prop_assert_eq!(committed_index(&empty, at), committed_index(&a, at));
        let ab = ConfState { voters: a.voters.clone(), outgoing: b.voters.clone(), ..a.clone() };
        let ba = ConfState { voters: b.voters.clone(), outgoing: a.voters.clone(), ..a.clone() };
        prop_assert_eq!(committed_index(&ab, at), committed_index(&ba, at));
        let (one, other) = (committed_index(&a, at), committed_index(&b, at));
        prop_assert_eq!(committed_index(&ab, at), one.min(other));
    }

    #[test]
    fn o06_changes_survive_their_byte_form(steps in any_steps(), transition in 0..3u8) {
        let transition = [Transition::Auto, Transition::Implicit, Transition::Explicit][transition as usize];
        let bytes = several(&steps, transition).encode();
        prop_assert_eq!(ConfChange::decode(&bytes), Ok(several(&steps, transition)));
        for len in 0..bytes.len() {
            prop_assert!(ConfChange::decode(&bytes[..len]).is_err());
        }
    }
}

#[test]
fn o06_golden_bytes_of_changes() {
    let m = Member::new(NodeId(1), Incarnation(0x11));
    let hex = |change: &ConfChange| {
        change.encode().iter().map(|b| format!("{b:02x}")).collect::<String>()
    };
    let member = format!("01{}11{}", "00".repeat(7), "00".repeat(15));
    for (change, kind) in [
        (ConfChange::AddVoter(m), "01"),
        (ConfChange::AddLearner(m), "02"),
        (ConfChange::Promote(m), "03"),
        (ConfChange::Remove(m), "04"),
        (ConfChange::Demote(m), "05"),
    ] {
        assert_eq!(hex(&change), format!("01{kind}{member}"));
        assert_eq!(ConfChange::decode(&change.encode()), Ok(change));
    }
    assert_eq!(hex(&ConfChange::Leave), "0107");
    let steps = vec![ConfStep::Remove(m), ConfStep::AddLearner(m)];
    let change = ConfChange::Several { steps, transition: Transition::Explicit };
    assert_eq!(hex(&change), format!("0106020200000004{member}02{member}"));
}

#[test]
fn a_new_life_replaces_the_old_in_one_entry() {
    let (old, new) = (member(3), life(3, 1));
    let next = ConfChange::replace(old, new).apply(&conf(1..=3)).unwrap();
    assert_eq!((next.voters, next.learners), (conf(1..=2).voters, vec![new]));
    let wrong = ConfChange::replace(life(3, 7), new).apply(&conf(1..=3));
    assert_eq!(wrong, Err(ConfChangeError::NotMember(life(3, 7))));
    let last = ConfChange::replace(member(1), life(1, 1)).apply(&conf([1]));
    assert_eq!(last, Err(ConfChangeError::NoVoters), "the operator decides");
}

#[test]
fn changes_without_steps_or_with_too_many_are_refused() {
    for count in [0, ConfChange::MAX_STEPS + 1] {
        let steps = vec![ConfStep::AddLearner(member(9)); count];
        let change = ConfChange::Several { steps, transition: Transition::Auto };
        assert_eq!(change.apply(&conf(1..=3)), Err(ConfChangeError::Steps(count)));
        assert!(ConfChange::decode(&change.encode()).is_err());
    }
}

#[test]
fn m18_the_record_of_a_recovery_leaves_one_voter_who_knows_the_others_and_is_never_proposed() {
    let voters = [1, 2, 3].map(|n| Member::new(NodeId(n), Incarnation(n.into())));
    let [going, leaving, new] = [4, 5, 6].map(|n| Member::new(NodeId(n), Incarnation(n.into())));
    let mut conf = ConfState::of_voters(voters);
    conf.outgoing = vec![voters[1], going, leaving];
    conf.learners = vec![new];
    conf.learners_next = vec![going];
    let left = ConfState {
        learners: vec![voters[1], voters[2], going, new],
        ..ConfState::of_voters([voters[0]])
    };
    let change = ConfChange::Recover { voter: voters[0], epoch: 4 };
    assert_eq!(ConfChange::decode(&change.encode()), Ok(change.clone()));
    assert_eq!(change.apply(&conf), Ok(left.clone()), "joint or not");
    assert_eq!(change.apply(&left), Ok(left.clone()), "once more");
    let group = GroupKey::new(GroupId(1), Epoch(1));
    let alone = Restored::empty(left);
    let mut core = Core::new(Config::new(voters[0], group), alone, Now(0)).unwrap();
    core.campaign(Now(0));
    while let Some(ready) = core.ready() {
        ready.persist.iter().for_each(|p| core.on_persisted(Now(0), p.ticket));
        ready.committed.iter().for_each(|(_, last)| core.on_applied(Now(0), *last));
    }
    assert_eq!(core.role(), Role::Leader);
    assert!(core.propose_conf_change(Now(0), change).is_err());
}
