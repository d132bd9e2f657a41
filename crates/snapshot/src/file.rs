//! Reading a snapshot.

use std::path::Path;

use bytes::Bytes;
use refloat_types::Identity;
use refloat_vfs::Vfs;

use crate::disk::Disk;
use crate::format::{self, CHUNK_HEADER_LEN, FIXED_LEN, Fixed, Layout, SEAL_LEN};
use crate::names;
use crate::{Chunk, MAX_BODY_LEN, SnapshotError, SnapshotMeta};

/// A complete snapshot, open for reading. Every read is verified. Stays readable after its file
/// was removed.
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    disk: Disk,
    fixed: Fixed,
    meta: SnapshotMeta,
    layout: Layout,
}

impl SnapshotFile {
    /// Opens a snapshot of this node and verifies its name, header, length and seal; the payload
    /// is verified as it is read.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, not sealed, of another node, or newer than this code.
    pub fn open(
        vfs: &dyn Vfs,
        path: &Path,
        identity: &Identity,
    ) -> Result<SnapshotFile, SnapshotError> {
        let (disk, fixed, meta, layout) = open_header(vfs, path, identity)?;
        let file = SnapshotFile { disk, fixed, meta, layout };
        file.check_seal()?;
        Ok(file)
    }

    /// That the file still ends where its header says, with its seal.
    pub(crate) fn check_seal(&self) -> Result<(), SnapshotError> {
        let SnapshotFile { disk, fixed, layout, .. } = self;
        let len = disk.len()?;
        if len != layout.file_len() {
            return Err(disk.corrupt(len, "file length", layout.file_len(), len));
        }
        let seal = disk.read(layout.seal_at(), SEAL_LEN)?;
        format::check_seal(fixed, layout, &seal).map_err(|wrong| disk.wrong(wrong))
    }

    /// That the header still is what it was when the file was opened.
    pub(crate) fn check_header(&self) -> Result<(), SnapshotError> {
        let disk = &self.disk;
        let bytes = disk.read(0, FIXED_LEN)?;
        let fixed = format::read_fixed(&bytes).map_err(|wrong| disk.wrong(wrong))?;
        if fixed != self.fixed {
            return Err(disk.corrupt(0, "header", self.fixed.crc.into(), fixed.crc.into()));
        }
        let body = disk.read(FIXED_LEN as u64, fixed.body_len as usize)?;
        fixed.with_body(&body).map(drop).map_err(|wrong| disk.wrong(wrong))
    }

    /// That a checksum over the whole payload gives the digest of the content.
    pub(crate) fn check_digest(&self, payload_crc: u32) -> Result<(), SnapshotError> {
        let computed = self.meta.digest_over(payload_crc);
        if computed != self.meta.digest {
            let (expected, found) = (self.meta.digest.into(), computed.into());
            return Err(self.disk.corrupt(0, "content digest", expected, found));
        }
        Ok(())
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What it says of itself.
    #[must_use]
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// Where it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.disk.path
    }

    /// Its length in bytes.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.layout.file_len()
    }

    /// Reads and verifies one chunk.
    ///
    /// # Errors
    /// There is no such chunk, or it is damaged or cannot be read.
    pub fn chunk(&self, n: u32) -> Result<Chunk, SnapshotError> {
        read_chunk(&self.disk, &self.layout, self.fixed.salt(), n)
    }

    /// All chunks in order, each verified; ends after the first error.
    pub fn chunks(&self) -> impl Iterator<Item = Result<Bytes, SnapshotError>> + '_ {
        let mut failed = false;
        (0..self.layout.chunks()).map_while(move |n| {
            let chunk = (!failed).then(|| self.chunk(n))?;
            failed = chunk.is_err();
            Some(chunk.map(|c| c.bytes))
        })
    }

    /// Reads every chunk and verifies the digest over the whole content. [`Scrub`](crate::Scrub)
    /// does this, and reads header and seal again, in steps.
    ///
    /// # Errors
    /// The first damage found.
    pub fn verify(&self) -> Result<(), SnapshotError> {
        let mut crc = 0;
        for bytes in self.chunks() {
            crc = crc32c::crc32c_append(crc, &bytes?);
        }
        self.check_digest(crc)
    }
}

/// Opens a file and verifies all of its header: of a complete file as of one in reception.
pub(crate) fn open_header(
    vfs: &dyn Vfs,
    path: &Path,
    identity: &Identity,
) -> Result<(Disk, Fixed, SnapshotMeta, Layout), SnapshotError> {
    let disk = Disk::open(vfs, path)?;
    let bytes = disk.read(0, FIXED_LEN)?;
    let fixed = format::read_fixed(&bytes).map_err(|wrong| disk.wrong(wrong))?;
    if fixed.identity != *identity {
        return Err(SnapshotError::Foreign {
            path: path.to_path_buf(),
            expected: Box::new(*identity),
            found: Box::new(fixed.identity),
        });
    }
    if let Some((what, expected, found)) = names::mismatch(path, fixed.group, fixed.id) {
        return Err(disk.corrupt(52, what, expected, found));
    }
    if fixed.body_len > MAX_BODY_LEN {
        let (limit, found) = (MAX_BODY_LEN.into(), fixed.body_len.into());
        return Err(disk.corrupt(104, "membership and live indexes length", limit, found));
    }
    // No memory is taken for more than there is.
    let (at, len) = (FIXED_LEN as u64, u64::from(fixed.body_len));
    let there = disk.len()?.saturating_sub(at);
    if len > there {
        return Err(disk.corrupt(at, "length", len, there));
    }
    let body = disk.read(at, fixed.body_len as usize)?;
    let meta = fixed.with_body(&body).map_err(|wrong| disk.wrong(wrong))?;
    let layout = Layout::of(&meta)?;
    Ok((disk, fixed, meta, layout))
}

pub(crate) fn read_chunk(
    disk: &Disk,
    layout: &Layout,
    salt: u32,
    n: u32,
) -> Result<Chunk, SnapshotError> {
    let chunks = layout.chunks();
    if n >= chunks {
        return Err(SnapshotError::NoSuchChunk { path: disk.path.clone(), n, chunks });
    }
    let at = layout.chunk_at(n);
    let mut header = disk.read(at, CHUNK_HEADER_LEN + layout.chunk_len(n))?;
    let payload = header.split_off(CHUNK_HEADER_LEN);
    let digest = format::read_chunk(salt, at, n, &header, &payload).map_err(|w| disk.wrong(w))?;
    Ok(Chunk { n, digest, bytes: payload.into() })
}
