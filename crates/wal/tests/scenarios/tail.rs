//! The end of the newest file: good, unproven, torn, suspect.

use refloat_types::{EntryId, Index, LogOp, Now, Term};
use refloat_vfs::{InFlight, Vfs};
use refloat_wal::*;

use crate::disk::*;

#[test]
fn what_was_written_is_read_in_order() {
    let mut disk = Disk::new();
    let mut written = Vec::new();
    for n in 0..5 {
        let batch = vec![append(1, n * 3 + 1, 3, 700), state(2, "vote"), append(2, n + 1, 1, 0)];
        disk.write(&batch);
        written.extend(batch);
    }
    let found = disk.find();
    assert_eq!(found.seen.data(), written);
    assert_eq!(found.verdict(), Verdict::Unproven);
    assert_eq!(found.scan.unproven(), &written[12..], "the last batch, whole");
    assert_eq!(found.seen.trust_of(&written[11]), Some(Trust::Proven));
    assert!(found.scan.damage.is_empty(), "{}", found.words());
    disk.seal();
    assert_eq!(disk.find().verdict(), Verdict::Good);
    assert!(disk.find().scan.unproven().is_empty(), "the seal proves the last batch");
    let (disk, found) = disk.reboot();
    assert_eq!(found.seen.data(), written);
    let (_, again) = disk.reboot();
    assert_eq!(again.seen.data(), written, "nothing is written twice that a seal proved");
}

#[test]
fn large_payloads_and_large_directories_are_read_back() {
    let mut options = options();
    options.file_size = 2 << 20;
    let mut disk = Disk::with(options);
    let many: Vec<Record> = (0..600).map(|g| append(g, 1, 1, 200)).collect();
    for batch in [
        vec![append(1, 1, 30, 4096)],
        vec![append(1, 31, 1, 65_535), append(2, 1, 1, 1)],
        vec![append(1, 32, 1, 65_536)],
        many,
        vec![append(1, 33, 2, 100_000), append(3, 1, 5000, 1), append(4, 1, 5000, 20)],
    ] {
        disk.write(&batch);
        disk.seal();
        let found = disk.find();
        assert!(batch.iter().all(|record| found.seen.has(record)));
        assert!(found.scan.damage.is_empty(), "{}", found.words());
    }
}

/// Every byte of the last batch from which on the disk has something else.
fn cut_last_batch(from: impl Fn(&mut [u8], usize)) -> impl Iterator<Item = (usize, Found, Seen)> {
    let mut disk = Disk::new();
    let acked = vec![append(1, 1, 1, 100), append(2, 1, 2, 4000)];
    disk.write(&acked);
    let at = disk.write(&[append(1, 2, 3, 3000), state(3, "a vote")]);
    let start = disk.block_of(at) as usize * 4096;
    let end = (disk.block_of(at) + 3) as usize * 4096;
    let before = disk.find().seen;
    let path = disk.newest_file();
    let whole = disk.fs.contents(&path).unwrap();
    (start..end).map(move |cut| {
        let mut bytes = whole.clone();
        from(&mut bytes[..end], cut);
        let fs = disk.fs.fork();
        fs.put(&path, &bytes).unwrap();
        let found = look(&fs, &disk.options);
        assert!(acked.iter().all(|record| found.seen.has(record)), "cut at {cut}");
        (cut - start, found, before.clone())
    })
}

#[test]
fn w02_last_batch_cut_by_zeros_at_every_byte_is_torn() {
    for (cut, found, before) in cut_last_batch(|bytes, cut| bytes[cut..].fill(0)) {
        let (torn, words) = (found.verdict(), found.words());
        assert!(found.scan.damage.is_empty(), "cut at {cut}: {words}");
        if found.seen == before {
            assert!(cut > 3 * 4096 - 5, "cut at {cut} and still whole");
        } else if cut <= 508 {
            assert_eq!(torn, Verdict::Unproven, "cut at {cut}: nothing of it was there");
        } else {
            assert!(matches!(torn, Verdict::Torn { .. }), "cut at {cut}: {torn:?}");
        }
    }
}

