//! One client connection: read what came, answer it, and read on once the client has taken that.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::ask::Desk;
use super::round::{End, Round, Step};
use super::stopping::Stopping;
use super::unsent::{Dropped, FREE_LEN, Hold, Unsent};
use crate::commands::{Service, Session};
use crate::resp::{Limits, Parser, Reply};

/// Room for one read: little while a client says little, more while it fills what it gets.
const READ_LEN: std::ops::RangeInclusive<usize> = 2 * 1024..=64 * 1024;
/// A reply buffer longer than this is given back after use.
const KEPT_LEN: usize = 16 * 1024;
/// Room for the answers that a round asks for: as much as the client made use of lately.
const ROOM_LEN: std::ops::RangeInclusive<usize> = FREE_LEN..=1 << 20;

/// A client that takes nothing of its replies for so long does not get the rest: until then they
/// stand in memory.
const STALL: Duration = Duration::from_secs(60);
/// One that takes nothing for so long is stuck: it may be dropped if others want the room.
const HESITATION: Duration = Duration::from_millis(100);

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
    let mut connection = Connection {
        session,
        parser,
        desk,
        service: &service,
        bounds,
        out: Vec::new(),
        room: FREE_LEN,
    };
    let end = connection.run(&mut stream, stopping).await;
    service.clients.forget(id);
    if let Ok(End::Close) = end {
        part(&mut stream).await;
    }
}

fn greet(stream: &TcpStream, service: &Service) -> Option<Session> {
    let (peer, local) = (stream.peer_addr().ok()?, stream.local_addr().ok()?);
    let _ = stream.set_nodelay(true);
    let id = service.clients.next_id();
    let session = Session::new(id, peer, local, service.options.password.is_none());
    service.clients.note(&session);
    Some(session)
}

/// Writes replies as fast as they are taken, however slow that is. A client that is stuck may be
/// dropped, for its own sake or for that of others.
async fn say(
    stream: &mut (impl AsyncWrite + Unpin),
    out: &[u8],
    stall: Duration,
    hold: &Hold<'_>,
    session: &Session,
    unsent: &Unsent,
) -> io::Result<()> {
    let begin = Instant::now();
    let mut stuck = None;
    let mut rest = out;
    while !rest.is_empty() {
        let patience = if stuck.is_some() { stall } else { HESITATION.min(stall) };
        let written = tokio::select! {
            biased;
            written = stream.write(rest) => Some(written?),
            () = sleep(patience) => None,
            () = dropped(&mut stuck) => {
                unsent.note_dropped(session.peer, rest.len(), begin, "others want the room");
                return Err(io::ErrorKind::TimedOut.into());
            }
        };
        match written {
            Some(0) => return Err(io::ErrorKind::WriteZero.into()),
            Some(n) => rest = rest.get(n..).unwrap_or_default(),
            None if stuck.is_none() => stuck = Some(hold.stuck(begin, session.id)),
            None => {
                unsent.note_dropped(session.peer, rest.len(), begin, "it took nothing for long");
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
    Ok(())
}

async fn dropped(stuck: &mut Option<Dropped<'_>>) {
    match stuck {
        Some(stuck) => stuck.wait().await,
        None => std::future::pending().await,
    }
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
    /// For the answers that the next round asks for.
    room: usize,
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
            let end = self.answer(round, stream).await?;
            self.out.shrink_to(KEPT_LEN);
            if end != End::Open {
                return Ok(end);
            }
        }
    }

    /// Answers a round, in pieces for which there is room. What is behind a piece waits until the
    /// client has taken it.
    async fn answer(&mut self, mut round: Round, stream: &mut TcpStream) -> io::Result<End> {
        let unsent = &self.service.unsent;
        let mut hold = unsent.hold();
        let mut room = self.room;
        if round.asks_for_values() && room > FREE_LEN {
            hold.grow(room + FREE_LEN).await;
        }
        round.ask(&mut self.desk, room).await;
        let (mut said, mut again) = (0, false);
        let end = loop {
            let step = round.write(&mut self.desk, self.service, &mut self.out).await;
            hold.grow(self.out.len() + round.held()).await;
            say(stream, &self.out, STALL, &hold, &self.session, unsent).await?;
            said += self.out.len();
            self.out.clear();
            match step {
                Step::Full => {}
                Step::End(end) => break end,
                Step::Ask(needed) => {
                    again = true;
                    self.room = (self.room * 2).min(*ROOM_LEN.end());
                    // Who has something in memory must not wait for room that others have.
                    if round.held() == 0 {
                        hold.release();
                        room = self.room;
                    }
                    room = room.max(needed);
                    hold.grow(room + FREE_LEN).await;
                    round.ask_again(&mut self.desk, room).await;
                }
            }
        };
        if !again && said < self.room / 8 {
            self.room = (self.room / 2).max(*ROOM_LEN.start());
        }
        self.service.traffic.bytes_out.fetch_add(said as u64, Ordering::Relaxed);
        Ok(end)
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

    fn session() -> Session {
        let address = ([127, 0, 0, 1], 1).into();
        Session::new(1, address, address, true)
    }

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
        let unsent = Unsent::new(1 << 20);
        let (hold, session) = (unsent.hold(), session());
        let all = say(&mut here, &[7; 100], stall, &hold, &session, &unsent).await;
        all.expect("all of it, after more than one stall");
        let _there = reads.await.expect("no panic");
        let rest = say(&mut here, &[7; 100], stall, &hold, &session, &unsent).await;
        let error = rest.expect_err("nobody reads");
        assert_eq!(unsent.dropped(), 1);
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
