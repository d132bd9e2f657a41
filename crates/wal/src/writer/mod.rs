//! The writing side, steppable.

mod jobs;
mod link;
mod pool;
mod queue;
mod room;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use refloat_planted::{Defect, is};
use refloat_types::{Generation, GroupKey, Now};
use refloat_vfs::AlignedBuf;

use self::jobs::{Current, Failed, Outcome, Work, Write};
pub use self::jobs::{Done, Job};
use self::link::Linking;
use self::pool::Pool;
use self::queue::{Plan, Queue, Step};
use crate::carry::Carry;
use crate::encode::{Closed, Extent, OpenBatch, Place, Spare};
use crate::format::batch::{CLOSED, SEAL};
use crate::format::directory;
use crate::format::file_header::Previous;
use crate::format::link::Link;
use crate::format::sector::Salt;
use crate::format::{BLOCK, offset_of};
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
