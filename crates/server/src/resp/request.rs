//! Requests: how they are cut out of what a socket delivers.

use std::fmt;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::{inline, parse_int};

/// One command and its arguments, never empty.
pub type Request = Vec<Bytes>;

/// The longest line: a command typed by hand, or the length in front of a value.
const LINE_LEN_MAX: usize = 64 * 1024;

/// What a client may send.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest single argument, in bytes.
    pub value_len: usize,
    /// The longest whole request, in bytes.
    pub request_len: usize,
    /// The most arguments of one request.
    pub args: usize,
}

impl Limits {
    /// What a client may send before it has given its password.
    pub const STRANGER: Limits = Limits { value_len: 16 * 1024, request_len: 32 * 1024, args: 16 };
}

/// Why a connection cannot go on: where the next request starts is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// The number after `*` is none, or too large.
    ArgCount,
    /// A value does not start with `$`.
    ExpectedValue(u8),
    /// The number after `$` is none.
    ValueLen,
    /// A value longer than allowed.
    ValueTooLong {
        /// Its length.
        len: u64,
        /// The longest allowed.
        max: usize,
    },
    /// A request longer than allowed.
    RequestTooLong {
        /// The longest allowed.
        max: usize,
    },
    /// A value is not followed by a line end.
    ValueEnd,
    /// A line without end.
    LineTooLong,
    /// A quote without its partner.
    UnbalancedQuotes,
    /// An HTTP client at the wrong port.
    Http,
    /// A TLS client at a port without TLS.
    Tls,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if matches!(self, ProtocolError::Http) {
            return f.write_str(
                "ERR this port speaks the Redis protocol, not HTTP; \
                 HTTP is served on the admin address",
            );
        }
        f.write_str("ERR Protocol error: ")?;
        match self {
            ProtocolError::ArgCount => f.write_str("invalid multibulk length"),
            ProtocolError::ExpectedValue(got) => {
                write!(f, "expected '$', got '{}'", got.escape_ascii())
            }
            ProtocolError::ValueLen => f.write_str("invalid bulk length"),
            ProtocolError::ValueTooLong { len, max } => {
                write!(f, "invalid bulk length: {len} bytes, at most {max} are allowed")
            }
            ProtocolError::RequestTooLong { max } => {
                write!(f, "request longer than {max} bytes")
            }
            ProtocolError::ValueEnd => f.write_str("a value is not followed by CRLF"),
            ProtocolError::LineTooLong => f.write_str("too big inline request"),
            ProtocolError::UnbalancedQuotes => f.write_str("unbalanced quotes in request"),
            ProtocolError::Tls => f.write_str("this port has no TLS"),
            ProtocolError::Http => Ok(()),
        }
    }
}

/// Cuts requests out of a stream. Keeps its place in a request that has not arrived in full,
/// so that a request sent byte by byte is not read from its start for each byte.
#[derive(Debug)]
pub struct Parser {
    limits: Limits,
    /// How much of the buffer is understood.
    at: usize,
    /// Arguments still to come of the request that has begun.
    missing: usize,
    /// The length of the argument that has begun.
    value_len: Option<usize>,
    /// Where the complete arguments of the request stand.
    args: Vec<Range<usize>>,
    /// Where the search for a line end goes on.
    searched: usize,
}

impl Parser {
    /// Starts at the beginning of a stream.
    pub fn new(limits: Limits) -> Parser {
        Parser { limits, at: 0, missing: 0, value_len: None, args: Vec::new(), searched: 0 }
    }

