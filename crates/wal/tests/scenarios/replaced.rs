//! Files that say again what the one before them held, and take its place: on a full disk.

use refloat_vfs::{SimFs, Vfs};
use refloat_wal::*;

use crate::disk::*;
use crate::space::{full_disk, ready, run_until};

/// Every crash of a start that takes the place of the last file, and of the start behind that; also
/// where the last file is that of a start that was cut off before it was linked.
#[test]
fn w26_a_crash_at_every_step_of_a_start_that_replaces_a_file_loses_nothing() {
    let acked = [append(1, 1, 1, 100), append(1, 2, 1, 20_000), append(2, 1, 1, 0)];
    let prepare = |is_unlinked: bool| {
        let mut disk = full_disk(&options());
        disk.write(&acked[1..2]);
        if !is_unlinked {
            disk = disk.reboot().0;
        }
        disk.write(&acked[2..]);
        let disk = if is_unlinked { unlinked(disk) } else { disk };
        disk.fs.kill()
    };
    let owed = |found: &Found, story: &str| {
        assert!(found.scan.damage.is_empty(), "{story}: {}", found.words());
        assert!(acked.iter().all(|record| found.seen.has(record)), "{story}");
    };
    let mut replaced = [0, 0];
    for (unlinked, starts) in [(false, 1), (false, 2), (false, 3), (true, 1), (true, 2)] {
        for stop in 1..200 {
            let mut fs = prepare(unlinked);
            for _ in 1..starts {
                let mut disk = Disk::begin(fs, options(), 0).0;
                run_until(&mut disk, Writer::is_ready);
                fs = disk.fs.kill();
            }
            let (mut disk, found) = Disk::begin(fs, options(), 0);
            owed(&found, "before");
            disk.fs.crash_at(disk.fs.op_count() + stop);
            let crashed = disk.try_settle().is_err();
            for image in disk.fs.crash_images(40) {
                let story = format!("{unlinked} {starts}, step {stop}: {}", image.story());
                let found = look(&image, &options());
                owed(&found, &story);
                let mut again = Disk::begin(image, options(), 0).0;
                again.settle();
                assert!(again.writer.is_ready(), "{story}: {:#?}", again.fs.files());
                owed(&again.find(), &story);
                // The file that the link of the one before names is in use elsewhere, or the
                // number that it passes over.
                let files = again.find().scan.files;
                replaced[usize::from(unlinked)] +=
                    u64::from(files.windows(2).any(|pair| {
                        pair[0].linked && pair[1].generation > pair[0].generation.next()
                    }));
            }
            if !crashed {
                break;
            }
        }
    }
    assert!(replaced.iter().all(|count| *count > 100), "{replaced:?}");
}

/// A full disk on which the next file takes the last one's place again and again.
fn in_turn(starts: u64) -> Disk {
    let mut disk = full_disk(&options());
    for n in 0..starts {
        disk.write(&[append(2, 1 + n, 1, 100)]);
        disk.fs.set_capacity(Some(disk.fs.used()));
        disk = disk.reboot().0;
    }
    disk
}

/// Also where files replaced each other, from the very first one on.
#[test]
fn w28_the_newest_of_files_that_replaced_each_other_is_missed_when_it_goes() {
    for starts in 1..8 {
        for rolls in 0..4 {
            let mut disk = in_turn(starts);
            (0..rolls).for_each(|_| disk.roll());
            must_miss_the_newest(disk, &format!("{starts} starts, {rolls} rolls"));
        }
    }
    // The disk was never large enough for more than the first file and a next one.
    for starts in 0..3 {
        for rolls in 0..3 {
            let fs = SimFs::new();
            fs.set_capacity(Some(2 * options().file_size));
            let mut disk = Disk::boot(fs, options()).0;
            for _ in 0..starts {
                disk = Disk::begin(disk.fs.kill(), options(), 0).0;
                disk.settle();
            }
            (0..rolls).for_each(|_| disk.roll());
            if starts + rolls > 0 && disk.writer.is_ready() && disk.writer.is_idle() {
                must_miss_the_newest(disk, &format!("{starts} starts, {rolls} rolls of two files"));
            }
        }
    }
}

/// The file that it takes the place of was never linked, and still is there.
#[test]
fn w28_a_file_in_the_place_of_one_that_was_never_linked_is_missed_when_it_goes() {
    let mut disk = unlinked(full_disk(&options()));
    run_until(&mut disk, Writer::is_ready);
    let at = disk.submit(&[append(3, 1, 1, 100)]).unwrap();
    run_until(&mut disk, |writer| writer.durable() >= at);
    let newest = disk.newest_file();
    assert!(disk.find().scan.damage.is_empty());
    disk.fs.remove_file(&newest).unwrap();
    assert!(!disk.find().scan.damage.is_empty(), "{:?}", disk.fs.files());
}

