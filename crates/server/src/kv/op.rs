//! What is asked of a group: the content of a log entry, and of a read.
//!
//! One entry, or one read, carries all that one client asked of one group in one go:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | version, 1, or 2 with room |
//! | 1 | 4 | only with room: the most bytes of values and keys in the answers |
//! | 1 or 5 | 4 | count of operations |
//! | | | operations: a tag byte, then its fields; bytes have a 4-byte length in front |
//!
//! With room, the first operation whose answer does not fit any more is not carried out, and
//! nothing behind it is: every member stops at the same place, and who asked proposes the rest
//! again once it has got rid of what was answered.

use bytes::Bytes;
use refloat_types::codec::{DecodeError, Put, Reader};

const VERSION: u8 = 1;
const VERSION_WITH_ROOM: u8 = 2;

/// When a value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Never; an earlier deadline is dropped.
    Never,
    /// When the value it replaces would have.
    Keep,
    /// So many milliseconds after the entry's stamp.
    In(u64),
    /// At this moment, in milliseconds since 1970.
    At(u64),
}

/// Whether a value is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// In any case.
    Always,
    /// Only where there is none.
    IfAbsent,
    /// Only in place of another.
    IfPresent,
}

/// One operation. All but `Count`, `Scan` and `Sweep` are about one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// The value.
    Get(Bytes),
    /// 1 if there is a value, else 0.
    Exists(Bytes),
    /// The length of the value; 0 without one.
    Len(Bytes),
    /// Milliseconds to the deadline; -1 without deadline, -2 without value.
    TimeLeft(Bytes),
    /// How many keys the group holds.
    Count,
    /// Some keys from a position on.
    Scan {
        /// See [`super::cursor`].
        cursor: u64,
        /// About how many.
        count: u32,
        /// Only those that match.
        pattern: Option<Bytes>,
    },
    /// Sets a value.
    Set {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
        /// Whether at all.
        condition: Condition,
        /// Whether the earlier value is the answer.
        get: bool,
        /// Until when.
        expiry: Expiry,
    },
    /// Deletes a value.
    Delete(Bytes),
    /// Deletes a value and answers it.
    Take(Bytes),
    /// Adds to a number.
    Add {
        /// The key.
        key: Bytes,
        /// How much.
        by: i64,
    },
    /// Appends to a value.
    Append {
        /// The key.
        key: Bytes,
        /// What.
        tail: Bytes,
    },
    /// Changes the deadline of a value.
    Expire {
        /// The key.
        key: Bytes,
        /// Until when; `Never` drops the deadline.
        expiry: Expiry,
    },
    /// Drops values whose deadline has passed.
    Sweep,
}

impl Op {
    /// The key it is about.
    pub fn key(&self) -> Option<&Bytes> {
        match self {
            Op::Get(key) | Op::Exists(key) | Op::Len(key) | Op::TimeLeft(key) => Some(key),
            Op::Delete(key) | Op::Take(key) => Some(key),
            Op::Set { key, .. } | Op::Add { key, .. } => Some(key),
            Op::Append { key, .. } | Op::Expire { key, .. } => Some(key),
            Op::Count | Op::Scan { .. } | Op::Sweep => None,
        }
    }

    /// Whether it changes nothing.
    pub fn is_read(&self) -> bool {
        match self {
            Op::Get(_) | Op::Exists(_) | Op::Len(_) | Op::TimeLeft(_) => true,
            Op::Count | Op::Scan { .. } => true,
            Op::Set { .. } | Op::Delete(_) | Op::Take(_) | Op::Add { .. } => false,
            Op::Append { .. } | Op::Expire { .. } | Op::Sweep => false,
        }
    }

    /// Whether its answer is as long as what the group holds, and not a few bytes.
    pub fn answers_value(&self) -> bool {
        match self {
            Op::Get(_) | Op::Take(_) | Op::Scan { .. } | Op::Set { get: true, .. } => true,
            Op::Exists(_) | Op::Len(_) | Op::TimeLeft(_) | Op::Count | Op::Delete(_) => false,
            Op::Set { .. } | Op::Add { .. } | Op::Append { .. } | Op::Expire { .. } => false,
            Op::Sweep => false,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Op::Get(key) => keyed(1, key, out),
            Op::Exists(key) => keyed(2, key, out),
            Op::Len(key) => keyed(3, key, out),
            Op::TimeLeft(key) => keyed(4, key, out),
            Op::Count => out.put_u8(5),
            Op::Scan { cursor, count, pattern } => {
                out.put_u8(6);
                out.put_u64(*cursor);
                out.put_u32(*count);
                out.put_u8(u8::from(pattern.is_some()));
                put_bytes(pattern.as_deref().unwrap_or_default(), out);
            }
            Op::Set { key, value, condition, get, expiry } => {
                keyed(7, key, out);
                put_bytes(value, out);
                out.put_u8(*condition as u8);
                out.put_u8(u8::from(*get));
                put_expiry(*expiry, out);
            }
            Op::Delete(key) => keyed(8, key, out),
            Op::Take(key) => keyed(9, key, out),
            Op::Add { key, by } => {
                keyed(10, key, out);
                out.put_u64(*by as u64);
            }
            Op::Append { key, tail } => {
                keyed(11, key, out);
                put_bytes(tail, out);
            }
            Op::Expire { key, expiry } => {
                keyed(12, key, out);
                put_expiry(*expiry, out);
            }
            Op::Sweep => out.put_u8(13),
        }
    }

