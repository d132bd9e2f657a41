//! Full disks.

use refloat_types::{Entry, EntryId, EntryKind, Index, LogOp, Now, Term};
use refloat_vfs::{SimFs, Vfs};
use refloat_wal::*;

use crate::disk::*;

#[test]
fn w16_a_full_disk_keeps_room_for_votes_and_service_resumes_by_itself() {
    let mut options = options();
    options.file_size = 64 * 4096;
    let mut disk = Disk::boot(SimFs::new(), options.clone()).0;
    // One file in use, one prepared; not a byte more.
    disk.fs.set_capacity(Some(disk.fs.used()));
    let mut acked = Vec::new();
    let mut index = 1;
    let mut write = |disk: &mut Disk| {
        let record = append(1, index, 1, 3000);
        if !disk.writer.fits(&[record.as_ref()]) {
            disk.writer.roll(checkpoint(3));
        }
        let at = disk.submit(std::slice::from_ref(&record))?;
        disk.settle();
        assert!(disk.writer.durable() >= at, "what was taken becomes durable");
        index += 1;
        acked.push(record);
        Ok(())
    };
    let full = loop {
        if let Err(error) = write(&mut disk) {
            break error;
        }
    };
    assert!(matches!(full, SubmitError::NoSpace { .. }), "{full:?}");
    assert!(full.is_retryable());
    assert!(disk.writer.stats().no_space > 0);
    // Votes still go.
    let vote = state(1, "voted in a full house");
    assert!(disk.writer.fits(&[vote.as_ref()]));
    disk.write(std::slice::from_ref(&vote));
    assert!(write(&mut disk).is_err());
    // A start does not need space either: the leftover of the pool is not there, so it waits,
    // and goes on when there is room.
    disk.fs.set_capacity(None);
    disk.now = disk.writer.wake_at().expect("it tries again by itself").0.max(disk.now + 2_000_000);
    disk.settle();
    for _ in 0..40 {
        write(&mut disk).expect("space returned");
    }
    let (_, found) = disk.reboot();
    assert!(found.scan.damage.is_empty(), "{}", found.words());
    assert!(acked.iter().all(|record| found.seen.has(record)));
    assert!(found.seen.has(&vote));
}

#[test]
fn w16_a_start_on_a_full_disk_uses_the_prepared_file() {
    let mut disk = Disk::new();
    disk.write(&[append(1, 1, 1, 10)]);
    disk.fs.set_capacity(Some(disk.fs.used()));
    let (mut disk, _) = disk.reboot();
    disk.write(&[append(1, 2, 1, 10)]);
}

/// A disk without a byte left behind a log of a few files.
pub fn full_disk(options: &Options) -> Disk {
    let mut disk = Disk::with(options.clone());
    disk.write(&[append(1, 1, 1, 100)]);
    disk.fs.set_capacity(Some(disk.fs.used()));
    disk
}

/// Files that nobody uses and that are wholly prepared.
pub fn ready(disk: &Disk) -> usize {
    let is_ready = |path: &std::path::Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("pool-") && !name.contains("part")
    };
    disk.fs.files().keys().filter(|path| is_ready(path)).count()
}

/// Runs what is due, writes first, until a condition holds.
pub fn run_until(disk: &mut Disk, holds: impl Fn(&Writer) -> bool) {
    while !holds(&disk.writer) {
        let job = disk.writer.poll(Now(0)).expect("a start and a write need no space");
        let done = job.run(&disk.fs);
        disk.writer.done(Now(0), done).unwrap();
    }
}

/// Runs what a start runs before it says that it is there.
fn start(disk: &mut Disk, story: &str) {
    while !disk.writer.is_ready() || !disk.writer.knows_space() {
        let job = disk.writer.poll(Now(disk.now));
        let job =
            job.unwrap_or_else(|| panic!("{story}: no file for a start: {:#?}", disk.fs.files()));
        let done = job.run(&disk.fs);
        disk.writer.done(Now(disk.now), done).unwrap_or_else(|e| panic!("{story}: {e}"));
    }
}

fn numbered(disk: &Disk) -> usize {
    let is_log = |path: &&std::path::PathBuf| path.extension().is_some_and(|e| e == "wal");
    disk.fs.files().keys().filter(is_log).count()
}

