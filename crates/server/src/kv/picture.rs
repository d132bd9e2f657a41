//! The state of a group as the content of a snapshot.
//!
//! The first chunk starts with a version (1 byte) and the clock (8 bytes). Each chunk, the first
//! one included, then holds whole cells: key (4-byte length, bytes), value (the same), a flag and
//! 8 bytes of deadline.

use bytes::Bytes;
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

/// Builds the state from its chunks.
pub fn read(chunks: &mut dyn Iterator<Item = Bytes>) -> Result<(Table, u64), DecodeError> {
    let first = chunks.next().unwrap_or_default();
    let mut reader = Reader::new(&first);
    if reader.u8("version")? != VERSION {
        return Err(reader.invalid("version"));
    }
    let clock_ms = reader.u64("clock")?;
    let mut table = Table::default();
    read_cells(&mut reader, &mut table)?;
    for chunk in chunks {
        read_cells(&mut Reader::new(&chunk), &mut table)?;
    }
    Ok((table, clock_ms))
}

fn put_cell(key: &[u8], cell: &Cell, out: &mut Vec<u8>) {
    out.put_u32(key.len() as u32);
    out.put_slice(key);
    out.put_u32(cell.value.len() as u32);
    out.put_slice(&cell.value);
    out.put_u8(u8::from(cell.deadline.is_some()));
    out.put_u64(cell.deadline.unwrap_or_default());
}

fn read_cells(reader: &mut Reader<'_>, table: &mut Table) -> Result<(), DecodeError> {
    while reader.remaining() > 0 {
        let len = reader.count(1, "key length")?;
        let key = Bytes::copy_from_slice(reader.bytes(len, "key")?);
        let len = reader.count(1, "value length")?;
        let value = reader.bytes(len, "value")?;
        let has_deadline = reader.u8("deadline flag")? != 0;
        let deadline = reader.u64("deadline")?;
        table.put(&key, value, has_deadline.then_some(deadline));
    }
    Ok(())
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

        let short = chunks[0].slice(..chunks[0].len() - 1);
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
