//! Looking at every byte.

use refloat_types::Index;

use crate::format::{BLOCK_LEN, DATA_START, Extent, FOOTER_MAGIC, HEADER_MAGIC};
use crate::{Segment, SegmentError};

const READ_LEN: usize = 256 << 10;

impl Segment {
    /// Reads every byte and verifies it: both copies of what exists twice, and every entry.
    ///
    /// # Errors
    /// The first thing that does not hold. [`Segment::scrub`] gives all.
    pub fn verify(&self) -> Result<(), SegmentError> {
        self.scrub().into_iter().next().map_or(Ok(()), Err)
    }

    /// Reads every byte and says everything that does not hold.
    /// [`SegmentError::Damaged`] is a hole to heal. [`SegmentError::Copy`] is a damaged copy of
    /// something that exists twice: a rewrite of the segment cures it.
    #[must_use]
    pub fn scrub(&self) -> Vec<SegmentError> {
        let mut found = self.scrub_blocks();
        found.extend(self.scrub_index());
        for meta in self.groups() {
            let mut next = meta.terms.first().map(|run| run.first);
            let last = meta.terms.last().map_or(Index::ZERO, |run| run.last);
            while let Some(first) = next {
                let part = self.salvage(meta.group, first, last, READ_LEN);
                found.extend(part.damage.into_iter().map(SegmentError::Damaged));
                next = (part.next <= last && part.next > first).then_some(part.next);
            }
        }
        found
    }

    fn scrub_blocks(&self) -> Vec<SegmentError> {
        let header = self.head.encode(HEADER_MAGIC, Extent::default());
        let footer = self.head.encode(FOOTER_MAGIC, self.extent);
        let [first, second] = self.layout.footer;
        [(0, "header", &header), (first, "footer", &footer), (second, "footer", &footer)]
            .into_iter()
            .filter_map(|(at, what, expected)| self.differs(at, what, expected))
            .collect()
    }

    /// Both copies verified block by block when the segment was opened, at least one each; so they
    /// are good if they are equal, and so is the padding if it is zero.
    fn scrub_index(&self) -> Vec<SegmentError> {
        let [first, second] = self.layout.index;
        let step = BLOCK_LEN as u64;
        let mut found = Vec::new();
        let mut at = 0;
        while first + at < second {
            let (left, right) = (self.block(first + at), self.block(second + at));
            match (left, right) {
                (Ok(left), Ok(right)) => {
                    if let Some(differ) = left.iter().zip(&right).position(|(l, r)| l != r) {
                        let (expected, found_byte) = (left[differ].into(), right[differ].into());
                        let offset = second + at + differ as u64;
                        found.push(self.copy_error(offset, "index copy", expected, found_byte));
                    }
                }
                (Err(error), _) | (_, Err(error)) => found.push(error),
            }
            at += step;
        }
        if self.layout.data_end > DATA_START {
            let start = self.layout.data_end / step * step;
            let used = (self.layout.data_end - start) as usize;
            found.extend(self.padding(start, used));
        }
        let end = self.extent.index_len;
        found.extend(self.padding(first + end / step * step, (end % step) as usize));
        found
    }

    fn padding(&self, block_at: u64, used: usize) -> Option<SegmentError> {
        if used == 0 {
            return None;
        }
        let block = match self.block(block_at) {
            Ok(block) => block,
            Err(error) => return Some(error),
        };
        let at = block.iter().skip(used).position(|byte| *byte != 0)?;
        let (offset, byte) = (block_at + (used + at) as u64, block[used + at]);
        Some(self.copy_error(offset, "padding", 0, byte.into()))
    }

    fn differs(&self, at: u64, what: &'static str, expected: &[u8]) -> Option<SegmentError> {
        let block = match self.block(at) {
            Ok(block) => block,
            Err(error) => return Some(error),
        };
        let differ = block.iter().zip(expected).position(|(found, expected)| found != expected)?;
        let (expected, found) = (expected[differ].into(), block[differ].into());
        Some(self.copy_error(at + differ as u64, what, expected, found))
    }

    /// A block of the file, zeros where the file ends before.
    fn block(&self, at: u64) -> Result<Vec<u8>, SegmentError> {
        let mut block = vec![0; BLOCK_LEN];
        let read = self.file.read_at(&mut block, at);
        read.map_err(SegmentError::io(&self.path, "read"))?;
        Ok(block)
    }

    fn copy_error(
        &self,
        offset: u64,
        what: &'static str,
        expected: u64,
        found: u64,
    ) -> SegmentError {
        SegmentError::Copy { path: self.path.clone(), offset, what, expected, found }
    }
}
