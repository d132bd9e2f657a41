//! One client connection: read what came, answer it in one write, again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::ask::Desk;
use super::round::{End, Round};
use super::stopping::Stopping;
use crate::commands::{Service, Session};
use crate::resp::{Limits, Parser, Protocol, Reply};

/// Room for one read: little while a client says little, more while it fills what it gets.
const READ_LEN: std::ops::RangeInclusive<usize> = 2 * 1024..=64 * 1024;
/// A reply buffer longer than this is given back after use.
const KEPT_LEN: usize = 256 * 1024;

/// A client that takes nothing of its replies for so long does not get the rest: until then they
/// stand in memory.
const STALL: Duration = Duration::from_secs(60);

/// What bounds a connection.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Of single requests.
    pub limits: Limits,
    /// Of the requests that are carried out together, in bytes.
    pub round_len: usize,
}

/// Serves a connection until either side ends it, or the server stops.
pub async fn serve(
    mut stream: TcpStream,
    desk: impl Desk,
    service: Arc<Service>,
    bounds: Bounds,
    stopping: Stopping,
) {
    let Some(session) = greet(&stream, &service) else { return };
    let id = session.id;
    let parser = Parser::new(if session.authenticated { bounds.limits } else { Limits::STRANGER });
    let mut connection =
        Connection { session, parser, desk, service: &service, bounds, out: Vec::new() };
    let end = connection.run(&mut stream, stopping).await;
    service.clients.forget(id);
    if let Ok(End::Close) = end {
        part(&mut stream).await;
    }
}

fn greet(stream: &TcpStream, service: &Service) -> Option<Session> {
    let (peer, local) = (stream.peer_addr().ok()?, stream.local_addr().ok()?);
    let _ = stream.set_nodelay(true);
    let session = Session {
        id: service.clients.next_id(),
        peer,
        local,
        protocol: Protocol::Resp2,
        authenticated: service.options.password.is_none(),
        name: Bytes::new(),
        library: Bytes::new(),
        library_version: Bytes::new(),
        last_command: "",
    };
    service.clients.note(&session);
    Some(session)
}

/// Writes replies as fast as they are taken, however slow that is.
async fn say(
    stream: &mut (impl AsyncWrite + Unpin),
    out: &[u8],
    stall: Duration,
) -> io::Result<()> {
    let mut rest = out;
    while !rest.is_empty() {
        let written = tokio::time::timeout(stall, stream.write(rest)).await;
        match written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => rest = rest.get(n..).unwrap_or_default(),
        }
    }
    Ok(())
}

/// Closing a socket with unread bytes in it resets the connection, and the reset may overtake the
/// last reply. So the rest is read and thrown away, for a moment.
async fn part(stream: &mut TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut waste = [0u8; 4096];
    let drain = async { while matches!(stream.read(&mut waste).await, Ok(1..)) {} };
    let _ = tokio::time::timeout(Duration::from_secs(1), drain).await;
}

struct Connection<'a, D> {
    session: Session,
    parser: Parser,
    desk: D,
    service: &'a Service,
    bounds: Bounds,
    out: Vec<u8>,
}

impl<D: Desk> Connection<'_, D> {
    async fn run(&mut self, stream: &mut TcpStream, mut stopping: Stopping) -> io::Result<End> {
        let mut buffer = BytesMut::new();
        let mut room = *READ_LEN.start();
        loop {
            let round = self.gather(&mut buffer);
            if round.is_empty() {
                buffer.reserve(room);
                let read = tokio::select! {
                    read = stream.read_buf(&mut buffer) => read?,
                    () = stopping.wait() => return Ok(End::Open),
                };
                if read == 0 {
                    return Ok(End::Open);
                }
                room = if read >= room { room * 2 } else { room.midpoint(read) };
                room = room.clamp(*READ_LEN.start(), *READ_LEN.end());
                self.service.traffic.bytes_in.fetch_add(read as u64, Ordering::Relaxed);
                continue;
            }
            let end = round.run(&mut self.desk, self.service, &mut self.out).await;
            say(stream, &self.out, STALL).await?;
            self.service.traffic.bytes_out.fetch_add(self.out.len() as u64, Ordering::Relaxed);
            self.out.clear();
            self.out.shrink_to(KEPT_LEN);
            if end != End::Open {
                return Ok(end);
            }
        }
    }

    fn gather(&mut self, buffer: &mut BytesMut) -> Round {
        let mut round = Round::default();
        while round.has_room(self.bounds.round_len) {
            match self.parser.next(buffer) {
                Ok(Some(request)) => {
                    round.add(&request, &mut self.session, self.service);
                    if self.session.authenticated {
                        self.parser.set_limits(self.bounds.limits);
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    self.service.traffic.protocol_errors.fetch_add(1, Ordering::Relaxed);
                    round.close_with(self.session.protocol, Reply::error(error.to_string()));
                }
            }
        }
        round
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_reads_slowly_gets_everything_and_one_that_does_not_read_is_left() {
        let stall = Duration::from_millis(300);
        let (mut here, mut there) = tokio::io::duplex(10);
        let reads = tokio::spawn(async move {
            let mut found = Vec::new();
            while found.len() < 100 {
                tokio::time::sleep(Duration::from_millis(40)).await;
                let mut some = [0; 10];
                let n = there.read(&mut some).await.expect("open");
                found.extend_from_slice(&some[..n]);
            }
            there
        });
        say(&mut here, &[7; 100], stall).await.expect("all of it, after more than one stall");
        let _there = reads.await.expect("no panic");
        let error = say(&mut here, &[7; 100], stall).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
