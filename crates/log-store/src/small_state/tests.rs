use super::*;
use refloat_types::{Epoch, GroupId, Incarnation, Member, NodeId, Term};

fn samples() -> Vec<Change> {
    let member = Member::new(NodeId(1), Incarnation(7));
    let conf = ConfState::of_voters([member]);
    let id = EntryId::new(Term(3), Index(9));
    let hs = HardState { term: Term(3), vote: Some(member) };
    let body = Bytes::from_static(b"table");
    let value = GroupValue { change: 5, body: Bytes::from_static(b"kept") };
    vec![
        Change::HardState { hard_state: hs, value: 0 },
        Change::CommitHint(Index(8)),
        Change::Created(conf.clone()),
        Change::Deleted,
        Change::NodeState { slot: 1, body: body.clone() },
        Change::Published { id, conf: conf.clone() },
        Change::Installed { id, conf: conf.clone() },
        Change::Segments {
            flushed: Generation(4),
            add: vec![SegmentName::new(Generation(4), 1)],
            remove: [1, 2].map(|g| SegmentName::new(Generation(g), 0)).to_vec(),
        },
        Change::CheckpointGroup(GroupRecord {
            hard_state: hs,
            commit_hint: Index(8),
            conf: conf.clone(),
            first: Some(Box::new(conf)),
            snapshot: id,
            previous: EntryId::ZERO,
            last: id,
            unhealed: Some(Unhealed {
                state: GroupState::HeadUnknown,
                evidence: "the newest file is missing".into(),
            }),
            value: value.clone(),
        }),
        Change::Value { hard_state: hs, value },
        Change::CheckpointNode {
            flushed: Generation(4),
            segments: vec![SegmentName::new(Generation(4), 1)],
            node: vec![(1, body)],
        },
        Change::Verdict(None),
        Change::Verdict(Some(Unhealed {
            state: GroupState::Damaged,
            evidence: "entries {4} are not readable here".into(),
        })),
        Change::Witness(Lsn::new(Generation(7), 12)),
    ]
}

/// One record a line, in the order of `samples`.
#[test]
fn o06_records_of_version_1_are_read_and_written_as_the_golden_file_has_them() {
    let golden = include_str!("../../tests/golden/small_state_v1.hex");
    let lines: Vec<&str> = golden.lines().collect();
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    for (at, change) in samples().iter().enumerate() {
        let line = lines.get(at).copied().unwrap_or_default();
        assert_eq!(hex(&change.encode()), line, "line {}: {change:?}", at + 1);
        let digits = (0..line.len()).step_by(2);
        let bytes: Vec<u8> =
            digits.map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap()).collect();
        assert_eq!(Change::decode(&bytes).as_ref(), Ok(change), "line {}", at + 1);
    }
    assert_eq!(lines.len(), samples().len());
}

#[test]
fn every_record_is_read_back_and_every_shorter_form_is_refused() {
    for change in samples() {
        let bytes = change.encode();
        assert_eq!(Change::decode(&bytes).as_ref(), Ok(&change));
        for len in 0..bytes.len() {
            assert!(Change::decode(&bytes[..len]).is_err(), "{change:?} cut to {len} bytes");
        }
    }
    assert!(Change::decode(&[0]).is_err() && Change::decode(&[99]).is_err());
}

#[test]
fn a_checkpoint_rebuilds_the_state_it_was_made_from() {
    let mut state = SmallState::default();
    let group = GroupKey::new(refloat_types::GroupId(3), refloat_types::Epoch(2));
    for change in samples().iter().filter(|c| !matches!(c, Change::Deleted)) {
        state.apply(group, change);
    }
    let mut rebuilt = SmallState::default();
    for (key, body) in state.checkpoint() {
        rebuilt.apply(key, &Change::decode(&body).unwrap());
    }
    assert_eq!(rebuilt, state);
}

#[test]
fn a_commit_hint_that_comes_after_the_deletion_does_not_bring_the_group_back() {
    let mut state = SmallState::default();
    let group = GroupKey::new(refloat_types::GroupId(3), refloat_types::Epoch(2));
    state.apply(group, &Change::Created(ConfState::default()));
    state.apply(group, &Change::Deleted);
    state.apply(group, &Change::CommitHint(Index(7)));
    assert!(state.groups.is_empty());
}

#[test]
fn a_value_has_the_bytes_that_the_format_page_gives() {
    let value = GroupValue { change: 0x0102, body: Bytes::from_static(b"kept") };
    let vote = Some(Member::new(NodeId(9), Incarnation(0xA1)));
    let change = Change::Value { hard_state: HardState { term: Term(3), vote }, value };
    let mut golden = vec![11];
    golden.extend([3, 0, 0, 0, 0, 0, 0, 0, 1, 9, 0, 0, 0, 0, 0, 0, 0]);
    golden.extend([0xA1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    golden.extend([2, 1, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0]);
    golden.extend(b"kept");
    assert_eq!(change.encode(), golden);
}

#[test]
fn a_value_is_never_replaced_by_an_older_one() {
    let value = |change, body: &'static str| GroupValue { change, body: body.into() };
    let mut state = SmallState::default();
    let group = GroupKey::new(refloat_types::GroupId(3), refloat_types::Epoch(2));
    for value in [value(2, "two"), value(1, "one")] {
        state.apply(group, &GroupRecord::default().value_change(value));
    }
    assert_eq!(state.groups[&group].value, value(2, "two"));
    assert_eq!(GroupValue::default().get(), None);
    assert_eq!(value(1, "").get(), Some(&Bytes::new()), "an empty value is a value");
}

#[test]
fn a_vote_is_never_taken_back_by_an_older_record() {
    let member = Member::new(NodeId(1), Incarnation(7));
    let voted = HardState { term: Term(3), vote: Some(member) };
    assert_eq!(later(voted, HardState { term: Term(3), vote: None }), voted);
    assert_eq!(later(voted, HardState { term: Term(2), vote: Some(member) }), voted);
    let next = HardState { term: Term(4), vote: None };
    assert_eq!(later(voted, next), next);
}

#[test]
fn a_votes_checkpoint_names_no_group_that_may_not_be_registered_yet() {
    let mut state = SmallState::default();
    let conf = ConfState::of_voters([Member::new(NodeId(1), Incarnation(7))]);
    let [new, voted] = [1, 2].map(|id| GroupKey::new(GroupId(id), Epoch(1)));
    state.apply(new, &Change::Created(conf.clone()));
    state.apply(voted, &Change::Created(conf));
    let hard_state = HardState { term: Term(1), vote: None };
    state.apply(voted, &Change::HardState { hard_state, value: 0 });
    let named: Vec<GroupKey> = state.votes_checkpoint().into_iter().map(|(key, _)| key).collect();
    assert_eq!(named, [voted]);
    assert_eq!(state.checkpoint().iter().filter(|(key, _)| *key == new).count(), 1);
}
