//! A second reader, a tool or another thread, beside a running writer.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use refloat_types::{Index, LogOp, Now};
use refloat_vfs::{FileLayer, InFlight, Layer, OpenOptions, Rng, SimFs, Vfs, VfsFile};
use refloat_wal::*;

use crate::disk::*;

fn small() -> Options {
    let mut options = options();
    options.file_size = 16 * 4096;
    options.direct = false;
    options
}

/// A second reader beside the running writer, at every operation of it: it may see a tail that is
/// not proven or cut off, and never damage, a stranger or a lost record.
#[test]
fn w22_a_reader_beside_the_running_writer_never_alarms_and_sees_all_that_is_acknowledged() {
    let options = small();
    for point in 0..400 {
        let mut disk = Disk::begin(SimFs::new(), options.clone(), 0).0;
        disk.fs.crash_at(point);
        let mut acked: Vec<(Lsn, Record)> = Vec::new();
        let mut crashed = disk.try_settle().is_err();
        for index in 1..14 {
            if crashed {
                break;
            }
            let record = append(1, index, 1, 900 * index as usize);
            let Ok(at) = disk.submit(std::slice::from_ref(&record)) else { break };
            crashed = disk.try_settle().is_err();
            if disk.writer.durable() >= at {
                acked.push((at, record));
            }
            if index % 3 == 0 && !crashed {
                disk.writer.roll(checkpoint(3));
                disk.writer.release(disk.writer.generation());
                crashed = disk.try_settle().is_err();
            }
        }
        // What the page cache shows to others while the operation is under way.
        let torn = (0..12).map(|sectors| InFlight::Torn(sectors * 5));
        for in_flight in torn.chain([InFlight::Lost, InFlight::Done]) {
            let found = look(&disk.fs.kill_with(in_flight), &options);
            assert!(found.scan.damage.is_empty(), "{point} {in_flight:?}: {}", found.words());
            assert!(found.scan.strays.is_empty(), "{point}: {:?}", found.scan.strays);
            let oldest = found.seen.files.first().copied().unwrap_or_default();
            let kept = |at: Lsn| at.generation >= oldest;
            for (at, record) in acked.iter().filter(|(at, _)| kept(*at)) {
                assert!(found.seen.has(record), "{point} {in_flight:?}: {at} is not seen");
            }
        }
        if !crashed {
            assert!(point > 60, "{point} operations");
            return;
        }
    }
    panic!("the workload ends");
}

/// A disk on which something happens before each look at it.
struct Busy {
    fs: SimFs,
    meanwhile: Arc<Mutex<dyn FnMut() + Send>>,
}

struct BusyFile {
    file: Arc<dyn VfsFile>,
    meanwhile: Arc<Mutex<dyn FnMut() + Send>>,
}

impl Busy {
    fn step(&self) {
        (self.meanwhile.lock().unwrap())();
    }
}

impl fmt::Debug for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fs.fmt(f)
    }
}

impl fmt::Debug for BusyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

impl FileLayer for BusyFile {
    fn below(&self) -> &dyn VfsFile {
        &*self.file
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        (self.meanwhile.lock().unwrap())();
        self.file.read_at(buf, offset)
    }
}

impl Layer for Busy {
    fn below(&self) -> &dyn Vfs {
        &self.fs
    }

    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn VfsFile>> {
        self.step();
        let file = self.fs.open(path, options)?;
        Ok(Arc::new(BusyFile { file, meanwhile: Arc::clone(&self.meanwhile) }))
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.step();
        self.fs.list(dir)
    }
}

/// Writes, overwrites, cuts, rolls over and releases, one job at a time.
fn work_on(mut disk: Disk, seed: u64, releases: bool, largest: usize) -> impl FnMut() + Send {
    let (mut rng, mut index) = (Rng::new(seed), 0);
    move || {
        for _ in 0..rng.below(4) {
            disk.now += 10_000;
            match disk.writer.poll(Now(disk.now)) {
                Some(job) => {
                    let done = job.run(&disk.fs);
                    disk.writer.done(Now(disk.now), done).expect("no write fails");
                }
                None if rng.chance(4) => {
                    disk.writer.roll(checkpoint(3));
                    if releases {
                        disk.writer.release(disk.writer.generation());
                    }
                }
                // A suffix is cut off, or overwritten.
                None if rng.chance(5) && index > 3 => {
                    index -= rng.below(3);
                    if rng.chance(50) {
                        let from = Index(index + 1);
                        let _ = disk
                            .submit(&[Record::Log { group: group(1), op: LogOp::Cut { from } }]);
                    }
                }
                None => {
                    index += 1;
                    let _ = disk.submit(&[append(1, index, 1, 100 + rng.index(largest))]);
                }
            }
        }
    }
}

/// Scans beside a writer, `times` for each seed. Returns how many saw files come and go.
fn scan_beside(options: &Options, seed: u64, releases: bool, largest: usize, times: u32) -> u32 {
    let disk = Disk::with(options.clone());
    let fs = disk.fs.clone();
    let meanwhile = Arc::new(Mutex::new(work_on(disk, seed, releases, largest)));
    for _ in 0..20 {
        (meanwhile.lock().unwrap())();
    }
    let busy = Busy { fs, meanwhile };
    let mut moved = 0;
    for _ in 0..times {
        let found = look(&busy, options);
        let is_fair = found.scan.damage.is_empty() && found.scan.strays.is_empty();
        assert!(is_fair || found.scan.moved, "{seed}, releases {releases}: {}", found.words());
        moved += u32::from(found.scan.moved);
    }
    moved
}

#[test]
fn w22_a_scan_while_the_writer_runs_reports_no_damage_that_is_none() {
    let moved: u32 = (0..100)
        .flat_map(|seed| [(seed, false), (seed, true)])
        .map(|(seed, releases)| scan_beside(&small(), seed, releases, 7000, 4))
        .sum();
    println!("{moved} of 800 scans saw files come and go");
    assert!(moved < 240);
}
