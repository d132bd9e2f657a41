//! The real file system.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use refloat_planted::{Defect, is};
use rustix::fs::{Advice, FallocateFlags, FlockOperation, OFlags};
use rustix::io::Errno;

use crate::ahead::Ahead;
use crate::aligned::check_direct;
use crate::error::{FileError, reason};
use crate::{FileLock, OpenOptions, Stretches, Vfs, VfsFile};

/// The file system of the operating system, by plain positioned system calls.
///
/// Interrupted calls are repeated, short reads and writes continued. Every error names the
/// operation and the path ([`FileError`]) and keeps its [`io::ErrorKind`].
#[derive(Clone, Copy, Debug, Default)]
pub struct OsFs;

#[derive(Debug)]
struct OsFile {
    file: File,
    path: PathBuf,
    direct: bool,
}

/// So much of a lock file is read; it holds one number.
const NOTE_LEN: u64 = 32;

#[derive(Debug)]
struct OsLock {
    file: File,
    /// What stood in the file before.
    before: Vec<u8>,
}

impl FileLock for OsLock {}

impl Drop for OsLock {
    fn drop(&mut self) {
        note(&self.file, &self.before);
    }
}

impl VfsFile for OsFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.direct {
            check_direct(buf, offset)
                .map_err(|e| FileError::wrap_at("read", &self.path, offset, e))?;
        }
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            match self.file.read_at(&mut buf[done..], at) {
                Ok(0) => break,
                // A direct read stops inside a block only where the file ends; going on from
                // there would be refused as unaligned.
                Ok(n) if self.direct && n % 512 != 0 => {
                    done += n;
                    break;
                }
                Ok(n) => done += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(FileError::wrap_at("read", &self.path, at, e)),
            }
        }
        Ok(done)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        if self.direct {
            check_direct(buf, offset)
                .map_err(|e| FileError::wrap_at("write", &self.path, offset, e))?;
        }
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let error = match self.file.write_at(&buf[done..], at) {
                Ok(0) => reason(ErrorKind::WriteZero, "the system wrote nothing"),
                Ok(n) => {
                    done += n;
                    continue;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => e,
            };
            return Err(FileError::wrap_at("write", &self.path, at, error));
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        if is(Defect::SyncSkipped) || is(Defect::RealSyncSkipped) {
            return Ok(());
        }
        again(|| rustix::fs::fdatasync(&self.file))
            .map_err(|e| FileError::wrap("sync", &self.path, e))
    }

    fn len(&self) -> io::Result<u64> {
        match self.file.metadata() {
            Ok(metadata) => Ok(metadata.len()),
            Err(e) => Err(FileError::wrap("read the length of", &self.path, e)),
        }
    }

    fn number(&self) -> Option<u64> {
        self.file.metadata().ok().map(|metadata| metadata.ino())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len).map_err(|e| FileError::wrap("set the length of", &self.path, e))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let result =
            match again(|| rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, len)) {
                Err(e) if is_unsupported(&e) => self.extend(len),
                other => other,
            };
        result.map_err(|e| FileError::wrap("allocate", &self.path, e))
    }

    fn read_ahead(&self, offset: u64, len: u64) {
        if !self.direct {
            let _ = rustix::fs::fadvise(&self.file, offset, NonZeroU64::new(len), Advice::WillNeed);
        }
    }

    fn stretches(&self, offset: u64, len: usize) -> Option<Box<dyn Stretches>> {
        // A second opening: how one is opened holds for all that share it. Under the name may
        // stand another file by now.
        let own = OpenOptions::read();
        let file = OsFs.open(&self.path, own.direct()).or_else(|_| OsFs.open(&self.path, own));
        let file = file.ok().filter(|file| file.number() == self.number())?;
        Some(Box::new(Ahead::start(file, offset, len)?))
    }

    fn drop_cache(&self) {
        // Advice: if the system does not take it, the pages go a little later.
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed);
    }
}

impl OsFile {
    /// Where space cannot be reserved, at least the length is what the caller asked for.
    fn extend(&self, len: u64) -> io::Result<()> {
        if self.file.metadata()?.len() < len {
            self.file.set_len(len)?;
        }
        Ok(())
    }
}

/// `OFlags::DSYNC` of rustix is `O_SYNC` on Linux, which writes the times of the file too and so
/// commits the journal of the file system again and again.
const O_DSYNC: OFlags = OFlags::from_bits_retain(libc::O_DSYNC.cast_unsigned());

