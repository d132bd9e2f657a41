//! The byte form of messages, and messages that no sound sender would send.

mod common;

use bytes::Bytes;
use common::*;
use proptest::prelude::*;
use refloat_raft_core::*;
use refloat_types::*;

fn any_member() -> impl Strategy<Value = Member> {
    (0..4u64, 0..2u128).prop_map(|(node, number)| life(node, number))
}

fn any_id() -> impl Strategy<Value = EntryId> {
    (number(), number()).prop_map(|(term, index)| EntryId::new(Term(term), Index(index)))
}

/// Mostly small, so that messages meet; sometimes at the edges.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![20 => 0..6u64, 1 => Just(u64::MAX), 1 => Just(u64::MAX / 4), 1 => any::<u64>()]
}

fn any_entries(prev: EntryId) -> impl Strategy<Value = Vec<Entry>> {
    let entry = (0..3u64, 0..3u8, any::<u32>(), proptest::collection::vec(any::<u8>(), 0..30));
    proptest::collection::vec(entry, 0..4).prop_map(move |list| {
        let mut term = prev.term.0.min(9);
        let make = |((rise, kind, digest, payload), n): ((u64, u8, u32, Vec<u8>), u64)| {
            term += rise;
            let id = EntryId::new(Term(term), Index(prev.index.0.wrapping_add(n)));
            let kind = EntryKind::from_byte(kind).expect("a kind");
            Entry::from_parts(id, kind, Digest(digest), Bytes::from(payload))
        };
        list.into_iter().zip(1..).map(make).collect()
    })
}

fn any_ranges() -> impl Strategy<Value = Vec<HoleRange>> {
    let range = (number(), number(), number()).prop_map(|(term, first, last)| HoleRange {
        term: Term(term),
        first: Index(first),
        last: Index(last),
    });
    proptest::collection::vec(range, 0..4)
}

fn any_hello() -> impl Strategy<Value = Hello> {
    let states = [Declared::Clean, Declared::Damaged, Declared::HeadUnknown, Declared::Amnesia];
    let holes =
        proptest::collection::vec((number().prop_map(Index), number().prop_map(Index)), 0..3);
    (number(), any::<u64>(), any_id(), prop::sample::select(states.to_vec()), holes)
        .prop_map(|(run, nonce, last, state, holes)| Hello { run, nonce, last, state, holes })
}

fn any_body() -> impl Strategy<Value = Body> {
    let context = || (any::<u64>(), number()).prop_map(|(run, seq)| ReadContext { run, seq });
    let append = any_id().prop_flat_map(|prev| {
        let rest = (number().prop_map(Index), any_entries(prev));
        rest.prop_map(move |(commit, entries)| Body::Append(Append { prev, commit, entries }))
    });
    prop_oneof![
        4 => append,
        1 => (number().prop_map(Term), any_id())
            .prop_map(|(campaign, last)| Body::PreVote { campaign, last }),
        1 => (number().prop_map(Term), any::<bool>())
            .prop_map(|(campaign, granted)| Body::PreVoteResp { campaign, granted }),
        1 => (any_id(), any::<bool>()).prop_map(|(last, transfer)| Body::Vote { last, transfer }),
        1 => any::<bool>().prop_map(|granted| Body::VoteResp { granted }),
        1 => any_id().prop_map(|matched| Body::AppendResp { matched }),
        1 => (number().prop_map(Index), any_id(), any::<bool>())
            .prop_map(|(prev, hint, lost)| Body::AppendReject { prev, hint, lost }),
        1 => (number().prop_map(Index), number())
            .prop_map(|(commit, round)| Body::Heartbeat { commit, round }),
        1 => (number(), any::<bool>())
            .prop_map(|(round, promise)| Body::HeartbeatResp { round, promise }),
        1 => any_id().prop_map(|last| Body::Quiet { last }),
        1 => Just(Body::TimeoutNow),
        1 => (context(), any::<bool>())
            .prop_map(|(context, counts)| Body::ReadIndex { context, counts }),
        1 => (context(), proptest::option::of(number().prop_map(Index)))
            .prop_map(|(context, index)| Body::ReadIndexResp { context, index }),
        1 => Just(Body::Behind),
        1 => any_hello().prop_map(Body::Hello),
        1 => (any::<u64>(), number(), any::<bool>()).prop_map(|(nonce, last, regressed)| {
            Body::HelloReply { nonce, last: Index(last), regressed }
        }),
        1 => any_ranges().prop_map(|ranges| Body::HoleAsk { ranges }),
        1 => any_id().prop_flat_map(any_entries).prop_map(|entries| Body::HoleHave { entries }),
        1 => number().prop_map(|index| Body::HoleCompacted { up_to: Index(index) }),
        1 => any_ranges().prop_map(|ranges| Body::HoleNeverHad { ranges }),
        1 => number().prop_map(|index| Body::SnapshotAsk { index: Index(index) }),
    ]
}

