//! Writing, reading, listing and keeping.

mod common;

use std::path::Path;

use bytes::Bytes;
use common::*;
use proptest::prelude::*;
use refloat_snapshot::{
    Head, Incoming, SnapshotError, SnapshotFile, SnapshotMeta, group_dir, group_of, leftovers,
    list, remove_leftovers, retain, set_aside, snapshot_path, write,
};
use refloat_types::codec::Reader;
use refloat_types::{ConfState, EntryId, Epoch, GroupId, GroupKey, Index, IndexSet, Term};
use refloat_vfs::{OpKind, SimFs, Vfs};

#[test]
fn what_is_written_is_read_at_every_length() {
    for len in [0, 1, 511, 512, 513, 1024, 5000] {
        let fs = disk();
        let source = payload(9, len);
        let mut pieces = std::iter::once(source.clone());
        let meta = write(&fs, &dir(), &identity(1), head(9), &mut pieces).unwrap();
        let file = open(&fs, 1, 9).unwrap();
        assert_eq!(content(&file).unwrap(), source);
        assert_eq!(file.meta(), &meta);
        assert_eq!((meta.payload_len, meta.chunks), (len as u64, len.div_ceil(512) as u32));
        assert!(matches!(file.chunk(meta.chunks), Err(SnapshotError::NoSuchChunk { .. })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_pieces_any_chunk_length_any_live_set(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..700), 0..12),
        chunk_len in 64u32..900,
        live in prop::collection::btree_set(1u64..200, 0..40),
    ) {
        let fs = disk();
        let live: IndexSet = live.into_iter().map(Index).collect();
        let head = Head::new(group(), id(200), ConfState::default(), live.clone()).with_chunk_len(chunk_len);
        let expected = pieces.concat();
        let mut source = pieces.into_iter().map(Bytes::from);
        write(&fs, &dir(), &identity(1), head, &mut source).unwrap();
        let file = open(&fs, 1, 200).unwrap();
        prop_assert_eq!(content(&file).unwrap(), expected);
        prop_assert_eq!(&file.meta().live, &live);
        let mut bytes = Vec::new();
        file.meta().encode(&mut bytes);
        prop_assert_eq!(&SnapshotMeta::decode(&mut Reader::new(&bytes)).unwrap(), file.meta());
    }

    #[test]
    fn random_bytes_are_no_snapshot_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let fs = disk();
        fs.create_dir(&dir()).unwrap();
        let path = snapshot_path(&dir(), id(9));
        put_file(&fs, &path, &bytes);
        prop_assert!(SnapshotFile::open(&fs, &path, &identity(1)).is_err());
        if let Ok(meta) = SnapshotMeta::decode(&mut Reader::new(&bytes)) {
            let _ = meta.check();
        }
    }
}

#[test]
fn what_no_file_can_hold_is_refused_before_anything_is_written() {
    let fs = disk();
    let ops = fs.op_count();
    for head in [head(9).with_chunk_len(0), head(9).with_chunk_len(u32::MAX), head(4)] {
        let written = write(&fs, &dir(), &identity(1), head, &mut std::iter::empty());
        assert!(matches!(written, Err(SnapshotError::Invalid { .. })), "{written:?}");
    }
    assert_eq!(fs.op_count(), ops);
}

#[test]
fn s01_a_torn_live_index_cache_is_ignored_and_the_set_comes_from_the_snapshot() {
    let whole = b"RFLTLIVE\x01\0\0\0\x05\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0";
    let caches: [(&str, Option<&[u8]>); 5] = [
        ("missing", None),
        ("empty", Some(b"")),
        ("torn", Some(&whole[..11])),
        ("zeros", Some(&[0; 512])),
        ("whole and wrong", Some(whole)),
    ];
    for (what, cache) in caches {
        let fs = disk();
        write_one(&fs, 1, 9).unwrap();
        for name in ["live", "0000000000000002-0000000000000009.live"] {
            if let Some(bytes) = cache {
                put_file(&fs, &dir().join(name), bytes);
            }
        }
        assert_whole(&fs, 1, 9);
        let found = list(&fs, &dir(), &identity(1)).unwrap();
        assert_eq!(found.len(), 1, "{what}");
        assert_eq!(found[0].result.as_ref().unwrap().live, live(), "{what}");
        let strays = if cache.is_some() { 2 } else { 0 };
        assert_eq!(leftovers(&fs, &dir()).unwrap().strays.len(), strays, "{what}");
    }
}

