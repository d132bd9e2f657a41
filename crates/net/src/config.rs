//! Settings of the TCP transport.

use std::time::Duration;

use refloat_types::{ClusterId, Identity};

/// Settings of a [`crate::TcpTransport`]; every queue, length and wait has a bound here.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Who this node is.
    pub identity: Identity,
    /// Names that its cluster had before it went on without a lost majority: whoever bears one
    /// is told that it is superseded.
    pub former: Vec<ClusterId>,
    /// The number of this start of the node, durable before the first connection.
    pub run: u64,
    /// `host:port` to listen on; port 0 takes a free one (see [`crate::TcpTransport::local_addr`]).
    pub listen: String,
    /// Seeds the jitter of reconnects.
    pub seed: u64,
    /// Bytes that may wait for one lane of one peer. Default 8 MiB urgent, 32 MiB bulk.
    pub queue_bytes: [usize; 2],
    /// The longest frame, sent or received. Default 8 MiB.
    pub max_frame: usize,
    /// Connections that others may hold open at once, handshakes included. Default 256.
    pub max_inbound: usize,
    /// Connections that others may hold in the handshake at once. Default 32.
    pub max_handshakes: usize,
    /// For resolving an address and opening the TCP connection. Default 2 s.
    pub connect_timeout: Duration,
    /// For the whole handshake. Default 2 s.
    pub handshake_timeout: Duration,
    /// For one frame from its first byte to its last, and for one write. Default 30 s.
    pub frame_timeout: Duration,
    /// An idle connection sends a keep-alive this often. Default 1 s.
    pub keepalive: Duration,
    /// A connection on which nothing arrived for so long is closed. Default 5 s.
    pub idle_timeout: Duration,
    /// The first wait before a reconnect; it doubles up to `backoff_max`. Default 20 ms.
    pub backoff_min: Duration,
    /// The longest wait before a reconnect. Default 1 s.
    pub backoff_max: Duration,
}

impl Config {
    /// The defaults.
    #[must_use]
    pub fn new(identity: Identity, run: u64, listen: impl Into<String>) -> Config {
        Config {
            identity,
            former: Vec::new(),
            run,
            listen: listen.into(),
            seed: 0,
            queue_bytes: [8 << 20, 32 << 20],
            max_frame: 8 << 20,
            max_inbound: 256,
            max_handshakes: 32,
            connect_timeout: Duration::from_secs(2),
            handshake_timeout: Duration::from_secs(2),
            frame_timeout: Duration::from_secs(30),
            keepalive: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(5),
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_secs(1),
        }
    }
}
