//! What a snapshot is of.

use bytes::Bytes;
use refloat_types::codec::{DecodeError, Put, Reader};
use refloat_types::{ConfState, EntryId, GroupKey, IndexSet};

use crate::SnapshotError;

/// The chunk length of snapshots that do not ask for another: 256 KiB.
pub const CHUNK_LEN: u32 = 256 << 10;
/// The shortest chunk length that a file may have.
pub const MIN_CHUNK_LEN: u32 = 64;
/// The longest chunk length that a file may have: 4 MiB.
pub const MAX_CHUNK_LEN: u32 = 4 << 20;
/// The most bytes that membership and live indexes may take together: 64 MiB, 4 million ranges.
pub const MAX_BODY_LEN: u32 = 64 << 20;

/// What is known of a snapshot before its payload is made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Head {
    /// The group, in one life.
    pub group: GroupKey,
    /// The last entry that the state contains.
    pub id: EntryId,
    /// The membership as of that entry.
    pub conf: ConfState,
    /// The indexes at or below `id` whose entries the state still needs.
    pub live: IndexSet,
    /// Bytes per chunk; [`CHUNK_LEN`] unless changed.
    pub chunk_len: u32,
}

impl Head {
    /// A head with the usual chunk length.
    #[must_use]
    pub const fn new(group: GroupKey, id: EntryId, conf: ConfState, live: IndexSet) -> Head {
        Head { group, id, conf, live, chunk_len: CHUNK_LEN }
    }

    /// The same, cut into chunks of another length.
    #[must_use]
    pub fn with_chunk_len(self, chunk_len: u32) -> Head {
        Head { chunk_len, ..self }
    }
}

/// All that a snapshot says of itself. Equal at its maker and at every receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotMeta {
    /// The group, in one life.
    pub group: GroupKey,
    /// The last entry that the state contains.
    pub id: EntryId,
    /// The membership as of that entry.
    pub conf: ConfState,
    /// The indexes at or below `id` whose entries the state still needs.
    pub live: IndexSet,
    /// Bytes of state.
    pub payload_len: u64,
    /// Bytes per chunk; the last one may be shorter.
    pub chunk_len: u32,
    /// How many chunks.
    pub chunks: u32,
    /// CRC-32C over the payload and then everything above: the same end to end, whoever holds it.
    pub digest: u32,
}

impl SnapshotMeta {
    /// Makes the meta of a finished payload and its digest.
    pub(crate) fn seal(head: Head, payload_len: u64, chunks: u32, payload_crc: u32) -> Self {
        let Head { group, id, conf, live, chunk_len } = head;
        let mut meta =
            SnapshotMeta { group, id, conf, live, payload_len, chunk_len, chunks, digest: 0 };
        meta.digest = meta.digest_over(payload_crc);
        meta
    }

    /// The content digest, from the CRC-32C of the payload.
    pub(crate) fn digest_over(&self, payload_crc: u32) -> u32 {
        let mut bytes = Vec::new();
        self.put_content(&mut bytes);
        crc32c::crc32c_append(payload_crc, &bytes)
    }

    fn put_content(&self, out: &mut Vec<u8>) {
        out.put_group(self.group);
        out.put_entry_id(self.id);
        out.put_u64(self.payload_len);
        out.put_u32(self.chunk_len);
        out.put_u32(self.chunks);
        self.conf.encode(out);
        out.put_index_set(&self.live);
    }

    /// Appends the byte form in which a sender announces the snapshot to a receiver.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.put_content(out);
        out.put_u32(self.digest);
    }

    /// Reads what [`SnapshotMeta::encode`] wrote. What it says is believed only after
    /// [`SnapshotMeta::check`].
    ///
    /// # Errors
    /// The bytes end too soon or hold a value that no meta has.
    pub fn decode(reader: &mut Reader<'_>) -> Result<SnapshotMeta, DecodeError> {
        let group = reader.group("snapshot group")?;
        let id = reader.entry_id("snapshot entry")?;
        let payload_len = reader.u64("snapshot payload length")?;
        let chunk_len = reader.u32("snapshot chunk length")?;
        let chunks = reader.u32("snapshot chunk count")?;
        let conf = ConfState::decode(reader)?;
        let live = reader.index_set("snapshot live indexes")?;
        let digest = reader.u32("snapshot digest")?;
        Ok(SnapshotMeta { group, id, conf, live, payload_len, chunk_len, chunks, digest })
    }

    /// Whether a file of this meta can exist: limits, and sizes that agree with each other.
    ///
    /// # Errors
    /// [`SnapshotError::Invalid`] names the first part that cannot be.
    pub fn check(&self) -> Result<(), SnapshotError> {
        let invalid = |what, found, limit| Err(SnapshotError::Invalid { what, found, limit });
        if self.chunk_len < MIN_CHUNK_LEN || self.chunk_len > MAX_CHUNK_LEN {
            return invalid("chunk length", self.chunk_len.into(), MAX_CHUNK_LEN.into());
        }
        let chunks = self.payload_len.div_ceil(u64::from(self.chunk_len));
        if chunks != u64::from(self.chunks) {
            return invalid("chunk count", self.chunks.into(), chunks);
        }
        let live = self.live.last().unwrap_or_default();
        if live > self.id.index {
            return invalid("highest live index", live.0, self.id.index.0);
        }
        let body = self.body().len() as u64;
        if body > u64::from(MAX_BODY_LEN) {
            return invalid("membership and live indexes length", body, MAX_BODY_LEN.into());
        }
        Ok(())
    }

    /// Membership and live indexes as they stand in a file's header.
    pub(crate) fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        self.conf.encode(&mut body);
        body.put_index_set(&self.live);
        body
    }
}

/// A piece of a snapshot's payload, with the digest made by who wrote it first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its number, from 0.
    pub n: u32,
    /// CRC-32C over `bytes`, made once and carried.
    pub digest: u32,
    /// The piece itself.
    pub bytes: Bytes,
}

impl Chunk {
    /// Makes a chunk and its digest: to be called once in its life, by who writes the snapshot.
    #[must_use]
    pub fn new(n: u32, bytes: Bytes) -> Chunk {
        Chunk { n, digest: crc32c::crc32c(&bytes), bytes }
    }
}
