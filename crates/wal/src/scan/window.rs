//! A sliding view of a file that nobody vouches for.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use refloat_vfs::{AlignedBuf, VfsFile};

use crate::format::{BLOCK, offset_of};

/// Blocks read at once where no batch needs more.
const AHEAD: u32 = 256;

/// Blocks that the system is asked to fetch while those before them are looked at.
const FETCHED: u32 = 1024;

/// Where the bytes come from.
pub(crate) trait Source: Debug {
    /// Fills `buf` from an offset, as far as there are bytes; returns how many.
    fn read(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// These bytes will be read soon.
    fn read_ahead(&self, _offset: u64, _len: u64) {}
}

impl Source for Arc<dyn VfsFile> {
    fn read_ahead(&self, offset: u64, len: u64) {
        self.as_ref().read_ahead(offset, len);
    }

    fn read(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_at(buf, offset)
    }
}

impl Source for AlignedBuf {
    fn read(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|from| self.get(from..));
        let rest = rest.unwrap_or_default();
        let len = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..len), rest.get(..len)) {
            to.copy_from_slice(from);
        }
        Ok(len)
    }
}

/// Reads blocks in ascending stretches, up to 1 MiB ahead. Blocks that cannot be read are zeros
/// here and are remembered.
#[derive(Debug)]
pub(crate) struct Window<'a> {
    file: &'a dyn Source,
    blocks: u32,
    buf: Vec<u8>,
    start: u32,
    /// The system was asked to fetch the blocks below this one.
    fetched: u32,
    unreadable: BTreeSet<u32>,
}

impl<'a> Window<'a> {
    /// Of a file's whole blocks; a last partial one counts as missing.
    pub(crate) fn new(file: &'a dyn Source, len: u64) -> Window<'a> {
        let blocks = u32::try_from(len / BLOCK as u64).unwrap_or(u32::MAX);
        Window { file, blocks, buf: Vec::new(), start: 0, fetched: 0, unreadable: BTreeSet::new() }
    }

    /// How many blocks the file has.
    pub(crate) fn file_blocks(&self) -> u32 {
        self.blocks
    }

    /// The bytes of `count` blocks, or of as many as the file has from there on.
    pub(crate) fn blocks(&mut self, at: u32, count: u32) -> &[u8] {
        let end = at.saturating_add(count).min(self.blocks);
        if at >= end {
            return &[];
        }
        let held = self.start + (self.buf.len() / BLOCK) as u32;
        if at < self.start || end > held {
            self.load(at, (end - at).max(AHEAD.min(self.blocks - at)));
        }
        let from = (at - self.start) as usize * BLOCK;
        self.buf.get(from..from + (end - at) as usize * BLOCK).unwrap_or(&[])
    }

    /// Whether a block could not be read. Known once [`Window::blocks`] was asked for it.
    pub(crate) fn is_unreadable(&self, block: u32) -> bool {
        block >= self.blocks || self.unreadable.contains(&block)
    }

    /// Reads anew what is asked for next: a writer may have gone on meanwhile.
    pub(crate) fn forget(&mut self) {
        self.buf.clear();
    }

    /// Keeps the device busy with what comes after `from`.
    fn fetch(&mut self, from: u32) {
        let to = from.saturating_add(FETCHED).min(self.blocks);
        let from = from.max(self.fetched);
        if to >= from.saturating_add(FETCHED / 2) || (to == self.blocks && to > from) {
            self.file.read_ahead(offset_of(from), offset_of(to - from));
            self.fetched = to;
        }
    }

    fn load(&mut self, at: u32, count: u32) {
        self.start = at;
        self.buf.resize(count as usize * BLOCK, 0);
        self.fetch(at + count);
        if read(self.file, &mut self.buf, offset_of(at)).is_ok() {
            return;
        }
        // Some block in there is unreadable: find out which.
        for (block, bytes) in (at..).zip(self.buf.chunks_exact_mut(BLOCK)) {
            if read(self.file, bytes, offset_of(block)).is_err() {
                bytes.fill(0);
                self.unreadable.insert(block);
            }
        }
    }
}

fn read(file: &dyn Source, buf: &mut [u8], offset: u64) -> io::Result<()> {
    if file.read(buf, offset)? < buf.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}