#[test]
fn w02_last_batch_cut_by_garbage_is_suspect_and_never_torn() {
    let garbage = |bytes: &mut [u8], cut: usize| {
        let mut x = cut as u64 | 1;
        for byte in &mut bytes[cut..] {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            *byte = (x >> 33) as u8;
        }
    };
    for (cut, found, before) in cut_last_batch(garbage) {
        if found.seen != before {
            assert_eq!(found.verdict(), Verdict::Suspect, "cut at {cut}");
            assert_eq!(found.scan.damage.len(), 1, "cut at {cut}");
        }
        if (2048..3 * 4096).contains(&cut) {
            let vote = state(3, "a vote");
            assert!(found.seen.has(&vote), "cut at {cut}: the directory says who voted");
            assert!(found.scan.unproven().contains(&vote), "and it is to be written again");
        }
    }
}

#[test]
fn w02_last_batch_cut_by_the_end_of_the_file_is_damage() {
    let mut disk = Disk::new();
    disk.write(&[append(1, 1, 1, 100)]);
    let acked = append(2, 1, 2, 4000);
    let at = disk.write(std::slice::from_ref(&acked));
    let start = disk.block_of(at) * 4096;
    for len in (start..start + 3 * 4096).step_by(128) {
        let fs = disk.fs.fork();
        fs.corrupt(disk.newest_file(), |bytes| bytes.truncate(len as usize)).unwrap();
        let found = look(&fs, &disk.options);
        assert_eq!(found.verdict(), Verdict::Suspect, "cut to {len}");
        assert!(!found.scan.damage.is_empty(), "cut to {len}");
    }
    // Behind the end nobody is hurt, but it is said.
    let fs = disk.fs.fork();
    fs.corrupt(disk.newest_file(), |bytes| bytes.truncate(40 * 4096)).unwrap();
    let found = look(&fs, &disk.options);
    assert_eq!(found.verdict(), Verdict::Unproven);
    assert_eq!(found.scan.damage[0].kind, DamageKind::Missing);
    assert_eq!(found.scan.damage[0].owners, Owners::Known(Vec::new()));
    assert!(found.seen.has(&acked));
}

#[test]
fn w02_last_batch_cut_by_sectors_of_an_older_file_is_torn() {
    let (disk, at) = on_recycled_file();
    let start = disk.block_of(at) as usize * 4096;
    let path = disk.newest_file();
    let whole = disk.fs.contents(&path).unwrap();
    // The same place, one file earlier, carries the same kind of sectors.
    let old = old_bytes(&disk, whole.len());
    assert!(old[start..start + 3 * 4096].iter().any(|byte| *byte != 0));
    for cut in (start..start + 3 * 4096).step_by(512) {
        let mut bytes = whole.clone();
        bytes[cut..start + 3 * 4096].copy_from_slice(&old[cut..start + 3 * 4096]);
        let fs = disk.fs.fork();
        fs.put(&path, &bytes).unwrap();
        let found = look(&fs, &disk.options);
        assert!(found.scan.damage.is_empty(), "cut at {cut}: {}", found.words());
        match found.verdict() {
            Verdict::Unproven => assert_eq!(cut, start),
            verdict => assert!(matches!(verdict, Verdict::Torn { blocks: 3 }), "{verdict:?}"),
        }
    }
}

/// A log whose newest file was recycled, with a batch of three blocks over old ones.
fn on_recycled_file() -> (Disk, Lsn) {
    let mut disk = Disk::new();
    for index in 0..5 {
        for n in 0..12 {
            disk.write(&[append(1, index * 12 + n + 1, 2, 4000)]);
        }
        disk.roll();
        disk.writer.release(disk.writer.generation());
        disk.settle();
    }
    assert!(disk.writer.stats().recycled > 0, "{:?}", disk.writer.stats());
    disk.write(&[append(2, 1, 1, 10)]);
    let at = disk.write(&[append(1, 500, 3, 3000)]);
    (disk, at)
}

/// What a full file of an older number looks like: the pool's.
fn old_bytes(disk: &Disk, len: usize) -> Vec<u8> {
    let old = disk.fs.files().into_keys().find(|path| path.to_string_lossy().contains("pool"));
    let bytes = disk.fs.contents(old.expect("a recycled file waits")).unwrap();
    assert_eq!(bytes.len(), len);
    bytes
}

