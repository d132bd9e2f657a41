//! Making a segment.

use std::path::Path;

use refloat_types::{Entry, Generation, GroupKey, Identity, Index};
use refloat_vfs::Vfs;

use crate::format::Head;
use crate::writer::Writer;
use crate::{Segment, SegmentError, SegmentName};

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

/// As [`write()`], for several generations flushed as one: it is named after the newest, and says
/// from which one on it stands in for WAL files ([`Segment::first_generation`]).
///
/// # Errors
/// As [`write()`].
pub fn write_merged(
    vfs: &dyn Vfs,
    dir: &Path,
    identity: Identity,
    first: Generation,
    last: Generation,
    parts: impl IntoIterator<Item = Part>,
) -> Result<Segment, SegmentError> {
    let name = SegmentName::new(last, 0);
    let head = Head { identity, name, first_generation: first, inputs: Vec::new() };
    write_with(vfs, dir, head, |writer| {
        for part in parts {
            writer.group(part.group, part.cut)?;
            part.entries.iter().try_for_each(|entry| writer.entry(entry))?;
        }
        Ok(())
    })
}

/// Writes what `fill` gives, and removes the temporary file if that fails.
pub(crate) fn write_with(
    vfs: &dyn Vfs,
    dir: &Path,
    head: Head,
    fill: impl FnOnce(&mut Writer<'_>) -> Result<(), SegmentError>,
) -> Result<Segment, SegmentError> {
    let name = head.name;
    let written = Writer::create(vfs, dir, head).and_then(|mut writer| {
        fill(&mut writer)?;
        writer.finish()
    });
    if written.is_err() {
        Writer::abandon(vfs, dir, name);
    }
    written
}
