//! The bytes of a snapshot file: header, chunk headers, seal. Pure functions.
//!
//! Byte tables: `docs/formats/snapshot.md`.

use refloat_types::codec::{DecodeError, Put, Reader};
use refloat_types::{
    ClusterId, ConfState, EntryId, GroupKey, Identity, Incarnation, IndexSet, Member, NodeId,
};

use crate::{SnapshotError, SnapshotMeta};

pub(crate) const VERSION: u16 = 1;
pub(crate) const MAGIC: [u8; 8] = *b"RFLTSNAP";
const SEAL_MAGIC: [u8; 8] = *b"RFLTSEAL";

pub(crate) const FIXED_LEN: usize = 128;
pub(crate) const CHUNK_HEADER_LEN: usize = 16;
pub(crate) const SEAL_LEN: usize = 32;

/// Where everything stands in a file. Made only from a meta whose sizes agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    header_len: u64,
    payload_len: u64,
    chunk_len: u64,
    chunks: u32,
    seal_at: u64,
}

impl Layout {
    pub(crate) fn of(meta: &SnapshotMeta) -> Result<Layout, SnapshotError> {
        meta.check()?;
        let header_len = (FIXED_LEN + meta.body().len()) as u64;
        let chunk_headers = u64::from(meta.chunks) * CHUNK_HEADER_LEN as u64;
        let limit = i64::MAX as u64 - SEAL_LEN as u64;
        let seal_at = header_len.saturating_add(chunk_headers).saturating_add(meta.payload_len);
        if seal_at > limit {
            let what = "payload length";
            return Err(SnapshotError::Invalid { what, found: meta.payload_len, limit });
        }
        Ok(Layout {
            header_len,
            payload_len: meta.payload_len,
            chunk_len: meta.chunk_len.into(),
            chunks: meta.chunks,
            seal_at,
        })
    }

    pub(crate) const fn chunks(&self) -> u32 {
        self.chunks
    }

    pub(crate) const fn seal_at(&self) -> u64 {
        self.seal_at
    }

    pub(crate) const fn file_len(&self) -> u64 {
        self.seal_at + SEAL_LEN as u64
    }

    /// Where the header of chunk `n` stands.
    pub(crate) fn chunk_at(&self, n: u32) -> u64 {
        chunk_at(self.header_len, self.chunk_len, n)
    }

    /// How many bytes of payload chunk `n` holds, for `n` below the count.
    pub(crate) fn chunk_len(&self, n: u32) -> usize {
        let before = u64::from(n) * self.chunk_len;
        usize::try_from(self.payload_len.saturating_sub(before).min(self.chunk_len)).unwrap_or(0)
    }
}

pub(crate) fn chunk_at(header_len: u64, chunk_len: u64, n: u32) -> u64 {
    header_len + u64::from(n) * (chunk_len + CHUNK_HEADER_LEN as u64)
}

/// The salt of every checksum behind the header: whose file, which group, which entry. A chunk
/// that a disk brings from another file, or from an older life of this one, does not verify.
pub(crate) fn salt(identity: &Identity, group: GroupKey, id: EntryId) -> u32 {
    let mut bytes = Vec::with_capacity(72);
    put_names(&mut bytes, identity, group, id);
    crc32c::crc32c(&bytes)
}

fn put_names(out: &mut Vec<u8>, identity: &Identity, group: GroupKey, id: EntryId) {
    out.put_u128(identity.cluster.0);
    out.put_member(identity.member);
    out.put_group(group);
    out.put_entry_id(id);
}

/// The whole header: fixed part, membership, live indexes.
pub(crate) fn header(identity: &Identity, meta: &SnapshotMeta) -> Vec<u8> {
    let body = meta.body();
    let salt = salt(identity, meta.group, meta.id);
    let mut out = Vec::with_capacity(FIXED_LEN + body.len());
    out.put_slice(&MAGIC);
    out.put_u16(VERSION);
    out.put_u16(0);
    put_names(&mut out, identity, meta.group, meta.id);
    out.put_u64(meta.payload_len);
    out.put_u32(meta.chunk_len);
    out.put_u32(meta.chunks);
    out.put_u32(meta.digest);
    out.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    out.put_u32(crc32c::crc32c_append(salt, &body));
    out.resize(FIXED_LEN - 4, 0);
    out.put_u32(crc32c::crc32c(&out));
    out.put_slice(&body);
    out
}

/// The checksum that stands at the end of the fixed part of this header.
pub(crate) fn header_crc(identity: &Identity, meta: &SnapshotMeta) -> u32 {
    crc32c::crc32c(&header(identity, meta)[..FIXED_LEN - 4])
}

/// The fixed part of a header whose checksum held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fixed {
    pub(crate) identity: Identity,
    pub(crate) group: GroupKey,
    pub(crate) id: EntryId,
    pub(crate) payload_len: u64,
    pub(crate) chunk_len: u32,
    pub(crate) chunks: u32,
    pub(crate) digest: u32,
    pub(crate) body_len: u32,
    pub(crate) body_crc: u32,
    pub(crate) crc: u32,
}

/// Bytes that are not what they should be, before a path is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    Part { at: u64, what: &'static str, expected: u64, found: u64 },
    Newer { found: u16 },
}

fn equal(at: u64, what: &'static str, expected: u64, found: u64) -> Result<(), Wrong> {
    if expected == found { Ok(()) } else { Err(Wrong::Part { at, what, expected, found }) }
}

fn cut(error: &DecodeError) -> Wrong {
    Wrong::Part { at: error.offset as u64, what: error.field, expected: 0, found: 0 }
}

