//! The writing side, steppable.

mod jobs;
mod pool;
mod queue;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use refloat_planted::{Defect, is};
use refloat_types::{Entry, Generation, GroupKey, Now};
use refloat_vfs::AlignedBuf;

use self::jobs::{Current, Failed, LinkFiles, LinkTarget, Outcome, Work, Write};
pub use self::jobs::{Done, Job};
use self::pool::{First, Pool};
use self::queue::{Plan, Queue, Step};
use crate::carry::Carry;
use crate::encode::{Closed, Extent, OpenBatch, Place, Spare};
use crate::format::batch::{CHECKPOINT, CLOSED, SEAL};
use crate::format::directory;
use crate::format::file_header::{FileHeader, Previous};
use crate::format::link::Link;
use crate::format::sector::Salt;
use crate::format::{BLOCK, CONTENT, FIRST_BATCH_BLOCK, offset_of};
use crate::names::Name;
use crate::{Lsn, Options, Poisoned, Record, RecordRef, Scan, SubmitError};

/// A batch takes no further records once it holds so many bytes.
const BATCH_FULL: usize = 8 << 20;

/// Writes the log. Takes time as an argument and hands its file work out as [`Job`]s.
///
/// One batch is unsynced at any time; while it is in flight the next one gathers. So no timer
/// delays a write, and the existence of a batch proves the one before it durable.
#[derive(Debug)]
pub struct Writer {
    options: Options,
    queue: Queue,
    pool: Pool,
    /// The file being written; `None` until the first link.
    file: Option<OpenFile>,
    /// Where the file before ended, until it is linked.
    previous: Previous,
    /// The log records of the file that submits go to.
    carry: Carry,
    /// The file whose place the first one of this run takes.
    replaced_by_boot: Option<Generation>,
    /// Names that the first linking operation removes.
    never_used: Vec<PathBuf>,
    /// Links of older files that the first linking operation writes.
    old_links: Vec<(Generation, PathBuf, Link)>,
    in_flight: Option<InFlight>,
    durable: Lsn,
    /// The last durable batch that is not a seal.
    promised: Lsn,
    ready: bool,
    /// Since when something stands in the file that no seal proves.
    unsealed_since: Option<Now>,
    seal_bodies: Vec<(GroupKey, Bytes)>,
    closing: Closing,
    poisoned: Option<Poisoned>,
    buffers: Vec<AlignedBuf>,
    spare: Vec<Spare>,
    stats: Stats,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    Wanted,
    Done,
}

#[derive(Debug)]
struct OpenFile {
    generation: Generation,
    salt: Salt,
    current: Current,
    blocks: u32,
    /// Where the next batch starts.
    next_block: u32,
    last: u32,
    digest: u32,
    /// The directory of the last batch, for the next to repeat.
    copy: Vec<u8>,
    is_sealed: bool,
    /// What its header says of the file before it.
    previous: Previous,
    /// What the link will say of the end. A seal without records behind it is not counted: hurt,
    /// it would look like a batch that somebody waits for.
    named: Previous,
}

#[derive(Debug)]
enum InFlight {
    Batch { lsn: Lsn, is_last_word: bool },
    Link(Linking),
}

#[derive(Debug)]
struct Linking {
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

impl OpenFile {
    fn end(&self) -> Previous {
        Previous {
            file: self.generation.0,
            end: self.next_block,
            last: self.last,
            digest: Some(self.digest),
        }
    }
}

/// Counters since the writer was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Batches made durable, seals and checkpoints included.
    pub batches: u64,
    /// Bytes written by them, whole blocks, with the header and link blocks of roll-overs.
    pub bytes: u64,
    /// Writes that returned durable: batches, and three for each roll-over.
    pub syncs: u64,
    /// Records taken.
    pub records: u64,
    /// Bytes of entry payload taken.
    pub payload_bytes: u64,
    /// Seals among the batches.
    pub seals: u64,
    /// Files begun.
    pub files: u64,
    /// Files filled with zeros.
    pub prepared: u64,
    /// Files taken back into use after their release.
    pub recycled: u64,
    /// How often there was no room to prepare a file.
    pub no_space: u64,
    /// First batches that the device did not give back as they were written. Files that such a
    /// batch would have replaced are kept.
    pub read_back_failures: u64,
    /// Bytes of records waiting to be written.
    pub queued_bytes: u64,
}

