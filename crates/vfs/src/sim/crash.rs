//! Kills and power cuts: what a crash leaves of the work that was not synced.

use std::path::Path;
use std::sync::Arc;

use super::SimFs;
use super::content::{SECTOR_LEN, sectors};
use super::disk::Disk;
use super::file::Unsynced;
use super::names::{self, Change, Ino, NameChange, Outcome};
use super::ops::{OpKind, Stopped};
use super::units::{Fate, InFlight, Unit};
use crate::rng::Rng;

/// Which part of the disk a unit stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    Sector(Ino, u64),
    Length(Ino),
    Name(usize),
}

#[derive(Clone, Debug)]
pub(super) struct Undecided {
    pub(super) unit: Unit,
    pub(super) target: Target,
    pub(super) fates: Vec<Fate>,
    seq: u64,
}

/// # Crashes
impl SimFs {
    /// Crashes at the operation with this number (see [`SimFs::op_count`]): it may be done in
    /// part, and it and every later call fail with an error for which [`is_crash`](super::is_crash)
    /// holds. Continue with [`SimFs::kill`], [`SimFs::power_cut`] or [`SimFs::crash_images`].
    pub fn crash_at(&self, number: u64) {
        self.disk.lock().ops.crash_at = Some(number);
    }

    /// Whether it has crashed.
    #[must_use]
    pub fn is_crashed(&self) -> bool {
        self.disk.lock().ops.stopped.is_some()
    }

    /// Kills the process: the handles and clones of this `SimFs` fail from now on, its locks are
    /// free, and the result is what the next process sees: everything that was written, with
    /// nothing made durable by it. An interrupted operation counts as done. Armed faults are
    /// gone, the log is empty, and operations are numbered from 0 again.
    #[must_use]
    pub fn kill(&self) -> SimFs {
        self.kill_with(InFlight::Done)
    }

    /// The same, with a choice of what became of the interrupted operation.
    #[must_use]
    pub fn kill_with(&self, in_flight: InFlight) -> SimFs {
        self.stop();
        SimFs::from_disk(self.disk.lock().killed(in_flight))
    }

    /// Cuts the power: the handles and clones of this `SimFs` fail from now on, and the result is
    /// the disk with each undecided unit decided by `choose`, in the order of last change.
    /// More cuts may follow, each from the same state.
    #[must_use]
    pub fn power_cut(&self, mut choose: impl FnMut(&Unit) -> Fate) -> SimFs {
        self.stop();
        let disk = self.disk.lock();
        let units = disk.undecided();
        let fates: Vec<Fate> = units.iter().map(|undecided| choose(&undecided.unit)).collect();
        SimFs::from_disk(disk.cut(&units, &fates))
    }

    /// A power cut as a seed decides it: each unit one of the ways that a real disk has,
    /// with a chance drawn once for all.
    #[must_use]
    pub fn power_cut_random(&self, rng: &mut Rng) -> SimFs {
        self.stop();
        let disk = self.disk.lock();
        let units = disk.undecided();
        let fates = super::images::sample(&units, rng);
        SimFs::from_disk(disk.cut(&units, &fates))
    }

    /// What a power cut now would decide, in the order of last change.
    #[must_use]
    pub fn undecided(&self) -> Vec<Unit> {
        self.disk.lock().undecided().into_iter().map(|undecided| undecided.unit).collect()
    }

    /// How this state came about, for messages: the crash, the operation it hit, the fates.
    #[must_use]
    pub fn story(&self) -> String {
        self.disk.lock().story.clone()
    }

    fn stop(&self) {
        self.disk.lock().ops.stopped.get_or_insert(Stopped { in_flight: None });
    }
}