impl Vfs for OsFs {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn VfsFile>> {
        options.check().map_err(|e| FileError::wrap("open", path, e))?;
        let mut flags = OFlags::empty();
        if options.durable && !is(Defect::SyncSkipped) && !is(Defect::DurableFlagDropped) {
            flags |= O_DSYNC;
        }
        if options.direct {
            flags |= direct_flag().map_err(|e| FileError::wrap("open", path, e))?;
        }
        let opened = fs::OpenOptions::new()
            .read(true)
            .write(options.write)
            .create(options.create)
            .create_new(options.create_new)
            .custom_flags(flags.bits().cast_signed())
            .open(path);
        match opened {
            Ok(file) => {
                Ok(Arc::new(OsFile { file, path: path.to_path_buf(), direct: options.direct }))
            }
            Err(e) if options.direct && e.kind() == ErrorKind::InvalidInput => {
                // Linux creates the file before the file system refuses the mode. Had the file
                // been there before, `create_new` would have failed with `AlreadyExists`.
                if options.create_new {
                    let _ = fs::remove_file(path);
                }
                Err(FileError::wrap("open", path, no_direct()))
            }
            Err(e) => Err(FileError::wrap("open", path, e)),
        }
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path).map_err(|e| FileError::wrap("create directory", path, e))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to).map_err(|e| FileError::wrap("rename", from, e))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path).map_err(|e| FileError::wrap("remove", path, e))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let wrap = |e| FileError::wrap("list", dir, e);
        let mut paths = Vec::new();
        for entry in fs::read_dir(dir).map_err(wrap)? {
            paths.push(entry.map_err(wrap)?.path());
        }
        paths.sort();
        Ok(paths)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        fs::exists(path).map_err(|e| FileError::wrap("look up", path, e))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if is(Defect::DirectorySyncSkipped) || is(Defect::RealDirectorySyncSkipped) {
            return Ok(());
        }
        File::open(dir)
            .and_then(|file| again(|| rustix::fs::fsync(&file)))
            .map_err(|e| FileError::wrap("sync directory", dir, e))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        take_lock(path).map_err(|e| FileError::wrap("lock", path, e))
    }

    fn available_space(&self, path: &Path) -> io::Result<u64> {
        match rustix::fs::statvfs(path) {
            Ok(space) => Ok(space.f_bavail.saturating_mul(space.f_frsize)),
            Err(e) => Err(FileError::wrap("read the free space of", path, e.into())),
        }
    }
}

/// The lock is on the open file, so a second one in the same process is refused too, and it ends
/// with the process whatever happens. The number inside is for messages only. It is written when
/// the lock is held and not before: who is refused changes nothing.
fn take_lock(path: &Path) -> io::Result<Box<dyn FileLock>> {
    let mut file =
        fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    match again(|| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::WouldBlock => return Err(held(&mut file)),
        Err(e) => return Err(e),
    }
    let mut before = Vec::new();
    let _ = (&file).take(NOTE_LEN).read_to_end(&mut before);
    note(&file, std::process::id().to_string().as_bytes());
    Ok(Box::new(OsLock { file, before }))
}

/// A full disk must not stop a start: the lock holds without its note.
fn note(file: &File, text: &[u8]) {
    let _ = file.set_len(0);
    let _ = file.write_all_at(text, 0);
}

fn held(file: &mut File) -> io::Error {
    let mut text = String::new();
    let _ = file.take(NOTE_LEN).read_to_string(&mut text);
    let holder = text.trim();
    let by = if holder.is_empty() { "another process" } else { holder };
    match holder.parse::<u32>() {
        Ok(pid) => reason(ErrorKind::WouldBlock, format!("held by process {pid}")),
        Err(_) => reason(ErrorKind::WouldBlock, format!("held by {by}")),
    }
}

fn again(mut call: impl FnMut() -> rustix::io::Result<()>) -> io::Result<()> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other.map_err(io::Error::from),
        }
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    [Errno::OPNOTSUPP, Errno::NOSYS].iter().any(|e| error.raw_os_error() == Some(e.raw_os_error()))
}

fn no_direct() -> io::Error {
    reason(ErrorKind::Unsupported, "the file system has no direct mode (O_DIRECT)")
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn direct_flag() -> io::Result<OFlags> {
    Ok(OFlags::DIRECT)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn direct_flag() -> io::Result<OFlags> {
    Err(no_direct())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a write must be durable by when it returns. The system is asked, not this module.
    #[test]
    fn a_file_for_durable_writes_bears_the_flag_of_them_and_no_other_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for durable in [true, false] {
            let mut options = OpenOptions { create: true, ..OpenOptions::write() };
            options.durable = durable;
            let _open = OsFs.open(&path, options).unwrap();
            assert_eq!(flags_of(&path) & libc::O_DSYNC != 0, durable);
        }
    }

    /// The flags of the one descriptor of this process that stands for this file.
    fn flags_of(path: &Path) -> i32 {
        let descriptors = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap());
        let mut of_path =
            descriptors.filter(|d| fs::read_link(d.path()).is_ok_and(|to| to == path));
        let number = of_path.next().expect("it is open").file_name();
        let info = Path::new("/proc/self/fdinfo").join(number);
        let text = fs::read_to_string(info).unwrap();
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        i32::from_str_radix(flags.trim(), 8).unwrap()
    }
}
