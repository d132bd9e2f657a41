//! What can go wrong without a crash.

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::Path;

use super::SimFs;
use super::content::sectors;
use super::ops::{Op, OpKind};

/// A failure waiting for its operation.
///
/// ```
/// use std::path::Path;
/// use refloat_vfs::{Fault, OpKind, OpenOptions, SimFs, Vfs, VfsFile};
///
/// let fs = SimFs::new();
/// fs.inject(Fault::on(OpKind::Sync).path(".wal").after(1).errno(5));
/// let file = fs.open(Path::new("/1.wal"), OpenOptions::create_new()).unwrap();
/// assert!(file.sync_data().is_ok());
/// assert!(file.sync_data().is_err());
/// assert!(file.sync_data().is_ok(), "once only; but what the failed one held is not durable");
/// ```
#[derive(Clone, Debug)]
pub struct Fault {
    kinds: Kinds,
    path: String,
    skip: u64,
    /// Bytes that writes may still write.
    room: u64,
    error: Cause,
    forever: bool,
    spent: bool,
}

#[derive(Clone, Copy, Debug)]
enum Kinds {
    One(OpKind),
    Changes,
    Any,
}

#[derive(Clone, Copy, Debug)]
enum Cause {
    Kind(ErrorKind),
    Errno(i32),
}

impl Fault {
    /// Fails the next operation of this kind, once, with an input/output error (`EIO`).
    #[must_use]
    pub fn on(kind: OpKind) -> Fault {
        Fault::of(Kinds::One(kind))
    }

    /// Fails the next operation of any kind.
    #[must_use]
    pub fn on_any() -> Fault {
        Fault::of(Kinds::Any)
    }

    /// Fails the next operation that changes the disk or makes something durable, syncs included:
    /// with `EROFS` and [`Fault::forever`], what a file system does that went read-only after an
    /// error of its own. (Mounted read-only is [`SimFs::set_read_only`]: there syncs succeed.)
    #[must_use]
    pub fn on_change() -> Fault {
        Fault::of(Kinds::Changes)
    }

    fn of(kinds: Kinds) -> Fault {
        let error = Cause::Errno(rustix::io::Errno::IO.raw_os_error());
        let path = String::new();
        Fault { kinds, path, skip: 0, room: 0, error, forever: false, spent: false }
    }

    /// Only where the path contains this.
    #[must_use]
    pub fn path(self, part: impl Into<String>) -> Fault {
        Fault { path: part.into(), ..self }
    }

    /// Lets so many matching operations pass first.
    #[must_use]
    pub fn after(self, skip: u64) -> Fault {
        Fault { skip, ..self }
    }

    /// Lets writes of so many bytes in all pass first; for [`OpKind::Write`], as a quota would.
    #[must_use]
    pub fn after_bytes(self, room: u64) -> Fault {
        Fault { room, ..self }
    }

    /// With this kind of error.
    #[must_use]
    pub fn error(self, kind: ErrorKind) -> Fault {
        Fault { error: Cause::Kind(kind), ..self }
    }

    /// With this error number of the system.
    #[must_use]
    pub fn errno(self, number: i32) -> Fault {
        Fault { error: Cause::Errno(number), ..self }
    }

    /// From then on, not just once.
    #[must_use]
    pub fn forever(self) -> Fault {
        Fault { forever: true, ..self }
    }

    pub(super) fn hits(&mut self, op: &Op) -> Option<io::Error> {
        let kind = match self.kinds {
            Kinds::One(kind) => kind == op.kind,
            Kinds::Changes => op.kind.changes_disk(),
            Kinds::Any => true,
        };
        let matches = kind && op.path.to_string_lossy().contains(&self.path);
        if !matches {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        if self.room > 0 && op.kind == OpKind::Write && op.len <= self.room {
            self.room -= op.len;
            return None;
        }
        self.spent = !self.forever;
        Some(match self.error {
            Cause::Kind(kind) => kind.into(),
            Cause::Errno(number) => io::Error::from_raw_os_error(number),
        })
    }

    pub(super) fn is_spent(&self) -> bool {
        self.spent
    }
}

/// # Faults
///
/// A fault is an answer, and every call returns: the disk knows no time. A slow or hanging disk is
/// made by whoever runs the jobs, by giving their results back late or never; the simulator does.
///
/// Capacity, the read-only mode, unreadable sectors and the missing direct mode belong to the
/// disk and outlive kills and power cuts. Armed [`Fault`]s and the crash point do not.
impl SimFs {
    /// Arms a failure. A write that fails has written the first half of its sectors.
    /// A sync that fails makes nothing durable, and what it was to make durable is forgotten: a
    /// later sync succeeds without doing anything for it, as on Linux. So it is with the names
    /// of a directory: what a failed [`sync_dir`](crate::Vfs::sync_dir) was to make durable stays
    /// undecided, across process kills, until a power cut or until the same name is changed
    /// again; other names of the directory that change later become durable by a later sync.
    /// (A file system with a journal does less or more: its journal aborts and every later change
    /// fails until it is mounted anew; that is this fault together with [`Fault::on_change`].)
    pub fn inject(&self, fault: Fault) {
        self.disk.lock().ops.faults.push(fault);
    }

    /// Disarms all failures.
    pub fn clear_faults(&self) {
        self.disk.lock().ops.faults.clear();
    }

    /// How many armed failures have hit an operation so far.
    #[must_use]
    pub fn faults_fired(&self) -> u64 {
        self.disk.lock().ops.faults_fired
    }

    /// Limits the space for file contents, in bytes; pages of 4096 bytes are given out whole.
    /// Holes and names take no space. `None`: unlimited.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk.lock().capacity = bytes;
    }

    /// Bytes in use, as the capacity counts them.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.disk.lock().used()
    }

    /// In read-only mode every change fails with `ReadOnlyFilesystem`.
    pub fn set_read_only(&self, read_only: bool) {
        self.disk.lock().read_only = read_only;
    }

    /// Without direct mode every direct open fails with `Unsupported`.
    pub fn set_direct_supported(&self, supported: bool) {
        self.disk.lock().no_direct = !supported;
    }

    /// Makes the sectors that this byte range touches unreadable (`EIO`) until they are written
    /// again.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn fail_reads(&self, path: impl AsRef<Path>, range: Range<u64>) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let ino = disk.find_file(path.as_ref())?;
        disk.file_mut(ino)?.unreadable.extend(sectors(range));
        Ok(())
    }

    /// Damages a file on the disk and in the cache alike. Sectors that the edit does not touch
    /// keep what is undecided about them.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn corrupt(
        &self,
        path: impl AsRef<Path>,
        edit: impl FnOnce(&mut Vec<u8>),
    ) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let ino = disk.find_file(path.as_ref())?;
        disk.file_mut(ino)?.corrupt(edit);
        Ok(())
    }
}
