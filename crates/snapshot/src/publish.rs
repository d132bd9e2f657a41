//! From a file that nobody knows to one that survives: the order of steps.

use std::path::Path;

use refloat_planted::{Defect, is};
use refloat_types::Identity;
use refloat_vfs::Vfs;

use crate::disk::{Disk, failed};
use crate::file::SnapshotFile;
use crate::{SnapshotError, SnapshotMeta};

/// Makes sure that a group's directory exists and that its name is durable. A name found existing
/// may still be only in memory (made by a process that was killed), so the parent is synced always.
pub(crate) fn ensure_dir(vfs: &dyn Vfs, dir: &Path) -> Result<(), SnapshotError> {
    if !vfs.exists(dir).map_err(failed("open", dir, None, 0))? {
        vfs.create_dir(dir).map_err(failed("create", dir, None, 0))?;
    }
    sync_dir(vfs, dir.parent().unwrap_or(dir))
}

/// Syncs, reads back, renames, syncs the directory: in this order, and no step may move.
/// Rename before sync, and a crash leaves a good name with bad bytes. No read back, and what the
/// disk lost is found when the log below is already gone. No directory sync, and the name is gone.
pub(crate) fn publish(
    vfs: &dyn Vfs,
    disk: &Disk,
    to: &Path,
    identity: &Identity,
) -> Result<SnapshotMeta, SnapshotError> {
    if !is(Defect::SnapshotNamedBeforeSync) {
        disk.sync()?;
    }
    disk.file.drop_cache();
    let written = SnapshotFile::open(vfs, &disk.path, identity)?;
    written.verify()?;
    vfs.rename(&disk.path, to).map_err(failed("rename", &disk.path, None, 0))?;
    sync_dir(vfs, to.parent().unwrap_or(to))?;
    Ok(written.meta().clone())
}

pub(crate) fn sync_dir(vfs: &dyn Vfs, dir: &Path) -> Result<(), SnapshotError> {
    vfs.sync_dir(dir).map_err(failed("sync", dir, None, 0))
}
