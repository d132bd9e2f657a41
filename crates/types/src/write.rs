//! What one group writes to its log in one turn.

use alloc::vec::Vec;

use crate::{Entry, EntryId, GroupKey, Index, Member, Term};

/// What a replica must never forget (figure 2 of the paper).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HardState {
    /// The highest term seen.
    pub term: Term,
    /// Who got this replica's vote in that term, in which life.
    pub vote: Option<Member>,
}

/// A change of one group's log. Every record says what it does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogOp {
    /// Cuts everything from the first entry's index on, then appends.
    /// `entries` is not empty, is contiguous and follows `prev`.
    Append {
        /// The entry before the first.
        prev: EntryId,
        /// What to append.
        entries: Vec<Entry>,
    },
    /// Supplies single entries (holes being healed, live entries below a snapshot).
    /// Touches only their own indexes and never cuts. Ascending, maybe with gaps.
    Fill {
        /// What to put in place.
        entries: Vec<Entry>,
    },
    /// Cuts everything from this index on.
    Cut {
        /// The first index that goes.
        from: Index,
    },
}

impl LogOp {
    /// The first index that the operation cuts away, if it cuts.
    #[must_use]
    pub fn cut_from(&self) -> Option<Index> {
        match self {
            LogOp::Append { entries, .. } => entries.first().map(|e| e.id.index),
            LogOp::Cut { from } => Some(*from),
            LogOp::Fill { .. } => None,
        }
    }

    /// The entries it brings.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        match self {
            LogOp::Append { entries, .. } | LogOp::Fill { entries } => entries,
            LogOp::Cut { .. } => &[],
        }
    }
}

/// Everything that one group writes in one turn: durable together or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupWrite {
    /// Whose write.
    pub group: GroupKey,
    /// The new term and vote, if they changed.
    pub hard_state: Option<HardState>,
    /// The change of the log, if any.
    pub log: Option<LogOp>,
}

impl GroupWrite {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hard_state.is_none() && self.log.is_none()
    }
}
