//! Reading a file on a thread of its own, a little ahead of whoever looks at the bytes.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::{AlignedBuf, BLOCK_LEN, VfsFile};

/// Stretches in memory: one that is looked at, one that is read, one that waits between them.
const STRETCHES: usize = 3;

/// A file from some offset on, in stretches of one length: [`VfsFile::stretches`].
pub trait Stretches: Send + fmt::Debug {
    /// Puts the next stretch into `held`, whose memory is used for a later one. At the end of the
    /// file it is shorter, and in the end empty; a last partial block is left out.
    ///
    /// # Errors
    /// Any error of the disk, for all of the stretch. Nothing can be read from here after that.
    fn next(&mut self, held: &mut AlignedBuf) -> io::Result<()>;
}

/// Reads while its owner works; at most [`STRETCHES`] stretches are in memory.
pub(crate) struct Ahead {
    /// Empty memory for the thread. `None` once it is told to end.
    spare: Option<SyncSender<AlignedBuf>>,
    read: Receiver<io::Result<AlignedBuf>>,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    /// Reads `file` from `offset` on; all lengths are multiples of [`BLOCK_LEN`]. `None` where
    /// the system gives no thread.
    pub(crate) fn start(file: Arc<dyn VfsFile>, offset: u64, len: usize) -> Option<Ahead> {
        let (spare, spares) = sync_channel::<AlignedBuf>(STRETCHES);
        let (sender, read) = sync_channel(STRETCHES);
        let run = move || {
            let mut at = offset;
            for mut buf in spares {
                buf.resize(len / BLOCK_LEN);
                let result = file.read_at(&mut buf, at).map(|n| {
                    at += len as u64;
                    buf.resize(n / BLOCK_LEN);
                    buf
                });
                let failed = result.is_err();
                if sender.send(result).is_err() || failed {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("read-ahead".into()).spawn(run).ok()?;
        for _ in 1..STRETCHES {
            let _ = spare.send(AlignedBuf::default());
        }
        Some(Ahead { spare: Some(spare), read, thread: Some(thread) })
    }
}

impl Stretches for Ahead {
    fn next(&mut self, held: &mut AlignedBuf) -> io::Result<()> {
        if let Some(spare) = &self.spare {
            // After an error nobody takes it.
            let _ = spare.send(std::mem::take(held));
        }
        let ended = || Err(io::Error::other("reading ahead has ended"));
        *held = self.read.recv().unwrap_or_else(|_| ended())?;
        Ok(())
    }
}

impl Drop for Ahead {
    /// No thread is left behind that still reads the file.
    fn drop(&mut self) {
        drop(self.spare.take());
        while self.read.recv().is_ok() {}
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ahead").finish_non_exhaustive()
    }
}
