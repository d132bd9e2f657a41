//! Receiving a snapshot in chunks, over any number of restarts.

use std::path::{Path, PathBuf};

use refloat_planted::{Defect, is};
use refloat_types::{Identity, Index, IndexSet};
use refloat_vfs::{OpenOptions, Vfs};

use crate::disk::{Disk, failed};
use crate::file::{open_header, read_chunk};
use crate::format::{self, Layout};
use crate::names::{part_path, snapshot_path};
use crate::publish::{ensure_dir, publish};
use crate::write::{create_anew, write_chunk, write_header, write_seal};
use crate::{Chunk, SnapshotError, SnapshotMeta};

/// A snapshot being received into a `.part` file. Owned and blocking: to be run inside jobs.
#[derive(Debug)]
pub struct Incoming {
    disk: Disk,
    identity: Identity,
    meta: SnapshotMeta,
    layout: Layout,
    salt: u32,
    /// Chunk `n` is kept as index `n`.
    have: IndexSet,
    to: PathBuf,
}

impl Incoming {
    /// Begins a reception into a group's directory (made if missing), or goes on with one of the
    /// same content: the chunks that verify in its `.part` file are kept. Space for the whole
    /// file is taken at once, so that a transfer that cannot fit does not start.
    ///
    /// # Errors
    /// The meta cannot be, or the disk fails or has no space. Nothing that was there is changed.
    pub fn begin(
        vfs: &dyn Vfs,
        dir: &Path,
        identity: &Identity,
        meta: SnapshotMeta,
    ) -> Result<Incoming, SnapshotError> {
        let layout = Layout::of(&meta)?;
        ensure_dir(vfs, dir)?;
        let path = part_path(dir, meta.id, meta.digest);
        let salt = format::salt(identity, meta.group, meta.id);
        let to = snapshot_path(dir, meta.id);
        let (disk, have) = match resume(vfs, &path, identity, &meta)? {
            Some(resumed) => resumed,
            None => (start(vfs, &path, identity, &meta, &layout)?, IndexSet::new()),
        };
        Ok(Incoming { disk, identity: *identity, meta, layout, salt, have, to })
    }

    /// What is being received.
    #[must_use]
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// The chunks that are here and verified, chunk `n` as index `n`.
    #[must_use]
    pub fn have(&self) -> &IndexSet {
        &self.have
    }

    /// The lowest chunk at or above `from` that is missing.
    #[must_use]
    pub fn missing(&self, from: u32) -> Option<u32> {
        let from = Index(from.into());
        let covering = self.have.ranges().iter().find(|r| r.0 <= from && from <= r.1);
        let next = covering.map_or(from, |r| r.1.next());
        u32::try_from(next.0).ok().filter(|n| *n < self.layout.chunks())
    }

    /// Writes one chunk, in any order; `false` if it was here already.
    ///
    /// # Errors
    /// [`SnapshotError::BadChunk`], [`SnapshotError::NoSuchChunk`]: it was not believed and not
    /// written. Else the disk failed.
    pub fn put(&mut self, chunk: &Chunk) -> Result<bool, SnapshotError> {
        let (n, chunks) = (chunk.n, self.layout.chunks());
        if n >= chunks {
            return Err(SnapshotError::NoSuchChunk { path: self.disk.path.clone(), n, chunks });
        }
        let bad = |what, expected, found| Err(SnapshotError::BadChunk { n, what, expected, found });
        let (len, found) = (self.layout.chunk_len(n), chunk.bytes.len());
        if len != found {
            return bad("length", len as u64, found as u64);
        }
        let computed = crc32c::crc32c(&chunk.bytes);
        if computed != chunk.digest {
            return bad("checksum", chunk.digest.into(), computed.into());
        }
        if self.have.contains(Index(n.into())) {
            return Ok(false);
        }
        write_chunk(&self.disk, self.salt, self.layout.chunk_at(n), chunk)?;
        self.have.insert(Index(n.into()));
        Ok(true)
    }

