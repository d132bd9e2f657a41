//! The decoders of this crate, fed with bytes that nobody wrote.

use bytes::{Bytes, BytesMut};
use refloat_fuzz::{Target, note, run};
use refloat_node::{Command, SnapshotReader, StateMachine};
use refloat_types::Index;

use crate::kv::{Answer, Answers, Condition, Expiry, Fault, Kv, Op, Ops};
use crate::resp::{Limits, Parser};

const LIMITS: Limits = Limits { value_len: 256, request_len: 1024, args: 16 };

/// The requests in a stream that comes in pieces of so many bytes, and how it ends.
fn requests(bytes: &[u8], piece: usize) -> (Vec<Vec<Bytes>>, Option<String>) {
    let mut parser = Parser::new(LIMITS);
    let mut buffer = BytesMut::new();
    let mut requests = Vec::new();
    for piece in bytes.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match parser.next(&mut buffer) {
                Ok(Some(request)) => requests.push(request),
                Ok(None) => break,
                Err(error) => return (requests, Some(error.to_string())),
            }
        }
    }
    (requests, None)
}

/// What is read does not depend on the pieces, keeps the limits, and is read again if a client
/// sends it in the form of a library.
fn resp(bytes: &[u8]) {
    let (found, end) = requests(bytes, usize::MAX);
    assert_eq!(requests(bytes, 3), (found.clone(), end.clone()));
    note(end.as_deref().unwrap_or("open"));
    for request in found {
        let args = request.len();
        assert!(args > 0 && args <= LIMITS.args);
        let mut again = format!("*{args}\r\n").into_bytes();
        for arg in &request {
            again.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            again.extend_from_slice(arg);
            again.extend_from_slice(b"\r\n");
        }
        let fits = again.len() <= LIMITS.request_len
            && request.iter().all(|arg| arg.len() <= LIMITS.value_len);
        assert!(!fits || requests(&again, usize::MAX) == (vec![request], None));
    }
}

#[test]
fn fuzz_resp() {
    let seeds: [&[u8]; 6] = [
        b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*0\r\nset b \"c d\"\r\n\r\n*1\r\n$4\r\nPING\r\n",
        b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$4\r\na\r\nb\r\n",
        b"set \"a\\x41\\n\" 'b c'\r\nget a\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"*1\r\n$-1\r\n",
        b"\x16\x03\x01",
    ];
    let seeds = seeds.into_iter().map(<[u8]>::to_vec).collect();
    run(&Target::new("resp", resp, seeds));
}

fn some_ops() -> Vec<Op> {
    let (key, value) = (Bytes::from_static(b"key"), Bytes::from_static(b"7"));
    let set = |condition, expiry| Op::Set {
        key: key.clone(),
        value: value.clone(),
        condition,
        get: true,
        expiry,
    };
    vec![
        set(Condition::Always, Expiry::In(9)),
        set(Condition::IfAbsent, Expiry::Keep),
        set(Condition::IfPresent, Expiry::At(u64::MAX)),
        Op::Get(key.clone()),
        Op::Add { key: key.clone(), by: -3 },
        Op::Append { key: key.clone(), tail: value.clone() },
        Op::Expire { key: key.clone(), expiry: Expiry::In(u64::MAX) },
        Op::TimeLeft(key.clone()),
        Op::Scan { cursor: 0, count: 10, pattern: Some(Bytes::from_static(b"k*[a-z]")) },
        Op::Count,
        Op::Take(key.clone()),
        Op::Delete(key),
        Op::Sweep,
    ]
}

/// Operations are read back as they were written; a machine applies them, or says that it cannot
/// read them, and what it replies can be read.
fn ops(bytes: &[u8]) {
    let payload = Bytes::copy_from_slice(bytes);
    match Ops::decode(&payload) {
        Ok((ops, room)) => {
            assert_eq!(Ops::decode(&Ops::encode(&ops, room)), Ok((ops, room)));
        }
        Err(error) => note(error),
    }
    let stamped = |stamp: u64| Bytes::from([&stamp.to_le_bytes()[..], bytes].concat());
    let mut machine = Kv::default();
    for (index, payload) in (1..).zip([stamped(1_000), stamped(u64::MAX), payload]) {
        for reply in machine.apply(&[Command { index: Index(index), payload }]) {
            let answers = Answers::decode(&reply).expect("what was written");
            note(answers.len());
        }
    }
}

#[test]
fn fuzz_kv_ops() {
    let mut seeds: Vec<Vec<u8>> =
        some_ops().iter().map(|op| Ops::encode(std::slice::from_ref(op), None).to_vec()).collect();
    seeds.push(Ops::encode(&some_ops(), None).to_vec());
    seeds.push(Ops::encode(&some_ops(), Some(1)).to_vec());
    let memory = refloat_fuzz::Memory { fixed: 1 << 20, per_byte: 256 };
    run(&Target { memory, ..Target::new("kv-ops", ops, seeds) });
}

fn answers(bytes: &[u8]) {
    match Answers::decode(&Bytes::copy_from_slice(bytes)) {
        Ok(answers) => assert_eq!(Answers::decode(&Answers::encode(&answers)), Ok(answers)),
        Err(error) => note(error),
    }
}

#[test]
fn fuzz_kv_answers() {
    let value = Bytes::from_static(b"v");
    let all = [
        Answer::Done,
        Answer::Number(-3),
        Answer::Value(value.clone()),
        Answer::Keys { next: 9, keys: vec![value, Bytes::new()] },
        Answer::Fault(Fault::TooMuch),
        Answer::Later(9),
    ];
    run(&Target::new("kv-answers", answers, vec![Answers::encode(&all).to_vec()]));
}

/// What a snapshot says is what the next one says.
fn picture(bytes: &[u8]) {
    let read = |bytes: Bytes| {
        let mut machine = Kv::default();
        let mut pieces = std::iter::once(bytes);
        machine.restore(&mut SnapshotReader::new(&mut pieces)).map(|()| machine)
    };
    let draw = |machine: &mut Kv| machine.snapshot().collect::<Vec<Bytes>>().concat();
    match read(Bytes::copy_from_slice(bytes)) {
        Ok(mut first) => {
            let drawn = draw(&mut first);
            let mut again = read(drawn.clone().into()).expect("what was written");
            assert_eq!(draw(&mut again), drawn);
        }
        Err(error) => note(error),
    }
}

#[test]
fn fuzz_kv_picture() {
    let mut machine = Kv::default();
    let mut seeds = vec![machine.snapshot().collect::<Vec<Bytes>>().concat()];
    let sets: Vec<Op> = some_ops().into_iter().take(3).collect();
    let payload = [&1_000u64.to_le_bytes()[..], &Ops::encode(&sets, None)].concat().into();
    machine.apply(&[Command { index: Index(1), payload }]);
    seeds.push(machine.snapshot().collect::<Vec<Bytes>>().concat());
    // The table has a size of its own; drawing takes pieces of 256 KiB.
    let memory = refloat_fuzz::Memory { fixed: 4 << 20, per_byte: 256 };
    run(&Target { memory, ..Target::new("kv-picture", picture, seeds) });
}