#[test]
fn w04_first_of_two_unsynced_blocks_lost_and_second_kept_is_torn() {
    let mut disk = Disk::new();
    let acked = append(1, 1, 1, 100);
    disk.write(std::slice::from_ref(&acked));
    let at = disk.write(&[append(2, 1, 1, 5000)]);
    disk.zero(disk.block_of(at), 0..8);
    let found = disk.find();
    assert!(matches!(found.verdict(), Verdict::Torn { blocks: 2 }), "{:?}", found.verdict());
    assert!(found.scan.damage.is_empty(), "{}", found.words());
    // The fragment proves what came before it: nothing needs to be written again.
    assert_eq!(found.seen.trust_of(&acked), Some(Trust::Proven));
    assert!(found.scan.unproven().is_empty());
}

#[test]
fn w05_block_lost_in_the_middle_of_the_last_unsynced_batch_is_torn() {
    for lost in 0..5 {
        let mut disk = Disk::new();
        disk.write(&[append(1, 1, 1, 100)]);
        let at = disk.write(&[append(2, 1, 2, 9000)]);
        disk.zero(disk.block_of(at) + lost, 0..8);
        let found = disk.find();
        assert!(matches!(found.verdict(), Verdict::Torn { .. }), "{:?}", found.verdict());
        assert!(found.scan.damage.is_empty(), "{}", found.words());
        assert!(!found.seen.has(&append(2, 1, 2, 9000)), "accepted whole or not at all");
    }
}

#[test]
fn w13_old_batches_of_a_recycled_file_are_never_replayed() {
    let (disk, _) = on_recycled_file();
    let found = disk.find();
    let newest = disk.writer.generation();
    let in_newest = found.seen.records.iter().filter(|(at, ..)| at.generation == newest).count();
    assert_eq!(in_newest, 3 + 2, "the checkpoint and two batches, and nothing behind");
    assert_eq!(found.verdict(), Verdict::Unproven);
    assert!(found.scan.damage.is_empty(), "{}", found.words());
    // The old batches stand there whole: under the old number they would be read.
    let old = old_bytes(&disk, 64 * 4096);
    let here = disk.fs.contents(disk.newest_file()).unwrap();
    let tail = 20 * 4096..30 * 4096;
    assert!(here[tail.clone()].iter().any(|byte| *byte != 0) && old[tail].iter().any(|b| *b != 0));
}

#[test]
fn s16_kill_inside_a_write_with_zeros_behind_drops_only_what_was_never_acked() {
    for sectors in 0..16 {
        let mut disk = Disk::new();
        let acked = append(1, 1, 2, 300);
        disk.write(std::slice::from_ref(&acked));
        let lost = append(1, 3, 1, 7000);
        disk.submit(std::slice::from_ref(&lost)).unwrap();
        let job = disk.writer.poll(Now(disk.now)).expect("a write");
        disk.fs.crash_at(disk.fs.op_count());
        let done = job.run(&disk.fs);
        assert!(disk.writer.done(Now(disk.now), done).is_err(), "poisoned");
        let fs = disk.fs.kill_with(refloat_vfs::InFlight::Torn(sectors));
        let (disk, found) = Disk::boot(fs, options());
        let words = format!("{}", found.newest());
        assert!(found.seen.has(&acked) && !found.seen.has(&lost), "{words}");
        assert!(found.scan.damage.is_empty(), "{}", found.words());
        assert!(words.starts_with("/wal/0"), "the report names the file: {words}");
        if sectors > 0 {
            assert!(words.contains("never acknowledged are dropped"), "{words}");
        }
        assert!(disk.reboot().1.seen.has(&acked));
    }
}

#[test]
fn s17_a_second_reader_gets_the_same_verdict() {
    let mut disk = Disk::new();
    disk.write(&[append(1, 1, 2, 300)]);
    let at = disk.write(&[append(2, 1, 2, 9000)]);
    let block = disk.block_of(at);
    for hurt in 0..3 {
        let fs = disk.fs.fork();
        let edit = |bytes: &mut Vec<u8>| match hurt {
            0 => bytes[block as usize * 4096 + 4096..][..4096].fill(0),
            1 => bytes[block as usize * 4096 + 4096..][..4096].fill(0x5a),
            _ => bytes.truncate(block as usize * 4096 + 4096),
        };
        fs.corrupt(disk.newest_file(), edit).unwrap();
        let (first, second) = (look(&fs, &disk.options), look(&fs, &disk.options));
        assert_eq!(first.scan.files, second.scan.files);
        assert_eq!(first.scan.damage, second.scan.damage);
        assert_eq!(first.seen, second.seen);
        // And so does one who comes while the node makes its next file.
        let (mut booting, _) = Disk::begin(fs, options(), 0);
        while !booting.writer.is_ready() {
            let third = look(&booting.fs, &disk.options);
            assert_eq!(third.seen, first.seen);
            let job = booting.writer.poll(Now(0)).expect("work until it is ready");
            let done = job.run(&booting.fs);
            booting.writer.done(Now(0), done).unwrap();
        }
    }
}

