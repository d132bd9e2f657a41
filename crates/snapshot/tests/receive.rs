//! Receiving: what is believed, what is kept, what is refused.

mod common;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::*;
use refloat_snapshot::{Chunk, Head, Incoming, SnapshotError, leftovers, snapshot_path, write};
use refloat_types::Index;
use refloat_vfs::{FileLayer, Layer, OpenOptions, SimFs, Vfs, VfsFile};

#[test]
fn a_received_snapshot_bears_the_receivers_name_and_the_senders_digest() {
    let (meta, chunks) = sent(12);
    let fs = disk();
    let mut incoming = Incoming::begin(&fs, &dir(), &identity(2), meta.clone()).unwrap();
    for n in [2, 0, 1] {
        assert!(incoming.put(&chunks[n]).unwrap());
        assert!(!incoming.put(&chunks[n]).unwrap(), "twice is once");
    }
    assert_eq!(incoming.finish(&fs).unwrap(), meta);
    assert_whole(&fs, 2, 12);
    assert!(matches!(open(&fs, 1, 12), Err(SnapshotError::Foreign { .. })));
    assert!(leftovers(&fs, &dir()).unwrap().parts.is_empty());
    // And from there on to a third node, still the same.
    let file = open(&fs, 2, 12).unwrap();
    assert_eq!((file.meta(), common::chunks(&file)), (&meta, chunks));
}

#[test]
fn n05_a_chunk_that_changed_on_the_way_is_refused_and_nothing_is_written() {
    let (meta, chunks) = sent(12);
    let fs = disk();
    let mut incoming = Incoming::begin(&fs, &dir(), &identity(2), meta).unwrap();
    let ops = fs.op_count();
    let mut bytes = chunks[1].bytes.to_vec();
    bytes[40] ^= 2;
    let changed = Chunk { bytes: bytes.into(), ..chunks[1].clone() };
    let short = Chunk::new(1, chunks[1].bytes.slice(..100));
    let beyond = Chunk { n: 3, ..chunks[1].clone() };
    for bad in [changed, short] {
        let error = incoming.put(&bad).unwrap_err();
        assert!(matches!(error, SnapshotError::BadChunk { n: 1, .. }) && error.is_retryable());
    }
    assert!(matches!(incoming.put(&beyond), Err(SnapshotError::NoSuchChunk { n: 3, .. })));
    assert_eq!(fs.op_count(), ops);
    assert!(incoming.have().is_empty());
    assert!(matches!(incoming.finish(&fs), Err(SnapshotError::Incomplete { missing: 0, .. })));
}

#[test]
fn n05_chunks_of_two_senders_are_never_mixed() {
    let (meta, chunks) = sent(12);
    // Another replica's snapshot up to the same entry: as long, with other bytes.
    let elsewhere = disk();
    let mut source = std::iter::once(payload(99, LEN));
    let other = write(&elsewhere, &dir(), &identity(3), head(12), &mut source).unwrap();
    assert_ne!(meta.digest, other.digest);

    let fs = disk();
    let mut first = Incoming::begin(&fs, &dir(), &identity(2), other.clone()).unwrap();
    first.put(&common::chunks(&open(&elsewhere, 3, 12).unwrap())[0]).unwrap();
    drop(first);
    let second = Incoming::begin(&fs, &dir(), &identity(2), meta.clone()).unwrap();
    assert!(second.have().is_empty(), "a chunk of the other sender was kept");
    assert_eq!(receive(&fs, &meta, &chunks).unwrap(), meta);
    assert_eq!(
        leftovers(&fs, &dir()).unwrap().parts.len(),
        1,
        "the other goes on if it comes back"
    );
    assert!(Incoming::begin(&fs, &dir(), &identity(2), other).unwrap().have().contains(Index(0)));
}

