//! The damage table of snapshots: every harm of [`Harm::all`] and every mix-up of whole files.
//! Never a wrong byte read as good, never a panic, never more memory than the file explains, and
//! the snapshot before it stays what it was.
//!
//! `cargo test -p refloat-snapshot --test damage_table -- --nocapture` prints the table of
//! `docs/recovery.md`.

mod common;

use std::path::Path;

use bytes::Bytes;
use common::*;
use refloat_snapshot::{SnapshotError, SnapshotFile, list, snapshot_path, write};
use refloat_vfs::{Harm, SimFs, Tally};

const PAYLOAD: usize = 17_000;

fn written(fs: &SimFs, node: u64, index: u64) -> Vec<u8> {
    let mut pieces = std::iter::once(payload(index, PAYLOAD));
    write(fs, &dir(), &identity(node), head(index), &mut pieces).expect("write a snapshot");
    bytes_of(fs, &snapshot_path(&dir(), id(index)))
}

/// Opens snapshot 9 and reads every chunk: each is as written or an error that names it.
fn answer(fs: &SimFs) -> String {
    let path = snapshot_path(&dir(), id(9));
    let file = match SnapshotFile::open(fs, &path, &identity(1)) {
        Ok(file) => file,
        Err(error) => return format!("refused: {}", refusal(&error, &path)),
    };
    assert_eq!((file.meta().id, &file.meta().live), (id(9), &live()), "a wrong header");
    let good = payload(9, PAYLOAD);
    let expected: Vec<Bytes> = good.chunks(CHUNK as usize).map(Bytes::copy_from_slice).collect();
    assert_eq!(file.meta().chunks as usize, expected.len());
    let mut bad = 0;
    for (n, expected) in (0..).zip(&expected) {
        match file.chunk(n) {
            Ok(chunk) => assert!(chunk.bytes == *expected, "chunk {n}: other bytes than written"),
            Err(error) => {
                assert!(error.is_corruption(), "{error}");
                assert_eq!(error.path(), Some(&*path));
                bad += 1;
            }
        }
    }
    assert!(file.verify().is_err_and(|error| error.is_corruption()), "nothing was noticed");
    match bad {
        0 => "opened; the whole is refused by its digest".into(),
        1 => "opened; one chunk refused, the others read".into(),
        _ => "opened; several chunks refused, the others read".into(),
    }
}

fn refusal(error: &SnapshotError, path: &Path) -> &'static str {
    assert_eq!(error.path(), Some(path), "{error}");
    match error {
        SnapshotError::Foreign { .. } => "of another node, with both names",
        SnapshotError::Corrupt { what: "file length" | "length", .. } => "its length",
        SnapshotError::Corrupt { what: "seal", .. } => "its seal",
        SnapshotError::Corrupt { what: "index of the name", .. } => "another entry than its name",
        SnapshotError::Corrupt { .. } => "its header",
        SnapshotError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            "absent"
        }
        other => panic!("{other}"),
    }
}

/// No decoder allocates by an unchecked number.
fn bounded<T>(len: usize, what: impl FnOnce() -> T) -> T {
    let mut result = None;
    let used = allocation_counter::measure(|| result = Some(what()));
    let limit = 8 * len as u64 + (64 << 10);
    assert!(used.bytes_max < limit, "{} bytes of memory for a file of {len}", used.bytes_max);
    result.expect("measured")
}

#[test]
fn s18_the_damage_table_of_a_snapshot() {
    let fs = disk();
    let older = written(&fs, 1, 5);
    let good = written(&fs, 1, 9);
    let path = snapshot_path(&dir(), id(9));
    let mut table = Tally::default();
    for harm in Harm::all(good.len(), older.len()) {
        let Some(bad) = harm.apply(&good, &older) else {
            table.add(harm.class(), "nothing changed: the bytes were equal");
            continue;
        };
        fs.put(&path, &bad).unwrap();
        fs.clear_ops();
        let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            bounded(good.len(), || answer(&fs))
        }));
        table.add(harm.class(), &answer.unwrap_or_else(|_| panic!("at {harm:?}")));
    }
    let found = list(&fs, &dir(), &identity(1)).unwrap();
    assert_eq!(found.iter().map(|f| f.result.is_ok()).collect::<Vec<_>>(), [false, true]);
    open(&fs, 1, 5).and_then(|file| file.verify()).expect("the snapshot before it is whole");

    let doubled = [&good[..], &good[..]].concat();
    let elsewhere = written(&disk(), 4, 9);
    let cases: [(&str, Option<&[u8]>); 4] = [
        ("file removed", None),
        ("file doubled in length", Some(&doubled)),
        ("older file under this name", Some(&older)),
        ("another node's file under this name", Some(&elsewhere)),
    ];
    for (fault, bytes) in cases {
        let fs = disk();
        written(&fs, 1, 9);
        match bytes {
            Some(bytes) => put_file(&fs, &path, bytes),
            None => refloat_vfs::Vfs::remove_file(&fs, &path).unwrap(),
        }
        table.add(fault, &answer(&fs));
    }
    println!("{table}");
}