fn any_message() -> impl Strategy<Value = Message> {
    (any_member(), any_member(), number(), any_body()).prop_map(|(from, to, term, body)| Message {
        from,
        to,
        group: GROUP,
        term: Term(term),
        body,
    })
}

/// Whether the form can hold it: entry indexes are not sent, and must not pass the last number.
fn fits(message: &Message) -> bool {
    let Body::Append(a) = &message.body else { return true };
    a.prev.index.0.checked_add(a.entries.len() as u64).is_some()
}

fn encoded(message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut out);
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_encoded_is_decoded_and_every_shorter_form_is_refused(message in any_message()) {
        let bytes = encoded(&message);
        if fits(&message) {
            prop_assert_eq!(Message::decode(&bytes), Ok(message.clone()));
            prop_assert_eq!(Message::decode_shared(&Bytes::from(bytes.clone())), Ok(message));
        }
        for len in 0..bytes.len() {
            prop_assert!(Message::decode(&bytes[..len]).is_err());
        }
        let mut longer = bytes;
        longer.push(0);
        prop_assert!(Message::decode(&longer).is_err());
    }

    #[test]
    fn t01_garbage_never_panics_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Message::decode(&bytes);
    }

    #[test]
    fn t01_flipped_bytes_never_panic_decoder_or_core(
        message in any_message(),
        at in any::<prop::sample::Index>(),
        to in any::<u8>(),
    ) {
        let mut bytes = encoded(&message);
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(message) = Message::decode(&bytes) {
            let mut c = Cluster::of(3);
            c.elect(1);
            let now = c.now;
            let _ = c.node(1).core().step(now, message);
            let _ = c.node(1).core().ready();
        }
    }

    /// Messages of a liar, in any order, to a core in any role: errors, never a panic, and what
    /// is committed stays.
    #[test]
    fn t01_lying_peers_never_panic_a_core(
        messages in proptest::collection::vec((any_message(), 0..4u8), 1..40),
        holes in 0..6u64,
    ) {
        let me = member(1);
        let mut disk = disk::Disk::with_log(conf(1..=3), 2, log_of(&[1, 1, 2, 2, 2]));
        if holes > 0 {
            disk.lose(holes);
        }
        let mut core = Core::new(settings(me), disk.restored(), Now(0)).unwrap();
        let mut now = Now(0);
        let mut commit = Index(0);
        for (mut message, what) in messages {
            message.to = me;
            now = now.after(if what == 0 { E } else { 10 });
            match what {
                0 => core.tick(now),
                1 => core.campaign(now),
                2 => { let _ = core.propose(now, vec![command("x")]); }
                _ => {}
            }
            let _ = core.step(now, message);
            while let Some(ready) = core.ready() {
                if let Some(persist) = ready.persist {
                    core.on_persisted(now, persist.ticket);
                }
                for fetch in ready.fetch {
                    core.on_fetched(now, fetch.id, Fetched::Failed);
                }
                if let Some((_, last)) = ready.committed {
                    core.on_applied(now, last);
                }
            }
            prop_assert!(core.commit() >= commit);
            commit = core.commit();
        }
    }
}

#[test]
fn o06_version_and_kind_are_checked() {
    let message = Message {
        from: member(1),
        to: member(2),
        group: GROUP,
        term: Term(1),
        body: Body::TimeoutNow,
    };
    let good = encoded(&message);
    for (at, field) in [(0, "message version"), (1, "message kind")] {
        let mut bad = good.clone();
        bad[at] = 99;
        assert_eq!(Message::decode(&bad).unwrap_err().field, field);
    }
}

