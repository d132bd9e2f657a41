//! The little of the Redis protocol that the load needs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

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
        self.out.clear();
        write!(self.out, "*{}\r\n", args.len())?;
        for arg in args {
            write!(self.out, "${}\r\n", arg.len())?;
            self.out.extend_from_slice(arg);
            self.out.extend_from_slice(b"\r\n");
        }
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