impl Disk {
    pub(super) fn undecided(&self) -> Vec<Undecided> {
        let known = self.known_as();
        let mut units = Vec::new();
        for (&ino, file) in &self.files {
            let Some(path) = known.get(&ino) else { continue };
            for (&sector, unsynced) in &file.sectors {
                units.push(sector_unit(path, ino, sector, unsynced, file.durable.sector(sector)));
            }
            if !file.lengths.is_empty() {
                let later = file.lengths.clone();
                let fates = fates(later.len());
                let unit = Unit::Length { path: path.clone(), durable: file.durable.len, later };
                let target = Target::Length(ino);
                units.push(Undecided { unit, target, fates, seq: file.lengths_seq });
            }
        }
        for (index, change) in self.names.iter().enumerate() {
            let path = |dir: &Ino, name| known.get(dir).cloned().unwrap_or_default().join(name);
            let mut outcomes = fates(1);
            let unit = match &change.what {
                Change::Link { dir, name, .. } => Unit::Created { path: path(dir, name) },
                Change::Unlink { dir, name, .. } => Unit::Removed { path: path(dir, name) },
                Change::Rename { from, to, ino } => {
                    if self.files.contains_key(ino) {
                        outcomes.push(Fate::BothNames);
                    }
                    Unit::Renamed { from: path(&from.0, &from.1), to: path(&to.0, &to.1) }
                }
            };
            let target = Target::Name(index);
            units.push(Undecided { unit, target, fates: outcomes, seq: change.seq });
        }
        units.sort_by_key(|undecided| undecided.seq);
        units
    }

    /// The disk after a power cut.
    pub(super) fn cut(&self, units: &[Undecided], fates: &[Fate]) -> Disk {
        let mut disk = self.clone();
        let mut outcomes = vec![None; self.names.len()];
        for (undecided, &fate) in units.iter().zip(fates) {
            match undecided.target {
                Target::Sector(ino, sector) => disk.cut_sector(ino, sector, fate),
                Target::Length(ino) => disk.cut_length(ino, fate),
                Target::Name(index) => outcomes[index] = outcome(fate, undecided),
            }
        }
        for (NameChange { what, .. }, outcome) in self.names.iter().zip(outcomes) {
            if let Some(outcome) = outcome {
                names::decide(&mut disk.dirs, what, outcome);
            }
        }
        disk.names.clear();
        for dir in disk.dirs.values_mut() {
            Arc::make_mut(dir).settle();
        }
        for file in disk.files.values_mut() {
            if !file.sectors.is_empty() || !file.lengths.is_empty() {
                Arc::make_mut(file).settle();
            }
        }
        disk.restart();
        disk.story = format!("{}power cut: {}", self.interrupted(), summary(units, fates));
        disk
    }

    /// The disk and the page cache as the next process finds them.
    pub(super) fn killed(&self, in_flight: InFlight) -> Disk {
        let interrupted = self.ops.stopped.as_ref().and_then(|stopped| stopped.in_flight.as_ref());
        let mut disk = match (interrupted, in_flight) {
            (None, _) | (_, InFlight::Done) => self.clone(),
            (Some((_, _, before)), InFlight::Lost) => Disk::clone(before),
            (Some((op, ino, before)), InFlight::Torn(count)) => {
                let mut disk = Disk::clone(before);
                if let (OpKind::Write, &Some(ino)) = (op.kind, ino) {
                    self.write_torn(&mut disk, ino, op.offset, op.len, count);
                }
                disk
            }
        };
        disk.restart();
        disk.story =
            format!("{}process kill, interrupted operation {in_flight:?}", self.interrupted());
        disk
    }

    /// Repeats the first sectors of an interrupted write.
    fn write_torn(&self, disk: &mut Disk, ino: Ino, offset: u64, len: u64, count: u64) {
        let Ok(after) = self.file(ino) else { return };
        let end = (offset / SECTOR_LEN as u64 + count) * SECTOR_LEN as u64;
        let end = end.min(offset + len).min(after.visible.len);
        if end <= offset {
            return;
        }
        let mut bytes = vec![0; super::content::index(end - offset)];
        after.visible.read(&mut bytes, offset);
        let seq = disk.next_seq();
        if let Ok(file) = disk.file_mut(ino) {
            file.write(seq, offset, &bytes);
        }
    }

    /// How many sectors the interrupted operation was writing.
    pub(super) fn sectors_in_flight(&self) -> u64 {
        match self.ops.stopped.as_ref().and_then(|stopped| stopped.in_flight.as_ref()) {
            Some((op, _, _)) if op.kind == OpKind::Write => {
                let range = sectors(op.offset..op.offset + op.len);
                range.end - range.start
            }
            _ => 0,
        }
    }

