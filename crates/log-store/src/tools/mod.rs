//! Explaining and tidying a data directory from outside.
//!
//! Everything here but [`repair()`] only reads, takes no lock, and is safe beside a running node:
//! files may vanish and the end may move while it looks. What looks wrong is therefore looked at
//! again, and told only if the second look finds the same.
//!
//! A start believes the index of a segment and verifies an entry when it reads it. The tools read
//! every entry, and fold both logs and the segments into one log of their own ([`check`],
//! [`inspect_group`], [`compare`]); where that fold and the start's own reading differ, they say so.

mod check;
mod compare;
mod fold;
mod group;
mod look;
mod repair;
mod segments;
mod snapshots;

pub use check::{BadSnapshot, Checked, Unreadable, check};
pub use compare::{Comparison, Difference, GroupComparison, Holds, Relation, compare};
pub use group::{GroupStory, Range, Vote, Wanted, inspect_group};
pub use look::{Progress, look};
pub use repair::{Action, Plan, RepairError, plan_repair, repair};
pub use segments::{SegmentGroup, SegmentReport, SegmentRole, Span, Spot, inspect_segments};
pub use snapshots::{SnapshotReport, SnapshotRole, inspect_snapshots};
