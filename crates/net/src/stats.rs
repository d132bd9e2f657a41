//! Counters.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What a transport did since it was made.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats { $($(#[$doc])* pub $name: u64,)* }

        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: AtomicU64,)* }

        impl Counters {
            pub(crate) fn read(&self) -> Stats {
                Stats { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Connections that this node opened and that were welcomed.
    connects,
    /// Attempts of this node to connect that failed before an answer came.
    connects_failed,
    /// Connections that this node welcomed.
    accepts,
    /// Connections closed at once because too many were open or in the handshake.
    accepts_over_limit,
    /// Handshakes from others that were malformed, too long or too slow.
    handshakes_bad,
    /// Hellos that this node refused.
    refused_by_us,
    /// Hellos of this node that another refused, or answers that this node did not believe.
    refused_by_peer,
    /// Connections closed for a frame that was malformed, too long, corrupt or too slow.
    bad_frames,
    /// Of those, frames whose checksum did not match.
    bad_checksums,
    /// Connections closed because nothing arrived for too long.
    idle_closed,
    /// Frames written.
    frames_sent,
    /// Bytes written, headers and keep-alives included.
    bytes_sent,
    /// Batches of frames written: each is one system call where the socket takes it whole.
    writes,
    /// Frames received.
    frames_received,
    /// Bytes of frames received, headers and keep-alives included.
    bytes_received,
    /// Frames dropped because the queue was full.
    dropped_full,
    /// Frames dropped because there was no connection, or it broke while they waited.
    dropped_not_connected,
    /// Frames dropped for a peer without an address.
    dropped_unknown_peer,
    /// Frames dropped because they were too long.
    dropped_too_long,
}

/// Adds to a counter. Counters order nothing, so relaxed is enough.
pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
