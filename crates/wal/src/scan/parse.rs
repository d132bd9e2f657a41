//! Batches of one file: found, classified, read.

use bytes::Bytes;
use refloat_types::{EntryId, Identity};

use super::window::Window;
use crate::Record;
use crate::format::batch::{BatchHeader, HEADER};
use crate::format::directory::{Frame, Missing, OF_CHECKPOINT};
use crate::format::sector::{Classifier, Salt, Sector, unstripe};
use crate::format::{BLOCK, CONTENT, SECTOR, SECTORS_PER_BLOCK};

/// A batch in which everything verifies.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) header: BatchHeader,
    pub(crate) digest: u32,
    pub(crate) records: Vec<Found>,
}

/// A record, and where in the batch it stood.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) record: Record,
    pub(crate) missing: Vec<EntryId>,
    /// Those of the missing entries that are membership changes.
    pub(crate) missing_configs: Vec<EntryId>,
    pub(crate) of_checkpoint: bool,
}

/// What the sectors of one block show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BlockSeen {
    /// Sectors as they were before this file was written, one bit each.
    pub(crate) before: u8,
    /// Sectors that are neither that nor this file's own.
    pub(crate) bad: u8,
    /// The lowest and the highest batch number among its own sectors; 0 if there are none.
    pub(crate) low: u32,
    pub(crate) high: u32,
    /// The batch whose header starts here, or 0.
    pub(crate) header: u32,
}

impl BlockSeen {
    pub(crate) fn is_before(&self) -> bool {
        self.before == u8::MAX
    }
}

/// Reads batches of one file.
#[derive(Debug)]
pub(crate) struct FileReader<'a> {
    pub(crate) window: Window<'a>,
    classifier: Classifier,
    scratch: Vec<u8>,
}

