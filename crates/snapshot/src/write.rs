//! Writing a snapshot of this node's own state.

use std::io;
use std::path::Path;

use bytes::Bytes;
use refloat_types::Identity;
use refloat_vfs::{OpenOptions, Vfs};

use crate::disk::Disk;
use crate::format::{self, FIXED_LEN, Layout, chunk_at};
use crate::names::{snapshot_path, temporary_path};
use crate::publish::{ensure_dir, publish};
use crate::{Chunk, Head, SnapshotError, SnapshotMeta};

/// A state machine's bytes, in pieces of any length.
pub trait Source: Send {
    /// The next piece, or `None` at the end.
    fn next_chunk(&mut self) -> Option<Bytes>;
}

impl<I: Iterator<Item = Bytes> + Send> Source for I {
    fn next_chunk(&mut self) -> Option<Bytes> {
        self.next()
    }
}

/// Writes, verifies and publishes a snapshot in `dir`, a group's directory (made if missing; its
/// parent must exist). When it returns `Ok`, the file and its name are durable.
///
/// # Errors
/// No space: what was there before is untouched. [`SnapshotError::is_poison`]: the process must
/// stop. Corruption: the disk did not return what was written.
pub fn write(
    vfs: &dyn Vfs,
    dir: &Path,
    identity: &Identity,
    head: Head,
    source: &mut dyn Source,
) -> Result<SnapshotMeta, SnapshotError> {
    SnapshotMeta::seal(head.clone(), 0, 0, 0).check()?;
    ensure_dir(vfs, dir)?;
    let (temporary, to) = (temporary_path(dir, head.id), snapshot_path(dir, head.id));
    let disk = create_anew(vfs, &temporary)?;
    let written =
        fill(&disk, identity, head, source).and_then(|()| publish(vfs, &disk, &to, identity));
    if written.as_ref().is_err_and(|error| !error.is_poison()) {
        // Best effort, to give the space back: a leftover is removed at the next start.
        let _ = vfs.remove_file(&temporary);
    }
    written
}

/// Creates a file; a leftover of an earlier attempt under the name is removed, never written over.
pub(crate) fn create_anew(vfs: &dyn Vfs, path: &Path) -> Result<Disk, SnapshotError> {
    match vfs.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(crate::disk::failed("remove", path, None, 0)(error))
        }
        _ => Disk::open_for_writing(vfs, path, OpenOptions::create_new()),
    }
}

/// Writes chunks, then the header that only now knows the sizes, then the seal. Their order does
/// not matter: nothing counts before the sync, and the name is nobody's.
fn fill(
    disk: &Disk,
    identity: &Identity,
    head: Head,
    source: &mut dyn Source,
) -> Result<(), SnapshotError> {
    let mut chunks = ChunkWriter::new(disk, identity, &head);
    while let Some(piece) = source.next_chunk() {
        chunks.push(piece)?;
    }
    let (payload_len, count, crc) = chunks.finish()?;
    let meta = SnapshotMeta::seal(head, payload_len, count, crc);
    let layout = Layout::of(&meta)?;
    write_header(disk, identity, &meta)?;
    write_seal(disk, identity, &meta, &layout)
}

pub(crate) fn write_header(
    disk: &Disk,
    identity: &Identity,
    meta: &SnapshotMeta,
) -> Result<(), SnapshotError> {
    disk.write(&format::header(identity, meta), 0)
}

pub(crate) fn write_seal(
    disk: &Disk,
    identity: &Identity,
    meta: &SnapshotMeta,
    layout: &Layout,
) -> Result<(), SnapshotError> {
    let header_crc = format::header_crc(identity, meta);
    let salt = format::salt(identity, meta.group, meta.id);
    let seal = format::seal(salt, layout.file_len(), meta.digest, header_crc);
    disk.write(&seal, layout.seal_at())
}

pub(crate) fn write_chunk(
    disk: &Disk,
    salt: u32,
    at: u64,
    chunk: &Chunk,
) -> Result<(), SnapshotError> {
    let len = u32::try_from(chunk.bytes.len()).unwrap_or(u32::MAX);
    let mut bytes = format::chunk_header(salt, chunk.n, len, chunk.digest);
    bytes.extend_from_slice(&chunk.bytes);
    disk.write(&bytes, at)
}

/// Cuts pieces of any length into chunks of one length.
struct ChunkWriter<'a> {
    disk: &'a Disk,
    salt: u32,
    header_len: u64,
    chunk_len: u32,
    open: Vec<u8>,
    next: u32,
    payload_len: u64,
    payload_crc: u32,
}

impl<'a> ChunkWriter<'a> {
    fn new(disk: &'a Disk, identity: &Identity, head: &Head) -> ChunkWriter<'a> {
        let body = SnapshotMeta::seal(head.clone(), 0, 0, 0).body();
        ChunkWriter {
            disk,
            salt: format::salt(identity, head.group, head.id),
            header_len: (FIXED_LEN + body.len()) as u64,
            chunk_len: head.chunk_len,
            open: Vec::with_capacity(head.chunk_len as usize),
            next: 0,
            payload_len: 0,
            payload_crc: 0,
        }
    }

    fn push(&mut self, mut piece: Bytes) -> Result<(), SnapshotError> {
        self.payload_crc = crc32c::crc32c_append(self.payload_crc, &piece);
        while !piece.is_empty() {
            let room = self.chunk_len as usize - self.open.len();
            self.open.extend_from_slice(&piece.split_to(room.min(piece.len())));
            if self.open.len() == self.chunk_len as usize {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SnapshotError> {
        let Some(after) = self.next.checked_add(1) else {
            let (found, limit) = (u64::from(self.next), u32::MAX.into());
            return Err(SnapshotError::Invalid { what: "chunk count", found, limit });
        };
        let at = chunk_at(self.header_len, self.chunk_len.into(), self.next);
        let chunk = Chunk::new(self.next, std::mem::take(&mut self.open).into());
        write_chunk(self.disk, self.salt, at, &chunk)?;
        self.payload_len += chunk.bytes.len() as u64;
        self.next = after;
        self.open.reserve(self.chunk_len as usize);
        Ok(())
    }

    fn finish(mut self) -> Result<(u64, u32, u32), SnapshotError> {
        if !self.open.is_empty() {
            self.flush()?;
        }
        Ok((self.payload_len, self.next, self.payload_crc))
    }
}
