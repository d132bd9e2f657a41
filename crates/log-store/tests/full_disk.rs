//! A disk without room, a flusher that is slow or dead, and how many syncs things cost.

mod support;

use refloat_log_store::{GroupState, Lane, SubmitError, identity};
use refloat_types::{Entry, EntryKind, Index, IndexSet, LogOp, Now};
use refloat_vfs::{Fate, OpKind, SimFs};
use support::*;

fn with_group() -> Disk {
    let mut disk = Disk::small();
    disk.create_group(group(1)).unwrap();
    disk.sync().unwrap();
    disk
}

fn wal_files(disk: &Disk) -> usize {
    let is_log = |f: &&std::path::PathBuf| f.extension().is_some_and(|e| e == "wal");
    disk.files("wal").iter().filter(is_log).count()
}

/// Lets time pass with jobs running, as a host does.
fn wait(disk: &mut Disk, seconds: u64) {
    for _ in 0..seconds {
        disk.idle().unwrap();
    }
}

/// Writes until the disk refuses, with the room that was left taken away.
fn fill_up(disk: &mut Disk) {
    for _ in 0..200 {
        disk.fs.set_capacity(Some(disk.fs.used()));
        match disk.try_append(group(1), 1, 2, 6000) {
            Ok(_) => disk.sync().unwrap(),
            Err(SubmitError::NoSpace) => return,
            Err(e) => panic!("{e}"),
        }
    }
    panic!("never refused");
}

#[test]
fn w16_a_full_disk_postpones_flush_compaction_snapshot_and_removal_and_all_resume_by_themselves() {
    let mut disk = with_group();
    for _ in 0..6 {
        disk.append(group(1), 1, 2, 6000);
        disk.sync().unwrap();
    }
    disk.snapshot(group(1), IndexSet::new()).unwrap();
    fill_up(&mut disk);
    // A vote still finds room, a snapshot does not and leaves nothing behind.
    disk.vote(group(1), 9).unwrap();
    disk.sync().unwrap();
    let last = disk.model()[&group(1)].last();
    for _ in 0..5 {
        disk.begin_snapshot(group(1), last, IndexSet::new());
        wait(&mut disk, 2);
    }
    assert!(disk.files("snap").len() <= 2, "{:?}", disk.files("snap"));
    let tmp = |disk: &Disk| disk.files("seg").iter().filter(|p| p.ends_with(".tmp")).count();
    assert_eq!(tmp(&disk), 0);
    let acked = disk.history.len() - 1;
    // The power goes on the full disk: nothing acknowledged is lost.
    let mut image = Disk::on(disk.fs.fork().power_cut(|_| Fate::Lost), &disk.options);
    image.fs.set_capacity(None);
    let boot = image.boot().unwrap();
    let found = image.observed(&boot).unwrap();
    explain(&disk.history, acked, &found).unwrap();
    // Room again: writes are taken, and the backlog goes away, without a restart.
    disk.fs.set_capacity(None);
    wait(&mut disk, 4);
    for _ in 0..8 {
        disk.append(group(1), 1, 2, 6000);
        disk.sync().unwrap();
    }
    disk.snapshot(group(1), IndexSet::new()).unwrap();
    wait(&mut disk, 4);
    let stats = disk.store().stats();
    assert!(stats.flushed.0 + 1 >= stats.generation.0, "{stats:?}");
    assert!(wal_files(&disk) <= 4, "{:?}", disk.files("wal"));
    assert!(stats.segments <= 8, "{stats:?}");
    disk.kill();
    let boot = disk.boot().unwrap();
    let acked = disk.history.len() - 1;
    let found = disk.observed(&boot).unwrap();
    explain(&disk.history, acked, &found).unwrap();
}

