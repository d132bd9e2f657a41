//! A sliding view of a file that nobody vouches for.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::io;
use std::ops::{Deref, Range};
use std::sync::Arc;

use refloat_vfs::{AlignedBuf, Stretches, VfsFile};

use crate::format::{BLOCK, offset_of};

/// Blocks read at once where no batch needs more.
const AHEAD: u32 = 256;

/// The same for the first look at a place: of many files it is the only one.
const FIRST: u32 = 16;

/// Blocks that the system is asked to fetch while those before them are looked at.
const FETCHED: u32 = 1024;

/// Where the bytes come from.
pub(crate) trait Source: Debug {
    /// Fills `buf` from an offset, as far as there are bytes; returns how many.
    fn read(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// These bytes will be read soon.
    fn read_ahead(&self, _offset: u64, _len: u64) {}

    /// Reads on ahead of whoever looks at the bytes, if that can be done.
    fn stretches(&self, _offset: u64, _len: usize) -> Option<Box<dyn Stretches>> {
        None
    }
}

impl Source for Arc<dyn VfsFile> {
    fn stretches(&self, offset: u64, len: usize) -> Option<Box<dyn Stretches>> {
        self.as_ref().stretches(offset, len)
    }

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

/// Reads blocks in ascending stretches, up to 1 MiB ahead, and where the source can, while the
/// ones before them are looked at. Blocks that cannot be read are zeros here and are remembered.
#[derive(Debug)]
pub(crate) struct Window<'a> {
    file: &'a dyn Source,
    blocks: u32,
    held: Held<AlignedBuf>,
    /// What lies across the end of a stretch.
    across: Held<Vec<u8>>,
    /// Goes on behind what is held.
    ahead: Option<Box<dyn Stretches>>,
    /// The system was asked to fetch the blocks below this one.
    fetched: u32,
    unreadable: BTreeSet<u32>,
}

/// Whole blocks from one on.
#[derive(Debug, Default)]
struct Held<B> {
    start: u32,
    bytes: B,
}

impl<B: Deref<Target = [u8]>> Held<B> {
    fn end(&self) -> u32 {
        self.start + (self.bytes.len() / BLOCK) as u32
    }

    fn range(&self, at: u32, end: u32) -> Option<Range<usize>> {
        let from = at.checked_sub(self.start)? as usize * BLOCK;
        (end <= self.end()).then(|| from..from + (end - at) as usize * BLOCK)
    }

