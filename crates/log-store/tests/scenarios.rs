//! Failures that real systems suffered, against the whole store.

mod support;

use std::path::Path;

use refloat_log_store::{GroupState, Lane, examine};
use refloat_types::{Index, IndexSet, LogOp};
use refloat_vfs::{Fate, Vfs};
use support::*;

fn roll(disk: &mut Disk, rounds: u64) {
    for _ in 0..rounds {
        disk.append(group(1), 1, 3, 5000);
        disk.sync().unwrap();
    }
}

fn with_group() -> Disk {
    let mut disk = Disk::small();
    disk.create_group(group(1)).unwrap();
    disk
}

/// Boots what is left and asserts that it is exactly what was acknowledged.
fn must_hold_everything(disk: &mut Disk, before: &Disk, acked: usize) -> Boot2 {
    let boot = disk.boot().unwrap_or_else(|e| panic!("refused: {e}"));
    let found = disk.observed(&boot).unwrap_or_else(|e| panic!("{e}\n{}", boot.report));
    explain(&before.history, acked, &found).unwrap_or_else(|e| panic!("{e}\n{}", boot.report));
    boot
}

/// Found by the simulator: a flush that ended after the store was asked to close wanted to publish
/// its segment, and an orderly stop became a poisoned one.
#[test]
fn a_flush_that_ends_after_close_is_adopted_by_the_next_boot() {
    let mut disk = with_group();
    let mut held = Vec::new();
    while held.is_empty() {
        disk.append(group(1), 1, 3, 5000);
        held.extend(disk.sync_without(Lane::Flush).unwrap());
    }
    disk.store().close();
    for job in held {
        disk.run(job).expect("too late to be published, and no failure");
    }
    disk.sync().unwrap();
    assert!(disk.store().is_closed());
    let image = disk.fs.kill();
    let mut back = Disk::on(image, &disk.options);
    let boot = must_hold_everything(&mut back, &disk, disk.history.len() - 1);
    assert!(boot.report.is_clean());
}

#[test]
fn s03_power_off_while_the_first_of_several_wal_files_is_released_leaves_no_gap() {
    // Flushes are held back until several files wait; then the power goes at every operation
    // of the flush and the release.
    let prepare = || {
        let mut disk = with_group();
        let mut held = Vec::new();
        for _ in 0..8 {
            disk.append(group(1), 1, 3, 5000);
            held.extend(disk.sync_without(Lane::Flush).unwrap());
        }
        (disk, held)
    };
    let (mut whole, held) = prepare();
    assert!(
        whole.files("wal").iter().filter(|f| f.extension().is_some_and(|e| e == "wal")).count()
            >= 3
    );
    let start = whole.fs.op_count();
    held.into_iter().for_each(|job| whole.run(job).unwrap());
    whole.sync().unwrap();
    let total = whole.fs.op_count() - start;
    assert!(total > 10, "{total} operations");
    for stop in 1..=total {
        let (mut disk, held) = prepare();
        disk.fs.crash_at(disk.fs.op_count() + stop);
        for job in held {
            if disk.run(job).is_err() {
                break;
            }
        }
        let _ = disk.sync();
        for image in disk.fs.crash_images(6) {
            let story = image.story();
            let mut back = Disk::on(image, &disk.options);
            let acked = disk.history.len() - 1;
            let boot = back.boot().unwrap_or_else(|e| panic!("stop {stop}: {story}: {e}"));
            let found = back.observed(&boot);
            let ok = found.and_then(|found| explain(&disk.history, acked, &found));
            ok.unwrap_or_else(|e| panic!("stop {stop}: {story}: {e}"));
        }
    }
}

