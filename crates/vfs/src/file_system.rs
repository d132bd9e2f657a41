//! The two traits that every part of the engine does its file work through.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Stretches;

/// How to open a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Allow writing. Without it the file must exist.
    pub write: bool,
    /// Create the file if it does not exist (needs `write`).
    pub create: bool,
    /// Fail if the file exists (needs `create`).
    pub create_new: bool,
    /// Each `write_at` returns only once its bytes are durable (`O_DSYNC`).
    pub durable: bool,
    /// Bypass the page cache (`O_DIRECT`). Offsets, lengths and memory must then be multiples
    /// of [`crate::BLOCK_LEN`] (see [`crate::AlignedBuf`]). Where the file system has no such
    /// mode the open fails with `InvalidInput` or `Unsupported`, and the caller falls back.
    pub direct: bool,
}

impl OpenOptions {
    /// For reading an existing file.
    #[must_use]
    pub const fn read() -> OpenOptions {
        OpenOptions {
            write: false,
            create: false,
            create_new: false,
            durable: false,
            direct: false,
        }
    }

    /// For reading and writing an existing file.
    #[must_use]
    pub const fn write() -> OpenOptions {
        OpenOptions { write: true, ..OpenOptions::read() }
    }

    /// For reading and writing a file that must not exist yet.
    #[must_use]
    pub const fn create_new() -> OpenOptions {
        OpenOptions { create: true, create_new: true, ..OpenOptions::write() }
    }

    /// The same, with each write durable when it returns.
    #[must_use]
    pub const fn durable(self) -> OpenOptions {
        OpenOptions { durable: true, ..self }
    }

    /// The same, past the page cache.
    #[must_use]
    pub const fn direct(self) -> OpenOptions {
        OpenOptions { direct: true, ..self }
    }

    /// The combinations that the fields' documentation rules out, refused everywhere alike.
    pub(crate) fn check(self) -> io::Result<()> {
        if (self.create && !self.write) || (self.create_new && !self.create) {
            let text = "creating needs `write`, and `create_new` needs `create`";
            return Err(crate::error::reason(io::ErrorKind::InvalidInput, text));
        }
        Ok(())
    }
}

/// An open file. Methods take `&self`: positioned reads and writes share no cursor.
pub trait VfsFile: Send + Sync + Debug {
    /// Reads at an offset until `buf` is full or the file ends; returns how many bytes were read.
    ///
    /// # Errors
    /// Any error of the disk. An unreadable sector is damage, not absence.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `buf` at an offset, growing the file where needed.
    /// Durable on return only if the file was opened with [`OpenOptions::durable`].
    ///
    /// # Errors
    /// Any error of the disk; some of the bytes may have been written.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Makes all bytes written so far, and the length, durable (`fdatasync`).
    ///
    /// # Errors
    /// Any error of the disk; after one, nothing is known about the bytes.
    fn sync_data(&self) -> io::Result<()>;

    /// The length in bytes.
    ///
    /// # Errors
    /// Any error of the disk.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file is empty.
    ///
    /// # Errors
    /// Any error of the disk.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// What tells the file from every other one of its file system, under whatever names it
    /// stands (on Unix the inode); `None` where that is not known.
    fn number(&self) -> Option<u64> {
        None
    }

    /// Cuts or extends (with zeros) to a length. Durable after [`VfsFile::sync_data`].
    ///
    /// # Errors
    /// Any error of the disk.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Reserves disk space for the first `len` bytes and extends the length to it.
    ///
    /// # Errors
    /// `StorageFull` if there is no room; any error of the disk.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Tells the system that these bytes will be read soon, so that it fetches them meanwhile.
    /// Best effort; never fails.
    fn read_ahead(&self, _offset: u64, _len: u64) {}

    /// Reads the file from an offset to its end in stretches of `len` bytes (both multiples of
    /// [`crate::BLOCK_LEN`]), the next ones while the caller looks at one: with another thread,
    /// and past the page cache where that is possible. `None` where nothing reads ahead; the
    /// caller then uses [`VfsFile::read_at`], as it does to find out where a stretch is bad.
    fn stretches(&self, _offset: u64, _len: usize) -> Option<Box<dyn Stretches>> {
        None
    }

    /// Tells the page cache that the file's clean pages will not be read again soon.
    /// Best effort; never fails.
    fn drop_cache(&self) {}
}

/// An exclusive lock, released when dropped.
pub trait FileLock: Send + Sync + Debug {}

/// A file system. Cheap to share behind an `Arc`.
pub trait Vfs: Send + Sync + Debug {
    /// Opens a file.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists`, or any error of the disk.
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn VfsFile>>;

    /// Creates a directory; its parent must exist. Durable after `sync_dir` of the parent.
    ///
    /// # Errors
    /// `AlreadyExists`, or any error of the disk.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Renames, replacing what stands there. Durable after `sync_dir`.
    ///
    /// Between two directories of one file system, sync the one that the file moves *to* first:
    /// else a power cut may find it in neither.
    ///
    /// # Errors
    /// Any error of the disk.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable after `sync_dir`.
    ///
    /// # Errors
    /// Any error of the disk.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// The paths of the files and directories in a directory, sorted by name.
    ///
    /// # Errors
    /// `NotFound`, or any error of the disk.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;

    /// Whether a path exists.
    ///
    /// # Errors
    /// Any error other than its absence.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// Any error of the disk; after one, nothing is known about the names that were to become
    /// durable, and a later success says nothing about them either.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes an exclusive lock on a file, creating it if needed. Never waits. A real file system
    /// notes the process in the file while the lock is held; who is refused changes nothing.
    ///
    /// # Errors
    /// `WouldBlock` if another holder has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>>;

    /// Bytes that an unprivileged writer can still use on the file system of a path.
    ///
    /// # Errors
    /// Any error of the disk.
    fn available_space(&self, path: &Path) -> io::Result<u64>;
}
