//! Flush and compaction beside everything that moves meanwhile: crashes, snapshots, deletions.

mod support;

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use refloat_log_store::{
    Event, GroupState, Job, Lane, LogStore, Options, boot, identity, run_jobs,
};
use refloat_types::{ConfState, EntryId, GroupWrite, Index, IndexSet, LogOp, Now};
use refloat_vfs::{Fate, OsFs, Vfs};
use support::*;

fn with_group() -> Disk {
    let mut disk = Disk::small();
    disk.create_group(group(1)).unwrap();
    disk
}

fn live(indexes: &[u64]) -> IndexSet {
    indexes.iter().copied().map(Index).collect()
}

/// Boots what is left and asserts that it is exactly what was acknowledged.
fn must_hold_everything(disk: &mut Disk, before: &Disk, acked: usize, story: &str) -> Boot2 {
    let boot = disk.boot().unwrap_or_else(|e| panic!("{story}: refused: {e}"));
    let found = disk.observed(&boot).unwrap_or_else(|e| panic!("{story}: {e}\n{}", boot.report));
    let ok = explain(&before.history, acked, &found);
    ok.unwrap_or_else(|e| panic!("{story}: {e}\n{}", boot.report));
    boot
}

/// Rolls over, flushes and compacts until nothing is left of the files that are there now.
fn renew(disk: &mut Disk) {
    let before: Vec<_> = disk.files("seg").into_iter().chain(disk.files("wal")).collect();
    for _ in 0..100 {
        disk.append_quietly(group(1), 15_000);
        disk.sync().unwrap();
        let now: BTreeSet<_> = disk.files("seg").into_iter().chain(disk.files("wal")).collect();
        if before.iter().all(|f| is_pool(f) || !now.contains(f)) {
            return;
        }
    }
    panic!("never renewed: {:?} {:?}", disk.files("seg"), disk.files("wal"));
}

fn is_pool(file: &Path) -> bool {
    file.extension().is_none_or(|e| e != "wal" && e != "seg")
}

#[test]
fn s01_a_torn_or_stale_cache_of_live_indexes_costs_no_live_entry_through_flush_and_compaction() {
    let caches = [&b""[..], b"\0\0\0\0\0\0\0\0", b"RFLTLIVEgarbage", &[0xff; 700]];
    // The entries are in the log file at the crash, or in a segment.
    for (cache, flushed) in caches.into_iter().flat_map(|c| [(c, false), (c, true)]) {
        let mut disk = with_group();
        disk.append(group(1), 1, 6, 500);
        disk.sync().unwrap();
        for _ in 0..2 {
            disk.snapshot(group(1), live(&[2, 3])).unwrap();
            disk.append(group(1), 1, 1, 500);
            disk.sync().unwrap();
        }
        while flushed && disk.files("seg").is_empty() {
            disk.append(group(1), 1, 2, 6000);
            disk.sync().unwrap();
        }
        for snap in disk.files("snap") {
            disk.fs.put(snap.with_extension("live"), cache).unwrap();
        }
        let mut back = Disk::on(disk.fs.power_cut(|_| Fate::Kept), &disk.options);
        let acked = disk.history.len() - 1;
        let boot = must_hold_everything(&mut back, &disk, acked, "first boot");
        assert_eq!(boot.groups[0].state, GroupState::Clean);
        assert_eq!(back.store().latest_snapshot(group(1)).expect("kept").live, live(&[2, 3]));
        for round in ["running", "after another boot"] {
            renew(&mut back);
            for index in [2, 3] {
                let read = back.read_one(group(1), Index(index));
                assert_eq!(read, Ok(entry(1, index, 500)), "{round}: live entry {index}");
            }
            assert!(back.read_one(group(1), Index(4)).is_err(), "{round}: entry 4 is dead");
            back.kill();
            let boot = back.boot().unwrap();
            assert_eq!(boot.groups[0].state, GroupState::Clean, "{round}: {}", boot.report);
        }
    }
}

/// Several log files wait for their flush, which is held back.
fn with_a_held_flush() -> (Disk, Vec<Job>) {
    let mut disk = with_group();
    let mut held = Vec::new();
    for _ in 0..10 {
        disk.append(group(1), 1, 3, 5000);
        held.extend(disk.sync_without(Lane::Flush).unwrap());
    }
    (disk, held)
}

