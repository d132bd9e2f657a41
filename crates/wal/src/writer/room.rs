//! Whether records are taken: the room in the files, and what is kept for what matters most.

use refloat_types::{Entry, GroupKey};

use super::{Writer, malformed};
use crate::encode::Extent;
use crate::format::CONTENT;
use crate::{RecordRef, SubmitError};

impl Writer {
    /// Whether to submit these without rolling over first: `false` only where rolling over
    /// would make room and a next file can be had. It keeps room for a seal.
    #[must_use]
    pub fn fits(&self, records: &[RecordRef<'_>]) -> bool {
        let need = self.queue.need(records);
        let (Ok((_, None)), Ok((end, seal))) = (need, self.queue.end_with(records)) else {
            return true;
        };
        let plan = &self.queue.plan;
        end.saturating_add(seal) <= plan.blocks
            || !self.has_next(records.iter().any(is_bulky))
            || plan.is_fresh() && end <= plan.blocks
    }

    pub(super) fn check_room(&self, records: &[RecordRef<'_>]) -> Result<(), SubmitError> {
        let (size, limit) = self.queue.need(records).map_err(malformed)?;
        if let Some(limit) = limit {
            return Err(SubmitError::TooLarge { size, limit });
        }
        let bulky = records.iter().any(is_bulky);
        // The next starts must find files: so little is taken that they may replace this one.
        if bulky && self.is_scarce() && !self.carry.stays_light(records) {
            return Err(self.no_next(size, 0));
        }
        let room = self.room(bulky);
        if self.queue.end_with(records).map_err(malformed)?.0 <= room {
            return Ok(());
        }
        let left = content_of(room.saturating_sub(self.queue.end()));
        Err(match self.has_next(bulky) {
            true => SubmitError::Full { size, left },
            false => self.no_next(size, left),
        })
    }

    /// Where records must end: without a next file the rest of this one is kept for votes and the
    /// like. A file that is begun for such records takes them whole, unless the disk is known to be
    /// full: what only a whole file holds would else be refused, and a file begun, for ever.
    fn room(&self, bulky: bool) -> u32 {
        let blocks = self.queue.plan.blocks;
        let is_for_them = self.queue.plan.is_fresh() && !self.pool.is_full_disk();
        match !bulky || is_for_them || self.has_next(bulky) {
            true => blocks,
            false => blocks.saturating_sub(kept_of(blocks)),
        }
    }

    /// Why no next file may be begun: there is no space, or nobody knows yet.
    fn no_next(&self, size: u64, left: u64) -> SubmitError {
        match self.pool.is_full_disk() {
            true => SubmitError::NoSpace { size, left },
            false => SubmitError::NotYet { size, left },
        }
    }

    /// Whether [`Writer::submit`] would take so many entries with so much payload besides what it
    /// took, each in a record of its own at most, as far as is known now.
    ///
    /// # Errors
    /// [`SubmitError::NoSpace`] on a disk that is known to be full, [`SubmitError::NotYet`] where
    /// the space for a next file is still to be claimed.
    pub fn takes(&self, entries: usize, payload: usize) -> Result<(), SubmitError> {
        if self.has_next(true) {
            return Ok(());
        }
        let extent = Extent::of_entries(entries, payload);
        let room = self.room(true);
        let light = !self.is_scarce() || self.carry.stays_light_with(extent.bytes());
        if light && self.queue.end_with_extent(extent) <= room {
            return Ok(());
        }
        let left = if light { content_of(room.saturating_sub(self.queue.end())) } else { 0 };
        Err(self.no_next(extent.bytes() as u64, left))
    }

    pub(super) fn has_next(&self, bulky: bool) -> bool {
        self.pool.has_next(bulky, self.queue.planned_files())
    }

    /// Whether so few files are left that the newest must stay one that can be replaced.
    pub(super) fn is_scarce(&self) -> bool {
        self.pool.is_scarce(self.queue.planned_files())
    }
}

/// Whether a record is one that a full disk refuses. What group 0 says is small, and may be that a
/// group is deleted, which makes space.
fn is_bulky(record: &RecordRef<'_>) -> bool {
    let RecordRef::Log { group, op } = record else { return false };
    *group != GroupKey::META && op.entries().iter().any(Entry::is_bulky)
}

/// How many of a file's blocks are kept for votes and the like where no next file can be had.
fn kept_of(blocks: u32) -> u32 {
    (blocks / 16).clamp(2, 64)
}

/// Content bytes that so many blocks hold.
pub(super) fn content_of(blocks: u32) -> u64 {
    u64::from(blocks) * CONTENT as u64
}
