//! The background that reads what nobody asks for.

mod support;

use std::path::PathBuf;

use refloat_log_store::{Event, GroupState};
use refloat_types::{Index, IndexSet};
use support::{Disk, group, id};

/// Segments, two snapshots and complete log files.
fn with_sealed_files() -> Disk {
    let mut disk = Disk::small();
    disk.create_group(group(1)).unwrap();
    for round in 0..12 {
        disk.append(group(1), 1, 2, 6000);
        disk.sync().unwrap();
        if round == 2 || round == 5 {
            disk.snapshot(group(1), IndexSet::new()).unwrap();
        }
    }
    disk.kill();
    disk.options.scrub_rate = 1 << 40;
    disk.boot().unwrap();
    disk.idle().unwrap();
    disk
}

/// Lets the first walk begin and end; what it told.
fn walk(disk: &mut Disk) -> Vec<(String, Vec<u64>, bool)> {
    let cycles = disk.store().stats().scrub.cycles;
    disk.store().take_events();
    let mut told = Vec::new();
    for _ in 0..(24 * 60 + 2) {
        disk.now = disk.now.after(60_000_000);
        disk.sync().unwrap();
        for event in disk.store().take_events() {
            if let Event::Rot { evidence, entries, snapshot, .. } = event {
                let entries = entries.iter().map(|index| index.0).collect();
                told.push((evidence, entries, snapshot.is_some()));
            }
        }
        if disk.store().stats().scrub.cycles > cycles {
            return told;
        }
    }
    panic!("the walk never ended: {:?}", disk.store().stats());
}

fn sealed(disk: &Disk, dir: &str, ending: &str) -> Vec<PathBuf> {
    let is_it = |path: &PathBuf| path.extension().is_some_and(|found| found == ending);
    disk.files(dir).into_iter().filter(is_it).collect()
}

fn flip_in_the_middle(disk: &Disk, path: &PathBuf) {
    disk.fs
        .corrupt(path, |bytes| {
            let at = bytes.len() / 2;
            bytes[at..].iter_mut().take(600).for_each(|byte| *byte ^= 0x55);
        })
        .unwrap();
}

#[test]
fn every_sealed_byte_is_read_once_a_cycle_and_no_faster_than_allowed() {
    let mut disk = with_sealed_files();
    assert_eq!(walk(&mut disk), []);
    let files = disk.fs.files();
    let of_segments: u64 = disk.files("seg").iter().map(|path| files[path]).sum();
    let read = disk.store().stats().scrub.bytes;
    assert!(of_segments > 50_000 && read > of_segments, "{read} of {of_segments}");
    // A day later, not before.
    for _ in 0..20 * 60 {
        disk.now = disk.now.after(60_000_000);
        disk.sync().unwrap();
    }
    assert_eq!(disk.store().stats().scrub.cycles, 1);
    // Slowly: as many seconds as the bytes take.
    disk.kill();
    disk.options.scrub_rate = 1000;
    disk.boot().unwrap();
    let mut seconds = 0;
    while disk.store().stats().scrub.cycles == 0 {
        disk.now = disk.now.after(1_000_000);
        disk.sync().unwrap();
        seconds += 1;
        assert!(seconds < 10_000);
    }
    assert!(seconds > read / 1000 / 2, "{read} bytes in {seconds} s");
    disk.kill();
    disk.options.scrub_rate = 0;
    disk.boot().unwrap();
    disk.now = disk.now.after(1 << 40);
    disk.sync().unwrap();
    assert_eq!(disk.store().stats().scrub.bytes, 0);
}

