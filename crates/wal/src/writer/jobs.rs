//! The file work of a writer, as values that own all they need.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use refloat_planted::{Defect, is};
use refloat_types::{Generation, Identity};
use refloat_vfs::{AlignedBuf, BLOCK_LEN, OpenOptions, Vfs, VfsFile};

use crate::format::{FIRST_BATCH_BLOCK, offset_of};
use crate::names::Name;
use crate::scan::parse::FileReader;
use crate::scan::window::Window;

/// Bytes of zeros written by one job while a file is prepared.
const ZEROS_PER_JOB: u64 = 4 << 20;
/// Bytes of zeros written at once.
const ZEROS: usize = 1 << 20;

/// Blocking file work, to be run anywhere and answered with its [`Done`].
#[derive(Debug)]
pub struct Job {
    pub(crate) work: Work,
}

/// What came of a [`Job`]; to be given to [`Writer::done`](crate::Writer::done).
#[derive(Debug)]
pub struct Done {
    pub(crate) outcome: Outcome,
}

#[derive(Debug)]
pub(crate) enum Work {
    Write(Write),
    Link(Box<LinkFiles>),
    Prepare(Prepare),
    ReadBack(ReadBack),
    Recycle(Recycle),
    Remove(Vec<PathBuf>),
}

/// A failed step and what it was for.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) what: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) error: io::Error,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Written { buf: AlignedBuf, result: Result<(), Failed> },
    Linked(Result<Current, Failed>),
    Prepared { result: Result<Prepare, Failed> },
    ReadBack { generation: Generation, matches: bool },
    Recycled { to: Option<PathBuf>, len: u64, result: Result<(), Failed> },
    Removed(Result<(), Failed>),
}

/// The file being written, open.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    pub(crate) file: Arc<dyn VfsFile>,
    pub(crate) path: Arc<Path>,
    /// Whether each write is durable when it returns.
    pub(crate) durable_writes: bool,
}

impl Current {
    /// Writes aligned blocks and makes them durable.
    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let written = self.file.write_at(bytes, offset);
        if is(Defect::FailedSyncSwallowed) {
            return Ok(());
        }
        written?;
        if self.durable_writes { Ok(()) } else { self.file.sync_data() }
    }
}

/// One batch: one write, durable when done.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) current: Current,
    pub(crate) buf: AlignedBuf,
    /// The blocks of `buf` to write.
    pub(crate) first: usize,
    pub(crate) blocks: usize,
    pub(crate) offset: u64,
}

/// The linking operation: the next file with header and first batch, then the links to it.
#[derive(Debug)]
pub(crate) struct LinkFiles {
    pub(crate) dir: PathBuf,
    pub(crate) from: PathBuf,
    pub(crate) to: PathBuf,
    /// Numbered names that may be other names of the same file.
    pub(crate) never_used: Vec<PathBuf>,
    /// Whether it is the first of a run: an earlier run may have made the directory and have
    /// ended before its name was durable.
    pub(crate) sync_parent: bool,
    pub(crate) direct: bool,
    pub(crate) buf: AlignedBuf,
    pub(crate) blocks: usize,
    /// Link blocks to write, and into which files: the file open so far, or one by path.
    pub(crate) links: Vec<(LinkTarget, AlignedBuf)>,
}

#[derive(Debug)]
pub(crate) enum LinkTarget {
    Open(Current),
    At(PathBuf),
}

/// A file on its way into the pool.
#[derive(Debug)]
pub(crate) struct Prepare {
    pub(crate) dir: PathBuf,
    pub(crate) part: PathBuf,
    pub(crate) ready: PathBuf,
    pub(crate) len: u64,
    pub(crate) direct: bool,
    pub(crate) file: Option<Arc<dyn VfsFile>>,
    pub(crate) zeroed: u64,
    pub(crate) is_ready: bool,
}

/// A released file on its way out of the log: into the pool, aside, or away.
#[derive(Debug)]
pub(crate) struct Recycle {
    pub(crate) generation: Generation,
    pub(crate) identity: Identity,
    pub(crate) from: PathBuf,
    pub(crate) len: u64,
    pub(crate) to: Option<PathBuf>,
}

/// A look at what the device has of a file's first batch.
#[derive(Debug)]
pub(crate) struct ReadBack {
    pub(crate) generation: Generation,
    pub(crate) path: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) direct: bool,
    pub(crate) digest: u32,
    pub(crate) blocks: u32,
}

impl Job {
    /// Whether nothing waits for it: it prepares, checks or recycles files. It may run beside a
    /// write, on another thread.
    #[must_use]
    pub fn is_background(&self) -> bool {
        !matches!(self.work, Work::Write(_) | Work::Link(_))
    }