#[test]
fn w35_a_full_disk_stops_no_start_however_often_the_node_is_killed() {
    for settle in [true, false] {
        let mut disk = full_disk(&options());
        // Entries until they are refused, so that the files before hold what cannot go.
        let mut acked = Vec::new();
        for index in 2.. {
            let record = append(1, index, 1, 9000);
            if !disk.writer.fits(&[record.as_ref()]) {
                disk.roll();
            }
            match disk.submit(std::slice::from_ref(&record)) {
                Ok(_) => disk.settle(),
                Err(error) => {
                    assert!(matches!(error, SubmitError::NoSpace { .. }), "{error:?}");
                    break;
                }
            }
            acked.push(record);
        }
        assert!(acked.len() > 15, "{}", acked.len());
        assert!(ready(&disk) >= 1, "what brings entries takes not the last file");
        let (bytes, files) = (disk.fs.used(), numbered(&disk));
        for start in 0..60u64 {
            let fs = match start % 3 {
                0 => disk.fs.power_cut(|_| refloat_vfs::Fate::Lost),
                _ => disk.fs.kill(),
            };
            // What the power took is somebody else's now.
            fs.set_capacity(Some(bytes.min(fs.used())));
            let (begun, found) = Disk::begin(fs, options(), 0);
            disk = begun;
            assert!(found.scan.damage.is_empty(), "start {start}: {}", found.words());
            for record in &acked {
                assert!(found.seen.has(record), "start {start} lost {record:?}");
            }
            // Either all that is due is done before the next kill, or the start alone.
            while settle || !disk.writer.is_ready() || !disk.writer.knows_space() {
                let Some(job) = disk.writer.poll(Now(0)) else { break };
                let done = job.run(&disk.fs);
                disk.writer.done(Now(0), done).unwrap();
            }
            assert!(disk.writer.is_ready(), "start {start} found no file");
            // A little of everything still goes.
            let vote = state(1, &format!("vote {start}"));
            let empty = append(2, 1 + start, 1, 0);
            let at = disk.submit(&[vote.clone(), empty.clone()]).expect("no room for a vote");
            while disk.writer.durable() < at {
                let job = disk.writer.poll(Now(0)).expect("a write is due");
                let done = job.run(&disk.fs);
                disk.writer.done(Now(0), done).unwrap();
            }
            acked.push(empty);
            // More than could be said again would leave the next start without a file.
            let more = append(3, 1 + start, 1, 160_000);
            let refused = disk.submit(std::slice::from_ref(&more)).unwrap_err();
            assert!(matches!(refused, SubmitError::NoSpace { .. }), "{refused:?}");
            assert!(numbered(&disk) <= files + 3, "start {start}: {:?}", disk.fs.files());
        }
        disk.fs.set_capacity(None);
        disk.now = 10_000_000;
        disk.settle();
        disk.write(&[append(1, 9000, 1, 60_000)]);
    }
}

#[test]
fn w35_a_full_disk_never_stops_votes_and_deletions() {
    let mut disk = full_disk(&options());
    disk.write(&[state(2, "created")]);
    let (mut votes, files) = (0, numbered(&disk));
    for term in 0..900u64 {
        let vote = state(1, &format!("vote {term} {}", "v".repeat(600)));
        if !disk.writer.fits(&[vote.as_ref()]) {
            disk.roll();
        }
        votes += u64::from(disk.submit(std::slice::from_ref(&vote)).is_ok());
        disk.settle();
    }
    assert_eq!(votes, 900);
    assert!(disk.writer.generation().0 > 10, "many files were begun");
    assert!(numbered(&disk) <= files + 3, "{:?}", disk.fs.files());
    let (disk, found) = disk.reboot();
    assert!(found.scan.damage.is_empty(), "{}", found.words());
    assert!(found.seen.has(&append(1, 1, 1, 100)), "from before the disk was full");
    assert!(disk.writer.is_ready());
}