#[test]
fn w25_acks_on_a_tail_read_from_the_page_cache_survive_a_power_cut() {
    let mut disk = Disk::new();
    disk.write(&[append(1, 1, 1, 100)]);
    let mut options = options();
    options.direct = false;
    let mut disk = Disk::boot(disk.kill(), options.clone()).0;
    // Written, not synced: the kill comes between the write and its sync.
    let unsynced = append(1, 2, 1, 200);
    disk.submit(std::slice::from_ref(&unsynced)).unwrap();
    let job = disk.writer.poll(Now(disk.now)).unwrap();
    disk.fs.crash_at(disk.fs.op_count() + 1);
    let done = job.run(&disk.fs);
    assert!(disk.writer.done(Now(disk.now), done).is_err());
    let (disk, found) = Disk::boot(disk.kill(), options.clone());
    assert_eq!(found.seen.trust_of(&unsynced), Some(Trust::Unproven));
    assert!(disk.writer.is_ready(), "from here on it may be acknowledged");
    for image in disk.fs.crash_images(200) {
        let found = look(&image, &options);
        assert!(found.seen.has(&unsynced), "{}", image.story());
        assert!(found.scan.damage.is_empty(), "{}: {}", image.story(), found.words());
    }
}

#[test]
fn w30_unproven_batches_are_written_again_before_anything_rests_on_them() {
    let mut disk = Disk::new();
    let last = append(1, 1, 1, 100);
    disk.write(std::slice::from_ref(&last));
    let fs = disk.kill();
    let (mut disk, found) = Disk::begin(fs, options(), 0);
    assert_eq!(found.scan.unproven(), std::slice::from_ref(&last));
    assert!(!disk.writer.is_ready());
    disk.settle();
    let found = disk.find();
    let copies: Vec<_> =
        found.seen.records.iter().filter(|(_, _, record, _)| *record == last).collect();
    assert_eq!(copies.len(), 1, "the old copy lies behind the linked end");
    assert_eq!(copies[0].0.generation, disk.writer.generation());
    // The link proves it now; the next start has nothing to write again.
    assert_eq!(copies[0].1, Trust::Proven);
    assert!(found.scan.unproven().is_empty());
}

#[test]
fn w14_a_batch_that_exactly_fills_the_file_is_good_and_the_next_start_goes_on() {
    let mut disk = Disk::new();
    let room = 64 - disk.block_of(disk.writer.durable()) - 2;
    // Grow the payload until the batch takes every block that is left.
    let fitting = (0..room as usize * 3968)
        .rev()
        .map(|len| append(1, 1, 1, len))
        .find(|record| disk.submit(std::slice::from_ref(record)).is_ok());
    let fitting = fitting.expect("some length fits");
    disk.settle();
    let at = disk.writer.durable();
    assert_eq!(disk.find().newest().end, 64 * 4096, "to the last block");
    assert_eq!(at.batch, 2);
    let more = append(1, 2, 1, 10);
    assert!(!disk.writer.fits(&[more.as_ref()]));
    assert!(matches!(disk.submit(std::slice::from_ref(&more)), Err(SubmitError::Full { .. })));
    disk.seal();
    let (mut disk, found) = disk.reboot();
    assert_eq!(found.verdict(), Verdict::Unproven, "no room was left for a seal");
    assert!(found.seen.has(&fitting));
    disk.write(std::slice::from_ref(&more));
    let (_, found) = disk.reboot();
    assert!(found.seen.has(&fitting) && found.seen.has(&more));
    assert!(found.scan.damage.is_empty(), "{}", found.words());
}

#[test]
fn w14_a_record_larger_than_a_file_is_refused_with_both_sizes() {
    let mut disk = Disk::new();
    let huge = append(1, 1, 1, 64 * 4096);
    assert!(disk.writer.fits(&[huge.as_ref()]), "rolling over would not help");
    let refused = disk.submit(std::slice::from_ref(&huge)).unwrap_err();
    let SubmitError::TooLarge { size, limit } = refused else { panic!("{refused:?}") };
    assert!(size > 64 * 4096 && limit < 64 * 4096);
    let words = refused.to_string();
    assert!(words.contains(&size.to_string()) && words.contains(&limit.to_string()), "{words}");
    disk.write(&[append(1, 1, 1, 10)]);
}

