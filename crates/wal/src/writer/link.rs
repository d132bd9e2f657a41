//! The linking operation: a next file with its first batch, then the link that names it.

use std::path::PathBuf;

use bytes::Bytes;
use refloat_planted::{Defect, is};
use refloat_types::{Generation, GroupKey, Now};
use refloat_vfs::AlignedBuf;

use super::jobs::{Current, LinkFiles, LinkTarget, Work};
use super::pool::First;
use super::queue::Step;
use super::{InFlight, OpenFile, Writer};
use crate::carry::Carry;
use crate::encode::{OpenBatch, Place};
use crate::format::batch::CHECKPOINT;
use crate::format::directory;
use crate::format::file_header::{FileHeader, Previous};
use crate::format::link::Link;
use crate::format::sector::Salt;
use crate::format::{BLOCK, FIRST_BATCH_BLOCK, offset_of};
use crate::names::Name;
use crate::{Lsn, Record, RecordRef};

#[derive(Debug)]
pub(super) struct Linking {
    generation: Generation,
    blocks: u32,
    first: First,
    copy: Vec<u8>,
    next_block: u32,
    previous: Previous,
    /// The file whose place it takes.
    replaced: Option<Generation>,
    /// Whether a link proves the first batch.
    is_proven: bool,
}

impl Writer {
    pub(super) fn begin_file(
        &mut self,
        generation: Generation,
        checkpoint: &[(GroupKey, Bytes)],
        again: &[Record],
        replaces: bool,
    ) {
        let parts = self.spare_parts();
        let mut first = OpenBatch::new(Lsn::new(generation, 1), CHECKPOINT, parts);
        for (group, body) in checkpoint {
            first.push_checkpoint(RecordRef::State { group: *group, body });
        }
        for record in again.iter().filter(|_| !is(Defect::UnprovenTrusted)) {
            let measured = directory::measure(record.as_ref());
            assert!(measured.is_ok(), "a record to be written again is malformed: {record:?}");
            first.push(record.as_ref());
        }
        self.stats.records += checkpoint.len() as u64 + again.len() as u64;
        self.carry = Carry::begun_with(offset_of(self.options.file_blocks()), again);
        self.queue.begin_file(first, self.options.file_blocks(), replaces);
    }

    /// Steps (a) and (b): the new file with its first batch, then the links that name it.
    pub(super) fn link(&mut self, from: PathBuf, blocks: u32) -> Option<Work> {
        let Some(Step::File(batch, replaces)) = self.queue.pop() else { return None };
        let generation = batch.lsn.generation;
        self.queue.file_is(generation, blocks);
        let identity = self.options.identity;
        let salt = Salt::new(&identity, generation.0);
        let (previous, replaced) = self.end_of_last_file(replaces);
        let place = Place { salt, start: FIRST_BATCH_BLOCK, file_blocks: blocks, previous };
        let (closed, mut spare) = batch.close(&place, &[]);
        let mut copy = Vec::new();
        spare.swap_frames(&mut copy);
        self.keep_parts(spare);
        let next_block = FIRST_BATCH_BLOCK + closed.blocks as u32;

        let mut buf = AlignedBuf::default();
        buf.resize(next_block as usize);
        let header = FileHeader { identity, file: generation, blocks, previous };
        header.write(&salt, &mut buf);
        let batch = &closed.buf[closed.first * BLOCK..(closed.first + closed.blocks) * BLOCK];
        buf[FIRST_BATCH_BLOCK as usize * BLOCK..].copy_from_slice(batch);
        self.keep_buffer(closed.buf);

        let first = First { generation, digest: closed.digest, blocks: next_block };
        let mut links = self.links_to(generation);
        if is(Defect::LinkSkipped) {
            links.clear();
        }
        self.stats.bytes += ((next_block as usize + links.len()) * BLOCK) as u64;
        let is_proven = !links.is_empty();
        let linking =
            Linking { generation, blocks, first, copy, next_block, previous, replaced, is_proven };
        self.in_flight = Some(InFlight::Link(linking));
        Some(Work::Link(Box::new(LinkFiles {
            dir: self.options.dir.clone(),
            from,
            to: Name::Log(generation).path(&self.options.dir),
            never_used: std::mem::take(&mut self.never_used),
            sync_parent: self.file.is_none(),
            direct: self.options.direct,
            blocks: buf.blocks(),
            buf,
            links,
        })))
    }

    /// What the next file names as its previous, and which file's place it takes: it follows the
    /// one before the last then.
    fn end_of_last_file(&self, replaces: bool) -> (Previous, Option<Generation>) {
        let Some(file) = &self.file else {
            return (self.previous, self.replaced_by_boot.filter(|_| replaces));
        };
        match replaces && self.pool.is_in_use(file.previous.file) {
            true => (file.previous, Some(file.generation)),
            false => (file.named, None),
        }
    }

    fn links_to(&mut self, next: Generation) -> Vec<(LinkTarget, AlignedBuf)> {
        let identity = self.options.identity;
        let block = |salt: &Salt, link: Link| {
            let mut block = AlignedBuf::default();
            block.resize(1);
            link.write(salt, &mut block);
            block
        };
        if let Some(file) = &self.file {
            let end = file.named;
            let link = Link { end: end.end, last: end.last, digest: end.digest, next: next.0 };
            return vec![(LinkTarget::Open(file.current.clone()), block(&file.salt, link))];
        }
        let old = std::mem::take(&mut self.old_links);
        old.into_iter()
            .map(|(generation, path, link)| {
                (LinkTarget::At(path), block(&Salt::new(&identity, generation.0), link))
            })
            .collect()
    }

    pub(super) fn linked(&mut self, now: Now, current: Current) {
        let Some(InFlight::Link(linking)) = self.in_flight.take() else { return };
        if self.poisoned.is_some() {
            return;
        }
        let Linking { generation, blocks, first, copy, next_block, previous, replaced, is_proven } =
            linking;
        if let Some(replaced) = replaced {
            self.pool.replace(replaced);
        }
        self.pool.linked(first, &current.path, blocks);
        let mut file = OpenFile {
            generation,
            salt: Salt::new(&self.options.identity, generation.0),
            current,
            blocks,
            next_block,
            last: 1,
            digest: first.digest,
            copy,
            is_sealed: false,
            previous,
            named: Previous::default(),
        };
        file.named = file.end();
        self.file = Some(file);
        self.durable = Lsn::new(generation, 1);
        self.promised = self.durable;
        self.ready = true;
        // The link proves both the old file's end and this one's first batch.
        self.unsealed_since = (!is_proven).then_some(now);
        self.stats.batches += 1;
        self.stats.syncs += 3;
        self.stats.files += 1;
    }
}
