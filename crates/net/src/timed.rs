//! Blocking connections that are over at a set time, whatever the other side does.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// A connection whose steps together take no longer than a given time: to find the address, to
/// connect, and every read and write. A timeout per step would let who sends a byte now and then
/// hold its caller for ever.
#[derive(Debug)]
pub struct TimedStream {
    stream: TcpStream,
    end: Instant,
}

impl TimedStream {
    /// Connects to the first of a name's addresses that takes the connection. Everything that
    /// follows ends within `patience` from now with [`io::ErrorKind::TimedOut`].
    ///
    /// # Errors
    /// None took it, or not in time.
    pub fn connect(address: &str, patience: Duration) -> io::Result<TimedStream> {
        let end = Instant::now() + patience;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in resolve(address, end)? {
            match TcpStream::connect_timeout(&address, left(end)?) {
                Ok(stream) => return Ok(TimedStream { stream, end }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// The system's own search for a name cannot be cut off: it ends on a thread of its own.
fn resolve(address: &str, end: Instant) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    let (sender, receiver) = channel();
    let name = address.to_owned();
    std::thread::Builder::new().name("refloat-resolve".into()).spawn(move || {
        let _ = sender.send(name.to_socket_addrs().map(Iterator::collect));
    })?;
    receiver.recv_timeout(left(end)?).unwrap_or_else(|_| Err(over()))
}

/// What is left of the time; never zero, which would mean no limit.
fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(over()) } else { Ok(left) }
}

fn over() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

/// A socket says "would block" where its timeout is over.
fn timed<T>(result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => over(),
        _ => error,
    })
}

impl Read for TimedStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.end)?))?;
        timed(self.stream.read(buf))
    }
}

impl Write for TimedStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.end)?))?;
        timed(self.stream.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Takes one connection and sends one of these bytes now and then, as long as anybody takes it.
    fn trickle(bytes: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        std::thread::spawn(move || {
            let Ok((mut stream, _)) = listener.accept() else { return };
            for byte in bytes {
                if stream.write_all(&[byte]).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        address
    }

    #[test]
    fn who_sends_a_byte_now_and_then_holds_nobody_longer_than_he_wants_to_wait() {
        let patience = Duration::from_millis(400);
        let begun = Instant::now();
        let mut stream =
            TimedStream::connect(&trickle(vec![b'R'; 1000]), patience).expect("connected");
        let error = stream.read_exact(&mut [0; 1000]).expect_err("far from enough");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        assert!(begun.elapsed() >= patience);
        assert!(begun.elapsed() < 3 * patience, "{:?}", begun.elapsed());
    }

    /// The card is a sound one, and would be whole after ten seconds.
    #[test]
    fn a_card_that_comes_byte_by_byte_is_not_waited_for() {
        let patience = Duration::from_millis(400);
        let card = crate::handshake::card(&[7; 200]).expect("short enough");
        let begun = Instant::now();
        let error = crate::ask(&trickle(card), patience).expect_err("not in time");
        assert!(matches!(error, crate::AskError::Silent { .. }), "{error}");
        assert!(begun.elapsed() < 3 * patience, "{:?}", begun.elapsed());
    }

    #[test]
    fn names_are_found_and_those_that_are_none_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let patience = Duration::from_secs(20);
        TimedStream::connect(&format!("localhost:{port}"), patience).expect("found");
        TimedStream::connect("no port", patience).expect_err("no address");
    }
}
