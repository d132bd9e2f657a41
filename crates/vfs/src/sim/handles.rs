//! The traits of the crate, on the simulated disk.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use refloat_planted::{Defect, is};

use super::SimFs;
use super::content::{PAGE_LEN, SECTOR_LEN, index, sectors};
use super::disk::Disk;
use super::file::MAX_LEN;
use super::names::{self, Ino};
use super::ops::{Op, OpKind, Step};
use crate::aligned::check_direct;
use crate::error::reason;
use crate::{FileLock, OpenOptions, Vfs, VfsFile};

/// The free space of a disk without a capacity.
const UNLIMITED: u64 = 1 << 50;

#[derive(Debug)]
struct SimFile {
    fs: SimFs,
    ino: Ino,
    path: Arc<Path>,
    options: OpenOptions,
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.fs.disk.lock().close(self.ino);
    }
}

impl SimFile {
    fn op(&self, kind: OpKind) -> Op {
        Op::new(kind, Arc::clone(&self.path))
    }

    fn check_io(&self, op: &Op, buf: &[u8]) -> io::Result<()> {
        if op.kind == OpKind::Write && !self.options.write {
            return Err(op.wrap(reason(ErrorKind::PermissionDenied, "opened for reading")));
        }
        if self.options.direct {
            check_direct(buf, op.offset).map_err(|e| op.wrap(e))?;
        }
        Ok(())
    }

    /// One change of the file: `change` does it as far as `step` allows.
    fn change(
        &self,
        mut op: Op,
        change: impl FnOnce(&mut Disk, u64, &Step) -> io::Result<()>,
    ) -> io::Result<()> {
        if !self.options.write && op.kind != OpKind::Sync {
            return Err(op.wrap(reason(ErrorKind::PermissionDenied, "opened for reading")));
        }
        let mut disk = self.fs.disk.lock();
        let step = disk.begin(&mut op)?;
        let seq = disk.next_seq();
        let result = change(&mut disk, seq, &step);
        disk.end(op, Some(self.ino), step, result)
    }
}