/// A walk takes longer than any run of this node, and so does one of its files.
#[test]
fn g03_rot_anywhere_is_found_by_a_node_that_never_runs_long_enough_for_one_walk() {
    for (file_size, writes) in [(16 * 4096, 24), (1024 * 4096, 600)] {
        let mut disk = Disk::small();
        disk.kill();
        disk.options.scrub_rate = 1 << 40;
        (disk.options.small_segment, disk.options.live_percent) = (0, 0);
        disk.options.wal_file_size = file_size;
        disk.boot().unwrap();
        disk.create_group(group(1)).unwrap();
        for _ in 0..writes {
            disk.append(group(1), 1, 2, 6000);
            disk.sync().unwrap();
        }
        assert_eq!(walk(&mut disk), []);
        let whole = disk.store().stats().scrub.bytes;
        let segments = sealed(&disk, "seg", "seg");
        let near_the_end = |bytes: &mut Vec<u8>| {
            let at = bytes.len() - 6 * 4096;
            bytes[at] ^= 1;
        };
        segments.iter().for_each(|path| disk.fs.corrupt(path, near_the_end).unwrap());
        disk.options.scrub_rate = 4096;
        let (mut told, mut read, mut runs) = (Vec::new(), 0, 0);
        let is_told = |told: &[String], path: &PathBuf| {
            told.iter().any(|line| line.contains(&path.display().to_string()))
        };
        while !segments.iter().all(|path| is_told(&told, path)) {
            disk.kill();
            disk.boot().unwrap();
            disk.idle().unwrap();
            for _ in 0..120 {
                disk.now = disk.now.after(1_000_000);
                disk.sync().unwrap();
                told.extend(disk.store().take_events().into_iter().filter_map(|e| match e {
                    Event::Rot { evidence, .. } => Some(evidence),
                    _ => None,
                }));
            }
            let stats = disk.store().stats().scrub;
            assert_eq!(stats.cycles, 0, "a run ends before its walk");
            (read, runs) = (read + stats.bytes, runs + 1);
            assert!(read < 3 * whole, "{read} of {whole} bytes in {runs} runs: {told:#?}");
        }
        assert!(runs > 1);
    }
}

#[test]
fn g03_rot_in_a_segment_is_found_before_anybody_reads_it() {
    let mut disk = with_sealed_files();
    let newest = sealed(&disk, "seg", "seg").pop().expect("a segment");
    flip_in_the_middle(&disk, &newest);
    let told = walk(&mut disk);
    assert!(!told.is_empty());
    for (evidence, entries, is_snapshot) in &told {
        assert!(evidence.contains(&newest.display().to_string()), "{evidence}");
        assert!(!entries.is_empty() && !is_snapshot, "{told:?}");
    }
    // What it names cannot be read, and the rest can.
    let lost: Vec<u64> = told.iter().flat_map(|(_, entries, _)| entries.clone()).collect();
    let last = disk.model()[&group(1)].last().index.0;
    for index in lost[0]..=last {
        let read = disk.read_one(group(1), Index(index));
        assert_eq!(read.is_err(), lost.contains(&index), "{index}: {read:?}, {told:?}");
    }
    assert_eq!(disk.store().stats().scrub.rot, told.len() as u64);
}

#[test]
fn n13_a_rotten_snapshot_is_replaced_by_a_fresh_one_of_the_same_index() {
    let mut disk = with_sealed_files();
    let last = disk.model()[&group(1)].last();
    disk.snapshot(group(1), IndexSet::new()).unwrap();
    let newest = sealed(&disk, "snap", "snap").pop().expect("a snapshot");
    let good = disk.fs.contents(&newest).unwrap();
    flip_in_the_middle(&disk, &newest);
    let told = walk(&mut disk);
    assert!(told.iter().any(|(evidence, _, is_snapshot)| {
        *is_snapshot && evidence.contains(&newest.display().to_string())
    }));
    // Of the same index: nothing was applied since.
    disk.begin_snapshot(group(1), last, IndexSet::new());
    disk.sync().unwrap();
    assert!(
        disk.store()
            .take_events()
            .iter()
            .any(|event| { matches!(event, Event::SnapshotWritten { id, .. } if *id == last) })
    );
    assert_eq!(disk.fs.contents(&newest).unwrap().len(), good.len());
    assert_eq!(walk(&mut disk), []);
    disk.kill();
    let boot = disk.boot().unwrap();
    assert_eq!(boot.groups[0].state, GroupState::Clean, "{}", boot.report);
    assert_eq!(boot.groups[0].snapshot, last);
    assert!(boot.report.damage.is_empty(), "{}", boot.report);
}

