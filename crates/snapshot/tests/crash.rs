//! Every step of writing, receiving, publishing and removing, and every disk that a crash at that
//! step may leave.

mod common;

use common::*;
use refloat_snapshot::{
    Chunk, Incoming, SnapshotMeta, list, remove_leftovers, retain, snapshot_path,
};
use refloat_types::{EntryId, Index, Term};
use refloat_vfs::{Fault, ImageOptions, OpKind, SimFs, Vfs};

const IMAGES: usize = 600;

/// Runs `work` on copies of a disk, crashed at each of its operations and after the last, and
/// calls `check` with each image, whether the work had returned, and again with what a power cut
/// leaves of a process kill's image. Returns how many images there were.
fn at_every_crash(
    base: &SimFs,
    work: impl Fn(&SimFs) -> bool,
    check: impl Fn(&SimFs, bool),
) -> usize {
    let whole = base.fork();
    assert!(work(&whole), "the work itself must succeed");
    let mut images = 0;
    for at in base.op_count()..=whole.op_count() {
        let fs = base.fork();
        fs.crash_at(at);
        let done = work(&fs);
        assert_eq!(done, at == whole.op_count(), "crash at {at} of {}", whole.op_count());
        let mut options = ImageOptions::new(IMAGES);
        options.garbage = true;
        options.torn = true;
        for image in fs.crash_images_with(options) {
            images += 1;
            for later in image.crash_images(6) {
                images += 1;
                check(&later, done);
            }
            check(&image, done);
        }
    }
    images
}

/// What must hold on any image: each name that ends in `.snap` is a whole snapshot.
fn all_listed_are_whole(fs: &SimFs, node: u64) -> Vec<EntryId> {
    let found = list(fs, &dir(), &identity(node)).unwrap();
    let whole = |f: &refloat_snapshot::Found| {
        if let Err(error) = &f.result {
            panic!("{error} in {}", fs.story());
        }
        assert_whole(fs, node, f.id.index.0);
        f.id
    };
    found.iter().map(whole).collect()
}

#[test]
fn n01_a_crash_at_every_step_of_a_write_leaves_the_old_snapshot_and_the_new_one_whole_or_not() {
    let base = disk();
    write_one(&base, 1, 9).unwrap();
    let images = at_every_crash(
        &base,
        |fs| write_one(fs, 1, 12).is_ok(),
        |fs, done| {
            let ids = all_listed_are_whole(fs, 1);
            assert!(ids.contains(&id(9)), "the old one is gone in {}", fs.story());
            assert!(!done || ids.contains(&id(12)), "the new one is gone in {}", fs.story());
            // The next start cleans up and writes again, over whatever was left.
            let fs = fs.fork();
            remove_leftovers(&fs, &dir(), &|_| true).unwrap();
            write_one(&fs, 1, 12).unwrap();
            assert_eq!(all_listed_are_whole(&fs, 1), [id(12), id(9)]);
        },
    );
    println!("{images} images");
    assert!(images > 300, "{images} images");
}

#[test]
fn n01_a_crash_at_every_step_of_the_first_write_of_a_group() {
    let images = at_every_crash(
        &disk(),
        |fs| write_one(fs, 1, 9).is_ok(),
        |fs, done| {
            let ids = all_listed_are_whole(fs, 1);
            assert!(!done || ids == [id(9)], "lost in {}", fs.story());
            let fs = fs.fork();
            write_one(&fs, 1, 9).unwrap();
            // And from here on nothing takes it away.
            let fs = fs.power_cut(|_| refloat_vfs::Fate::Lost);
            assert_eq!(all_listed_are_whole(&fs, 1), [id(9)]);
        },
    );
    println!("{images} images");
}

#[test]
fn n01_a_crash_while_a_snapshot_is_written_again_under_its_own_name() {
    let base = disk();
    write_one(&base, 1, 9).unwrap();
    let images = at_every_crash(
        &base,
        |fs| write_one(fs, 1, 9).is_ok(),
        |fs, _| assert_eq!(all_listed_are_whole(fs, 1), [id(9)], "in {}", fs.story()),
    );
    println!("{images} images");
}