/// The record that names a flush's or a compaction's output finds no room.
#[test]
fn w16_a_publication_that_finds_no_space_is_made_again_later() {
    for held_lane_runs in [1, 2, 3] {
        let mut disk = with_group();
        let mut held = Vec::new();
        while held.len() < held_lane_runs {
            disk.append(group(1), 1, 2, 6000);
            held.extend(disk.sync_without(Lane::Flush).unwrap());
            if !held.is_empty() {
                break;
            }
        }
        fill_up(&mut disk);
        // Sealed with the last of the room, and then there is none for its name.
        disk.fs.set_capacity(None);
        for job in held {
            let done = job.run(&disk.vfs);
            disk.fs.set_capacity(Some(disk.fs.used()));
            let now = disk.now;
            disk.store().complete(now, done).expect("postponed, not poisoned");
        }
        let flushed = disk.store().stats().flushed;
        wait(&mut disk, 3);
        disk.fs.set_capacity(None);
        assert!(disk.store().wake_at().is_some(), "it asks to be woken");
        wait(&mut disk, 5);
        assert!(disk.store().stats().flushed > flushed || flushed.0 > 0);
        let acked = disk.history.len() - 1;
        disk.kill();
        let boot = disk.boot().unwrap();
        let found = disk.observed(&boot).unwrap();
        explain(&disk.history, acked, &found).unwrap();
    }
}

#[test]
fn w35_a_weekend_of_kills_leaves_a_bounded_disk() {
    let mut disk = with_group();
    let mut highest = 0;
    for round in 0..300u64 {
        disk.append(group(1), 1, 1, 200);
        disk.sync().unwrap();
        if round % 40 == 39 {
            disk.snapshot(group(1), IndexSet::new()).unwrap();
        }
        let history = disk.history.clone();
        let acked = disk.acked();
        disk.kill();
        let boot = disk.boot().unwrap_or_else(|e| panic!("round {round}: {e}"));
        let found = disk.observed(&boot).unwrap_or_else(|e| panic!("round {round}: {e}"));
        explain(&history, acked, &found).unwrap_or_else(|e| panic!("round {round}: {e}"));
        disk.history = vec![(refloat_log_store::Ticket(0), found)];
        disk.sync().unwrap();
        if round > 20 {
            let bytes: u64 = disk.fs.files().values().sum();
            highest = highest.max(bytes);
        }
    }
    assert!(highest < 3 << 20, "{highest} bytes on disk");
    assert!(wal_files(&disk) <= 4, "{:?}", disk.files("wal"));
    assert!(disk.files("votes").len() <= 6, "{:?}", disk.files("votes"));
}

#[test]
fn w35_kills_on_a_full_disk_stop_no_start_and_leave_a_bounded_disk() {
    let mut disk = with_group();
    fill_up(&mut disk);
    let full = disk.fs.used();
    disk.vote(group(1), 5).unwrap();
    disk.sync().unwrap();
    for start in 0..=40u64 {
        let (history, acked) = (disk.history.clone(), disk.acked());
        let image = match start % 3 {
            0 => disk.fs.power_cut(|_| Fate::Lost),
            _ => disk.fs.kill(),
        };
        image.set_capacity(Some(full));
        disk = Disk::on(image, &disk.options);
        let boot = disk.boot().unwrap_or_else(|e| panic!("start {start}: {e}"));
        assert_eq!(boot.groups[0].state, GroupState::Clean, "start {start}: {}", boot.report);
        let found = disk.observed(&boot).unwrap_or_else(|e| panic!("start {start}: {e}"));
        explain(&history, acked, &found).unwrap_or_else(|e| panic!("start {start}: {e}"));
        disk.history = vec![(refloat_log_store::Ticket(0), found)];
        disk.vote(group(1), 6 + start).expect("a vote finds room");
        let large = disk.try_append(group(1), 1, 1, 20_000);
        let is_fine = large.as_ref().err().is_none_or(SubmitError::waits_for_room);
        assert!(is_fine, "start {start}: {large:?}");
        // Killed at once, or after all that was due is done.
        match start % 2 {
            0 => disk.sync().unwrap(),
            _ => drop(disk.sync_without(Lane::Prepare).unwrap()),
        }
        assert!(disk.fs.used() <= full);
    }
    disk.fs.set_capacity(None);
    disk.sync().unwrap();
    wait(&mut disk, 4);
    for _ in 0..8 {
        disk.append(group(1), 1, 2, 6000);
        disk.sync().unwrap();
        wait(&mut disk, 2);
    }
    assert!(wal_files(&disk) <= 5, "{:?}", disk.files("wal"));
}

