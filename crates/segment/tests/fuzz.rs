//! Segments of bytes that nobody wrote. The checksums are made good again by the format page
//! (`docs/formats/segment.md`), not by the code that is tested.

mod common;

use common::*;
use refloat_fuzz::{Memory, Target, note, run};
use refloat_segment::Segment;
use refloat_types::{GroupKey, Index};
use refloat_vfs::{SimFs, Vfs};

const GOLDEN: &[u8] = include_bytes!("golden/version-1.seg");
const BLOCK: usize = 4096;

/// What can be read of it is intact, in its place, and the same by all ways.
fn segment(bytes: &[u8]) {
    let fs = SimFs::new();
    fs.create_dir(dir()).expect("an empty disk");
    fs.put(golden_path(), bytes).expect("an empty disk");
    let segment = match Segment::open(&fs, &golden_path(), identity()) {
        Ok(segment) => segment,
        Err(error) => return note(error),
    };
    let groups: Vec<GroupKey> = segment.groups().map(|group| group.group).collect();
    let mut damaged = segment.is_impaired();
    for group in groups {
        let (first, last) = (Index(1), Index(u64::MAX - 1));
        let salvage = segment.salvage(group, first, last, usize::MAX);
        let ids: Vec<_> = salvage.entries.iter().map(|entry| entry.id.index).collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
        assert!(salvage.entries.iter().all(|entry| entry.is_intact()));
        match segment.read(group, first, last, usize::MAX) {
            Ok(entries) => assert_eq!(entries, salvage.entries),
            Err(error) => {
                damaged = true;
                note(error);
            }
        }
    }
    let verified = segment.verify();
    assert_eq!(verified.is_ok(), segment.scrub().is_empty());
    assert!(verified.is_err() || !damaged, "damage that nobody names");
    if let Err(error) = verified {
        note(error);
    }
}

fn golden_path() -> std::path::PathBuf {
    let generation = u64::from_le_bytes(GOLDEN[56..64].try_into().expect("eight bytes"));
    path(generation, word(GOLDEN, 64) as u32)
}

fn word(bytes: &[u8], at: usize) -> usize {
    let word = bytes.get(at..at + 4).and_then(|bytes| bytes.first_chunk::<4>());
    word.map_or(0, |word| u32::from_le_bytes(*word) as usize)
}

/// Blocks that begin as header or footer, and the blocks of the index that the last one speaks of.
fn seal(bytes: &mut [u8]) {
    let salt = crc32c::crc32c(&GOLDEN[16..68]);
    for block in bytes.chunks_exact_mut(BLOCK) {
        if block.starts_with(b"RFLTSEG\0") || block.starts_with(b"RFLTSEGF") {
            let crc = crc32c::crc32c_append(crc32c::crc32c(&block[..12]), &block[16..]);
            block[12..16].copy_from_slice(&crc.to_le_bytes());
        }
        // An index copy starts on a block of its own, with the length of its first part.
        let mut at = 0;
        while word(block, at) > 50 && at + word(block, at) <= BLOCK && !block.starts_with(b"RFLT") {
            let end = at + word(block, at);
            let crc = crc32c::crc32c_append(salt, &block[at..end - 4]);
            block[end - 4..end].copy_from_slice(&crc.to_le_bytes());
            at = end;
        }
    }
}

#[test]
fn fuzz_segment() {
    segment(GOLDEN);
    let mut sealed = GOLDEN.to_vec();
    seal(&mut sealed);
    assert!(sealed[BLOCK..] != [0; BLOCK] && sealed.len() == GOLDEN.len());
    let memory = Memory { fixed: 1 << 20, per_byte: 64 };
    let target = Target::new("segment", segment, vec![GOLDEN.to_vec()]);
    run(&Target { seal, memory, slower: 5, ..target });
}
