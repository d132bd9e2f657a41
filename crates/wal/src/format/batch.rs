//! The head of a batch, and how its parts lie.

use refloat_planted::{Defect, is};
use refloat_types::codec::{DecodeError, Put, Reader};

use super::file_header::Previous;
use super::sector::Salt;
use super::{CONTENT, VERSION, blocks_for};

const MAGIC: u32 = u32::from_le_bytes(*b"RFWb");
/// Bytes of a batch header.
pub(crate) const HEADER: usize = 96;

/// Batch 1: it begins with a checkpoint.
pub(crate) const CHECKPOINT: u16 = 1;
/// Written when the log went idle; nothing rests on it.
pub(crate) const SEAL: u16 = 2;
/// Written by an orderly shutdown; nothing follows it.
pub(crate) const CLOSED: u16 = 4;

/// Payload from so many bytes on starts in a block of its own, so that it can be copied to its
/// place before the size of the directory is known.
pub(crate) const LARGE: usize = 64 << 10;

/// Where the parts of a batch lie, in content bytes from its first block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) copy_at: usize,
    pub(crate) payload_at: usize,
    pub(crate) end: usize,
}

impl Layout {
    /// `apart` keeps the copy out of the directory's blocks: in batch 1 both hold the checkpoint.
    pub(crate) fn new(directory: usize, copy: usize, payload: usize, apart: bool) -> Layout {
        let directory_end = HEADER + directory;
        let copy_at =
            if apart && copy > 0 { blocks_for(directory_end) * CONTENT } else { directory_end };
        let copy_end = copy_at + copy;
        let payload_at = if payload >= LARGE { blocks_for(copy_end) * CONTENT } else { copy_end };
        Layout { copy_at, payload_at, end: payload_at + payload }
    }

    pub(crate) fn blocks(&self) -> usize {
        blocks_for(self.end)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) flags: u16,
    pub(crate) batch: u32,
    pub(crate) start: u32,
    pub(crate) blocks: u32,
    pub(crate) file_blocks: u32,
    pub(crate) directory_len: u32,
    pub(crate) copy_at: u32,
    pub(crate) copy_len: u32,
    pub(crate) payload_at: u32,
    pub(crate) payload_len: u32,
    pub(crate) records: u32,
    pub(crate) directory_crc: u32,
    pub(crate) copy_crc: u32,
    /// The batch before: in this file, or for batch 1 where the file before ended.
    pub(crate) previous: Previous,
}

impl BatchHeader {
    /// The bytes, and the checksum at their end, which is the batch's digest.
    pub(crate) fn write(&self, salt: &Salt) -> (Vec<u8>, u32) {
        let mut out = Vec::with_capacity(HEADER);
        out.put_u32(MAGIC);
        out.put_u16(VERSION);
        out.put_u16(self.flags);
        out.put_u64(salt.file);
        for field in [
            self.batch,
            self.start,
            self.blocks,
            self.file_blocks,
            self.directory_len,
            self.copy_at,
            self.copy_len,
            self.payload_at,
            self.payload_len,
            self.records,
            self.directory_crc,
            self.copy_crc,
            self.previous.digest.unwrap_or(0),
            u32::from(self.previous.digest.is_some()),
        ] {
            out.put_u32(field);
        }
        out.put_u64(self.previous.file);
        out.put_u32(self.previous.end);
        out.put_u32(self.previous.last);
        out.put_u32(0);
        let digest = salt.crc(&out);
        out.put_u32(digest);
        debug_assert_eq!(out.len(), HEADER);
        (out, digest)
    }

    /// Reads a header and its digest, if the bytes are one: right checksum, and parts that lie
    /// behind each other inside the blocks that it names.
    pub(crate) fn read(salt: &Salt, bytes: &[u8]) -> Option<(BatchHeader, u32)> {
        if bytes.get(..4)? != MAGIC.to_le_bytes() {
            return None;
        }
        let covered = bytes.get(..HEADER - 4)?;
        let (header, file, digest) = BatchHeader::decode(bytes.get(..HEADER)?).ok()?;
        let sealed = digest == salt.crc(covered) || is(Defect::HeaderChecksumIgnored);
        let valid = sealed && file == salt.file && header.is_sound();
        valid.then_some((header, digest))
    }

    fn decode(bytes: &[u8]) -> Result<(BatchHeader, u64, u32), DecodeError> {
        let mut r = Reader::new(bytes);
        r.u32("magic")?;
        r.u16("version")?;
        let flags = r.u16("flags")?;
        let file = r.u64("file")?;
        let mut next = || r.u32("batch header");
        let mut header = BatchHeader {
            flags,
            batch: next()?,
            start: next()?,
            blocks: next()?,
            file_blocks: next()?,
            directory_len: next()?,
            copy_at: next()?,
            copy_len: next()?,
            payload_at: next()?,
            payload_len: next()?,
            records: next()?,
            directory_crc: next()?,
            copy_crc: next()?,
            previous: Previous::default(),
        };
        let digest = next()?;
        header.previous.digest = (next()? & 1 == 1).then_some(digest);
        header.previous.file = r.u64("previous file")?;
        header.previous.end = r.u32("previous end")?;
        header.previous.last = r.u32("previous last batch")?;
        r.u32("reserved")?;
        Ok((header, file, r.u32("checksum")?))
    }

    fn is_sound(&self) -> bool {
        let directory_end = HEADER as u64 + u64::from(self.directory_len);
        let copy_end = u64::from(self.copy_at) + u64::from(self.copy_len);
        let payload_end = u64::from(self.payload_at) + u64::from(self.payload_len);
        self.batch > 0
            && self.blocks > 0
            && directory_end <= u64::from(self.copy_at)
            && copy_end <= u64::from(self.payload_at)
            && payload_end <= u64::from(self.blocks) * CONTENT as u64
    }
}
