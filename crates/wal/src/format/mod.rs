//! The bytes of the log: `docs/formats/wal.md` in code.

/// Bytes in a block: what a write starts on and never shares.
pub(crate) const BLOCK: usize = refloat_vfs::BLOCK_LEN;
/// The first block that holds batches, behind the file header and the link block.
pub(crate) const FIRST_BATCH_BLOCK: u32 = 2;
