//! A shared write-ahead log for many Raft groups that tells torn from rotten.
//!
//! One log takes the entries and the small state (term, vote, hints) of all groups of a node:
//! what is submitted while one batch syncs goes out in the next, with one write and one sync.
//! After a crash, [`scan`] reads it back and says of every damaged place which of two things it
//! is: a write that was cut off and never acknowledged, which is dropped; or data that was
//! durable, which is never cut, whose surviving records are given out one by one, and whose lost
//! entries are named by group, index and term, so that they can be fetched from a peer.
//!
//! # Should I use this crate?
//!
//! If you write a replicated log and want group commit and an honest recovery: yes, it stands
//! alone and pulls in nothing but `bytes` and `crc32c`. If your log has no peers to heal from you
//! get the same verdicts, and holes that stay holes. It is no database: there is no index, no
//! read of old entries; keep what you need in memory until you have put it elsewhere.
//!
//! # What is promised
//!
//! * What [`Writer::submit`] took in one call is durable together, once [`Writer::durable`] has
//!   reached its [`Lsn`], and is given out by every later scan, in order, until its file is
//!   released.
//! * A verdict rests on evidence, by one pure function (`verdict.rs`): every 512-byte sector says
//!   which file and batch wrote it, so unwritten, written and hurt are three different things.
//! * Damage never hides what stands behind it, and names whose entries are lost: a batch's
//!   directory is repeated in the batch behind it.
//! * After a failed write or sync nothing is acknowledged any more ([`Poisoned`]). No space while
//!   a file is prepared ahead is the one exception.
//! * A start writes nothing into old files but one link block, so a start that is itself cut off
//!   leaves the next one the same verdict.
//! * [`scan`] never writes, never panics and never allocates by a number it did not check.
//!
//! # What is assumed
//!
//! A sector of 512 bytes is written whole or not at all; a write or sync that returned is
//! durable; a directory sync makes names durable. A drive that lies about the second makes
//! durable data look torn; the seal written when the log goes idle keeps that window short.
//!
//! # Example
//!
//! ```
//! use refloat_types::*;
//! use refloat_vfs::SimFs;
//! use refloat_wal::*;
//!
//! struct Print;
//! impl Visit for Print {
//!     fn record(&mut self, at: Lsn, trust: Trust, record: Record, _missing: &[EntryId]) {
//!         println!("{at} {trust:?} {record:?}");
//!     }
//! }
//! fn run_jobs(writer: &mut Writer, fs: &SimFs) {
//!     while let Some(job) = writer.poll(Now(0)) {
//!         writer.done(Now(0), job.run(fs)).expect("the disk works");
//!     }
//! }
//!
//! let (fs, group) = (SimFs::new(), GroupKey::META);
//! let mut options = Options::new("/wal", Identity::default());
//! options.file_size = 64 * 4096;
//! let scan1 = scan(&fs, &options, &mut Print).unwrap();
//! let mut writer = Writer::resume(scan1, options.clone(), vec![], vec![]);
//! let at = writer.submit(&[RecordRef::State { group, body: b"voted for 2" }]).unwrap();
//! run_jobs(&mut writer, &fs);
//! assert!(writer.durable() >= at);
//!
//! let fs = fs.power_cut(|_| refloat_vfs::Fate::Lost);
//! let scan2 = scan(&fs, &options, &mut Print).unwrap();
//! let again = scan2.unproven().to_vec();
//! assert_eq!(again, [Record::State { group, body: "voted for 2".into() }]);
//! let mut writer = Writer::resume(scan2, options, vec![], again);
//! run_jobs(&mut writer, &fs);
//! assert!(writer.is_ready());
//! ```
//!
//! `examples/torn_or_rotten.rs` hurts a log in two ways and prints what the next start says.
//!
//! # Limits
//!
//! A file holds up to 2 GiB; what one call submits must fit into one file. A batch takes at least
//! 4096 bytes on disk. Up to 2^32 - 1 batches a file, 2^64 - 1 files. One writer per directory:
//! locking it is the caller's business.
//!
//! The bytes are laid down in `docs/formats/wal.md`.
#![forbid(unsafe_code)]

mod carry;
mod encode;
mod error;
mod format;
mod inspect;
mod names;
mod options;
mod record;
mod report;
mod scan;
mod scrub;
mod verdict;
mod writer;

pub use error::{Poisoned, ScanError, SubmitError};
pub use inspect::{BatchReport, RecordSummary, batches, peek};
pub use options::Options;
pub use record::{Lsn, Record, RecordRef};
pub use report::{Damage, DamageKind, FileReport, Owners, Verdict};
pub use scan::{Scan, Trust, Visit, scan};
pub use scrub::{Rot, Scrub, Scrubbed};
pub use writer::{Done, Job, Stats, Writer};
