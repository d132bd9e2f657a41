//! Looking at the whole disk, and carrying it to and from real directories.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::SimFs;
use super::disk::Disk;
use super::names::NameChange;
use crate::error::FileError;

/// # Looking from outside
///
/// None of these is an operation of the process: they are not logged, not numbered, never fail
/// by a fault, and work after a crash.
impl SimFs {
    /// The visible files and their lengths.
    #[must_use]
    pub fn files(&self) -> BTreeMap<PathBuf, u64> {
        let disk = self.disk.lock();
        let len = |(path, ino)| disk.files.get(&ino).map(|file| (path, file.visible.len));
        disk.paths().into_iter().filter_map(len).collect()
    }

    /// The visible bytes of a file.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn contents(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let disk = self.disk.lock();
        let ino = disk.find_file(path.as_ref()).map_err(|e| wrap("read", path.as_ref(), e))?;
        Ok(disk.file(ino)?.visible.to_vec())
    }

    /// Creates or replaces a file with durable contents under a durable name, and its
    /// directories with it.
    ///
    /// # Errors
    /// If the path leads through a file or is that of a directory.
    pub fn put(&self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        let path = path.as_ref();
        self.disk.lock().put(path, bytes).map_err(|e| wrap("write", path, e))
    }

    /// Makes everything durable, as if all files and directories had been synced.
    pub fn sync_all(&self) {
        self.disk.lock().sync_all();
    }

    /// Writes the visible files and directories below a real directory.
    ///
    /// # Errors
    /// Any error of the real file system.
    pub fn export(&self, target: &Path) -> io::Result<()> {
        let disk = self.disk.lock();
        for (path, ino) in disk.paths() {
            let real = target.join(path.strip_prefix("/").unwrap_or(&path));
            let result = match disk.files.get(&ino) {
                Some(file) => fs::write(&real, file.visible.to_vec()),
                None => fs::create_dir_all(&real),
            };
            result.map_err(|e| wrap("export", &real, e))?;
        }
        Ok(())
    }

    /// Copies a real directory to a path here, all of it durable.
    ///
    /// # Errors
    /// Any error of the real file system; as [`SimFs::put`] otherwise.
    pub fn import(&self, source: &Path, target: impl AsRef<Path>) -> io::Result<()> {
        let target = target.as_ref();
        self.disk.lock().make_dirs(target).map_err(|e| wrap("import", target, e))?;
        for entry in fs::read_dir(source).map_err(|e| wrap("import", source, e))? {
            let entry = entry.map_err(|e| wrap("import", source, e))?;
            let (from, to) = (entry.path(), target.join(entry.file_name()));
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.import(&from, to)?;
            } else {
                self.put(to, &fs::read(&from).map_err(|e| wrap("import", &from, e))?)?;
            }
        }
        Ok(())
    }
}

impl Disk {
    fn put(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if let Some(parent) = path.parent() {
            self.make_dirs(parent)?;
        }
        let place = self.place(path)?;
        let dir = place.dir;
        let ino = match place.ino {
            Some(_) => self.find_file(path)?,
            None => self.create_file(place),
        };
        let file = self.file_mut(ino)?;
        file.corrupt(|old| *old = bytes.to_vec());
        file.sync_all();
        self.sync_dir(dir);
        Ok(())
    }

    fn make_dirs(&mut self, path: &Path) -> io::Result<()> {
        if self.find(path).is_ok() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.make_dirs(parent)?;
        }
        self.create_dir(path)?;
        let dir = self.place(path)?.dir;
        self.sync_dir(dir);
        Ok(())
    }

    fn sync_all(&mut self) {
        for file in self.files.values_mut() {
            Arc::make_mut(file).sync_all();
        }
        self.names.iter_mut().for_each(NameChange::recall);
        for dir in self.dirs.keys().copied().collect::<Vec<_>>() {
            self.sync_dir(dir);
        }
    }
}

fn wrap(operation: &'static str, path: &Path, error: io::Error) -> io::Error {
    FileError::wrap(operation, path, error)
}