#[test]
fn malformed_records_are_refused_before_anything_is_taken() {
    let mut disk = Disk::new();
    let entries = vec![entry(5, 1, payload(1, 5)), entry(7, 1, payload(1, 5))];
    let gap = LogOp::Append { prev: EntryId::new(Term(1), Index(4)), entries: entries.clone() };
    let bad = Record::Log { group: group(1), op: gap };
    let refused = disk.submit(&[state(2, "x"), bad]).unwrap_err();
    assert_eq!(refused, SubmitError::Malformed { group: group(1), index: Index(7) });
    let fill = Record::Log { group: group(1), op: LogOp::Fill { entries } };
    disk.write(std::slice::from_ref(&fill));
    assert_eq!(disk.find().seen.data(), [fill], "a fill may have gaps");
}

#[test]
fn a_quiet_log_writes_one_seal_and_then_nothing() {
    let mut disk = Disk::new();
    disk.write(&[append(1, 1, 1, 10)]);
    disk.writer.seal_with(vec![(group(1), "commit 1".into())]);
    let due = disk.writer.wake_at().expect("a seal is due");
    assert!(due > Now(disk.now) && due <= Now(disk.now + disk.options.seal_after));
    disk.settle();
    assert_eq!(disk.writer.stats().seals, 0, "not before its time");
    disk.now = due.0;
    disk.settle();
    let ops = disk.fs.op_count();
    assert_eq!(disk.writer.stats().seals, 1);
    assert_eq!(disk.writer.wake_at(), None);
    disk.now += 10_000_000;
    disk.settle();
    assert_eq!(disk.fs.op_count(), ops, "an idle log writes nothing");
    let found = disk.find();
    assert!(found.seen.has(&state(1, "commit 1")), "the seal carries the hints");
    assert!(found.scan.unproven().is_empty(), "and nothing rests on them");
}

#[test]
fn a_closed_log_has_nothing_to_write_again() {
    let mut disk = Disk::new();
    disk.submit(&[append(1, 1, 1, 10)]).unwrap();
    disk.writer.close();
    assert!(!disk.writer.is_idle());
    disk.settle();
    assert!(disk.writer.is_idle());
    assert_eq!(disk.submit(&[append(1, 2, 1, 10)]), Err(SubmitError::Closed));
    let (_, found) = disk.reboot();
    assert!(found.newest().closed);
    assert_eq!(found.verdict(), Verdict::Good);
    assert!(found.scan.unproven().is_empty());
    assert!(found.seen.has(&append(1, 1, 1, 10)));
}

#[test]
fn one_batch_is_unsynced_at_any_time_and_the_next_one_gathers() {
    let mut disk = Disk::new();
    let first = disk.submit(&[append(1, 1, 1, 10)]).unwrap();
    let job = disk.writer.poll(Now(disk.now)).expect("a write");
    assert!(!job.is_background());
    let second = disk.submit(&[append(1, 2, 1, 10)]).unwrap();
    assert_eq!(disk.submit(&[append(2, 1, 1, 10)]).unwrap(), second, "group commit");
    assert_eq!(second.batch, first.batch + 1);
    assert!(disk.writer.poll(Now(disk.now)).is_none(), "the first is not synced yet");
    let done = job.run(&disk.fs);
    assert!(disk.writer.durable() < first, "durable is what was given back");
    disk.writer.done(Now(disk.now), done).unwrap();
    assert_eq!(disk.writer.durable(), first);
    disk.settle();
    assert_eq!(disk.writer.durable(), second);
}