#[test]
fn w35_several_small_unflushed_files_are_flushed_as_one_generation() {
    let mut disk = with_group();
    for _ in 0..5 {
        // Killed before any flush could run.
        disk.append(group(1), 1, 1, 200);
        disk.sync_without(Lane::Flush).unwrap();
        disk.kill();
        disk.boot().unwrap();
    }
    assert!(disk.files("seg").is_empty());
    assert!(wal_files(&disk) >= 5, "{:?}", disk.files("wal"));
    disk.sync().unwrap();
    assert_eq!(disk.files("seg").len(), 1, "{:?}", disk.files("seg"));
    assert!(wal_files(&disk) <= 3, "{:?}", disk.files("wal"));
    assert_eq!(disk.read_log(group(1), Index(1)).unwrap().len(), 5);
}

#[test]
fn g11_a_roll_over_of_ten_thousand_groups_costs_as_many_syncs_as_of_ten() {
    let syncs = |groups: u64| -> u64 {
        let mut disk = Disk::small();
        let conf = refloat_types::ConfState::of_voters([ME]);
        (1..=groups).for_each(|g| {
            disk.store().create_group(Now(1), group(g), &conf).unwrap();
        });
        disk.sync().unwrap();
        let writes: Vec<_> = (1..=groups).map(write_one).collect();
        for some in writes.chunks(100) {
            disk.store().submit(Now(1), some).unwrap();
        }
        disk.sync().unwrap();
        let is_sync = |kind: OpKind| matches!(kind, OpKind::Sync | OpKind::SyncDir);
        let count = |fs: &SimFs| fs.ops().iter().filter(|op| is_sync(op.kind)).count() as u64;
        let (before, generation) = (count(&disk.fs), disk.store().stats().generation);
        let files = disk.store().stats().wal.files;
        while disk.store().stats().generation == generation {
            disk.append_quietly(group(1), 9000);
            disk.sync().unwrap();
        }
        assert!(disk.store().stats().flushed >= generation, "flushed as well");
        let rolled = disk.store().stats().wal.files - files;
        assert_eq!(rolled, 1);
        count(&disk.fs) - before
    };
    let (few, many) = (syncs(10), syncs(10_000));
    // A checkpoint of many groups needs a longer file, which is prepared rather than recycled.
    assert!(many <= few + 2, "{few} syncs with 10 groups, {many} with 10,000");
}

#[test]
fn g09_a_flush_that_is_slower_than_the_writes_bounds_its_backlog_and_loses_nothing() {
    let mut disk = with_group();
    disk.kill();
    disk.options.max_unflushed = 200_000;
    disk.boot().unwrap();
    let file = disk.options.wal_file_size;
    for round in 0..3 {
        let mut held = Vec::new();
        let refused = loop {
            match disk.try_append(group(1), 1, 2, 6000) {
                Ok(_) => held.extend(disk.sync_without(Lane::Flush).unwrap()),
                Err(refused) => break refused,
            }
            assert!(disk.store().memory_bytes() < 200_000 + 2 * file, "round {round}");
        };
        let is_typed = |e: &SubmitError| matches!(e, SubmitError::Backlog { used, limit: 200_000 } if *used > 200_000);
        assert!(is_typed(&refused), "{refused}");
        // One flush is out at a time, however much waits.
        assert_eq!(held.len(), 1);
        // What carries no entries is taken, and so is what a new leader begins with.
        disk.vote(group(1), 5 + round).unwrap();
        let prev = disk.model()[&group(1)].last();
        let empty = vec![Entry::new(id(1, prev.index.0 + 1), EntryKind::Empty, b""[..].into())];
        disk.write(group(1), None, Some(LogOp::Append { prev, entries: empty })).unwrap();
        drop(disk.sync_without(Lane::Flush).unwrap());
        // The flush ends, the next one too, and entries are taken again.
        held.into_iter().for_each(|job| disk.run(job).unwrap());
        disk.sync().unwrap();
        assert!(disk.store().memory_bytes() < file, "{}", disk.store().memory_bytes());
        disk.append(group(1), 1, 2, 6000);
    }
    disk.sync().unwrap();
    let last = disk.model()[&group(1)].last().index.0;
    assert_eq!(disk.read_log(group(1), Index(1)).unwrap().len() as u64, last);
}

