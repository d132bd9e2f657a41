//! Files in memory, to be read only: cheap to hurt a hundred thousand times.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use refloat_vfs::{FileLock, OpenOptions, Vfs, VfsFile};

/// A directory of files; those that a fault does not touch are shared.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    files: BTreeMap<PathBuf, File>,
}

#[derive(Clone, Debug, Default)]
struct File {
    bytes: Arc<Vec<u8>>,
    /// Blocks whose reading fails.
    unreadable: BTreeSet<u64>,
}

impl Memory {
    pub fn put(&mut self, path: PathBuf, bytes: Vec<u8>) {
        self.files.insert(path, File { bytes: Arc::new(bytes), ..File::default() });
    }

    pub fn bytes(&self, path: &Path) -> &[u8] {
        &self.files[path].bytes
    }

    pub fn remove(&mut self, path: &Path) {
        self.files.remove(path);
    }

    pub fn edit(&mut self, path: &Path) -> &mut Vec<u8> {
        Arc::make_mut(&mut self.files.get_mut(path).expect("the file is there").bytes)
    }

    pub fn make_unreadable(&mut self, path: &Path, block: u64) {
        self.files.get_mut(path).expect("the file is there").unreadable.insert(block);
    }
}

impl VfsFile for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let blocks = offset / 4096..(offset + buf.len() as u64).div_ceil(4096);
        if self.unreadable.range(blocks).next().is_some() {
            return Err(io::Error::other("unreadable"));
        }
        let from = (offset as usize).min(self.bytes.len());
        let len = buf.len().min(self.bytes.len() - from);
        buf[..len].copy_from_slice(&self.bytes[from..from + len]);
        Ok(len)
    }
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        refused()
    }
    fn sync_data(&self) -> io::Result<()> {
        refused()
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        refused()
    }
    fn allocate(&self, _: u64) -> io::Result<()> {
        refused()
    }
}

impl Vfs for Memory {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn VfsFile>> {
        if options.write {
            return Err(ErrorKind::ReadOnlyFilesystem.into());
        }
        let file = self.files.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(Arc::new(file.clone()))
    }
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }
    fn remove_file(&self, _: &Path) -> io::Result<()> {
        refused()
    }
    fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.files.keys().cloned().collect())
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.files.contains_key(path))
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }
    fn lock(&self, _: &Path) -> io::Result<Box<dyn FileLock>> {
        Err(ErrorKind::Unsupported.into())
    }
    fn available_space(&self, _: &Path) -> io::Result<u64> {
        Ok(0)
    }
}

/// Reading a log changes nothing.
fn refused() -> io::Result<()> {
    Err(ErrorKind::ReadOnlyFilesystem.into())
}
