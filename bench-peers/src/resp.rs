//! The little of the Redis protocol that the load needs.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::measure::Result;

/// One connection, one command at a time.
pub struct Client {
    stream: TcpStream,
    out: Vec<u8>,
    input: Vec<u8>,
}

impl Client {
    pub fn connect(address: &str) -> Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(15)))?;
        Ok(Client { stream, out: Vec::new(), input: vec![0; 4096] })
    }

    /// Sends a command and reads one line of answer; an error answer is an error.
    pub fn call(&mut self, args: &[&[u8]]) -> Result<String> {
        command(&mut self.out, args)?;
        self.stream.write_all(&self.out)?;
        let mut len = 0;
        while len < 2 || &self.input[len - 2..len] != b"\r\n" {
            let n = self.stream.read(&mut self.input[len..])?;
            if n == 0 {
                return Err("the server closed the connection".into());
            }
            len += n;
        }
        let line = String::from_utf8_lossy(&self.input[..len - 2]).into_owned();
        match line.strip_prefix('-') {
            Some(error) => Err(error.to_owned().into()),
            None => Ok(line),
        }
    }
}

/// Replaces what is in `out` with one command.
fn command(out: &mut Vec<u8>, args: &[&[u8]]) -> Result<()> {
    out.clear();
    write!(out, "*{}\r\n", args.len())?;
    for arg in args {
        write!(out, "${}\r\n", arg.len())?;
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    Ok(())
}

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Set,
    /// Reads what an earlier window wrote.
    Get,
    /// Has as many bytes answered, and nobody asked: what the connections alone cost.
    Ping,
}

impl Verb {
    pub fn name(self) -> &'static str {
        match self {
            Verb::Set => "SET",
            Verb::Get => "GET",
            Verb::Ping => "PING",
        }
    }
}

/// One of many connections that one thread drives, one command at a time in each.
pub struct Connection {
    stream: mio::net::TcpStream,
    number: usize,
    count: usize,
    out: Vec<u8>,
    input: Vec<u8>,
    held: usize,
    /// When the command went out whose answer is awaited.
    pub sent: Instant,
}

impl Connection {
    pub fn open(address: &str, number: usize, registry: &mio::Registry) -> Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = mio::net::TcpStream::from_std(stream);
        registry.register(&mut stream, mio::Token(number), mio::Interest::READABLE)?;
        let (out, input) = (Vec::new(), vec![0; 64 << 10]);
        Ok(Connection { stream, number, count: 0, out, input, held: 0, sent: Instant::now() })
    }

    /// Sends the next command.
    pub fn send(&mut self, verb: Verb, value: &[u8]) -> Result<()> {
        self.count += 1;
        let key = format!("k:{}:{}", self.number, self.count % 1000);
        match verb {
            Verb::Set => command(&mut self.out, &[b"SET", key.as_bytes(), value])?,
            Verb::Get => command(&mut self.out, &[b"GET", key.as_bytes()])?,
            Verb::Ping => command(&mut self.out, &[b"PING", value])?,
        }
        self.sent = Instant::now();
        // A command is far smaller than the socket's buffer, which is empty.
        if self.stream.write(&self.out)? < self.out.len() {
            return Err("the socket did not take a whole command".into());
        }
        Ok(())
    }

    /// Takes what has arrived; whether the answer is whole. An error answer is an error.
    pub fn receive(&mut self) -> Result<bool> {
        loop {
            match self.stream.read(&mut self.input[self.held..]) {
                Ok(0) => return Err("the server closed the connection".into()),
                Ok(n) => self.held += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => return Err(e.into()),
            }
        }
        let whole = answer_is_whole(&self.input[..self.held])?;
        if whole {
            self.held = 0;
        }
        Ok(whole)
    }
}

fn answer_is_whole(bytes: &[u8]) -> Result<bool> {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else { return Ok(false) };
    let line = std::str::from_utf8(&bytes[..end])?;
    match line.split_at_checked(1) {
        Some(("+", _)) => Ok(true),
        Some(("$", "-1")) => Ok(true),
        Some(("$", len)) => Ok(bytes.len() >= end + 2 + len.parse::<usize>()? + 2),
        _ => Err(line.to_owned().into()),
    }
}
