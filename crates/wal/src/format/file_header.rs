//! Block 0: whose file this is and which one came before it.

use refloat_types::codec::{DecodeError, Put, Reader};
use refloat_types::{ClusterId, Generation, Identity};

use super::sector::{self, Salt};
use super::{BLOCK, PIECE, SECTOR, VERSION};

const MAGIC: &[u8; 8] = b"REFLOATW";
/// Where the checksum of a header, of whatever version, stands.
const CRC_AT: usize = PIECE - 4;
/// The batch number in the tags of the header block.
pub(crate) const TAG_BATCH: u32 = 0;

/// Where the file before ended. Stands in the header and in the first batch of the file that
/// follows, and, the other way round, in the link block of the file that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Previous {
    /// Its number; 0 for none.
    pub(crate) file: u64,
    /// The block behind its last accepted batch; 0 where unknown.
    pub(crate) end: u32,
    /// The number of its last accepted batch; 0 where there is none.
    pub(crate) last: u32,
    /// That batch's digest, where it was readable.
    pub(crate) digest: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) identity: Identity,
    pub(crate) file: Generation,
    /// How long the file was made.
    pub(crate) blocks: u32,
    pub(crate) previous: Previous,
}

/// What the header block of a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderSeen {
    Valid(FileHeader),
    /// A newer version, by its own checksum.
    Newer(u16),
    /// No copy verifies.
    None,
}

impl FileHeader {
    /// The block: eight copies, one per sector.
    pub(crate) fn write(&self, salt: &Salt, block: &mut [u8]) {
        let mut piece = Vec::with_capacity(PIECE);
        piece.put_slice(MAGIC);
        piece.put_u16(VERSION);
        piece.put_u16(0);
        piece.put_u32(BLOCK as u32);
        piece.put_u64(self.file.0);
        piece.put_u128(self.identity.cluster.0);
        piece.put_member(self.identity.member);
        piece.put_u32(self.blocks);
        piece.put_u32(u32::from(self.previous.digest.is_some()));
        piece.put_u64(self.previous.file);
        piece.put_u32(self.previous.end);
        piece.put_u32(self.previous.last);
        piece.put_u32(self.previous.digest.unwrap_or(0));
        piece.resize(CRC_AT, 0);
        // Not salted: a stranger's file must be readable enough to be named.
        let crc = crc32c::crc32c(&piece);
        piece.put_u32(crc);
        for copy in 0..BLOCK / SECTOR {
            sector::stripe(block, copy * PIECE, &piece);
        }
        salt.tag(&mut block[..BLOCK], TAG_BATCH, 0);
    }

    /// Reads whichever copy verifies.
    pub(crate) fn read(block: &[u8]) -> HeaderSeen {
        let mut seen = HeaderSeen::None;
        for piece in block.chunks_exact(SECTOR).filter_map(|sector| sector.get(..PIECE)) {
            match FileHeader::read_piece(piece) {
                Ok(HeaderSeen::None) | Err(_) => {}
                Ok(found) => seen = found,
            }
            if matches!(seen, HeaderSeen::Valid(_)) {
                break;
            }
        }
        seen
    }

    fn read_piece(piece: &[u8]) -> Result<HeaderSeen, DecodeError> {
        let mut r = Reader::new(piece);
        let magic = r.bytes(8, "magic")?;
        let version = r.u16("version")?;
        let mut tail = Reader::new(piece);
        let covered = tail.bytes(CRC_AT, "header")?;
        if magic != MAGIC || tail.u32("checksum")? != crc32c::crc32c(covered) {
            return Ok(HeaderSeen::None);
        }
        if version > VERSION {
            return Ok(HeaderSeen::Newer(version));
        }
        r.u16("flags")?;
        r.u32("block length")?;
        let file = Generation(r.u64("file")?);
        let cluster = ClusterId(r.u128("cluster")?);
        let member = r.member("member")?;
        let blocks = r.u32("blocks")?;
        let digest_known = r.u32("previous flags")? & 1 == 1;
        let previous = Previous {
            file: r.u64("previous file")?,
            end: r.u32("previous end")?,
            last: r.u32("previous last batch")?,
            digest: Some(r.u32("previous digest")?).filter(|_| digest_known),
        };
        let identity = Identity { cluster, member };
        Ok(HeaderSeen::Valid(FileHeader { identity, file, blocks, previous }))
    }
}
