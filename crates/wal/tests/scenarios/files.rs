//! Which files are the log, and which are not.

use std::path::Path;

use refloat_types::*;
use refloat_vfs::{SimFs, Vfs};
use refloat_wal::*;

use crate::disk::*;

#[test]
fn w01_newest_file_empty_header_only_or_torn_is_used_again() {
    let mut disk = Disk::new();
    let acked = append(1, 1, 1, 100);
    disk.write(std::slice::from_ref(&acked));
    let next = disk.file(2);
    let header = {
        let mut other = Disk::new();
        other.roll();
        other.fs.contents(other.file(2)).unwrap()
    };
    let whole = header.len();
    let mut cases: Vec<(String, Vec<u8>)> = vec![
        ("empty".into(), Vec::new()),
        ("zeros".into(), vec![0; whole]),
        ("short zeros".into(), vec![0; 4096]),
    ];
    // The header and the first batch, cut by zeros at every sector but the last.
    for sectors in 1..4 * 8 {
        let mut bytes = vec![0; whole];
        bytes[..sectors * 512].copy_from_slice(&header[..sectors * 512]);
        cases.push((format!("first {sectors} sectors"), bytes));
    }
    for (name, bytes) in cases {
        let fs = disk.fs.fork();
        fs.put(&next, &bytes).unwrap();
        let found = look(&fs, &disk.options);
        assert!(found.seen.has(&acked), "{name}");
        assert!(found.scan.damage.is_empty(), "{name}: {}", found.words());
        assert!(found.scan.strays.is_empty(), "{name}");
        let report = found.scan.files.last().unwrap();
        assert_eq!(report.verdict, Verdict::NeverExisted, "{name}");
        assert_eq!(found.scan.unproven(), std::slice::from_ref(&acked), "{name}");
        let (mut disk, _) = Disk::boot(fs, options());
        assert_eq!(disk.writer.generation(), Generation(3), "{name}: no number is used twice");
        assert!(!disk.fs.exists(&next).unwrap(), "{name}: the file is used again");
        disk.write(&[append(1, 2, 1, 100)]);
        assert!(disk.reboot().1.scan.damage.is_empty(), "{name}");
    }
}

#[test]
fn w01_first_file_of_all_empty_or_torn_is_a_new_log() {
    let whole = Disk::new();
    let bytes = whole.fs.contents(whole.file(1)).unwrap();
    for sectors in 0..4 * 8 - 1 {
        let fs = SimFs::new();
        let mut torn = vec![0; bytes.len()];
        torn[..sectors * 512].copy_from_slice(&bytes[..sectors * 512]);
        fs.put(whole.file(1), &torn).unwrap();
        let found = look(&fs, &whole.options);
        assert!(found.scan.is_empty() && found.scan.damage.is_empty(), "{}", found.words());
        let (disk, _) = Disk::boot(fs, options());
        assert!(disk.writer.is_ready());
    }
}

fn three_files() -> (Disk, Vec<Record>) {
    let mut disk = Disk::new();
    let records: Vec<_> = (1..=3).map(|n| append(1, n, 1, 100)).collect();
    for record in &records {
        disk.write(std::slice::from_ref(record));
        if record != &records[2] {
            disk.roll();
        }
    }
    (disk, records)
}

fn owners_unknown(found: &Found, at: u64) {
    let damage = &found.scan.damage[0];
    assert_eq!(damage.at, Lsn::new(Generation(at), 0));
    assert_eq!((damage.kind, &damage.owners), (DamageKind::Missing, &Owners::Unknown));
}

#[test]
fn w11_a_missing_middle_file_is_damage() {
    let (disk, records) = three_files();
    disk.fs.remove_file(&disk.file(2)).unwrap();
    let found = disk.find();
    owners_unknown(&found, 2);
    let verdicts: Vec<_> = found.scan.files.iter().map(|file| file.verdict).collect();
    assert_eq!(verdicts, [Verdict::Good, Verdict::Missing, Verdict::Unproven]);
    assert!(
        found.seen.has(&records[0]) && !found.seen.has(&records[1]) && found.seen.has(&records[2])
    );
    let (disk, _) = disk.reboot();
    assert_eq!(disk.writer.generation(), Generation(4));
    owners_unknown(&disk.find(), 2);
}

