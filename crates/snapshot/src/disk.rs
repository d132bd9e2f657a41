//! One open file with its path, so that every error can name both and a place.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use refloat_vfs::{OpenOptions, Vfs, VfsFile};

use crate::SnapshotError;
use crate::format::{VERSION, Wrong};

#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn VfsFile>,
}

/// An error of the system, told by what was being done and where.
pub(crate) fn failed(
    op: &'static str,
    path: &Path,
    offset: Option<u64>,
    needed: u64,
) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_path_buf();
    move |source| match source.kind() {
        // Longer than the file system can hold is no space too: a peer's announcement may say it.
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
            if op != "sync" && op != "read" =>
        {
            SnapshotError::NoSpace { path, needed }
        }
        _ => SnapshotError::Io { op, path, offset, source },
    }
}

impl Disk {
    pub(crate) fn open(vfs: &dyn Vfs, path: &Path) -> Result<Disk, SnapshotError> {
        let file = vfs.open(path, OpenOptions::read()).map_err(failed("open", path, None, 0))?;
        Ok(Disk { path: path.to_path_buf(), file })
    }

    /// Opens for writing a file that no other part of the engine relies on.
    pub(crate) fn open_for_writing(
        vfs: &dyn Vfs,
        path: &Path,
        options: OpenOptions,
    ) -> Result<Disk, SnapshotError> {
        let file = vfs.open(path, options).map_err(failed("create", path, None, 0))?;
        Ok(Disk { path: path.to_path_buf(), file })
    }

    pub(crate) fn len(&self) -> Result<u64, SnapshotError> {
        self.file.len().map_err(failed("read", &self.path, None, 0))
    }

    /// Reads exactly `len` bytes; a file that ends first is damage.
    pub(crate) fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, SnapshotError> {
        let mut buf = vec![0; len];
        let read = self.file.read_at(&mut buf, offset).map_err(failed(
            "read",
            &self.path,
            Some(offset),
            0,
        ))?;
        if read < len {
            return Err(self.corrupt(offset, "length", len as u64, read as u64));
        }
        Ok(buf)
    }

    pub(crate) fn write(&self, bytes: &[u8], offset: u64) -> Result<(), SnapshotError> {
        let needed = offset.saturating_add(bytes.len() as u64);
        self.file.write_at(bytes, offset).map_err(failed("write", &self.path, Some(offset), needed))
    }

    pub(crate) fn sync(&self) -> Result<(), SnapshotError> {
        self.file.sync_data().map_err(failed("sync", &self.path, None, 0))
    }

    pub(crate) fn corrupt(
        &self,
        offset: u64,
        what: &'static str,
        expected: u64,
        found: u64,
    ) -> SnapshotError {
        SnapshotError::Corrupt { path: self.path.clone(), offset, what, expected, found }
    }

    pub(crate) fn wrong(&self, wrong: Wrong) -> SnapshotError {
        match wrong {
            Wrong::Part { at, what, expected, found } => self.corrupt(at, what, expected, found),
            Wrong::Newer { found } => {
                SnapshotError::NewerFormat { path: self.path.clone(), expected: VERSION, found }
            }
        }
    }
}