#[test]
fn s09_a_commit_hint_beyond_the_log_is_clamped_with_both_numbers_and_corrected_on_disk() {
    let mut disk = with_group();
    disk.append(group(1), 1, 9, 100);
    disk.sync().unwrap();
    disk.store().hint_commit(group(1), Index(9));
    disk.idle().unwrap();
    disk.write(group(1), None, Some(LogOp::Cut { from: Index(5) })).unwrap();
    disk.sync().unwrap();
    disk.kill();
    let boot = disk.boot().unwrap();
    let g = &boot.groups[0];
    assert_eq!((g.state, g.last.index, g.commit), (GroupState::Clean, Index(4), Index(4)));
    let warning = boot.report.repaired.iter().find(|l| l.contains("commit hint")).expect("said");
    assert!(warning.contains("hint 9") && warning.contains("at 4"), "{warning}");
    disk.kill();
    let again = disk.boot().unwrap();
    assert!(!again.report.repaired.iter().any(|l| l.contains("commit hint")), "{}", again.report);
    assert_eq!(again.groups[0].commit, Index(4));
}

#[test]
fn a_commit_hint_is_never_written_above_what_is_durable() {
    let mut disk = with_group();
    disk.append(group(1), 1, 4, 100);
    disk.sync().unwrap();
    disk.append(group(1), 1, 4, 100);
    disk.store().hint_commit(group(1), Index(8));
    // The append is in the open batch; a roll-over now writes a checkpoint with the hint.
    assert_eq!(disk.store().durable_index(group(1)), Index(4));
    disk.kill();
    let boot = disk.boot().unwrap();
    assert!(boot.groups[0].commit <= Index(4));
}

#[test]
fn s17_a_tool_that_reads_the_same_directory_reaches_the_same_verdict_as_the_boot() {
    let mut disk = with_group();
    disk.append(group(1), 1, 3, 9000);
    disk.sync().unwrap();
    let stop = disk.fs.op_count() + 1;
    disk.fs.crash_at(stop);
    disk.append(group(1), 1, 3, 9000);
    let _ = disk.sync();
    for image in disk.fs.crash_images(30) {
        let story = image.story();
        let by_tool = examine(&image, &disk.options).unwrap();
        let ops = image.op_count();
        let again = examine(&image, &disk.options).unwrap();
        assert_eq!(by_tool.report(), again.report(), "{story}");
        assert!(image.ops().iter().all(|op| !op.kind.changes_disk()), "{story}: {ops}");
        let mut back = Disk::on(image, &disk.options);
        let boot = back.boot().unwrap();
        assert_eq!(&boot.report, by_tool.report(), "{story}");
    }
}

#[test]
fn s18_a_corrupt_snapshot_payload_is_named_and_never_touches_the_log() {
    let mut disk = with_group();
    disk.append(group(1), 1, 4, 300);
    disk.sync().unwrap();
    disk.snapshot(group(1), IndexSet::new()).unwrap();
    disk.append(group(1), 1, 4, 300);
    disk.sync().unwrap();
    disk.snapshot(group(1), IndexSet::new()).unwrap();
    let newest = disk.files("snap").pop().expect("two snapshots");
    let is_log = |f: &std::path::PathBuf| f.extension().is_some_and(|e| e == "wal");
    let wal_before: Vec<_> = disk.files("wal").into_iter().filter(is_log).collect();
    disk.idle().unwrap();
    let image = disk.fs.power_cut(|_| Fate::Kept);
    image
        .corrupt(&newest, |bytes| {
            let at = bytes.windows(5).position(|w| w == b"state").expect("the payload");
            bytes[at] ^= 1;
        })
        .unwrap();
    let mut back = Disk::on(image, &disk.options);
    let boot = back.boot().unwrap();
    let text = boot.report.to_string();
    assert!(text.contains(newest.to_str().unwrap()), "{text}");
    assert!(text.contains("checksum") || text.contains("mismatch"), "{text}");
    // The one before it and the log behind that reach as far: the group is clean.
    let g = &boot.groups[0];
    assert_eq!((g.state, g.snapshot.index, g.last.index), (GroupState::Clean, Index(4), Index(8)));
    assert!(boot.report.files.iter().all(|f| !f.verdict.contains("torn")), "{text}");
    assert!(wal_before.iter().all(|f| back.fs.exists(f).unwrap()), "no log file was touched");
    assert_eq!(back.read_log(group(1), Index(5)).unwrap().len(), 4);
}

