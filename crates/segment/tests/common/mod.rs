//! A small language for the tests: entries, parts, a simulated disk with a segment directory.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use refloat_segment::{Part, Segment, SegmentError, SegmentName, SegmentSet, write};
use refloat_types::{
    ClusterId, Entry, EntryId, EntryKind, Epoch, Generation, GroupId, GroupKey, Identity,
    Incarnation, Index, Member, NodeId, Term,
};
use refloat_vfs::{SimFs, Vfs};

/// Group, cut, entries.
pub type Held = (GroupKey, Option<Index>, Vec<Entry>);

pub fn identity() -> Identity {
    let member = Member::new(NodeId(3), Incarnation(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10));
    Identity { cluster: ClusterId(0xc1c2_c3c4_c5c6_c7c8_c9ca_cbcc_cdce_cfd0), member }
}

pub fn dir() -> &'static Path {
    Path::new("/seg")
}

pub fn group(id: u64) -> GroupKey {
    GroupKey::new(GroupId(id), Epoch(id * 10))
}

pub fn name(generation: u64, revision: u32) -> SegmentName {
    SegmentName::new(Generation(generation), revision)
}

pub fn path(generation: u64, revision: u32) -> PathBuf {
    dir().join(name(generation, revision).to_string())
}

pub fn entry(index: u64, term: u64) -> Entry {
    sized(index, term, (index % 7) as usize * 3)
}

pub fn sized(index: u64, term: u64, len: usize) -> Entry {
    let kind = if index.is_multiple_of(10) { EntryKind::Config } else { EntryKind::Command };
    let payload: Vec<u8> = (0..len).map(|n| (n as u64 * 31 + index * 7 + term) as u8).collect();
    Entry::new(EntryId::new(Term(term), Index(index)), kind, payload.into())
}

pub fn entries(range: std::ops::RangeInclusive<u64>, term: u64) -> Vec<Entry> {
    range.map(|index| entry(index, term)).collect()
}

/// A part that begins with an append, so that it cuts at its first entry.
pub fn appended(id: u64, range: std::ops::RangeInclusive<u64>, term: u64) -> Part {
    Part { group: group(id), cut: Some(Index(*range.start())), entries: entries(range, term) }
}

pub fn filled(id: u64, indexes: &[u64], term: u64) -> Part {
    let entries = indexes.iter().map(|index| entry(*index, term)).collect();
    Part { group: group(id), cut: None, entries }
}

pub fn disk() -> SimFs {
    let fs = SimFs::new();
    fs.create_dir(dir()).expect("create the directory");
    fs.sync_dir(Path::new("/")).expect("sync the root");
    fs
}

pub fn flush(fs: &dyn Vfs, generation: u64, parts: Vec<Part>) -> Arc<Segment> {
    try_flush(fs, generation, parts).expect("write a segment")
}

pub fn try_flush(
    fs: &dyn Vfs,
    generation: u64,
    parts: Vec<Part>,
) -> Result<Arc<Segment>, SegmentError> {
    write(fs, dir(), identity(), Generation(generation), parts).map(Arc::new)
}

pub fn open(fs: &dyn Vfs, generation: u64) -> Result<Segment, SegmentError> {
    Segment::open(fs, &path(generation, 0), identity())
}

/// What a segment holds, read and verified.
pub fn contents(segment: &Segment) -> Result<Vec<Held>, SegmentError> {
    let read = |meta: refloat_segment::GroupMeta<'_>| {
        let entries = segment.read(meta.group, Index(0), Index(u64::MAX), usize::MAX)?;
        assert_eq!(entries.len() as u64, meta.count);
        assert_eq!(entries.iter().map(|e| e.payload.len() as u64).sum::<u64>(), meta.bytes);
        Ok((meta.group, meta.cut, entries))
    };
    segment.groups().map(read).collect()
}

pub fn as_contents(parts: &[Part]) -> Vec<Held> {
    parts.iter().map(|p| (p.group, p.cut, p.entries.clone())).collect()
}

/// The log of a group as a reader of the set sees it.
pub fn log_of(set: &SegmentSet, group: GroupKey) -> BTreeMap<u64, Entry> {
    let mut log = BTreeMap::new();
    let mut next = Index(0);
    for source in set.plan(group, Index(0), Index(u64::MAX)) {
        assert!(source.first >= next && source.first <= source.last, "ranges ascend");
        next = source.last.next();
        let found = source.segment.read(group, source.first, source.last, usize::MAX);
        let found = found.expect("read what was planned");
        assert_eq!(found.len() as u64, source.last - source.first + 1, "a range has no gap");
        log.extend(found.into_iter().map(|e| (e.id.index.0, e)));
    }
    let runs = set.term_runs(group);
    let from_runs: Vec<EntryId> = runs
        .iter()
        .flat_map(|r| (r.first.0..=r.last.0).map(|i| EntryId::new(r.term, Index(i))))
        .collect();
    assert!(log.values().map(|e| e.id).eq(from_runs), "terms are as read");
    let configs: Vec<EntryId> =
        log.values().filter(|e| e.kind == EntryKind::Config).map(|e| e.id).collect();
    assert_eq!(set.configs(group), configs);
    assert_eq!(set.last(group), log.values().next_back().map(|e| e.id));
    assert_eq!(set.first(group), log.values().next().map(|e| e.id));
    log
}
