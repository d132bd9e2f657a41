//! The names of snapshot directories and files.

use std::path::{Path, PathBuf};

use refloat_types::{EntryId, Epoch, GroupId, GroupKey, Index, Term};

use crate::SnapshotMeta;

/// The directory of a group's snapshots below the directory of all: `g<id>-e<epoch>`,
/// 16 hex digits each.
#[must_use]
pub fn group_dir(root: &Path, group: GroupKey) -> PathBuf {
    root.join(format!("g{:016x}-e{:016x}", group.id.0, group.epoch.0))
}

/// The group that a directory made by [`group_dir`] belongs to.
#[must_use]
pub fn group_of(dir: &Path) -> Option<GroupKey> {
    let (group, epoch) = dir.file_name()?.to_str()?.split_once('-')?;
    let (id, epoch) = (hex(group.strip_prefix('g')?)?, hex(epoch.strip_prefix('e')?)?);
    Some(GroupKey { id: GroupId(id), epoch: Epoch(epoch) })
}

/// The complete snapshot up to an entry: `<term>-<index>.snap`, 16 hex digits each.
#[must_use]
pub fn snapshot_path(dir: &Path, id: EntryId) -> PathBuf {
    dir.join(format!("{:016x}-{:016x}.snap", id.term.0, id.index.0))
}

/// The same, while this node writes it.
pub(crate) fn temporary_path(dir: &Path, id: EntryId) -> PathBuf {
    snapshot_path(dir, id).with_extension("tmp")
}

/// The same, while it is received. The digest keeps two senders' bytes apart, whose snapshots up
/// to one entry may differ.
pub(crate) fn part_path(dir: &Path, id: EntryId, digest: u32) -> PathBuf {
    dir.join(format!("{:016x}-{:016x}-{digest:08x}.part", id.term.0, id.index.0))
}

/// Where a reception of this snapshot is kept until it is whole.
#[must_use]
pub fn part_of(dir: &Path, meta: &SnapshotMeta) -> PathBuf {
    part_path(dir, meta.id, meta.digest)
}

/// What a name in a group's directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Snapshot,
    Temporary,
    Part,
    Stray,
}

pub(crate) fn kind(path: &Path) -> Kind {
    match path.extension().and_then(|e| e.to_str()) {
        Some("snap") if id_of(path).is_some() => Kind::Snapshot,
        Some("tmp") if id_of(path).is_some() => Kind::Temporary,
        Some("part") if id_of(path).is_some() => Kind::Part,
        _ => Kind::Stray,
    }
}

/// The entry that a file's name speaks of.
pub(crate) fn id_of(path: &Path) -> Option<EntryId> {
    let mut parts = path.file_stem()?.to_str()?.split('-');
    let (term, index) = (hex(parts.next()?)?, hex(parts.next()?)?);
    Some(EntryId::new(Term(term), Index(index)))
}

fn hex(digits: &str) -> Option<u64> {
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let ok = digits.len() == 16 && digits.bytes().all(lower);
    ok.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// Where a file's name, or its directory's, contradicts its header: a file under a wrong name is
/// somebody else's snapshot. Names that say nothing (a copy made by hand) contradict nothing.
pub(crate) fn mismatch(
    path: &Path,
    group: GroupKey,
    id: EntryId,
) -> Option<(&'static str, u64, u64)> {
    let named = id_of(path).unwrap_or(id);
    let dir = path.parent().and_then(group_of).unwrap_or(group);
    [
        ("group of the directory", dir.id.0, group.id.0),
        ("epoch of the directory", dir.epoch.0, group.epoch.0),
        ("term of the name", named.term.0, id.term.0),
        ("index of the name", named.index.0, id.index.0),
    ]
    .into_iter()
    .find(|(_, expected, found)| expected != found)
}