#[test]
fn n05_chunks_that_are_not_what_was_announced_are_found_at_the_end_and_thrown_away() {
    let (meta, mut chunks) = sent(12);
    // Each verifies alone: a sender that read another snapshot than it announced.
    chunks[1] = Chunk::new(1, payload(77, 512));
    let fs = disk();
    let error = receive(&fs, &meta, &chunks).unwrap_err();
    assert!(matches!(error, SnapshotError::Corrupt { what: "content digest", .. }), "{error}");
    assert!(
        leftovers(&fs, &dir()).unwrap().parts.is_empty(),
        "the next attempt starts from nothing"
    );
    assert!(!fs.exists(&snapshot_path(&dir(), id(12))).unwrap());
    assert_eq!(receive(&fs, &meta, &sent(12).1).unwrap(), meta);
}

#[test]
fn n12_a_part_that_was_damaged_is_used_as_far_as_it_verifies() {
    let (meta, chunks) = sent(12);
    let part = |damage: &dyn Fn(&mut Vec<u8>)| {
        let fs = disk();
        let mut incoming = Incoming::begin(&fs, &dir(), &identity(2), meta.clone()).unwrap();
        chunks.iter().for_each(|chunk| _ = incoming.put(chunk).unwrap());
        drop(incoming);
        let path = leftovers(&fs, &dir()).unwrap().parts.remove(0);
        fs.corrupt(&path, damage).unwrap();
        let have = Incoming::begin(&fs, &dir(), &identity(2), meta.clone()).unwrap();
        let have: Vec<u64> = have.have().iter().map(|n| n.0).collect();
        assert_eq!(receive(&fs, &meta, &chunks).unwrap(), meta);
        assert_whole(&fs, 2, 12);
        have
    };
    assert_eq!(part(&|_| {}), [0, 1, 2]);
    assert_eq!(part(&|bytes| bytes[700] ^= 1), [1, 2], "one chunk");
    assert_eq!(part(&|bytes| bytes[30] ^= 1), [0u64; 0], "the header");
    assert_eq!(part(&|bytes| bytes.truncate(900)), [0u64; 0], "the length");
    assert_eq!(part(&Vec::clear), [0u64; 0], "all of it");
}

#[test]
fn an_announcement_that_cannot_be_is_refused_before_anything_is_allocated() {
    let (good, _) = sent(12);
    let fs = disk();
    fs.set_capacity(Some(1 << 20));
    for change in 0..5 {
        let mut meta = good.clone();
        match change {
            0 => meta.chunks = u32::MAX,
            1 => meta.payload_len = u64::MAX,
            2 => meta.chunk_len = 1,
            3 => meta.id.index = Index(4),
            _ => {
                meta.payload_len = u64::from(u32::MAX) * u64::from(meta.chunk_len);
                meta.chunks = u32::MAX;
            }
        }
        let error = Incoming::begin(&fs, &dir(), &identity(2), meta).unwrap_err();
        let told = matches!(error, SnapshotError::Invalid { .. } | SnapshotError::NoSpace { .. });
        assert!(told, "{change}: {error}");
        assert!(leftovers(&fs, &dir()).unwrap_or_default().parts.is_empty());
    }
}

#[test]
fn w16_a_reception_that_does_not_fit_does_not_start() {
    let (meta, chunks) = sent(12);
    let fs = disk();
    write_one(&fs, 2, 9).unwrap();
    fs.set_capacity(Some(fs.used()));
    let begun = Incoming::begin(&fs, &dir(), &identity(2), meta.clone());
    assert!(matches!(begun, Err(SnapshotError::NoSpace { .. })));
    assert_whole(&fs, 2, 9);
    fs.set_capacity(None);
    assert_eq!(receive(&fs, &meta, &chunks).unwrap(), meta);
}

#[test]
fn w16_what_a_reception_needs_is_its_own_from_the_start() {
    let elsewhere = disk();
    let mut source = std::iter::once(payload(12, 20_000));
    let meta = write(&elsewhere, &dir(), &identity(1), head(12), &mut source).unwrap();
    let chunks = common::chunks(&open(&elsewhere, 1, 12).unwrap());
    let fs = disk();
    let mut incoming = Incoming::begin(&fs, &dir(), &identity(2), meta.clone()).unwrap();
    // Somebody else fills the disk.
    fs.set_capacity(Some(fs.used()));
    assert!(matches!(write_one(&fs, 2, 9), Err(SnapshotError::NoSpace { .. })));
    chunks.iter().for_each(|chunk| _ = incoming.put(chunk).unwrap());
    assert_eq!(incoming.finish(&fs).unwrap(), meta);
}

