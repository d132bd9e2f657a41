//! Files of a newer version: refused by name, and nothing is touched.

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;

use refloat_log_store::examine;
use refloat_types::IndexSet;
use refloat_vfs::SimFs;
use support::*;

const SECTOR: usize = 512;
const BLOCK: usize = 4096;

/// A directory with files of every kind: logs of several generations, segments, two snapshots.
fn with_files_of_every_kind() -> Disk {
    let mut disk = Disk::small();
    disk.create_group(group(1)).unwrap();
    for _ in 0..2 {
        for _ in 0..6 {
            disk.append(group(1), 1, 3, 5000);
            disk.vote(group(1), 1).unwrap();
            disk.sync().unwrap();
        }
        disk.snapshot(group(1), IndexSet::new()).unwrap();
    }
    disk.append(group(1), 1, 1, 50);
    disk.sync().unwrap();
    disk.idle().unwrap();
    disk.kill();
    disk
}

fn put(bytes: &mut [u8], at: usize, number: &[u8]) {
    bytes[at..at + number.len()].copy_from_slice(number);
}

fn crc(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).to_le_bytes()
}

/// The header of a log file: eight copies, the checksum behind the content of the sector.
fn newer_log(bytes: &mut [u8]) {
    const CRC_AT: usize = 492;
    for sector in bytes[..BLOCK].chunks_exact_mut(SECTOR) {
        assert_eq!(&sector[..8], b"REFLOATW");
        let sum = crc(&sector[..CRC_AT]);
        assert_eq!(sector[CRC_AT..CRC_AT + 4], sum, "the place of the checksum");
        put(sector, 8, &2u16.to_le_bytes());
        let sum = crc(&sector[..CRC_AT]);
        put(sector, CRC_AT, &sum);
    }
}

/// Header and both footers of a segment: the checksum stands before what it covers.
fn newer_segment(bytes: &mut [u8]) {
    let len = bytes.len();
    for from in [0, len - 2 * BLOCK, len - BLOCK] {
        let block = &mut bytes[from..from + BLOCK];
        put(block, 8, &2u32.to_le_bytes());
        let mut covered = block.to_vec();
        covered.drain(12..16);
        let sum = crc(&covered);
        put(block, 12, &sum);
    }
}

fn newer_snapshot(bytes: &mut [u8]) {
    put(bytes, 8, &2u16.to_le_bytes());
    let sum = crc(&bytes[..124]);
    put(bytes, 124, &sum);
}

fn newer_identity(bytes: &mut [u8]) {
    bytes[8] += 1;
    let end = bytes.len() - 4;
    let sum = crc(&bytes[..end]);
    put(bytes, end, &sum);
}

fn contents(fs: &SimFs) -> BTreeMap<PathBuf, Vec<u8>> {
    fs.files().into_keys().map(|path| (path.clone(), fs.contents(&path).unwrap())).collect()
}

#[test]
fn o06_a_newer_version_in_any_file_is_refused_by_name_and_the_directory_is_left_as_it_was() {
    let disk = with_files_of_every_kind();
    let mut refused: BTreeMap<&str, u32> = BTreeMap::new();
    for path in disk.fs.files().into_keys() {
        let folder = path.strip_prefix(DIR).unwrap().iter().next().unwrap();
        let (kind, make_newer): (_, fn(&mut [u8])) = match folder.to_str().unwrap() {
            "wal" | "votes" if path.extension().is_some_and(|e| e == "wal") => {
                (if folder == "wal" { "log" } else { "votes" }, newer_log)
            }
            "seg" => ("segment", newer_segment),
            "snap" => ("snapshot", newer_snapshot),
            "identity.a" | "identity.b" => ("identity", newer_identity),
            "LOCK" | "wal" | "votes" => continue, // of no version: a note, files not in use
            other => panic!("{other} is of no known kind"),
        };
        *refused.entry(kind).or_default() += 1;
        let fs = disk.fs.fork();
        fs.corrupt(&path, |bytes| make_newer(bytes)).unwrap();
        let before = contents(&fs);
        let read = examine(&fs, &disk.options).map(|_| ()).map_err(|e| e.to_string());
        let mut back = Disk::on(fs, &disk.options);
        let booted = back.boot().map(|_| ()).map_err(|e| e.to_string());
        let after = contents(&back.fs);
        let is_changed = |path: &&PathBuf| after.get(*path) != before.get(*path);
        let changed: Vec<_> = before.keys().chain(after.keys()).filter(is_changed).collect();
        assert!(changed.is_empty(), "{}: {booted:?} and changed {changed:?}", path.display());
        for result in [read, booted] {
            let told = result.expect_err(&format!("{} is of a newer version", path.display()));
            let named = told.contains(&path.display().to_string()) && told.contains("version");
            assert!(named, "{}: {told}", path.display());
        }
    }
    let kinds: Vec<&str> = refused.keys().copied().collect();
    assert_eq!(kinds, ["identity", "log", "segment", "snapshot", "votes"]);
    assert!(refused["log"] >= 2 && refused["snapshot"] == 2, "{refused:?}");
}
