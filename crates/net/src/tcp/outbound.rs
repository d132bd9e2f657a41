//! The connection that this node keeps to one lane of one peer.

use std::sync::Arc;

use refloat_types::{Member, NodeId};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use super::Shared;
use super::queue::Queue;
use super::stream::{Closed, read_frames, read_handshake, write_frames, write_handshake};
use crate::backoff::Backoff;
use crate::handshake::HandshakeError;
use crate::stats::add;
use crate::{Event, Hello, Lane, Peer, Refusal, Reply};

/// One lane of one peer: a queue, and a task that keeps a connection for it.
pub(crate) struct Link {
    pub(crate) to: NodeId,
    pub(crate) lane: Lane,
    pub(crate) peer: Peer,
    pub(crate) queue: Queue,
    /// Ends the wait before the next attempt.
    pub(crate) kick: Notify,
}

/// Why an attempt came to nothing.
enum Failed {
    Closed(Closed),
    Refused(Refusal),
}

impl From<Closed> for Failed {
    fn from(closed: Closed) -> Failed {
        Failed::Closed(closed)
    }
}

/// Closes the queue whatever ends the attempt, a cancelled task included.
struct Open<'a>(&'a Link, &'a Shared);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        add(&self.1.counters.dropped_not_connected, self.0.queue.close());
    }
}

/// Connects, serves, waits, for ever. The queue takes frames from the start of an attempt to its
/// end, so that nothing older than one attempt is ever sent.
pub(crate) async fn keep_connected(shared: Arc<Shared>, link: Arc<Link>) {
    let Link { to, lane, .. } = *link;
    let config = &shared.config;
    let seed = config.seed ^ to.0.rotate_left(8) ^ lane as u64;
    let mut backoff = Backoff::new(config.backoff_min, config.backoff_max, seed);
    loop {
        let open = Open(&link, &shared);
        link.queue.open();
        let began = Instant::now();
        match attempt(&shared, &link).await {
            Failed::Refused(reason) => {
                add(&shared.counters.refused_by_peer, 1);
                warn!(peer = %to, %lane, %reason, "peer refused");
                (shared.deliver)(Event::Refused { to, reason });
            }
            Failed::Closed(closed) => debug!(peer = %to, %lane, reason = %closed, "not connected"),
        }
        drop(open);
        if began.elapsed() > config.backoff_max + config.connect_timeout {
            backoff.reset();
        }
        let _ = timeout(backoff.next_wait(), link.kick.notified()).await;
    }
}

async fn attempt(shared: &Shared, link: &Link) -> Failed {
    match connect(shared, link).await {
        Ok((stream, from, run)) => serve(shared, link, stream, from, run).await.into(),
        Err(failed) => {
            add(&shared.counters.connects_failed, u64::from(matches!(failed, Failed::Closed(_))));
            failed
        }
    }
}

async fn connect(shared: &Shared, link: &Link) -> Result<(TcpStream, Member, u64), Failed> {
    let config = &shared.config;
    let connecting = TcpStream::connect(&link.peer.address);
    let mut stream = match timeout(config.connect_timeout, connecting).await {
        Ok(stream) => stream.map_err(Closed::Io)?,
        Err(_) => return Err(Closed::Slow("connect").into()),
    };
    stream.set_nodelay(true).map_err(Closed::Io)?;
    let hello = Hello {
        from: config.identity,
        run: config.run,
        to: link.to,
        incarnation: link.peer.incarnation,
        lane: link.lane,
    };
    write_handshake(&mut stream, &hello.encode(), config.handshake_timeout).await?;
    let bytes = read_handshake(&mut stream, config.handshake_timeout).await?;
    let reply = match Reply::decode(&bytes) {
        Ok(reply) => reply,
        Err(HandshakeError::NewerVersion { found, expected }) => {
            return Err(Failed::Refused(Refusal::NewerVersion { found, expected }));
        }
        Err(error) => return Err(Closed::Handshake(error).into()),
    };
    let from = reply.accept(&hello).map_err(Failed::Refused)?;
    Ok((stream, from, reply.run))
}

async fn serve(shared: &Shared, link: &Link, stream: TcpStream, from: Member, run: u64) -> Closed {
    add(&shared.counters.connects, 1);
    let (lane, config, counters) = (link.lane, &shared.config, &shared.counters);
    let _present = shared.presence.enter(from, run);
    info!(peer = %from, run, %lane, "connected");
    let (reader, writer) = stream.into_split();
    let writer = Arc::new(writer);
    link.queue.connected(writer.clone());
    let closed = tokio::select! {
        closed = read_frames(reader, lane, config, counters, |_| Err(Closed::Unexpected)) => closed,
        closed = write_frames(&writer, lane, config, counters, Some(&link.queue)) => closed,
    };
    closed.count(counters);
    info!(peer = %from, run, %lane, reason = %closed, "disconnected");
    closed
}