#[test]
fn a_checkpoint_larger_than_the_files_gets_a_longer_file() {
    let mut options = options();
    options.file_size = 16 * 4096;
    let mut disk = Disk::with(options.clone());
    let large: Vec<_> = (1..=600u64).map(|g| (group(g), vec![7; 100].into())).collect();
    disk.writer.roll(large.clone());
    disk.settle();
    assert!(disk.fs.files()[&disk.newest_file()] > 16 * 4096);
    disk.write(&[append(1, 1, 1, 20_000)]);
    disk.roll();
    let found = disk.find();
    assert!(found.scan.damage.is_empty(), "{}", found.words());
    for (group, body) in large {
        assert!(found.seen.has(&Record::State { group, body }));
    }
}

/// Found by the simulator: two starts in a row that were cut off behind the first batch of their
/// file, before its link, took a file each, and a disk that had filled up while the node ran had
/// none for the third. Every step of the first start and of the second one, on what a kill or a
/// power cut leaves of it.
#[test]
fn w35_starts_that_are_cut_off_one_after_the_other_on_a_full_disk_leave_the_next_one_a_file() {
    use refloat_vfs::Fate;
    let acked = [append(1, 1, 1, 100), append(1, 2, 1, 20_000)];
    let cut_off = |fs: SimFs, steps: u64, fate: Option<Fate>, story: &str| {
        let (mut disk, found) = Disk::begin(fs, options(), 0);
        assert!(found.scan.damage.is_empty(), "{story}: {}", found.words());
        assert!(acked.iter().all(|record| found.seen.has(record)), "{story}: lost");
        disk.fs.crash_at(disk.fs.op_count() + steps);
        let went_through = loop {
            if disk.writer.is_ready() {
                break true;
            }
            let job = disk.writer.poll(Now(0));
            let job = job.unwrap_or_else(|| panic!("{story}: no file: {:#?}", disk.fs.files()));
            let done = job.run(&disk.fs);
            if disk.writer.done(Now(0), done).is_err() {
                break false;
            }
        };
        let fs = match fate {
            Some(fate) => disk.fs.power_cut(|_| fate),
            None => disk.fs.kill(),
        };
        fs.set_capacity(Some(fs.used()));
        (fs, went_through)
    };
    let mut cut = 0;
    for fates in [[None, None], [None, Some(Fate::Lost)], [Some(Fate::Kept), None]] {
        for first in 0..40 {
            for second in 0..40 {
                let story = format!("{fates:?}, steps {first} and {second}");
                let mut disk = full_disk(&options());
                disk.write(&acked[1..]);
                let (fs, whole_first) = cut_off(disk.fs.kill(), first, fates[0], &story);
                let (mut fs, whole_second) = cut_off(fs, second, fates[1], &story);
                for (steps, fate) in [(second, fates[0]), (first, fates[1]), (second, fates[1])] {
                    fs = cut_off(fs, steps, fate, &story).0;
                }
                let (mut disk, found) = Disk::begin(fs, options(), 0);
                assert!(acked.iter().all(|record| found.seen.has(record)), "{story}: lost");
                start(&mut disk, &story);
                cut += u32::from(!whole_first && !whole_second);
                if whole_first && whole_second {
                    break;
                }
            }
        }
    }
    assert!(cut > 50, "{cut}");
}

/// A disk may fill up at any moment behind a start, while the next file is being prepared, and the
/// node may be killed at any moment behind that, with much that was acknowledged in between.
#[test]
fn w35_a_disk_that_fills_up_right_after_a_start_stops_no_start() {
    for jobs_before_full in 0..24 {
        let mut disk = Disk::new();
        let (mut acked, mut index) = (Vec::new(), 1);
        for round in 0..30 {
            let story = format!("{jobs_before_full} jobs, start {round}");
            // Every few starts there is room, for as long as a few jobs take.
            let is_roomy = round % 6 == 0;
            for _ in 0..jobs_before_full {
                let record = append(1, index, 1, 60_000);
                let fits = disk.writer.fits(&[record.as_ref()]);
                if is_roomy && fits && disk.submit(std::slice::from_ref(&record)).is_ok() {
                    index += 1;
                    acked.push((disk.writer.generation(), record));
                }
                let Some(job) = disk.writer.poll(Now(0)) else { break };
                let done = job.run(&disk.fs);
                disk.writer.done(Now(0), done).unwrap();
            }
            let durable = disk.writer.durable().generation;
            acked.retain(|(generation, _)| *generation <= durable);
            let fs = match round % 2 {
                0 => disk.fs.kill(),
                _ => disk.fs.power_cut(|_| refloat_vfs::Fate::Lost),
            };
            let full = (round % 6 != 5).then(|| fs.used());
            fs.set_capacity(full);
            let (next, found) = Disk::begin(fs, options(), 0);
            disk = next;
            assert!(found.scan.damage.is_empty(), "{story}: {}", found.words());
            start(&mut disk, &story);
        }
        assert!(acked.len() * 2 >= jobs_before_full, "{jobs_before_full}: {}", acked.len());
    }
}

