//! The bytes of a snapshot on their way back into a state machine.

use std::fmt;
use std::io;

use bytes::{Bytes, BytesMut};

use crate::machine::RestoreError;

/// The bytes that a machine's [`snapshot`](crate::StateMachine::snapshot) drew, as one stream.
///
/// How they were cut on the way is not visible here: ask for as many as a field has. A length that
/// was read reserves nothing; a snapshot that is too short is an error, and so is one of which
/// `restore` leaves bytes over.
///
/// ```
/// use bytes::Bytes;
/// use refloat_node::SnapshotReader;
///
/// let mut pieces = [Bytes::from_static(b"\x02\x00"), Bytes::from_static(b"hi!")].into_iter();
/// let mut snapshot = SnapshotReader::new(&mut pieces);
/// let len = u16::from_le_bytes(snapshot.array()?);
/// assert_eq!(snapshot.next_bytes(usize::from(len))?, "hi");
/// assert_eq!(snapshot.rest(), "!");
/// assert!(snapshot.is_over());
/// # Ok::<(), refloat_node::RestoreError>(())
/// ```
pub struct SnapshotReader<'a> {
    pieces: &'a mut dyn Iterator<Item = Bytes>,
    buffer: BytesMut,
    read: u64,
}

impl<'a> SnapshotReader<'a> {
    /// Reads pieces, for instance those that a machine's own `snapshot` has just drawn.
    pub fn new(pieces: &'a mut dyn Iterator<Item = Bytes>) -> SnapshotReader<'a> {
        SnapshotReader { pieces, buffer: BytesMut::new(), read: 0 }
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn next_bytes(&mut self, len: usize) -> Result<Bytes, RestoreError> {
        if !self.fill(len) {
            let (at, left) = (self.read, self.buffer.len());
            return Err(RestoreError::new(format!(
                "{len} bytes expected at {at} of the snapshot, {left} are left"
            )));
        }
        self.read += len as u64;
        Ok(self.buffer.split_to(len).freeze())
    }

    /// The next bytes as an array, for `u64::from_le_bytes` and the like.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], RestoreError> {
        let bytes = self.next_bytes(N)?;
        let mut array = [0; N];
        array.copy_from_slice(&bytes);
        Ok(array)
    }

    /// All that is left, in memory at once.
    pub fn rest(&mut self) -> Bytes {
        self.fill(usize::MAX);
        self.read += self.buffer.len() as u64;
        self.buffer.split().freeze()
    }

    /// Whether nothing is left.
    pub fn is_over(&mut self) -> bool {
        !self.fill(1)
    }

    /// How many bytes were read.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.read
    }

    /// Whether so many bytes are there, after drawing as many pieces as it takes.
    fn fill(&mut self, len: usize) -> bool {
        while self.buffer.len() < len {
            match self.pieces.next() {
                Some(piece) => self.buffer.extend_from_slice(&piece),
                None => return false,
            }
        }
        true
    }
}

impl io::Read for SnapshotReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.fill(1);
        let len = out.len().min(self.buffer.len());
        out[..len].copy_from_slice(&self.buffer.split_to(len));
        self.read += len as u64;
        Ok(len)
    }
}

impl fmt::Debug for SnapshotReader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotReader").field("position", &self.read).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn cut(bytes: &[u8], len: usize) -> impl Iterator<Item = Bytes> + '_ {
        bytes.chunks(len).map(Bytes::copy_from_slice)
    }

    #[test]
    fn what_is_read_does_not_depend_on_the_cuts() {
        let bytes: Vec<u8> = (0..100).collect();
        for len in 1..=100 {
            let mut pieces = cut(&bytes, len);
            let mut reader = SnapshotReader::new(&mut pieces);
            assert_eq!(reader.array::<3>().unwrap(), [0, 1, 2]);
            assert_eq!(reader.next_bytes(40).unwrap(), bytes[3..43]);
            let mut rest = Vec::new();
            reader.read_to_end(&mut rest).unwrap();
            assert_eq!(rest, bytes[43..]);
            assert!(reader.is_over());
            assert_eq!(reader.position(), 100);
        }
    }

    #[test]
    fn a_length_beyond_the_end_is_an_error_that_says_where() {
        let bytes = [7; 10];
        let mut pieces = cut(&bytes, 3);
        let mut reader = SnapshotReader::new(&mut pieces);
        reader.next_bytes(4).unwrap();
        let error = reader.next_bytes(usize::MAX).unwrap_err().to_string();
        assert!(error.contains("at 4") && error.contains("6 are left"), "{error}");
        assert_eq!(reader.rest().len(), 6);
    }
}
