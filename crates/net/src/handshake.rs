//! The two messages that open a connection, as pure functions over bytes.
//!
//! Byte tables: `docs/formats/wire.md`.

use std::fmt;

use refloat_types::codec::{DecodeError, Put, Reader};
use refloat_types::{ClusterId, Identity, Incarnation, Member, NodeId};

use crate::Lane;
use crate::refusal::{Refusal, code, refusal};

/// The protocol version that this code speaks.
pub const PROTOCOL_VERSION: u16 = 1;

/// The most bytes that either side reads before it believes the other: longer is refused.
pub const MAX_HANDSHAKE_LEN: usize = 512;

/// Magic, version and length of the body: the part that no later version may change.
pub const HANDSHAKE_PREFIX_LEN: usize = 12;

const HELLO_MAGIC: [u8; 8] = *b"RFLTHELO";
const REPLY_MAGIC: [u8; 8] = *b"RFLTRPLY";
const ASK_MAGIC: [u8; 8] = *b"RFLTASKS";
const CARD_MAGIC: [u8; 8] = *b"RFLTCARD";
const CHECK_LEN: usize = 4;

/// The first message of a connection, from the node that opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Cluster, node and life of the sender.
    pub from: Identity,
    /// The sender's run number.
    pub run: u64,
    /// Whom the sender means.
    pub to: NodeId,
    /// Which life of it, if the sender knows.
    pub incarnation: Option<Incarnation>,
    /// The lane that this connection carries.
    pub lane: Lane,
}

/// The answer to a [`Hello`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Cluster, node and life of the node that answers.
    pub from: Identity,
    /// Its run number.
    pub run: u64,
    /// `None`: welcome. Else the connection is closed after this message.
    pub refusal: Option<Refusal>,
}

impl Hello {
    /// The byte form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(90);
        put_identity(&mut body, &self.from);
        body.put_u64(self.run);
        body.put_u64(self.to.0);
        body.put_u8(u8::from(self.incarnation.is_some()));
        body.put_u128(self.incarnation.unwrap_or_default().0);
        body.put_u8(self.lane as u8);
        wrap(HELLO_MAGIC, &body)
    }

    /// Reads what [`Hello::encode`] wrote.
    ///
    /// # Errors
    /// The bytes are no hello, are damaged, or are of a newer protocol.
    pub fn decode(bytes: &[u8]) -> Result<Hello, HandshakeError> {
        let mut r = Reader::new(unwrap(HELLO_MAGIC, bytes)?);
        let hello = Hello::read(&mut r)?;
        Ok(hello)
    }

    fn read(r: &mut Reader<'_>) -> Result<Hello, DecodeError> {
        let from = read_identity(r)?;
        let run = r.u64("run")?;
        let to = NodeId(r.u64("receiver")?);
        let known = r.u8("receiver's incarnation known")?;
        let life = Incarnation(r.u128("receiver's incarnation")?);
        let incarnation = match known {
            0 => None,
            1 => Some(life),
            _ => return Err(r.invalid("receiver's incarnation known")),
        };
        let lane = Lane::from_byte(r.u8("lane")?).ok_or_else(|| r.invalid("lane"))?;
        Ok(Hello { from, run, to, incarnation, lane })
    }

    /// Whether the node that this hello reached talks to its sender. The receiver checks that the
    /// message is meant for it, and not whether it knows the sender: its map may be old.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, me: &Identity) -> Result<(), Refusal> {
        if self.from.cluster != me.cluster {
            let (found, expected) = (self.from.cluster, me.cluster);
            return Err(Refusal::WrongCluster { found, expected });
        }
        if self.to != me.member.node {
            return Err(Refusal::WrongNode { found: self.to, expected: me.member.node });
        }
        let expected = me.member.incarnation;
        if let Some(found) = self.incarnation.filter(|life| *life != expected) {
            return Err(Refusal::WrongIncarnation { found, expected });
        }
        if self.from.member.node == me.member.node {
            let found = self.from.member.incarnation;
            return Err(Refusal::NodeIdInUse { found, expected });
        }
        Ok(())
    }
}