#[test]
fn s18_a_truncated_or_corrupt_payload_names_the_snapshot_the_place_and_both_values() {
    let fs = disk();
    write_one(&fs, 1, 9).unwrap();
    let path = snapshot_path(&dir(), id(9));
    let good = bytes_of(&fs, &path);

    let mut cut = good.clone();
    cut.truncate(1000);
    put_file(&fs, &path, &cut);
    let error = open(&fs, 1, 9).unwrap_err();
    assert!(error.is_corruption() && !error.is_poison());
    assert_eq!(
        error.to_string(),
        format!(
            "read snapshot {} at 1000: file length mismatch (expected {:#x}, found 0x3e8)",
            path.display(),
            good.len()
        )
    );

    let at = good.len() - 32 - 100;
    put_file(&fs, &path, &good);
    fs.corrupt(&path, |bytes| bytes[at] ^= 0x40).unwrap();
    let file = open(&fs, 1, 9).unwrap();
    assert!(file.chunk(0).is_ok() && file.chunk(1).is_ok(), "what is whole stays readable");
    let error = file.chunk(2).unwrap_err();
    assert_eq!(error.path(), Some(&*path));
    let SnapshotError::Corrupt { offset, expected, found, .. } = &error else { panic!("{error}") };
    assert!(*offset <= at as u64 && expected != found);
    let text = error.to_string();
    assert!(text.contains("snapshot") && text.contains(&path.display().to_string()), "{text}");
    assert_eq!(file.verify().unwrap_err().to_string(), text);
}

#[test]
fn an_unreadable_sector_is_damage_of_its_chunk_and_of_no_other() {
    let fs = disk();
    write_one(&fs, 1, 9).unwrap();
    let path = snapshot_path(&dir(), id(9));
    let last = bytes_of(&fs, &path).len() as u64 - 100;
    let file = open(&fs, 1, 9).unwrap();
    fs.fail_reads(&path, last..last + 1).unwrap();
    assert!(file.chunk(0).is_ok());
    let error = file.chunk(2).unwrap_err();
    assert!(matches!(error, SnapshotError::Io { op: "read", .. }) && error.is_corruption());
    assert!(std::error::Error::source(&error).is_some());
}

/// A block that the disk wrote to the wrong place: whole, with good checksums, of another file.
#[test]
fn a_chunk_of_another_snapshot_group_or_node_does_not_pass() {
    let fs = disk();
    write_one(&fs, 1, 9).unwrap();
    let path = snapshot_path(&dir(), id(9));
    let good = bytes_of(&fs, &path);
    let first = good.len() - 32 - LEN - 3 * 16;
    let chunk = first..first + 16 + 512;

    let other = |node: u64, head: Head| {
        let fs = disk();
        let dir = group_dir(&root(), head.group);
        let path = snapshot_path(&dir, head.id);
        write(&fs, &dir, &identity(node), head, &mut std::iter::once(payload(50, LEN))).unwrap();
        bytes_of(&fs, &path)
    };
    let mut newer_life = head(9);
    newer_life.group.epoch = Epoch(4);
    for (what, donor) in [
        ("another entry", other(1, head(10))),
        ("another epoch", other(1, newer_life)),
        ("another node", other(2, head(9))),
    ] {
        let mut bytes = good.clone();
        bytes[chunk.clone()].copy_from_slice(&donor[chunk.clone()]);
        put_file(&fs, &path, &bytes);
        let file = open(&fs, 1, 9).unwrap();
        let error = file.chunk(0).unwrap_err();
        let at_header =
            matches!(error, SnapshotError::Corrupt { what: "chunk header checksum", .. });
        assert!(at_header, "{what}: {error}");
    }
    // The right file, and one of its own chunks at another's place.
    let mut bytes = good.clone();
    bytes.copy_within(chunk.clone(), chunk.end);
    put_file(&fs, &path, &bytes);
    let error = open(&fs, 1, 9).unwrap().chunk(1).unwrap_err();
    assert!(matches!(error, SnapshotError::Corrupt { what: "chunk number", .. }), "{error}");
}

