//! Just enough of an HTTP client to ask an admin port.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use refloat_net::TimedStream;

/// The longest answer that is read.
const ANSWER_LEN_MAX: u64 = 16 << 20;

/// Asks for a path, and waits for so long in all; returns the status code and the body.
pub fn get(address: SocketAddr, path: &str, timeout: Duration) -> io::Result<(u16, String)> {
    let head = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    say(address, &head, timeout)
}

/// Gives an order, as JSON, and waits for so long in all; returns the status code and the body.
pub fn post(
    address: SocketAddr,
    path: &str,
    body: &str,
    timeout: Duration,
) -> io::Result<(u16, String)> {
    let text = format!(
        "POST {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    say(address, &text, timeout)
}

fn say(address: SocketAddr, text: &str, timeout: Duration) -> io::Result<(u16, String)> {
    let mut stream = TimedStream::connect(&address.to_string(), timeout)?;
    stream.write_all(text.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_LEN_MAX).read_to_end(&mut answer)?;
    parse(&String::from_utf8_lossy(&answer))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut words = head.strip_prefix("HTTP/")?.split(' ');
    let code = words.nth(1)?.parse().ok()?;
    Some((code, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn an_answer_is_a_code_and_a_body() {
        let answer = "HTTP/1.0 503 Service Unavailable\r\na: b\r\n\r\nno leader\r\n\r\n";
        assert_eq!(parse(answer), Some((503, "no leader\r\n\r\n".into())));
        for broken in ["", "-ERR x\r\n", "HTTP/1.1\r\n\r\n", "HTTP/1.1 x y\r\n\r\n"] {
            assert_eq!(parse(broken), None, "{broken:?}");
        }
    }
}
