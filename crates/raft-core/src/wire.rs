//! The byte form of messages; the table is in `docs/formats/messages.md`.

use alloc::vec::Vec;
use bytes::Bytes;

use refloat_types::codec::{DecodeError, Put, Reader};
use refloat_types::{Digest, Entry, EntryId, EntryKind, Index, Term};

use crate::{Append, Body, Declared, Hello, HoleRange, Message, ReadContext};

/// The version that [`Message::encode`] writes.
const VERSION: u8 = 1;

/// Bytes of one entry before its payload: term, kind, digest, length.
pub(crate) const ENTRY_HEAD: usize = 8 + 1 + 4 + 4;

mod kind {
    pub const PRE_VOTE: u8 = 1;
    pub const PRE_VOTE_RESP: u8 = 2;
    pub const VOTE: u8 = 3;
    pub const VOTE_RESP: u8 = 4;
    pub const APPEND: u8 = 5;
    pub const APPEND_RESP: u8 = 6;
    pub const APPEND_REJECT: u8 = 7;
    pub const HEARTBEAT: u8 = 8;
    pub const HEARTBEAT_RESP: u8 = 9;
    pub const TIMEOUT_NOW: u8 = 10;
    pub const READ_INDEX: u8 = 11;
    pub const READ_INDEX_RESP: u8 = 12;
    pub const BEHIND: u8 = 13;
    pub const HELLO: u8 = 14;
    pub const HELLO_REPLY: u8 = 15;
    pub const HOLE_ASK: u8 = 16;
    pub const HOLE_HAVE: u8 = 17;
    pub const HOLE_COMPACTED: u8 = 18;
    pub const HOLE_NEVER_HAD: u8 = 19;
    pub const SNAPSHOT_ASK: u8 = 20;
    pub const QUIET: u8 = 21;
}

impl Message {
    /// Appends the byte form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(VERSION);
        out.put_u8(kind_of(&self.body));
        out.put_group(self.group);
        out.put_member(self.from);
        out.put_member(self.to);
        out.put_u64(self.term.0);
        encode_body(&self.body, out);
    }

    /// Reads what [`Message::encode`] wrote, copying payloads. Digests are read, not compared:
    /// the frame's checksum covers the wire, the digest the way from disk to disk.
    ///
    /// # Errors
    /// Unknown version or kind, a field that cannot be, too few or too many bytes.
    pub fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
        decode_with(bytes, &|_, payload| Bytes::copy_from_slice(payload))
    }

    /// As [`Message::decode`], but payloads share the buffer instead of being copied.
    ///
    /// # Errors
    /// As [`Message::decode`].
    pub fn decode_shared(bytes: &Bytes) -> Result<Message, DecodeError> {
        decode_with(bytes, &|at, payload| bytes.slice(at..at + payload.len()))
    }
}

const fn kind_of(body: &Body) -> u8 {
    match body {
        Body::PreVote { .. } => kind::PRE_VOTE,
        Body::PreVoteResp { .. } => kind::PRE_VOTE_RESP,
        Body::Vote { .. } => kind::VOTE,
        Body::VoteResp { .. } => kind::VOTE_RESP,
        Body::Append(_) => kind::APPEND,
        Body::AppendResp { .. } => kind::APPEND_RESP,
        Body::AppendReject { .. } => kind::APPEND_REJECT,
        Body::Heartbeat { .. } => kind::HEARTBEAT,
        Body::HeartbeatResp { .. } => kind::HEARTBEAT_RESP,
        Body::TimeoutNow => kind::TIMEOUT_NOW,
        Body::ReadIndex { .. } => kind::READ_INDEX,
        Body::ReadIndexResp { .. } => kind::READ_INDEX_RESP,
        Body::Behind => kind::BEHIND,
        Body::Quiet { .. } => kind::QUIET,
        Body::Hello(_) => kind::HELLO,
        Body::HelloReply { .. } => kind::HELLO_REPLY,
        Body::HoleAsk { .. } => kind::HOLE_ASK,
        Body::HoleHave { .. } => kind::HOLE_HAVE,
        Body::HoleCompacted { .. } => kind::HOLE_COMPACTED,
        Body::HoleNeverHad { .. } => kind::HOLE_NEVER_HAD,
        Body::SnapshotAsk { .. } => kind::SNAPSHOT_ASK,
    }
}

