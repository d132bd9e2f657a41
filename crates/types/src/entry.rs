//! Log entries and their end-to-end digest.

use bytes::Bytes;
use core::fmt;

use crate::EntryId;

/// CRC-32C over an entry's kind and payload, made once where the entry is made.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub u32);

impl Digest {
    /// Computes the digest of a kind and a payload.
    #[must_use]
    pub fn of(kind: EntryKind, payload: &[u8]) -> Digest {
        Digest(crc32c::crc32c_append(crc32c::crc32c(&[kind as u8]), payload))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// Appended by a new leader so that it can commit what earlier terms left (section 8).
    Empty = 0,
    /// A command of the state machine.
    Command = 1,
    /// A membership change, decoded by the consensus core.
    Config = 2,
    /// The host's own, about the state machine and never given to it.
    Host = 3,
}

impl EntryKind {
    /// Reads the byte that `self as u8` wrote; `None` for any other.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<EntryKind> {
        match byte {
            0 => Some(EntryKind::Empty),
            1 => Some(EntryKind::Command),
            2 => Some(EntryKind::Config),
            3 => Some(EntryKind::Host),
            _ => None,
        }
    }
}

/// One entry of a group's log. Clones share the payload.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Where it stands, and of which term it is.
    pub id: EntryId,
    /// What it is for.
    pub kind: EntryKind,
    /// The digest made with the entry. Carried, never recomputed to be stored.
    pub digest: Digest,
    /// The opaque content.
    pub payload: Bytes,
}

impl Entry {
    /// Makes an entry and its digest. To be called once in an entry's life, by who proposes it.
    #[must_use]
    pub fn new(id: EntryId, kind: EntryKind, payload: Bytes) -> Entry {
        let digest = Digest::of(kind, &payload);
        Entry { id, kind, digest, payload }
    }

    /// Puts together what was read from a disk or a wire, with the digest that was read.
    #[must_use]
    pub const fn from_parts(id: EntryId, kind: EntryKind, digest: Digest, payload: Bytes) -> Entry {
        Entry { id, kind, digest, payload }
    }

    /// Whether kind and payload still are what the digest was made from.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        Digest::of(self.kind, &self.payload) == self.digest
    }

    /// Whether a full disk refuses it. Empty entries, with which a leader begins its term, and
    /// changes of the membership go on in the room that is kept for votes.
    #[must_use]
    pub fn is_bulky(&self) -> bool {
        !self.payload.is_empty() && self.kind != EntryKind::Config
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?} {} B", self.id, self.kind, self.payload.len())
    }
}
