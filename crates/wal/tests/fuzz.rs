//! Log files of bytes that nobody wrote. The checksums are made good again by the format page
//! (`docs/formats/wal.md`), not by the code that is tested.

use std::path::Path;

use refloat_fuzz::{Memory, Target, note, run};
use refloat_types::{ClusterId, EntryId, Generation, Identity, Incarnation, Member, NodeId};
use refloat_vfs::SimFs;
use refloat_wal::{Damage, Lsn, Options, Record, Scrub, Trust, Visit, batches, peek, scan};

const DIR: &str = "/wal";
const FILE: &str = "/wal/00000000000000000001.wal";
const GOLDEN: &[u8] = include_bytes!("golden/v1-00000000000000000001.wal");
const BLOCK: usize = 4096;
const SECTOR: usize = 512;
const PIECE: usize = 496;

fn identity() -> Identity {
    let member = Member::new(NodeId(3), Incarnation(0x5eed_0000_1111_2222_3333_4444_5555_6666));
    Identity { cluster: ClusterId(0xc1), member }
}

fn options() -> Options {
    let mut options = Options::new(DIR, identity());
    options.file_size = 16 * BLOCK as u64;
    options
}

/// What a scan gives, in order.
#[derive(Default, PartialEq, Eq, Debug)]
struct Seen(Vec<String>);

impl Visit for Seen {
    fn record(&mut self, at: Lsn, trust: Trust, record: Record, missing: &[EntryId]) {
        if let Record::Log { op, .. } = &record {
            assert!(op.entries().iter().all(|entry| entry.is_intact()), "{record:?}");
        }
        self.0.push(format!("{at:?} {trust:?} {record:?} {missing:?}"));
    }

    fn damage(&mut self, damage: &Damage) {
        note(format!("{:?}", damage.kind));
    }
}

/// A log of this one file is read twice with the same result, and left as it is.
fn log_file(bytes: &[u8]) {
    let fs = SimFs::new();
    let mut whole = bytes.to_vec();
    whole.resize(bytes.len().next_multiple_of(16 * BLOCK), 0);
    fs.put(FILE, &whole).expect("an empty disk");
    let (mut seen, mut again) = (Seen::default(), Seen::default());
    match (scan(&fs, &options(), &mut seen), scan(&fs, &options(), &mut again)) {
        (Ok(first), Ok(second)) => {
            assert_eq!(format!("{:?}", first.files), format!("{:?}", second.files));
            first.files.iter().for_each(|file| note(format!("{:?}", file.verdict)));
        }
        (Err(first), Err(second)) => {
            assert_eq!(first.to_string(), second.to_string());
            note(first);
        }
        (first, second) => panic!("{first:?}, and then {second:?}"),
    }
    assert_eq!(seen, again);
    note(seen.0.len());
    let generation = Generation(1);
    for batch in batches(&fs, &options(), generation).expect("it is there") {
        note(batch);
    }
    let _ = peek(&fs, Path::new(FILE)).expect("it can be read");
    let mut scrub = Scrub::new(options(), generation);
    while !scrub.is_done() {
        scrub.step(&fs, 64 << 10);
    }
    assert!(fs.contents(FILE).expect("still there") == whole);
}

fn salted(bytes: &[u8]) -> u32 {
    let state = crc32c::crc32c(b"refloat-wal");
    let state = crc32c::crc32c_append(state, &identity().member.incarnation.0.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(state, &1u64.to_le_bytes()), bytes)
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

fn seal(bytes: &mut [u8]) {
    for (n, sector) in bytes.chunks_exact_mut(SECTOR).enumerate() {
        match n / 8 {
            0 => put(sector, 492, crc32c::crc32c(&sector[..492])),
            1 if sector[..492] != [0; 492] => put(sector, 492, salted(&sector[..492])),
            _ => {}
        }
        if sector[PIECE..] != [0; 16] {
            sector[PIECE..PIECE + 8].copy_from_slice(&1u64.to_le_bytes());
            let place = [&sector[504..508], &(n as u32).to_le_bytes()].concat();
            put(sector, 508, salted(&place));
        }
    }
    let mut digest = 0;
    for block in 2..bytes.len() / BLOCK {
        let blocks = &mut bytes[block * BLOCK..];
        let mut content: Vec<u8> =
            blocks.chunks_exact(SECTOR).flat_map(|sector| &sector[..PIECE]).copied().collect();
        if content.starts_with(b"RFWb") {
            digest = seal_batch(&mut content, digest);
            for (sector, piece) in blocks.chunks_exact_mut(SECTOR).zip(content.chunks(PIECE)) {
                sector[..PIECE].copy_from_slice(piece);
            }
        }
    }
}

/// The frames of the directory, the directory, the copy, and the batch, whose digest it answers.
fn seal_batch(content: &mut [u8], previous: u32) -> u32 {
    let directory = 96..96 + word(content, 32);
    let mut at = directory.start;
    while content.get(at..at + 4) == Some(b"RFWd") && at < directory.end {
        let len = word(content, at + 4);
        if let Some(frame) = content.get(at..at + len.max(48)) {
            let crc = crc32c::crc32c_append(salted(&frame[..44]), &frame[48..]);
            put(content, at + 44, crc);
        }
        at += len.max(1);
    }
    let copy = word(content, 36)..word(content, 36) + word(content, 40);
    for (range, at) in [(directory, 56), (copy, 60)] {
        if let Some(part) = content.get(range) {
            let crc = salted(part);
            put(content, at, crc);
        }
    }
    if word(content, 16) > 1 {
        put(content, 64, previous);
    }
    let digest = salted(&content[..92]);
    put(content, 92, digest);
    digest
}

#[test]
fn fuzz_log_file() {
    let mut sealed = GOLDEN.to_vec();
    seal(&mut sealed);
    assert!(sealed == GOLDEN, "the page says how the checksums are made");
    let seeds = vec![GOLDEN.to_vec(), GOLDEN[..5 * BLOCK].to_vec()];
    // Of a file that says that it is longer than it is up to 2 GiB are looked for.
    let memory = Memory { fixed: 32 << 20, per_byte: 64 };
    run(&Target { seal, memory, slower: 10, ..Target::new("log-file", log_file, seeds) });
}
