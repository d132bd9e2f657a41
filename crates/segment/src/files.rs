//! The segment files of a directory.

use std::path::{Path, PathBuf};

use refloat_types::Identity;
use refloat_vfs::Vfs;

use crate::{Segment, SegmentError, SegmentName};

/// A file of the segment directory.
#[derive(Debug)]
pub struct Found {
    /// Where.
    pub path: PathBuf,
    /// Its name, if it is spelled as a segment's; `None` for `.tmp` files and strangers.
    pub name: Option<SegmentName>,
    /// The open segment, for those with a name.
    pub result: Option<Result<Segment, SegmentError>>,
}

/// As [`list`], for a boot that will rely on what it finds: syncs the directory first.
///
/// A name that is seen need not be durable: after a process was killed between the rename and the
/// directory's sync, the page cache shows a segment that a power cut would still take away, and a
/// WAL file released for its sake would be lost with it.
///
/// # Errors
/// The directory cannot be synced or listed.
pub fn recover(vfs: &dyn Vfs, dir: &Path, identity: Identity) -> Result<Vec<Found>, SegmentError> {
    vfs.sync_dir(dir).map_err(SegmentError::io(dir, "sync"))?;
    list(vfs, dir, identity)
}

/// All files of a segment directory, sorted by path, those with a segment's name opened.
/// Changes nothing: for tools, and for a look from outside. A boot takes [`recover`].
///
/// # Errors
/// The directory cannot be listed.
pub fn list(vfs: &dyn Vfs, dir: &Path, identity: Identity) -> Result<Vec<Found>, SegmentError> {
    let paths = vfs.list(dir).map_err(SegmentError::io(dir, "list"))?;
    let found = |path: PathBuf| {
        let name = SegmentName::of_path(&path);
        let result = name.map(|_| Segment::open(vfs, &path, identity));
        Found { path, name, result }
    };
    Ok(paths.into_iter().map(found).collect())
}

/// Removes segment files by name and nothing else, and syncs the directory once. Files that are
/// already gone are no error. To be called only when a durable record says that no name in
/// `names` is live.
///
/// # Errors
/// A file cannot be removed, or the directory not synced.
pub fn remove_files(vfs: &dyn Vfs, dir: &Path, names: &[SegmentName]) -> Result<(), SegmentError> {
    for name in names {
        let path = dir.join(name.to_string());
        match vfs.remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(SegmentError::io(&path, "remove")(e));
            }
            _ => {}
        }
    }
    vfs.sync_dir(dir).map_err(SegmentError::io(dir, "sync"))
}
