//! The bytes of one file, in pages that copies share.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use crate::rng::mix;

/// What a disk writes whole or not at all, in bytes.
pub const SECTOR_LEN: usize = 512;

pub(super) const PAGE_LEN: usize = 4096;
pub(super) const SECTORS_PER_PAGE: u64 = (PAGE_LEN / SECTOR_LEN) as u64;

static ZEROS: [u8; PAGE_LEN] = [0; PAGE_LEN];

/// Reserved space costs no memory until it is written.
static ZERO_PAGE: LazyLock<Arc<Page>> =
    LazyLock::new(|| Arc::new(Page { bytes: ZEROS, hash: AtomicU64::new(0) }));

pub(super) struct Page {
    bytes: [u8; PAGE_LEN],
    /// Zero: not computed yet.
    hash: AtomicU64,
}

impl Page {
    pub(super) fn bytes(&self) -> &[u8; PAGE_LEN] {
        &self.bytes
    }

    /// The sector of a file, given that this is the page it lies in.
    pub(super) fn sector(&self, sector: u64) -> &[u8] {
        &self.bytes[sector_range(sector)]
    }

    fn bytes_mut(&mut self) -> &mut [u8; PAGE_LEN] {
        *self.hash.get_mut() = 0;
        &mut self.bytes
    }

    fn hash(&self) -> u64 {
        let known = self.hash.load(Ordering::Relaxed);
        if known != 0 {
            return known;
        }
        let hash = hash_bytes(&self.bytes).max(1);
        self.hash.store(hash, Ordering::Relaxed);
        hash
    }
}

impl Clone for Page {
    fn clone(&self) -> Page {
        Page { bytes: self.bytes, hash: AtomicU64::new(0) }
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Page({:016x})", self.hash())
    }
}

/// Sparse bytes and a length. Bytes behind the length may linger until the file grows again;
/// see [`super::file::FileState`].
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pages: Vec<Option<Arc<Page>>>,
    pub(super) len: u64,
}

impl Content {
    pub(super) fn page(&self, number: u64) -> Option<&Arc<Page>> {
        self.pages.get(index(number))?.as_ref()
    }

    /// For writing; a hole becomes a page of zeros.
    pub(super) fn page_mut(&mut self, number: u64) -> &mut [u8; PAGE_LEN] {
        let slot = self.slot(number);
        Arc::make_mut(slot.get_or_insert_with(|| Arc::clone(&ZERO_PAGE))).bytes_mut()
    }

    pub(super) fn set_page(&mut self, number: u64, page: Option<Arc<Page>>) {
        *self.slot(number) = page;
    }

    /// Gives a hole its page.
    pub(super) fn reserve(&mut self, number: u64) {
        self.slot(number).get_or_insert_with(|| Arc::clone(&ZERO_PAGE));
    }

    pub(super) fn sector(&self, sector: u64) -> &[u8] {
        match self.page(sector / SECTORS_PER_PAGE) {
            Some(page) => page.sector(sector),
            None => &ZEROS[..SECTOR_LEN],
        }
    }

    /// Writes a sector; one of zeros takes up space like any other.
    pub(super) fn set_sector(&mut self, sector: u64, bytes: &[u8]) {
        self.reserve(sector / SECTORS_PER_PAGE);
        if self.sector(sector) != bytes {
            self.page_mut(sector / SECTORS_PER_PAGE)[sector_range(sector)].copy_from_slice(bytes);
        }
    }

    /// Copies what lies before the end of the file; returns how much that is.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let n = index(self.len.saturating_sub(offset).min(buf.len() as u64));
        for part in parts(offset, n) {
            let target = &mut buf[part.source];
            match self.page(part.page) {
                Some(page) => target.copy_from_slice(&page.bytes()[part.within]),
                None => target.fill(0),
            }
        }
        n
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; index(self.len)];
        self.read(&mut bytes, 0);
        bytes
    }

    /// How many pages there are to look at; the rest of the file is a hole.
    pub(super) fn page_count(&self) -> u64 {
        self.pages.len() as u64
    }

    /// Pages before the end of the file that take up space.
    pub(super) fn allocated(&self) -> u64 {
        self.pages.iter().take(index(self.len.div_ceil(PAGE_LEN as u64))).flatten().count() as u64
    }

    /// Wipes what lingers behind the end.
    pub(super) fn clean_tail(&mut self) {
        self.pages.truncate(index(self.len.div_ceil(PAGE_LEN as u64)));
        let keep = index(self.len % PAGE_LEN as u64);
        let last = self.len / PAGE_LEN as u64;
        let dirty = |page: &Arc<Page>| page.bytes()[keep..].iter().any(|&b| b != 0);
        if keep > 0 && self.page(last).is_some_and(dirty) {
            self.page_mut(last)[keep..].fill(0);
        }
    }

    /// A hash of the length and the bytes before it.
    pub(super) fn hash(&self) -> u64 {
        let mut hash = mix(self.len);
        let whole = self.len / PAGE_LEN as u64;
        for (number, page) in (0_u64..).zip(&self.pages) {
            let Some(page) = page.as_ref().filter(|p| number <= whole && p.bytes != ZEROS) else {
                continue;
            };
            let page_hash = if number < whole {
                page.hash()
            } else {
                hash_bytes(&page.bytes()[..index(self.len % PAGE_LEN as u64)])
            };
            hash = mix(hash ^ mix(number ^ page_hash));
        }
        hash
    }

    fn slot(&mut self, number: u64) -> &mut Option<Arc<Page>> {
        let number = index(number);
        if self.pages.len() <= number {
            self.pages.resize(number + 1, None);
        }
        &mut self.pages[number]
    }
}

/// The share of a byte range that falls into one page.
pub(super) struct Part {
    pub(super) page: u64,
    /// Where in the page.
    pub(super) within: Range<usize>,
    /// Where in the caller's bytes.
    pub(super) source: Range<usize>,
}

pub(super) fn parts(offset: u64, len: usize) -> impl Iterator<Item = Part> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let start = index(at % PAGE_LEN as u64);
        let n = (PAGE_LEN - start).min(len - done);
        done += n;
        Some(Part { page: at / PAGE_LEN as u64, within: start..start + n, source: done - n..done })
    })
}

/// The numbers of the sectors that a byte range touches.
pub(super) fn sectors(range: Range<u64>) -> Range<u64> {
    let len = SECTOR_LEN as u64;
    if range.is_empty() { 0..0 } else { range.start / len..range.end.div_ceil(len) }
}

/// The place of a sector inside its page.
pub(super) fn sector_range(sector: u64) -> Range<usize> {
    let start = index(sector % SECTORS_PER_PAGE) * SECTOR_LEN;
    start..start + SECTOR_LEN
}

pub(super) fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hash = bytes.len() as u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    mix(hash)
}

/// Sizes here are bounded by [`super::file::MAX_LEN`].
pub(super) fn index(number: u64) -> usize {
    usize::try_from(number).expect("a simulated file fits into memory")
}