    /// Does the work. Blocks.
    #[must_use]
    pub fn run(self, vfs: &dyn Vfs) -> Done {
        let outcome = match self.work {
            Work::Write(write) => write.run(),
            Work::Link(link) => link.run(vfs),
            Work::Prepare(prepare) => prepare.run(vfs),
            Work::ReadBack(read_back) => read_back.run(vfs),
            Work::Recycle(recycle) => recycle.run(vfs),
            Work::Remove(paths) => Outcome::Removed(remove(vfs, &paths)),
        };
        Done { outcome }
    }
}

impl Write {
    fn run(self) -> Outcome {
        let from = self.first * BLOCK_LEN;
        let bytes = self.buf.get(from..from + self.blocks * BLOCK_LEN).unwrap_or_default();
        let result = self.current.write(bytes, self.offset);
        let path = &self.current.path;
        let result = result.map_err(|error| failed("write a batch to", path, error));
        Outcome::Written { buf: self.buf, result }
    }
}

impl LinkFiles {
    fn run(self, vfs: &dyn Vfs) -> Outcome {
        Outcome::Linked(self.steps(vfs))
    }

    /// The order is the promise. Until the links are durable nothing of the new file may be
    /// relied on, and until then no byte of an older file's batches has changed.
    fn steps(&self, vfs: &dyn Vfs) -> Result<Current, Failed> {
        if self.sync_parent {
            sync_parent(vfs, &self.dir)?;
        }
        // The new name must be durable before the first byte of the new use: a recycled file
        // must not be found under its old name with a newer file's content.
        vfs.rename(&self.from, &self.to).map_err(|e| failed("rename to", &self.to, e))?;
        for path in &self.never_used {
            vfs.remove_file(path).map_err(|e| failed("remove", path, e))?;
        }
        vfs.sync_dir(&self.dir).map_err(|e| failed("sync directory", &self.dir, e))?;
        let current = open(vfs, &self.to, self.direct).map_err(|e| failed("open", &self.to, e))?;
        let bytes = self.buf.get(..self.blocks * BLOCK_LEN).unwrap_or_default();
        let written = current.write(bytes, 0);
        written.map_err(|e| failed("write the first batch to", &self.to, e))?;
        for (target, block) in &self.links {
            let (target, path) = match target {
                LinkTarget::Open(current) => (current.clone(), current.path.to_path_buf()),
                LinkTarget::At(path) => {
                    let opened = open(vfs, path, self.direct);
                    (opened.map_err(|e| failed("open", path, e))?, path.clone())
                }
            };
            let written = target.write(block, offset_of(crate::format::LINK_BLOCK));
            written.map_err(|e| failed("write the link of", &path, e))?;
        }
        Ok(current)
    }
}