impl Writer {
    /// Goes on after a scan, in a new file, by the linking operation: header and first batch
    /// (`checkpoint`, then `again`), directory sync, then the link block of the file before.
    /// All of it is done by jobs; nothing is durable until [`Writer::is_ready`].
    ///
    /// `again` must hold [`Scan::unproven`]: what it leaves out is gone.
    ///
    /// # Panics
    /// A record of `again` is one that [`Writer::submit`] would refuse as malformed.
    #[must_use]
    pub fn resume(
        mut scan: Scan,
        options: Options,
        checkpoint: Vec<(GroupKey, Bytes)>,
        again: Vec<Record>,
    ) -> Writer {
        let pool = Pool::new(options.clone(), &mut scan.tail);
        let generation = Generation(scan.tail.next);
        let mut light = scan.tail.light.take().filter(|_| pool.is_scarce(0));
        let links = match &mut light {
            Some(light) => std::mem::take(&mut light.links),
            None => std::mem::take(&mut scan.tail.links),
        };
        let mut writer = Writer {
            queue: Queue::new(Plan::new(generation, options.file_blocks())),
            pool,
            file: None,
            previous: light.as_ref().map_or(scan.tail.previous, |light| light.previous),
            carry: Carry::default(),
            replaced_by_boot: light.as_ref().map(|light| light.generation),
            never_used: std::mem::take(&mut scan.tail.never_used),
            old_links: links,
            in_flight: None,
            durable: Lsn::default(),
            promised: Lsn::default(),
            ready: false,
            unsealed_since: None,
            seal_bodies: Vec::new(),
            closing: Closing::No,
            poisoned: None,
            buffers: Vec::new(),
            spare: Vec::new(),
            stats: Stats::default(),
            options,
        };
        let replaces = light.is_some();
        let carried = light.iter().filter_map(|light| light.carry.records()).flatten();
        let first: Vec<Record> = carried.cloned().chain(again).collect();
        writer.begin_file(generation, &checkpoint, &first, replaces);
        writer
    }

