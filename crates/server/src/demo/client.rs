//! A small client of the Redis protocol: requests out, replies in.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A node that does not answer for so long is given up.
const PATIENCE: Duration = Duration::from_secs(15);

/// A reply, as far as the demonstration tells them apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+OK` and the like.
    Simple,
    /// An error, refused before it had an effect.
    Error(String),
    /// A number.
    Int(i64),
    /// Bytes, or none.
    Bulk(Option<Vec<u8>>),
    /// A list.
    Array(Vec<Reply>),
}

/// One connection.
pub struct Client {
    stream: TcpStream,
    out: Vec<u8>,
    buffer: BytesMut,
}

impl Client {
    /// Connects.
    pub async fn connect(address: &str) -> io::Result<Client> {
        let stream = timeout(Duration::from_secs(1), TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        Ok(Client { stream, out: Vec::new(), buffer: BytesMut::with_capacity(16 * 1024) })
    }

    /// Adds a request to those that are sent next.
    pub fn push(&mut self, args: &[&[u8]]) {
        self.out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
        for arg in args {
            self.out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            self.out.extend_from_slice(arg);
            self.out.extend_from_slice(b"\r\n");
        }
    }

    /// Sends what was pushed.
    pub async fn send(&mut self) -> io::Result<()> {
        let sent = timeout(PATIENCE, self.stream.write_all(&self.out)).await;
        self.out.clear();
        sent?
    }

    /// Waits for the next reply.
    pub async fn receive(&mut self) -> io::Result<Reply> {
        loop {
            if let Some((reply, len)) = parse(&self.buffer)? {
                self.buffer.advance(len);
                return Ok(reply);
            }
            self.buffer.reserve(16 * 1024);
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await??;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// The first reply of a buffer and its length; `None` if it is not complete.
fn parse(bytes: &[u8]) -> io::Result<Option<(Reply, usize)>> {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let (line, after) = (&bytes[..end], end + 2);
    let text = String::from_utf8_lossy(line.get(1..).unwrap_or_default()).into_owned();
    let number = || text.parse::<i64>().map_err(|_| invalid(&text));
    match line.first() {
        Some(b'+') => Ok(Some((Reply::Simple, after))),
        Some(b'-') => Ok(Some((Reply::Error(text), after))),
        Some(b':') => Ok(Some((Reply::Int(number()?), after))),
        Some(b'$') => {
            let Ok(len) = usize::try_from(number()?) else {
                return Ok(Some((Reply::Bulk(None), after)));
            };
            let value = bytes.get(after..after + len + 2).and_then(|value| value.get(..len));
            Ok(value.map(|value| (Reply::Bulk(Some(value.to_vec())), after + len + 2)))
        }
        Some(b'*') => {
            let (mut items, mut at) = (Vec::new(), after);
            for _ in 0..number()? {
                let Some((item, len)) = parse(&bytes[at..])? else { return Ok(None) };
                items.push(item);
                at += len;
            }
            Ok(Some((Reply::Array(items), at)))
        }
        _ => Err(invalid(&text)),
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not a reply: {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_once_they_are_complete() {
        let bytes = b"*3\r\n$2\r\nab\r\n$-1\r\n:7\r\n+OK\r\n";
        let list =
            Reply::Array(vec![Reply::Bulk(Some(b"ab".into())), Reply::Bulk(None), Reply::Int(7)]);
        let whole = bytes.len() - 5;
        for len in 0..whole {
            assert_eq!(parse(&bytes[..len]).unwrap(), None, "{len} bytes");
        }
        assert_eq!(parse(bytes).unwrap(), Some((list, whole)));
        assert_eq!(parse(&bytes[whole..]).unwrap(), Some((Reply::Simple, 5)));
        assert!(parse(b"?\r\n").is_err());
    }
}
