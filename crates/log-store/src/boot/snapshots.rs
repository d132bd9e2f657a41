//! Which snapshot a group starts from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use refloat_snapshot::{SnapshotError, SnapshotFile, group_dir, group_of, snapshot_path};
use refloat_types::{EntryId, GroupKey, Identity, IndexSet};
use refloat_vfs::Vfs;

use crate::error::BootError;
use crate::options::Options;
use crate::small_state::{GroupRecord, SmallState};
use crate::store::{add_all, own_files, with_cause};

/// The snapshots of one group as a boot believes them.
#[derive(Debug, Default)]
pub(crate) struct SnapshotFound {
    /// The newest published one that verifies as a whole.
    pub(crate) file: Option<Arc<SnapshotFile>>,
    /// The live indexes of it and of the one that it could fall back on.
    pub(crate) live: IndexSet,
    /// What is wrong with newer ones.
    pub(crate) damage: Vec<String>,
    /// Files that nothing names: written but never published, or left by a crash.
    pub(crate) retired: Vec<PathBuf>,
    /// Files that do not verify and that nothing needs any more: kept under another name.
    pub(crate) rotten: Vec<PathBuf>,
    /// Files of unknown origin, damaged ones set aside included.
    pub(crate) strangers: Vec<PathBuf>,
}

/// Verifies the published snapshots of a group, newest first, until one is whole. A damaged one
/// is reported: nothing about it says anything about the log.
///
/// `intact` says whether the small state has no hole: only then is a file that it does not name
/// known to be dead, and only while the ones that it names verify.
pub(crate) fn find(
    vfs: &dyn Vfs,
    options: &Options,
    identity: Identity,
    group: GroupKey,
    record: &GroupRecord,
    intact: bool,
) -> Result<SnapshotFound, BootError> {
    let mut found = SnapshotFound::default();
    let dir = group_dir(&options.snapshot_root(), group);
    let mut candidates = vec![record.snapshot, record.previous];
    candidates.retain(|id| *id != EntryId::ZERO);
    candidates.dedup();
    for id in &candidates {
        let path = snapshot_path(&dir, *id);
        if found.file.is_some() {
            // The fallback: its live entries are kept as long as it is.
            match SnapshotFile::open(vfs, &path, &identity) {
                Ok(file) => add_all(&mut found.live, &file.meta().live),
                Err(e) => refuse_or_skip(&e)?,
            }
            continue;
        }
        match verified(vfs, &path, &identity) {
            Ok(file) => {
                found.live = file.meta().live.clone();
                found.file = Some(Arc::new(file));
            }
            Err(e) => {
                refuse_or_skip(&e)?;
                if matches!(e, SnapshotError::Corrupt { .. }) {
                    found.rotten.push(path);
                }
                found.damage.push(with_cause(&e));
            }
        }
    }
    let intact = intact && found.damage.is_empty();
    let unreadable = |e: SnapshotError| BootError::Refused { reason: with_cause(&e) };
    for other in refloat_snapshot::list(vfs, &dir, &identity).map_err(unreadable)? {
        if candidates.contains(&other.id) {
            continue;
        }
        match verified(vfs, &other.path, &identity) {
            Ok(_) if intact => found.retired.push(other.path),
            Err(SnapshotError::Corrupt { .. }) => found.rotten.push(other.path),
            _ => found.strangers.push(other.path),
        }
    }
    let leftovers = refloat_snapshot::leftovers(vfs, &dir).map_err(unreadable)?;
    found.retired.extend(leftovers.temporary);
    found.strangers.extend(leftovers.strays);
    Ok(found)
}

/// A file of somebody else, or of a newer version, is no damage.
fn refuse_or_skip(e: &SnapshotError) -> Result<(), BootError> {
    match e {
        SnapshotError::Foreign { .. } | SnapshotError::NewerFormat { .. } => {
            Err(BootError::Refused { reason: with_cause(e) })
        }
        _ => Ok(()),
    }
}

/// What is left of groups that are gone.
pub(crate) fn of_gone_groups(vfs: &dyn Vfs, options: &Options, state: &SmallState) -> Vec<PathBuf> {
    let dirs = vfs.list(&options.snapshot_root()).unwrap_or_default();
    let gone = |dir: &&PathBuf| group_of(dir).is_some_and(|key| !state.groups.contains_key(&key));
    dirs.iter().filter(gone).flat_map(|dir| own_files(vfs, dir)).collect()
}

fn verified(
    vfs: &dyn Vfs,
    path: &Path,
    identity: &Identity,
) -> Result<SnapshotFile, SnapshotError> {
    let file = SnapshotFile::open(vfs, path, identity)?;
    file.verify()?;
    Ok(file)
}