#[test]
fn rot_in_a_complete_log_file_is_found_while_its_content_is_still_in_memory() {
    let mut disk = with_sealed_files();
    let oldest = sealed(&disk, "wal", "wal").remove(0);
    disk.fs.corrupt(&oldest, |bytes| bytes[2 * 4096 + 30] ^= 1).unwrap();
    let told = walk(&mut disk);
    let [(evidence, entries, false)] = &told[..] else { panic!("{told:?}") };
    assert!(evidence.contains("a batch does not verify") && entries.is_empty(), "{evidence}");
    assert!(evidence.contains(&oldest.display().to_string()), "{evidence}");
}

#[test]
fn rot_in_a_complete_file_of_the_votes_log_is_found() {
    let mut disk = with_sealed_files();
    disk.vote(group(1), 3).unwrap();
    disk.idle().unwrap();
    disk.kill();
    disk.boot().unwrap();
    disk.idle().unwrap();
    let oldest = sealed(&disk, "votes", "wal").remove(0);
    assert!(sealed(&disk, "votes", "wal").len() > 1);
    disk.fs.corrupt(&oldest, |bytes| bytes[2 * 4096 + 30] ^= 1).unwrap();
    let told = walk(&mut disk);
    assert!(told.iter().any(|(evidence, ..)| evidence.contains(&oldest.display().to_string())));
}

/// Entries that were overwritten, or that a snapshot covers, are read from nowhere any more.
#[test]
fn g03_rot_in_what_no_reader_would_take_from_there_is_told_and_loses_nothing() {
    let mut disk = Disk::small();
    disk.options.scrub_rate = 1 << 40;
    disk.options.small_segment = 0;
    disk.options.live_percent = 0;
    disk.kill();
    disk.boot().unwrap();
    disk.create_group(group(1)).unwrap();
    disk.append(group(1), 1, 4, 6000);
    disk.sync().unwrap();
    for _ in 0..4 {
        disk.append(group(1), 1, 2, 6000);
        disk.sync().unwrap();
    }
    disk.append_after(group(1), id(1, 2), 2, 6, 6000).unwrap();
    disk.sync().unwrap();
    for _ in 0..4 {
        disk.append(group(1), 2, 2, 6000);
        disk.sync().unwrap();
    }
    disk.idle().unwrap();
    let oldest = sealed(&disk, "seg", "seg").remove(0);
    let text = b"t1 i4 ";
    disk.fs
        .corrupt(&oldest, |bytes| {
            let found = bytes.windows(text.len()).position(|window| window == text);
            bytes[found.expect("the overwritten entry")] ^= 1;
        })
        .unwrap();
    let told = walk(&mut disk);
    let [(evidence, entries, false)] = &told[..] else { panic!("{told:?}") };
    assert!(evidence.contains(&oldest.display().to_string()) && entries.is_empty(), "{told:?}");
    let last = disk.model()[&group(1)].last().index.0;
    (1..=last).for_each(|at| drop(disk.read_one(group(1), Index(at)).expect("whole")));
}

/// What a segment holds twice is there twice again, whoever finds that one copy is bad.
#[test]
fn g03_a_bad_copy_of_what_a_segment_holds_twice_is_written_anew() {
    for (from_end, by_start) in [(100, false), (100, true), (4096 + 100, false), (4196, true)] {
        let mut disk = with_sealed_files();
        let newest = sealed(&disk, "seg", "seg").pop().expect("a segment");
        let log = disk.read_log(group(1), Index(13)).unwrap();
        disk.fs
            .corrupt(&newest, |bytes| {
                let at = bytes.len() - from_end;
                bytes[at] ^= 1;
            })
            .unwrap();
        if by_start {
            disk.kill();
            let boot = disk.boot().unwrap();
            assert_eq!(boot.groups[0].state, GroupState::Clean, "{}", boot.report);
            disk.idle().unwrap();
        } else {
            let told = walk(&mut disk);
            let [(evidence, entries, false)] = &told[..] else { panic!("{told:?}") };
            assert!(evidence.contains("footer") && entries.is_empty(), "{evidence}");
            disk.sync().unwrap();
        }
        assert!(!disk.fs.files().contains_key(&newest), "another took its place");
        let aside = sealed(&disk, "seg", "bad");
        assert_eq!(aside, [newest.with_extension("seg.bad")], "kept for who wants to look");
        assert_eq!(walk(&mut disk), [], "and holds all twice");
        assert_eq!(disk.read_log(group(1), Index(13)).unwrap(), log);
        disk.kill();
        let boot = disk.boot().unwrap();
        assert_eq!(boot.groups[0].state, GroupState::Clean, "{}", boot.report);
        assert!(boot.report.damage.is_empty(), "{}", boot.report);
    }
}

