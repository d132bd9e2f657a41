//! A snapshot on a real disk: written, damaged, found damaged, and received again from a peer.
//!
//! `cargo run -p refloat-snapshot --example write_damage_resume`

use bytes::Bytes;
use refloat_snapshot::{
    Head, Incoming, Scrub, SnapshotFile, group_dir, set_aside, snapshot_path, write,
};
use refloat_types::{ConfState, EntryId, GroupKey, Identity, Index, IndexSet, Term};
use refloat_vfs::{OpenOptions, OsFs, Vfs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mine, peers) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (me, group) = (Identity::default(), GroupKey::META);
    let id = EntryId::new(Term(3), Index(100));
    for root in [&mine, &peers] {
        let head = Head::new(group, id, ConfState::default(), IndexSet::new()).with_chunk_len(4096);
        let mut state = (0..20).map(|n| Bytes::from(vec![n; 1000]));
        write(&OsFs, &group_dir(root.path(), group), &me, head, &mut state)?;
    }

    let dir = group_dir(mine.path(), group);
    let path = snapshot_path(&dir, id);
    let file = OsFs.open(&path, OpenOptions::write())?;
    let mut byte = [0];
    let middle = file.len()? / 2;
    file.read_at(&mut byte, middle)?;
    file.write_at(&[byte[0] ^ 1], middle)?;
    let mut scrub = Scrub::new(SnapshotFile::open(&OsFs, &path, &me)?);
    while !scrub.is_done() {
        for error in scrub.step(8192).found {
            println!("{error}");
        }
    }
    println!("set aside as {}", set_aside(&OsFs, &path)?.display());

    let peer = SnapshotFile::open(&OsFs, &snapshot_path(&group_dir(peers.path(), group), id), &me)?;
    let mut incoming = Incoming::begin(&OsFs, &dir, &me, peer.meta().clone())?;
    while let Some(n) = incoming.missing(0) {
        incoming.put(&peer.chunk(n)?)?;
    }
    incoming.finish(&OsFs)?;
    SnapshotFile::open(&OsFs, &path, &me)?.verify()?;
    println!("received again, whole");
    Ok(())
}
