//! The snapshots of one group on disk: listing, retention, leftovers.

use std::io;
use std::path::{Path, PathBuf};

use refloat_planted::{Defect, is};
use refloat_types::{EntryId, Identity};
use refloat_vfs::Vfs;

use crate::disk::failed;
use crate::file::SnapshotFile;
use crate::names::{Kind, id_of, kind};
use crate::publish::sync_dir;
use crate::{SnapshotError, SnapshotMeta};

/// A complete snapshot in a directory, or what is wrong with it.
#[derive(Debug)]
pub struct Found {
    /// Its file.
    pub path: PathBuf,
    /// The entry that its name speaks of.
    pub id: EntryId,
    /// What its verified header says, or why it cannot be used.
    pub result: Result<SnapshotMeta, SnapshotError>,
}

/// The complete snapshots of a group's directory, newest first; none if there is no directory.
/// Name, header, length and seal of each are verified; the payload is not read.
///
/// # Errors
/// The directory cannot be read. A file that cannot be read is reported in its [`Found`].
pub fn list(vfs: &dyn Vfs, dir: &Path, identity: &Identity) -> Result<Vec<Found>, SnapshotError> {
    let mut found: Vec<Found> = paths(vfs, dir, Kind::Snapshot)?
        .into_iter()
        .filter_map(|path| Some((id_of(&path)?, path)))
        .map(|(id, path)| {
            let opened = SnapshotFile::open(vfs, &path, identity);
            Found { path, id, result: opened.map(|file| file.meta().clone()) }
        })
        .collect();
    found.sort_by_key(|f| std::cmp::Reverse(f.id));
    Ok(found)
}

/// Files of a group's directory that are no complete snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leftovers {
    /// Of writes that a crash ended: worth nothing.
    pub temporary: Vec<PathBuf>,
    /// Of receptions: [`crate::Incoming::begin`] goes on with them.
    pub parts: Vec<PathBuf>,
    /// Everything else, damaged snapshots that were set aside and caches of live indexes
    /// included. Never read: the live indexes stand in the snapshot.
    pub strays: Vec<PathBuf>,
}

/// What else is in a group's directory.
///
/// # Errors
/// The directory cannot be read.
pub fn leftovers(vfs: &dyn Vfs, dir: &Path) -> Result<Leftovers, SnapshotError> {
    Ok(Leftovers {
        temporary: paths(vfs, dir, Kind::Temporary)?,
        parts: paths(vfs, dir, Kind::Part)?,
        strays: paths(vfs, dir, Kind::Stray)?,
    })
}

fn paths(vfs: &dyn Vfs, dir: &Path, wanted: Kind) -> Result<Vec<PathBuf>, SnapshotError> {
    match vfs.list(dir) {
        Ok(paths) => Ok(paths.into_iter().filter(|path| kind(path) == wanted).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed("list", dir, None, 0)(error)),
    }
}

/// What [`retain`] did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Retained {
    /// Valid and kept, newest first; fully verified.
    pub kept: Vec<EntryId>,
    /// Older than those, and removed.
    pub removed: Vec<EntryId>,
    /// Found not valid: reported, never removed. Of files older than those kept only the header
    /// and the seal are read.
    pub damaged: Vec<Found>,
}

/// Removes snapshots that are older than the newest `keep` valid ones. Whether one is valid is
/// found by reading all of it, so that a rotten newest snapshot never costs the fallback; while
/// fewer than `keep` are valid nothing is removed. Snapshots above `published` (which the log does
/// not name yet) neither count nor go.
///
/// # Errors
/// The directory cannot be read or synced, or a file not removed.
pub fn retain(
    vfs: &dyn Vfs,
    dir: &Path,
    identity: &Identity,
    published: EntryId,
    keep: usize,
) -> Result<Retained, SnapshotError> {
    let mut out = Retained::default();
    let keep = if is(Defect::OnlySnapshotKept) { 1 } else { keep };
    for mut found in list(vfs, dir, identity)?.into_iter().filter(|f| f.id <= published) {
        if out.kept.len() >= keep.max(1) {
            if found.result.is_ok() {
                vfs.remove_file(&found.path).map_err(failed("remove", &found.path, None, 0))?;
                out.removed.push(found.id);
            } else {
                out.damaged.push(found);
            }
            continue;
        }
        let verified = SnapshotFile::open(vfs, &found.path, identity).and_then(|f| f.verify());
        match verified {
            Ok(()) => out.kept.push(found.id),
            Err(error) => {
                found.result = Err(error);
                out.damaged.push(found);
            }
        }
    }
    if !out.removed.is_empty() {
        sync_dir(vfs, dir)?;
    }
    Ok(out)
}

/// Removes what writes left behind, and the receptions that `keep` does not want.
///
/// # Errors
/// The directory cannot be read or synced, or a file not removed.
pub fn remove_leftovers(
    vfs: &dyn Vfs,
    dir: &Path,
    keep: &dyn Fn(&Path) -> bool,
) -> Result<Vec<PathBuf>, SnapshotError> {
    let Leftovers { temporary, parts, .. } = leftovers(vfs, dir)?;
    let gone: Vec<PathBuf> =
        temporary.into_iter().chain(parts.into_iter().filter(|part| !keep(part))).collect();
    for path in &gone {
        vfs.remove_file(path).map_err(failed("remove", path, None, 0))?;
    }
    if !gone.is_empty() {
        sync_dir(vfs, dir)?;
    }
    Ok(gone)
}

/// Renames a damaged snapshot to `<name>.bad`, or `<name>.<n>.bad` if that is taken: out of the
/// way of a healed one of the same name, and kept whole as evidence.
///
/// # Errors
/// The disk failed.
pub fn set_aside(vfs: &dyn Vfs, path: &Path) -> Result<PathBuf, SnapshotError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut aside = path.with_file_name(format!("{name}.bad"));
    let mut n = 1u32;
    while vfs.exists(&aside).map_err(failed("open", &aside, None, 0))? {
        n += 1;
        aside = path.with_file_name(format!("{name}.{n}.bad"));
    }
    vfs.rename(path, &aside).map_err(failed("rename", path, None, 0))?;
    sync_dir(vfs, path.parent().unwrap_or(path))?;
    Ok(aside)
}
