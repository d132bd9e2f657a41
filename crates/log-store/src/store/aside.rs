//! Damaged files that nothing needs any more: kept for who wants to look, under another name, and
//! not without bound.

use std::path::Path;

use refloat_vfs::Vfs;

/// Damaged files that are kept: snapshots of one group, segments of a node.
const SET_ASIDE: usize = 4;

/// Keeps a damaged file whole as `<name>.bad`, and of such files in its directory the newest few.
/// Nothing relies on it: what fails here is tried again by the next boot.
pub(super) fn keep(vfs: &dyn Vfs, path: &Path) {
    let _ = refloat_snapshot::set_aside(vfs, path);
    let Some(dir) = path.parent() else { return };
    let mut bad = vfs.list(dir).unwrap_or_default();
    bad.retain(|p| p.extension().is_some_and(|e| e == "bad"));
    // Names begin with term and index, or with the generation: the oldest first.
    bad.sort();
    let more = bad.len().saturating_sub(SET_ASIDE);
    for path in bad.iter().take(more) {
        let _ = vfs.remove_file(path);
    }
}