#[test]
fn n05_a_part_under_the_name_of_another_is_not_taken_up() {
    let (meta, chunks) = sent(12);
    let elsewhere = disk();
    let mut source = std::iter::once(payload(99, LEN));
    let other = write(&elsewhere, &dir(), &identity(3), head(12), &mut source).unwrap();
    let fs = disk();
    let mut first = Incoming::begin(&fs, &dir(), &identity(2), other).unwrap();
    first.put(&common::chunks(&open(&elsewhere, 3, 12).unwrap())[0]).unwrap();
    let part = leftovers(&fs, &dir()).unwrap().parts.remove(0);
    let name = format!("{:016x}-{:016x}-{:08x}.part", meta.id.term.0, meta.id.index.0, meta.digest);
    fs.rename(&part, &dir().join(name)).unwrap();
    let begun = Incoming::begin(&fs, &dir(), &identity(2), meta.clone()).unwrap();
    assert!(begun.have().is_empty());
    assert_eq!(receive(&fs, &meta, &chunks).unwrap(), meta);
}

#[test]
fn what_is_abandoned_gives_its_space_back() {
    let (meta, _) = sent(12);
    let fs = disk();
    let used = fs.used();
    Incoming::begin(&fs, &dir(), &identity(2), meta).unwrap().abandon(&fs).unwrap();
    assert_eq!(fs.used(), used);
}

/// A disk that says yes and writes something else.
#[derive(Debug)]
struct Liar {
    fs: SimFs,
    lies: Arc<AtomicBool>,
}

#[derive(Debug)]
struct LiarFile {
    file: Arc<dyn VfsFile>,
    lies: Arc<AtomicBool>,
}

impl FileLayer for LiarFile {
    fn below(&self) -> &dyn VfsFile {
        &*self.file
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut bytes = buf.to_vec();
        if self.lies.load(Ordering::Relaxed) && bytes.len() > 400 {
            bytes[399] ^= 1;
        }
        self.file.write_at(&bytes, offset)
    }
}

impl Layer for Liar {
    fn below(&self) -> &dyn Vfs {
        &self.fs
    }

    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn VfsFile>> {
        let file = self.fs.open(path, options)?;
        Ok(Arc::new(LiarFile { file, lies: self.lies.clone() }))
    }
}

#[test]
fn what_the_disk_did_not_write_is_found_by_reading_back_before_the_name_is_given() {
    let (meta, chunks) = sent(12);
    let liar = Liar { fs: disk(), lies: Arc::new(AtomicBool::new(true)) };
    let head: Head = head(9);
    let written =
        write(&liar, &dir(), &identity(2), head.clone(), &mut std::iter::once(payload(9, LEN)));
    assert!(matches!(&written, Err(error) if error.is_corruption()), "{written:?}");
    assert!(!liar.fs.exists(&snapshot_path(&dir(), id(9))).unwrap());

    let mut incoming = Incoming::begin(&liar, &dir(), &identity(2), meta.clone()).unwrap();
    chunks.iter().for_each(|chunk| _ = incoming.put(chunk).unwrap());
    let error = incoming.finish(&liar).unwrap_err();
    assert!(error.is_corruption(), "{error}");
    assert!(!liar.fs.exists(&snapshot_path(&dir(), id(12))).unwrap());
    // The chunks that it did write are kept.
    liar.lies.store(false, Ordering::Relaxed);
    let again = Incoming::begin(&liar, &dir(), &identity(2), meta.clone()).unwrap();
    assert_eq!(again.have().len(), 1, "the short last one was written as it was");
    drop(again);
    assert_eq!(receive(&liar.fs, &meta, &chunks).unwrap(), meta);
}
