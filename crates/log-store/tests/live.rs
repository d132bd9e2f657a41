//! Live entries: those below the snapshot to which its state refers, and that only the log holds.

mod support;

use refloat_log_store::tools;
use refloat_types::{Index, IndexSet};
use refloat_vfs::Vfs;
use support::{Disk, group};

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
