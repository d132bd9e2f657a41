//! The simulated file system.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::aligned::check_direct;
use crate::error::{FileError, reason};
use crate::{FileLock, OpenOptions, Vfs, VfsFile};

/// A file system in memory.
#[derive(Clone, Debug, Default)]
pub struct SimFs {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    dirs: std::collections::BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, Content>,
    locks: std::collections::BTreeSet<PathBuf>,
}

type Content = Arc<Mutex<Vec<u8>>>;

#[derive(Debug)]
struct SimFile {
    content: Content,
    path: PathBuf,
    options: OpenOptions,
}

#[derive(Debug)]
struct SimLock {
    fs: SimFs,
    path: PathBuf,
}

impl FileLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.fs.state.lock().locks.remove(&self.path);
    }
}

impl SimFs {
    /// An empty file system with only the root directory.
    #[must_use]
    pub fn new() -> SimFs {
        SimFs::default()
    }
}

fn at(path: &Path) -> PathBuf {
    Path::new("/").join(path).components().collect()
}

impl VfsFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.options.direct {
            check_direct(buf, offset)
                .map_err(|e| FileError::wrap_at("read", &self.path, offset, e))?;
        }
        let content = self.content.lock();
        let start = (offset as usize).min(content.len());
        let n = buf.len().min(content.len() - start);
        buf[..n].copy_from_slice(&content[start..start + n]);
        Ok(n)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        if self.options.direct {
            check_direct(buf, offset)
                .map_err(|e| FileError::wrap_at("write", &self.path, offset, e))?;
        }
        let mut content = self.content.lock();
        let end = offset as usize + buf.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[offset as usize..end].copy_from_slice(buf);
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.content.lock().len() as u64)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.content.lock().resize(len as usize, 0);
        Ok(())
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut content = self.content.lock();
        if (content.len() as u64) < len {
            content.resize(len as usize, 0);
        }
        Ok(())
    }
}

impl State {
    fn parent(&self, path: &Path) -> io::Result<()> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        if parent == Path::new("/") || self.dirs.contains(parent) {
            return Ok(());
        }
        Err(reason(ErrorKind::NotFound, "no such directory"))
    }
}

impl Vfs for SimFs {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn VfsFile>> {
        let wrap = |e| FileError::wrap("open", path, e);
        let mut state = self.state.lock();
        let full = at(path);
        state.parent(&full).map_err(wrap)?;
        if options.create_new && state.files.contains_key(&full) {
            return Err(wrap(ErrorKind::AlreadyExists.into()));
        }
        if !options.create && !state.files.contains_key(&full) {
            return Err(wrap(ErrorKind::NotFound.into()));
        }
        let content = Arc::clone(state.files.entry(full).or_default());
        Ok(Arc::new(SimFile { content, path: path.to_path_buf(), options }))
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.parent(&at(path)).map_err(|e| FileError::wrap("create directory", path, e))?;
        if !state.dirs.insert(at(path)) {
            return Err(FileError::wrap("create directory", path, ErrorKind::AlreadyExists.into()));
        }
        Ok(())
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let Some(content) = state.files.remove(&at(from)) else {
            return Err(FileError::wrap("rename", from, ErrorKind::NotFound.into()));
        };
        state.files.insert(at(to), content);
        Ok(())
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        match self.state.lock().files.remove(&at(path)) {
            Some(_) => Ok(()),
            None => Err(FileError::wrap("remove", path, ErrorKind::NotFound.into())),
        }
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.state.lock();
        let full = at(dir);
        if full != Path::new("/") && !state.dirs.contains(&full) {
            return Err(FileError::wrap("list", dir, ErrorKind::NotFound.into()));
        }
        let all = state.files.keys().chain(state.dirs.iter());
        let mut paths: Vec<PathBuf> = all
            .filter(|p| p.parent() == Some(&full))
            .filter_map(|p| p.file_name())
            .map(|name| dir.join(name))
            .collect();
        paths.sort();
        Ok(paths)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.state.lock();
        let full = at(path);
        Ok(full == Path::new("/") || state.files.contains_key(&full) || state.dirs.contains(&full))
    }
    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        let mut state = self.state.lock();
        state.files.entry(at(path)).or_default();
        if !state.locks.insert(at(path)) {
            return Err(FileError::wrap("lock", path, ErrorKind::WouldBlock.into()));
        }
        Ok(Box::new(SimLock { fs: self.clone(), path: at(path) }))
    }
    fn available_space(&self, _path: &Path) -> io::Result<u64> {
        Ok(1 << 40)
    }
}
