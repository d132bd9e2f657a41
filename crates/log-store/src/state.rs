//! The state of one group after a boot, and what it allows.

use std::fmt;

use bytes::Bytes;
use refloat_types::{ConfState, Entry, EntryId, GroupKey, HardState, Index, IndexSet};
use serde::Serialize;

/// What a boot could prove about one group. See `docs/recovery.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupState {
    /// Everything is proven.
    Clean,
    /// Term, vote and the end of the log are proven; some entries below it are not readable.
    Damaged,
    /// Term and vote are proven; where the log ended is not.
    HeadUnknown,
    /// Term and vote cannot be proven: this replica may have promised what it no longer knows.
    Amnesia,
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GroupState::Clean => "clean",
            GroupState::Damaged => "damaged",
            GroupState::HeadUnknown => "head-unknown",
            GroupState::Amnesia => "amnesia",
        })
    }
}

/// One group as a boot found it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupBoot {
    /// Which group, in which life.
    pub key: GroupKey,
    /// What could be proven.
    pub state: GroupState,
    /// What a group that is not clean waits for, with the evidence.
    pub waits_for: Option<String>,
    /// Term and vote.
    pub hard_state: HardState,
    /// What the host kept with [`crate::LogStore::put_group_value`] last.
    pub value: Option<Bytes>,
    /// The membership at [`GroupBoot::snapshot`].
    pub conf: ConfState,
    /// The snapshot that the machine starts from; zero if there is none.
    pub snapshot: EntryId,
    /// The first entry of each run of one term above the snapshot, ascending; holes included.
    pub terms: Vec<EntryId>,
    /// The last entry, or the snapshot where the log is empty; it may be a hole.
    pub last: EntryId,
    /// Entries above the snapshot that cannot be read here, and whose terms are known.
    pub holes: IndexSet,
    /// Entries at or below the snapshot to which it refers, and that nothing here holds. What the
    /// state needs of them is lost here; for the log they are nothing that it waits for.
    pub lost_live: IndexSet,
    /// Those of the holes that are, or may be, membership entries.
    pub config_holes: IndexSet,
    /// The commit hint, clamped to the log. A lower bound, not a fact about the cluster.
    pub commit: Index,
    /// Membership entries above the snapshot, ascending.
    pub configs: Vec<Entry>,
}
