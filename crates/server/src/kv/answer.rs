//! What a group answers to operations: the reply of an entry, and of a read.

use bytes::Bytes;
use refloat_types::codec::{DecodeError, Put, Reader};

/// Why an operation was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The value is no number.
    NotInteger,
    /// The number would not fit.
    Overflow,
    /// The value would become too long.
    TooLong,
    /// The answers to everything asked in one go would take too much memory.
    TooMuch,
    /// The entry means nothing to this version.
    Unreadable,
}

/// The answer to one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Done,
    /// There is no value, or the condition did not hold.
    Nothing,
    /// A number.
    Number(i64),
    /// A value.
    Value(Bytes),
    /// Some keys, and where to go on.
    Keys {
        /// See [`super::cursor`].
        next: u64,
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// It was not carried out.
    Fault(Fault),
    /// Neither it nor anything asked behind it was carried out: its answer, which takes so many
    /// bytes, found no room behind those before it. Always the last answer.
    Later(u64),
}

impl Answer {
    /// The bytes of what was asked for: those of a value or of keys.
    pub fn len(&self) -> usize {
        match self {
            Answer::Value(value) => value.len(),
            Answer::Keys { keys, .. } => keys.iter().map(Bytes::len).sum(),
            _ => 0,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Answer::Done => out.put_u8(0),
            Answer::Nothing => out.put_u8(1),
            Answer::Number(n) => {
                out.put_u8(2);
                out.put_u64(*n as u64);
            }
            Answer::Value(value) => {
                out.put_u8(3);
                out.put_u32(value.len() as u32);
                out.extend_from_slice(value);
            }
            Answer::Keys { next, keys } => {
                out.put_u8(4);
                out.put_u64(*next);
                out.put_u32(keys.len() as u32);
                for key in keys {
                    out.put_u32(key.len() as u32);
                    out.extend_from_slice(key);
                }
            }
            Answer::Fault(fault) => {
                out.put_u8(5);
                out.put_u8(*fault as u8);
            }
            Answer::Later(len) => {
                out.put_u8(6);
                out.put_u64(*len);
            }
        }
    }

    fn decode(whole: &Bytes, from: &mut Reader<'_>) -> Result<Answer, DecodeError> {
        Ok(match from.u8("answer")? {
            0 => Answer::Done,
            1 => Answer::Nothing,
            2 => Answer::Number(from.u64("number")? as i64),
            3 => Answer::Value(read_bytes(whole, from)?),
            4 => {
                let next = from.u64("cursor")?;
                let count = from.count(4, "count of keys")?;
                let keys = (0..count).map(|_| read_bytes(whole, from)).collect::<Result<_, _>>()?;
                Answer::Keys { next, keys }
            }
            5 => Answer::Fault(match from.u8("fault")? {
                0 => Fault::NotInteger,
                1 => Fault::Overflow,
                2 => Fault::TooLong,
                3 => Fault::TooMuch,
                _ => Fault::Unreadable,
            }),
            6 => Answer::Later(from.u64("length")?),
            _ => return Err(from.invalid("answer")),
        })
    }
}

/// Encoded answers: a count, then each one.
pub struct Answers;

impl Answers {
    /// Makes the reply to an entry or a read.
    pub fn encode(answers: &[Answer]) -> Bytes {
        let mut out = Vec::with_capacity(8 + answers.len() * 8);
        out.put_u32(answers.len() as u32);
        answers.iter().for_each(|answer| answer.encode(&mut out));
        out.into()
    }

    /// Reads a reply. Values share its memory.
    pub fn decode(reply: &Bytes) -> Result<Vec<Answer>, DecodeError> {
        let mut reader = Reader::new(reply);
        let count = reader.count(1, "count of answers")?;
        (0..count).map(|_| Answer::decode(reply, &mut reader)).collect()
    }
}

fn read_bytes(whole: &Bytes, from: &mut Reader<'_>) -> Result<Bytes, DecodeError> {
    let len = from.count(1, "length")?;
    let at = from.offset();
    from.bytes(len, "bytes")?;
    Ok(whole.slice(at..at + len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_back_as_they_were() {
        let answers = vec![
            Answer::Done,
            Answer::Nothing,
            Answer::Number(-3),
            Answer::Value(Bytes::from_static(b"v")),
            Answer::Keys { next: 9, keys: vec![Bytes::from_static(b"k"), Bytes::new()] },
            Answer::Fault(Fault::NotInteger),
            Answer::Fault(Fault::Overflow),
            Answer::Fault(Fault::TooLong),
            Answer::Fault(Fault::TooMuch),
            Answer::Fault(Fault::Unreadable),
            Answer::Later(1 << 40),
        ];
        let reply = Answers::encode(&answers);
        assert_eq!(Answers::decode(&reply).unwrap(), answers);
        for len in 0..reply.len() {
            assert!(Answers::decode(&reply.slice(..len)).is_err(), "accepted {len} bytes");
        }
    }
}
