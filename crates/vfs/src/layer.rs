//! File systems that stand in front of another one.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{FileLock, OpenOptions, Vfs, VfsFile};

/// A file system in front of another one: what it does not say itself, the one below does. With
/// it a test says only what is wrong with its disk.
///
/// Files that the one below opens are not looked at, unless [`Layer::open`] puts a [`FileLayer`]
/// in front of them.
///
/// ```
/// use std::path::Path;
/// use refloat_vfs::{Layer, OpenOptions, SimFs, Vfs};
///
/// #[derive(Debug)]
/// struct WithoutSyncs(SimFs);
///
/// impl Layer for WithoutSyncs {
///     fn below(&self) -> &dyn Vfs {
///         &self.0
///     }
///     fn sync_dir(&self, _: &Path) -> std::io::Result<()> {
///         Ok(())
///     }
/// }
///
/// let disk: &dyn Vfs = &WithoutSyncs(SimFs::new());
/// disk.open(Path::new("/a"), OpenOptions::create_new())?;
/// disk.sync_dir(Path::new("/"))?;
/// assert!(disk.exists(Path::new("/a"))?);
/// # std::io::Result::Ok(())
/// ```
#[expect(missing_docs, clippy::missing_errors_doc, reason = "each is the one of `Vfs`")]
pub trait Layer: Send + Sync + Debug {
    /// The file system behind this one.
    fn below(&self) -> &dyn Vfs;

    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn VfsFile>> {
        self.below().open(path, options)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.below().create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.below().rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.below().remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.below().list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.below().exists(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.below().sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        self.below().lock(path)
    }

    fn available_space(&self, path: &Path) -> io::Result<u64> {
        self.below().available_space(path)
    }
}

impl<L: Layer> Vfs for L {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn VfsFile>> {
        Layer::open(self, path, options)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        Layer::create_dir(self, path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Layer::rename(self, from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        Layer::remove_file(self, path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        Layer::list(self, dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Layer::exists(self, path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        Layer::sync_dir(self, dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        Layer::lock(self, path)
    }

    fn available_space(&self, path: &Path) -> io::Result<u64> {
        Layer::available_space(self, path)
    }
}

/// An open file in front of another one: what it does not say itself, the one below does.
///
/// [`VfsFile::stretches`] alone is not handed down, so that every byte which is read passes
/// through [`FileLayer::read_at`].
#[expect(missing_docs, clippy::missing_errors_doc, reason = "each is the one of `VfsFile`")]
#[expect(clippy::len_without_is_empty, reason = "`VfsFile` has it")]
pub trait FileLayer: Send + Sync + Debug {
    /// The file behind this one.
    fn below(&self) -> &dyn VfsFile;

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.below().read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.below().write_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.below().sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.below().len()
    }

    fn number(&self) -> Option<u64> {
        self.below().number()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.below().set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.below().allocate(len)
    }

    fn read_ahead(&self, offset: u64, len: u64) {
        self.below().read_ahead(offset, len);
    }

    fn drop_cache(&self) {
        self.below().drop_cache();
    }
}

impl<L: FileLayer> VfsFile for L {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        FileLayer::read_at(self, buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        FileLayer::write_at(self, buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        FileLayer::sync_data(self)
    }

    fn len(&self) -> io::Result<u64> {
        FileLayer::len(self)
    }

    fn number(&self) -> Option<u64> {
        FileLayer::number(self)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        FileLayer::set_len(self, len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        FileLayer::allocate(self, len)
    }

    fn read_ahead(&self, offset: u64, len: u64) {
        FileLayer::read_ahead(self, offset, len);
    }

    fn drop_cache(&self) {
        FileLayer::drop_cache(self);
    }
}
