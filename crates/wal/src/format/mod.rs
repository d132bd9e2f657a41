//! The bytes of the log: `docs/formats/wal.md` in code.

pub(crate) mod batch;
pub(crate) mod directory;
pub(crate) mod file_header;
pub(crate) mod link;
pub(crate) mod sector;

/// Bytes in a block: what a write starts on and never shares.
pub(crate) const BLOCK: usize = refloat_vfs::BLOCK_LEN;
/// Bytes in a sector: what a disk writes whole or not at all.
pub(crate) const SECTOR: usize = 512;
/// Bytes of a sector that carry content; the rest is its tag.
pub(crate) const PIECE: usize = SECTOR - sector::TAG;
/// Sectors in a block.
pub(crate) const SECTORS_PER_BLOCK: usize = BLOCK / SECTOR;
/// Content bytes in a block.
pub(crate) const CONTENT: usize = SECTORS_PER_BLOCK * PIECE;
/// The block that names the next file.
pub(crate) const LINK_BLOCK: u32 = 1;
/// The first block that holds batches, behind the file header and the link block.
pub(crate) const FIRST_BATCH_BLOCK: u32 = 2;
/// The version of the format that is written, and the highest that is read.
pub(crate) const VERSION: u16 = 1;

/// Where a block starts in a file.
pub(crate) fn offset_of(block: u32) -> u64 {
    u64::from(block) * BLOCK as u64
}

/// How many blocks hold so many content bytes.
pub(crate) fn blocks_for(content: usize) -> usize {
    content.div_ceil(CONTENT)
}
