//! An open segment.

use std::io;
use std::path::{Path, PathBuf};

use refloat_types::{Entry, EntryId, Generation, GroupKey, Identity, Index, Term};
use refloat_vfs::Vfs;

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
        let run = self.terms.get(self.terms.partition_point(|run| run.last < index))?;
        (run.first <= index).then_some(run.term)
    }
}

/// What [`Segment::salvage`] could and could not read.
#[derive(Debug, Default)]
pub struct Salvage {
    /// The intact entries, ascending.
    pub entries: Vec<Entry>,
    /// What was lost between them, ascending.
    pub damage: Vec<crate::Damage>,
    /// The first index not looked at, because `max_bytes` were full; `last + 1` otherwise.
    pub next: Index,
}

/// A sealed segment: footer and index are verified and in memory, entries are read and verified
/// when asked for. The file stays readable as long as this lives, also when its name is removed.
#[derive(Debug)]
pub struct Segment {
    path: PathBuf,
    name: SegmentName,
    first_generation: Generation,
    identity: Identity,
    inputs: Vec<SegmentName>,
}

impl Segment {
    /// Opens a segment: verifies header, footer and index; entries are verified when read.
    ///
    /// # Errors
    /// [`SegmentError::Unsealed`], [`SegmentError::Foreign`], [`SegmentError::Version`],
    /// [`SegmentError::Misnamed`], [`SegmentError::Index`], [`SegmentError::Io`].
    pub fn open(vfs: &dyn Vfs, path: &Path, identity: Identity) -> Result<Segment, SegmentError> {
        let _ = (vfs, identity);
        Err(SegmentError::io(path, "open")(io::ErrorKind::Unsupported.into()))
    }

    /// Its name, which is its identity: what may be removed is decided by this.
    #[must_use]
    pub fn name(&self) -> SegmentName {
        self.name
    }

    /// The highest generation it was made from.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.name.generation
    }

    /// The lowest generation it was made from. The WAL files from this one to
    /// [`Segment::generation`] are flushed once it is published.
    #[must_use]
    pub fn first_generation(&self) -> Generation {
        self.first_generation
    }

    /// Whose file it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The length of the file in bytes.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        0
    }

    /// The segments that it replaces; none for a flushed one.
    #[must_use]
    pub fn inputs(&self) -> &[SegmentName] {
        &self.inputs
    }

    /// Whether a part that exists twice (header and footers, index) has one damaged copy. All is
    /// still readable; a rewrite cures it.
    #[must_use]
    pub fn is_impaired(&self) -> bool {
        false
    }

    /// What it holds, sorted by group.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = GroupMeta<'_>> {
        [].into_iter()
    }

    /// What it holds for one group.
    #[must_use]
    pub fn group(&self, group: GroupKey) -> Option<GroupMeta<'_>> {
        let _ = group;
        None
    }

    /// The entries from `first` to `last` that are here, ascending, until `max_bytes` of payload
    /// are exceeded; one is always given, however large. Each is verified: its digest, its
    /// group, its index and its term.
    ///
    /// # Errors
    /// [`SegmentError::Damaged`] if one of them is damaged, naming the first such;
    /// [`Segment::salvage`] reads around it.
    pub fn read(
        &self,
        group: GroupKey,
        first: Index,
        last: Index,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, SegmentError> {
        let _ = (group, first, last, max_bytes);
        Ok(Vec::new())
    }

    /// As [`Segment::read`], but gives what is intact and says what is lost.
    #[must_use]
    pub fn salvage(&self, group: GroupKey, first: Index, last: Index, max_bytes: usize) -> Salvage {
        let _ = (group, first, last, max_bytes);
        Salvage::default()
    }

    /// Reads every byte and verifies it.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn verify(&self) -> Result<(), SegmentError> {
        Ok(())
    }
}