/// Opens a log file for writing, past the page cache where that is wanted and possible.
fn open(vfs: &dyn Vfs, path: &Path, direct: bool) -> io::Result<Current> {
    let shared = Arc::from(path);
    if direct {
        match vfs.open(path, OpenOptions::write().durable().direct()) {
            Ok(file) => return Ok(Current { file, path: shared, durable_writes: true }),
            Err(error) if is_unsupported(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let file = vfs.open(path, OpenOptions::write())?;
    Ok(Current { file, path: shared, durable_writes: false })
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

/// Whether an error means that there is no room, and nothing worse.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// Removes leftovers, durably: each may be a second name of a file that goes into use.
fn remove(vfs: &dyn Vfs, paths: &[PathBuf]) -> Result<(), Failed> {
    for path in paths {
        // One that stays is removed by the next start.
        let _ = vfs.remove_file(path);
    }
    match paths.first() {
        Some(path) => sync_parent(vfs, path),
        None => Ok(()),
    }
}

fn sync_parent(vfs: &dyn Vfs, path: &Path) -> Result<(), Failed> {
    let dir = path.parent().filter(|dir| *dir != Path::new("")).unwrap_or(Path::new("."));
    vfs.sync_dir(dir).map_err(|e| failed("sync directory", dir, e))
}

impl Recycle {
    fn run(mut self, vfs: &dyn Vfs) -> Outcome {
        let is_pool = self.to.as_deref().is_some_and(|to| matches!(Name::of(to), Name::Pool(_)));
        if is_pool && !self.is_own(vfs) {
            self.to = None;
        }
        let result = self.steps(vfs);
        Outcome::Recycled { to: self.to, len: self.len, result }
    }

    fn steps(&self, vfs: &dyn Vfs) -> Result<(), Failed> {
        if let Some(to) = &self.to {
            vfs.rename(&self.from, to).map_err(|e| failed("recycle", &self.from, e))?;
        }
        // Renaming a file to a second name that it has already does nothing.
        let stays = vfs.exists(&self.from).map_err(|e| failed("look for", &self.from, e))?;
        if stays {
            vfs.remove_file(&self.from).map_err(|e| failed("remove", &self.from, e))?;
        }
        // Files go one after the other: were an older name to come back after a power cut and a
        // newer one not, the older file's link would name a missing file.
        if is(Defect::RecycledWithoutDirectorySync) {
            return Ok(());
        }
        sync_parent(vfs, &self.from)
    }

    /// Whether the file's header has its own number: with any other it may be a second name of
    /// a file in use, and must not be written.
    fn is_own(&self, vfs: &dyn Vfs) -> bool {
        let header = crate::inspect::peek(vfs, &self.from).ok().flatten();
        header == Some((self.identity, self.generation))
    }
}

impl Prepare {
    pub(crate) fn new(
        dir: &Path,
        part: PathBuf,
        ready: PathBuf,
        len: u64,
        direct: bool,
    ) -> Prepare {
        let dir = dir.to_path_buf();
        Prepare { dir, part, ready, len, direct, file: None, zeroed: 0, is_ready: false }
    }

    /// Whether its space is claimed, durably.
    pub(crate) fn is_claimed(&self) -> bool {
        self.file.is_some()
    }

    fn run(mut self, vfs: &dyn Vfs) -> Outcome {
        let result = self.steps(vfs);
        if result.is_err() {
            self.file = None;
            // Gives the space back; nothing relies on it.
            let _ = vfs.remove_file(&self.part);
        }
        Outcome::Prepared { result: result.map(|()| self) }
    }

    fn steps(&mut self, vfs: &dyn Vfs) -> Result<(), Failed> {
        let fail = |what, path: &Path| {
            let path = path.to_path_buf();
            move |error| Failed { what, path, error }
        };
        let Some(file) = self.file.take() else {
            self.file = Some(self.claim(vfs).map_err(fail("prepare", &self.part))?);
            return Ok(());
        };
        self.zero(&*file).map_err(fail("fill with zeros", &self.part))?;
        if self.zeroed < self.len {
            self.file = Some(file);
            return Ok(());
        }
        file.sync_data().map_err(fail("sync", &self.part))?;
        // Zeros are not going to be read: they must not push anything out of the page cache.
        file.drop_cache();
        vfs.rename(&self.part, &self.ready).map_err(fail("rename to", &self.ready))?;
        // A start on a full disk needs it, and finds it under this name or the other one.
        self.is_ready = true;
        Ok(())
    }

    /// Claims the space first: a full disk shows here, before anything waits for the file. The
    /// claim is durable, and whoever starts next goes on with it: a disk that fills up meanwhile
    /// does not take it.
    fn claim(&self, vfs: &dyn Vfs) -> io::Result<Arc<dyn VfsFile>> {
        if !vfs.exists(&self.dir)? {
            vfs.create_dir(&self.dir)?;
        }
        let create = OpenOptions { create: true, ..OpenOptions::write() };
        let file = match self.direct.then(|| vfs.open(&self.part, create.direct())) {
            Some(Err(error)) if !is_unsupported(&error) => return Err(error),
            Some(Ok(file)) => file,
            _ => vfs.open(&self.part, create)?,
        };
        file.allocate(self.len)?;
        file.sync_data()?;
        vfs.sync_dir(&self.dir)?;
        Ok(file)
    }

    fn zero(&mut self, file: &dyn VfsFile) -> io::Result<()> {
        let until = self.len.min(self.zeroed + ZEROS_PER_JOB);
        let mut zeros = AlignedBuf::default();
        zeros.resize((until - self.zeroed).min(ZEROS as u64).div_ceil(BLOCK_LEN as u64) as usize);
        while self.zeroed < until {
            let len = (until - self.zeroed).min(zeros.len() as u64);
            file.write_at(zeros.get(..len as usize).unwrap_or_default(), self.zeroed)?;
            self.zeroed += len;
        }
        Ok(())
    }
}

impl ReadBack {
    fn run(self, vfs: &dyn Vfs) -> Outcome {
        let matches = self.read(vfs).unwrap_or(false);
        Outcome::ReadBack { generation: self.generation, matches }
    }

    fn read(&self, vfs: &dyn Vfs) -> io::Result<bool> {
        let bytes = self.bytes(vfs)?;
        let window = Window::new(&bytes, bytes.len() as u64);
        let mut reader = FileReader::new(window, self.identity, self.generation.0);
        let first = reader.batch_at(FIRST_BATCH_BLOCK, 1, self.blocks);
        Ok(first.is_ok_and(|batch| batch.digest == self.digest))
    }

    /// From the device where the cache can be bypassed, else from a cache told to forget.
    fn bytes(&self, vfs: &dyn Vfs) -> io::Result<AlignedBuf> {
        let mut buf = AlignedBuf::default();
        buf.resize(self.blocks as usize);
        let file = match self.direct.then(|| vfs.open(&self.path, OpenOptions::read().direct())) {
            Some(Ok(file)) => file,
            _ => {
                let file = vfs.open(&self.path, OpenOptions::read())?;
                file.drop_cache();
                file
            }
        };
        file.read_at(&mut buf, 0)?;
        Ok(buf)
    }
}

fn failed(what: &'static str, path: &Path, error: io::Error) -> Failed {
    Failed { what, path: path.to_path_buf(), error }
}