    fn decode(source: &Source<'_>, from: &mut Reader<'_>) -> Result<Op, DecodeError> {
        Ok(match from.u8("operation")? {
            1 => Op::Get(source.bytes(from)?),
            2 => Op::Exists(source.bytes(from)?),
            3 => Op::Len(source.bytes(from)?),
            4 => Op::TimeLeft(source.bytes(from)?),
            5 => Op::Count,
            6 => {
                let (cursor, count) = (from.u64("cursor")?, from.u32("count")?);
                let has_pattern = from.u8("pattern flag")? != 0;
                let pattern = source.bytes(from)?;
                Op::Scan { cursor, count, pattern: has_pattern.then_some(pattern) }
            }
            7 => Op::Set {
                key: source.bytes(from)?,
                value: source.bytes(from)?,
                condition: match from.u8("condition")? {
                    0 => Condition::Always,
                    1 => Condition::IfAbsent,
                    2 => Condition::IfPresent,
                    _ => return Err(from.invalid("condition")),
                },
                get: from.u8("get flag")? != 0,
                expiry: read_expiry(from)?,
            },
            8 => Op::Delete(source.bytes(from)?),
            9 => Op::Take(source.bytes(from)?),
            10 => Op::Add { key: source.bytes(from)?, by: from.u64("amount")? as i64 },
            11 => Op::Append { key: source.bytes(from)?, tail: source.bytes(from)? },
            12 => Op::Expire { key: source.bytes(from)?, expiry: read_expiry(from)? },
            13 => Op::Sweep,
            _ => return Err(from.invalid("operation")),
        })
    }
}

/// Encoded operations.
pub struct Ops;

impl Ops {
    /// Makes the payload of an entry, with room for so many bytes of answers or without a bound
    /// that would stop it.
    pub fn encode(ops: &[Op], room: Option<u32>) -> Bytes {
        let mut out = Vec::with_capacity(16 + ops.len() * 48);
        match room {
            None => out.put_u8(VERSION),
            Some(room) => {
                out.put_u8(VERSION_WITH_ROOM);
                out.put_u32(room);
            }
        }
        out.put_u32(ops.len() as u32);
        ops.iter().for_each(|op| op.encode(&mut out));
        out.into()
    }

    /// Reads a payload: what is to be done, and the room for answers. Keys and values share its
    /// memory.
    pub fn decode(payload: &Bytes) -> Result<(Vec<Op>, Option<u32>), DecodeError> {
        let mut reader = Reader::new(payload);
        let room = match reader.u8("version")? {
            VERSION => None,
            VERSION_WITH_ROOM => Some(reader.u32("room")?),
            _ => return Err(reader.invalid("version")),
        };
        let count = reader.count(1, "count of operations")?;
        let source = Source { whole: payload };
        let mut ops = Vec::with_capacity(count.min(4096));
        for _ in 0..count {
            ops.push(Op::decode(&source, &mut reader)?);
        }
        if reader.remaining() > 0 {
            return Err(reader.invalid("end"));
        }
        Ok((ops, room))
    }
}

/// The memory that decoded keys and values share.
struct Source<'a> {
    whole: &'a Bytes,
}

impl Source<'_> {
    fn bytes(&self, from: &mut Reader<'_>) -> Result<Bytes, DecodeError> {
        let len = from.count(1, "length")?;
        let at = from.offset();
        from.bytes(len, "bytes")?;
        Ok(self.whole.slice(at..at + len))
    }
}

fn keyed(tag: u8, key: &[u8], out: &mut Vec<u8>) {
    out.put_u8(tag);
    put_bytes(key, out);
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.put_u32(bytes.len() as u32);
    out.extend_from_slice(bytes);
}

fn put_expiry(expiry: Expiry, out: &mut Vec<u8>) {
    let (tag, millis) = match expiry {
        Expiry::Never => (0, 0),
        Expiry::Keep => (1, 0),
        Expiry::In(millis) => (2, millis),
        Expiry::At(millis) => (3, millis),
    };
    out.put_u8(tag);
    out.put_u64(millis);
}

fn read_expiry(from: &mut Reader<'_>) -> Result<Expiry, DecodeError> {
    let (tag, millis) = (from.u8("expiry")?, from.u64("expiry time")?);
    Ok(match tag {
        0 => Expiry::Never,
        1 => Expiry::Keep,
        2 => Expiry::In(millis),
        3 => Expiry::At(millis),
        _ => return Err(from.invalid("expiry")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_come_back_as_they_were_and_no_shorter_form_is_accepted() {
        let key = Bytes::from_static(b"key");
        let value = Bytes::from_static(b"value");
        let set = |condition, get, expiry| Op::Set {
            key: key.clone(),
            value: value.clone(),
            condition,
            get,
            expiry,
        };
        let ops = vec![
            Op::Get(key.clone()),
            Op::Exists(key.clone()),
            Op::Len(key.clone()),
            Op::TimeLeft(key.clone()),
            Op::Count,
            Op::Scan { cursor: 1 << 60, count: 10, pattern: Some(value.clone()) },
            Op::Scan { cursor: 0, count: 0, pattern: None },
            set(Condition::Always, false, Expiry::Never),
            set(Condition::IfAbsent, true, Expiry::In(5)),
            set(Condition::IfPresent, false, Expiry::Keep),
            Op::Delete(key.clone()),
            Op::Take(key.clone()),
            Op::Add { key: key.clone(), by: -7 },
            Op::Append { key: key.clone(), tail: value.clone() },
            Op::Expire { key: key.clone(), expiry: Expiry::At(9) },
            Op::Sweep,
        ];
        for room in [None, Some(0), Some(u32::MAX)] {
            let payload = Ops::encode(&ops, room);
            assert_eq!(Ops::decode(&payload).unwrap(), (ops.clone(), room));
            for len in 0..payload.len() {
                assert!(Ops::decode(&payload.slice(..len)).is_err(), "accepted {len} bytes");
            }
        }
    }
}
