//! Asking at a node's address which cluster it belongs to, before having an identity.

use std::fmt;
use std::io::{self, Read, Write};
use std::time::Duration;

use bytes::Bytes;

use crate::HANDSHAKE_PREFIX_LEN;
use crate::handshake::{HandshakeError, ask as question, card_len, read_card};
use crate::timed::TimedStream;

/// Why there is no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum AskError {
    /// No connection.
    Io {
        /// Where.
        address: String,
        /// The cause.
        source: io::Error,
    },
    /// Somebody took the connection and did not answer.
    Silent {
        /// Where.
        address: String,
        /// The cause.
        source: io::Error,
    },
    /// The answer is not one.
    Answer {
        /// Where.
        address: String,
        /// What is wrong with it.
        source: HandshakeError,
    },
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskError::Io { address, .. } => write!(f, "nobody answers at {address}"),
            AskError::Silent { address, .. } => {
                write!(f, "{address} takes the connection and does not answer")
            }
            AskError::Answer { address, .. } => write!(f, "no refloat node answers at {address}"),
        }
    }
}

impl std::error::Error for AskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AskError::Io { source, .. } | AskError::Silent { source, .. } => Some(source),
            AskError::Answer { source, .. } => Some(source),
        }
    }
}

/// Asks a node for the card that it was given by [`crate::Transport::set_card`]. Blocks for `patience`
/// at most, all steps together; reads at most 64 KiB.
///
/// # Errors
/// Nobody answers, or not in the way of a node.
pub fn ask(address: &str, patience: Duration) -> Result<Bytes, AskError> {
    let io = |source| AskError::Io { address: address.to_owned(), source };
    let silent = |source| AskError::Silent { address: address.to_owned(), source };
    let answer = |source| AskError::Answer { address: address.to_owned(), source };
    let mut stream = TimedStream::connect(address, patience).map_err(io)?;
    stream.write_all(&question()).map_err(silent)?;
    let mut prefix = [0; HANDSHAKE_PREFIX_LEN];
    stream.read_exact(&mut prefix).map_err(silent)?;
    let rest = card_len(&prefix).map_err(answer)?;
    let mut bytes = prefix.to_vec();
    bytes.resize(HANDSHAKE_PREFIX_LEN + rest, 0);
    stream.read_exact(&mut bytes[HANDSHAKE_PREFIX_LEN..]).map_err(silent)?;
    read_card(&bytes).map(Bytes::copy_from_slice).map_err(answer)
}
