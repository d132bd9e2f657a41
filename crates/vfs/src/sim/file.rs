//! One file: what is durable, what is visible, and what lies between.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::content::{
    Content, PAGE_LEN, Page, SECTOR_LEN, SECTORS_PER_PAGE, index, parts, sector_range, sectors,
};
use crate::rng::mix;

/// Offsets above this are refused, so that a wild number costs an error and not the memory.
pub(super) const MAX_LEN: u64 = 1 << 34;

/// A sector written since it was last durable.
#[derive(Clone, Debug)]
pub(super) struct Unsynced {
    /// Its page after each write, oldest first; the last one is what is visible.
    pub(super) versions: Vec<Arc<Page>>,
    /// When it was last written, among all changes of the file system.
    pub(super) seq: u64,
    /// A sync of it failed. The system has dropped it from its list of work: a later sync
    /// succeeds and does nothing for it, until it is written again.
    forgotten: bool,
}

/// A sector that is not in `sectors` has the same bytes in `durable` and in `visible`, also
/// behind the end of the file. Bytes that a shorter length hides are wiped when the file grows
/// over them again, so that a truncation that gets lost loses no bytes with it.
#[derive(Clone, Debug, Default)]
pub(super) struct FileState {
    pub(super) durable: Content,
    pub(super) visible: Content,
    pub(super) sectors: BTreeMap<u64, Unsynced>,
    /// The lengths since the durable one, oldest first; the last one is what is visible.
    pub(super) lengths: Vec<u64>,
    pub(super) lengths_seq: u64,
    lengths_forgotten: bool,
    /// Sectors whose reading fails until they are written again.
    pub(super) unreadable: BTreeSet<u64>,
}

impl FileState {
    pub(super) fn write(&mut self, seq: u64, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        // Hidden bytes of a sector that is written go with it: old and new never share one.
        let tail = end.next_multiple_of(SECTOR_LEN as u64);
        if tail > self.visible.len {
            self.wipe(seq, self.visible.len..tail);
        }
        for part in parts(offset, bytes.len()) {
            self.put(seq, part.page, part.within, Some(&bytes[part.source]));
        }
        for sector in sectors(offset..end) {
            self.unreadable.remove(&sector);
        }
        if end > self.visible.len {
            self.change_len(seq, end);
        }
    }

    pub(super) fn set_len(&mut self, seq: u64, len: u64) {
        if len > self.visible.len {
            self.wipe(seq, self.visible.len..len);
        }
        if len != self.visible.len {
            self.change_len(seq, len);
        }
    }

    pub(super) fn allocate(&mut self, seq: u64, len: u64) {
        if len > self.visible.len {
            self.set_len(seq, len);
        }
        for page in 0..len.div_ceil(PAGE_LEN as u64) {
            self.visible.reserve(page);
        }
    }

    /// How many more pages a write to this range, or a reservation of it, takes up.
    pub(super) fn pages_missing(&self, range: Range<u64>) -> u64 {
        let end = self.visible.len.div_ceil(PAGE_LEN as u64);
        let pages = range.start / PAGE_LEN as u64..range.end.div_ceil(PAGE_LEN as u64);
        pages.filter(|&page| page >= end || self.visible.page(page).is_none()).count() as u64
    }

    /// `fdatasync`: everything that the system still knows to be unsynced becomes durable.
    pub(super) fn sync(&mut self) {
        self.settle_sectors(0..u64::MAX);
        self.settle_space(0..self.visible.page_count());
        if !self.lengths_forgotten {
            self.lengths.clear();
            self.durable.len = self.visible.len;
            self.drop_hidden();
        }
    }

    /// The sync after each write to a durable handle: these bytes, and as much of the length as
    /// is needed to read them.
    pub(super) fn sync_range(&mut self, range: Range<u64>) {
        self.settle_sectors(sectors(range.clone()));
        let page = PAGE_LEN as u64;
        self.settle_space(range.start / page..range.end.div_ceil(page));
        let growing = self.lengths.is_sorted() && self.lengths.first() >= Some(&self.durable.len);
        if !self.lengths.is_empty() && !growing {
            // The bytes make sense only after the truncation, so it becomes durable with them.
            self.lengths.clear();
            self.durable.len = self.visible.len;
            self.drop_hidden();
        }
        if range.end > self.durable.len
            && let Some(&len) = self.lengths.iter().find(|&&len| len >= range.end)
        {
            self.durable.len = len;
        }
        self.lengths.retain(|&len| len >= range.end);
        if self.lengths.first() == Some(&self.durable.len) {
            self.lengths.remove(0);
        }
    }

    /// A sync failed: nothing became durable, and the system will not try these again.
    pub(super) fn forget(&mut self) {
        self.sectors.values_mut().for_each(|unsynced| unsynced.forgotten = true);
        self.lengths_forgotten = !self.lengths.is_empty();
    }

    /// Makes everything durable, also what a failed sync had given up.
    pub(super) fn sync_all(&mut self) {
        self.sectors.values_mut().for_each(|unsynced| unsynced.forgotten = false);
        self.lengths_forgotten = false;
        self.sync();
    }

