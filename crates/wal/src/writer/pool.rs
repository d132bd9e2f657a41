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
/// Files that must be left for the next starts, those whose space is claimed included, while the
/// newest one holds more than could be said again: one for the next start, and one for the start
/// behind it, which takes the place of that start's file.
const LEFT: usize = 2;
/// Files at hand besides the one that is written: one for the next file, and those that must be
/// left then.
const AT_HAND: usize = LEFT + 1;
/// Files at hand that are filled with zeros ahead; of the others the space is claimed.
const FILLED: usize = 2;
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
    /// Files being prepared: those that have their space first, in the order of claiming it.
    preparing: VecDeque<Prepare>,
    /// The file that a job prepares now has its space.
    claimed_in_flight: bool,
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
            if found >= len {
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
        let mut highest = tail.highest_pool;
        let parts = std::mem::take(&mut tail.parts).into_iter();
        let preparing = parts.map(|(part, len)| {
            highest += 1;
            let ready = Name::Pool(highest).path(&options.dir);
            Prepare::new(&options.dir, part, ready, len, options.direct)
        });
        let preparing = preparing.collect();
        Pool {
            ready,
            preparing,
            claimed_in_flight: false,
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
    /// What brings entries leaves enough files behind: with one the node starts once more, with the
    /// other that start's file is replaced, and so on. A file that is still to be filled with zeros
    /// has its space, and may be waited for.
    pub(crate) fn has_next(&self, bulky: bool, planned: usize) -> bool {
        let left = self.at_hand().saturating_sub(planned);
        match bulky {
            true => left > LEFT || is(Defect::SpaceTakenUnseen) && !self.no_space,
            false => left > 0 || !self.no_space,
        }
    }

    /// Whether so few files are left that the next one should take the last one's place, and that
    /// the newest must stay one whose place can be taken.
    pub(crate) fn is_scarce(&self, planned: usize) -> bool {
        self.at_hand().saturating_sub(planned) < LEFT
    }

    /// Whether it is known if there is space, or enough without.
    pub(crate) fn knows_space(&self) -> bool {
        self.no_space || !self.is_scarce(0)
    }

    pub(crate) fn is_full_disk(&self) -> bool {
        self.no_space
    }

    /// Files that can be used, now or once they are filled: space that a file being prepared has
    /// claimed is there for the next starts too, however this one ends.
    fn at_hand(&self) -> usize {
        self.ready.len() + self.replaced.len() + self.claimed()
    }

    fn claimed(&self) -> usize {
        let waiting = self.preparing.iter().filter(|prepare| prepare.is_claimed()).count();
        waiting + usize::from(self.claimed_in_flight)
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

    /// Whether to claim the space of one more file. Recycled files come on top of those prepared,
    /// so that in the long run none is prepared.
    fn wants_claim(&self, linked: bool) -> bool {
        let enough = |prepare: &Prepare| prepare.len >= offset_of(self.wanted.unwrap_or(0));
        let is_long_enough = self.wanted.is_none() || self.preparing.iter().any(enough);
        // Whether there is space again shows when a file can be prepared.
        let more = self.at_hand() < AT_HAND || self.no_space;
        self.at_hand() == 0 || !is_long_enough || linked && more
    }

    /// Claims come first: they say whether there is space. Then the files that are used next are
    /// filled with zeros.
    fn prepare(&mut self, now: Now, linked: bool) -> Option<Work> {
        let at = self.next_claim(now, linked).or_else(|| self.next_fill(linked))?;
        let prepare = self.preparing.remove(at)?;
        self.claimed_in_flight = prepare.is_claimed();
        Some(Work::Prepare(prepare))
    }

    /// A file whose space is to be claimed: one that an earlier run was preparing, or a new one.
    fn next_claim(&mut self, now: Now, linked: bool) -> Option<usize> {
        if let Some(at) = self.preparing.iter().position(|prepare| !prepare.is_claimed()) {
            return Some(at);
        }
        if self.retry_at.is_some_and(|at| now < at) || !self.wants_claim(linked) {
            return None;
        }
        self.retry_at = None;
        self.highest += 1;
        let blocks = self.wanted.unwrap_or(0).max(self.options.file_blocks());
        let dir = &self.options.dir;
        let part = Name::Part(self.highest).path(dir);
        let ready = Name::Pool(self.highest).path(dir);
        let direct = self.options.direct;
        self.preparing.push_back(Prepare::new(dir, part, ready, offset_of(blocks), direct));
        Some(self.preparing.len() - 1)
    }

    /// A file to be filled with zeros. On a full disk a shorter one than is wanted will do.
    fn next_fill(&self, linked: bool) -> Option<usize> {
        let least = offset_of(self.wanted.filter(|_| !self.no_space).unwrap_or(0));
        let few = self.ready.len() < if linked { FILLED } else { 1 };
        let wanted = self.wanted.is_some() || few;
        self.preparing.iter().position(|prepare| prepare.len >= least).filter(|_| wanted)
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
            return Some(self.recycle(generation, file, Some(to)));
        }
        let room = self.ready.len() + self.claimed() < self.options.pool.max(1);
        let usual = file.len == offset_of(self.options.file_blocks());
        let to = (room && usual).then(|| self.next_name());
        Some(self.recycle(generation, file, to))
    }

    fn next_name(&mut self) -> PathBuf {
        self.highest += 1;
        Name::Pool(self.highest).path(&self.options.dir)
    }

    /// Puts a file that another one says again back into the pool, once that was seen on the
    /// device. The oldest goes first: its link names the one that took its place, which is in turn
    /// replaced by the next.
    fn take_replaced(&mut self) -> Option<Work> {
        let (generation, _) = self.replaced.first_key_value()?;
        if self.read_back <= *generation && !is(Defect::ReplacedBeforeSeen) {
            return self.read_back();
        }
        let (generation, file) = self.replaced.pop_first()?;
        // Where files are scarce a longer one will do as well.
        let will_do = file.len >= offset_of(self.options.file_blocks());
        let to = will_do.then(|| self.next_name());
        Some(self.recycle(generation, file, to))
    }

    fn recycle(&self, generation: Generation, file: InUse, to: Option<PathBuf>) -> Work {
        let InUse { path: from, len, .. } = file;
        Work::Recycle(Recycle { generation, identity: self.options.identity, from, len, to })
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
        let was_claimed = std::mem::take(&mut self.claimed_in_flight);
        match outcome {
            Outcome::Prepared { result: Ok(prepare) } => self.go_on_with(prepare, was_claimed),
            Outcome::Prepared { result: Err(failed) } if is_no_space(&failed.error) => {
                // Nothing relies on the file yet: the one failed write that does not poison.
                self.no_space = true;
                self.no_space_seen += 1;
                self.retry_at = Some(now.after(RETRY));
            }
            Outcome::Prepared { result: Err(failed) } => return Err(failed),
            Outcome::ReadBack { generation, matches: true } => self.read_back = generation,
            Outcome::ReadBack { .. } => self.read_back_failed = true,
            // Which of its two names a file has is not known: no younger one may go before it.
            Outcome::Recycled { result: Err(failed), .. } => return Err(failed),
            Outcome::Removed(Err(failed)) => return Err(failed),
            Outcome::Recycled { to: Some(to), len, result: Ok(()) } => self.take_back(to, len),
            Outcome::Recycled { to: None, .. } | Outcome::Removed(Ok(())) => {}
            Outcome::Written { .. } | Outcome::Linked(_) => {}
        }
        Ok(())
    }

    fn go_on_with(&mut self, prepare: Prepare, was_claimed: bool) {
        if !was_claimed {
            // Only a claim says that there is space: a file is filled where it has some already.
            self.no_space = false;
            self.retry_at = None;
        }
        if prepare.is_ready {
            self.prepared += 1;
            self.wanted = None;
            self.ready.push_back((prepare.ready, prepare.len));
        } else if was_claimed {
            self.preparing.push_front(prepare);
        } else {
            let claimed = self.preparing.iter().filter(|prepare| prepare.is_claimed()).count();
            self.preparing.insert(claimed, prepare);
        }
    }

    fn take_back(&mut self, path: PathBuf, len: u64) {
        if matches!(Name::of(&path), Name::Pool(_)) {
            self.recycled += 1;
            self.ready.push_back((path, len));
        } else if self.set_aside.len() > SET_ASIDE {
            self.garbage.extend(self.set_aside.pop_front());
        }
    }

    pub(crate) fn read_back_failed(&self) -> bool {
        self.read_back_failed
    }
}
