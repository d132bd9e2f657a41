//! What is left of batches that do not verify: every frame of a directory that does, from the
//! batch itself or from the copy in the next one, and every entry whose digest holds.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use refloat_types::GroupKey;

use super::parse::{FileReader, Found, read_frame, slice};
use crate::Owners;
use crate::format::directory::{Frame, MAGIC};
use crate::format::sector::Salt;
use crate::format::{CONTENT, blocks_for};

/// Blocks searched for a directory copy behind damage where no header says how long it is.
const SEARCH: u32 = 64;

/// The damaged blocks, and every frame of a directory found in and behind them.
#[derive(Debug)]
pub(crate) struct Wreck {
    salt: Salt,
    first: u32,
    /// Content of the damaged blocks and of the head of the batch behind them.
    content: Bytes,
    /// By batch and position in its directory: where in `content` the frame stands.
    frames: BTreeMap<u32, BTreeMap<u32, usize>>,
}

/// What was salvaged of one batch.
#[derive(Debug)]
pub(crate) struct Salvage {
    pub(crate) records: Vec<Found>,
    pub(crate) owners: Owners,
}

impl Wreck {
    /// Searches blocks `first..end` for what is left of the batches in `lost`. A copy of the
    /// last one's directory stands in the batch that starts at `end`, if there is one.
    pub(crate) fn search(
        reader: &mut FileReader<'_>,
        first: u32,
        end: u32,
        copies_behind: bool,
    ) -> Wreck {
        let behind = match reader.header_at(end) {
            _ if !copies_behind => 0,
            Some((head, _)) => blocks_for(head.copy_at as usize + head.copy_len as usize) as u32,
            None => SEARCH,
        };
        let salt = reader.salt();
        let content = reader.content(first, end.saturating_add(behind));
        let mut wreck = Wreck { salt, first, content, frames: BTreeMap::new() };
        wreck.find_frames();
        wreck
    }

    fn find_frames(&mut self) {
        let magic = MAGIC.to_le_bytes();
        let mut at = 0;
        while let Some(bytes) = self.content.get(at..) {
            let Some(skip) = find(bytes, &magic) else { break };
            at += skip;
            match self.content.get(at..).and_then(|bytes| Frame::read(&self.salt, bytes)) {
                Some(frame) => {
                    let of_batch = self.frames.entry(frame.head.batch).or_default();
                    of_batch.entry(frame.head.index).or_insert(at);
                    at += frame.len();
                }
                None => at += 1,
            }
        }
    }

    /// Where a batch starts, if a frame of its directory says so.
    pub(crate) fn start_of(&self, batch: u32) -> Option<u32> {
        let at = *self.frames.get(&batch)?.values().next()?;
        Frame::read(&self.salt, self.content.get(at..)?).map(|frame| frame.head.start)
    }

    /// Puts together what is left of one batch.
    pub(crate) fn salvage(&self, batch: u32) -> Salvage {
        let mut salvage = Salvage { records: Vec::new(), owners: Owners::Unknown };
        let Some(found) = self.frames.get(&batch) else { return salvage };
        let (mut whole, mut count) = (true, 0);
        for at in found.values() {
            let bytes = self.content.get(*at..).unwrap_or_default();
            let Some(frame) = Frame::read(&self.salt, bytes) else { continue };
            let head = frame.head;
            let origin = u64::from(head.start.saturating_sub(self.first)) * CONTENT as u64;
            let mut fetch =
                |at: u64, len: usize| slice(&self.content, origin.checked_add(at)?, len);
            whole &= head.start >= self.first
                && read_frame(&frame, &mut fetch, &mut salvage.records).is_some();
            count = head.count;
        }
        if whole && found.len() as u64 == u64::from(count) {
            salvage.owners = Owners::Known(owners(&salvage.records));
        }
        salvage
    }
}

fn owners(records: &[Found]) -> Vec<GroupKey> {
    let hurt = records.iter().filter(|found| !found.missing.is_empty());
    hurt.map(|found| found.record.group()).collect::<BTreeSet<_>>().into_iter().collect()
}

fn find(bytes: &[u8], wanted: &[u8; 4]) -> Option<usize> {
    bytes.windows(4).position(|window| window == wanted)
}
