//! Giving back the space of dead entries.

use refloat_types::{GroupKey, Index, IndexSet};
use refloat_vfs::Vfs;

use crate::{Segment, SegmentError, SegmentName, SegmentSet};

/// Which entries of a group are still needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Those above an index (the older kept snapshot's), and the live ones at or below it.
    Log {
        /// All above this are kept.
        above: Index,
        /// These are kept too.
        live: IndexSet,
    },
    /// None: the group was deleted.
    Gone,
}

/// When a compaction is worth its writes. Sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// A segment with a smaller share of needed bytes than this is rewritten.
    pub live_percent: u8,
    /// Segments shorter than this are merged with their neighbours.
    pub small: u64,
    /// How many small neighbours make a merge worth it.
    pub merge_from: usize,
    /// No merge makes a longer output, unless there are more segments than `max_segments`.
    pub target: u64,
    /// More segments than this are merged whatever their size: a read may have to ask each.
    pub max_segments: usize,
    /// Segments to leave alone, for instance because they have holes that are being healed.
    pub avoid: Vec<SegmentName>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            live_percent: 50,
            small: 16 << 20,
            merge_from: 4,
            target: 256 << 20,
            max_segments: 32,
            avoid: Vec::new(),
        }
    }
}

/// One compaction, ready to run: owns all it needs.
#[derive(Debug)]
pub struct Compaction {
    inputs: Vec<SegmentName>,
}

/// Chooses the most useful compaction, or none.
#[must_use]
pub fn plan_compaction(
    set: &SegmentSet,
    keep: &dyn Fn(GroupKey) -> Keep,
    limits: &Limits,
) -> Option<Compaction> {
    let _ = (set, keep, limits);
    None
}

impl Compaction {
    /// The segments that the output replaces, or that go without one, oldest first.
    #[must_use]
    pub fn inputs(&self) -> &[SegmentName] {
        &self.inputs
    }

    /// Writes the output and makes it durable. Blocking. `None` if nothing of the inputs is needed.
    ///
    /// The inputs stay. The caller publishes the output in their place (or their removal), and
    /// only when that is durable removes them ([`crate::remove_files`]).
    ///
    /// # Errors
    /// As [`crate::write`], and [`SegmentError::Damaged`] if an entry that is needed cannot be
    /// read; the inputs are then as before.
    pub fn run(&self, vfs: &dyn Vfs) -> Result<Option<Segment>, SegmentError> {
        let _ = vfs;
        Ok(None)
    }
}