/// Its first batch is whole, and it stands ready under its number: when the files are gone that say
/// that it never existed it would be the oldest of the log.
#[test]
fn w12_a_file_that_was_never_linked_does_not_outlive_those_that_show_it() {
    let mut disk = unlinked(full_disk(&options()));
    let number = disk.writer.generation().0 - 1;
    run_until(&mut disk, Writer::is_ready);
    let fs = disk.fs.kill();
    fs.set_capacity(None);
    // The next start needs a longer file than those that are there.
    let many: Vec<_> = (1..=3000u64).map(|id| (group(id), vec![7; 100].into())).collect();
    let scan = look(&fs, &options()).scan;
    let is_it = |file: &&FileReport| file.generation.0 == number;
    let verdict = scan.files.iter().find(is_it).map(|file| file.verdict);
    assert_eq!(verdict, Some(Verdict::NeverExisted), "{:?}", fs.files());
    let again = scan.unproven().to_vec();
    let writer = Writer::resume(scan, options(), many.clone(), again);
    let mut disk = Disk { fs, options: options(), writer, now: 0 };
    disk.settle();
    for _ in 0..4 {
        disk.writer.roll(many.clone());
        disk.writer.release(disk.writer.generation());
        disk.settle();
    }
    let found = disk.find();
    assert!(found.scan.damage.is_empty(), "{:?}: {}", disk.fs.files(), found.words());
    assert!(found.seen.files[0].0 > number, "{:?}", disk.fs.files());
}

/// A start that was cut off behind the first batch of its file, before the link to it; the next
/// one begins.
fn unlinked(disk: Disk) -> Disk {
    assert_eq!(ready(&disk), 2, "else the file before is replaced: {:?}", disk.fs.files());
    let newest = disk.writer.generation().next();
    for step in 1.. {
        let mut start = Disk::begin(disk.fs.kill(), options(), 0).0;
        start.fs.crash_at(start.fs.op_count() + step);
        assert!(start.try_settle().is_err(), "no step is between the file and its link");
        let fs = start.fs.kill();
        fs.set_capacity(Some(fs.used()));
        let (next, found) = Disk::begin(fs, options(), 0);
        if found.newest().generation == newest && !found.scan.files.iter().any(|file| file.linked) {
            return next;
        }
    }
    unreachable!("a start ends")
}

fn must_miss_the_newest(mut disk: Disk, story: &str) {
    disk.write(&[append(3, 1, 1, 100)]);
    disk.fs.remove_file(&disk.newest_file()).unwrap();
    assert!(!disk.find().scan.damage.is_empty(), "{story}: {:?}", disk.fs.files());
}

#[test]
fn w35_a_replaced_file_is_kept_until_the_next_one_is_seen_on_the_device() {
    let record = append(2, 5, 1, 100);
    let mut disk = in_turn(4);
    disk.write(std::slice::from_ref(&record));
    disk.fs.set_capacity(Some(disk.fs.used()));
    disk.seal();
    let replaced = disk.newest_file();
    let (mut next, _) = Disk::begin(disk.fs.kill(), options(), 0);
    run_until(&mut next, Writer::is_ready);
    assert_ne!(next.newest_file(), replaced);
    // The device acknowledged the next file's first batch and has it not.
    next.zero(2, 0..8);
    next.settle();
    assert!(next.writer.stats().read_back_failures > 0);
    assert!(next.fs.exists(&replaced).unwrap(), "{:?}", next.fs.files());
    let found = look(&next.fs.kill(), &options());
    assert!(
        found.seen.has(&record),
        "{:?} {} {:#?}",
        next.fs.files(),
        found.words(),
        found.scan.files
    );
}

#[test]
fn w35_a_damaged_file_is_not_replaced_and_goes_on_to_show_what_it_lost() {
    let mut disk = in_turn(4);
    let lost = append(2, 5, 1, 3000);
    let at = disk.write(std::slice::from_ref(&lost));
    disk.write(&[append(3, 1, 1, 100)]);
    let (block, file) = (disk.block_of(at), disk.newest_file());
    disk.flip(block, 2000);
    disk.fs.set_capacity(Some(disk.fs.used()));
    let (disk, found) = disk.reboot();
    assert!(!found.scan.damage.is_empty());
    assert!(disk.fs.exists(&file).unwrap(), "{:?}", disk.fs.files());
    assert!(!disk.find().scan.damage.is_empty(), "told again by the next start");
}