#[test]
fn s19_w19_rot_in_acknowledged_data_is_never_cut_and_hurts_only_its_group() {
    let mut disk = Disk::small();
    disk.create_group(group(1)).unwrap();
    disk.create_group(group(2)).unwrap();
    disk.append(group(1), 1, 2, 400);
    disk.append(group(2), 1, 2, 400);
    disk.sync().unwrap();
    disk.append(group(1), 1, 2, 400);
    disk.append(group(2), 1, 2, 400);
    disk.sync().unwrap();
    disk.idle().unwrap();
    let file = disk.files("wal").into_iter().find(|f| f.extension().is_some_and(|e| e == "wal"));
    let file = file.expect("a log file");
    let image = disk.fs.power_cut(|_| Fate::Kept);
    image
        .corrupt(&file, |bytes| {
            let wanted = entry(1, 2, 400).payload.slice(..100);
            let at = bytes.windows(100).position(|w| w == &wanted[..]).expect("the payload");
            bytes[at + 3] ^= 0x40;
        })
        .unwrap();
    let mut back = Disk::on(image, &disk.options);
    for _ in 0..2 {
        // The verdict is the same at the next boot, and nothing was cut meanwhile.
        let boot = back.boot().unwrap();
        let (hurt, whole): (Vec<_>, Vec<_>) =
            boot.groups.iter().partition(|g| g.state != GroupState::Clean);
        assert_eq!((hurt.len(), whole.len()), (1, 1), "{}", boot.report);
        assert_eq!(hurt[0].state, GroupState::Damaged, "{}", boot.report);
        assert_eq!(hurt[0].last.index, Index(4), "the entries behind the hole are kept");
        let why = hurt[0].waits_for.clone().expect("says what it waits for");
        assert!(why.contains("not repairable from this disk"), "{why}");
        assert!(why.contains("entries {2}"), "{why}");
        assert_eq!(back.read_log(whole[0].key, Index(1)).unwrap().len(), 4);
        back.kill();
    }
}

#[test]
fn w25_acks_that_rest_on_a_tail_read_back_after_a_kill_survive_a_power_cut() {
    // The process dies at every operation, is started again at once, acknowledges more, and only
    // then the power goes: what the page cache showed must have been written again.
    let script = |disk: &mut Disk| -> Result<(), String> {
        for _ in 0..3 {
            disk.try_append(group(1), 1, 2, 3000).map_err(|e| e.to_string())?;
            disk.sync().map_err(|e| e.to_string())?;
        }
        Ok(())
    };
    for direct in [true, false] {
        let make = || {
            let mut disk = Disk::small();
            disk.fs.set_direct_supported(direct);
            disk.create_group(group(1)).unwrap();
            disk.sync().unwrap();
            disk
        };
        let mut whole = make();
        let start = whole.fs.op_count();
        script(&mut whole).unwrap();
        for stop in 1..=whole.fs.op_count() - start {
            let mut disk = make();
            disk.fs.crash_at(disk.fs.op_count() + stop);
            let _ = script(&mut disk);
            let acked = disk.acked();
            let history = disk.history.clone();
            disk.kill();
            let boot = disk.boot().unwrap();
            let found = disk.observed(&boot).unwrap();
            explain(&history, acked, &found).unwrap_or_else(|e| panic!("stop {stop}: {e}"));
            disk.history = vec![(refloat_log_store::Ticket(0), found)];
            disk.append(group(1), 1, 1, 10);
            disk.sync().unwrap();
            let image = disk.fs.power_cut(|_| Fate::Lost);
            let mut back = Disk::on(image, &disk.options);
            must_hold_everything(&mut back, &disk, disk.history.len() - 1);
        }
    }
}

#[test]
fn g04_an_overwritten_suffix_across_memtable_and_segments_reads_newest_also_after_restart() {
    let mut disk = with_group();
    roll(&mut disk, 6); // term 1, several segments
    let prev = id(1, 4);
    disk.append_after(group(1), prev, 2, 3, 5000).unwrap();
    disk.sync().unwrap();
    for _ in 0..4 {
        disk.append(group(1), 2, 3, 5000);
        disk.sync().unwrap();
    }
    disk.append_after(group(1), id(2, 9), 3, 2, 40).unwrap(); // in the memtable only
    disk.sync().unwrap();
    let model = disk.model()[&group(1)].clone();
    let read = disk.read_log(group(1), Index(1)).unwrap();
    assert!(read.iter().eq(model.log.values()), "while running");
    for _ in 0..2 {
        disk.kill();
        let boot = disk.boot().unwrap();
        let found = disk.observed(&boot).unwrap();
        assert!(found[&group(1)].log == model.log, "after a restart");
        disk.sync().unwrap();
    }
}

