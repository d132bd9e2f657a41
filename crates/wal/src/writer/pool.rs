//! Files on their way in and out of use: prepared ahead, recycled, removed.
//!
//! A file is filled with zeros once in its life and then used again and again, because a sync
//! over blocks that are allocated and written costs about half of one that changes the file's
//! extents.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use refloat_planted::{Defect, is};
use refloat_types::{Generation, Now};

use super::jobs::{Outcome, Prepare, ReadBack, Recycle, Work, is_no_space};
use crate::Options;
use crate::format::{BLOCK, offset_of};
use crate::names::Name;
use crate::scan::Tail;

/// Microseconds until a file is prepared again after there was no room for it.
const RETRY: u64 = 1_000_000;
/// Files that are ready besides the one that is written: one for the next file, and one that is
/// left then.
const SPARES: usize = 2;
/// Released files with damage that are kept.
const SET_ASIDE: usize = 4;

#[derive(Debug)]
struct InUse {
    path: PathBuf,
    len: u64,
    damaged: bool,
}

/// What the pool needs to know of a file to read its first batch back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct First {
    pub(crate) generation: Generation,
    pub(crate) digest: u32,
    pub(crate) blocks: u32,
}

#[derive(Debug)]
pub(crate) struct Pool {
    options: Options,
    /// Files ready for use: path and length.
    ready: VecDeque<(PathBuf, u64)>,
    preparing: Option<Prepare>,
    /// The file being prepared has its space.
    claimed: bool,
    in_flight: bool,
    retry_at: Option<Now>,
    no_space: bool,
    highest: u64,
    /// A first batch that needs a longer file than usual, in blocks.
    wanted: Option<u32>,
    /// Files whose successor says again what they hold: to be recycled before all others.
    replaced: BTreeMap<Generation, InUse>,
    garbage: Vec<PathBuf>,
    set_aside: VecDeque<PathBuf>,
    files: BTreeMap<Generation, InUse>,
    released: Generation,
    newest: Option<First>,
    /// The newest file whose first batch was seen on the device.
    read_back: Generation,
    read_back_failed: bool,
    pub(crate) prepared: u64,
    pub(crate) recycled: u64,
    pub(crate) no_space_seen: u64,
}

impl Pool {
    pub(crate) fn new(options: Options, tail: &mut Tail) -> Pool {
        let len = offset_of(options.file_blocks());
        let (mut ready, mut garbage) = (VecDeque::new(), std::mem::take(&mut tail.garbage));
        for (path, found) in tail.pool.drain(..) {
            if found == len {
                ready.push_back((path, found));
            } else {
                garbage.push(path);
            }
        }
        let files = tail
            .files
            .drain(..)
            .map(|(generation, path, len, damaged)| (generation, InUse { path, len, damaged }));
        let (replaced, files): (BTreeMap<_, _>, _) =
            files.partition(|(generation, _)| tail.replaced.contains(generation));
        let newest = files.last_key_value().map(|(generation, _)| *generation);
        let newest = newest.zip(tail.first).map(|(generation, (digest, blocks))| First {
            generation,
            digest,
            blocks,
        });
        let highest = tail.highest_pool + u64::from(tail.part.is_some());
        let preparing = tail.part.take().map(|part| Prepare {
            part,
            ready: Name::Pool(highest).path(&options.dir),
            len,
            dir: options.dir.clone(),
            direct: options.direct,
            file: None,
            zeroed: 0,
            is_ready: false,
        });
        Pool {
            ready,
            preparing,
            claimed: false,
            in_flight: false,
            retry_at: None,
            no_space: false,
            highest,
            wanted: None,
            garbage,
            set_aside: std::mem::take(&mut tail.set_aside).into(),
            replaced,
            files,
            released: Generation::ZERO,
            newest,
            read_back: Generation::ZERO,
            read_back_failed: false,
            prepared: 0,
            recycled: 0,
            no_space_seen: 0,
            options,
        }
    }

    /// Whether a next file may be begun, behind those that are `planned`, or is likely to be soon.
    /// What brings entries leaves two files behind: with one the node starts once more, with the
    /// other that start's file is replaced, and so on. Nor does it take another one before it is
    /// known whether there is space for one in the place of the last; where there is, it may wait
    /// for that one.
    pub(crate) fn has_next(&self, bulky: bool, planned: usize) -> bool {
        let left = self.spares().saturating_sub(planned);
        match (bulky, self.no_space) {
            (true, true) => left > SPARES,
            (true, false) if self.claimed => self.spares() >= planned,
            (true, false) => left >= SPARES || is(Defect::SpaceTakenUnseen),
            (false, no_space) => !no_space || left > 0,
        }
    }

