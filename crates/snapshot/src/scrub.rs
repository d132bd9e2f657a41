//! Looking at every byte of a snapshot, in steps.

use refloat_types::GroupKey;

use crate::SnapshotError;
use crate::file::SnapshotFile;
use crate::format::{CHUNK_HEADER_LEN, SEAL_LEN};

/// A walk over every byte of a snapshot, in steps as long as the caller likes: for a background
/// that reads what nobody asks for, so that the fallback is not found rotten when it is needed.
/// Owned, so that a step can run as a job.
///
/// The digest over the whole is checked at the end of a walk that began at the start.
#[derive(Clone, Debug)]
pub struct Scrub {
    file: SnapshotFile,
    next: Place,
    /// Over the payload so far; `None` once it can say nothing about the whole.
    crc: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Header,
    Chunk(u32),
    Seal,
    Done,
}

/// What one step of a [`Scrub`] saw.
#[derive(Debug, Default)]
pub struct Scrubbed {
    /// How many bytes it read.
    pub bytes: u64,
    /// What does not hold, with path, offset, and what was expected and found.
    pub found: Vec<SnapshotError>,
}

impl Scrub {
    /// From the start.
    #[must_use]
    pub fn new(file: SnapshotFile) -> Scrub {
        Scrub { file, next: Place::Header, crc: Some(0) }
    }

    /// From a chunk on, where an earlier walk over the same file was. The digest over the whole is
    /// not checked by such a walk; each chunk's own is.
    #[must_use]
    pub fn resume(file: SnapshotFile, chunk: u32) -> Scrub {
        let next = if chunk < file.meta().chunks { Place::Chunk(chunk) } else { Place::Seal };
        Scrub { file, next, crc: None }
    }

    /// Which group's state it is.
    #[must_use]
    pub fn group(&self) -> GroupKey {
        self.file.meta().group
    }

    /// The snapshot.
    #[must_use]
    pub fn file(&self) -> &SnapshotFile {
        &self.file
    }

    /// The chunk that comes next; behind the last one, their number.
    #[must_use]
    pub fn position(&self) -> u32 {
        match self.next {
            Place::Header => 0,
            Place::Chunk(n) => n,
            Place::Seal | Place::Done => self.file.meta().chunks,
        }
    }

    /// Whether nothing is left to read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.next == Place::Done
    }

    /// Reads on for at most `max_bytes`, or for the header or one chunk if that is longer.
    pub fn step(&mut self, max_bytes: u64) -> Scrubbed {
        let mut out = Scrubbed::default();
        while !self.is_done() {
            let len = self.len_of_next();
            if out.bytes > 0 && out.bytes + len > max_bytes {
                break;
            }
            out.bytes += len;
            out.found.extend(self.look().err());
        }
        out
    }

    fn len_of_next(&self) -> u64 {
        let layout = self.file.layout();
        match self.next {
            Place::Header => layout.chunk_at(0),
            Place::Chunk(n) => (CHUNK_HEADER_LEN + layout.chunk_len(n)) as u64,
            Place::Seal => SEAL_LEN as u64,
            Place::Done => 0,
        }
    }

    fn look(&mut self) -> Result<(), SnapshotError> {
        match self.next {
            Place::Header => {
                self.next = self.chunk_or_seal(0);
                self.file.check_header()
            }
            Place::Chunk(n) => {
                self.next = self.chunk_or_seal(n.saturating_add(1));
                let crc = self.crc.take();
                let chunk = self.file.chunk(n)?;
                self.crc = crc.map(|crc| crc32c::crc32c_append(crc, &chunk.bytes));
                Ok(())
            }
            Place::Seal => {
                self.next = Place::Done;
                self.file.check_seal()?;
                self.crc.map_or(Ok(()), |crc| self.file.check_digest(crc))
            }
            Place::Done => Ok(()),
        }
    }

    fn chunk_or_seal(&self, n: u32) -> Place {
        if n < self.file.meta().chunks { Place::Chunk(n) } else { Place::Seal }
    }
}
