//! What waits to be written, and where it will stand.

use std::collections::VecDeque;

use refloat_types::{Generation, GroupKey, Index};

use super::BATCH_FULL;
use super::room::content_of;
use crate::encode::{Extent, OpenBatch};
use crate::format::{BLOCK, FIRST_BATCH_BLOCK, directory};
use crate::{Lsn, RecordRef};

/// How much longer than its first batch a file is made at least: a checkpoint must leave room
/// for what it is a checkpoint of.
const FILE_PER_FIRST_BATCH: u32 = 4;
/// Blocks behind the first batch with which a file on a full disk must do.
const LEAST_ROOM: u32 = 4;

#[derive(Debug)]
pub(crate) enum Step {
    Batch(OpenBatch),
    /// A new file, with its first batch; whether it takes the place of the file before it.
    File(OpenBatch, bool),
}

/// The file that submits go to, as it will be once all that waits is written.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) generation: Generation,
    pub(crate) blocks: u32,
    /// Behind the last batch that takes no more records.
    next_block: u32,
    next_batch: u32,
    /// Bytes of that batch's directory.
    copy: usize,
    first_batch: u32,
}

impl Plan {
    pub(crate) fn new(generation: Generation, blocks: u32) -> Plan {
        Plan {
            generation,
            blocks,
            next_block: FIRST_BATCH_BLOCK,
            next_batch: 1,
            copy: 0,
            first_batch: 0,
        }
    }

    /// Whether nothing but the first batch is in it.
    pub(crate) fn is_fresh(&self) -> bool {
        self.next_batch <= 2
    }
}

#[derive(Debug)]
pub(crate) struct Queue {
    steps: VecDeque<Step>,
    pub(crate) plan: Plan,
}

