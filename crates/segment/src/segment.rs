//! An open segment.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use refloat_types::{EntryId, Generation, GroupKey, Identity, Index, Term};
use refloat_vfs::{Vfs, VfsFile};

use crate::format::{Extent, Head, Layout};
use crate::index::{IndexTable, term_in};
use crate::open::open;
use crate::{SegmentError, SegmentName};

/// Entries of one term with contiguous indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermRun {
    /// Their term.
    pub term: Term,
    /// The first index.
    pub first: Index,
    /// The last index.
    pub last: Index,
}

/// What a segment holds for one group, as its index says.
#[derive(Clone, Copy, Debug)]
pub struct GroupMeta<'a> {
    /// Which group.
    pub group: GroupKey,
    /// Older segments are read only below this.
    pub cut: Option<Index>,
    /// How many entries.
    pub count: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Which indexes are here, and of which term; ascending.
    pub terms: &'a [TermRun],
    /// The indexes of the entries that change the membership, ascending.
    pub configs: &'a [Index],
}

impl GroupMeta<'_> {
    /// The lowest entry.
    #[must_use]
    pub fn first(&self) -> Option<EntryId> {
        self.terms.first().map(|run| EntryId::new(run.term, run.first))
    }

    /// The highest entry.
    #[must_use]
    pub fn last(&self) -> Option<EntryId> {
        self.terms.last().map(|run| EntryId::new(run.term, run.last))
    }

    /// The term of an index, if the entry is here.
    #[must_use]
    pub fn term(&self, index: Index) -> Option<Term> {
        term_in(self.terms, index)
    }
}

/// A sealed segment: footer and index are verified and in memory, entries are read and verified
/// when asked for. The file stays readable as long as this lives, also when its name is removed.
#[derive(Debug)]
pub struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn VfsFile>,
    pub(crate) head: Head,
    pub(crate) salt: u32,
    pub(crate) extent: Extent,
    pub(crate) layout: Layout,
    pub(crate) index: IndexTable,
    pub(crate) impaired: bool,
}

impl Segment {
    /// Opens a segment: verifies header, footer and index; entries are verified when read.
    /// Header, footer and index exist twice, and one good copy of each place is enough.
    ///
    /// # Errors
    /// [`SegmentError::Unsealed`], [`SegmentError::Foreign`], [`SegmentError::Version`],
    /// [`SegmentError::Misnamed`], [`SegmentError::Index`], [`SegmentError::Io`].
    pub fn open(vfs: &dyn Vfs, path: &Path, identity: Identity) -> Result<Segment, SegmentError> {
        open(vfs, path, identity)
    }

    /// Its name, which is its identity: what may be removed is decided by this.
    #[must_use]
    pub fn name(&self) -> SegmentName {
        self.head.name
    }

    /// The highest generation it was made from.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.head.name.generation
    }

    /// The lowest generation it was made from. Once a flushed segment is published, the WAL files
    /// from this one to [`Segment::generation`] are not needed any more.
    #[must_use]
    pub fn first_generation(&self) -> Generation {
        self.head.first_generation
    }

    /// Whose file it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.head.identity
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The length of the file in bytes.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.layout.file_len
    }

    /// How many entries it holds.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.extent.entries
    }

    /// The segments that it replaces; none for a flushed one.
    #[must_use]
    pub fn inputs(&self) -> &[SegmentName] {
        &self.head.inputs
    }

    /// Whether opening it met a damaged copy of something that exists twice (header and footers,
    /// index). All is still readable; a rewrite cures it. [`Segment::verify`] looks at every copy.
    #[must_use]
    pub fn is_impaired(&self) -> bool {
        self.impaired
    }

    /// What it holds, sorted by group.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = GroupMeta<'_>> {
        self.index.groups()
    }

    /// What it holds for one group.
    #[must_use]
    pub fn group(&self, group: GroupKey) -> Option<GroupMeta<'_>> {
        self.index.group(group)
    }

    pub(crate) fn set_path(&mut self, path: PathBuf) {
        self.path = path;
    }
}
