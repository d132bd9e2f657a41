//! Live entries: those below the snapshot to which its state refers, and that only the log holds.

mod support;

use refloat_log_store::{Read, tools};
use refloat_types::{Index, IndexSet};
use refloat_vfs::Vfs;
use support::{Disk, entry, group, id};

fn live() -> IndexSet {
    [3, 5].map(Index).into_iter().collect()
}

/// A group of which nothing is left in the log but the live entries, in one segment.
fn only_live_entries() -> Disk {
    let mut disk = Disk::small();
    disk.create_group(group(1)).unwrap();
    disk.append(group(1), 1, 9, 300);
    disk.sync().unwrap();
    for _ in 0..2 {
        disk.snapshot(group(1), live()).unwrap();
        for _ in 0..6 {
            disk.append(group(1), 1, 2, 6000);
            disk.sync().unwrap();
        }
    }
    disk.snapshot(group(1), live()).unwrap();
    disk.append(group(1), 1, 1, 10);
    disk.snapshot(group(1), live()).unwrap();
    disk.idle().unwrap();
    disk
}

#[test]
fn g03_a_live_entry_that_was_in_a_lost_segment_is_told_by_the_start_and_by_check() {
    let mut disk = only_live_entries();
    disk.kill();
    let checked = tools::check(&disk.fs, &disk.options, &mut |_| {}).unwrap();
    assert!(checked.is_clean() && checked.report.damage.is_empty(), "{checked}");
    disk.files("seg").iter().for_each(|path| disk.fs.remove_file(path).unwrap());

    let checked = tools::check(&disk.fs, &disk.options, &mut |_| {}).unwrap();
    assert!(!checked.is_clean(), "{checked}");
    assert_eq!(checked.unreadable[0].entries, "{3, 5}", "{checked}");
    let boot = disk.boot().unwrap();
    assert_eq!(boot.groups[0].lost_live, live());
    let told = "refers to entries {3, 5}, which are nowhere";
    assert!(boot.report.damage.iter().any(|line| line.contains(told)), "{}", boot.report);
    assert_eq!(disk.store().missing_live(group(1), &live()), live(), "it does not have them");
}

#[test]
fn g03_a_live_entry_that_rotted_is_named_by_check() {
    let mut disk = only_live_entries();
    disk.kill();
    disk.rot("seg", "t1 i3");
    let checked = tools::check(&disk.fs, &disk.options, &mut |_| {}).unwrap();
    assert!(checked.report.is_clean() && !checked.is_clean(), "{checked}");
    assert_eq!(checked.unreadable[0].entries, "{3}", "{checked}");
    assert!(checked.unreadable[0].evidence.contains(".seg"), "{checked}");
}

/// Another member's copies arrive; later everything is flushed and compacted, and a start follows.
fn cure(disk: &mut Disk, indexes: &[u64]) {
    let ids: Vec<_> = indexes.iter().map(|index| id(1, *index)).collect();
    disk.fill(group(1), &ids);
    assert!(disk.store().lost_live(group(1)).is_empty());
    disk.sync().unwrap();
    for read_after in ["the fill", "a start", "a flush", "a start again"] {
        match read_after {
            "the fill" => {}
            "a flush" => roll(disk),
            _ => {
                disk.kill();
                let boot = disk.boot().unwrap();
                assert!(boot.groups[0].lost_live.is_empty(), "after {read_after}: {}", boot.report);
                assert!(boot.report.damage.is_empty(), "after {read_after}: {}", boot.report);
            }
        }
        for index in live().iter() {
            let found = disk.read_one(group(1), index).expect(read_after);
            assert_eq!(found.id, id(1, index.0), "after {read_after}");
            assert!(found.is_intact(), "after {read_after}");
        }
    }
    disk.kill();
    let checked = tools::check(&disk.fs, &disk.options, &mut |_| {}).unwrap();
    assert!(checked.is_clean() && checked.unreadable.is_empty(), "{checked}");
}

