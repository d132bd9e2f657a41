//! Block 1: where this file ended and which one follows. Written once, when the next file's
//! header and first batch are durable.

use refloat_types::codec::{DecodeError, Put, Reader};

use super::sector::{self, Classifier, Salt, Sector};
use super::{BLOCK, LINK_BLOCK, PIECE, SECTOR, SECTORS_PER_BLOCK};

const MAGIC: u32 = u32::from_le_bytes(*b"RFWl");
const CRC_AT: usize = PIECE - 4;
/// The batch number in the tags of the link block.
pub(crate) const TAG_BATCH: u32 = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// The block behind the last accepted batch. What stands there is dead.
    pub(crate) end: u32,
    /// The number of the last accepted batch.
    pub(crate) last: u32,
    /// Its digest, where it was readable.
    pub(crate) digest: Option<u32>,
    /// The file that follows.
    pub(crate) next: u64,
}

/// What the link block of a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkSeen {
    Valid(Link),
    /// Never written.
    Absent,
    /// A sector carries the tag of a link, and no copy can be read.
    Written,
    /// Nothing in the block is what it was before or what a link would be.
    Lost,
}

impl Link {
    /// The block: eight copies, one per sector.
    pub(crate) fn write(&self, salt: &Salt, block: &mut [u8]) {
        let mut piece = Vec::with_capacity(PIECE);
        piece.put_u32(MAGIC);
        piece.put_u32(u32::from(self.digest.is_some()));
        piece.put_u64(salt.file);
        piece.put_u32(self.end);
        piece.put_u32(self.last);
        piece.put_u32(self.digest.unwrap_or(0));
        piece.put_u32(0);
        piece.put_u64(self.next);
        piece.resize(CRC_AT, 0);
        let crc = salt.crc(&piece);
        piece.put_u32(crc);
        for copy in 0..BLOCK / SECTOR {
            sector::stripe(block, copy * PIECE, &piece);
        }
        salt.tag(&mut block[..BLOCK], TAG_BATCH, LINK_BLOCK * SECTORS_PER_BLOCK as u32);
    }

    /// Reads whichever copy verifies. `None` is a block that cannot be read or is not there.
    pub(crate) fn read(classifier: &mut Classifier, block: Option<&[u8]>) -> LinkSeen {
        let Some(block) = block else { return LinkSeen::Lost };
        let salt = classifier.salt();
        let (mut own, mut before) = (false, false);
        let first = LINK_BLOCK * SECTORS_PER_BLOCK as u32;
        for (at, bytes) in (first..).zip(block.chunks_exact(SECTOR)) {
            if let Some(Ok(Some(link))) = bytes.get(..PIECE).map(|piece| read_piece(&salt, piece)) {
                return LinkSeen::Valid(link);
            }
            match classifier.classify(bytes, at) {
                Sector::Own(_) => own = true,
                Sector::PreImage => before = true,
                Sector::Bad => {}
            }
        }
        match (own, before) {
            (true, _) => LinkSeen::Written,
            // A link that was made durable has no sector left as it was before.
            (false, true) => LinkSeen::Absent,
            (false, false) => LinkSeen::Lost,
        }
    }
}

fn read_piece(salt: &Salt, piece: &[u8]) -> Result<Option<Link>, DecodeError> {
    let mut tail = Reader::new(piece);
    let covered = tail.bytes(CRC_AT, "link")?;
    let mut r = Reader::new(piece);
    if r.u32("magic")? != MAGIC || tail.u32("checksum")? != salt.crc(covered) {
        return Ok(None);
    }
    let digest_known = r.u32("flags")? & 1 == 1;
    if r.u64("file")? != salt.file {
        return Ok(None);
    }
    let (end, last) = (r.u32("end")?, r.u32("last batch")?);
    let digest = Some(r.u32("digest")?).filter(|_| digest_known);
    r.u32("reserved")?;
    Ok(Some(Link { end, last, digest, next: r.u64("next file")? }))
}
