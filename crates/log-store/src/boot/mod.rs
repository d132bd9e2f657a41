//! The way back: from whatever a crash left to a running store.
//!
//! 1. Lock the directory and read its identity.
//! 2. Scan both logs, in order; rebuild the small state and, per WAL file, a memtable.
//! 3. Open the segments that the small state lists; adopt sealed ones above `flushed`.
//! 4. Verify the snapshots; the newest valid one counts, the one before it is the fallback.
//! 5. Judge every group ([`judge`]): only now is anything believed.
//! 6. Open a new file of both logs by the linking operation, with the batch that nothing proved
//!    written again. Until it is linked, the old files are untouched and a crash changes nothing.
//!
//! Steps 1 to 5 only read: [`examine`] is also what the offline tools call.

mod examine;
mod holes;
mod judge;
mod open;
mod replay;
mod report;
mod segments;
mod snapshots;

pub use examine::{Examination, examine};
pub(crate) use examine::{votes_options, wal_options};
pub use open::{Boot, boot, boot_to_recover};
pub(crate) use open::{lock, refuse_if_nothing_is_left};
pub use report::{BootReport, FileLine, GroupLine};
