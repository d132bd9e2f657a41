//! One entry as it lies in the file: a head of 32 bytes, then the payload.

use refloat_planted::{Defect, is};
use refloat_types::codec::{Put, Reader};
use refloat_types::{Digest, Entry, EntryId, EntryKind, GroupKey};

/// The length of a frame's head.
pub(crate) const HEAD_LEN: usize = 32;
/// Where in the head the entry's index and term lie: what a search looks for.
pub(crate) const ID_LEN: usize = 16;
const CHECKED_LEN: usize = HEAD_LEN - 4;

/// What does not hold, at which offset from the frame's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) what: &'static str,
    pub(crate) expected: u64,
    pub(crate) found: u64,
}

impl Fault {
    pub(crate) fn new(what: &'static str, expected: u64, found: u64) -> Fault {
        Fault { what, expected, found }
    }
}

/// The salt of one group's frames: a frame of another group does not verify.
pub(crate) fn group_salt(salt: u32, group: GroupKey) -> u32 {
    let mut bytes = Vec::with_capacity(16);
    bytes.put_group(group);
    crc32c::crc32c_append(salt, &bytes)
}

/// Appends an entry. Its digest is stored as it came.
pub(crate) fn put(out: &mut Vec<u8>, group_salt: u32, entry: &Entry, payload_len: u32) {
    let start = out.len();
    out.put_entry_id(entry.id);
    out.put_u32(payload_len);
    out.put_u32(entry.digest.0);
    out.put_u32(u32::from(entry.kind as u8));
    let check = crc32c::crc32c_append(group_salt, &out[start..]);
    out.put_u32(check);
    out.put_slice(&entry.payload);
}

/// The head of an entry that stands where it should.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameHead {
    id: EntryId,
    kind: EntryKind,
    digest: Digest,
    /// The length of the payload, which the frame has room for.
    pub(crate) payload_len: usize,
}

impl FrameHead {
    /// Reads the head at the start of `bytes` and verifies that it is this entry's and that the
    /// payload ends inside `bytes`.
    pub(crate) fn decode(bytes: &[u8], group_salt: u32, id: EntryId) -> Result<FrameHead, Fault> {
        let short = |_| Fault::new("entry ends too soon", HEAD_LEN as u64, bytes.len() as u64);
        let mut r = Reader::new(bytes);
        let checked = Reader::new(bytes).bytes(CHECKED_LEN, "entry head").map_err(short)?;
        let found = r.entry_id("entry id").map_err(short)?;
        let payload_len = r.u32("payload length").map_err(short)?;
        let digest = Digest(r.u32("digest").map_err(short)?);
        let kind = r.u32("kind").map_err(short)?;
        let stored = r.u32("head checksum").map_err(short)?;
        let computed = crc32c::crc32c_append(group_salt, checked);
        if stored != computed {
            return Err(Fault::new("head checksum mismatch", computed.into(), stored.into()));
        }
        if found.index != id.index {
            return Err(Fault::new("wrong index", id.index.0, found.index.0));
        }
        if found.term != id.term {
            return Err(Fault::new("wrong term", id.term.0, found.term.0));
        }
        let kind = u8::try_from(kind).ok().and_then(EntryKind::from_byte).ok_or(Fault::new(
            "unknown kind",
            EntryKind::Config as u64,
            kind.into(),
        ))?;
        let payload_len = payload_len as usize;
        if payload_len > r.remaining() {
            let (expected, found) = (r.remaining() as u64, payload_len as u64);
            return Err(Fault::new("payload ends too late", expected, found));
        }
        Ok(FrameHead { id, kind, digest, payload_len })
    }

    /// Joins the head with its payload and verifies the entry's digest.
    pub(crate) fn entry(&self, payload: bytes::Bytes) -> Result<Entry, Fault> {
        let computed = Digest::of(self.kind, &payload);
        if computed != self.digest && !is(Defect::EntryDigestIgnored) {
            let (stored, computed) = (self.digest.0.into(), computed.0.into());
            return Err(Fault::new("digest mismatch", stored, computed));
        }
        Ok(Entry::from_parts(self.id, self.kind, self.digest, payload))
    }
}

/// Where behind damage the frame of a certain entry starts again.
pub(crate) fn find(bytes: &[u8], from: usize, group_salt: u32, id: EntryId) -> Option<usize> {
    let mut pattern = Vec::with_capacity(ID_LEN);
    pattern.put_entry_id(id);
    let hits = bytes.get(from..)?.windows(ID_LEN).enumerate().filter(|(_, w)| *w == pattern);
    hits.map(|(at, _)| from + at)
        .find(|at| FrameHead::decode(&bytes[*at..], group_salt, id).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use refloat_types::{Index, Term};

    fn id(index: u64, term: u64) -> EntryId {
        EntryId::new(Term(term), Index(index))
    }

    fn framed() -> (Entry, Vec<u8>) {
        let entry = Entry::new(id(7, 3), EntryKind::Config, "abc".into());
        let mut bytes = Vec::new();
        put(&mut bytes, 9, &entry, 3);
        (entry, bytes)
    }

    #[test]
    fn a_head_is_accepted_for_its_own_place_alone() {
        let (entry, bytes) = framed();
        let head = FrameHead::decode(&bytes, 9, entry.id).unwrap();
        assert_eq!(head.entry("abc".into()), Ok(entry.clone()));
        assert!(head.entry("abd".into()).is_err());
        for (salt, id) in [(8, entry.id), (9, id(8, 3)), (9, id(7, 4))] {
            assert!(FrameHead::decode(&bytes, salt, id).is_err(), "{salt} {id:?}");
        }
        for len in 0..bytes.len() {
            assert!(FrameHead::decode(&bytes[..len], 9, entry.id).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn a_search_finds_the_frame_and_not_what_only_looks_like_it() {
        let (entry, frame) = framed();
        let mut bytes = vec![0; 11];
        bytes.extend_from_slice(&frame[..ID_LEN]); // the id alone
        let start = bytes.len();
        bytes.extend_from_slice(&frame);
        assert_eq!(find(&bytes, 0, 9, entry.id), Some(start));
        assert_eq!(find(&bytes, start + 1, 9, entry.id), None);
        assert_eq!(find(&bytes, bytes.len() + 1, 9, entry.id), None);
    }
}
