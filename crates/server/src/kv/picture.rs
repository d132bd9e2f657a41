//! The state of a group as the content of a snapshot.
//!
//! A version (1 byte), the clock (8 bytes), then cells to the end: key (4-byte length, bytes),
//! value (the same), a flag and 8 bytes of deadline. The bytes are drawn in pieces, which the
//! snapshot may cut anew: on the way back a cell may stand across two of them.

use bytes::{Bytes, BytesMut};
use refloat_types::codec::{DecodeError, Put, Reader};

use super::table::{Cell, Table};

const VERSION: u8 = 1;
/// A chunk is closed once it is longer than this.
const CHUNK_LEN: usize = 256 * 1024;

/// The chunks of a state as it is now.
pub fn draw(table: &Table, clock_ms: u64) -> impl Iterator<Item = Bytes> + Send + use<> {
    let mut cells = table.picture().peekable();
    let mut head = Some(clock_ms);
    std::iter::from_fn(move || {
        let mut out = Vec::new();
        if let Some(clock_ms) = head.take() {
            out.put_u8(VERSION);
            out.put_u64(clock_ms);
        } else {
            cells.peek()?;
        }
        while out.len() < CHUNK_LEN {
            let Some((key, cell)) = cells.next() else { break };
            put_cell(&key, &cell, &mut out);
        }
        Some(out.into())
    })
}

/// Builds the state from its bytes, however they are cut.
pub fn read(chunks: &mut dyn Iterator<Item = Bytes>) -> Result<(Table, u64), DecodeError> {
    let mut stream = Stream { chunks, buffer: BytesMut::new() };
    let version = stream.take(1, "version")?;
    if version.first() != Some(&VERSION) {
        return Err(Reader::new(&version).invalid("version"));
    }
    let clock_ms = Reader::new(&stream.take(8, "clock")?).u64("clock")?;
    let mut table = Table::default();
    while !stream.is_over() {
        let key = stream.value("key")?;
        let value = stream.value("value")?;
        let tail = stream.take(9, "deadline")?;
        let mut reader = Reader::new(&tail);
        let has_deadline = reader.u8("deadline flag")? != 0;
        let deadline = reader.u64("deadline")?;
        table.put(&key, &value, has_deadline.then_some(deadline));
    }
    Ok((table, clock_ms))
}

/// Bytes that come in pieces, of which no more are put together than one field needs.
struct Stream<'a> {
    chunks: &'a mut dyn Iterator<Item = Bytes>,
    buffer: BytesMut,
}

impl Stream<'_> {
    fn is_over(&mut self) -> bool {
        !self.fill(1)
    }

    fn value(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        let len = Reader::new(&self.take(4, field)?).u32(field)?;
        self.take(len as usize, field)
    }

    fn take(&mut self, len: usize, field: &'static str) -> Result<Bytes, DecodeError> {
        if self.fill(len) {
            return Ok(self.buffer.split_to(len).freeze());
        }
        Err(DecodeError { field, offset: self.buffer.len(), truncated: true })
    }

    /// Whether so many bytes are there, after drawing as many pieces as it takes.
    fn fill(&mut self, len: usize) -> bool {
        while self.buffer.len() < len {
            match self.chunks.next() {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return false,
            }
        }
        true
    }
}

fn put_cell(key: &[u8], cell: &Cell, out: &mut Vec<u8>) {
    out.put_u32(key.len() as u32);
    out.put_slice(key);
    out.put_u32(cell.value.len() as u32);
    out.put_slice(&cell.value);
    out.put_u8(u8::from(cell.deadline.is_some()));
    out.put_u64(cell.deadline.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_many_chunks_comes_back_and_a_cut_one_does_not() {
        let mut table = Table::default();
        for n in 0..3000u64 {
            table.put(&format!("key{n}").into(), &[n as u8; 300], (n % 3 == 0).then_some(n));
        }
        let chunks: Vec<Bytes> = draw(&table, 77).collect();
        assert!(chunks.len() > 2, "{} chunks", chunks.len());
        let (back, clock_ms) = read(&mut chunks.iter().cloned()).unwrap();
        assert_eq!(clock_ms, 77);
        assert_eq!(back.len(), table.len());
        assert!(back.picture().eq(table.picture()));
        assert_eq!(back.overdue(3000), table.overdue(3000));

        let whole: Vec<u8> = chunks.iter().flatten().copied().collect();
        for len in [1, 7, 4096, whole.len()] {
            let mut anew = whole.chunks(len).map(Bytes::copy_from_slice);
            let (back, _) = read(&mut anew).unwrap();
            assert!(back.picture().eq(table.picture()), "cut into pieces of {len} bytes");
        }
        let short = Bytes::copy_from_slice(&whole[..whole.len() - 1]);
        assert!(read(&mut std::iter::once(short)).is_err());
        assert!(read(&mut std::iter::empty()).is_err());
    }

    #[test]
    fn an_empty_state_is_one_chunk() {
        let chunks: Vec<Bytes> = draw(&Table::default(), 5).collect();
        assert_eq!(chunks.len(), 1);
        assert_eq!(read(&mut chunks.into_iter()).unwrap().1, 5);
    }
}