#[test]
fn s04_a_crash_at_every_point_between_the_seal_and_the_release_and_one_in_the_recovery() {
    let work = |disk: &mut Disk, held: Vec<Job>| -> Result<(), String> {
        held.into_iter().try_for_each(|job| disk.run(job)).map_err(|e| e.to_string())?;
        disk.sync().map_err(|e| e.to_string())
    };
    let (mut whole, held) = with_a_held_flush();
    let start = whole.fs.op_count();
    work(&mut whole, held).unwrap();
    let total = whole.fs.op_count() - start;
    assert!(whole.store().stats().flushed.0 > 1, "{:?}", whole.store().stats());
    assert!(!holds_wal(&whole, 1), "released: {:?}", whole.files("wal"));
    let (mut overlaps, mut twice) = (0, 0);
    for stop in 1..=total {
        let (mut disk, held) = with_a_held_flush();
        disk.fs.crash_at(disk.fs.op_count() + stop);
        let _ = work(&mut disk, held);
        let acked = disk.history.len() - 1;
        for (n, image) in disk.fs.crash_images(4).enumerate() {
            let story = format!("stop {stop}: {}", image.story());
            let mut once = Disk::on(image.fork(), &disk.options);
            let before = image.op_count();
            must_hold_everything(&mut once, &disk, acked, &story);
            let stats = once.store().stats();
            overlaps += u32::from(stats.flushed.0 > 0 && holds_wal(&once, stats.flushed.0));
            let recovery = once.fs.op_count() - before;
            once.sync().unwrap();
            must_hold_everything(&mut once, &disk, acked, &story); // the lock went with the store
            // Again, and the recovery does not come to its end.
            let every = if n == 0 { 3 } else { 11 };
            for again in (1 + stop % every..=recovery).step_by(every as usize) {
                let mut back = Disk::on(image.fork(), &disk.options);
                back.fs.crash_at(before + again);
                let _ = back.boot().map(|_| back.sync());
                for image in back.fs.crash_images(2) {
                    let story = format!("{story}; stop {again} of the boot: {}", image.story());
                    let mut last = Disk::on(image, &disk.options);
                    must_hold_everything(&mut last, &disk, acked, &story);
                    last.sync().unwrap();
                    must_hold_everything(&mut last, &disk, acked, &story);
                    twice += 1;
                }
            }
        }
    }
    println!("{total} stops, {overlaps} boots over an overlap, {twice} crashes in a recovery");
    assert!(overlaps > 10 && twice > 100, "{overlaps}, {twice}");
}

/// The lanes are independent: what releases log files may run while the write of the record that
/// allows it does not come to its end. A generation without entries leaves no segment behind, by
/// which a start would see that its file may be gone.
#[test]
fn s04_no_log_file_goes_before_the_record_that_allows_it_is_durable() {
    for entries in [true, false] {
        let (mut disk, mut held) = (with_group(), Vec::new());
        disk.append(group(1), 1, 3, 5000);
        let started = disk.store().stats().generation;
        for term in 1.. {
            // The file that flushes and those behind it, so that it is not one of the newest.
            let many = disk.store().stats().generation.0 >= started.0 + 3 && !held.is_empty();
            if many {
                break;
            }
            let is_first = disk.store().stats().generation == started;
            if entries || is_first {
                disk.append(group(1), 1, 1, 5000);
            }
            disk.vote(group(1), term).unwrap();
            // The first file, with entries, is flushed as usual.
            match is_first || disk.store().stats().flushed < started {
                true => disk.sync().unwrap(),
                false => held.extend(disk.sync_without(Lane::Flush).unwrap()),
            }
        }
        let (before, acked) = (disk.files("wal"), disk.history.len() - 1);
        let flushed = disk.store().stats().flushed;
        for job in held {
            disk.run(job).unwrap();
        }
        assert!(disk.store().stats().flushed > flushed, "a record was submitted");
        // Everything but the write of the record.
        let kept = disk.sync_without(Lane::Wal).unwrap();
        assert_eq!(kept.len(), 1, "{entries}: the record");
        let gone = |disk: &Disk| before.iter().filter(|f| !disk.files("wal").contains(f)).count();
        assert_eq!(gone(&disk), 0, "{entries}: {before:?}, then {:?}", disk.files("wal"));
        for image in disk.fs.crash_images(30) {
            let story = format!("{entries}: {}", image.story());
            let mut back = Disk::on(image, &disk.options);
            must_hold_everything(&mut back, &disk, acked, &story);
        }
        for job in kept {
            disk.run(job).unwrap();
        }
        disk.sync().unwrap();
        assert!(gone(&disk) > 0, "{entries}: released behind the record");
    }
}