impl Queue {
    pub(crate) fn new(plan: Plan) -> Queue {
        Queue { steps: VecDeque::new(), plan }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Files that wait to be begun.
    pub(crate) fn planned_files(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::File(..))).count()
    }

    pub(crate) fn front(&self) -> Option<&Step> {
        self.steps.front()
    }

    /// Takes the first step out; a batch takes no more records then.
    pub(crate) fn pop(&mut self) -> Option<Step> {
        if self.steps.len() == 1 {
            self.freeze();
        }
        self.steps.pop_front()
    }

    /// Adds a batch of the planned file, which takes records until the next one is added.
    pub(crate) fn push(&mut self, batch: OpenBatch) {
        self.freeze();
        self.steps.push_back(Step::Batch(batch));
    }

    /// Plans a new file.
    pub(crate) fn begin_file(&mut self, first: OpenBatch, usual_blocks: u32, replaces: bool) {
        self.freeze();
        let first_batch = u32::try_from(first.first_blocks()).unwrap_or(u32::MAX);
        let needed = needed(first_batch, replaces);
        self.plan = Plan {
            generation: first.lsn.generation,
            blocks: usual_blocks.max(needed),
            next_block: FIRST_BATCH_BLOCK + first_batch,
            next_batch: 2,
            copy: first.frames_len(),
            first_batch,
        };
        self.steps.push_back(Step::File(first, replaces));
    }

    /// The file that was planned turned out longer.
    pub(crate) fn file_is(&mut self, generation: Generation, blocks: u32) {
        if self.plan.generation == generation {
            self.plan.blocks = blocks;
        }
    }

    pub(crate) fn blocks_of_file(&self, first: &OpenBatch, replaces: bool) -> u32 {
        let needed = needed(first.first_blocks() as u32, replaces);
        if first.lsn.generation == self.plan.generation {
            return self.plan.blocks.max(needed);
        }
        needed
    }

    /// The least that a file must be for a first batch behind which nothing waits yet.
    pub(crate) fn least_blocks(&self, first: &OpenBatch) -> u32 {
        match self.steps.len() {
            1 => FIRST_BATCH_BLOCK + first.first_blocks() as u32 + LEAST_ROOM,
            _ => u32::MAX,
        }
    }

    /// Ends the open batch: what it takes is known now.
    fn freeze(&mut self) {
        if let Some(Step::Batch(batch)) = self.steps.back() {
            self.plan.next_block += batch.extent().blocks(self.plan.copy) as u32;
            self.plan.copy = batch.frames_len();
            self.plan.next_batch += 1;
        }
    }

    pub(crate) fn open_batch(&mut self) -> Option<&mut OpenBatch> {
        match self.steps.back_mut() {
            Some(Step::Batch(batch)) => Some(batch),
            _ => None,
        }
    }

    fn open(&self) -> Option<&OpenBatch> {
        match self.steps.back() {
            Some(Step::Batch(batch)) => Some(batch),
            _ => None,
        }
    }

    /// Whether some more records begin another batch. `Err` names the one that is out of place.
    pub(crate) fn needs_new_batch(&self, records: &[RecordRef<'_>]) -> Result<bool, Misplaced> {
        // What a start writes again must be little of a file.
        let full = BATCH_FULL.min(self.plan.blocks as usize * BLOCK / 4);
        let Some(open) = self.open().filter(|batch| batch.flags == 0) else { return Ok(true) };
        let is_empty = open.extent() == Extent::empty();
        Ok(!is_empty && extent_with(open.extent(), records)?.bytes() > full)
    }

    /// Where the next new batch would stand.
    pub(crate) fn next_lsn(&self) -> Lsn {
        let open = u32::from(self.open().is_some());
        Lsn::new(self.plan.generation, self.plan.next_batch + open)
    }

    /// The block behind everything that waits.
    pub(crate) fn end(&self) -> u32 {
        let open = self.open().map_or(0, |batch| batch.extent().blocks(self.plan.copy));
        self.plan.next_block.saturating_add(open as u32)
    }

    /// The block behind everything with some more records, and the blocks that a seal behind
    /// them would take. `Err` names the record that is out of place.
    pub(crate) fn end_with(&self, records: &[RecordRef<'_>]) -> Result<(u32, u32), Misplaced> {
        let is_new = self.needs_new_batch(records)?;
        let (before, copy, base) = match self.open().filter(|_| !is_new) {
            Some(open) => (self.plan.next_block, self.plan.copy, open.extent()),
            None => (self.end(), self.copy_behind(), Extent::empty()),
        };
        let extent = extent_with(base, records)?;
        let end = before.saturating_add(u32::try_from(extent.blocks(copy)).unwrap_or(u32::MAX));
        Ok((end, Extent::empty().blocks(extent.directory) as u32))
    }

    /// The block behind everything with one more batch.
    pub(crate) fn end_with_extent(&self, extent: Extent) -> u32 {
        self.end().saturating_add(extent.blocks(self.copy_behind()) as u32)
    }

    fn copy_behind(&self) -> usize {
        self.open().map_or(self.plan.copy, OpenBatch::frames_len)
    }

    /// Bytes needed, and bytes that a file takes if no file would take the records.
    pub(crate) fn need(&self, records: &[RecordRef<'_>]) -> Result<(u64, Option<u64>), Misplaced> {
        let extent = extent_with(Extent::empty(), records)?;
        let room = self.plan.blocks.saturating_sub(FIRST_BATCH_BLOCK + self.plan.first_batch);
        let limit = content_of(room);
        let size = extent.bytes() as u64;
        let too_large = size > limit || extent.blocks(0) as u64 > u64::from(room);
        Ok((size, too_large.then_some(limit)))
    }

    pub(crate) fn bytes(&self) -> usize {
        let bytes = |step: &Step| match step {
            Step::Batch(batch) | Step::File(batch, _) => batch.extent().bytes(),
        };
        self.steps.iter().map(bytes).sum()
    }
}

/// How long a file must be for its first batch. One that takes the place of another is begun where
/// files are scarce, and must do with those that there are.
fn needed(first_batch: u32, replaces: bool) -> u32 {
    match replaces {
        true => first_batch.saturating_add(FIRST_BATCH_BLOCK + LEAST_ROOM),
        false => first_batch.saturating_mul(FILE_PER_FIRST_BATCH),
    }
}

/// Whose record is out of place, and which index.
pub(crate) type Misplaced = (GroupKey, Index);

fn extent_with(base: Extent, records: &[RecordRef<'_>]) -> Result<Extent, Misplaced> {
    records.iter().try_fold(base, |extent, record| Ok(extent.with(directory::measure(*record)?)))
}