impl<'a> FileReader<'a> {
    pub(crate) fn new(window: Window<'a>, identity: Identity, file: u64) -> FileReader<'a> {
        FileReader { window, classifier: Classifier::new(identity, file), scratch: Vec::new() }
    }

    pub(crate) fn salt(&self) -> Salt {
        self.classifier.salt()
    }

    /// The batch header that starts a block, if one does and the block does not belong to
    /// another batch.
    pub(crate) fn header_at(&mut self, block: u32) -> Option<(BatchHeader, u32)> {
        let salt = self.salt();
        let bytes = self.window.blocks(block, 1);
        let (header, digest) = BatchHeader::read(&salt, bytes)?;
        let sector = self.classifier.classify(bytes.get(..SECTOR)?, first_sector(block)?);
        let foreign = matches!(sector, Sector::Own(batch) if batch != header.batch);
        (header.start == block && !foreign).then_some((header, digest))
    }

    /// Batch `number`, if it starts at a block and everything of it verifies; else its header,
    /// if that does.
    pub(crate) fn batch_at(
        &mut self,
        block: u32,
        number: u32,
        stop: u32,
    ) -> Result<Parsed, Option<BatchHeader>> {
        let (header, digest) = self.header_at(block).ok_or(None)?;
        if header.batch != number {
            return Err(None);
        }
        if header.blocks > stop.saturating_sub(block) {
            return Err(Some(header));
        }
        match self.parse(&header, block) {
            Some(records) => Ok(Parsed { header, digest, records }),
            None => Err(Some(header)),
        }
    }

    fn parse(&mut self, header: &BatchHeader, block: u32) -> Option<Vec<Found>> {
        let salt = self.salt();
        let bytes = self.window.blocks(block, header.blocks);
        if bytes.len() != header.blocks as usize * BLOCK {
            return None;
        }
        for (at, sector) in (first_sector(block)?..).zip(bytes.chunks_exact(SECTOR)) {
            if self.classifier.classify(sector, at) != Sector::Own(header.batch) {
                return None;
            }
        }
        let copy_len = header.copy_len as usize;
        let payload_at = u64::from(header.payload_at);
        self.scratch.clear();
        unstripe(bytes, header.copy_at as usize, copy_len, &mut self.scratch)?;
        if salt.crc(&self.scratch) != header.copy_crc {
            return None;
        }
        self.scratch.clear();
        unstripe(bytes, HEADER, header.directory_len as usize, &mut self.scratch)?;
        if salt.crc(&self.scratch) != header.directory_crc {
            return None;
        }
        let mut payload = Vec::new();
        unstripe(bytes, header.payload_at as usize, header.payload_len as usize, &mut payload)?;
        let payload = Bytes::from(payload);
        let mut fetch = |at: u64, len: usize| slice(&payload, at.checked_sub(payload_at)?, len);
        let mut records = Vec::new();
        let mut rest = &self.scratch[..];
        while !rest.is_empty() {
            let frame = Frame::read(&salt, rest)?;
            if frame.head.batch != header.batch || frame.head.start != block {
                return None;
            }
            read_frame(&frame, &mut fetch, &mut records)?;
            rest = rest.get(frame.len()..)?;
        }
        let whole = records.len() == header.records as usize
            && records.iter().all(|found| found.missing.is_empty());
        whole.then_some(records)
    }

    /// Looks at the sectors of blocks `from..to`. Blocks that the file does not have are bad.
    pub(crate) fn survey(&mut self, from: u32, to: u32) -> Vec<BlockSeen> {
        (from..to).map(|block| self.look_at(block)).collect()
    }

    fn look_at(&mut self, block: u32) -> BlockSeen {
        let mut seen = BlockSeen::default();
        let bytes = self.window.blocks(block, 1);
        let Some(first) = first_sector(block).filter(|_| bytes.len() == BLOCK) else {
            return BlockSeen { bad: u8::MAX, ..seen };
        };
        for (bit, sector) in bytes.chunks_exact(SECTOR).enumerate() {
            match self.classifier.classify(sector, first + bit as u32) {
                Sector::PreImage => seen.before |= 1 << bit,
                Sector::Bad => seen.bad |= 1 << bit,
                Sector::Own(batch) => {
                    seen.low = if seen.low == 0 { batch } else { seen.low.min(batch) };
                    seen.high = seen.high.max(batch);
                }
            }
        }
        if self.window.is_unreadable(block) {
            return BlockSeen { bad: u8::MAX, ..BlockSeen::default() };
        }
        if seen.high > 0 || seen.bad > 0 {
            seen.header = self.header_at(block).map_or(0, |(header, _)| header.batch);
        }
        seen
    }

    /// All content bytes of blocks `from..to`, as far as the file has them.
    pub(crate) fn content(&mut self, from: u32, to: u32) -> Bytes {
        let bytes = self.window.blocks(from, to.saturating_sub(from));
        let mut content = Vec::new();
        // Cannot fail: the length is that of the blocks.
        let _ = unstripe(bytes, 0, bytes.len() / BLOCK * CONTENT, &mut content);
        Bytes::from(content)
    }
}

fn first_sector(block: u32) -> Option<u32> {
    block.checked_mul(SECTORS_PER_BLOCK as u32)
}

/// A part of some bytes, or `None` where they do not reach so far.
pub(crate) fn slice(bytes: &Bytes, at: u64, len: usize) -> Option<Bytes> {
    let at = usize::try_from(at).ok()?;
    let end = at.checked_add(len)?;
    (end <= bytes.len()).then(|| bytes.slice(at..end))
}

/// Appends the records of a frame.
pub(crate) fn read_frame(
    frame: &Frame<'_>,
    fetch: &mut dyn FnMut(u64, usize) -> Option<Bytes>,
    out: &mut Vec<Found>,
) -> Option<()> {
    let of_checkpoint = frame.head.flags & OF_CHECKPOINT != 0;
    let mut push = |record, missing: Missing| {
        let (missing, missing_configs) = (missing.ids, missing.configs);
        out.push(Found { record, missing, missing_configs, of_checkpoint });
    };
    frame.records(fetch, &mut push)
}
