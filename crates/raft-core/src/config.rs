//! What a core is made from.

use alloc::vec::Vec;
use core::fmt;

use refloat_types::{
    ConfState, Entry, EntryId, EntryKind, GroupKey, HardState, Index, IndexSet, Member,
};

use crate::ConfChange;

/// Settings of one replica. Times are microseconds of the host's monotonic clock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Config {
    /// This replica: node and life.
    pub me: Member,
    /// The group, epoch included. Messages of any other are refused.
    pub group: GroupKey,
    /// The election timeout E; each wait is drawn from [E, 2E) (section 9.3 of the paper).
    pub election_timeout: u64,
    /// How many election timeouts longer than others this replica waits before it campaigns: 0 for
    /// the one that should lead.
    pub rank: u32,
    /// Serves reads from a lease, without a round, and declares that the clocks of any two
    /// members drift apart by less than this within an election timeout. `None`: no leases. A
    /// member with leases promises not to vote for an election timeout after it heard a leader,
    /// or started; only such promises count, so it works once a majority has it on. Needs
    /// `check_quorum`, and the same election timeout everywhere. Whoever turns it off at a member
    /// must keep that member down for an election timeout.
    pub lease_drift: Option<u64>,
    /// After how long without proposals and reads a leader with which everybody agrees falls
    /// quiet, and its followers with it: no beats and no timers until something happens. The host
    /// must beat in their stead ([`Core::wake`](crate::Core::wake)). `None`: never.
    pub quiet_after: Option<u64>,
    /// How often a leader beats. At most half of `election_timeout`.
    pub heartbeat: u64,
    /// Whether a candidate asks first whether it could win (thesis, section 9.6).
    pub pre_vote: bool,
    /// Whether a leader that hears no quorum for E steps down, and voters that heard a leader
    /// within E ignore vote requests (thesis, sections 6.2 and 4.2.3).
    pub check_quorum: bool,
    /// The most bytes of entries in one append message, each counted with its head of 17 bytes;
    /// one entry always fits.
    pub max_append_bytes: usize,
    /// The most unanswered append messages per peer.
    pub max_inflight_msgs: usize,
    /// The most unanswered bytes of entries per peer; one message always fits.
    pub max_inflight_bytes: u64,
    /// The most payload bytes that a leader holds proposed and uncommitted; one batch always
    /// fits. Beyond it, [`ProposeError::Busy`](crate::ProposeError::Busy).
    pub max_uncommitted_bytes: u64,
    /// How long a peer is left alone after its first failed snapshot; doubles up to 32 times.
    pub snapshot_backoff: u64,
    /// Source of every random choice. It must differ from run to run of the same replica:
    /// it also names this run in forwarded reads, so that a late answer to an earlier run
    /// is never taken for an answer to this one.
    pub seed: u64,
    /// The number of this run of the node, higher than that of every run before; a leader
    /// compares by it what a replica declares with what it saw. 0: runs are not numbered, and
    /// only a replica that misses something declares itself.
    pub run: u64,
}

impl Config {
    /// Defaults: E = 1 s, beat 100 ms, pre-vote and check quorum on.
    #[must_use]
    pub fn new(me: Member, group: GroupKey) -> Config {
        Config {
            me,
            group,
            election_timeout: 1_000_000,
            heartbeat: 100_000,
            rank: 0,
            lease_drift: None,
            quiet_after: None,
            pre_vote: true,
            check_quorum: true,
            max_append_bytes: 1 << 20,
            max_inflight_msgs: 256,
            max_inflight_bytes: 16 << 20,
            max_uncommitted_bytes: 64 << 20,
            snapshot_backoff: 1_000_000,
            seed: 0,
            run: 0,
        }
    }
}

/// What this replica may do, as the log store's verdict allows. Only the core obeys it,
/// only the store knows why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rights {
    /// May answer votes and pre-votes.
    pub may_vote: bool,
    /// May campaign; needs `may_vote` too.
    pub may_campaign: bool,
    /// May take entries and acknowledge them, up to the first hole, and answer beats.
    pub may_ack: bool,
}

