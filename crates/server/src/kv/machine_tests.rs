use refloat_types::Index;

use super::*;

fn key(name: &'static str) -> Bytes {
    Bytes::from_static(name.as_bytes())
}

fn entry(stamp_ms: u64, ops: &[Op]) -> Command {
    let mut payload = stamp_ms.to_le_bytes().to_vec();
    payload.extend_from_slice(&Ops::encode(ops, None));
    Command { index: Index(1), payload: payload.into() }
}

fn apply(kv: &mut Kv, stamp_ms: u64, ops: &[Op]) -> Vec<Answer> {
    let replies = kv.apply(&[entry(stamp_ms, ops)]);
    assert_eq!(replies.len(), 1);
    Answers::decode(&replies[0]).unwrap()
}

fn set(name: &'static str, value: &'static str) -> Op {
    set_with(name, value, Condition::Always, false, Expiry::Never)
}

fn set_with(
    name: &'static str,
    value: &'static str,
    condition: Condition,
    get: bool,
    expiry: Expiry,
) -> Op {
    Op::Set { key: key(name), value: key(value), condition, get, expiry }
}

fn value(text: &'static str) -> Answer {
    Answer::Value(key(text))
}

#[test]
fn a_pipeline_in_one_entry_sees_its_own_writes_in_order() {
    let mut kv = Kv::default();
    let get = || Op::Get(key("a"));
    let answers = apply(&mut kv, 1, &[get(), set("a", "1"), get(), set("a", "2"), get()]);
    let expected = [Answer::Nothing, Answer::Done, value("1"), Answer::Done, value("2")];
    assert_eq!(answers, expected);
}

#[test]
fn conditions_hold_and_get_answers_the_earlier_value() {
    let mut kv = Kv::default();
    let ops = [
        set_with("a", "1", Condition::IfPresent, false, Expiry::Never),
        set_with("a", "2", Condition::IfAbsent, false, Expiry::Never),
        set_with("a", "3", Condition::IfAbsent, false, Expiry::Never),
        set_with("a", "4", Condition::IfAbsent, true, Expiry::Never),
        set_with("a", "5", Condition::IfPresent, true, Expiry::Never),
        Op::Get(key("a")),
    ];
    let answers = apply(&mut kv, 1, &ops);
    let expected =
        [Answer::Nothing, Answer::Done, Answer::Nothing, value("2"), value("2"), value("5")];
    assert_eq!(answers, expected);
}

#[test]
fn numbers_are_added_within_their_range() {
    let mut kv = Kv::default();
    let add = |by| Op::Add { key: key("n"), by };
    assert_eq!(
        apply(&mut kv, 1, &[add(5), add(-7), add(i64::MIN + 2), add(-1)]),
        [
            Answer::Number(5),
            Answer::Number(-2),
            Answer::Number(i64::MIN),
            Answer::Fault(Fault::Overflow)
        ]
    );
    assert_eq!(
        apply(&mut kv, 1, &[set("n", "x"), add(1)]),
        [Answer::Done, Answer::Fault(Fault::NotInteger)]
    );
}

#[test]
fn a_value_ends_by_an_entry_stamped_after_its_deadline_and_never_by_a_clock() {
    let mut kv = Kv::default();
    apply(
        &mut kv,
        1000,
        &[set_with("a", "1", Condition::Always, false, Expiry::In(50)), set("b", "2")],
    );
    let get = [Op::Get(key("a"))];
    assert_eq!(kv.read(&get, 2000, usize::MAX), [value("1")], "a reader's clock ends nothing");
    assert!(kv.is_overdue(&get, 1050), "but it says that an entry is due");
    assert!(!kv.is_overdue(&get, 1049));
    assert!(!kv.is_overdue(&[Op::Get(key("b"))], 1050), "for other keys it is not");
    assert_eq!(
        kv.read(&[Op::TimeLeft(key("a")), Op::TimeLeft(key("b"))], 1020, usize::MAX),
        [Answer::Number(30), Answer::Number(-1)]
    );

    assert_eq!(apply(&mut kv, 1050, &[Op::Sweep]), [Answer::Number(1)]);
    assert_eq!(kv.read(&get, 1050, usize::MAX), [Answer::Nothing]);
    assert_eq!(kv.read(&[Op::Count], 1050, usize::MAX), [Answer::Number(1)]);
}

#[test]
fn the_clock_of_the_log_never_goes_back() {
    let mut kv = Kv::default();
    apply(&mut kv, 1000, &[set_with("a", "1", Condition::Always, false, Expiry::In(50))]);
    apply(&mut kv, 1060, &[set("b", "1")]);
    let answers = apply(&mut kv, 900, &[Op::Get(key("a")), Op::Exists(key("a"))]);
    assert_eq!(answers, [Answer::Nothing, Answer::Number(0)]);
}