fn receives(fs: &SimFs, meta: &SnapshotMeta, chunks: &[Chunk]) -> bool {
    receive(fs, meta, chunks).is_ok()
}

#[test]
fn n01_n12_a_crash_at_every_step_of_a_reception_loses_no_chunk_that_verifies() {
    let (meta, chunks) = sent(12);
    let base = disk();
    write_one(&base, 2, 9).unwrap();
    let images = at_every_crash(
        &base,
        |fs| receives(fs, &meta, &chunks),
        |fs, done| {
            let ids = all_listed_are_whole(fs, 2);
            assert!(ids.contains(&id(9)), "the old one is gone in {}", fs.story());
            assert!(!done || ids.contains(&id(12)), "the new one is gone in {}", fs.story());
            let fs = fs.fork();
            let incoming = Incoming::begin(&fs, &dir(), &identity(2), meta.clone()).unwrap();
            assert!(incoming.have().len() <= 3);
            drop(incoming);
            assert_eq!(receive(&fs, &meta, &chunks).unwrap(), meta, "in {}", fs.story());
            assert_eq!(all_listed_are_whole(&fs, 2), [id(12), id(9)]);
        },
    );
    println!("{images} images");
}

#[test]
fn n12_a_receiver_that_was_killed_keeps_the_chunks_it_had() {
    let (meta, chunks) = sent(12);
    let fs = disk();
    let mut incoming = Incoming::begin(&fs, &dir(), &identity(2), meta.clone()).unwrap();
    incoming.put(&chunks[2]).unwrap();
    incoming.put(&chunks[0]).unwrap();
    let fs = fs.kill();
    let mut incoming = Incoming::begin(&fs, &dir(), &identity(2), meta.clone()).unwrap();
    let have: Vec<u64> = incoming.have().iter().map(|n| n.0).collect();
    assert_eq!((have, incoming.missing(0), incoming.missing(2)), (vec![0, 2], Some(1), None));
    incoming.put(&chunks[1]).unwrap();
    assert_eq!(incoming.finish(&fs).unwrap(), meta);
    assert_whole(&fs.power_cut(|_| refloat_vfs::Fate::Lost), 2, 12);
}

#[test]
fn n12_what_a_failed_sync_left_in_the_page_cache_is_written_again() {
    let (meta, chunks) = sent(12);
    let fs = disk();
    let mut incoming = Incoming::begin(&fs, &dir(), &identity(2), meta.clone()).unwrap();
    chunks.iter().for_each(|chunk| assert!(incoming.put(chunk).unwrap()));
    fs.inject(Fault::on(OpKind::Sync));
    assert!(incoming.finish(&fs).unwrap_err().is_poison());
    // The process ends over it; the next one finds every chunk, some of them only in memory.
    let fs = fs.kill();
    let incoming = Incoming::begin(&fs, &dir(), &identity(2), meta.clone()).unwrap();
    assert_eq!(incoming.missing(0), None);
    assert_eq!(incoming.finish(&fs).unwrap(), meta);
    assert_whole(&fs.power_cut(|_| refloat_vfs::Fate::Lost), 2, 12);
}

#[test]
fn n01_a_crash_at_every_step_of_retention_leaves_two_valid_snapshots() {
    let base = disk();
    [9, 12, 30, 31].iter().for_each(|index| _ = write_one(&base, 1, *index).unwrap());
    base.corrupt(snapshot_path(&dir(), id(31)), |bytes| bytes[700] ^= 1).unwrap();
    let top = EntryId::new(Term(9), Index(999));
    let images = at_every_crash(
        &base,
        |fs| retain(fs, &dir(), &identity(1), top, 2).is_ok(),
        |fs, done| {
            assert_whole(fs, 1, 30);
            assert_whole(fs, 1, 12);
            assert!(fs.exists(&snapshot_path(&dir(), id(31))).unwrap(), "evidence was removed");
            assert!(!done || !fs.exists(&snapshot_path(&dir(), id(9))).unwrap());
        },
    );
    println!("{images} images");
}
