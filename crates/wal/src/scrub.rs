//! Looking at every byte of a file that is complete, in steps.

use std::fmt;
use std::path::PathBuf;

use refloat_types::Generation;
use refloat_vfs::{OpenOptions, Vfs, VfsFile};

use crate::Options;
use crate::format::link::{Link, LinkSeen};
use crate::format::sector::Classifier;
use crate::format::{BLOCK, FIRST_BATCH_BLOCK, LINK_BLOCK, offset_of};
use crate::names::Name;
use crate::scan::parse::FileReader;
use crate::scan::window::Window;

/// A walk over a file of the log that a newer file follows: every batch, up to where the link says
/// that it ends. For a background that reads what nobody asks for. Owned, so that a step can run
/// as a job.
#[derive(Clone, Debug)]
pub struct Scrub {
    options: Options,
    generation: Generation,
    block: u32,
    batch: u32,
    done: bool,
}

/// What one step of a [`Scrub`] saw.
#[derive(Debug, Default)]
pub struct Scrubbed {
    /// How many bytes it looked at.
    pub bytes: u64,
    /// What does not hold. A walk ends there: what comes behind is found by a scan.
    pub found: Option<Rot>,
}

/// Bytes of a complete file that are not what they were.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rot {
    /// Which file.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// What does not hold.
    pub what: &'static str,
}

impl fmt::Display for Rot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {} at {}", self.what, self.path.display(), self.offset)
    }
}

impl Scrub {
    /// Of a file, from its first batch.
    #[must_use]
    pub fn new(options: Options, generation: Generation) -> Scrub {
        Scrub { options, generation, block: FIRST_BATCH_BLOCK, batch: 1, done: false }
    }

    /// Which file.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether nothing is left to read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Reads on for at least `bytes`, or one batch. A file that is gone is done.
    pub fn step(&mut self, vfs: &dyn Vfs, bytes: u64) -> Scrubbed {
        let mut out = Scrubbed::default();
        let path = Name::Log(self.generation).path(&self.options.dir);
        let opened = vfs.open(&path, OpenOptions::read()).and_then(|file| Ok((file.len()?, file)));
        let Ok((len, file)) = opened else {
            self.done = true;
            return out;
        };
        // What stands in memory is not what is asked about.
        file.drop_cache();
        if let Err((block, what)) = self.walk(&file, len, bytes, &mut out) {
            self.done = true;
            out.found = Some(Rot { path, offset: offset_of(block), what });
        }
        out
    }

    fn walk(
        &mut self,
        file: &std::sync::Arc<dyn VfsFile>,
        len: u64,
        bytes: u64,
        out: &mut Scrubbed,
    ) -> Result<(), (u32, &'static str)> {
        let (identity, number) = (self.options.identity, self.generation.0);
        let mut reader = FileReader::new(Window::new(file, len), identity, number);
        let block = reader.window.blocks(LINK_BLOCK, 1).to_vec();
        let readable = block.len() == BLOCK && !reader.window.is_unreadable(LINK_BLOCK);
        let link = Link::read(&mut Classifier::new(identity, number), readable.then_some(&block));
        let LinkSeen::Valid(link) = link else {
            return Err((LINK_BLOCK, "the link to the next file does not verify"));
        };
        while out.bytes < bytes {
            if self.batch > link.last || self.block >= link.end {
                self.done = true;
                break;
            }
            let batch = reader.batch_at(self.block, self.batch, link.end);
            let batch = batch.map_err(|_| (self.block, "a batch does not verify"))?;
            out.bytes += offset_of(batch.header.blocks);
            self.block += batch.header.blocks;
            self.batch += 1;
        }
        Ok(())
    }
}