    fn get(&self, range: Range<usize>) -> &[u8] {
        self.bytes.get(range).unwrap_or_default()
    }
}

impl<'a> Window<'a> {
    /// Of a file's whole blocks; a last partial one counts as missing.
    pub(crate) fn new(file: &'a dyn Source, len: u64) -> Window<'a> {
        let blocks = u32::try_from(len / BLOCK as u64).unwrap_or(u32::MAX);
        let (held, across) = (Held::default(), Held::default());
        Window { file, blocks, held, across, ahead: None, fetched: 0, unreadable: BTreeSet::new() }
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
        if let Some(range) = self.held.range(at, end) {
            return self.held.get(range);
        }
        if let Some(range) = self.across.range(at, end) {
            return self.across.get(range);
        }
        if self.go_ahead(at, end).is_none() {
            self.load(at, end - at);
        }
        match self.across.range(at, end) {
            Some(range) => self.across.get(range),
            None => self.held.range(at, end).map_or(&[], |range| self.held.get(range)),
        }
    }

    /// Whether a block could not be read. Known once [`Window::blocks`] was asked for it.
    pub(crate) fn is_unreadable(&self, block: u32) -> bool {
        block >= self.blocks || self.unreadable.contains(&block)
    }

    /// Reads anew what is asked for next: a writer may have gone on meanwhile.
    pub(crate) fn forget(&mut self) {
        self.held.bytes.clear();
        self.across.bytes.clear();
        self.ahead = None;
    }

    /// Holds `at..end`, which goes on behind what is held; `None` where nothing is read ahead, or
    /// not this, or some of it cannot be read.
    fn go_ahead(&mut self, at: u32, end: u32) -> Option<()> {
        let known = self.held.start..=self.held.end();
        let mut ahead = self.ahead.take().filter(|_| known.contains(&at))?;
        self.across.start = at;
        self.across.bytes.clear();
        if let Some(range) = self.held.range(at, self.held.end()) {
            self.across.bytes.extend_from_slice(self.held.get(range));
        }
        while self.held.end() < end {
            self.held.start = self.held.end();
            ahead.next(&mut self.held.bytes).ok().filter(|()| !self.held.bytes.is_empty())?;
            if self.held.start == at && self.held.end() >= end {
                break;
            }
            let rest = self.held.range(self.held.start, end.min(self.held.end()))?;
            self.across.bytes.extend_from_slice(self.held.get(rest));
        }
        self.ahead = Some(ahead);
        Some(())
    }

    fn load(&mut self, at: u32, count: u32) {
        // Whoever goes on where this ended goes on to the end of the file.
        let goes_on = at > 0 && (self.held.start..=self.held.end()).contains(&at);
        self.across.bytes.clear();
        self.ahead = None;
        let most = if goes_on { AHEAD } else { FIRST };
        let count = count.max(most.min(self.blocks - at));
        self.held.start = at;
        self.held.bytes.resize(count as usize);
        if goes_on && self.blocks - (at + count) > AHEAD {
            self.ahead = self.file.stretches(offset_of(at + count), AHEAD as usize * BLOCK);
        }
        if goes_on && self.ahead.is_none() {
            self.fetch(at + count);
        }
        if read(self.file, &mut self.held.bytes, offset_of(at)).is_ok() {
            return;
        }
        // Some block in there is unreadable: find out which.
        for (block, bytes) in (at..).zip(self.held.bytes.chunks_exact_mut(BLOCK)) {
            if read(self.file, bytes, offset_of(block)).is_err() {
                bytes.fill(0);
                self.unreadable.insert(block);
            }
        }
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
}

fn read(file: &dyn Source, buf: &mut [u8], offset: u64) -> io::Result<()> {
    if file.read(buf, offset)? < buf.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: u32 = 3 * AHEAD + 100;

    /// A file that reads ahead, some blocks of which cannot be read.
    #[derive(Clone, Debug, Default)]
    struct File {
        bad: BTreeSet<u32>,
        plain: bool,
    }

    #[derive(Debug)]
    struct Inline(File, u64, usize);

    fn content(block: u32) -> [u8; BLOCK] {
        let mut bytes = [7; BLOCK];
        bytes[..4].copy_from_slice(&block.to_le_bytes());
        bytes
    }

    impl Source for File {
        fn read(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
            let first = (offset / BLOCK as u64) as u32;
            let rest = FILE.saturating_sub(first) as usize;
            let len = (buf.len() / BLOCK).min(rest) * BLOCK;
            for (at, bytes) in (first..).zip(buf[..len].chunks_exact_mut(BLOCK)) {
                if self.bad.contains(&at) {
                    return Err(io::ErrorKind::Other.into());
                }
                bytes.copy_from_slice(&content(at));
            }
            Ok(len)
        }

        fn stretches(&self, offset: u64, len: usize) -> Option<Box<dyn Stretches>> {
            (!self.plain).then(|| Box::new(Inline(self.clone(), offset, len)) as _)
        }
    }

    impl Stretches for Inline {
        fn next(&mut self, held: &mut AlignedBuf) -> io::Result<()> {
            let Inline(file, at, len) = self;
            held.resize(*len / BLOCK);
            let n = file.read(held, *at)?;
            *at += *len as u64;
            held.resize(n / BLOCK);
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn what_is_read_ahead_is_what_would_be_read_otherwise(
            bad in proptest::collection::btree_set(0..FILE, 0..3),
            asked in proptest::collection::vec((-3..4i64, 0..700u32, any::<bool>()), 1..60),
        ) {
            let ahead = File { bad: bad.clone(), plain: false };
            let plain = File { plain: true, ..ahead.clone() };
            let len = offset_of(FILE) + 9;
            let (mut one, mut other) = (Window::new(&ahead, len), Window::new(&plain, len));
            let mut next = 0i64;
            for (step, count, forget) in asked {
                // Mostly onwards, as a scan reads; sometimes a little back or over a gap.
                let at = (next + if step.abs() < 2 { 0 } else { step * 5 }).clamp(0, 900) as u32;
                let count = if count > 600 { count } else { count % 40 };
                if forget && step == 3 {
                    one.forget();
                    other.forget();
                }
                prop_assert!(one.blocks(at, count) == other.blocks(at, count), "{at} {count}");
                let end = (at + count).min(FILE);
                for (block, bytes) in (at..end).zip(one.blocks(at, count).chunks_exact(BLOCK)) {
                    let wanted = if bad.contains(&block) { [0; BLOCK] } else { content(block) };
                    prop_assert!(bytes == wanted, "block {block}");
                }
                for block in at..end {
                    prop_assert_eq!(one.is_unreadable(block), bad.contains(&block));
                }
                next = i64::from(end);
            }
        }
    }

    #[test]
    fn a_file_is_read_on_from_where_its_first_look_ended() {
        let file = File::default();
        let mut window = Window::new(&file, offset_of(FILE));
        window.blocks(0, 1);
        assert!(window.ahead.is_none(), "of many files the first look is the only one");
        for at in 1..FILE / 3 {
            window.blocks(at * 3, 3);
            assert_eq!(window.ahead.is_some(), at * 3 + 3 > FIRST, "block {}", at * 3);
        }
    }
}