/// The buffer that gathers a batch ends where a batch takes no more records; one submit may be
/// larger, and a kernel writes it in pieces.
#[test]
fn w03_a_batch_larger_than_the_write_buffer_killed_between_its_writes_is_whole_or_nothing() {
    let mut options = options();
    options.file_size = 40 << 20;
    options.direct = false;
    let mut disk = Disk::with(options.clone());
    let acked = append(2, 1, 1, 3000);
    disk.write(std::slice::from_ref(&acked));
    let large = append(1, 1, 10, 1 << 20);
    let next = append(2, 2, 1, 100);
    disk.submit(std::slice::from_ref(&large)).unwrap();
    disk.submit(std::slice::from_ref(&next)).unwrap();
    disk.fs.crash_at(disk.fs.op_count());
    assert!(disk.try_settle().is_err());
    let sectors = (10 << 20) / 512;
    for written in [0, 1, 7, 8, 9, 2048, sectors / 2, sectors, sectors + sectors / 25] {
        let found = look(&disk.fs.kill_with(InFlight::Torn(written)), &options);
        assert!(found.scan.damage.is_empty(), "{written} sectors: {}", found.words());
        assert!(found.seen.has(&acked));
        assert!(!found.seen.has(&next), "it was to follow");
        let is_torn = matches!(found.verdict(), Verdict::Torn { .. });
        let whole = found.seen.has(&large);
        assert!(is_torn || whole || written < 8, "{written} sectors: {:?}", found.verdict());
        assert_eq!(found.seen.data().len(), 1 + usize::from(whole), "nothing of it by halves");
    }
}

/// Batches, a seal, then zeros from one of them on; what a scan says with and without a witness.
#[test]
fn w02_an_end_of_zeros_with_its_seal_is_damage_where_somebody_remembers_what_stood_there() {
    let mut disk = Disk::new();
    let ats: Vec<Lsn> = (1..=5).map(|n| disk.write(&[append(1, n, 1, 300)])).collect();
    disk.seal();
    let path = disk.newest_file();
    for (n, at) in ats.iter().enumerate().skip(1) {
        let fs = disk.fs.fork();
        let from = disk.block_of(*at) as usize * 4096;
        fs.corrupt(&path, |bytes| bytes[from..].fill(0)).unwrap();
        assert!(look(&fs, &disk.options).scan.damage.is_empty(), "nothing tells it");
        for (witnessed, witness) in ats.iter().enumerate() {
            let mut options = disk.options.clone();
            options.witnessed = *witness;
            let found = look(&fs, &options);
            let is_lost = witnessed >= n;
            assert_eq!(found.verdict() == Verdict::Rotten, is_lost, "{}", found.words());
            assert_eq!(found.scan.damage.len(), usize::from(is_lost), "{}", found.words());
            assert!(found.scan.damage.iter().all(|damage| damage.owners == Owners::Unknown));
            // What is left is as good as the witness says.
            let last = append(1, n as u64, 1, 300);
            let proven = witnessed + 1 >= n;
            let trust = if proven { Trust::Proven } else { Trust::Unproven };
            assert!(found.seen.trust_of(&last) == Some(trust), "{n}, {witnessed}");
        }
    }
}

#[test]
fn a_witness_of_what_is_there_or_of_an_older_file_changes_nothing() {
    let mut disk = Disk::new();
    let at = disk.write(&[append(1, 1, 1, 300)]);
    disk.write(&[append(1, 2, 1, 300)]);
    let (mut disk, _) = disk.reboot();
    disk.write(&[append(1, 3, 1, 300)]);
    let (found, mut options) = (disk.find(), disk.options.clone());
    for witness in [at, Lsn::new(at.generation, 99), Lsn::new(found.newest().generation, 1)] {
        options.witnessed = witness;
        let again = look(&disk.fs, &options);
        assert_eq!((again.seen, again.scan.damage), (found.seen.clone(), Vec::new()));
    }
}

#[test]
fn w11_a_newest_file_that_nothing_names_is_missed_where_somebody_remembers_it() {
    let mut disk = Disk::new();
    disk.write(&[append(1, 1, 1, 300)]);
    let old = disk.newest_file();
    let before = disk.fs.contents(&old).unwrap();
    let (mut disk, _) = disk.reboot();
    let at = disk.write(&[append(1, 2, 1, 300)]);
    // The file is gone, and an older copy of the one before names none.
    disk.fs.remove_file(&disk.newest_file()).unwrap();
    disk.fs.put(&old, &before).unwrap();
    assert!(disk.find().scan.damage.is_empty(), "nothing tells it");
    let mut options = disk.options.clone();
    options.witnessed = at;
    let found = look(&disk.fs, &options);
    let [damage] = &found.scan.damage[..] else { panic!("{}", found.words()) };
    assert_eq!((damage.kind, damage.at.generation), (DamageKind::Missing, at.generation));
    assert!(found.scan.next_generation() > at.generation, "its number is not used again");
}