/// Whether a log file is there whose entries a segment holds too.
fn holds_wal(disk: &Disk, flushed: u64) -> bool {
    let number = |f: &std::path::PathBuf| f.file_stem()?.to_str()?.parse::<u64>().ok();
    let files = disk.files("wal");
    files.iter().filter(|f| !is_pool(f)).filter_map(number).any(|n| n <= flushed)
}

/// Of a snapshot that moves, the flush sees the index and the live set from before or both from
/// after, wherever it falls; and what it drops is dead by a record that the power cannot take.
#[test]
fn g07_a_flush_sees_index_and_live_set_of_a_moving_snapshot_as_one() {
    // Each snapshot gives up some live entries of the one before it and has new ones.
    let sets = [live(&[2, 5]), live(&[5, 9, 11]), live(&[11, 14]), live(&[14, 20])];
    let at = |n: usize| id(1, 6 * (n as u64 + 1));
    let mut moments = 0;
    for moment in 0.. {
        let (mut disk, mut held) = (with_group(), Vec::new());
        for _ in 0..10 {
            disk.append(group(1), 1, 3, 5000);
            held.extend(disk.sync_without(Lane::Flush).unwrap());
        }
        // While the first flush is out no other begins, and the others wait for it.
        let (mut first, mut second) = (held.pop(), None);
        let mut steps = 0;
        for (n, set) in sets.iter().enumerate() {
            disk.begin_snapshot(group(1), at(n), set.clone());
            let mut under_way = VecDeque::new();
            loop {
                let now = disk.now;
                while let Some(job) = disk.store().poll_job(now) {
                    match job.lane() {
                        Lane::Flush => second = Some(job),
                        _ => under_way.push_back(job),
                    }
                }
                if let Some(first) = first.take_if(|_| steps == moment) {
                    disk.run(first).unwrap();
                    continue;
                }
                let Some(job) = under_way.pop_front() else { break };
                disk.run(job).unwrap();
                steps += 1;
            }
        }
        let Some(flush) = second else {
            moments = moment;
            break;
        };
        disk.run(flush).unwrap();
        disk.sync().unwrap();
        for boots in 0..2 {
            for index in [11, 14, 20] {
                let read = disk.read_one(group(1), Index(index));
                let ok = read.as_ref().is_ok_and(|read| *read == entry(1, index, 5000));
                assert!(ok, "moment {moment}, {boots} boots: live entry {index}: {read:?}");
            }
            disk.kill();
            let boot = disk.boot().unwrap();
            assert_eq!(boot.groups[0].state, GroupState::Clean, "{moment}: {}", boot.report);
            disk.sync().unwrap();
        }
    }
    assert!(moments > 8, "{moments} moments");
}

/// A flush that begins while a record is submitted and not yet durable, and the power goes.
fn flush_beside(change: impl FnOnce(&mut Disk)) {
    let mut disk = with_group();
    disk.receive(group(1), id(1, 24), IndexSet::new()).unwrap();
    let mut held = Vec::new();
    for _ in 0..8 {
        disk.append(group(1), 1, 3, 5000);
        held.extend(disk.sync_without(Lane::Flush).unwrap());
    }
    let acked = disk.history.len() - 1;
    disk.run(held.remove(0)).unwrap(); // the first generation; others are frozen behind it
    let before = disk.files("seg").len();
    change(&mut disk);
    let now = disk.now;
    while let Some(job) = disk.store().poll_job(now) {
        if job.lane() == Lane::Flush {
            let vfs = disk.vfs.clone();
            drop(job.run(&vfs)); // sealed; the write of the log never happens
        }
    }
    assert!(disk.files("seg").len() > before, "a segment was sealed");
    let image = disk.fs.power_cut(|_| Fate::Lost);
    let mut back = Disk::on(image, &disk.options);
    must_hold_everything(&mut back, &disk, acked, "after the flush");
}

#[test]
fn g07_a_flush_drops_nothing_for_the_sake_of_a_snapshot_that_is_not_durable() {
    flush_beside(|disk| {
        let last = disk.model()[&group(1)].last();
        disk.install(group(1), last).unwrap();
    });
}