#[test]
fn w06_a_huge_entry_count_allocates_nothing() {
    let append = Append { prev: EntryId::ZERO, commit: Index(0), entries: Vec::new() };
    let body = Body::Append(append);
    let message = Message { from: member(1), to: member(2), group: GROUP, term: Term(1), body };
    let mut bytes = encoded(&message);
    let count = bytes.len() - 4;
    bytes[count..].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(Message::decode(&bytes).unwrap_err().field, "entry count");
}

/// The form on the wire is a promise: it changes with the version byte only.
#[test]
fn o06_golden_bytes_of_an_append() {
    let from = Member::new(NodeId(1), Incarnation(0x11));
    let to = Member::new(NodeId(2), Incarnation(0x22));
    let group = GroupKey::new(GroupId(3), Epoch(4));
    let id = EntryId::new(Term(5), Index(8));
    let payload = Bytes::from_static(b"hi");
    let entries = vec![Entry::from_parts(id, EntryKind::Command, Digest(0x0a0b_0c0d), payload)];
    let append = Append { prev: EntryId::new(Term(5), Index(7)), commit: Index(6), entries };
    let message = Message { from, to, group, term: Term(5), body: Body::Append(append) };
    let hex: String = encoded(&message).iter().map(|b| format!("{b:02x}")).collect();
    let expected = [head("05")]
        .into_iter()
        .chain([u64s(5), u64s(7), u64s(6), "01000000".into()])
        .chain([u64s(5), "01".into(), "0d0c0b0a".into(), "02000000".into(), "6869".into()])
        .collect::<String>();
    assert_eq!(hex, expected);
}

fn u64s(n: u64) -> String {
    format!("{n:02x}00000000000000")
}

/// The head of a message of a kind, in term 5.
fn head(kind: &str) -> String {
    let words = [3, 4, 1, 0x11, 0, 2, 0x22, 0, 5].map(u64s);
    format!("01{kind}{}", words.concat())
}

#[test]
fn o06_golden_bytes_of_the_messages_that_heal_promise_and_fall_quiet() {
    let from = Member::new(NodeId(1), Incarnation(0x11));
    let to = Member::new(NodeId(2), Incarnation(0x22));
    let group = GroupKey::new(GroupId(3), Epoch(4));
    let id = EntryId::new(Term(5), Index(8));
    let payload = Bytes::from_static(b"hi");
    let entry = Entry::from_parts(id, EntryKind::Command, Digest(0x0a0b_0c0d), payload);
    let ranges = vec![HoleRange { term: Term(5), first: Index(8), last: Index(9) }];
    let holes = vec![(Index(8), Index(9))];
    let hello = Hello { run: 6, nonce: 7, last: id, state: Declared::Damaged, holes };
    let range = ["01000000".into(), u64s(5), u64s(8), u64s(9)].concat();
    let cases = [
        (
            Body::Hello(hello),
            "0e",
            [u64s(6), u64s(7), u64s(5), u64s(8), "0101000000".into(), u64s(8), u64s(9)].concat(),
        ),
        (
            Body::HelloReply { nonce: 7, last: Index(8), regressed: true },
            "0f",
            [u64s(7), u64s(8), "01".into()].concat(),
        ),
        (Body::HoleAsk { ranges: ranges.clone() }, "10", range.clone()),
        (
            Body::HoleHave { entries: vec![entry] },
            "11",
            ["01000000".into(), u64s(8), u64s(5), "010d0c0b0a020000006869".into()].concat(),
        ),
        (Body::HoleCompacted { up_to: Index(8) }, "12", u64s(8)),
        (Body::HoleNeverHad { ranges }, "13", range),
        (Body::SnapshotAsk { index: Index(8) }, "14", u64s(8)),
        (Body::Quiet { last: id }, "15", u64s(5) + &u64s(8)),
        (Body::HeartbeatResp { round: 7, promise: true }, "09", u64s(7) + "01"),
    ];
    for (body, kind, rest) in cases {
        let message = Message { from, to, group, term: Term(5), body };
        let hex: String = encoded(&message).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, head(kind) + &rest, "{:?}", message.body);
        assert_eq!(Message::decode(&encoded(&message)), Ok(message));
    }
}