    /// Whether so few files are left that the next one should take the last one's place.
    pub(crate) fn is_scarce(&self) -> bool {
        self.spares() < SPARES
    }

    /// Whether it is known if there is space, or enough without. Space that a file being prepared
    /// has claimed is there for the next starts too, however this one ends.
    pub(crate) fn knows_space(&self) -> bool {
        self.no_space || self.spares() + usize::from(self.claimed) >= SPARES
    }

    pub(crate) fn is_full_disk(&self) -> bool {
        self.no_space
    }

    fn spares(&self) -> usize {
        self.ready.len() + self.replaced.len()
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = Generation> + '_ {
        self.files.keys().copied()
    }

    /// Whether this file is part of the log.
    pub(crate) fn is_in_use(&self, file: u64) -> bool {
        self.files.contains_key(&Generation(file))
    }

    /// A file is not needed any more: the one that is linked next says again what it holds.
    pub(crate) fn replace(&mut self, generation: Generation) {
        if let Some(file) = self.files.remove(&generation) {
            self.replaced.insert(generation, file);
        }
    }

    pub(crate) fn retry_at(&self) -> Option<Now> {
        self.retry_at
    }

    pub(crate) fn is_preparing(&self) -> bool {
        self.in_flight
    }

    /// Takes a ready file of at least so many blocks, or asks for one; `least` will do on a full
    /// disk.
    pub(crate) fn take(&mut self, blocks: u32, least: u32) -> Option<(PathBuf, u32)> {
        let position = |blocks: u32| {
            self.ready.iter().position(|(_, len): &(PathBuf, u64)| *len >= offset_of(blocks))
        };
        let at = position(blocks).or_else(|| position(least).filter(|_| self.no_space));
        let Some((path, len)) = at.and_then(|at| self.ready.remove(at)) else {
            self.wanted = Some(blocks);
            return None;
        };
        self.wanted = None;
        Some((path, u32::try_from(len / BLOCK as u64).unwrap_or(u32::MAX)))
    }

    /// A file is in use from now on. One that stands ready under a number of its own was too short
    /// for it: it goes, for behind the files that prove that it never existed it would look like
    /// the oldest of the log.
    pub(crate) fn linked(&mut self, first: First, path: &Path, blocks: u32) {
        let ready = std::mem::take(&mut self.ready).into_iter();
        let (numbered, ready): (Vec<_>, Vec<_>) =
            ready.partition(|(path, _)| matches!(Name::of(path), Name::Log(_)));
        self.ready = ready.into();
        self.garbage.extend(numbered.into_iter().map(|(path, _)| path));
        let in_use = InUse { path: path.to_path_buf(), len: offset_of(blocks), damaged: false };
        self.files.insert(first.generation, in_use);
        self.newest = Some(first);
        self.read_back_failed = false;
    }

    pub(crate) fn release(&mut self, below: Generation) {
        self.released = self.released.max(below);
    }

    /// The next piece of background work. `linked`: nothing is removed before the node's files
    /// are linked, so that every start that fails on the way finds what this one found.
    pub(crate) fn poll(&mut self, now: Now, linked: bool) -> Option<Work> {
        if self.in_flight {
            return None;
        }
        let last_resort = self.ready.is_empty() && !linked;
        let work = last_resort
            .then(|| self.take_replaced())
            .flatten()
            .or_else(|| self.prepare(now, linked))
            .or_else(|| linked.then(|| self.tidy()).flatten())?;
        self.in_flight = true;
        Some(work)
    }

    /// Recycled files come on top of those prepared, so that in the long run none is prepared.
    fn wants_one(&self, linked: bool) -> bool {
        // Whether there is space again shows when a file can be prepared.
        let more = self.is_scarce() || self.no_space;
        self.spares() == 0 || self.wanted.is_some() || linked && more
    }

    fn prepare(&mut self, now: Now, linked: bool) -> Option<Work> {
        if self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        if let Some(prepare) = self.preparing.take() {
            return Some(Work::Prepare(prepare));
        }
        if !self.wants_one(linked) {
            return None;
        }
        self.retry_at = None;
        self.highest += 1;
        let blocks = self.wanted.unwrap_or(0).max(self.options.file_blocks());
        Some(Work::Prepare(Prepare {
            dir: self.options.dir.clone(),
            part: Name::Part(self.highest).path(&self.options.dir),
            ready: Name::Pool(self.highest).path(&self.options.dir),
            len: offset_of(blocks),
            direct: self.options.direct,
            file: None,
            zeroed: 0,
            is_ready: false,
        }))
    }