#[test]
fn w11_a_missing_newest_file_is_damage_and_its_number_is_not_used_again() {
    let (disk, records) = three_files();
    disk.fs.remove_file(&disk.file(3)).unwrap();
    let (mut disk, found) = disk.reboot();
    owners_unknown(&found, 3);
    assert_eq!(found.scan.files[2].verdict, Verdict::Missing);
    assert!(found.scan.unproven().is_empty(), "the link proves what came before");
    assert_eq!(disk.writer.generation(), Generation(4));
    let more = append(1, 9, 1, 50);
    disk.write(std::slice::from_ref(&more));
    let (_, again) = disk.reboot();
    owners_unknown(&again, 3);
    assert!(again.seen.has(&records[1]) && again.seen.has(&more));
    assert_eq!(again.scan.damage.len(), 1, "{}", again.words());
}

#[test]
fn w28_newest_file_cut_or_removed_after_a_start_is_damage() {
    let mut disk = Disk::new();
    disk.write(&[append(1, 1, 1, 100)]);
    let (mut disk, _) = disk.reboot();
    disk.write(&[append(1, 2, 1, 100)]);
    let newest = disk.newest_file();
    let whole = disk.fs.contents(&newest).unwrap().len();
    for len in (0..whole).step_by(1024) {
        let fs = disk.fs.fork();
        fs.corrupt(&newest, |bytes| bytes.truncate(len)).unwrap();
        let found = look(&fs, &disk.options);
        assert!(!found.scan.damage.is_empty(), "cut to {len}");
        assert!(
            found.seen.has(&append(1, 1, 1, 100)) || found.words().contains("no directory"),
            "{len}"
        );
        let torn = found
            .scan
            .files
            .iter()
            .any(|f| matches!(f.verdict, Verdict::Torn { .. } | Verdict::NeverExisted));
        assert!(!torn, "cut to {len}: {:?}", found.scan.files);
    }
    disk.fs.remove_file(&newest).unwrap();
    let found = disk.find();
    owners_unknown(&found, 2);
}

#[test]
fn w11_odd_names_are_left_alone_and_reported() {
    let (disk, records) = three_files();
    let copy = disk.fs.contents(disk.file(2)).unwrap();
    let odd = [
        "2.wal",
        "00000000000000000002.wal.bak",
        "notes.txt",
        "00000000000000000000.wal",
        "00000000000000000001.wal.gz",
        "00000000000000000012.wal",
    ];
    for name in odd {
        let bytes =
            if name.starts_with("00000000000000000012") { vec![0x41; 9000] } else { copy.clone() };
        disk.fs.put(Path::new(DIR).join(name), &bytes).unwrap();
    }
    let before = disk.fs.files();
    let (disk, found) = disk.reboot();
    assert!(found.scan.damage.is_empty(), "{}", found.words());
    assert_eq!(found.scan.strays.len(), odd.len(), "{:?}", found.scan.strays);
    assert_eq!(found.seen.data(), records);
    assert!(disk.writer.generation() > Generation(12), "above every number in any name");
    for name in odd {
        let path = Path::new(DIR).join(name);
        assert_eq!(disk.fs.files().get(&path), before.get(&path), "{name} is untouched");
    }
    assert_eq!(disk.find().scan.strays.len(), odd.len());
}

#[test]
fn w11_a_file_of_unknown_magic_in_the_place_of_one_of_the_log_is_damage() {
    let (disk, records) = three_files();
    disk.fs.put(disk.file(2), &vec![0x41; 64 * 4096]).unwrap();
    let found = disk.find();
    assert!(!found.scan.damage.is_empty());
    assert!(found.scan.damage.iter().all(|damage| damage.at.generation == Generation(2)));
    assert!(found.seen.has(&records[0]) && found.seen.has(&records[2]));
    assert_eq!(found.scan.files[1].verdict, Verdict::Rotten);
}

#[test]
fn files_of_another_identity_or_a_newer_format_are_refused_with_names() {
    let disk = Disk::new();
    let mut other = options();
    other.identity.member.incarnation = Incarnation(0xdead);
    let refused = try_look(&disk.fs, &other).err().expect("refused");
    let words = refused.to_string();
    assert!(matches!(refused, ScanError::Foreign { .. }));
    assert!(words.contains(&identity().member.to_string()), "found: {words}");
    assert!(words.contains(&other.identity.member.to_string()), "expected: {words}");
    // A newer version, whole by its own checksum.
    let fs = disk.fs.fork();
    fs.corrupt(disk.file(1), |bytes| {
        for copy in bytes[..4096].chunks_mut(512) {
            copy[8] = 9;
            let crc = crc32c_of(&copy[..492]);
            copy[492..496].copy_from_slice(&crc.to_le_bytes());
        }
    })
    .unwrap();
    let refused = try_look(&fs, &disk.options).err().expect("refused");
    assert!(matches!(refused, ScanError::NewerFormat { found: 9, supported: 1, .. }));
    assert!(refused.to_string().contains("version 9"));
    // A flipped version byte alone is no newer format.
    let fs = disk.fs.fork();
    fs.corrupt(disk.file(1), |bytes| bytes[8] = 9).unwrap();
    assert!(try_look(&fs, &disk.options).is_ok());
}

