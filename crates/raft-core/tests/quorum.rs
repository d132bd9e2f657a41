//! Majorities against a plain model, joint ones included.

use proptest::prelude::*;
use refloat_raft_core::quorum::*;
use refloat_types::*;

fn members(nodes: &[u64]) -> Vec<Member> {
    let mut nodes = nodes.to_vec();
    nodes.sort_unstable();
    nodes.dedup();
    nodes.into_iter().map(|n| Member::new(NodeId(n), Incarnation(1))).collect()
}

fn joint(voters: &[u64], outgoing: &[u64]) -> ConfState {
    let (voters, outgoing) = (members(voters), members(outgoing));
    ConfState { voters, outgoing, ..ConfState::default() }
}

/// The highest index such that at least a majority of the half has it, by sorting.
fn model(half: &[Member], matched: &[u64; 8]) -> u64 {
    let mut sorted: Vec<u64> = half.iter().map(|m| matched[m.node.0 as usize]).collect();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    if sorted.is_empty() { u64::MAX } else { sorted[sorted.len() / 2] }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn committed_index_is_the_models(
        voters in proptest::collection::vec(0..8u64, 1..8),
        outgoing in proptest::collection::vec(0..8u64, 0..8),
        matched in any::<[u8; 8]>(),
    ) {
        let matched = matched.map(u64::from);
        let of = |m: Member| Index(matched[m.node.0 as usize]);
        let conf = joint(&voters, &outgoing);
        let expected = model(&conf.voters, &matched).min(model(&conf.outgoing, &matched));
        prop_assert_eq!(committed_index(&conf, of), Index(expected));
        if !outgoing.is_empty() {
            let swapped = joint(&outgoing, &voters);
            prop_assert_eq!(committed_index(&swapped, of), Index(expected), "symmetric");
        }
        let simple = joint(&voters, &[]);
        let twice = joint(&voters, &voters);
        prop_assert_eq!(committed_index(&simple, of), committed_index(&twice, of));
    }

    #[test]
    fn votes_agree_with_quorums(
        voters in proptest::collection::vec(0..8u64, 1..8),
        outgoing in proptest::collection::vec(0..8u64, 0..8),
        answers in any::<[Option<bool>; 8]>(),
    ) {
        let conf = joint(&voters, &outgoing);
        let of = |m: Member| answers[m.node.0 as usize];
        let result = vote_result(&conf, of);
        let all_yes = vote_result(&conf, |m| Some(of(m) != Some(false)));
        let all_no = vote_result(&conf, |m| Some(of(m) == Some(true)));
        match result {
            VoteResult::Won => prop_assert_eq!(all_no, VoteResult::Won),
            VoteResult::Lost => prop_assert_eq!(all_yes, VoteResult::Lost),
            VoteResult::Pending => {
                prop_assert_eq!((all_yes, all_no), (VoteResult::Won, VoteResult::Lost));
            }
        }
        prop_assert_eq!(has_quorum(&conf, |m| of(m) == Some(true)), result == VoteResult::Won);
    }

    /// What makes one-step changes safe (thesis, 4.1): quorums of before and after always meet.
    #[test]
    fn quorums_one_step_apart_meet(
        voters in proptest::collection::vec(0..7u64, 1..7),
        added in 0..8u64,
        yes in any::<[bool; 8]>(),
    ) {
        let before = joint(&voters, &[]);
        let mut more = voters.clone();
        more.push(added);
        let after = joint(&more, &[]);
        let of = |m: Member| yes[m.node.0 as usize];
        let both = has_quorum(&before, of) && has_quorum(&after, |m| !of(m));
        prop_assert!(!both, "disjoint majorities of {:?} and {:?}", before, after);
    }
}

#[test]
fn nobody_commits_without_voters() {
    assert_eq!(committed_index(&ConfState::default(), |_| Index(9)), Index(0));
    assert_eq!(majority(0), 0);
    assert_eq!([1, 2, 3, 4, 5].map(majority), [1, 2, 2, 3, 3]);
}

#[test]
fn another_life_of_a_voter_is_another_member() {
    let conf = joint(&[1, 2, 3], &[]);
    let ghost = |m: Member| m.incarnation == Incarnation(2);
    assert!(!has_quorum(&conf, ghost));
}
