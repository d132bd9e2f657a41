//! Small snapshots on a simulated disk.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::{Path, PathBuf};

use bytes::Bytes;
use refloat_snapshot::{Chunk, Head, Incoming, SnapshotError, SnapshotFile, SnapshotMeta};
use refloat_snapshot::{group_dir, snapshot_path, write};
use refloat_types::{
    ClusterId, ConfState, EntryId, Epoch, GroupId, GroupKey, Identity, Incarnation, Index,
    IndexSet, Member, NodeId, Term,
};
use refloat_vfs::{OpenOptions, SimFs, Vfs};

pub const CHUNK: u32 = 512;

pub fn group() -> GroupKey {
    GroupKey { id: GroupId(7), epoch: Epoch(3) }
}

pub fn root() -> PathBuf {
    PathBuf::from("/snap")
}

pub fn dir() -> PathBuf {
    group_dir(&root(), group())
}

pub fn id(index: u64) -> EntryId {
    EntryId::new(Term(2), Index(index))
}

pub fn identity(node: u64) -> Identity {
    let member = Member::new(NodeId(node), Incarnation(0x00aa_0000 + u128::from(node)));
    Identity { cluster: ClusterId(0xc1), member }
}

pub fn live() -> IndexSet {
    [1, 2, 5].map(Index).into_iter().collect()
}

pub fn head(index: u64) -> Head {
    let conf = ConfState::of_voters([1, 2, 3].map(|n| identity(n).member));
    Head::new(group(), id(index), conf, live()).with_chunk_len(CHUNK)
}

/// Bytes that differ by index, so that no snapshot passes for another.
pub fn payload(index: u64, len: usize) -> Bytes {
    (0..len).map(|n| (n as u64 * 31 + index * 7 + n as u64 / 256) as u8).collect::<Vec<_>>().into()
}

pub const LEN: usize = 1300;

/// A disk with the directory of all snapshots, durable.
pub fn disk() -> SimFs {
    let fs = SimFs::new();
    fs.create_dir(&root()).unwrap();
    fs.sync_dir(Path::new("/")).unwrap();
    fs
}

pub fn write_one(fs: &SimFs, node: u64, index: u64) -> Result<SnapshotMeta, SnapshotError> {
    let pieces = payload(index, LEN).chunks(200).map(Bytes::copy_from_slice).collect::<Vec<_>>();
    write(fs, &dir(), &identity(node), head(index), &mut pieces.into_iter())
}

pub fn open(fs: &SimFs, node: u64, index: u64) -> Result<SnapshotFile, SnapshotError> {
    SnapshotFile::open(fs, &snapshot_path(&dir(), id(index)), &identity(node))
}

/// All of a snapshot's payload, verified.
pub fn content(file: &SnapshotFile) -> Result<Vec<u8>, SnapshotError> {
    file.verify()?;
    let parts: Result<Vec<Bytes>, _> = file.chunks().collect();
    Ok(parts?.concat())
}

/// That a snapshot is there with all it should hold.
#[track_caller]
pub fn assert_whole(fs: &SimFs, node: u64, index: u64) {
    let file = open(fs, node, index).unwrap_or_else(|e| panic!("{e} in {}", fs.story()));
    let bytes = content(&file).unwrap_or_else(|e| panic!("{e} in {}", fs.story()));
    assert!(bytes == payload(index, LEN), "content differs in {}", fs.story());
    assert_eq!((file.meta().id, &file.meta().live), (id(index), &live()));
}

pub fn chunks(file: &SnapshotFile) -> Vec<Chunk> {
    (0..file.meta().chunks).map(|n| file.chunk(n).unwrap()).collect()
}

/// A snapshot at node 1, as a sender has it.
pub fn sent(index: u64) -> (SnapshotMeta, Vec<Chunk>) {
    let fs = disk();
    write_one(&fs, 1, index).unwrap();
    let file = open(&fs, 1, index).unwrap();
    (file.meta().clone(), chunks(&file))
}

/// Receives at node 2 whatever is missing.
pub fn receive(
    fs: &SimFs,
    meta: &SnapshotMeta,
    chunks: &[Chunk],
) -> Result<SnapshotMeta, SnapshotError> {
    let mut incoming = Incoming::begin(fs, &dir(), &identity(2), meta.clone())?;
    while let Some(n) = incoming.missing(0) {
        incoming.put(&chunks[n as usize])?;
    }
    incoming.finish(fs)
}

pub fn put_file(fs: &SimFs, path: &Path, bytes: &[u8]) {
    let _ = fs.remove_file(path);
    let file = fs.open(path, OpenOptions::create_new()).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    fs.sync_dir(path.parent().unwrap()).unwrap();
}

pub fn bytes_of(fs: &SimFs, path: &Path) -> Vec<u8> {
    let file = fs.open(path, OpenOptions::read()).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}