#[test]
fn a_file_of_another_node_group_or_entry_is_refused_by_name() {
    let fs = disk();
    write_one(&fs, 1, 9).unwrap();
    let path = snapshot_path(&dir(), id(9));
    let error = open(&fs, 2, 9).unwrap_err();
    assert!(matches!(error, SnapshotError::Foreign { .. }) && !error.is_corruption(), "{error}");

    let bytes = bytes_of(&fs, &path);
    let renamed = snapshot_path(&dir(), id(10));
    put_file(&fs, &renamed, &bytes);
    let error = open(&fs, 1, 10).unwrap_err();
    assert!(matches!(error, SnapshotError::Corrupt { what: "index of the name", .. }), "{error}");

    let other = group_dir(&root(), GroupKey { id: GroupId(8), epoch: Epoch(3) });
    fs.create_dir(&other).unwrap();
    let moved = snapshot_path(&other, id(9));
    put_file(&fs, &moved, &bytes);
    let error = SnapshotFile::open(&fs, &moved, &identity(1)).unwrap_err();
    assert!(matches!(error, SnapshotError::Corrupt { what: "group of the directory", .. }));
}

#[test]
fn a_newer_format_is_refused_by_name_and_not_called_damage() {
    let fs = disk();
    write_one(&fs, 1, 9).unwrap();
    let path = snapshot_path(&dir(), id(9));
    let mut bytes = bytes_of(&fs, &path);
    bytes[8] = 2;
    let crc = crc32c::crc32c(&bytes[..124]).to_le_bytes();
    bytes[124..128].copy_from_slice(&crc);
    put_file(&fs, &path, &bytes);
    let error = open(&fs, 1, 9).unwrap_err();
    assert!(matches!(error, SnapshotError::NewerFormat { found: 2, expected: 1, .. }), "{error}");
}

#[test]
fn o06_the_bytes_of_version_1_never_change() {
    let golden = include_bytes!("golden/snapshot_v1.snap");
    let fs = disk();
    write_one(&fs, 1, 9).unwrap();
    let path = snapshot_path(&dir(), id(9));
    let written = bytes_of(&fs, &path);
    let hex: String = written.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(written == golden, "writing differs from the golden file: {hex}");
    put_file(&fs, &path, golden);
    assert_whole(&fs, 1, 9);
}

#[test]
fn a_list_is_newest_first_and_reports_each_file() {
    let fs = disk();
    assert!(list(&fs, &dir(), &identity(1)).unwrap().is_empty(), "no directory, no snapshots");
    for index in [9, 12, 30] {
        write_one(&fs, 1, index).unwrap();
    }
    put_file(&fs, &dir().join("0000000000000002-000000000000000d.tmp"), b"x");
    put_file(&fs, &dir().join("0000000000000002-000000000000000d-01020304.part"), b"x");
    put_file(&fs, &dir().join("notes.snap"), b"x");
    fs.corrupt(snapshot_path(&dir(), id(12)), |bytes| bytes[130] ^= 1).unwrap();
    let found = list(&fs, &dir(), &identity(1)).unwrap();
    let seen: Vec<_> = found.iter().map(|f| (f.id, f.result.is_ok())).collect();
    assert_eq!(seen, [(id(30), true), (id(12), false), (id(9), true)]);

    let left = leftovers(&fs, &dir()).unwrap();
    assert_eq!((left.temporary.len(), left.parts.len(), left.strays.len()), (1, 1, 1));
    assert_eq!(remove_leftovers(&fs, &dir(), &|_| true).unwrap().len(), 1, "the part is kept");
    assert_eq!(remove_leftovers(&fs, &dir(), &|_| false).unwrap().len(), 1);
    assert!(fs.exists(&dir().join("notes.snap")).unwrap(), "a stray is nobody's to remove");
}

#[test]
fn the_real_file_system_takes_the_same_steps() {
    let place = tempfile::tempdir().unwrap();
    let dir = group_dir(place.path(), group());
    let fs = refloat_vfs::OsFs;
    let mut source = std::iter::once(payload(9, LEN));
    let meta = write(&fs, &dir, &identity(1), head(9), &mut source).unwrap();
    let file = SnapshotFile::open(&fs, &snapshot_path(&dir, id(9)), &identity(1)).unwrap();
    assert_eq!(content(&file).unwrap(), payload(9, LEN));

    let mut incoming = Incoming::begin(&fs, &dir, &identity(1), meta.clone()).unwrap();
    chunks(&file).iter().for_each(|chunk| _ = incoming.put(chunk).unwrap());
    assert_eq!(incoming.finish(&fs).unwrap(), meta);
    assert_eq!(content(&file).unwrap(), payload(9, LEN), "an open file outlives its name");
    assert_eq!(list(&fs, &dir, &identity(1)).unwrap().len(), 1);
    assert_eq!(leftovers(&fs, &dir).unwrap(), refloat_snapshot::Leftovers::default());
}

