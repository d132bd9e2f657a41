//! The transport over TCP.

mod inbound;
mod outbound;
mod presence;
mod queue;
mod stream;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use refloat_types::NodeId;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use self::inbound::{Inbound, accept_all};
use self::outbound::{Link, keep_connected};
use self::presence::Presence;
use self::queue::{Pushed, Queue};
use crate::stats::{Counters, add};
use crate::{Config, Deliver, Dropped, Lane, Peer, Stats, Transport};

/// Frames over TCP: one connection per peer and lane for what this node sends, and whatever
/// connections others opened for what they send. Dropping it shuts it down.
pub struct TcpTransport {
    shared: Arc<Shared>,
    local_addr: SocketAddr,
}

struct Shared {
    config: Config,
    runtime: Handle,
    deliver: Deliver,
    counters: Counters,
    presence: Arc<Presence>,
    inbound: Inbound,
    /// The answer to who asks; empty before there is one.
    card: RwLock<Vec<u8>>,
    links: RwLock<BTreeMap<NodeId, PeerLinks>>,
    /// `true` ends every task; each holds a receiver for as long as it lives.
    stop: watch::Sender<bool>,
}

struct PeerLinks {
    peer: Peer,
    lanes: [Arc<Link>; 2],
    tasks: [AbortHandle; 2],
}

impl TcpTransport {
    /// Listens on `config.listen` and starts accepting on `runtime`. Connects to nobody until
    /// [`Transport::set_peers`].
    ///
    /// # Errors
    /// The address cannot be resolved or listened on.
    pub fn bind(
        config: Config,
        runtime: &Handle,
        deliver: Deliver,
    ) -> Result<TcpTransport, BindError> {
        let address = config.listen.clone();
        let (listener, local_addr) =
            listen(&address, runtime).map_err(|source| BindError { address, source })?;
        let shared = Arc::new(Shared {
            runtime: runtime.clone(),
            counters: Counters::default(),
            presence: Presence::new(deliver.clone()),
            inbound: Inbound::new(config.max_inbound, config.max_handshakes),
            card: RwLock::default(),
            links: RwLock::default(),
            stop: watch::Sender::new(false),
            deliver,
            config,
        });
        shared.spawn(accept_all(shared.clone(), listener));
        Ok(TcpTransport { shared, local_addr })
    }

    /// The address that it listens on, with the port that was taken.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What it did so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.counters.read()
    }

    /// Waits until all tasks and sockets are gone after [`Transport::shutdown`]: from then on no
    /// event is delivered, and the address can be listened on again.
    pub async fn closed(&self) {
        self.shared.stop.closed().await;
    }
}

fn listen(address: &str, runtime: &Handle) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let local_addr = listener.local_addr()?;
    let _inside = runtime.enter();
    Ok((TcpListener::from_std(listener)?, local_addr))
}

impl Transport for TcpTransport {
    fn send(&self, to: NodeId, lane: Lane, frame: Bytes) -> Result<(), Dropped> {
        let sent = self.shared.queue(to, lane, frame);
        let counters = &self.shared.counters;
        match sent {
            Ok(()) | Err(Dropped::ShutDown) => {}
            Err(Dropped::Full) => add(&counters.dropped_full, 1),
            Err(Dropped::NotConnected) => add(&counters.dropped_not_connected, 1),
            Err(Dropped::UnknownPeer) => add(&counters.dropped_unknown_peer, 1),
            Err(Dropped::TooLong) => add(&counters.dropped_too_long, 1),
        }
        sent
    }

    fn set_peers(&self, peers: &BTreeMap<NodeId, Peer>) {
        self.shared.set_peers(peers);
    }

    fn set_card(&self, card: Bytes) {
        match crate::handshake::card(&card) {
            Some(message) => *self.shared.card.write() = message,
            None => tracing::error!(len = card.len(), "the card is too long to be answered"),
        }
    }

    fn shutdown(&self) {
        self.shared.stop.send_replace(true);
        // Taken out first and dropped after: a task that ends reports it, and whoever hears of
        // it may call back.
        let links = std::mem::take(&mut *self.shared.links.write());
        drop(links);
    }
}

impl Drop for TcpTransport {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Drop for PeerLinks {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Shared {
    /// Runs a task until it ends or the transport is shut down.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut stop = self.stop.subscribe();
        let task = async move {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {}
                () = task => {}
            }
        };
        self.runtime.spawn(task).abort_handle()
    }

    fn queue(&self, to: NodeId, lane: Lane, frame: Bytes) -> Result<(), Dropped> {
        if *self.stop.borrow() {
            return Err(Dropped::ShutDown);
        }
        if frame.len() > self.config.max_frame {
            return Err(Dropped::TooLong);
        }
        let links = self.links.read();
        let link = links.get(&to).ok_or(Dropped::UnknownPeer)?;
        if let Pushed::Written(bytes) = link.lane(lane).queue.push(frame)? {
            add(&self.counters.frames_sent, 1);
            add(&self.counters.bytes_sent, bytes);
            add(&self.counters.writes, 1);
        }
        Ok(())
    }

    fn set_peers(self: &Arc<Self>, peers: &BTreeMap<NodeId, Peer>) {
        if *self.stop.borrow() {
            return;
        }
        let mut links = self.links.write();
        let mut old = std::mem::take(&mut *links);
        for (&to, peer) in peers {
            let kept = old.remove(&to).filter(|link| link.peer == *peer);
            links.insert(to, kept.unwrap_or_else(|| self.link(to, peer)));
        }
        drop(links);
        drop(old);
    }

    fn link(self: &Arc<Self>, to: NodeId, peer: &Peer) -> PeerLinks {
        let lanes = Lane::ALL.map(|lane| {
            let queue = Queue::new(lane, self.config.queue_bytes[lane as usize]);
            let kick = tokio::sync::Notify::new();
            Arc::new(Link { to, lane, peer: peer.clone(), queue, kick })
        });
        let tasks =
            [&lanes[0], &lanes[1]].map(|l| self.spawn(keep_connected(self.clone(), l.clone())));
        PeerLinks { peer: peer.clone(), lanes, tasks }
    }

    /// A peer that connects is back: do not wait to connect to it.
    fn kick(&self, node: NodeId) {
        if let Some(links) = self.links.read().get(&node) {
            links.lanes.iter().for_each(|link| link.kick.notify_one());
        }
    }
}

impl PeerLinks {
    fn lane(&self, lane: Lane) -> &Link {
        match lane {
            Lane::Urgent => &self.lanes[0],
            Lane::Bulk => &self.lanes[1],
        }
    }
}

/// The listening address cannot be had.
#[derive(Debug)]
pub struct BindError {
    /// The address, as it was configured.
    pub address: String,
    /// What the system said.
    pub source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}", self.address)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
