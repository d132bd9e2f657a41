//! The bytes of commands and replies of sessions: `docs/formats/sessions.md`.

use bytes::Bytes;
use refloat_types::codec::{DecodeError, Put, Reader};

use super::table::Limits;

/// No command of a machine's own is taken for one of these by accident, and their time for none.
const MAGIC: &[u8; 4] = b"RFSE";
const VERSION: u8 = 1;

/// What a command asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Outside of any session.
    Plain {
        payload: Bytes,
    },
    /// A new session. Its limits travel along, so that all members use the same.
    Register(Limits),
    /// The `sequence`-th command of a session; all below `floor` are answered.
    Once {
        session: u64,
        sequence: u64,
        floor: u64,
        stamped: bool,
        payload: Bytes,
    },
    KeepAlive {
        session: u64,
    },
    Close {
        session: u64,
    },
}

impl Request {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(32);
        out.put_slice(MAGIC);
        out.put_u8(VERSION);
        match self {
            Request::Plain { payload } => {
                out.put_u8(0);
                out.put_slice(payload);
            }
            Request::Register(limits) => {
                out.put_u8(1);
                limits.encode(&mut out);
            }
            Request::Once { session, sequence, floor, stamped, payload } => {
                out.put_u8(2);
                out.put_u64(*session);
                out.put_u64(*sequence);
                out.put_u64(*floor);
                out.put_u8(u8::from(*stamped));
                out.put_slice(payload);
            }
            Request::KeepAlive { session } => {
                out.put_u8(3);
                out.put_u64(*session);
            }
            Request::Close { session } => {
                out.put_u8(4);
                out.put_u64(*session);
            }
        }
        out.into()
    }

    pub(super) fn decode(bytes: &Bytes) -> Result<Request, DecodeError> {
        let mut r = Reader::new(bytes);
        if r.bytes(MAGIC.len(), "magic of a session's command")? != MAGIC {
            return Err(r.invalid("magic of a session's command"));
        }
        if r.u8("version of a session's command")? != VERSION {
            return Err(r.invalid("version of a session's command"));
        }
        let rest = |r: &Reader<'_>| bytes.slice(bytes.len() - r.remaining()..);
        Ok(match r.u8("kind of a session's command")? {
            0 => Request::Plain { payload: rest(&r) },
            1 => Request::Register(Limits::decode(&mut r)?),
            2 => Request::Once {
                session: r.u64("session")?,
                sequence: r.u64("sequence")?,
                floor: r.u64("floor")?,
                stamped: r.u8("stamped")? == 1,
                payload: rest(&r),
            },
            3 => Request::KeepAlive { session: r.u64("session")? },
            4 => Request::Close { session: r.u64("session")? },
            _ => return Err(r.invalid("kind of a session's command")),
        })
    }
}

/// What the state machine says to a command of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionReply {
    /// Applied now or before, once; the machine's reply to it.
    Applied(Bytes),
    /// Applied once, and its reply was too large to be kept for a second answer.
    AppliedBefore,
    /// The session is open: its number.
    Opened(u64),
    /// The session lives on, or is closed.
    Noted,
    /// There is no such session (any more); the command has no effect.
    Expired,
    /// The group holds as many sessions as it may; none was opened.
    Full,
    /// More commands of this session are open than it may have; this one has no effect.
    TooManyOpen,
    /// The client said before that it has the answer to this command; it has no effect now.
    Forgotten,
    /// These bytes are no command of a session; they have no effect.
    NotUnderstood,
}

impl SessionReply {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(9);
        match self {
            SessionReply::Applied(reply) => {
                out.put_u8(0);
                out.put_slice(reply);
            }
            SessionReply::AppliedBefore => out.put_u8(1),
            SessionReply::Opened(session) => {
                out.put_u8(2);
                out.put_u64(*session);
            }
            SessionReply::Noted => out.put_u8(3),
            SessionReply::Expired => out.put_u8(4),
            SessionReply::Full => out.put_u8(5),
            SessionReply::TooManyOpen => out.put_u8(6),
            SessionReply::Forgotten => out.put_u8(7),
            SessionReply::NotUnderstood => out.put_u8(8),
        }
        out.into()
    }

    /// Reads the reply to a command of a session.
    ///
    /// # Errors
    /// The machine behind it is not [`Sessions`](super::Sessions).
    pub fn decode(bytes: &Bytes) -> Result<SessionReply, DecodeError> {
        let mut r = Reader::new(bytes);
        Ok(match r.u8("reply of a session")? {
            0 => SessionReply::Applied(bytes.slice(1..)),
            1 => SessionReply::AppliedBefore,
            2 => SessionReply::Opened(r.u64("session")?),
            3 => SessionReply::Noted,
            4 => SessionReply::Expired,
            5 => SessionReply::Full,
            6 => SessionReply::TooManyOpen,
            7 => SessionReply::Forgotten,
            8 => SessionReply::NotUnderstood,
            _ => return Err(r.invalid("reply of a session")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_replies_are_read_back_and_no_prefix_panics() {
        let payload = Bytes::from_static(b"+1");
        let requests = [
            Request::Plain { payload: payload.clone() },
            Request::Register(Limits::default()),
            Request::Once { session: 7, sequence: 3, floor: 2, stamped: true, payload },
            Request::KeepAlive { session: 7 },
            Request::Close { session: 7 },
        ];
        for request in requests {
            let bytes = request.encode();
            assert_eq!(Request::decode(&bytes), Ok(request));
            (0..bytes.len()).for_each(|end| drop(Request::decode(&bytes.slice(..end))));
        }
        let replies = [
            SessionReply::Applied(Bytes::from_static(b"7")),
            SessionReply::AppliedBefore,
            SessionReply::Opened(9),
            SessionReply::Noted,
            SessionReply::Expired,
            SessionReply::Full,
            SessionReply::TooManyOpen,
            SessionReply::Forgotten,
            SessionReply::NotUnderstood,
        ];
        for reply in replies {
            assert_eq!(SessionReply::decode(&reply.encode()), Ok(reply));
        }
        assert!(SessionReply::decode(&Bytes::from_static(b"\x09")).is_err());
    }

    #[test]
    fn o06_the_bytes_are_those_of_the_format_page() {
        let payload = Bytes::from_static(b"+1");
        let once = Request::Once { session: 7, sequence: 3, floor: 2, stamped: false, payload };
        let mut golden = b"RFSE\x01\x02".to_vec();
        golden.extend([7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([2, 0, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend(b"+1");
        assert_eq!(once.encode(), golden);
    }
}