    fn tidy(&mut self) -> Option<Work> {
        if !self.garbage.is_empty() {
            return Some(Work::Remove(std::mem::take(&mut self.garbage)));
        }
        if let Some(work) = self.take_replaced() {
            return Some(work);
        }
        let (generation, second) = self.releasable()?;
        if self.read_back < second {
            return self.read_back();
        }
        let file = self.files.remove(&generation)?;
        if file.damaged {
            let to = Name::Damaged(generation).path(&self.options.dir);
            self.set_aside.push_back(to.clone());
            return Some(self.recycle(generation, file.path, Some(to)));
        }
        Some(self.back_into_pool(generation, file))
    }

    fn back_into_pool(&mut self, generation: Generation, file: InUse) -> Work {
        let room = self.ready.len() < self.options.pool.max(1);
        let usual = file.len == offset_of(self.options.file_blocks());
        let to = (room && usual).then(|| {
            self.highest += 1;
            Name::Pool(self.highest).path(&self.options.dir)
        });
        self.recycle(generation, file.path, to)
    }

    /// Puts a file that another one says again back into the pool, once that was seen on the
    /// device.
    fn take_replaced(&mut self) -> Option<Work> {
        let (generation, _) = self.replaced.last_key_value()?;
        if self.read_back <= *generation && !is(Defect::ReplacedBeforeSeen) {
            return self.read_back();
        }
        let (generation, file) = self.replaced.pop_last()?;
        Some(self.back_into_pool(generation, file))
    }

    fn recycle(&self, generation: Generation, from: PathBuf, to: Option<PathBuf>) -> Work {
        let identity = self.options.identity;
        Work::Recycle(Recycle { generation, identity, from, to })
    }

    /// The oldest file that may go, and the newer file whose first batch must have been seen on
    /// the device before: never one of the two newest.
    fn releasable(&self) -> Option<(Generation, Generation)> {
        let mut generations = self.files.keys();
        let oldest = *generations.next().filter(|oldest| **oldest < self.released)?;
        if is(Defect::NewestFilesReleased) {
            return Some((oldest, Generation::ZERO));
        }
        Some((oldest, *generations.nth(1)?))
    }

    fn read_back(&self) -> Option<Work> {
        let first = self.newest.filter(|_| !self.read_back_failed)?;
        let path = self.files.get(&first.generation)?.path.clone();
        Some(Work::ReadBack(ReadBack {
            generation: first.generation,
            path,
            identity: self.options.identity,
            direct: self.options.direct,
            digest: first.digest,
            blocks: first.blocks,
        }))
    }

    /// Takes the result of background work. The error is one that poisons.
    pub(crate) fn done(&mut self, now: Now, outcome: Outcome) -> Result<(), super::jobs::Failed> {
        self.in_flight = false;
        match outcome {
            Outcome::Prepared { result: Ok(prepare) } => self.go_on_with(prepare),
            Outcome::Prepared { result: Err(failed) } if is_no_space(&failed.error) => {
                // Nothing relies on the file yet: the one failed write that does not poison.
                (self.no_space, self.claimed) = (true, false);
                self.no_space_seen += 1;
                self.retry_at = Some(now.after(RETRY));
            }
            Outcome::Prepared { result: Err(failed) } => return Err(failed),
            Outcome::ReadBack { generation, matches: true } => self.read_back = generation,
            Outcome::ReadBack { .. } => self.read_back_failed = true,
            // Which of its two names a file has is not known: no younger one may go before it.
            Outcome::Recycled { result: Err(failed), .. } => return Err(failed),
            Outcome::Removed(Err(failed)) => return Err(failed),
            Outcome::Recycled { to: Some(to), result: Ok(()) } => self.take_back(to),
            Outcome::Recycled { to: None, .. } | Outcome::Removed(Ok(())) => {}
            Outcome::Written { .. } | Outcome::Linked(_) => {}
        }
        Ok(())
    }

    fn go_on_with(&mut self, prepare: Prepare) {
        (self.no_space, self.claimed) = (false, !prepare.is_ready);
        self.retry_at = None;
        if prepare.is_ready {
            self.prepared += 1;
            self.wanted = None;
            self.ready.push_back((prepare.ready, prepare.len));
        } else {
            self.preparing = Some(prepare);
        }
    }

    fn take_back(&mut self, path: PathBuf) {
        if matches!(Name::of(&path), Name::Pool(_)) {
            self.recycled += 1;
            self.ready.push_back((path, offset_of(self.options.file_blocks())));
        } else if self.set_aside.len() > SET_ASIDE {
            self.garbage.extend(self.set_aside.pop_front());
        }
    }

    pub(crate) fn read_back_failed(&self) -> bool {
        self.read_back_failed
    }
}
