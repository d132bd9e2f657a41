//! A shared write-ahead log for many Raft groups that tells torn from rotten.
#![forbid(unsafe_code)]

mod encode;
mod error;
mod format;
mod inspect;
mod names;
mod options;
mod record;
mod report;
mod scan;
mod verdict;
mod writer;

pub use error::{Poisoned, ScanError, SubmitError};
pub use inspect::{BatchReport, RecordSummary, batches, peek};
pub use options::Options;
pub use record::{Lsn, Record, RecordRef};
pub use report::{Damage, DamageKind, FileReport, Owners, Verdict};
pub use scan::{Scan, Trust, Visit, scan};
pub use writer::{Done, Job, Stats, Writer};
