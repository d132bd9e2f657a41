//! What disks do to data that was synced, and when they are full.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use refloat_log_store::{Options, examine};
use refloat_types::Generation;
use refloat_vfs::{Harm, SimFs, Vfs};

use super::{Event, World};
use crate::client::REQUEST_LEN;
use crate::faults::Damage;
use crate::node::{DATA_DIR, data_dir};

const SECTOR: usize = 512;
const BLOCK: usize = 4096;
/// Entries younger than this may stand in a batch that nothing proves to be synced, and damage to
/// the ends of all logs at once leaves nobody who knows where they ended.
const OLD: u64 = 1_000_000;

impl World {
    /// Bytes at rest go bad, as far as this run allows it.
    pub(super) fn rot(&mut self, node: usize) {
        match self.plan.damage {
            Damage::Nobody => {}
            Damage::One(victim) => self.rot_anywhere(victim),
            Damage::Everybody => self.rot_an_entry(node),
        }
    }

    /// Any file, any place.
    fn rot_anywhere(&mut self, node: usize) {
        if self.machines[node].swapped_with.is_some() {
            return;
        }
        let fs = self.machines[node].fs.clone();
        let files = data_files(&fs);
        if files.is_empty() {
            return;
        }
        let path = files[self.rng.index(files.len())].clone();
        let Ok(good) = fs.contents(&path) else { return };
        if good.is_empty() {
            return;
        }
        let at = self.place(&good);
        let (name, harm) = match self.rng.below(100) {
            0..35 => ("rot: bytes flipped", Harm::Flip { at, mask: 1 << self.rng.below(8) }),
            35..55 => ("rot: sectors zeroed", zero(&good, at, SECTOR)),
            55..70 => ("rot: blocks zeroed", zero(&good, at, BLOCK)),
            70..75 => ("rot: extents zeroed", zero(&good, at, 16 * BLOCK)),
            75..85 => {
                let b = self.place(&good) / BLOCK;
                ("rot: blocks swapped", Harm::Swap { a: at / BLOCK, b })
            }
            85..92 => {
                let from = self.place(&good) / BLOCK;
                ("rot: stale blocks", Harm::Stale { block: at / BLOCK, from })
            }
            // Nor is a file cut under an open handle, which would write on behind its end.
            92..96 if self.machines[node].process.is_none() => {
                ("rot: files cut", Harm::Cut { len: at })
            }
            _ => return self.lose_file(node, &path),
        };
        let older = files[self.rng.index(files.len())].clone();
        let older = fs.contents(older).unwrap_or_default();
        let Some(bad) = harm.apply(&good, &older) else { return };
        if self.hits_an_unproven_end(node, &path, &bad) {
            return;
        }
        if fs.corrupt(&path, |bytes| *bytes = bad).is_ok() {
            self.hurt(node, &path, name);
        }
    }

    /// Whether damage reads like writes that never came, at the end of the log and with nothing
    /// that would prove them, neither behind it nor in the votes log: the one window that is left,
    /// and known (docs/recovery.md).
    fn hits_an_unproven_end(&self, node: usize, path: &Path, bad: &[u8]) -> bool {
        let (fs, dir) = (&self.machines[node].fs, data_dir().join("wal"));
        let in_log = |path: &PathBuf| path.starts_with(&dir) && generation_of(path).is_some();
        if fs.files().into_keys().filter(in_log).max().as_deref() != Some(path) {
            return false;
        }
        let options = Options::new(data_dir());
        let seen = |fs: &SimFs| {
            let seen = examine(fs, &options).ok()?;
            let file = seen.report().files.iter().find(|file| Path::new(&file.path) == path)?;
            Some((file.batches, seen.report().damage.len()))
        };
        let hurt = fs.fork();
        let done = hurt.corrupt(path, |bytes| *bytes = bad.to_vec());
        match (seen(fs), done.ok().and_then(|()| seen(&hurt))) {
            (Some((batches, damage)), Some((left, told))) => left < batches && told <= damage,
            _ => false,
        }
    }

    fn lose_file(&mut self, node: usize, path: &Path) {
        let fs = self.machines[node].fs.fork();
        // The process, if there is one, goes with it: a file cannot vanish under an open handle.
        if self.machines[node].process.is_some() {
            return;
        }
        if fs.remove_file(path).is_ok() {
            fs.sync_all();
            self.machines[node].fs = fs;
            self.hurt(node, path, "rot: files lost");
            let mut files = self.machines[node].fs.files().into_keys();
            let log = data_dir().join("wal");
            self.machines[node].hurt.log |=
                !files.any(|path| path.starts_with(&log) && generation_of(&path).is_some());
        }
    }

