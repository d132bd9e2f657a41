//! Making a segment.

use std::io;
use std::path::Path;

use refloat_types::{Entry, Generation, GroupKey, Identity, Index};
use refloat_vfs::Vfs;

use crate::{Segment, SegmentError};

/// What one generation holds for one group.
#[derive(Clone, Debug)]
pub struct Part {
    /// Whose entries.
    pub group: GroupKey,
    /// The lowest index that the generation cut at: older segments are read only below it.
    pub cut: Option<Index>,
    /// Ascending, maybe with gaps, maybe none.
    pub entries: Vec<Entry>,
}

/// Writes the segment of one generation and makes it durable under its final name. Blocking.
///
/// Parts are sorted by group. The file is written under a `.tmp` name, sealed, synced and read
/// back; then it is renamed and the directory synced. When this returns `Ok` the segment is
/// durable; it becomes part of the log when the caller publishes it. An unpublished file of the
/// same name is replaced.
///
/// # Errors
/// [`SegmentError::NotIntact`] for an entry that changed in memory, [`SegmentError::Unsorted`],
/// [`SegmentError::ReadBack`], [`SegmentError::Io`]. Nothing stands under the final name then,
/// unless the last step, the sync of the directory, is what failed.
pub fn write(
    vfs: &dyn Vfs,
    dir: &Path,
    identity: Identity,
    generation: Generation,
    parts: impl IntoIterator<Item = Part>,
) -> Result<Segment, SegmentError> {
    write_merged(vfs, dir, identity, generation, generation, parts)
}

/// As [`write`], for several generations flushed as one: it is named after the newest, and says
/// from which one on it stands in for WAL files ([`Segment::first_generation`]).
///
/// # Errors
/// As [`write`].
pub fn write_merged(
    vfs: &dyn Vfs,
    dir: &Path,
    identity: Identity,
    first: Generation,
    last: Generation,
    parts: impl IntoIterator<Item = Part>,
) -> Result<Segment, SegmentError> {
    let _ = (vfs, identity, first, last, parts.into_iter().count());
    Err(SegmentError::io(dir, "write")(io::ErrorKind::Unsupported.into()))
}
