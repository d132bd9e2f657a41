//! Looking at every byte, at once or in steps.

use std::sync::Arc;

use refloat_types::Index;

use crate::format::{BLOCK_LEN, DATA_START, Extent, FOOTER_MAGIC, HEADER_MAGIC};
use crate::{Segment, SegmentError};

/// The most that one look takes into memory.
const READ_LEN: u64 = 256 << 10;

/// A walk over every byte of a segment, in steps as long as the caller likes: for a background that
/// reads what nobody asks for, before a second copy rots too. Owned, so that a step can run as a
/// job; [`Scrub::position`] says where it is and [`Scrub::resume`] goes on from there.
///
/// ```
/// use std::{path::Path, sync::Arc};
/// use refloat_segment::{Scrub, write};
/// use refloat_types::{Generation, Identity};
/// use refloat_vfs::{SimFs, Vfs};
///
/// let (fs, dir) = (SimFs::new(), Path::new("/seg"));
/// fs.create_dir(dir)?;
/// let segment = write(&fs, dir, Identity::default(), Generation(1), [])?;
/// let mut scrub = Scrub::new(Arc::new(segment));
/// while !scrub.is_done() {
///     let step = scrub.step(64 << 10); // and now wait as long as these bytes are worth
///     assert!(step.found.is_empty());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Scrub {
    segment: Arc<Segment>,
    at: u64,
}

/// What one step of a [`Scrub`] saw.
#[derive(Debug, Default)]
pub struct Scrubbed {
    /// How many bytes it read.
    pub bytes: u64,
    /// What does not hold: [`SegmentError::Damaged`] is a hole to heal, naming path, offset, group
    /// and entries; [`SegmentError::Copy`] is a damaged copy of something that exists twice, which
    /// a rewrite of the segment cures.
    pub found: Vec<SegmentError>,
}

impl Scrub {
    /// From the start.
    #[must_use]
    pub fn new(segment: Arc<Segment>) -> Scrub {
        Scrub::resume(segment, 0)
    }

    /// From where an earlier walk over the same file was. Any other offset will do: the walk begins
    /// with the stretch or the block that holds it.
    #[must_use]
    pub fn resume(segment: Arc<Segment>, position: u64) -> Scrub {
        Scrub { segment, at: position }
    }

    /// The segment.
    #[must_use]
    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Everything before this offset was read; at the end the length of the file.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Whether nothing is left to read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.at >= self.segment.file_len()
    }

    /// Reads on for at most `max_bytes`, or for one stretch if that is longer: 12 KiB for header
    /// and footers, 8 KiB for a block of the index, for entries 16 KiB or one entry.
    pub fn step(&mut self, max_bytes: u64) -> Scrubbed {
        let mut out = Scrubbed::default();
        while !self.is_done() {
            let left = max_bytes.saturating_sub(out.bytes);
            if out.bytes > 0 && left < self.segment.stretch_at(self.at) {
                break;
            }
            let (next, bytes, found) = self.segment.scrub_at(self.at, left);
            out.bytes += bytes;
            out.found.extend(found);
            self.at = next;
        }
        out
    }
}

impl Segment {
    /// Reads every byte and verifies it: both copies of what exists twice, and every entry.
    ///
    /// # Errors
    /// The first thing that does not hold. [`Segment::scrub`] gives all.
    pub fn verify(&self) -> Result<(), SegmentError> {
        self.walk().flatten().next().map_or(Ok(()), Err)
    }

    /// Reads every byte and says everything that does not hold. [`Scrub`] does the same in steps.
    #[must_use]
    pub fn scrub(&self) -> Vec<SegmentError> {
        self.walk().flatten().collect()
    }

    fn walk(&self) -> impl Iterator<Item = Vec<SegmentError>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            (at < self.file_len()).then(|| {
                let (next, _, found) = self.scrub_at(at, READ_LEN);
                at = next;
                found
            })
        })
    }

    /// How many bytes the shortest step from here would read.
    fn stretch_at(&self, at: u64) -> u64 {
        match self.index.strides_from(at).next() {
            _ if at < DATA_START => 3 * BLOCK_LEN as u64,
            Some((_, stride)) => stride.len(),
            None => 2 * BLOCK_LEN as u64,
        }
    }

    /// One step: where the next one starts, how many bytes were read, what does not hold.
    fn scrub_at(&self, at: u64, max_bytes: u64) -> (u64, u64, Vec<SegmentError>) {
        if at < DATA_START {
            return (DATA_START, 3 * BLOCK_LEN as u64, self.scrub_blocks());
        }
        if at < self.layout.data_end {
            return self.scrub_entries(at, max_bytes);
        }
        let [first, second] = self.layout.index;
        let block = first + at.saturating_sub(first) / BLOCK_LEN as u64 * BLOCK_LEN as u64;
        if block >= second {
            return (self.file_len(), 0, Vec::new());
        }
        let mut found = self.scrub_index_block(block - first);
        if block == first {
            found.extend(self.scrub_padding());
        }
        (block + BLOCK_LEN as u64, 2 * BLOCK_LEN as u64, found)
    }

    /// Neighbouring stretches of one group, as many as fit.
    fn scrub_entries(&self, at: u64, max_bytes: u64) -> (u64, u64, Vec<SegmentError>) {
        let mut strides = self.index.strides_from(at);
        let Some((group, first)) = strides.next() else {
            return (self.layout.data_end, 0, Vec::new());
        };
        let (mut last, mut len) = (first, first.len());
        for (_, stride) in strides.take_while(|(of, _)| *of == group) {
            if len + stride.len() > max_bytes.min(READ_LEN) {
                break;
            }
            len += stride.len();
            last = stride;
        }
        let from = first.ids().next().map_or(Index::ZERO, |id| id.index);
        let to = last.ids().last().map_or(Index::ZERO, |id| id.index);
        let pass = self.salvage(group, from, to, usize::MAX);
        let found = pass.damage.into_iter().map(SegmentError::Damaged).collect();
        (last.offset_end, len, found)
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
    fn scrub_index_block(&self, at: u64) -> Vec<SegmentError> {
        let [first, second] = self.layout.index;
        match (self.block(first + at), self.block(second + at)) {
            (Ok(left), Ok(right)) => {
                let differ = left.iter().zip(&right).position(|(left, right)| left != right);
                let error = |differ: usize| {
                    let (expected, found) = (left[differ].into(), right[differ].into());
                    self.copy_error(second + at + differ as u64, "index copy", expected, found)
                };
                differ.map(error).into_iter().collect()
            }
            (Err(error), _) | (_, Err(error)) => vec![error],
        }
    }

    fn scrub_padding(&self) -> Vec<SegmentError> {
        let mut found = Vec::new();
        let step = BLOCK_LEN as u64;
        if self.layout.data_end > DATA_START {
            let start = self.layout.data_end / step * step;
            let used = (self.layout.data_end - start) as usize;
            found.extend(self.padding(start, used));
        }
        let end = self.extent.index_len;
        let at = self.layout.index[0] + end / step * step;
        found.extend(self.padding(at, (end % step) as usize));
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
