//! A walk over a snapshot in small steps finds every byte that is not what it was.

mod common;

use common::*;
use refloat_snapshot::{Scrub, SnapshotError, SnapshotFile, snapshot_path};
use refloat_vfs::SimFs;

fn written() -> (SimFs, SnapshotFile, Vec<u8>) {
    let fs = disk();
    write_one(&fs, 1, 9).unwrap();
    let bytes = bytes_of(&fs, &snapshot_path(&dir(), id(9)));
    let file = open(&fs, 1, 9).unwrap();
    (fs, file, bytes)
}

/// All steps of a walk: the longest, and what they found.
fn walk(mut scrub: Scrub, max_bytes: u64) -> (u64, Vec<SnapshotError>) {
    let (mut longest, mut found) = (0, Vec::new());
    while !scrub.is_done() {
        let step = scrub.step(max_bytes);
        assert!(step.bytes > 0);
        longest = longest.max(step.bytes);
        found.extend(step.found);
    }
    (longest, found)
}

#[test]
fn every_flipped_byte_is_found_once_with_its_place_in_steps_of_any_length() {
    let (fs, file, good) = written();
    for max_bytes in [1, 700, 1 << 20] {
        let (longest, found) = walk(Scrub::new(file.clone()), max_bytes);
        assert!(found.is_empty(), "{found:?}");
        assert!(longest <= max_bytes.max(16 + 512), "{longest} of {max_bytes}");
    }
    for at in 0..good.len() {
        fs.corrupt(file.path(), |bytes| bytes[at] ^= 0x10).unwrap();
        let (_, found) = walk(Scrub::new(file.clone()), [1, 700][at % 2]);
        let [error @ SnapshotError::Corrupt { path, .. }] = &found[..] else {
            panic!("byte {at}: {found:?}")
        };
        assert!(error.is_corruption() && path == file.path());
        fs.corrupt(file.path(), |bytes| bytes.copy_from_slice(&good)).unwrap();
    }
}

#[test]
fn a_walk_goes_on_behind_damage_and_from_where_it_was() {
    let (fs, file, good) = written();
    let chunk = |n: usize| good.len() - 32 - LEN - 3 * 16 + n * (16 + 512);
    fs.corrupt(file.path(), |bytes| {
        bytes[chunk(0) + 20] ^= 1;
        bytes[chunk(2) + 20] ^= 1;
    })
    .unwrap();
    let mut scrub = Scrub::new(file.clone());
    assert_eq!((scrub.step(1).found.len(), scrub.position()), (0, 0), "the header");
    assert_eq!((scrub.step(1).found.len(), scrub.position()), (1, 1));
    let again = Scrub::resume(file, scrub.position());
    assert_eq!(again.group(), group());
    assert_eq!(walk(again, 1).1.len(), 1, "the third chunk, and no word on the digest");
    assert_eq!(walk(scrub, 1).1.len(), 1);
}

#[test]
fn a_file_that_became_shorter_or_unreadable_is_found() {
    let (fs, file, good) = written();
    fs.fail_reads(file.path(), 0..1).unwrap();
    let (_, found) = walk(Scrub::new(file.clone()), 1);
    assert!(found.iter().all(|error| matches!(error, SnapshotError::Io { op: "read", .. })));
    assert_eq!(found.len(), 2, "header and first chunk share the sector");
    fs.put(file.path(), &good[..good.len() - 1]).unwrap();
    let (_, found) = walk(Scrub::resume(file.clone(), 3), 1);
    assert!(matches!(found[..], [SnapshotError::Corrupt { what: "file length", .. }]));
}