#[test]
fn g15_a_sealed_segment_is_adopted_and_a_retired_one_that_reappears_is_not() {
    // Sealed, and the power goes before the record that names it is durable.
    let mut disk = with_group();
    let mut held = Vec::new();
    for _ in 0..5 {
        disk.append(group(1), 1, 3, 5000);
        held.extend(disk.sync_without(Lane::Flush).unwrap());
    }
    disk.run(held.remove(0)).unwrap();
    assert_eq!(disk.files("seg").len(), 1, "sealed");
    let image = disk.fs.power_cut(|_| Fate::Lost);
    let mut back = Disk::on(image, &disk.options);
    let acked = disk.history.len() - 1;
    let boot = must_hold_everything(&mut back, &disk, acked);
    assert!(boot.report.repaired.iter().any(|l| l.contains("adopted")), "{}", boot.report);

    // Retired by compaction, then back by magic: its entries are not believed again.
    let mut disk = with_group();
    roll(&mut disk, 4);
    let old: Vec<_> = disk
        .files("seg")
        .into_iter()
        .map(|path| (path.clone(), disk.fs.contents(&path).unwrap()))
        .collect();
    assert!(!old.is_empty());
    roll(&mut disk, 30);
    disk.snapshot(group(1), IndexSet::new()).unwrap();
    roll(&mut disk, 4);
    disk.snapshot(group(1), IndexSet::new()).unwrap();
    roll(&mut disk, 4);
    disk.sync().unwrap();
    let gone: Vec<_> = old.into_iter().filter(|(p, _)| !disk.fs.exists(p).unwrap()).collect();
    assert!(!gone.is_empty(), "compaction removed segments");
    for (path, bytes) in &gone {
        disk.fs.put(path, bytes).unwrap();
    }
    disk.fs.sync_all();
    disk.kill();
    let boot = disk.boot().unwrap();
    assert!(boot.report.repaired.iter().all(|l| !l.contains("adopted")), "{}", boot.report);
    disk.observed(&boot).unwrap();
    disk.sync().unwrap();
    assert!(gone.iter().all(|(p, _)| !disk.fs.exists(p).unwrap()), "retired again");
}

#[test]
fn a_damaged_group_stays_damaged_after_the_file_that_showed_it_is_gone() {
    let mut disk = with_group();
    disk.append(group(1), 1, 4, 400);
    disk.sync().unwrap();
    disk.idle().unwrap();
    let file = disk.files("wal").remove(0);
    let image = disk.fs.power_cut(|_| Fate::Kept);
    image
        .corrupt(&file, |bytes| {
            let wanted = entry(1, 4, 400).payload.slice(..100);
            let at = bytes.windows(100).position(|w| w == &wanted[..]).expect("the payload");
            bytes[at] ^= 1;
        })
        .unwrap();
    let mut back = Disk::on(image, &disk.options);
    assert_ne!(back.boot().unwrap().groups[0].state, GroupState::Clean);
    back.kill();
    let _ = back.fs.remove_file(&file);
    let again = back.boot().unwrap();
    assert_ne!(again.groups[0].state, GroupState::Clean, "{}", again.report);
}

#[test]
fn a_directory_without_identity_is_refused_and_left_as_it_was() {
    let fs = refloat_vfs::SimFs::new();
    let vfs: std::sync::Arc<dyn Vfs> = std::sync::Arc::new(fs.clone());
    for present in [false, true] {
        if present {
            fs.create_dir(Path::new("/data")).unwrap();
            fs.create_dir(Path::new(DIR)).unwrap();
        }
        let before = fs.files();
        let refused = refloat_log_store::boot(&vfs, refloat_log_store::Options::new(DIR));
        assert!(matches!(refused, Err(refloat_log_store::BootError::Identity(_))));
        assert_eq!(fs.files(), before);
    }
}