impl VfsFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut op = self.op(OpKind::Read).range(offset, buf.len() as u64);
        self.check_io(&op, buf)?;
        let mut disk = self.fs.disk.lock();
        if let Step::Fail(error) = disk.begin(&mut op)? {
            return Err(op.wrap(error));
        }
        let file = disk.file(self.ino)?;
        let end = offset.saturating_add(buf.len() as u64).min(file.visible.len);
        if file.unreadable.range(sectors(offset.min(end)..end)).next().is_some() {
            if is(Defect::UnreadableAsZeros) {
                buf.fill(0);
                return Ok(buf.len());
            }
            let cause = io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error());
            return Err(op.wrap(cause));
        }
        Ok(file.visible.read(buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let op = self.op(OpKind::Write).range(offset, buf.len() as u64);
        self.check_io(&op, buf)?;
        let (ino, durable) = (self.ino, self.options.durable);
        self.change(op, |disk, seq, step| {
            let room = fitting(disk, ino, offset, buf.len())?;
            // Of a write that fails, some of the bytes may have been written.
            let written = match step {
                Step::Fail(_) => buf.len() / 2 / SECTOR_LEN * SECTOR_LEN,
                Step::Go | Step::Crash(_) => room,
            };
            let file = disk.file_mut(ino)?;
            if written > 0 {
                file.write(seq, offset, &buf[..written]);
            }
            match step {
                Step::Go if durable && !is(Defect::SyncSkipped) => {
                    file.sync_range(offset..offset + written as u64);
                }
                Step::Fail(_) if durable => file.forget(),
                _ => {}
            }
            if room < buf.len() { Err(full()) } else { Ok(()) }
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(self.op(OpKind::Sync), |disk, _, step| {
            let file = disk.file_mut(self.ino)?;
            match step {
                Step::Go if is(Defect::SyncSkipped) => {}
                Step::Go => file.sync(),
                Step::Fail(_) => file.forget(),
                Step::Crash(_) => {}
            }
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        let mut op = self.op(OpKind::Stat);
        let mut disk = self.fs.disk.lock();
        match disk.begin(&mut op)? {
            Step::Fail(error) => Err(op.wrap(error)),
            Step::Go | Step::Crash(_) => Ok(disk.file(self.ino)?.visible.len),
        }
    }

    fn number(&self) -> Option<u64> {
        Some(self.ino)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(self.op(OpKind::SetLen).range(0, len), |disk, seq, step| {
            if !matches!(step, Step::Fail(_)) {
                disk.file_mut(self.ino)?.set_len(seq, len);
            }
            Ok(())
        })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.change(self.op(OpKind::Allocate).range(0, len), |disk, seq, step| {
            if len == 0 {
                return Err(reason(ErrorKind::InvalidInput, "nothing to allocate"));
            }
            if len > MAX_LEN {
                return Err(too_large());
            }
            if disk.file(self.ino)?.pages_missing(0..len) > disk.pages_free() {
                return Err(full());
            }
            if !matches!(step, Step::Fail(_)) {
                disk.file_mut(self.ino)?.allocate(seq, len);
            }
            Ok(())
        })
    }
}

/// How many of the bytes find room on the disk.
fn fitting(disk: &Disk, ino: Ino, offset: u64, len: usize) -> io::Result<usize> {
    let Some(end) = offset.checked_add(len as u64).filter(|&end| end <= MAX_LEN) else {
        return Err(too_large());
    };
    if disk.capacity.is_none() || disk.file(ino)?.pages_missing(offset..end) <= disk.pages_free() {
        return Ok(len);
    }
    let (file, free) = (disk.file(ino)?, disk.pages_free());
    let mut fits = 0;
    let page = PAGE_LEN as u64;
    while fits < len {
        let next = ((offset + fits as u64) / page + 1) * page;
        if file.pages_missing(offset..next.min(end)) > free {
            break;
        }
        fits = index(next.min(end) - offset);
    }
    Ok(fits)
}

fn full() -> io::Error {
    reason(ErrorKind::StorageFull, "no space left on the simulated disk")
}

fn too_large() -> io::Error {
    reason(ErrorKind::FileTooLarge, format!("simulated files end at {MAX_LEN} bytes"))
}

#[derive(Debug)]
struct SimLock {
    fs: SimFs,
    ino: Ino,
}

impl FileLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut disk = self.fs.disk.lock();
        disk.locks.remove(&self.ino);
        disk.close(self.ino);
    }
}

impl SimFs {
    /// One operation by path.
    fn run<T>(
        &self,
        mut op: Op,
        action: impl FnOnce(&mut Disk, &Step) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut disk = self.disk.lock();
        let step = disk.begin(&mut op)?;
        if let Step::Fail(error) = step {
            if op.kind == OpKind::SyncDir
                && let Ok(dir) = disk.find(&op.path)
            {
                names::give_up(&mut disk.names, dir);
            }
            return Err(op.wrap(error));
        }
        let result = action(&mut disk, &step);
        disk.end(op, None, step, result)
    }

    /// Finds a file or, as one numbered operation, creates it. Who asked must close it.
    fn open_or_create(&self, path: &Path, options: OpenOptions) -> io::Result<Ino> {
        let creates = {
            let disk = self.disk.lock();
            options.create && disk.place(path).is_ok_and(|place| place.ino.is_none())
        };
        if creates {
            return self.run(Op::new(OpKind::Create, path), |disk, _| {
                let place = disk.place(path)?;
                let ino = disk.create_file(place);
                Ok(disk.hold(ino))
            });
        }
        self.run(Op::new(OpKind::Open, path), |disk, _| {
            let ino = disk.find_file(path)?;
            if options.create_new {
                return Err(reason(ErrorKind::AlreadyExists, "exists already"));
            }
            if options.write && disk.read_only {
                return Err(reason(ErrorKind::ReadOnlyFilesystem, "mounted read-only"));
            }
            Ok(disk.hold(ino))
        })
    }
}

impl Vfs for SimFs {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn VfsFile>> {
        if options.direct && self.disk.lock().no_direct {
            let cause = reason(ErrorKind::Unsupported, "the file system has no direct mode");
            return Err(Op::new(OpKind::Open, path).wrap(cause));
        }
        options.check().map_err(|e| Op::new(OpKind::Open, path).wrap(e))?;
        let ino = self.open_or_create(path, options)?;
        Ok(Arc::new(SimFile { fs: self.clone(), ino, path: path.into(), options }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.run(Op::new(OpKind::CreateDir, path), |disk, _| disk.create_dir(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let op = Op { to: Some(to.into()), ..Op::new(OpKind::Rename, from) };
        self.run(op, |disk, _| disk.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.run(Op::new(OpKind::Remove, path), |disk, _| disk.remove_file(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.run(Op::new(OpKind::List, dir), |disk, _| {
            let ino = disk.find(dir)?;
            Ok(disk.names_of(ino)?.keys().map(|name| dir.join(name)).collect())
        })
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.run(Op::new(OpKind::Stat, path), |disk, _| match disk.find(path) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.run(Op::new(OpKind::SyncDir, dir), |disk, step| {
            let ino = disk.find(dir)?;
            disk.names_of(ino)?;
            if step.goes() && !is(Defect::DirectorySyncSkipped) {
                disk.sync_dir(ino);
            }
            Ok(())
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        let options = OpenOptions { create: true, ..OpenOptions::write() };
        let ino = self.open_or_create(path, options)?;
        let taken = self.run(Op::new(OpKind::Lock, path), |disk, _| {
            if disk.locks.insert(ino) {
                return Ok(());
            }
            Err(reason(ErrorKind::WouldBlock, "held by another handle"))
        });
        match taken {
            Ok(()) => Ok(Box::new(SimLock { fs: self.clone(), ino })),
            Err(error) => {
                self.disk.lock().close(ino);
                Err(error)
            }
        }
    }

    fn available_space(&self, path: &Path) -> io::Result<u64> {
        self.run(Op::new(OpKind::Stat, path), |disk, _| {
            disk.find(path)?;
            Ok(disk.pages_free().saturating_mul(PAGE_LEN as u64).min(UNLIMITED))
        })
    }
}