    /// Seals, syncs, reads back, renames and syncs the directory. When it returns `Ok`, the
    /// snapshot and its name are durable, and its content digest is the sender's.
    ///
    /// # Errors
    /// [`SnapshotError::Incomplete`]: chunks are missing; the reception goes on with another
    /// `begin`. A content digest that does not match removes the `.part` file: each chunk was
    /// what its sender read, but together they are not the snapshot that was announced.
    pub fn finish(self, vfs: &dyn Vfs) -> Result<SnapshotMeta, SnapshotError> {
        if let Some(missing) = self.missing(0) {
            return Err(SnapshotError::Incomplete { path: self.disk.path, missing });
        }
        write_seal(&self.disk, &self.identity, &self.meta, &self.layout)?;
        let published = publish(vfs, &self.disk, &self.to, &self.identity);
        if let Err(SnapshotError::Corrupt { what: "content digest", .. }) = published {
            let _ = vfs.remove_file(&self.disk.path);
        }
        published
    }

    /// Gives up and gives the space back.
    ///
    /// # Errors
    /// The disk failed.
    pub fn abandon(self, vfs: &dyn Vfs) -> Result<(), SnapshotError> {
        vfs.remove_file(&self.disk.path).map_err(failed("remove", &self.disk.path, None, 0))
    }
}

/// Opens what an earlier reception of the same content left, if it can be used at all, and writes
/// its intact chunks again.
fn resume(
    vfs: &dyn Vfs,
    path: &Path,
    identity: &Identity,
    meta: &SnapshotMeta,
) -> Result<Option<(Disk, IndexSet)>, SnapshotError> {
    let (part, layout, salt) = match open_header(vfs, path, identity) {
        Ok((part, fixed, found, layout)) if found == *meta => (part, layout, fixed.salt()),
        _ => return Ok(None),
    };
    if part.len()? != layout.file_len() {
        return Ok(None);
    }
    let disk = Disk::open_for_writing(vfs, path, OpenOptions::write())?;
    // What is read here, and the length, may stand in the page cache alone and count as written:
    // so a sync that failed under an earlier process leaves it. Only what is written again is
    // synced. What is cut off here is the place of the seal, which is written at the end.
    let again = !is(Defect::ResumedUnwritten);
    if again {
        let (short, whole) = (layout.seal_at(), layout.file_len());
        disk.file.set_len(short).map_err(failed("cut", path, None, 0))?;
        disk.file.allocate(whole).map_err(failed("allocate", path, None, whole))?;
        write_header(&disk, identity, meta)?;
    }
    let mut have = IndexSet::new();
    for n in 0..layout.chunks() {
        let Ok(chunk) = read_chunk(&part, &layout, salt, n) else { continue };
        if again {
            write_chunk(&disk, salt, layout.chunk_at(n), &chunk)?;
        }
        have.insert(Index(n.into()));
    }
    Ok(Some((disk, have)))
}

fn start(
    vfs: &dyn Vfs,
    path: &Path,
    identity: &Identity,
    meta: &SnapshotMeta,
    layout: &Layout,
) -> Result<Disk, SnapshotError> {
    let needed = layout.file_len();
    // Some file systems extend a file without reserving anything; there this is the only check.
    let free = path.parent().and_then(|dir| vfs.available_space(dir).ok());
    if free.is_some_and(|free| free < needed) {
        return Err(SnapshotError::NoSpace { path: path.to_path_buf(), needed });
    }
    let disk = create_anew(vfs, path)?;
    let begun = disk
        .file
        .allocate(needed)
        .map_err(failed("allocate", path, None, needed))
        .and_then(|()| write_header(&disk, identity, meta));
    if begun.as_ref().is_err_and(|error| !error.is_poison()) {
        let _ = vfs.remove_file(path);
    }
    begun.map(|()| disk)
}
