//! The device itself: what a sync of so many bytes costs when nothing else is done.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use refloat_vfs::{AlignedBuf, BLOCK_LEN, OpenOptions, OsFs, Vfs, VfsFile};

use crate::measure::{Result, Subject, Window, closed_loop};

const FILE_LEN: u64 = 64 << 20;

/// Positioned writes of one size over a file that was written before, past the page cache,
/// each durable on return.
pub struct Floor {
    file: Arc<dyn VfsFile>,
    direct: bool,
    buf: AlignedBuf,
    at: u64,
    entries: u64,
}

impl Floor {
    /// `len` bytes per write, counted as so many entries.
    pub fn new(dir: &Path, len: usize, entries: u64) -> Result<Floor> {
        let path = dir.join(format!("floor-{len}"));
        let mut buf = AlignedBuf::default();
        buf.resize(1 << 20 >> 12);
        buf.fill(0x5a);
        let _ = std::fs::remove_file(&path);
        let file = OsFs.open(&path, OpenOptions::create_new())?;
        for at in (0..FILE_LEN).step_by(buf.len()) {
            file.write_at(&buf, at)?;
        }
        file.sync_data()?;
        file.drop_cache();
        drop(file);
        buf.resize(len.div_ceil(BLOCK_LEN));
        let (file, direct) = match OsFs.open(&path, OpenOptions::write().durable().direct()) {
            Ok(file) => (file, true),
            Err(_) => (OsFs.open(&path, OpenOptions::write().durable())?, false),
        };
        Ok(Floor { file, direct, buf, at: 0, entries })
    }
}

impl Subject for Floor {
    fn name(&self) -> String {
        let mode = if self.direct { "O_DIRECT|O_DSYNC" } else { "O_DSYNC" };
        format!("device, {} KiB {mode}", self.buf.len() >> 10)
    }

    fn payload(&self) -> usize {
        self.buf.len() / self.entries as usize
    }

    fn run(&mut self, window: Duration) -> Result<Window> {
        let (entries, latencies, elapsed) = closed_loop(window, || {
            let len = self.buf.len() as u64;
            if self.at + len > FILE_LEN {
                self.at = 0;
            }
            self.file.write_at(&self.buf, self.at)?;
            self.at += len;
            Ok(self.entries)
        })?;
        let syncs = latencies.len() as u64;
        let bytes = Some(syncs * self.buf.len() as u64);
        Ok(Window { entries, syncs: Some(syncs), bytes, latencies, elapsed })
    }
}
