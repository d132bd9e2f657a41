//! The decoders of this module, fed with bytes that nobody wrote.

use bytes::Bytes;
use refloat_fuzz::{Target, note, run};

use super::table::{Limits, Table, Verdict};
use super::wire::{Request, SessionReply};

fn request(bytes: &[u8]) {
    match Request::decode(&Bytes::copy_from_slice(bytes)) {
        Ok(request) => assert_eq!(Request::decode(&request.encode()), Ok(request)),
        Err(error) => note(error),
    }
}

#[test]
fn fuzz_session_request() {
    let payload = Bytes::from_static(b"+1");
    let requests = [
        Request::Plain { payload: payload.clone() },
        Request::Register(Limits::default()),
        Request::Once { session: 7, sequence: 3, floor: 2, stamped: true, payload },
        Request::KeepAlive { session: 7 },
        Request::Close { session: 7 },
    ];
    let seeds = requests.iter().map(|request| request.encode().to_vec()).collect();
    run(&Target::new("session-request", request, seeds));
}

fn reply(bytes: &[u8]) {
    match SessionReply::decode(&Bytes::copy_from_slice(bytes)) {
        Ok(reply) => assert_eq!(SessionReply::decode(&reply.encode()), Ok(reply)),
        Err(error) => note(error),
    }
}

#[test]
fn fuzz_session_reply() {
    let replies = [SessionReply::Applied(Bytes::from_static(b"7")), SessionReply::Opened(9)];
    let seeds = replies.iter().map(|reply| reply.encode().to_vec()).collect();
    run(&Target::new("session-reply", reply, seeds));
}

/// A table is read back as it was written, and can be used.
fn table(bytes: &[u8]) {
    let mut read = match Table::decode(bytes) {
        Ok(table) => table,
        Err(error) => return note(error),
    };
    assert_eq!(Table::decode(&read.encode()).as_ref(), Ok(&read));
    read.open(u64::MAX, &Limits::default());
    for session in [7, 8, u64::MAX] {
        for sequence in [0, 3, u64::MAX] {
            if read.judge(session, sequence, 1) == Verdict::New {
                read.applied(session, sequence, &Bytes::from_static(b"reply"));
            }
        }
        read.close(session);
    }
    read.advance(u64::MAX);
}

#[test]
fn fuzz_session_table() {
    let mut some = Table::default();
    some.advance(1_000);
    for session in [7, 8] {
        some.open(session, &Limits { reply_bytes: 4, ..Limits::default() });
        for sequence in 0..3 {
            some.judge(session, sequence, 0);
            some.applied(session, sequence, &Bytes::from(vec![7; sequence as usize]));
        }
    }
    let seeds = vec![Table::default().encode(), some.encode()];
    run(&Target::new("session-table", table, seeds));
}
