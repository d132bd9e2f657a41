//! Connections that others opened.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use refloat_types::Member;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tracing::{debug, info, warn};

use super::Shared;
use super::stream::{Closed, read_frames, read_handshake, write_frames, write_handshake};
use crate::handshake::{HandshakeError, is_ask};
use crate::stats::add;
use crate::{Event, Hello, Lane, Refusal, Reply};

/// The connections that are open, and room for more.
pub(crate) struct Inbound {
    all: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    /// The newest connection per life and lane, with the way to end it.
    current: Mutex<BTreeMap<(Member, Lane), Arc<Notify>>>,
}

impl Inbound {
    pub(crate) fn new(max: usize, max_handshakes: usize) -> Inbound {
        Inbound {
            all: Arc::new(Semaphore::new(max)),
            handshakes: Arc::new(Semaphore::new(max_handshakes)),
            current: Mutex::default(),
        }
    }

    /// Takes the place of an older connection: a peer opens a new one only when it gave the old
    /// one up, though this side may not have heard yet.
    fn replace(&self, key: (Member, Lane)) -> Arc<Notify> {
        let replaced = Arc::new(Notify::new());
        if let Some(old) = self.current.lock().insert(key, replaced.clone()) {
            old.notify_one();
        }
        replaced
    }

    fn leave(&self, key: (Member, Lane), mine: &Arc<Notify>) {
        let mut current = self.current.lock();
        if current.get(&key).is_some_and(|newest| Arc::ptr_eq(newest, mine)) {
            current.remove(&key);
        }
    }
}

/// Accepts for ever. What is over the limits is closed at once, before it costs anything.
pub(crate) async fn accept_all(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or a peer that left at once: neither ends the listening.
                warn!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let (all, handshakes) = (shared.inbound.all.clone(), shared.inbound.handshakes.clone());
        match (all.try_acquire_owned(), handshakes.try_acquire_owned()) {
            (Ok(place), Ok(handshake)) => {
                shared.spawn(receive(shared.clone(), stream, address, place, handshake));
            }
            _ => {
                add(&shared.counters.accepts_over_limit, 1);
                debug!(%address, "too many connections");
            }
        }
    }
}

async fn receive(
    shared: Arc<Shared>,
    mut stream: TcpStream,
    address: SocketAddr,
    _place: OwnedSemaphorePermit,
    handshake: OwnedSemaphorePermit,
) {
    let welcomed = welcome(&shared, &mut stream).await;
    drop(handshake);
    match welcomed {
        Ok(Ok(hello)) => serve(&shared, stream, address, hello).await,
        Ok(Err(reason)) => {
            add(&shared.counters.refused_by_us, 1);
            warn!(%address, %reason, "refused a connection");
        }
        Err(Closed::Asked) => debug!(%address, "answered who this cluster is"),
        Err(closed) => {
            add(&shared.counters.handshakes_bad, 1);
            warn!(%address, reason = %closed, "closed a connection in its handshake");
        }
    }
}

async fn welcome(
    shared: &Shared,
    stream: &mut TcpStream,
) -> Result<Result<Hello, Refusal>, Closed> {
    let config = &shared.config;
    stream.set_nodelay(true)?;
    let bytes = read_handshake(stream, config.handshake_timeout).await?;
    if is_ask(&bytes) {
        let card = shared.card.read().clone();
        write_handshake(stream, &card, config.handshake_timeout).await?;
        return Err(Closed::Asked);
    }
    let admitted = match Hello::decode(&bytes) {
        Ok(hello) => match hello.admit(&config.identity) {
            Err(Refusal::WrongCluster { found, expected }) if config.former.contains(&found) => {
                Err(Refusal::Superseded { found, expected })
            }
            admitted => admitted.map(|()| hello),
        },
        Err(HandshakeError::NewerVersion { found, expected }) => {
            Err(Refusal::NewerVersion { found, expected })
        }
        Err(error) => return Err(Closed::Handshake(error)),
    };
    let reply = Reply { from: config.identity, run: config.run, refusal: admitted.err() };
    write_handshake(stream, &reply.encode(), config.handshake_timeout).await?;
    Ok(admitted)
}

async fn serve(shared: &Shared, stream: TcpStream, address: SocketAddr, hello: Hello) {
    let Hello { run, lane, .. } = hello;
    let from = hello.from.member;
    let (config, counters) = (&shared.config, &shared.counters);
    add(&counters.accepts, 1);
    let _present = shared.presence.enter(from, run);
    let replaced = shared.inbound.replace((from, lane));
    shared.kick(from.node);
    let each = |bytes| {
        (shared.deliver)(Event::Frame { from, run, lane, bytes });
        Ok(())
    };
    let (reader, writer) = stream.into_split();
    let closed = tokio::select! {
        closed = read_frames(reader, lane, config, counters, each) => closed,
        closed = write_frames(&writer, lane, config, counters, None) => closed,
        () = replaced.notified() => Closed::Replaced,
    };
    shared.inbound.leave((from, lane), &replaced);
    closed.count(counters);
    if closed.is_fault_of_peer() {
        warn!(peer = %from, run, %lane, %address, reason = %closed, "closed a connection");
    } else {
        info!(peer = %from, run, %lane, %address, reason = %closed, "connection ended");
    }
}
