//! The decoders of this crate, fed with bytes that nobody wrote.

use refloat_fuzz::{Target, note, run};
use refloat_net::{
    FRAME_HEADER_LEN, FrameDecoder, FrameKind, Hello, Lane, Refusal, Reply, frame_header,
};
use refloat_types::{ClusterId, Identity, Incarnation, Member, NodeId};

const MAX_FRAME: usize = 32 << 10;

/// The frames in a stream that comes in pieces of so many bytes, and how it ends.
fn frames(bytes: &[u8], piece: usize) -> (Vec<(FrameKind, Vec<u8>)>, Option<String>) {
    let mut decoder = FrameDecoder::new(Lane::Urgent, MAX_FRAME);
    let mut frames = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.space().extend_from_slice(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some((kind, body))) => frames.push((kind, body.to_vec())),
                Ok(None) => break,
                Err(error) => return (frames, Some(error.to_string())),
            }
        }
    }
    (frames, None)
}

/// What is read does not depend on the pieces, and is what was written.
fn frame(bytes: &[u8]) {
    let (found, end) = frames(bytes, usize::MAX);
    assert_eq!(frames(bytes, 7), (found.clone(), end.clone()));
    note(end.as_deref().unwrap_or("open"));
    note(found.len());
    let mut again = Vec::new();
    for (seq, (kind, body)) in (0..).zip(&found) {
        again.extend_from_slice(&frame_header(seq, *kind, Lane::Urgent, body));
        again.extend_from_slice(body);
    }
    assert_eq!(bytes.get(..again.len()), Some(&again[..]));
}

fn stream(bodies: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for (seq, body) in (0..).zip(bodies) {
        let kind = if body.is_empty() { FrameKind::KeepAlive } else { FrameKind::Data };
        out.extend_from_slice(&frame_header(seq, kind, Lane::Urgent, body));
        out.extend_from_slice(body);
    }
    out
}

/// Both checks of each frame in the stream, as far as its lengths lead.
fn seal_frames(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(head) = bytes.get_mut(at..at + FRAME_HEADER_LEN) {
        let check = crc32c::crc32c(&head[..10]).to_le_bytes();
        head[10..12].copy_from_slice(&check[..2]);
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let crc = crc32c::crc32c(&head[..12]);
        let start = at + FRAME_HEADER_LEN;
        let Some(body) = bytes.get(start..start + len) else { return };
        let crc = crc32c::crc32c_append(crc, body).to_le_bytes();
        bytes[start - 4..start].copy_from_slice(&crc);
        at = start + len;
    }
}

#[test]
fn fuzz_frame() {
    let long = [7; 20 << 10];
    let seeds = vec![stream(&[b"one", b"", b"three"]), stream(&[&long, b"x"]), stream(&[b""])];
    let memory = refloat_fuzz::Memory { fixed: 512 << 10, per_byte: 8 };
    run(&Target { seal: seal_frames, memory, slower: 4, ..Target::new("frame", frame, seeds) });
}

fn identity(node: u64) -> Identity {
    let member = Member::new(NodeId(node), Incarnation(7));
    Identity { cluster: ClusterId(193), member }
}

fn hello(bytes: &[u8]) {
    match Hello::decode(bytes) {
        Ok(hello) => {
            assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
            if let Err(refusal) = hello.admit(&identity(2)) {
                note(refusal);
            }
        }
        Err(error) => note(error),
    }
}

fn reply(bytes: &[u8]) {
    match Reply::decode(bytes) {
        Ok(reply) => {
            assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
            note(format!("{:?}", reply.refusal));
        }
        Err(error) => note(error),
    }
}

/// The last four bytes check all before them.
fn seal_last(bytes: &mut [u8]) {
    if let Some((body, check)) = bytes.split_last_chunk_mut::<4>() {
        *check = crc32c::crc32c(body).to_le_bytes();
    }
}

#[test]
fn fuzz_hello() {
    let one = |incarnation| Hello {
        from: identity(1),
        run: 3,
        to: NodeId(2),
        incarnation,
        lane: Lane::Bulk,
    };
    let seeds = vec![one(None).encode(), one(Some(Incarnation(7))).encode()];
    run(&Target { seal: seal_last, ..Target::new("hello", hello, seeds) });
}

#[test]
fn fuzz_reply() {
    let (found, expected) = (Incarnation(1), Incarnation(2));
    let refusals = [None, Some(Refusal::NodeIdInUse { found, expected })];
    let one = |refusal| Reply { from: identity(2), run: 3, refusal }.encode();
    let seeds = refusals.into_iter().map(one).collect();
    run(&Target { seal: seal_last, ..Target::new("reply", reply, seeds) });
}
