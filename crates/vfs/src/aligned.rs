//! Memory that direct writes accept.

/// The unit of direct input and output, in bytes, and the alignment of [`AlignedBuf`].
pub const BLOCK_LEN: usize = 4096;

#[derive(Clone, Copy)]
#[repr(C, align(4096))]
struct Block([u8; BLOCK_LEN]);

/// A zeroed, growable buffer whose memory starts on a [`BLOCK_LEN`] boundary and whose length is
/// a multiple of it.
#[derive(Clone, Default)]
pub struct AlignedBuf {
    blocks: Vec<Block>,
}

impl AlignedBuf {
    /// An empty buffer with room for this many blocks.
    #[must_use]
    pub fn with_capacity(blocks: usize) -> AlignedBuf {
        AlignedBuf { blocks: Vec::with_capacity(blocks) }
    }

    /// How many blocks it holds.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Grows with zeroed blocks, or shrinks, to this many blocks.
    pub fn resize(&mut self, blocks: usize) {
        self.blocks.resize(blocks, Block([0; BLOCK_LEN]));
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.blocks.clear();
    }
}

impl std::fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBuf({} blocks)", self.blocks.len())
    }
}

#[allow(unsafe_code)]
impl std::ops::Deref for AlignedBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `Block` is `repr(C)` over `[u8; BLOCK_LEN]` with no padding (its size equals
        // its alignment), so a slice of n blocks is n * BLOCK_LEN initialised bytes.
        unsafe {
            std::slice::from_raw_parts(self.blocks.as_ptr().cast(), self.blocks.len() * BLOCK_LEN)
        }
    }
}

#[allow(unsafe_code)]
impl std::ops::DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; any byte pattern is a valid `Block`.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.blocks.as_mut_ptr().cast(),
                self.blocks.len() * BLOCK_LEN,
            )
        }
    }
}

/// What a direct handle demands of every read and write. Checked on every file system alike, so
/// that a mistake shows where the system below would have let it pass.
pub(crate) fn check_direct(buf: &[u8], offset: u64) -> std::io::Result<()> {
    let unit = BLOCK_LEN as u64;
    let aligned = buf.as_ptr().addr().is_multiple_of(BLOCK_LEN);
    if aligned && offset.is_multiple_of(unit) && (buf.len() as u64).is_multiple_of(unit) {
        return Ok(());
    }
    Err(crate::error::reason(
        std::io::ErrorKind::InvalidInput,
        format!(
            "direct access needs multiples of {BLOCK_LEN}: offset {offset}, length {}, memory {}",
            buf.len(),
            if aligned { "aligned" } else { "unaligned" }
        ),
    ))
}