    /// Changes what is allowed from the next request on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes the next request off the front of `buffer`; `None` if it has not arrived in full.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Request>, ProtocolError> {
        loop {
            if self.missing > 0 {
                return self.values(buffer);
            }
            match buffer.first() {
                None => return Ok(None),
                Some(b'*') => {
                    let Some(count) = self.arg_count(buffer)? else { return Ok(None) };
                    if count == 0 {
                        self.take(buffer);
                    }
                    self.missing = count;
                }
                Some(0x16) => return Err(ProtocolError::Tls),
                Some(_) => match self.inline(buffer)? {
                    Some(words) if words.is_empty() => {}
                    words => return Ok(words),
                },
            }
        }
    }

    fn arg_count(&mut self, buffer: &BytesMut) -> Result<Option<usize>, ProtocolError> {
        let Some(line) = self.line(buffer)? else { return Ok(None) };
        let count = parse_int(buffer.get(line.start + 1..line.end).unwrap_or_default())
            .ok_or(ProtocolError::ArgCount)?;
        // As in Redis, a count below zero is an empty request.
        let count = usize::try_from(count).unwrap_or(0);
        if count > self.limits.args { Err(ProtocolError::ArgCount) } else { Ok(Some(count)) }
    }

    fn values(&mut self, buffer: &mut BytesMut) -> Result<Option<Request>, ProtocolError> {
        while self.missing > 0 {
            let len = match self.value_len {
                Some(len) => len,
                None => match self.value_head(buffer)? {
                    Some(len) => *self.value_len.insert(len),
                    None => return Ok(None),
                },
            };
            let end = self.at + len;
            match buffer.get(end..end + 2) {
                None => return Ok(None),
                Some(b"\r\n") => {}
                Some(_) => return Err(ProtocolError::ValueEnd),
            }
            self.args.push(self.at..end);
            self.at = end + 2;
            self.searched = self.at;
            self.value_len = None;
            self.missing -= 1;
        }
        let args = std::mem::take(&mut self.args);
        let frame = self.take(buffer);
        Ok(Some(args.into_iter().map(|range| frame.slice(range)).collect()))
    }

    fn value_head(&mut self, buffer: &BytesMut) -> Result<Option<usize>, ProtocolError> {
        match buffer.get(self.at) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(&other) => return Err(ProtocolError::ExpectedValue(other)),
        }
        let Some(line) = self.line(buffer)? else { return Ok(None) };
        let len = parse_int(buffer.get(line.start + 1..line.end).unwrap_or_default())
            .and_then(|len| u64::try_from(len).ok())
            .ok_or(ProtocolError::ValueLen)?;
        let max = self.limits.value_len;
        match usize::try_from(len) {
            Ok(len) if len <= max && self.at + len + 2 <= self.limits.request_len => Ok(Some(len)),
            Ok(len) if len <= max => {
                Err(ProtocolError::RequestTooLong { max: self.limits.request_len })
            }
            _ => Err(ProtocolError::ValueTooLong { len, max }),
        }
    }

    /// The line at the place reached, without its end; the place moves behind it.
    fn line(&mut self, buffer: &BytesMut) -> Result<Option<Range<usize>>, ProtocolError> {
        let from = self.searched.max(self.at);
        let unread = buffer.get(from..).unwrap_or_default();
        let Some(found) = unread.iter().position(|&byte| byte == b'\n') else {
            self.searched = buffer.len();
            let too_long = buffer.len() - self.at > LINE_LEN_MAX;
            return if too_long { Err(ProtocolError::LineTooLong) } else { Ok(None) };
        };
        let start = self.at;
        let newline = from + found;
        self.at = newline + 1;
        self.searched = self.at;
        let ends_with_return = newline > start && buffer.get(newline - 1) == Some(&b'\r');
        Ok(Some(start..if ends_with_return { newline - 1 } else { newline }))
    }

    fn inline(&mut self, buffer: &mut BytesMut) -> Result<Option<Request>, ProtocolError> {
        let Some(line) = self.line(buffer)? else { return Ok(None) };
        let frame = self.take(buffer);
        let line = frame.slice(line);
        if inline::looks_like_http(&line) {
            return Err(ProtocolError::Http);
        }
        let words = inline::split(&line)?;
        if words.len() > self.limits.args { Err(ProtocolError::ArgCount) } else { Ok(Some(words)) }
    }

    /// Takes what is understood off the buffer.
    fn take(&mut self, buffer: &mut BytesMut) -> Bytes {
        let frame = buffer.split_to(self.at).freeze();
        self.at = 0;
        self.searched = 0;
        frame
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
