//! Looking at a snapshot that is not complete: for tools.

use std::path::Path;

use refloat_types::{Identity, Index, IndexSet};
use refloat_vfs::Vfs;

use crate::file::{open_header, read_chunk};
use crate::{SnapshotError, SnapshotMeta};

/// What a file that is being written or received, or was left so, holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unfinished {
    /// What its verified header says it is to become.
    pub meta: SnapshotMeta,
    /// The chunks that verify, chunk `n` as index `n`.
    pub have: IndexSet,
}

impl Unfinished {
    /// Reads a `.tmp` or `.part` file, whole. Changes nothing.
    ///
    /// # Errors
    /// The file cannot be read, or its header does not verify yet.
    pub fn read(
        vfs: &dyn Vfs,
        path: &Path,
        identity: &Identity,
    ) -> Result<Unfinished, SnapshotError> {
        let (disk, fixed, meta, layout) = open_header(vfs, path, identity)?;
        let intact = |n: &u32| read_chunk(&disk, &layout, fixed.salt(), *n).is_ok();
        let have = (0..layout.chunks()).filter(intact).map(|n| Index(n.into())).collect();
        Ok(Unfinished { meta, have })
    }
}