#[test]
fn g08_a_flush_drops_nothing_for_the_sake_of_a_deletion_that_is_not_durable() {
    flush_beside(|disk| {
        let now = disk.now;
        disk.store().delete_group(now, group(1)).unwrap();
    });
}

/// A group on the file system of the machine, 24 KB of entries at a time.
struct Real {
    store: LogStore,
    vfs: Arc<dyn Vfs>,
    last: EntryId,
}

impl Real {
    fn run(&mut self) {
        // Later than every retry.
        run_jobs(&mut self.store, &self.vfs, Now(1)).unwrap();
        run_jobs(&mut self.store, &self.vfs, Now(10_000_000)).unwrap();
    }

    fn append(&mut self) {
        let first = self.last.index.0 + 1;
        let entries = (first..first + 4).map(|index| entry(1, index, 6000)).collect();
        let log = Some(LogOp::Append { prev: self.last, entries });
        let write = GroupWrite { group: group(1), hard_state: None, log };
        self.store.submit(Now(1), &[write]).unwrap();
        self.last = id(1, first + 3);
        self.run();
    }

    fn snapshot(&mut self, live: IndexSet) {
        let (last, conf) = (self.last, ConfState::of_voters([ME]));
        let state = Box::new(std::iter::once(bytes::Bytes::from_static(b"state")));
        self.store.write_snapshot(group(1), last, conf, live, state);
        self.run();
        let written = |e: &Event| matches!(e, Event::SnapshotWritten { id, .. } if *id == last);
        assert!(self.store.take_events().iter().any(written));
    }
}

/// At rest no more is taken than twice the live bytes, both snapshots, eight log files (two that
/// stay, one that is written, those that stand ready) of each log, and a few blocks per file.
#[test]
fn g13_after_snapshots_the_bytes_on_a_real_disk_fall_to_twice_what_is_live_and_the_logs() {
    const ENTRY: u64 = 6000 + 64;
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new(dir.path().join("node"));
    (options.wal_file_size, options.votes_file_size) = (16 * 4096, 16 * 4096);
    options.small_segment = 1 << 20;
    let vfs: Arc<dyn Vfs> = Arc::new(OsFs);
    identity::create(vfs.as_ref(), &options.dir, &node_identity()).unwrap();
    let store = boot(&vfs, options.clone()).unwrap().store;
    let mut real = Real { store, vfs, last: EntryId::ZERO };
    real.store.create_group(Now(1), group(1), &ConfState::of_voters([ME])).unwrap();
    for (round, live_every) in [(0, 0), (1, 10), (2, 4)] {
        let before = real.last.index.0;
        (0..120).for_each(|_| real.append());
        let grown = bytes_on_disk(&options.dir);
        let mut live = IndexSet::new();
        let last = real.last.index.0;
        let mut next = before + live_every;
        while live_every > 0 && next <= last {
            live.insert_range(Index(next), Index(next));
            next += live_every;
        }
        // Live is also what stands above the older of the two.
        real.snapshot(live.clone());
        real.append();
        real.snapshot(live.clone());
        (0..4).for_each(|_| real.append());
        let above = real.last.index.0 - last;
        let live_bytes = (live.iter().count() as u64 + above) * ENTRY;
        let files = real.store.stats().segments + 2;
        let logs = 8 * (options.wal_file_size + options.votes_file_size);
        let bound = 2 * live_bytes + logs + files * 8 * 4096;
        let found = bytes_on_disk(&options.dir);
        println!(
            "round {round}: {found} bytes for {live_bytes} live ones, at most {bound}; before {grown}"
        );
        assert!(grown > bound, "round {round}: {grown} bytes before, and {bound} may stay");
        assert!(found <= bound, "round {round}: {found} bytes for {live_bytes} live, not {bound}");
    }
}

/// Bytes that the file system has given out under a folder.
#[allow(
    clippy::disallowed_methods,
    reason = "what the store says of its files is not the question"
)]
fn bytes_on_disk(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let len = |entry: std::fs::DirEntry| {
        let meta = entry.metadata().unwrap();
        if meta.is_dir() { bytes_on_disk(&entry.path()) } else { meta.blocks() * 512 }
    };
    entries.map(len).sum()
}