/// Reads the fixed part. The checksum is asked before the version, so that a flipped bit in the
/// version reads as damage and not as news from the future: no later version may move either.
pub(crate) fn read_fixed(bytes: &[u8]) -> Result<Fixed, Wrong> {
    let mut r = Reader::new(bytes);
    let covered = r.bytes(FIXED_LEN - 4, "header").map_err(|e| cut(&e))?;
    let crc = r.u32("header checksum").map_err(|e| cut(&e))?;
    let mut r = Reader::new(covered);
    let magic = r.u64("magic").map_err(|e| cut(&e))?;
    equal(0, "magic", u64::from_le_bytes(MAGIC), magic)?;
    let computed = crc32c::crc32c(covered);
    equal(FIXED_LEN as u64 - 4, "header checksum", computed.into(), crc.into())?;
    let version = r.u16("version").map_err(|e| cut(&e))?;
    if version > VERSION {
        return Err(Wrong::Newer { found: version });
    }
    equal(8, "version", VERSION.into(), version.into())?;
    read_names(r, crc).map_err(|e| cut(&e))
}

fn read_names(mut r: Reader<'_>, crc: u32) -> Result<Fixed, DecodeError> {
    r.u16("flags")?;
    let cluster = ClusterId(r.u128("cluster")?);
    let node = NodeId(r.u64("node")?);
    let member = Member { node, incarnation: Incarnation(r.u128("incarnation")?) };
    Ok(Fixed {
        identity: Identity { cluster, member },
        group: r.group("group")?,
        id: r.entry_id("entry")?,
        payload_len: r.u64("payload length")?,
        chunk_len: r.u32("chunk length")?,
        chunks: r.u32("chunk count")?,
        digest: r.u32("digest")?,
        body_len: r.u32("body length")?,
        body_crc: r.u32("body checksum")?,
        crc,
    })
}

impl Fixed {
    pub(crate) fn salt(&self) -> u32 {
        salt(&self.identity, self.group, self.id)
    }

    /// Joins the fixed part with the body behind it.
    pub(crate) fn with_body(&self, body: &[u8]) -> Result<SnapshotMeta, Wrong> {
        let at = FIXED_LEN as u64;
        let computed = crc32c::crc32c_append(self.salt(), body);
        equal(at, "membership and live indexes checksum", self.body_crc.into(), computed.into())?;
        let (conf, live) = read_body(body).map_err(|error| cut(&error))?;
        Ok(SnapshotMeta {
            group: self.group,
            id: self.id,
            conf,
            live,
            payload_len: self.payload_len,
            chunk_len: self.chunk_len,
            chunks: self.chunks,
            digest: self.digest,
        })
    }
}

fn read_body(body: &[u8]) -> Result<(ConfState, IndexSet), DecodeError> {
    let mut r = Reader::new(body);
    let conf = ConfState::decode(&mut r)?;
    let live = r.index_set("live indexes")?;
    if r.remaining() == 0 { Ok((conf, live)) } else { Err(r.invalid("end of the header")) }
}

/// The header of a chunk: number, length, digest, and a salted check over the three.
pub(crate) fn chunk_header(salt: u32, n: u32, len: u32, digest: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(CHUNK_HEADER_LEN);
    out.put_u32(n);
    out.put_u32(len);
    out.put_u32(digest);
    out.put_u32(crc32c::crc32c_append(salt, &out));
    out
}

/// Verifies a chunk's header and payload against its place; returns its digest.
pub(crate) fn read_chunk(
    salt: u32,
    at: u64,
    n: u32,
    header: &[u8],
    payload: &[u8],
) -> Result<u32, Wrong> {
    let mut r = Reader::new(header);
    let covered = r.bytes(CHUNK_HEADER_LEN - 4, "chunk header").map_err(|e| cut(&e))?;
    let check = r.u32("chunk header").map_err(|e| cut(&e))?;
    let computed = crc32c::crc32c_append(salt, covered);
    equal(at + 12, "chunk header checksum", computed.into(), check.into())?;
    let mut r = Reader::new(covered);
    let number = r.u32("chunk number").map_err(|e| cut(&e))?;
    equal(at, "chunk number", n.into(), number.into())?;
    let len = r.u32("chunk length").map_err(|e| cut(&e))?;
    equal(at + 4, "chunk length", payload.len() as u64, len.into())?;
    let digest = r.u32("chunk digest").map_err(|e| cut(&e))?;
    let computed = crc32c::crc32c(payload);
    equal(at + CHUNK_HEADER_LEN as u64, "chunk checksum", digest.into(), computed.into())?;
    Ok(digest)
}

/// The end of a complete file.
pub(crate) fn seal(salt: u32, file_len: u64, digest: u32, header_crc: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(SEAL_LEN);
    out.put_slice(&SEAL_MAGIC);
    out.put_u64(file_len);
    out.put_u32(digest);
    out.put_u32(header_crc);
    out.put_u32(0);
    out.put_u32(crc32c::crc32c_append(salt, &out));
    out
}

/// Verifies the seal: it is a function of the rest, so that only equality counts.
pub(crate) fn check_seal(fixed: &Fixed, layout: &Layout, found: &[u8]) -> Result<(), Wrong> {
    let expected = seal(fixed.salt(), layout.file_len(), fixed.digest, fixed.crc);
    let at = expected.iter().zip(found).position(|(e, f)| e != f);
    let at = at.or((found.len() < SEAL_LEN).then_some(found.len()));
    let Some(at) = at else { return Ok(()) };
    let byte = |bytes: &[u8]| bytes.get(at).copied().unwrap_or_default().into();
    let (expected, found) = (byte(&expected), byte(found));
    Err(Wrong::Part { at: layout.seal_at() + at as u64, what: "seal", expected, found })
}
