//! Snapshots of bytes that nobody wrote. The checksums are made good again by the format page
//! (`docs/formats/snapshot.md`), not by the code that is tested.

mod common;

use std::path::PathBuf;

use common::*;
use refloat_fuzz::{Memory, Target, note, run};
use refloat_snapshot::{SnapshotFile, SnapshotMeta};
use refloat_types::codec::Reader;
use refloat_vfs::{SimFs, Vfs};

const GOLDEN: &[u8] = include_bytes!("golden/snapshot_v1.snap");
const FIXED: usize = 128;

fn file_path() -> PathBuf {
    refloat_snapshot::snapshot_path(&dir(), id(9))
}

/// A file that verifies says what it holds, to the byte.
fn snapshot(bytes: &[u8]) {
    let fs = SimFs::new();
    fs.create_dir(&root()).expect("an empty disk");
    fs.create_dir(&dir()).expect("an empty disk");
    fs.put(file_path(), bytes).expect("an empty disk");
    let file = match SnapshotFile::open(&fs, &file_path(), &identity(1)) {
        Ok(file) => file,
        Err(error) => return note(error),
    };
    assert_eq!(file.meta().check().map_err(|error| error.to_string()), Ok(()));
    let mut len = 0;
    for chunk in file.chunks() {
        match chunk {
            Ok(bytes) => len += bytes.len() as u64,
            Err(error) => note(error),
        }
    }
    match file.verify() {
        Ok(()) => assert_eq!((len, file.file_len()), (file.meta().payload_len, bytes.len() as u64)),
        Err(error) => note(error),
    }
}

fn word(bytes: &[u8], at: usize) -> usize {
    let word = bytes.get(at..at + 4).and_then(|bytes| bytes.first_chunk::<4>());
    word.map_or(0, |word| u32::from_le_bytes(*word) as usize)
}

fn put(bytes: &mut [u8], at: usize, crc: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
}

/// Body, header, chunks, the digest over all, and the seal.
fn seal(bytes: &mut [u8]) {
    if bytes.len() < FIXED {
        return;
    }
    let salt = crc32c::crc32c(&bytes[12..84]);
    let header = FIXED + word(bytes, 104);
    if let Some(body) = bytes.get(FIXED..header) {
        let crc = crc32c::crc32c_append(salt, body);
        put(bytes, 108, crc);
    }
    let (chunk_len, mut at, mut payload) = (word(bytes, 92), header, 0);
    let end = bytes.len().saturating_sub(32);
    while chunk_len > 0 && at + 16 < end {
        let stop = (at + 16 + chunk_len).min(end);
        let digest = crc32c::crc32c(&bytes[at + 16..stop]);
        payload = crc32c::crc32c_append(payload, &bytes[at + 16..stop]);
        put(bytes, at + 8, digest);
        let crc = crc32c::crc32c_append(salt, &bytes[at..at + 12]);
        put(bytes, at + 12, crc);
        at = stop;
    }
    let content = [&bytes[52..100], bytes.get(FIXED..header).unwrap_or_default()].concat();
    put(bytes, 100, crc32c::crc32c_append(payload, &content));
    let crc = crc32c::crc32c(&bytes[..124]);
    put(bytes, 124, crc);
    if end > FIXED {
        let (len, digest) = (bytes.len() as u64, word(bytes, 100) as u32);
        bytes[end + 8..end + 16].copy_from_slice(&len.to_le_bytes());
        put(bytes, end + 16, digest);
        put(bytes, end + 20, crc);
        let crc = crc32c::crc32c_append(salt, &bytes[end..end + 28]);
        put(bytes, end + 28, crc);
    }
}

#[test]
fn fuzz_snapshot() {
    let mut sealed = GOLDEN.to_vec();
    seal(&mut sealed);
    assert!(sealed == GOLDEN, "the page says how the checksums are made");
    let memory = Memory { fixed: 1 << 20, per_byte: 64 };
    let target = Target::new("snapshot", snapshot, vec![GOLDEN.to_vec()]);
    run(&Target { seal, memory, slower: 3, ..target });
}

/// An offer is read back as it was written.
fn meta(bytes: &[u8]) {
    match SnapshotMeta::decode(&mut Reader::new(bytes)) {
        Ok(meta) => {
            let mut again = Vec::new();
            meta.encode(&mut again);
            let read = SnapshotMeta::decode(&mut Reader::new(&again));
            assert_eq!(read.as_ref(), Ok(&meta));
            if let Err(error) = meta.check() {
                note(error);
            }
        }
        Err(error) => note(error),
    }
}

#[test]
fn fuzz_snapshot_meta() {
    let fs = disk();
    fs.create_dir(&dir()).expect("an empty disk");
    fs.put(file_path(), GOLDEN).expect("an empty disk");
    let file = SnapshotFile::open(&fs, &file_path(), &identity(1)).expect("the golden file");
    let mut seed = Vec::new();
    file.meta().encode(&mut seed);
    run(&Target::new("snapshot-meta", meta, vec![seed]));
}