/// The last of two files is in use, the next one has its space and is not filled yet, and much is
/// acknowledged: the disk fills up before the file is ready.
#[test]
fn w35_space_that_was_claimed_for_a_next_file_is_there_for_the_next_starts() {
    for fate in [None, Some(refloat_vfs::Fate::Lost), Some(refloat_vfs::Fate::Kept)] {
        let (mut disk, _) = Disk::begin(Disk::new().kill(), options(), 0);
        start(&mut disk, "with room");
        assert_eq!(ready(&disk), 1, "{:?}", disk.fs.files());
        let acked: Vec<Record> = (1..=3).map(|index| append(1, index, 1, 60_000)).collect();
        for record in &acked {
            let at = disk.submit(std::slice::from_ref(record)).unwrap();
            run_until(&mut disk, |writer| writer.durable() >= at);
        }
        for starts in 0..8 {
            let fs = match fate {
                Some(fate) => disk.fs.power_cut(|_| fate),
                None => disk.fs.kill(),
            };
            fs.set_capacity(Some(fs.used()));
            let (next, found) = Disk::begin(fs, options(), 0);
            disk = next;
            assert!(acked.iter().all(|record| found.seen.has(record)), "{}", found.words());
            start(&mut disk, &format!("{fate:?}, start {starts}"));
        }
    }
}

#[test]
fn what_a_kill_left_of_a_file_being_prepared_is_gone_on_with_unless_it_may_be_another_file() {
    let mut disk = Disk::new();
    let part = std::path::Path::new(DIR).join("pool-90.part.tmp");
    let len = options().file_size as usize;
    disk.fs.put(&part, &vec![7; len][..]).unwrap();
    disk.fs.remove_file(&disk.fs.files().into_keys().find(|f| is_pool(f)).unwrap()).unwrap();
    disk.fs.set_capacity(Some(disk.fs.used()));
    disk = Disk::boot(disk.fs.kill(), options()).0;
    assert!(!disk.fs.exists(&part).unwrap());
    assert_eq!(ready(&disk), 2, "{:?}", disk.fs.files());
    // A second name of a file in use, as a failed directory sync may leave it; a short one; and
    // one that no writer of whole blocks can have made.
    disk.write(&[append(1, 1, 1, 100)]);
    disk.fs.set_capacity(None);
    disk.fs.rename(&disk.newest_file(), &part).unwrap();
    let second = disk.fs.power_cut(|unit| match unit {
        refloat_vfs::Unit::Renamed { .. } => refloat_vfs::Fate::BothNames,
        _ => refloat_vfs::Fate::Kept,
    });
    assert!(second.exists(&part).unwrap() && second.exists(&disk.newest_file()).unwrap());
    second.put(std::path::Path::new(DIR).join("pool-91.part.tmp"), &[0; 4096][..]).unwrap();
    let odd = vec![0; len + 100];
    second.put(std::path::Path::new(DIR).join("pool-92.part.tmp"), &odd[..]).unwrap();
    let (disk, _) = Disk::boot(second, options());
    assert!(disk.find().seen.has(&append(1, 1, 1, 100)));
    let names: Vec<_> = disk.fs.files().into_keys().collect();
    let is_left = |name: &std::path::PathBuf| {
        ["pool-90.part", "pool-91.part", "pool-92.part"]
            .iter()
            .any(|part| name.to_string_lossy().contains(part))
    };
    assert!(!names.iter().any(is_left), "{names:?}");
}

fn is_pool(path: &std::path::Path) -> bool {
    path.to_string_lossy().contains("pool-")
}

