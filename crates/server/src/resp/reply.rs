//! What goes back to a client.

use std::borrow::Cow;

use bytes::Bytes;

/// Which version of the protocol a client speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// What every client starts with.
    #[default]
    Resp2,
    /// After `HELLO 3`.
    Resp3,
}

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A short word such as `OK`.
    Simple(&'static str),
    /// An error: a code in capitals, then a sentence.
    Error(Cow<'static, str>),
    /// A number.
    Int(i64),
    /// Bytes.
    Bulk(Bytes),
    /// Absence.
    Null,
    /// A list.
    Array(Vec<Reply>),
    /// Pairs; a flat list for clients of the older protocol.
    Map(Vec<(Reply, Reply)>),
}

impl Reply {
    /// `+OK`.
    pub const OK: Reply = Reply::Simple("OK");

    /// A text as bytes.
    pub fn text(text: impl Into<String>) -> Reply {
        Reply::Bulk(Bytes::from(text.into().into_bytes()))
    }

    /// An error made at run time.
    pub fn error(text: impl Into<Cow<'static, str>>) -> Reply {
        Reply::Error(text.into())
    }

    /// About how many bytes it takes over the wire.
    pub fn len(&self) -> usize {
        16 + match self {
            Reply::Simple(_) | Reply::Int(_) | Reply::Null => 0,
            Reply::Error(text) => text.len(),
            Reply::Bulk(bytes) => bytes.len(),
            Reply::Array(items) => items.iter().map(Reply::len).sum(),
            Reply::Map(pairs) => pairs.iter().map(|(key, value)| key.len() + value.len()).sum(),
        }
    }

    /// Appends the reply as it goes over the wire.
    pub fn write(&self, protocol: Protocol, out: &mut Vec<u8>) {
        match self {
            Reply::Simple(word) => line(b'+', word.as_bytes(), out),
            Reply::Error(text) => error_line(text, out),
            Reply::Int(n) => number(b':', *n, out),
            Reply::Bulk(bytes) => {
                number(b'$', bytes.len() as i64, out);
                out.extend_from_slice(bytes);
                out.extend_from_slice(b"\r\n");
            }
            Reply::Null => out.extend_from_slice(match protocol {
                Protocol::Resp2 => b"$-1\r\n",
                Protocol::Resp3 => b"_\r\n",
            }),
            Reply::Array(items) => {
                number(b'*', items.len() as i64, out);
                items.iter().for_each(|item| item.write(protocol, out));
            }
            Reply::Map(pairs) => {
                match protocol {
                    Protocol::Resp2 => number(b'*', pairs.len() as i64 * 2, out),
                    Protocol::Resp3 => number(b'%', pairs.len() as i64, out),
                }
                for (key, value) in pairs {
                    key.write(protocol, out);
                    value.write(protocol, out);
                }
            }
        }
    }
}

fn line(kind: u8, text: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

/// An error may quote what a client sent; a line break in it would forge the next reply.
fn error_line(text: &str, out: &mut Vec<u8>) {
    out.push(b'-');
    out.extend(text.bytes().map(|byte| if byte < b' ' { b' ' } else { byte }));
    out.extend_from_slice(b"\r\n");
}

fn number(kind: u8, n: i64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = n.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.push(kind);
    if n < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(reply: &Reply, protocol: Protocol) -> String {
        let mut out = Vec::new();
        reply.write(protocol, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_kind_of_reply_has_its_form_in_both_protocols() {
        let map = Reply::Map(vec![(Reply::text("proto"), Reply::Int(3))]);
        for (reply, old, new) in [
            (Reply::OK, "+OK\r\n", "+OK\r\n"),
            (Reply::Int(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
            (Reply::Int(0), ":0\r\n", ":0\r\n"),
            (Reply::text("a\r\nb"), "$4\r\na\r\nb\r\n", "$4\r\na\r\nb\r\n"),
            (Reply::Null, "$-1\r\n", "_\r\n"),
            (Reply::Array(vec![Reply::Int(1)]), "*1\r\n:1\r\n", "*1\r\n:1\r\n"),
            (map, "*2\r\n$5\r\nproto\r\n:3\r\n", "%1\r\n$5\r\nproto\r\n:3\r\n"),
        ] {
            assert_eq!(written(&reply, Protocol::Resp2), old);
            assert_eq!(written(&reply, Protocol::Resp3), new);
        }
    }

    #[test]
    fn an_error_that_quotes_a_line_break_stays_one_line() {
        let error = Reply::error("ERR unknown command 'a\r\n+OK'");
        assert_eq!(written(&error, Protocol::Resp2), "-ERR unknown command 'a  +OK'\r\n");
    }
}