    pub(super) fn has_in_flight(&self) -> bool {
        self.ops.stopped.as_ref().is_some_and(|stopped| stopped.in_flight.is_some())
    }

    fn interrupted(&self) -> String {
        match self.ops.stopped.as_ref().and_then(|stopped| stopped.in_flight.as_ref()) {
            Some((op, _, _)) => format!("during [{op}] "),
            None => String::new(),
        }
    }

    /// What ends with a process.
    pub(super) fn restart(&mut self) {
        self.open.clear();
        self.locks.clear();
        self.ops = super::ops::Ops::default();
        self.drop_unreachable();
    }

    fn cut_sector(&mut self, ino: Ino, sector: u64, fate: Fate) {
        let Ok(file) = self.file_mut(ino) else { return };
        let Some(unsynced) = file.sectors.get(&sector) else { return };
        let mut bytes = [0; SECTOR_LEN];
        bytes.copy_from_slice(file.durable.sector(sector));
        let newest = file.visible.sector(sector);
        match fate {
            Fate::Lost => return,
            Fate::Version(n) => {
                let version = unsynced.versions.get(n).map(|page| page.sector(sector));
                bytes.copy_from_slice(version.unwrap_or(newest));
            }
            Fate::Kept | Fate::BothNames => bytes.copy_from_slice(newest),
            Fate::Zeroed => bytes.fill(0),
            Fate::Garbage(seed) => Rng::new(seed ^ sector).fill(&mut bytes),
            Fate::Torn(at) => {
                let at = at.min(SECTOR_LEN);
                bytes[..at].copy_from_slice(&newest[..at]);
            }
        }
        file.durable.set_sector(sector, &bytes);
    }

    fn cut_length(&mut self, ino: Ino, fate: Fate) {
        let Ok(file) = self.file_mut(ino) else { return };
        match fate {
            Fate::Lost => {}
            Fate::Version(n) if n < file.lengths.len() => file.durable.len = file.lengths[n],
            _ => file.durable.len = file.visible.len,
        }
    }
}

fn sector_unit(
    path: &Path,
    ino: Ino,
    sector: u64,
    unsynced: &Unsynced,
    durable: &[u8],
) -> Undecided {
    let versions = unsynced.versions.len();
    let mut fates = fates(versions);
    if durable.iter().any(|&b| b != 0) {
        fates.push(Fate::Zeroed);
    }
    let unit =
        Unit::Sector { path: path.to_path_buf(), offset: sector * SECTOR_LEN as u64, versions };
    Undecided { unit, target: Target::Sector(ino, sector), fates, seq: unsynced.seq }
}

/// Lost, kept, and what came between.
fn fates(versions: usize) -> Vec<Fate> {
    let between = (0..versions.saturating_sub(1)).map(Fate::Version);
    [Fate::Lost, Fate::Kept].into_iter().chain(between).collect()
}

fn outcome(fate: Fate, undecided: &Undecided) -> Option<Outcome> {
    match fate {
        Fate::Lost => None,
        Fate::BothNames if undecided.fates.contains(&Fate::BothNames) => Some(Outcome::NewNameOnly),
        _ => Some(Outcome::Whole),
    }
}

/// Names the exceptions, of which there are few or of which the first few tell enough.
fn summary(units: &[Undecided], fates: &[Fate]) -> String {
    const SHOWN: usize = 8;
    let lost = fates.iter().filter(|&&fate| fate == Fate::Lost).count();
    let rule = if lost * 2 > fates.len() { Fate::Lost } else { Fate::Kept };
    let odd = || units.iter().zip(fates).filter(|&(_, &fate)| fate != rule);
    let mut text = format!("{} units {rule:?}", units.len());
    for (n, (undecided, fate)) in odd().take(SHOWN).enumerate() {
        let lead = if n == 0 { " except" } else { "," };
        text += &format!("{lead} {fate:?} {}", undecided.unit);
    }
    match odd().count().saturating_sub(SHOWN) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}