#[test]
fn w35_entries_take_no_other_file_before_it_is_known_whether_there_is_space() {
    let mut disk = Disk::new();
    disk.settle();
    let spares = ready(&disk);
    assert_eq!(spares, 2, "{:?}", disk.fs.files());
    disk.fs.set_capacity(Some(disk.fs.used()));
    // Background work, which would find the disk full, never has its turn: writes come first.
    let mut index = 1;
    loop {
        match disk.submit(&[append(1, index, 1, 60_000)]) {
            Ok(at) => {
                index += 1;
                while disk.writer.durable() < at {
                    let job = disk.writer.poll(Now(disk.now)).expect("a write is due");
                    let done = job.run(&disk.fs);
                    disk.writer.done(Now(disk.now), done).unwrap();
                }
            }
            Err(SubmitError::Full { .. }) => {
                disk.writer.roll(checkpoint(3));
            }
            Err(error) => {
                assert!(matches!(error, SubmitError::NotYet { .. }), "{error}");
                assert!(disk.writer.takes(1, 60_000).is_err(), "and need not be let in");
                break;
            }
        }
    }
    assert!(index > 6 && ready(&disk) == 1, "{index}: {:?}", disk.fs.files());
    for starts in 0..6 {
        let fs = disk.fs.kill();
        fs.set_capacity(Some(fs.used()));
        disk = Disk::begin(fs, options(), 0).0;
        start(&mut disk, &format!("start {starts} with what was left"));
    }
}

#[test]
fn entries_that_outrun_the_preparation_of_files_wait_for_it_where_there_is_space() {
    let mut disk = Disk::new();
    disk.settle();
    // Of each piece of background work only the first, which claims the space, comes to its end
    // before all files that are ready are full.
    let (mut index, mut files, mut claimed, mut held) = (1, 0, false, None);
    let refused = loop {
        match disk.submit(&[append(1, index, 1, 60_000)]) {
            Ok(_) => index += 1,
            Err(SubmitError::Full { .. }) => {
                files += 1;
                disk.writer.roll(checkpoint(3));
            }
            Err(error) => break error,
        }
        while let Some(job) = disk.writer.poll(Now(disk.now)) {
            if job.is_background() && claimed {
                held = Some(job);
                continue;
            }
            claimed |= job.is_background();
            let done = job.run(&disk.fs);
            disk.writer.done(Now(disk.now), done).unwrap();
        }
    };
    // Not for want of space: nobody knows yet whether there is more.
    assert!(matches!(refused, SubmitError::NotYet { .. }) && refused.is_retryable(), "{refused}");
    assert_eq!(files, 2);
    let done = held.expect("a file is being prepared").run(&disk.fs);
    disk.writer.done(Now(disk.now), done).unwrap();
    disk.settle();
    assert!(disk.writer.takes(1, 60_000).is_ok());
    disk.roll();
    disk.write(&[append(1, index, 1, 60_000)]);
}

#[test]
fn w16_what_is_said_to_be_taken_is_taken_and_a_full_disk_says_no_in_the_end() {
    for len in [1, 700, 9_000, 40_000] {
        let options = options();
        let mut disk = full_disk(&options);
        let mut index = 2;
        while disk.writer.takes(3, 3 * len).is_ok() {
            let three: Vec<Record> =
                (index..index + 3).map(|index| append(1, index, 1, len)).collect();
            match disk.submit(&three) {
                Ok(_) => index += 3,
                Err(SubmitError::Full { .. }) => drop(disk.writer.roll(checkpoint(3))),
                Err(error) => panic!("{error} at entry {index} of {len} bytes"),
            }
            if index % 2 == 0 {
                disk.settle();
            }
        }
        disk.settle();
        assert!(disk.writer.takes(3, 3 * len).is_err());
        // An empty entry and a change of members are no load for it.
        disk.write(&[append(1, index, 1, 0)]);
        let payload = vec![7; 26].into();
        let id = EntryId::new(Term(1), Index(index + 1));
        let entries = vec![Entry::new(id, EntryKind::Config, payload)];
        let prev = EntryId::new(Term(1), Index(index));
        disk.write(&[Record::Log { group: group(1), op: LogOp::Append { prev, entries } }]);
        disk.fs.set_capacity(None);
        disk.now += 2_000_000;
        disk.settle();
        assert!(disk.writer.takes(3, 3 * len).is_ok(), "{len}: it goes on");
    }
}
