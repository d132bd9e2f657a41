//! The file system as a storage engine sees it.
//!
//! Everything that refloat does to a disk goes through [`Vfs`] and [`VfsFile`]: positioned reads
//! and writes, preallocation, data sync, directory sync, rename, list, lock.
//! [`OsFs`] is the real one. [`SimFs`] is a file system in memory with a strict crash model:
//! it can be killed or cut off at any operation, and then yields the disk states that unsynced
//! work allows.
//!
//! # What is promised
//!
//! * After [`VfsFile::sync_data`] returned `Ok`, and after a `write_at` to a file opened with
//!   [`OpenOptions::durable`] returned `Ok`, the bytes written so far survive a power cut.
//! * A created, renamed or removed *name* survives only after [`Vfs::sync_dir`] of its directory.
//! * After a sync that failed nothing is known about the bytes: the caller must stop trusting
//!   the file (the kernel may have dropped the dirty pages and will report success next time).
#![deny(unsafe_code)]

mod aligned;
#[cfg(test)]
mod conformance;
mod error;
mod file_system;
mod os;
mod rng;
mod sim;

pub use aligned::{AlignedBuf, BLOCK_LEN};
pub use error::FileError;
pub use file_system::{FileLock, OpenOptions, Vfs, VfsFile};
pub use os::OsFs;
pub use rng::Rng;
pub use sim::{
    EXHAUSTIVE_UNITS, Fate, Fault, ImageOptions, InFlight, OP_LOG_LEN, Op, OpKind, SECTOR_LEN,
    SimFs, Unit, is_crash,
};
