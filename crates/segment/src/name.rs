//! What segment files are called.

use std::fmt;
use std::path::Path;

use refloat_types::Generation;

/// The name of a segment file: the (highest) generation it was made from, and which rewrite of it.
/// Ordered from older to newer.
///
/// A flush makes revision 0, `00000000000000000007.seg`; a compaction whose highest input is of
/// generation 7 makes a later one, `00000000000000000007-2.seg`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// The highest generation that the segment was made from.
    pub generation: Generation,
    /// 0 as flushed, more after each compaction.
    pub revision: u32,
}

impl SegmentName {
    /// Joins a generation and a revision.
    #[must_use]
    pub const fn new(generation: Generation, revision: u32) -> SegmentName {
        SegmentName { generation, revision }
    }

    /// Reads the name from a path's last part. `None` for every spelling that
    /// [`SegmentName`]'s `Display` does not make.
    #[must_use]
    pub fn of_path(path: &Path) -> Option<SegmentName> {
        let file = path.file_name()?.to_str()?;
        let stem = file.strip_suffix(".seg")?;
        let (generation, revision) = match stem.split_once('-') {
            Some((generation, revision)) => (generation, revision.parse().ok()?),
            None => (stem, 0),
        };
        let name = SegmentName::new(Generation(generation.parse().ok()?), revision);
        (name.to_string() == file).then_some(name)
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.revision {
            0 => write!(f, "{:020}.seg", self.generation.0),
            revision => write!(f, "{:020}-{revision}.seg", self.generation.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_written_and_in_no_other_spelling() {
        for (generation, revision) in [(1, 0), (7, 2), (u64::MAX, u32::MAX)] {
            let name = SegmentName::new(Generation(generation), revision);
            assert_eq!(SegmentName::of_path(Path::new(&format!("d/{name}"))), Some(name));
        }
        for bad in ["7.seg", "00000000000000000007-0.seg", "00000000000000000007-02.seg"] {
            assert_eq!(SegmentName::of_path(Path::new(bad)), None, "{bad}");
        }
        for bad in ["00000000000000000007.seg.tmp", "+0000000000000000007.seg", ".seg", ""] {
            assert_eq!(SegmentName::of_path(Path::new(bad)), None, "{bad}");
        }
    }
}