fn encode_body(body: &Body, out: &mut Vec<u8>) {
    match body {
        Body::PreVote { campaign, last } => {
            out.put_u64(campaign.0);
            out.put_entry_id(*last);
        }
        Body::PreVoteResp { campaign, granted } => {
            out.put_u64(campaign.0);
            out.put_u8(u8::from(*granted));
        }
        Body::Vote { last, transfer } => {
            out.put_entry_id(*last);
            out.put_u8(u8::from(*transfer));
        }
        Body::VoteResp { granted } => out.put_u8(u8::from(*granted)),
        Body::Append(append) => encode_append(append, out),
        Body::AppendResp { matched } => out.put_entry_id(*matched),
        Body::AppendReject { prev, hint, lost } => {
            out.put_u64(prev.0);
            out.put_entry_id(*hint);
            out.put_u8(u8::from(*lost));
        }
        Body::Heartbeat { commit, round } => {
            out.put_u64(commit.0);
            out.put_u64(*round);
        }
        Body::HeartbeatResp { round, promise } => {
            out.put_u64(*round);
            out.put_u8(u8::from(*promise));
        }
        Body::Quiet { last } => out.put_entry_id(*last),
        Body::ReadIndex { context, counts } => {
            encode_context(*context, out);
            out.put_u8(u8::from(*counts));
        }
        Body::ReadIndexResp { context, index } => {
            encode_context(*context, out);
            out.put_u8(u8::from(index.is_some()));
            out.put_u64(index.unwrap_or_default().0);
        }
        Body::TimeoutNow | Body::Behind => {}
        Body::Hello(hello) => encode_hello(hello, out),
        Body::HelloReply { nonce, last, regressed } => {
            out.put_u64(*nonce);
            out.put_u64(last.0);
            out.put_u8(u8::from(*regressed));
        }
        Body::HoleAsk { ranges } | Body::HoleNeverHad { ranges } => encode_ranges(ranges, out),
        Body::HoleHave { entries } => {
            put_count(entries.len(), out);
            for entry in entries {
                out.put_u64(entry.id.index.0);
                encode_entry(entry, out);
            }
        }
        Body::HoleCompacted { up_to: index } | Body::SnapshotAsk { index } => out.put_u64(index.0),
    }
}

fn encode_hello(hello: &Hello, out: &mut Vec<u8>) {
    out.put_u64(hello.run);
    out.put_u64(hello.nonce);
    out.put_entry_id(hello.last);
    out.put_u8(hello.state as u8);
    put_count(hello.holes.len(), out);
    for (first, last) in &hello.holes {
        out.put_u64(first.0);
        out.put_u64(last.0);
    }
}

fn encode_ranges(ranges: &[HoleRange], out: &mut Vec<u8>) {
    put_count(ranges.len(), out);
    for range in ranges {
        out.put_u64(range.term.0);
        out.put_u64(range.first.0);
        out.put_u64(range.last.0);
    }
}

fn put_count(count: usize, out: &mut Vec<u8>) {
    out.put_u32(u32::try_from(count).expect("a message lists fewer than 2^32 things"));
}

fn encode_context(context: ReadContext, out: &mut Vec<u8>) {
    out.put_u64(context.run);
    out.put_u64(context.seq);
}

fn encode_append(append: &Append, out: &mut Vec<u8>) {
    let payload: usize = append.entries.iter().map(|e| e.payload.len()).sum();
    out.reserve(28 + append.entries.len() * ENTRY_HEAD + payload);
    out.put_entry_id(append.prev);
    out.put_u64(append.commit.0);
    put_count(append.entries.len(), out);
    for entry in &append.entries {
        encode_entry(entry, out);
    }
}

fn encode_entry(entry: &Entry, out: &mut Vec<u8>) {
    out.put_u64(entry.id.term.0);
    out.put_u8(entry.kind as u8);
    out.put_u32(entry.digest.0);
    out.put_u32(u32::try_from(entry.payload.len()).expect("a payload is below 4 GiB"));
    out.put_slice(&entry.payload);
}

/// Makes a payload from its offset and its bytes.
type MakePayload<'a> = dyn Fn(usize, &[u8]) -> Bytes + 'a;

fn decode_with(bytes: &[u8], payload: &MakePayload<'_>) -> Result<Message, DecodeError> {
    let mut reader = Reader::new(bytes);
    if reader.u8("message version")? != VERSION {
        return Err(reader.invalid("message version"));
    }
    let kind = reader.u8("message kind")?;
    let group = reader.group("message group")?;
    let from = reader.member("message sender")?;
    let to = reader.member("message receiver")?;
    let term = Term(reader.u64("message term")?);
    let body = decode_body(&mut reader, kind, payload)?;
    if reader.remaining() != 0 {
        return Err(reader.invalid("message end"));
    }
    Ok(Message { from, to, group, term, body })
}