impl Rights {
    /// Term and vote are proven, and so is the end of the log. There may be [`Holes`] in it.
    pub const ALL: Rights = Rights { may_vote: true, may_campaign: true, may_ack: true };
    /// Term and vote are proven, the end of the log is not: entries that it acknowledged may
    /// be missing behind it. It follows, and gets all rights back by itself when it holds what a
    /// leader had after it said hello.
    pub const FOLLOW: Rights = Rights { may_vote: false, may_campaign: false, may_ack: true };
    /// A replica that forgot what it promised. Nothing that it says counts, ever: it returns as
    /// a new life.
    pub const NONE: Rights = Rights { may_vote: false, may_campaign: false, may_ack: false };
}

impl Default for Rights {
    fn default() -> Rights {
        Rights::ALL
    }
}

/// Entries above the snapshot whose term is known and whose content is not readable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Holes {
    /// Where they are.
    pub missing: IndexSet,
    /// Those of them that are, or may be, membership changes.
    pub may_be_config: IndexSet,
}

impl Holes {
    /// Whether every entry can be read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty()
    }
}

/// What the log store found, all of it durable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Restored {
    /// Term and vote.
    pub hard_state: HardState,
    /// The membership as of `applied`.
    pub conf: ConfState,
    /// The snapshot that the log continues; [`EntryId::ZERO`] if the log starts at 1.
    pub snapshot: EntryId,
    /// The first entry of each term above `snapshot`, ascending.
    pub terms: Vec<EntryId>,
    /// The last entry; `snapshot` if there is none above it.
    pub last: EntryId,
    /// The commit hint, clamped to `snapshot.index..=last.index` by the store.
    pub commit: Index,
    /// How far the state machine is.
    pub applied: Index,
    /// The Config entries above `applied`, ascending.
    pub configs: Vec<Entry>,
    /// What the replica may do.
    pub rights: Rights,
    /// What of the log cannot be read. `terms` and `last` name it nevertheless.
    pub holes: Holes,
}

impl Restored {
    /// An empty log of a new group with this first membership.
    #[must_use]
    pub fn empty(conf: ConfState) -> Restored {
        Restored { conf, ..Restored::default() }
    }
}

/// What was restored cannot be one replica's state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RestoreError {
    /// A pair that must be ordered is not.
    Order {
        /// What must not exceed `high`.
        low: &'static str,
        /// Its value.
        low_value: u64,
        /// What it must not exceed.
        high: &'static str,
        /// Its value.
        high_value: u64,
    },
    /// The term runs are not ascending, do not start behind the snapshot or do not end at `last`.
    TermRuns,
    /// A Config entry that cannot be read, or that is not where the log is.
    ConfigEntry(EntryId),
    /// A hole that is not above the snapshot or not in the log, or one that may be a membership
    /// change and is no hole.
    Holes(IndexSet),
    /// A setting with which nothing works.
    Setting {
        /// Which.
        field: &'static str,
        /// What it is.
        found: u64,
        /// The least that works with the other settings.
        least: u64,
        /// The most that does.
        most: u64,
    },
    /// A setting that works only together with another one, which is off.
    Needs {
        /// Which.
        field: &'static str,
        /// The other one.
        needs: &'static str,
    },
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestoreError::Order { low, low_value, high, high_value } => {
                write!(f, "restore replica: {low} {low_value} above {high} {high_value}")
            }
            RestoreError::TermRuns => f.write_str("restore replica: term runs do not fit the log"),
            RestoreError::ConfigEntry(id) => {
                write!(f, "restore replica: membership entry {id} is unreadable or out of place")
            }
            RestoreError::Holes(holes) => {
                write!(f, "restore replica: holes {holes} are out of place")
            }
            RestoreError::Setting { field, found, least, most } => {
                write!(f, "restore replica: {field} is {found}, expected {least} to {most}")
            }
            RestoreError::Needs { field, needs } => {
                write!(f, "restore replica: {field} is set without {needs}")
            }
        }
    }
}

impl core::error::Error for RestoreError {}