/// What is below the snapshot is dead, but for what the snapshot refers to.
#[test]
fn g03_rot_in_a_live_entry_below_the_snapshot_is_told_by_its_index() {
    let mut disk = Disk::small();
    disk.options.scrub_rate = 1 << 40;
    disk.kill();
    disk.boot().unwrap();
    disk.create_group(group(1)).unwrap();
    disk.append(group(1), 1, 6, 500);
    disk.sync().unwrap();
    let live: IndexSet = [2, 3].into_iter().map(Index).collect();
    while disk.files("seg").is_empty() {
        disk.append(group(1), 1, 2, 6000);
        disk.sync().unwrap();
    }
    disk.snapshot(group(1), live.clone()).unwrap();
    disk.idle().unwrap();
    disk.rot("seg", "t1 i2 ");
    let told = walk(&mut disk);
    let [(_, entries, false)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(entries, &[2], "{told:?}");
}

/// Segments that were not to be merged, of which one rotted; then they are to be.
fn with_a_rotten_input() -> (Disk, Vec<PathBuf>) {
    let mut disk = Disk::small();
    disk.options.small_segment = 0;
    disk.options.scrub_rate = 0;
    disk.kill();
    disk.boot().unwrap();
    disk.create_group(group(1)).unwrap();
    for _ in 0..24 {
        disk.append(group(1), 1, 2, 6000);
        disk.sync().unwrap();
    }
    let segments = sealed(&disk, "seg", "seg");
    assert!(segments.len() > 4, "{segments:?}");
    disk.rot("seg", "t1 i4 ");
    disk.kill();
    disk.options.small_segment = 1 << 20;
    disk.boot().unwrap();
    (disk, segments)
}

fn rot_told(disk: &mut Disk) -> Vec<u64> {
    let told = disk.store().take_events().into_iter().filter_map(|event| match event {
        Event::Rot { entries, .. } => Some(entries),
        _ => None,
    });
    told.flat_map(|entries| entries.iter().map(|index| index.0).collect::<Vec<_>>()).collect()
}

fn all_gone(disk: &mut Disk, segments: &[PathBuf]) -> bool {
    for _ in 0..20 {
        disk.append(group(1), 1, 2, 6000);
        disk.sync().unwrap();
        let there = sealed(disk, "seg", "seg");
        if segments.iter().all(|segment| !there.contains(segment)) {
            return true;
        }
    }
    false
}

#[test]
fn g03_rot_that_a_compaction_finds_is_told_at_once_and_its_inputs_wait_until_it_is_cured() {
    for by_snapshot in [false, true] {
        let (mut disk, segments) = with_a_rotten_input();
        disk.sync().unwrap();
        assert_eq!(rot_told(&mut disk), [4]);
        assert!(!all_gone(&mut disk, &segments), "they stay, whole, for healing");
        assert_eq!(rot_told(&mut disk), [], "and are not read again and again");
        if by_snapshot {
            // Behind the first one its fallback needs the entries: nothing to read again yet.
            disk.snapshot(group(1), IndexSet::new()).unwrap();
            assert!(!all_gone(&mut disk, &segments));
            assert_eq!(rot_told(&mut disk), []);
            disk.snapshot(group(1), IndexSet::new()).unwrap();
        } else {
            disk.fill(group(1), &[id(1, 4)]);
        }
        assert!(all_gone(&mut disk, &segments), "{:?}", disk.files("seg"));
        let first = if by_snapshot { disk.model()[&group(1)].snapshot.index.0 + 1 } else { 1 };
        let last = disk.model()[&group(1)].last().index.0;
        (first..=last).for_each(|at| drop(disk.read_one(group(1), Index(at)).expect("whole")));
        disk.kill();
        let boot = disk.boot().unwrap();
        assert_eq!(boot.groups[0].state, GroupState::Clean, "{}", boot.report);
    }
}