#[test]
fn g10_a_flusher_that_never_comes_back_keeps_every_file_and_every_group_writing() {
    let mut disk = with_group();
    for _ in 0..10 {
        disk.append(group(1), 1, 2, 6000);
        drop(disk.sync_without(Lane::Flush).unwrap()); // the thread died with its job
    }
    let stats = disk.store().stats();
    assert_eq!(stats.flushed.0, 0, "and that is visible: {stats:?}");
    assert!(stats.generation.0 > 1);
    let mut back = Disk::on(disk.fs.power_cut(|_| Fate::Lost), &disk.options);
    let boot = back.boot().unwrap();
    assert_eq!(boot.groups[0].state, GroupState::Clean);
    let found = back.observed(&boot).unwrap();
    explain(&disk.history, disk.history.len() - 1, &found).unwrap();
}

#[test]
fn s05_a_snapshot_that_moves_between_two_flushes_costs_nothing_that_is_needed() {
    let prepare = || {
        let mut disk = with_group();
        let mut held = Vec::new();
        for _ in 0..5 {
            disk.append(group(1), 1, 2, 6000);
            held.extend(disk.sync_without(Lane::Flush).unwrap());
        }
        (disk, held)
    };
    let work = |disk: &mut Disk, held: Vec<refloat_log_store::Job>| -> Result<(), String> {
        for job in held {
            disk.run(job).map_err(|e| e.to_string())?;
        }
        disk.snapshot(group(1), IndexSet::new()).map_err(|e| e.to_string())?;
        for _ in 0..3 {
            disk.try_append(group(1), 1, 2, 6000).map_err(|e| e.to_string())?;
            disk.sync().map_err(|e| e.to_string())?;
        }
        Ok(())
    };
    let (mut whole, held) = prepare();
    let start = whole.fs.op_count();
    work(&mut whole, held).unwrap();
    let total = whole.fs.op_count() - start;
    for stop in 1..=total {
        let (mut disk, held) = prepare();
        disk.fs.crash_at(disk.fs.op_count() + stop);
        let _ = work(&mut disk, held);
        let acked = disk.acked();
        for image in disk.fs.crash_images(4) {
            let story = image.story();
            let mut back = Disk::on(image, &disk.options);
            for _ in 0..2 {
                let boot = back.boot().unwrap_or_else(|e| panic!("stop {stop}: {story}: {e}"));
                let found = back.observed(&boot);
                let ok = found.and_then(|found| explain(&disk.history, acked, &found));
                ok.unwrap_or_else(|e| panic!("stop {stop}: {story}: {e}"));
                back.sync().unwrap();
                back.kill();
            }
        }
    }
}

fn write_one(g: u64) -> refloat_types::GroupWrite {
    let entries = vec![entry(1, 1, 20)];
    let log = refloat_types::LogOp::Append { prev: refloat_types::EntryId::ZERO, entries };
    refloat_types::GroupWrite { group: group(g), hard_state: None, log: Some(log) }
}

#[test]
fn w16_a_start_is_counted_on_a_disk_without_a_free_block_and_a_crash_on_the_way_leaves_an_identity()
{
    let mut disk = with_group();
    disk.kill();
    let dir = std::path::Path::new(support::DIR);
    let fs = disk.fs.fork();
    fs.set_capacity(Some(fs.used()));
    for stop in 0.. {
        let fs = fs.fork();
        fs.clear_ops();
        let mut id = identity::load(&fs, dir).expect("whole before");
        let run = id.run;
        let reads = fs.op_count();
        fs.crash_at(reads + stop);
        let counted = identity::begin_run(&fs, dir, &mut id);
        let crashed = fs.is_crashed();
        for image in fs.crash_images(200) {
            let found = identity::load(&image, dir).expect("a crash leaves a whole copy");
            assert!(found.run == run || found.run == run + 1, "{} after {run}", found.run);
            assert!(crashed || found.run == run + 1, "a start that goes on is durable");
        }
        if !crashed {
            counted.expect("there is room for what is there already");
            break;
        }
    }
}