    /// The file that the next [`Writer::submit`] goes to.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.queue.plan.generation
    }

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

    /// Later submits go to the next file, whose first batch is this checkpoint: the small state
    /// of every group as of all that was submitted so far.
    pub fn roll(&mut self, checkpoint: Vec<(GroupKey, Bytes)>) -> Generation {
        self.seal_before_roll();
        let generation = self.generation().next();
        // Where files are scarce one that holds little is said again and used anew.
        let carried = self.carry.records().filter(|_| self.is_scarce()).map(<[Record]>::to_vec);
        let replaces = carried.is_some();
        self.begin_file(generation, &checkpoint, &carried.unwrap_or_default(), replaces);
        generation
    }

    /// Takes records into the open batch: all of them, in this order, durable together. Returns
    /// the batch; they are durable once [`Writer::durable`] has reached it.
    ///
    /// # Errors
    /// Nothing was taken; see [`SubmitError`].
    pub fn submit(&mut self, records: &[RecordRef<'_>]) -> Result<Lsn, SubmitError> {
        if let Some(poisoned) = &self.poisoned {
            return Err(SubmitError::Poisoned(poisoned.clone()));
        }
        if self.closing != Closing::No {
            return Err(SubmitError::Closed);
        }
        self.check_room(records)?;
        if self.queue.needs_new_batch(records).map_err(malformed)? {
            let (parts, lsn) = (self.spare_parts(), self.queue.next_lsn());
            self.queue.push(OpenBatch::new(lsn, 0, parts));
        }
        let batch = self.queue.open_batch().expect("a batch was just opened");
        for record in records {
            self.stats.payload_bytes += batch.push(*record) as u64;
            self.carry.push(*record);
        }
        let lsn = batch.lsn;
        if !self.is_scarce() {
            self.carry.keep_only_a_little();
        }
        self.stats.records += records.len() as u64;
        Ok(lsn)
    }

    fn check_room(&self, records: &[RecordRef<'_>]) -> Result<(), SubmitError> {
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

    fn has_next(&self, bulky: bool) -> bool {
        self.pool.has_next(bulky, self.queue.planned_files())
    }

    /// Whether so few files are left that the newest must stay one that can be replaced.
    fn is_scarce(&self) -> bool {
        self.pool.is_scarce(self.queue.planned_files())
    }

    /// The next piece of file work, if any. At most one write of the log and one background job
    /// are out at any time, and a write is offered first. So ask until there is nothing more
    /// before running anything that blocks: else background work waits as long as there is
    /// something to write, and then all wait for the next file to be prepared.
    pub fn poll(&mut self, now: Now) -> Option<Job> {
        if self.poisoned.is_some() {
            return None;
        }
        let work = match self.in_flight {
            Some(_) => None,
            None => self.next_write(now),
        };
        let linked = self.ready && self.file.is_some();
        let work = work.or_else(|| self.pool.poll(now, linked))?;
        Some(Job { work })
    }

    fn next_write(&mut self, now: Now) -> Option<Work> {
        if self.queue.is_empty() {
            self.queue_last_words(now);
        }
        match self.queue.front()? {
            Step::Batch(_) => self.file.as_ref().map(|_| ())?,
            Step::File(first, replaces) => {
                let blocks = self.queue.blocks_of_file(first, *replaces);
                let (from, blocks) = self.pool.take(blocks, self.queue.least_blocks(first))?;
                return self.link(from, blocks);
            }
        }
        let Some(Step::Batch(batch)) = self.queue.pop() else { return None };
        self.write(batch)
    }

    /// Queues `closed`, or a seal if the time for it has come.
    fn queue_last_words(&mut self, now: Now) {
        let due =
            self.unsealed_since.is_some_and(|since| now >= since.after(self.options.seal_after));
        let flags = match self.closing {
            Closing::Wanted => CLOSED,
            _ if due => SEAL,
            _ => return,
        };
        if self.file.is_none() {
            return;
        }
        let mut bodies = std::mem::take(&mut self.seal_bodies);
        if !self.room_for_state(&bodies) {
            // Hints only; the proof matters more.
            bodies.clear();
        }
        if !self.room_for_state(&bodies) {
            self.unsealed_since = None;
            self.closing = if flags == CLOSED { Closing::Done } else { self.closing };
            return;
        }
        let (parts, lsn) = (self.spare_parts(), self.queue.next_lsn());
        let mut batch = OpenBatch::new(lsn, flags, parts);
        push_states(&mut batch, &bodies);
        self.queue.push(batch);
    }

    /// The link proves the last batch of a file, but only a batch behind it repeats its directory.
    fn seal_before_roll(&mut self) {
        let is_sealed =
            self.queue.is_empty() && self.file.as_ref().is_some_and(|file| file.is_sealed);
        if is_sealed || self.closing != Closing::No || !self.room_for_state(&[]) {
            return;
        }
        let (parts, lsn) = (self.spare_parts(), self.queue.next_lsn());
        self.queue.push(OpenBatch::new(lsn, SEAL, parts));
    }

    fn room_for_state(&self, bodies: &[(GroupKey, Bytes)]) -> bool {
        let extent = bodies
            .iter()
            .fold(Extent::empty(), |extent, (_, body)| extent.with(directory::size_of_state(body)));
        self.queue.end_with_extent(extent) <= self.queue.plan.blocks
    }

    fn write(&mut self, batch: OpenBatch) -> Option<Work> {
        let file = self.file.as_mut()?;
        assert_eq!((batch.lsn.generation, batch.lsn.batch), (file.generation, file.last + 1));
        let (lsn, flags, is_empty) = (batch.lsn, batch.flags, batch.extent() == Extent::empty());
        let place = Place {
            salt: file.salt,
            start: file.next_block,
            file_blocks: file.blocks,
            previous: Previous { digest: Some(file.digest), ..Previous::default() },
        };
        let (Closed { buf, first, blocks, digest }, mut spare) = batch.close(&place, &file.copy);
        spare.swap_frames(&mut file.copy);
        let offset = offset_of(file.next_block);
        file.next_block += blocks as u32;
        assert!(file.next_block <= file.blocks, "a batch was taken that its file cannot hold");
        file.last = lsn.batch;
        file.digest = digest;
        file.is_sealed = flags & SEAL != 0;
        if !(file.is_sealed && is_empty) {
            file.named = file.end();
        }
        self.stats.bytes += (blocks * BLOCK) as u64;
        self.stats.seals += u64::from(flags & SEAL != 0);
        let is_last_word = flags & (SEAL | CLOSED) != 0;
        let current = file.current.clone();
        self.keep_parts(spare);
        if is(Defect::AckBeforeSync) {
            self.durable = lsn;
        }
        self.in_flight = Some(InFlight::Batch { lsn, is_last_word });
        Some(Work::Write(Write { current, buf, first, blocks, offset }))
    }

    fn begin_file(
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
    fn link(&mut self, from: PathBuf, blocks: u32) -> Option<Work> {
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

    /// Takes the result of a job.
    ///
    /// # Errors
    /// A write or a sync failed, now or earlier. Nothing is acknowledged any more; the process
    /// must stop.
    pub fn done(&mut self, now: Now, done: Done) -> Result<(), Poisoned> {
        let result = match done.outcome {
            Outcome::Written { buf, result } => {
                self.keep_buffer(buf);
                result.map(|()| self.written(now))
            }
            Outcome::Linked(result) => result.map(|current| self.linked(now, current)),
            background => self.pool.done(now, background),
        };
        if let Err(Failed { what, path, error }) = result {
            let late = is(Defect::FailureNoticedLate);
            if late {
                self.written(now);
            }
            self.poisoned.get_or_insert(Poisoned { what, path, error: Arc::new(error) });
            if late {
                return Ok(());
            }
        }
        match &self.poisoned {
            Some(poisoned) => Err(poisoned.clone()),
            None => Ok(()),
        }
    }

    fn written(&mut self, now: Now) {
        let Some(InFlight::Batch { lsn, is_last_word }) = self.in_flight.take() else { return };
        if self.poisoned.is_some() {
            return;
        }
        let planted = is(Defect::AckBeforeSync);
        assert!(lsn > self.durable || planted, "batches become durable in order");
        self.durable = lsn;
        self.promised = if is_last_word { self.promised } else { lsn };
        self.stats.batches += 1;
        self.stats.syncs += 1;
        self.unsealed_since = (!is_last_word).then_some(now);
        if is_last_word && self.closing == Closing::Wanted && self.queue.is_empty() {
            self.closing = Closing::Done;
        }
    }

    fn linked(&mut self, now: Now, current: Current) {
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

    /// Everything up to this position is durable. Zeros before [`Writer::is_ready`].
    #[must_use]
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// The last durable batch that somebody may wait for: seals and the end hold hints at most. For
    /// who is to remember how far this log came, see [`Options::witnessed`].
    #[must_use]
    pub fn promised(&self) -> Lsn {
        self.promised
    }

    /// Whether nothing waits to be written and nothing is in flight, background work aside.
    /// After [`Writer::close`]: whether the log is closed.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_none() && self.queue.is_empty() && self.closing != Closing::Wanted
    }

    /// Whether the file of this run is linked. Before, nothing may be acknowledged and no vote
    /// may leave.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready && self.poisoned.is_none()
    }

    /// Whether more room is at hand, or it is known that there is none: entries that are taken
    /// before may be those after which a full disk has no file for a next start but one.
    #[must_use]
    pub fn knows_space(&self) -> bool {
        self.pool.knows_space()
    }

    /// When [`Writer::poll`] has something to do although nobody submits.
    #[must_use]
    pub fn wake_at(&self) -> Option<Now> {
        if self.poisoned.is_some() {
            return None;
        }
        let idle = self.in_flight.is_none() && self.queue.is_empty();
        let seal = self.unsealed_since.filter(|_| idle && self.closing == Closing::No);
        let seal = seal.map(|since| since.after(self.options.seal_after));
        let retry = self.pool.retry_at().filter(|_| !self.pool.is_preparing());
        seal.into_iter().chain(retry).min()
    }

    /// Small state that the next seal, or `closed`, carries: hints on which nothing rests.
    pub fn seal_with(&mut self, bodies: Vec<(GroupKey, Bytes)>) {
        self.seal_bodies = bodies;
    }

    /// Files below may go. The two newest stay in any case, and a file goes only after the first
    /// batch of the second one behind it was read back from the device. Damaged files are set
    /// aside under another name; the newest few of those are kept.
    pub fn release(&mut self, below: Generation) {
        self.pool.release(below);
    }

    /// The files of the log that a newer one follows, ascending.
    pub fn complete_files(&self) -> impl Iterator<Item = Generation> + '_ {
        let open = self.file.as_ref().map_or(Generation::ZERO, |file| file.generation);
        self.pool.files().filter(move |generation| *generation < open)
    }

    /// Ends the log in order: a `closed` batch behind what is pending. Nothing is taken any
    /// more; [`Writer::is_idle`] says when it is done.
    pub fn close(&mut self) {
        if self.closing == Closing::No {
            self.closing = Closing::Wanted;
        }
    }

    /// Whether the log was closed, and all of it is written.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closing == Closing::Done
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            prepared: self.pool.prepared,
            recycled: self.pool.recycled,
            no_space: self.pool.no_space_seen,
            read_back_failures: u64::from(self.pool.read_back_failed()),
            queued_bytes: self.queue.bytes() as u64,
            ..self.stats
        }
    }

    fn spare_parts(&mut self) -> Spare {
        let buf = self.buffers.pop().unwrap_or_default();
        Spare { buf, ..self.spare.pop().unwrap_or_default() }
    }

    /// Two of each serve: one batch in flight, one gathering.
    fn keep_parts(&mut self, parts: Spare) {
        if self.spare.len() < 2 {
            self.spare.push(parts);
        }
    }

    fn keep_buffer(&mut self, buf: AlignedBuf) {
        if self.buffers.len() < 2 && buf.len() <= 2 * BATCH_FULL {
            self.buffers.push(buf);
        }
    }
}

fn malformed((group, index): queue::Misplaced) -> SubmitError {
    SubmitError::Malformed { group, index }
}

fn push_states(batch: &mut OpenBatch, bodies: &[(GroupKey, Bytes)]) {
    for (group, body) in bodies {
        batch.push(RecordRef::State { group: *group, body });
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
fn content_of(blocks: u32) -> u64 {
    u64::from(blocks) * CONTENT as u64
}