impl Reply {
    /// The byte form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (code, found, expected) = code(self.refusal);
        let mut body = Vec::with_capacity(81);
        put_identity(&mut body, &self.from);
        body.put_u64(self.run);
        body.put_u8(code);
        body.put_u128(found);
        body.put_u128(expected);
        wrap(REPLY_MAGIC, &body)
    }

    /// Reads what [`Reply::encode`] wrote.
    ///
    /// # Errors
    /// The bytes are no reply, are damaged, or are of a newer protocol.
    pub fn decode(bytes: &[u8]) -> Result<Reply, HandshakeError> {
        let mut r = Reader::new(unwrap(REPLY_MAGIC, bytes)?);
        let reply = Reply::read(&mut r)?;
        Ok(reply)
    }

    fn read(r: &mut Reader<'_>) -> Result<Reply, DecodeError> {
        let from = read_identity(r)?;
        let run = r.u64("run")?;
        let code = r.u8("answer")?;
        let (found, expected) = (r.u128("found")?, r.u128("expected")?);
        let refusal = refusal(code, found, expected).ok_or_else(|| r.invalid("answer"))?;
        Ok(Reply { from, run, refusal })
    }

    /// Whether the node that answered a hello is the one that was meant.
    ///
    /// # Errors
    /// It refused, or it is another cluster, node or life.
    pub fn accept(&self, hello: &Hello) -> Result<Member, Refusal> {
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        if self.from.cluster != hello.from.cluster {
            let (found, expected) = (self.from.cluster, hello.from.cluster);
            return Err(Refusal::WrongCluster { found, expected });
        }
        let found = self.from.member;
        if found.node != hello.to {
            return Err(Refusal::WrongNode { found: found.node, expected: hello.to });
        }
        match hello.incarnation {
            Some(expected) if expected != found.incarnation => {
                Err(Refusal::WrongIncarnation { found: found.incarnation, expected })
            }
            _ => Ok(found),
        }
    }
}

/// Bytes that open no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The first bytes are not refloat's.
    WrongMagic {
        /// What they are.
        found: u64,
    },
    /// The message says that it is longer than a handshake may be.
    TooLong {
        /// The length that it says.
        found: usize,
        /// [`MAX_HANDSHAKE_LEN`].
        limit: usize,
    },
    /// The checksum does not match.
    Checksum {
        /// What the message carries.
        found: u32,
        /// What its bytes give.
        expected: u32,
    },
    /// The message is whole and of a protocol that this code does not speak.
    NewerVersion {
        /// Its version.
        found: u16,
        /// [`PROTOCOL_VERSION`].
        expected: u16,
    },
    /// A field holds what it cannot.
    Malformed(DecodeError),
}

impl From<DecodeError> for HandshakeError {
    fn from(error: DecodeError) -> HandshakeError {
        HandshakeError::Malformed(error)
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandshakeError::WrongMagic { found } => {
                write!(f, "handshake: wrong magic {found:016x}")
            }
            HandshakeError::TooLong { found, limit } => {
                write!(f, "handshake: {found} bytes announced (limit {limit})")
            }
            HandshakeError::Checksum { found, expected } => {
                write!(
                    f,
                    "handshake: checksum mismatch (expected {expected:08x}, found {found:08x})"
                )
            }
            HandshakeError::NewerVersion { found, expected } => {
                write!(f, "handshake: protocol version {found} (speaks up to {expected})")
            }
            HandshakeError::Malformed(error) => write!(f, "handshake: {error}"),
        }
    }
}

impl std::error::Error for HandshakeError {}

/// The question of a node that has no identity yet: which cluster is this?
pub(crate) fn ask() -> Vec<u8> {
    wrap(ASK_MAGIC, &[])
}

/// Whether a message is [`ask`].
pub(crate) fn is_ask(bytes: &[u8]) -> bool {
    unwrap(ASK_MAGIC, bytes).is_ok()
}