    /// Damages what is on the disk and what is in the cache alike.
    pub(super) fn corrupt(&mut self, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.visible.to_vec();
        edit(&mut bytes);
        let len = bytes.len() as u64;
        if len != self.visible.len {
            self.lengths.clear();
            self.lengths_forgotten = false;
            self.visible.len = len;
            self.durable.len = len;
        }
        bytes.resize(bytes.len().next_multiple_of(SECTOR_LEN), 0);
        for (sector, bytes) in (0..).zip(bytes.chunks(SECTOR_LEN)) {
            if self.visible.sector(sector) != bytes {
                self.sectors.remove(&sector);
                self.visible.set_sector(sector, bytes);
                self.durable.set_sector(sector, bytes);
            }
        }
        self.drop_hidden();
    }

    /// Takes what is durable for the whole truth, as after a power cut.
    pub(super) fn settle(&mut self) {
        self.durable.clean_tail();
        self.visible = self.durable.clone();
        self.sectors.clear();
        self.lengths.clear();
        self.lengths_forgotten = false;
    }

    pub(super) fn hash(&self) -> u64 {
        let mut hash = mix(self.visible.hash() ^ self.durable.hash().rotate_left(1));
        for (&sector, unsynced) in &self.sectors {
            hash = mix(hash ^ sector ^ (u64::from(unsynced.forgotten) << 63));
            for version in &unsynced.versions {
                hash = mix(hash ^ super::content::hash_bytes(version.sector(sector)));
            }
        }
        for &len in self.lengths.iter().chain(&self.unreadable) {
            hash = mix(hash ^ len);
        }
        mix(hash ^ u64::from(self.lengths_forgotten))
    }

    fn change_len(&mut self, seq: u64, len: u64) {
        self.visible.len = len;
        self.lengths.push(len);
        self.lengths_seq = seq;
        self.lengths_forgotten = false;
    }

    /// Zeros where the file grows over bytes that an earlier truncation hid.
    fn wipe(&mut self, seq: u64, range: Range<u64>) {
        let end = range.end.min(self.visible.page_count() * PAGE_LEN as u64);
        for part in parts(range.start, index(end.saturating_sub(range.start))) {
            if self.visible.page(part.page).is_some() {
                self.put(seq, part.page, part.within, None);
            }
        }
    }

    /// Writes into one page (`None`: zeros) and remembers the sectors that it changed.
    fn put(&mut self, seq: u64, page: u64, within: Range<usize>, bytes: Option<&[u8]>) {
        let old = self.visible.page(page).cloned();
        let target = &mut self.visible.page_mut(page)[within.clone()];
        match bytes {
            Some(bytes) => target.copy_from_slice(bytes),
            None => target.fill(0),
        }
        let Some(new) = self.visible.page(page) else { return };
        let start = page * PAGE_LEN as u64;
        for sector in sectors(start + within.start as u64..start + within.end as u64) {
            let same = match &old {
                Some(old) => old.sector(sector) == new.sector(sector),
                None => new.sector(sector).iter().all(|&b| b == 0),
            };
            if !same {
                let fresh = || Unsynced { versions: Vec::new(), seq, forgotten: false };
                let unsynced = self.sectors.entry(sector).or_insert_with(fresh);
                unsynced.versions.push(Arc::clone(new));
                unsynced.seq = seq;
            }
            if let Some(unsynced) = self.sectors.get_mut(&sector) {
                unsynced.forgotten = false;
            }
        }
    }

    fn settle_sectors(&mut self, range: Range<u64>) {
        let known =
            |(&sector, unsynced): (&u64, &Unsynced)| (!unsynced.forgotten).then_some(sector);
        let settled: Vec<u64> = self.sectors.range(range).filter_map(known).collect();
        for sector in &settled {
            self.sectors.remove(sector);
        }
        let mut shared = None;
        for sector in settled {
            let page = sector / SECTORS_PER_PAGE;
            if shared == Some(page) {
                continue;
            }
            let first = page * SECTORS_PER_PAGE;
            if self.sectors.range(first..first + SECTORS_PER_PAGE).next().is_none() {
                // Nothing else of this page is undecided: both views may share it.
                self.durable.set_page(page, self.visible.page(page).cloned());
                shared = Some(page);
            } else if let Some(visible) = self.visible.page(page) {
                let bytes = &visible.bytes()[sector_range(sector)];
                self.durable.set_sector(sector, bytes);
            }
        }
    }

    /// Zeros that were written where nothing was change no byte, but their space is taken for good.
    fn settle_space(&mut self, pages: Range<u64>) {
        for page in pages.start..pages.end.min(self.visible.page_count()) {
            if self.visible.page(page).is_some() {
                self.durable.reserve(page);
            }
        }
    }

    /// A durable truncation: what it hid is gone for good.
    fn drop_hidden(&mut self) {
        let end = self.visible.len.div_ceil(SECTOR_LEN as u64);
        self.sectors.split_off(&end);
        self.unreadable.split_off(&end);
        self.visible.clean_tail();
        self.durable.clean_tail();
    }
}