    /// Sectors that cannot be read until they are written again.
    pub(super) fn lose_sectors(&mut self) {
        let Damage::One(node) = self.plan.damage else { return };
        if self.machines[node].swapped_with.is_some() {
            return;
        }
        let fs = self.machines[node].fs.clone();
        let files = data_files(&fs);
        if files.is_empty() {
            return;
        }
        let path = files[self.rng.index(files.len())].clone();
        let Ok(good) = fs.contents(&path) else { return };
        let at = self.place(&good) as u64;
        let len = [1, SECTOR, BLOCK][self.rng.index(3)] as u64;
        if fs.fail_reads(&path, at..at + len).is_ok() {
            self.hurt(node, &path, "sectors made unreadable");
        }
    }

    /// A byte of one old entry flips wherever the entry stands, in a log or a segment. Which node
    /// may lose an entry follows from the entry.
    fn rot_an_entry(&mut self, node: usize) {
        let old = self.clients.acknowledged.iter().take_while(|(at, _)| *at + OLD < self.now);
        let nodes = self.machines.len();
        let mine = |command: &&Bytes| {
            let request = command.first_chunk().map_or(0, |n| u64::from_le_bytes(*n));
            request as usize % nodes == node && command.len() >= REQUEST_LEN + 8
        };
        let mine: Vec<&Bytes> = old.map(|(_, command)| command).filter(mine).collect();
        if mine.is_empty() {
            return;
        }
        let command = mine[self.rng.index(mine.len())].clone();
        let byte = REQUEST_LEN + self.rng.index(command.len() - REQUEST_LEN);
        if self.machines[node].swapped_with.is_some() {
            return;
        }
        let fs = self.machines[node].fs.clone();
        for path in data_files(&fs) {
            let kind = path.extension().and_then(|e| e.to_str());
            if !matches!(kind, Some("wal" | "seg")) {
                continue;
            }
            let Ok(bytes) = fs.contents(&path) else { continue };
            let places = bytes.windows(command.len()).enumerate();
            let places: Vec<usize> =
                places.filter(|(_, w)| *w == &command[..]).map(|(at, _)| at).collect();
            for at in places {
                if fs.corrupt(&path, |bytes| bytes[at + byte] ^= 0x10).is_ok() {
                    self.hurt(node, &path, "rot: entries");
                }
            }
        }
    }

    fn hurt(&mut self, node: usize, path: &Path, name: &'static str) {
        let machine = &mut self.machines[node];
        machine.hurt.any = true;
        machine.hurt.identity |= match path.file_name().and_then(|name| name.to_str()) {
            Some("identity.a") => 0b01,
            Some("identity.b") => 0b10,
            _ => 0,
        };
        self.trace.line(self.now, format_args!("node {}: {name}: {}", node + 1, path.display()));
        self.count(name);
    }

    /// Some place of a file, most often one that holds something.
    fn place(&mut self, bytes: &[u8]) -> usize {
        let holds = |(n, sector): (usize, &[u8])| sector.iter().any(|b| *b != 0).then_some(n);
        let used: Vec<usize> = bytes.chunks(SECTOR).enumerate().filter_map(holds).collect();
        let any = self.rng.index(bytes.len().max(1));
        if used.is_empty() || self.rng.chance(10) {
            return any;
        }
        (used[self.rng.index(used.len())] * SECTOR + any % SECTOR).min(bytes.len() - 1)
    }

    /// Little or no space is left, for a while.
    pub(super) fn fill_disk(&mut self, node: usize) {
        let left = self.rng.below(4) * self.rng.below(64 << 10);
        let fs = &self.machines[node].fs;
        fs.set_capacity(Some(fs.used() + left));
        self.count("disks filled");
        let wait = 50_000 + self.rng.below(2_500_000);
        self.after(wait, Event::SpaceBack { node });
    }
}

fn generation_of(path: &Path) -> Option<Generation> {
    let name = path.file_name()?.to_str()?.strip_suffix(".wal")?;
    name.parse().ok().map(Generation)
}

fn zero(good: &[u8], at: usize, len: usize) -> Harm {
    let at = at / len * len;
    Harm::Zero { at, len: len.min(good.len() - at) }
}

/// Everything that a node keeps.
fn data_files(fs: &SimFs) -> Vec<PathBuf> {
    let ours = |path: &PathBuf| path.starts_with(DATA_DIR) && !path.ends_with("LOCK");
    fs.files().into_keys().filter(ours).collect()
}