/// The answer to [`ask`]; `None` if the card is longer than a message can be.
pub(crate) fn card(card: &[u8]) -> Option<Vec<u8>> {
    u16::try_from(card.len()).is_ok().then(|| wrap(CARD_MAGIC, card))
}

/// Reads what [`card`] wrote.
pub(crate) fn read_card(bytes: &[u8]) -> Result<&[u8], HandshakeError> {
    unwrap(CARD_MAGIC, bytes)
}

/// How many bytes follow the prefix of a card.
pub(crate) fn card_len(prefix: &[u8; HANDSHAKE_PREFIX_LEN]) -> Result<usize, HandshakeError> {
    let mut r = Reader::new(prefix);
    let found = r.u64("magic")?;
    if found != u64::from_le_bytes(CARD_MAGIC) {
        return Err(HandshakeError::WrongMagic { found });
    }
    r.u16("version")?;
    Ok(usize::from(r.u16("body length")?) + CHECK_LEN)
}

/// How many bytes follow a prefix; asked before they are read, so that nobody who is not believed
/// yet decides how much is allocated.
pub(crate) fn rest_len(prefix: &[u8; HANDSHAKE_PREFIX_LEN]) -> Result<usize, HandshakeError> {
    let mut r = Reader::new(prefix);
    let found = r.u64("magic")?;
    if ![HELLO_MAGIC, REPLY_MAGIC, ASK_MAGIC].map(u64::from_le_bytes).contains(&found) {
        return Err(HandshakeError::WrongMagic { found });
    }
    r.u16("version")?;
    let rest = usize::from(r.u16("body length")?) + CHECK_LEN;
    let found = HANDSHAKE_PREFIX_LEN + rest;
    if found > MAX_HANDSHAKE_LEN {
        return Err(HandshakeError::TooLong { found, limit: MAX_HANDSHAKE_LEN });
    }
    Ok(rest)
}

fn wrap(magic: [u8; 8], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HANDSHAKE_PREFIX_LEN + body.len() + CHECK_LEN);
    out.put_slice(&magic);
    out.put_u16(PROTOCOL_VERSION);
    out.put_u16(u16::try_from(body.len()).expect("a handshake body is under 64 KiB"));
    out.put_slice(body);
    out.put_u32(crc32c::crc32c(&out));
    out
}

/// Verifies a whole message and returns its body. The version is judged after the checksum: a
/// flipped bit is no newer version.
fn unwrap(magic: [u8; 8], bytes: &[u8]) -> Result<&[u8], HandshakeError> {
    let mut r = Reader::new(bytes);
    let found = r.u64("magic")?;
    if found != u64::from_le_bytes(magic) {
        return Err(HandshakeError::WrongMagic { found });
    }
    let version = r.u16("version")?;
    let len = usize::from(r.u16("body length")?);
    let body = r.bytes(len, "body")?;
    let covered = bytes.get(..r.offset()).unwrap_or_default();
    let (expected, found) = (crc32c::crc32c(covered), r.u32("checksum")?);
    if expected != found {
        return Err(HandshakeError::Checksum { found, expected });
    }
    if r.remaining() > 0 {
        return Err(r.invalid("end of handshake").into());
    }
    if version > PROTOCOL_VERSION {
        let (found, expected) = (version, PROTOCOL_VERSION);
        return Err(HandshakeError::NewerVersion { found, expected });
    }
    if version == 0 {
        return Err(r.invalid("version").into());
    }
    Ok(body)
}

fn put_identity(out: &mut Vec<u8>, identity: &Identity) {
    out.put_u128(identity.cluster.0);
    out.put_member(identity.member);
}

fn read_identity(r: &mut Reader<'_>) -> Result<Identity, DecodeError> {
    let cluster = ClusterId(r.u128("cluster")?);
    Ok(Identity { cluster, member: r.member("sender")? })
}

#[cfg(test)]
mod tests;