fn crc32c_of(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

#[test]
fn the_two_newest_files_are_never_released_and_a_file_goes_only_after_a_read_back() {
    let mut disk = Disk::new();
    for _ in 0..4 {
        disk.write(&[append(1, 1, 1, 10)]);
        disk.roll();
    }
    disk.fs.fail_reads(disk.newest_file(), 0..64 * 4096).unwrap();
    disk.writer.release(Generation(99));
    disk.settle();
    assert!(disk.fs.exists(&disk.file(1)).unwrap(), "the newest checkpoint cannot be read back");
    assert_eq!(disk.writer.stats().read_back_failures, 1);
    disk.roll();
    disk.settle();
    let left: Vec<_> = (1..=6).filter(|n| disk.fs.exists(&disk.file(*n)).unwrap()).collect();
    assert_eq!(left, [5, 6]);
    let (_, found) = disk.reboot();
    assert_eq!(found.scan.files[1].previous, Some(Generation(5)));
}

#[test]
fn the_only_file_left_proves_that_an_older_one_is_missing() {
    let (disk, _) = three_files();
    disk.fs.remove_file(&disk.file(1)).unwrap();
    assert!(disk.find().scan.damage.is_empty(), "as after a release");
    disk.fs.remove_file(&disk.file(2)).unwrap();
    owners_unknown(&disk.find(), 2);
}

#[test]
fn a_recycled_file_just_renamed_is_not_in_use_and_no_stray() {
    let (disk, records) = three_files();
    // What a copy of an older file under the next number looks like, too.
    disk.fs.put(disk.file(4), &disk.fs.contents(disk.file(1)).unwrap()).unwrap();
    let found = disk.find();
    assert!(found.scan.strays.is_empty() && found.scan.damage.is_empty());
    assert_eq!(found.scan.files[3].verdict, Verdict::NeverExisted);
    assert_eq!(found.seen.data(), records);
    // Under a lower number it is somebody's copy, and is left alone.
    disk.fs.remove_file(&disk.file(4)).unwrap();
    disk.fs.remove_file(&disk.file(1)).unwrap();
    disk.fs.put(disk.file(1), &disk.fs.contents(disk.file(3)).unwrap()).unwrap();
    assert_eq!(disk.find().scan.strays, [disk.file(1)]);
}

#[test]
fn w10_damage_in_an_older_file_is_told_while_it_is_needed_and_kept_aside_once_it_is_not() {
    let mut disk = Disk::with(options());
    let hurt = append(1, 1, 2, 600);
    let others = [append(2, 1, 1, 100), append(3, 1, 1, 100)];
    disk.write(&others[..1]);
    let at = disk.write(&[hurt.clone(), others[1].clone()]);
    let (block, path) = (disk.block_of(at), disk.newest_file());
    let newer: Vec<Record> = (2..5).map(|index| append(2, index, 1, 100)).collect();
    for record in &newer {
        disk.roll();
        disk.write(std::slice::from_ref(record));
    }
    disk.fs.corrupt(&path, |bytes| bytes[block as usize * 4096 + 600] ^= 1).unwrap();
    let (mut disk, found) = disk.reboot();
    // Needed: it is named with its owner, and nothing else is in doubt, at each start anew.
    for found in [found, disk.find()] {
        let [damage] = &found.scan.damage[..] else { panic!("{}", found.words()) };
        assert_eq!((damage.at, damage.kind), (at, DamageKind::Rotten));
        assert_eq!(damage.owners, Owners::Known(vec![group(1)]));
        let all = newer.iter().chain(&others);
        assert!(all.into_iter().all(|record| found.seen.has(record)));
        assert!(!found.seen.missing().is_empty(), "what is left of {hurt:?}");
    }
    // No longer needed: it goes with its number, and whoever wants to look at it can.
    disk.writer.release(Generation(2));
    disk.settle();
    let (disk, found) = disk.reboot();
    assert!(found.scan.damage.is_empty(), "{}", found.words());
    assert!(newer.iter().all(|record| found.seen.has(record)));
    let kept =
        disk.fs.files().into_keys().filter(|path| path.extension() == Some("damaged".as_ref()));
    assert_eq!(kept.count(), 1);
}