#[test]
fn names_are_read_back() {
    let group = GroupKey { id: GroupId(u64::MAX), epoch: Epoch(1) };
    assert_eq!(group_of(&group_dir(Path::new("/x"), group)), Some(group));
    for wrong in ["g1-e1", "", "gffffffffffffffff", "g000000000000000G-e0000000000000001"] {
        assert_eq!(group_of(Path::new(wrong)), None, "{wrong}");
    }
}

#[test]
fn n02_retention_keeps_the_two_newest_that_are_valid_and_never_removes_a_damaged_one() {
    let at = EntryId::new(Term(9), Index(999));
    let keep = |fs: &SimFs| {
        let kept = retain(fs, &dir(), &identity(1), at, 2).unwrap();
        let damaged: Vec<_> = kept.damaged.iter().map(|f| f.id).collect();
        (kept.kept, kept.removed, damaged)
    };
    let with = |indexes: &[u64], rotten: &[u64]| {
        let fs = disk();
        indexes.iter().for_each(|i| _ = write_one(&fs, 1, *i).unwrap());
        for index in rotten {
            // In the payload, where neither header nor seal shows it.
            fs.corrupt(snapshot_path(&dir(), id(*index)), |b| b[700] ^= 1).unwrap();
        }
        fs
    };
    let none = Vec::<EntryId>::new;
    let ids = |indexes: &[u64]| indexes.iter().map(|i| id(*i)).collect::<Vec<_>>();
    let four = [9, 12, 30, 31];
    assert_eq!(keep(&with(&four, &[])), (ids(&[31, 30]), ids(&[12, 9]), none()));
    assert_eq!(keep(&with(&four, &[31])), (ids(&[30, 12]), ids(&[9]), ids(&[31])));
    assert_eq!(keep(&with(&four, &[31, 30, 12])), (ids(&[9]), none(), ids(&[31, 30, 12])));
    assert_eq!(keep(&with(&four, &four)), (none(), none(), ids(&[31, 30, 12, 9])));
    assert_eq!(keep(&with(&[9], &[])), (ids(&[9]), none(), none()));
    // One too old to be needed and visibly damaged is evidence all the same.
    let fs = with(&four, &[]);
    fs.corrupt(snapshot_path(&dir(), id(9)), |bytes| bytes[30] ^= 1).unwrap();
    assert_eq!(keep(&fs), (ids(&[31, 30]), ids(&[12]), ids(&[9])));
    // What the log does not name yet is no reason to remove what it names.
    let fs = with(&four, &[]);
    let kept = retain(&fs, &dir(), &identity(1), id(12), 2).unwrap();
    assert_eq!((kept.kept, kept.removed), (ids(&[12, 9]), none()));
}

#[test]
fn a_damaged_snapshot_is_set_aside_whole_and_never_over_another() {
    let fs = disk();
    for _ in 0..3 {
        write_one(&fs, 1, 9).unwrap();
        set_aside(&fs, &snapshot_path(&dir(), id(9))).unwrap();
    }
    assert!(list(&fs, &dir(), &identity(1)).unwrap().is_empty());
    assert_eq!(leftovers(&fs, &dir()).unwrap().strays.len(), 3);
}

#[test]
fn w16_a_full_disk_leaves_the_old_snapshot_and_gives_the_space_back() {
    let fs = disk();
    write_one(&fs, 1, 9).unwrap();
    let used = fs.used();
    fs.set_capacity(Some(used + 8192));
    let mut source = std::iter::once(payload(12, 20_000));
    let error = write(&fs, &dir(), &identity(1), head(12), &mut source).unwrap_err();
    assert!(matches!(error, SnapshotError::NoSpace { .. }), "{error}");
    assert!(error.is_retryable() && !error.is_poison());
    assert_eq!(fs.used(), used);
    assert_whole(&fs, 1, 9);
    fs.set_capacity(None);
    write_one(&fs, 1, 12).unwrap();
    assert_whole(&fs, 1, 12);
}

#[test]
fn w15_a_write_or_sync_that_fails_is_poison_and_publishes_nothing() {
    for kind in [OpKind::Write, OpKind::Sync, OpKind::Rename, OpKind::SyncDir] {
        let fs = disk();
        write_one(&fs, 1, 9).unwrap();
        fs.inject(refloat_vfs::Fault::on(kind));
        let error = write_one(&fs, 1, 12).unwrap_err();
        assert!(error.is_poison(), "{kind:?}: {error}");
        let fs = fs.power_cut(|_| refloat_vfs::Fate::Lost);
        assert_whole(&fs, 1, 9);
        assert_eq!(list(&fs, &dir(), &identity(1)).unwrap().len(), 1, "{kind:?}");
    }
}
