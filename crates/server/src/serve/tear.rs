//! A file system that tears one log write: for tests and for the demo, never armed otherwise.
//!
//! Once armed, the next write of several blocks to the log stops after its first part, and the
//! process dies of SIGKILL. A batch that is complete on disk is never cut: nobody could know that
//! it was not acknowledged.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use refloat_vfs::{BLOCK_LEN, FileLayer, Layer, OpenOptions, Vfs, VfsFile};

/// What happens when the write is torn.
type Die = fn();

/// A file system over another one.
#[derive(Debug)]
pub struct TearFs {
    inner: Arc<dyn Vfs>,
    wal_dir: PathBuf,
    trigger: Arc<Trigger>,
}

/// Arms the tearing, once.
#[derive(Debug)]
pub struct Trigger {
    armed: AtomicBool,
    die: Die,
}

impl Trigger {
    /// Tears the next fitting write.
    pub fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }
}

impl TearFs {
    /// Wraps a file system; writes below `wal_dir` may be torn.
    pub fn new(inner: Arc<dyn Vfs>, wal_dir: PathBuf) -> (TearFs, Arc<Trigger>) {
        TearFs::dying_by(inner, wal_dir, kill_self)
    }

    fn dying_by(inner: Arc<dyn Vfs>, wal_dir: PathBuf, die: Die) -> (TearFs, Arc<Trigger>) {
        let trigger = Arc::new(Trigger { armed: AtomicBool::new(false), die });
        (TearFs { inner, wal_dir, trigger: trigger.clone() }, trigger)
    }
}

fn kill_self() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    // The signal is delivered before a system call returns; nothing may be written behind it.
    std::process::abort();
}

#[derive(Debug)]
struct TearFile {
    inner: Arc<dyn VfsFile>,
    trigger: Arc<Trigger>,
}

impl FileLayer for TearFile {
    fn below(&self) -> &dyn VfsFile {
        &*self.inner
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        // Files are prepared by writing zeros, which carry no promise.
        let fits = buf.len() > BLOCK_LEN && buf.iter().any(|byte| *byte != 0);
        if fits && self.trigger.armed.swap(false, Ordering::SeqCst) {
            let blocks = buf.len() / BLOCK_LEN;
            let first_part = buf.get(..blocks.div_ceil(2).min(blocks - 1) * BLOCK_LEN);
            self.inner.write_at(first_part.unwrap_or_default(), offset)?;
            (self.trigger.die)();
        }
        self.inner.write_at(buf, offset)
    }
}

impl Layer for TearFs {
    fn below(&self) -> &dyn Vfs {
        &*self.inner
    }

    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn VfsFile>> {
        let inner = self.inner.open(path, options)?;
        if !options.write || !path.starts_with(&self.wal_dir) {
            return Ok(inner);
        }
        Ok(Arc::new(TearFile { inner, trigger: self.trigger.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use refloat_vfs::OsFs;

    use super::*;

    #[test]
    fn s16_only_the_first_part_of_one_large_write_reaches_the_log() {
        let temp = tempfile::tempdir().unwrap();
        let wal_dir = temp.path().join("wal");
        std::fs::create_dir(&wal_dir).unwrap();
        let die = || panic!("killed");
        let (fs, trigger) = TearFs::dying_by(Arc::new(OsFs), wal_dir.clone(), die);
        let fs: &dyn Vfs = &fs;
        let log = fs.open(&wal_dir.join("1.wal"), OpenOptions::create_new()).unwrap();
        let other = fs.open(&temp.path().join("x"), OpenOptions::create_new()).unwrap();
        let batch = vec![7u8; 3 * BLOCK_LEN];

        log.write_at(&batch, 0).unwrap();
        trigger.arm();
        log.write_at(&batch[..BLOCK_LEN], batch.len() as u64).unwrap();
        log.write_at(&vec![0; 4 * BLOCK_LEN], 1 << 20).unwrap();
        other.write_at(&batch, 0).unwrap();

        let end = 4 * BLOCK_LEN as u64;
        let write = std::panic::AssertUnwindSafe(|| log.write_at(&batch, end));
        let torn = std::panic::catch_unwind(write);
        assert!(torn.is_err(), "the process would be dead");
        let mut found = vec![1u8; 3 * BLOCK_LEN];
        log.read_at(&mut found, end).unwrap();
        assert_eq!(found[..2 * BLOCK_LEN], batch[..2 * BLOCK_LEN]);
        assert!(found[2 * BLOCK_LEN..].iter().all(|byte| *byte == 0));
        log.write_at(&batch, end).unwrap();
    }
}
