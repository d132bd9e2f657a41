//! Which snapshot a group starts from.

use std::path::PathBuf;
use std::sync::Arc;

use refloat_snapshot::{SnapshotError, SnapshotFile, group_dir, snapshot_path};
use refloat_types::{EntryId, GroupKey, Identity};
use refloat_vfs::Vfs;

use crate::error::BootError;
use crate::options::Options;
use crate::small_state::GroupRecord;
use crate::store::with_cause;

/// The snapshots of one group as a boot believes them.
#[derive(Debug, Default)]
pub(crate) struct SnapshotFound {
    /// The newest published one that verifies as a whole.
    pub(crate) file: Option<Arc<SnapshotFile>>,
    /// What is wrong with newer ones.
    pub(crate) damage: Vec<String>,
    /// Files that nothing names: written but never published, or left by a crash.
    pub(crate) retired: Vec<PathBuf>,
    /// Files of unknown origin, damaged ones set aside included.
    pub(crate) strangers: Vec<PathBuf>,
}

/// Verifies the published snapshots of a group, newest first, until one is whole. A damaged one
/// is reported and left where it is: nothing about it says anything about the log.
pub(crate) fn find(
    vfs: &dyn Vfs,
    options: &Options,
    identity: Identity,
    group: GroupKey,
    record: &GroupRecord,
) -> Result<SnapshotFound, BootError> {
    let mut found = SnapshotFound::default();
    let dir = group_dir(&options.snapshot_root(), group);
    let mut candidates = vec![record.snapshot, record.previous];
    candidates.retain(|id| *id != EntryId::ZERO);
    candidates.dedup();
    for id in &candidates {
        match verified(vfs, &dir, &identity, *id) {
            Ok(file) => {
                found.file = Some(Arc::new(file));
                break;
            }
            Err(e @ (SnapshotError::Foreign { .. } | SnapshotError::NewerFormat { .. })) => {
                return Err(BootError::Refused { reason: with_cause(&e) });
            }
            Err(e) => found.damage.push(with_cause(&e)),
        }
    }
    let unreadable = |e: SnapshotError| BootError::Refused { reason: with_cause(&e) };
    for other in refloat_snapshot::list(vfs, &dir, &identity).map_err(unreadable)? {
        if !candidates.contains(&other.id) {
            found.retired.push(other.path);
        }
    }
    let leftovers = refloat_snapshot::leftovers(vfs, &dir).map_err(unreadable)?;
    found.retired.extend(leftovers.temporary);
    found.strangers.extend(leftovers.strays);
    Ok(found)
}

fn verified(
    vfs: &dyn Vfs,
    dir: &std::path::Path,
    identity: &Identity,
    id: EntryId,
) -> Result<SnapshotFile, SnapshotError> {
    let file = SnapshotFile::open(vfs, &snapshot_path(dir, id), identity)?;
    file.verify()?;
    Ok(file)
}