/// So many entries that the log files with the fill are flushed, and snapshots that let all go
/// that is not live.
fn roll(disk: &mut Disk) {
    for _ in 0..3 {
        for _ in 0..6 {
            disk.append(group(1), 1, 2, 6000);
            disk.sync().unwrap();
        }
        disk.snapshot(group(1), live()).unwrap();
    }
    disk.idle().unwrap();
}

#[test]
fn g03_live_entries_that_are_nowhere_are_filled_from_others_and_outlive_flush_and_start() {
    let mut disk = only_live_entries();
    disk.kill();
    disk.files("seg").iter().for_each(|path| disk.fs.remove_file(path).unwrap());
    disk.boot().unwrap();
    assert_eq!(disk.store().lost_live(group(1)), live());
    assert!(matches!(disk.store().read(group(1), Index(3), Index(3), 1), Read::Unreadable));
    assert!(matches!(disk.store().read(group(1), Index(4), Index(4), 1), Read::Compacted));
    cure(&mut disk, &[3, 5]);
}

#[test]
fn g03_a_live_entry_that_rots_while_the_node_runs_is_filled_from_others() {
    for by_scrub in [true, false] {
        let mut disk = only_live_entries();
        disk.rot("seg", "t1 i3");
        if by_scrub {
            disk.kill();
            disk.options.scrub_rate = 1 << 40;
            disk.boot().unwrap();
            disk.idle().unwrap();
            for _ in 0..3 {
                disk.now = disk.now.after(60_000_000);
                disk.sync().unwrap();
            }
        } else {
            disk.read_one(group(1), Index(3)).unwrap_err();
            disk.store().note_unreadable(group(1), Index(3));
        }
        let lost: IndexSet = [Index(3)].into_iter().collect();
        assert_eq!(disk.store().lost_live(group(1)), lost, "by scrub: {by_scrub}");
        assert_eq!(disk.store().missing_live(group(1), &live()), lost);
        cure(&mut disk, &[3]);
    }
}

#[test]
fn a_lost_live_entry_is_lost_until_a_snapshot_does_without_it() {
    let mut disk = only_live_entries();
    disk.kill();
    disk.files("seg").iter().for_each(|path| disk.fs.remove_file(path).unwrap());
    disk.boot().unwrap();
    let five: IndexSet = [Index(5)].into_iter().collect();
    for (of_the_snapshot, lost) in [(live(), live()), (five.clone(), live()), (five.clone(), five)]
    {
        disk.append(group(1), 1, 1, 10);
        disk.snapshot(group(1), of_the_snapshot).unwrap();
        assert_eq!(disk.store().lost_live(group(1)), lost, "the one before is the fallback");
    }
}

/// Entries that rot before a snapshot refers to them: known until they are needed no more.
#[test]
fn g03_an_entry_that_rots_above_the_snapshot_is_lost_once_the_next_one_refers_to_it() {
    let mut disk = Disk::small();
    disk.create_group(group(1)).unwrap();
    disk.append(group(1), 1, 9, 300);
    disk.sync().unwrap();
    for at in [2, 3, 4, 5] {
        disk.store().note_unreadable(group(1), Index(at));
    }
    // What is written anew is not lost.
    disk.write(
        group(1),
        None,
        Some(refloat_types::LogOp::Fill { entries: vec![entry(1, 5, 300)] }),
    )
    .unwrap();
    disk.append_after(group(1), id(1, 3), 2, 3, 300).unwrap();
    disk.sync().unwrap();
    assert!(disk.store().lost_live(group(1)).is_empty(), "no snapshot refers to them yet");
    let live: IndexSet = [3, 4, 5].map(Index).into_iter().collect();
    disk.snapshot(group(1), live).unwrap();
    let lost: IndexSet = [Index(3)].into_iter().collect();
    assert_eq!(disk.store().lost_live(group(1)), lost);
}