#[test]
fn keeping_dropping_and_changing_a_deadline() {
    let mut kv = Kv::default();
    let keep = |value| set_with("a", value, Condition::Always, false, Expiry::Keep);
    apply(&mut kv, 1000, &[set_with("a", "1", Condition::Always, false, Expiry::At(5000))]);
    apply(&mut kv, 1000, &[keep("2")]);
    assert_eq!(kv.read(&[Op::TimeLeft(key("a"))], 1000, usize::MAX), [Answer::Number(4000)]);
    let expire = |expiry| Op::Expire { key: key("a"), expiry };
    assert_eq!(
        apply(&mut kv, 1000, &[expire(Expiry::Never), expire(Expiry::Never)]),
        [Answer::Number(1), Answer::Number(0)]
    );
    assert_eq!(
        apply(&mut kv, 1000, &[expire(Expiry::In(0)), Op::Get(key("a"))]),
        [Answer::Number(1), Answer::Nothing]
    );
    assert_eq!(apply(&mut kv, 1000, &[expire(Expiry::In(5))]), [Answer::Number(0)]);
}

#[test]
fn an_entry_of_unknown_content_changes_nothing_and_never_panics() {
    let mut kv = Kv::default();
    apply(&mut kv, 1, &[set("a", "1")]);
    for payload in [&b""[..], b"1234567", b"12345678", b"12345678\x03\0\0\0\0", b"12345678\x01\xff"]
    {
        let command = Command { index: Index(2), payload: Bytes::copy_from_slice(payload) };
        let replies = kv.apply(&[command]);
        assert_eq!(Answers::decode(&replies[0]).unwrap(), [Answer::Fault(Fault::Unreadable)]);
    }
    assert_eq!(kv.read(&[Op::Get(key("a"))], 1, usize::MAX), [value("1")]);
}

#[test]
fn a_snapshot_carries_values_deadlines_and_the_clock() {
    let mut kv = Kv::default();
    apply(
        &mut kv,
        1000,
        &[set_with("a", "1", Condition::Always, false, Expiry::In(50)), set("b", "2")],
    );
    let mut back = Kv::default();
    back.restore(&mut SnapshotReader::new(&mut kv.snapshot())).unwrap();
    assert_eq!(apply(&mut back, 900, &[Op::TimeLeft(key("a"))]), [Answer::Number(50)]);
    assert_eq!(
        apply(&mut back, 1050, &[Op::Sweep, Op::Count]),
        [Answer::Number(1), Answer::Number(1)]
    );
    assert!(
        back.restore(&mut SnapshotReader::new(&mut std::iter::once(Bytes::from_static(b"?"))))
            .is_err()
    );
}

#[test]
fn a_scan_walks_to_the_next_group() {
    let mut kv = Kv::default();
    apply(&mut kv, 1, &[set("a", "1"), set("b", "2"), set("c", "3")]);
    let mut from = cursor::start_of(refloat_types::GroupId(3));
    let mut found = Vec::new();
    while cursor::group(from).0 == 3 {
        let answers = kv.read(&[Op::Scan { cursor: from, count: 1, pattern: None }], 1, usize::MAX);
        let [Answer::Keys { next, keys }] = &answers[..] else { panic!("{answers:?}") };
        found.extend(keys.iter().cloned());
        from = *next;
    }
    found.sort();
    assert_eq!(found, [key("a"), key("b"), key("c")]);
    assert_eq!(from, cursor::start_of(refloat_types::GroupId(4)));
}

#[test]
fn what_finds_no_room_for_its_answer_is_not_carried_out_and_nothing_behind_it_is() {
    let mut kv = Kv::default();
    apply(&mut kv, 1, &[set("a", "four"), set("b", "five5"), set("n", "1")]);
    let add = Op::Add { key: key("n"), by: 1 };
    let within = |kv: &mut Kv, room, ops: &[Op]| {
        let payload = [&1u64.to_le_bytes()[..], &Ops::encode(ops, Some(room))].concat();
        let replies = kv.apply(&[Command { index: Index(9), payload: payload.into() }]);
        Answers::decode(&replies[0]).unwrap()
    };
    let get = |name| Op::Get(key(name));
    let five = Answer::Value(key("five5"));

    let ops = [get("a"), Op::Take(key("b")), add.clone()];
    assert_eq!(within(&mut kv, 8, &ops), [value("four"), Answer::Later(5)]);
    assert_eq!(kv.read(&[get("b"), get("n")], 1, 99), [five.clone(), value("1")], "all as it was");

    let replace = set_with("b", "x", Condition::Always, true, Expiry::Never);
    assert_eq!(within(&mut kv, 4, &[replace.clone(), add.clone()]), [Answer::Later(5)]);
    assert_eq!(
        within(&mut kv, 5, &[replace, add, get("n")]),
        [five, Answer::Number(2), Answer::Later(1)]
    );
    assert_eq!(kv.read(&[get("b"), get("n")], 1, 1), [value("x"), Answer::Later(1)]);
}