fn decode_body(
    r: &mut Reader<'_>,
    kind: u8,
    payload: &MakePayload<'_>,
) -> Result<Body, DecodeError> {
    Ok(match kind {
        kind::PRE_VOTE => {
            Body::PreVote { campaign: Term(r.u64("campaign term")?), last: r.entry_id("last")? }
        }
        kind::PRE_VOTE_RESP => {
            Body::PreVoteResp { campaign: Term(r.u64("campaign term")?), granted: flag(r)? }
        }
        kind::VOTE => Body::Vote { last: r.entry_id("last")?, transfer: flag(r)? },
        kind::VOTE_RESP => Body::VoteResp { granted: flag(r)? },
        kind::APPEND => Body::Append(decode_append(r, payload)?),
        kind::APPEND_RESP => Body::AppendResp { matched: r.entry_id("matched")? },
        kind::APPEND_REJECT => Body::AppendReject {
            prev: Index(r.u64("rejected prev")?),
            hint: r.entry_id("hint")?,
            lost: flag(r)?,
        },
        kind::HEARTBEAT => {
            Body::Heartbeat { commit: Index(r.u64("commit")?), round: r.u64("round")? }
        }
        kind::HEARTBEAT_RESP => Body::HeartbeatResp { round: r.u64("round")?, promise: flag(r)? },
        kind::QUIET => Body::Quiet { last: r.entry_id("last")? },
        kind::TIMEOUT_NOW => Body::TimeoutNow,
        kind::READ_INDEX => Body::ReadIndex { context: decode_context(r)?, counts: flag(r)? },
        kind::READ_INDEX_RESP => decode_read_answer(r)?,
        kind::BEHIND => Body::Behind,
        kind::HELLO => Body::Hello(decode_hello(r)?),
        kind::HELLO_REPLY => Body::HelloReply {
            nonce: r.u64("hello nonce")?,
            last: Index(r.u64("hello last")?),
            regressed: flag(r)?,
        },
        kind::HOLE_ASK => Body::HoleAsk { ranges: decode_ranges(r)? },
        kind::HOLE_HAVE => Body::HoleHave { entries: decode_gifts(r, payload)? },
        kind::HOLE_COMPACTED => Body::HoleCompacted { up_to: Index(r.u64("compacted index")?) },
        kind::HOLE_NEVER_HAD => Body::HoleNeverHad { ranges: decode_ranges(r)? },
        kind::SNAPSHOT_ASK => Body::SnapshotAsk { index: Index(r.u64("snapshot index")?) },
        _ => return Err(r.invalid("message kind")),
    })
}

fn decode_read_answer(r: &mut Reader<'_>) -> Result<Body, DecodeError> {
    let context = decode_context(r)?;
    let known = flag(r)?;
    let index = Index(r.u64("read index")?);
    if !known && index != Index::ZERO {
        return Err(r.invalid("read index"));
    }
    Ok(Body::ReadIndexResp { context, index: known.then_some(index) })
}

fn decode_hello(r: &mut Reader<'_>) -> Result<Hello, DecodeError> {
    let (run, nonce) = (r.u64("hello run")?, r.u64("hello nonce")?);
    let last = r.entry_id("hello last")?;
    let state = match r.u8("hello state")? {
        0 => Declared::Clean,
        1 => Declared::Damaged,
        2 => Declared::HeadUnknown,
        3 => Declared::Amnesia,
        _ => return Err(r.invalid("hello state")),
    };
    let count = r.count(16, "hello holes")?;
    let mut holes = Vec::with_capacity(count);
    for _ in 0..count {
        holes.push((Index(r.u64("hello hole")?), Index(r.u64("hello hole")?)));
    }
    Ok(Hello { run, nonce, last, state, holes })
}

fn decode_ranges(r: &mut Reader<'_>) -> Result<Vec<HoleRange>, DecodeError> {
    let count = r.count(24, "hole ranges")?;
    let mut ranges = Vec::with_capacity(count);
    for _ in 0..count {
        let term = Term(r.u64("hole term")?);
        let (first, last) = (Index(r.u64("hole")?), Index(r.u64("hole")?));
        ranges.push(HoleRange { term, first, last });
    }
    Ok(ranges)
}

fn decode_gifts(r: &mut Reader<'_>, payload: &MakePayload<'_>) -> Result<Vec<Entry>, DecodeError> {
    let count = r.count(8 + ENTRY_HEAD, "entry count")?;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let index = Index(r.u64("entry index")?);
        entries.push(decode_entry(r, index, payload)?);
    }
    Ok(entries)
}

fn decode_entry(
    r: &mut Reader<'_>,
    index: Index,
    payload: &MakePayload<'_>,
) -> Result<Entry, DecodeError> {
    let term = Term(r.u64("entry term")?);
    let kind = EntryKind::from_byte(r.u8("entry kind")?);
    let kind = kind.ok_or_else(|| r.invalid("entry kind"))?;
    let digest = Digest(r.u32("entry digest")?);
    let len = r.u32("entry length")? as usize;
    let at = r.offset();
    let bytes = payload(at, r.bytes(len, "entry payload")?);
    Ok(Entry::from_parts(EntryId::new(term, index), kind, digest, bytes))
}

fn decode_context(r: &mut Reader<'_>) -> Result<ReadContext, DecodeError> {
    Ok(ReadContext { run: r.u64("read run")?, seq: r.u64("read sequence")? })
}

fn flag(r: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match r.u8("flag")? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(r.invalid("flag")),
    }
}

fn decode_append(r: &mut Reader<'_>, payload: &MakePayload<'_>) -> Result<Append, DecodeError> {
    let prev = r.entry_id("prev")?;
    let commit = Index(r.u64("commit")?);
    let count = r.count(ENTRY_HEAD, "entry count")?;
    let mut entries = Vec::with_capacity(count);
    let mut index = prev.index.0;
    for _ in 0..count {
        index = index.checked_add(1).ok_or_else(|| r.invalid("entry index"))?;
        entries.push(decode_entry(r, Index(index), payload)?);
    }
    Ok(Append { prev, commit, entries })
}
