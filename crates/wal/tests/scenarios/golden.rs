//! The bytes of version 1, as `docs/formats/wal.md` lays them down: what is written today is
//! what was checked in, and what was checked in is read.

use std::path::Path;

use refloat_types::*;
use refloat_vfs::SimFs;
use refloat_wal::*;

use crate::disk::*;

const GOLDEN: &[u8] = include_bytes!("../golden/v1-00000000000000000001.wal");

fn small() -> Options {
    let mut options = options();
    options.file_size = 16 * 4096;
    options
}

fn records() -> Vec<Record> {
    let fill =
        LogOp::Fill { entries: vec![entry(3, 1, payload(3, 5)), entry(9, 2, payload(9, 0))] };
    vec![
        append(1, 1, 3, 20),
        Record::Log { group: group(2), op: fill },
        Record::Log { group: group(2), op: LogOp::Cut { from: Index(12) } },
        state(3, "term 4, voted for node 2"),
    ]
}

/// A checkpoint of three groups, a batch of each kind of record, a seal, a link.
fn write() -> Disk {
    let mut disk = Disk::with(small());
    disk.write(&records());
    disk.writer.seal_with(vec![(group(1), "commit 3".into())]);
    disk.seal();
    disk.roll();
    disk
}

#[test]
fn o06_the_golden_file_is_written_as_it_was() {
    let disk = write();
    let mut bytes = disk.fs.contents(disk.file(1)).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) / 4096 * 4096 + 4096;
    bytes.truncate(used);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"));
        #[allow(clippy::disallowed_methods)]
        std::fs::write(path.join("tests/golden/v1-00000000000000000001.wal"), &bytes).unwrap();
    }
    let differs = bytes.iter().zip(GOLDEN).position(|(new, old)| new != old);
    assert_eq!((differs, bytes.len()), (None, GOLDEN.len()), "a new format needs a new version");
}

#[test]
fn o06_the_golden_file_is_read() {
    let fs = SimFs::new();
    let mut whole = GOLDEN.to_vec();
    whole.resize(16 * 4096, 0);
    let path = Path::new(DIR).join("00000000000000000001.wal");
    fs.put(&path, &whole).unwrap();
    let found = look(&fs, &small());
    let mut expected = records();
    expected.push(state(1, "commit 3"));
    assert_eq!(found.seen.data(), expected);
    assert!(found.scan.files[0].linked);
    assert_eq!(found.scan.files[1].verdict, Verdict::Missing, "its link names file 2");
    assert_eq!(peek(&fs, &path).unwrap(), Some((identity(), Generation(1))));
    let batches = batches(&fs, &small(), Generation(1)).unwrap();
    let words: Vec<_> = batches.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "batch 1:1 at 8192, 2 blocks, checkpoint, 3 records",
            "batch 1:2 at 16384, 1 blocks, 4 records",
            "batch 1:3 at 20480, 1 blocks, seal, 1 records",
        ]
    );
    let words: Vec<_> = batches[1].records.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "group 1@1 append of 3 entries, 1 of term 1 to 3 of term 1, 60 bytes",
            "group 2@1 fill of 2 entries, 3 of term 1 to 9 of term 2, 5 bytes",
            "group 2@1 cut, 0 bytes",
            "group 3@1 state, 24 bytes",
        ]
    );
}

/// The offsets that the format page gives, read by hand.
#[test]
fn o06_the_golden_file_is_as_the_format_page_says() {
    let u16_at = |at: usize| u16::from_le_bytes(GOLDEN[at..at + 2].try_into().unwrap());
    let u32_at = |at: usize| u32::from_le_bytes(GOLDEN[at..at + 4].try_into().unwrap());
    let u64_at = |at: usize| u64::from_le_bytes(GOLDEN[at..at + 8].try_into().unwrap());
    // File header, each copy.
    for copy in (0..4096).step_by(512) {
        assert_eq!(&GOLDEN[copy..copy + 8], b"REFLOATW");
        assert_eq!((u16_at(copy + 8), u32_at(copy + 12), u64_at(copy + 16)), (1, 4096, 1));
        assert_eq!(u64_at(copy + 40), 3, "node");
        assert_eq!((u32_at(copy + 64), u64_at(copy + 72)), (16, 0), "blocks, previous file");
        assert_eq!((u64_at(copy + 496), u32_at(copy + 504)), (1, 0), "the tag");
    }
    // Link.
    let link = 4096;
    assert_eq!(&GOLDEN[link..link + 4], b"RFWl");
    assert_eq!((u32_at(link + 16), u32_at(link + 20), u64_at(link + 32)), (6, 3, 2));
    // The batch of all records: header, first frame.
    let batch = 4 * 4096;
    assert_eq!(&GOLDEN[batch..batch + 4], b"RFWb");
    assert_eq!((u16_at(batch + 4), u16_at(batch + 6), u64_at(batch + 8)), (1, 0, 1));
    assert_eq!((u32_at(batch + 16), u32_at(batch + 20), u32_at(batch + 24)), (2, 4, 1));
    assert_eq!((u32_at(batch + 28), u32_at(batch + 52)), (16, 4), "file blocks, records");
    assert_eq!((u64_at(batch + 496), u32_at(batch + 504)), (1, 2), "the tag");
    let frame = batch + 96;
    assert_eq!(&GOLDEN[frame..frame + 4], b"RFWd");
    assert_eq!((u64_at(frame + 8), u32_at(frame + 16), u32_at(frame + 20)), (1, 2, 4));
    assert_eq!((u32_at(frame + 24), u32_at(frame + 28)), (0, 1), "index and count");
    assert_eq!((GOLDEN[frame + 48], u64_at(frame + 49), u64_at(frame + 57)), (1, 1, 1), "append");
}
