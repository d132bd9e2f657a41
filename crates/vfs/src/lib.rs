//! The file system as a storage engine sees it: the few operations that decide what survives a
//! crash, on a real disk or on a simulated one.
//!
//! Everything that refloat does to a disk goes through [`Vfs`] and [`VfsFile`]: positioned reads
//! and writes, reservation of space, data sync, directory sync, rename, list, lock. [`OsFs`] is
//! the real one. [`SimFs`] is one in memory that can be killed or cut off at any operation, and
//! then yields the disk states that unsynced work allows.
//!
//! # Should I use this crate?
//!
//! Yes, to write files that must survive a power cut, and to prove by tests that they do: take a
//! `&dyn Vfs`, run the workload once per operation number on a [`SimFs`], recover from every
//! image. No, if you need memory maps, asynchronous calls, permissions or links, or if
//! `std::fs` without a test of its syncs is good enough.
//!
//! # What is promised
//!
//! * After [`VfsFile::sync_data`] returned `Ok`, and after a `write_at` to a file opened with
//!   [`OpenOptions::durable`] returned `Ok`, the bytes written so far survive a power cut.
//! * A created, renamed or removed *name* survives only after [`Vfs::sync_dir`] of its
//!   directory, and a directory only after that of its parent.
//! * After a sync that failed nothing is known about the bytes: the caller must stop trusting
//!   the file (the kernel may have dropped the dirty pages and will report success next time).
//!   The same holds for the names after a failed directory sync.
//! * The lock file has the process id of its holder while it is held, and is as it was before
//!   when the lock is given back: a start that is refused leaves no trace in it.
//! * Every error names the operation and the path ([`FileError`]) and keeps its kind.
//!
//! # What is assumed
//!
//! * The disk obeys flushes, and writes a sector of [`SECTOR_LEN`] bytes whole or not at all.
//! * A rename within a directory is atomic: a crash leaves the old name, the new one or both.
//!
//! # The crash model
//!
//! A **process kill** ([`SimFs::kill`]) keeps all that was written and makes nothing durable: a
//! power cut after the restart may still take it. A **power cut** ([`SimFs::power_cut`],
//! [`SimFs::crash_images`]) decides each [`Unit`] of unsynced work by itself: each sector, each
//! length, each name, in any order. So there are sizes without data, data without sizes, names
//! without contents, contents without names. Where a sync is missing, an image shows it:
//!
//! ```
//! use std::path::Path;
//! use refloat_vfs::{OpenOptions, SimFs, Vfs};
//!
//! let save = |fs: &SimFs| -> std::io::Result<()> {
//!     let file = fs.open(Path::new("/new"), OpenOptions::create_new())?;
//!     file.write_at(b"two", 0)?; // and no `sync_data`
//!     fs.rename(Path::new("/new"), Path::new("/value"))?;
//!     fs.sync_dir(Path::new("/"))
//! };
//! let start = SimFs::new();
//! start.put("/value", b"one")?;
//! let whole = start.fork();
//! save(&whole)?;
//! let mut bad = Vec::new();
//! for k in 0..whole.op_count() {
//!     let fs = start.fork();
//!     fs.crash_at(k);
//!     assert!(save(&fs).is_err());
//!     let torn = |image: &SimFs| image.contents("/value").unwrap() == b"\0\0\0";
//!     bad.extend(fs.crash_images(1000).filter(torn).map(|image| image.story()));
//! }
//! assert!(bad[0].contains("Lost sector /value+0"), "{bad:?}");
//! # std::io::Result::Ok(())
//! ```
//!
//! # Limits
//!
//! * [`OsFs`] is for Unix. `O_DIRECT` exists on Linux alone; elsewhere a direct open fails with
//!   `Unsupported`. Where space cannot be reserved, [`VfsFile::allocate`] sets the length only.
//! * Files of [`SimFs`] end at 16 GiB, and its paths do not go upwards (`..`).
//! * The disk knows no time: a slow or hanging one is made by whoever runs the jobs.
//! * The model does not misplace writes and does not damage synced data by itself; tests do that
//!   with [`SimFs::corrupt`] and [`SimFs::fail_reads`]; [`Harm`] names every way.
#![deny(unsafe_code)]

mod ahead;
mod aligned;
#[cfg(test)]
mod conformance;
mod error;
mod file_system;
mod harm;
mod layer;
mod os;
mod rng;
mod sim;

pub use ahead::Stretches;
pub use aligned::{AlignedBuf, BLOCK_LEN};
pub use error::FileError;
pub use file_system::{FileLock, OpenOptions, Vfs, VfsFile};
pub use harm::{Harm, Tally};
pub use layer::{FileLayer, Layer};
pub use os::OsFs;
pub use rng::Rng;
pub use sim::{
    EXHAUSTIVE_UNITS, Fate, Fault, ImageOptions, InFlight, OP_LOG_LEN, Op, OpKind, SECTOR_LEN,
    SimFs, Unit, is_crash,
};
