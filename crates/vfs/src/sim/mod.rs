//! The simulated file system.

mod content;
mod crash;
mod disk;
mod faults;
mod file;
mod handles;
mod images;
mod names;
mod ops;
mod transfer;
mod units;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

pub use content::SECTOR_LEN;
use disk::Disk;
pub use faults::Fault;
pub use images::{EXHAUSTIVE_UNITS, ImageOptions};
pub use ops::{OP_LOG_LEN, Op, OpKind, is_crash};
pub use units::{Fate, InFlight, Unit};

/// A file system in memory with a strict crash model: see the crate's page.
///
/// A clone is another handle to the same disk. [`SimFs::fork`] makes an independent copy, which
/// is cheap: contents are shared until they change.
#[derive(Clone, Default)]
pub struct SimFs {
    disk: Arc<Mutex<Disk>>,
}

impl SimFs {
    /// An empty file system: the root directory alone. Relative paths start there.
    #[must_use]
    pub fn new() -> SimFs {
        SimFs::default()
    }

    /// An independent copy of this state, with its faults and its log, but without open handles
    /// and locks.
    #[must_use]
    pub fn fork(&self) -> SimFs {
        let mut disk = self.disk.lock().clone();
        disk.open.clear();
        disk.locks.clear();
        SimFs::from_disk(disk)
    }

    /// How many operations changed the disk or made something durable; the number of the next.
    #[must_use]
    pub fn op_count(&self) -> u64 {
        self.disk.lock().ops.count
    }

    /// The last [`OP_LOG_LEN`] operations, oldest first.
    #[must_use]
    pub fn ops(&self) -> Vec<Op> {
        self.disk.lock().ops.log.iter().cloned().collect()
    }

    /// Empties the log of operations. The numbers go on.
    pub fn clear_ops(&self) {
        self.disk.lock().ops.log.clear();
    }

    /// A hash of all names and contents, visible and durable, and of what is undecided: equal
    /// for equal histories, on every machine.
    #[must_use]
    pub fn state_hash(&self) -> u64 {
        self.disk.lock().hash()
    }

    fn from_disk(disk: Disk) -> SimFs {
        SimFs { disk: Arc::new(Mutex::new(disk)) }
    }
}

impl fmt::Debug for SimFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.disk.try_lock() {
            Some(disk) => write!(
                f,
                "SimFs({} files, {} operations, {})",
                disk.files.len(),
                disk.ops.count,
                disk.story
            ),
            None => f.write_str("SimFs(busy)"),
        }
    }
}