/// Checks what a core is to be made from, and reads its membership entries.
pub(crate) fn check(
    config: &Config,
    restored: &Restored,
) -> Result<Vec<(Index, ConfChange)>, RestoreError> {
    check_settings(config)?;
    check_pointers(restored)?;
    check_runs(restored)?;
    check_holes(restored)?;
    let mut after = restored.applied;
    let mut changes = Vec::with_capacity(restored.configs.len());
    for entry in &restored.configs {
        let index = entry.id.index;
        let change = ConfChange::decode(&entry.payload);
        match change {
            Ok(change)
                if entry.kind == EntryKind::Config
                    && index > after
                    && index <= restored.last.index =>
            {
                changes.push((index, change));
            }
            _ => return Err(RestoreError::ConfigEntry(entry.id)),
        }
        after = index;
    }
    Ok(changes)
}

/// No time is longer: sums and multiples of times stay far from the end of their numbers.
const MOST_MICROS: u64 = 1 << 48;
/// No message is longer.
const MOST_BYTES: u64 = 1 << 30;

fn check_settings(config: &Config) -> Result<(), RestoreError> {
    let timeout = config.election_timeout;
    if config.lease_drift.is_some() && !config.check_quorum {
        return Err(RestoreError::Needs { field: "lease_drift", needs: "check_quorum" });
    }
    let bounds = [
        ("election_timeout", timeout, 2, MOST_MICROS),
        ("heartbeat", config.heartbeat, 1, timeout / 2),
        ("lease_drift", config.lease_drift.unwrap_or_default(), 0, timeout.saturating_sub(1)),
        ("quiet_after", config.quiet_after.unwrap_or_default(), 0, MOST_MICROS),
        ("max_append_bytes", config.max_append_bytes as u64, 1, MOST_BYTES),
        ("max_inflight_msgs", config.max_inflight_msgs as u64, 1, u64::MAX),
        ("max_inflight_bytes", config.max_inflight_bytes, 1, u64::MAX),
        ("snapshot_backoff", config.snapshot_backoff, 1, MOST_MICROS),
    ];
    let bad = bounds.into_iter().find(|(_, found, least, most)| found < least || found > most);
    match bad {
        Some((field, found, least, most)) => {
            Err(RestoreError::Setting { field, found, least, most })
        }
        None => Ok(()),
    }
}

fn check_pointers(r: &Restored) -> Result<(), RestoreError> {
    let pairs = [
        ("snapshot index", r.snapshot.index.0, "applied index", r.applied.0),
        ("applied index", r.applied.0, "commit index", r.commit.0),
        ("commit index", r.commit.0, "last index", r.last.index.0),
        ("last entry's term", r.last.term.0, "term", r.hard_state.term.0),
    ];
    for (low, low_value, high, high_value) in pairs {
        if low_value > high_value {
            return Err(RestoreError::Order { low, low_value, high, high_value });
        }
    }
    Ok(())
}

fn check_holes(r: &Restored) -> Result<(), RestoreError> {
    let Holes { missing, may_be_config } = &r.holes;
    let above = missing.first().is_none_or(|at| at > r.snapshot.index);
    let below = missing.last().is_none_or(|at| at <= r.last.index);
    let subset = may_be_config
        .ranges()
        .iter()
        .all(|(first, last)| missing.ranges().iter().any(|(lo, hi)| lo <= first && last <= hi));
    if above && below && subset { Ok(()) } else { Err(RestoreError::Holes(missing.clone())) }
}

/// Runs start right behind the snapshot, ascend in term and index, and end at `last`.
fn check_runs(r: &Restored) -> Result<(), RestoreError> {
    let first = r.terms.first().map(|id| id.index);
    let empty = r.last.index == r.snapshot.index;
    let starts = if empty { first.is_none() } else { first == Some(r.snapshot.index.next()) };
    let ascend = r.terms.is_sorted_by(|a, b| a.term < b.term && a.index < b.index)
        && r.terms.first().is_none_or(|id| id.term >= r.snapshot.term);
    let end = r.terms.last().unwrap_or(&r.snapshot);
    let ends = end.term == r.last.term && end.index <= r.last.index;
    if starts && ascend && ends { Ok(()) } else { Err(RestoreError::TermRuns) }
}
