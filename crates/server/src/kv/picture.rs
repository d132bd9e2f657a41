//! The state of a group as the content of a snapshot.
//!
//! A version (1 byte), the clock (8 bytes), then cells to the end: key (4-byte length, bytes),
//! value (the same), a flag and 8 bytes of deadline. The bytes are drawn in pieces, which the
//! snapshot may cut anew.

use bytes::Bytes;
use refloat_node::{RestoreError, SnapshotReader};
use refloat_types::codec::Put;

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

/// Builds the state from its bytes.
pub fn read(snapshot: &mut SnapshotReader<'_>) -> Result<(Table, u64), RestoreError> {
    let [version] = snapshot.array()?;
    if version != VERSION {
        return Err(RestoreError::new(format!("snapshot version {version}, known is {VERSION}")));
    }
    let clock_ms = u64::from_le_bytes(snapshot.array()?);
    let mut table = Table::default();
    while !snapshot.is_over() {
        let (key, value) = (value(snapshot)?, value(snapshot)?);
        let [has_deadline] = snapshot.array()?;
        let deadline = u64::from_le_bytes(snapshot.array()?);
        table.put(&key, &value, (has_deadline != 0).then_some(deadline));
    }
    Ok((table, clock_ms))
}

fn value(snapshot: &mut SnapshotReader<'_>) -> Result<Bytes, RestoreError> {
    let len = u32::from_le_bytes(snapshot.array()?);
    snapshot.next_bytes(len as usize)
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
        let (back, clock_ms) = read(&mut SnapshotReader::new(&mut chunks.iter().cloned())).unwrap();
        assert_eq!(clock_ms, 77);
        assert_eq!(back.len(), table.len());
        assert!(back.picture().eq(table.picture()));
        assert_eq!(back.overdue(3000), table.overdue(3000));

        let whole: Vec<u8> = chunks.iter().flatten().copied().collect();
        for len in [1, 7, 4096, whole.len()] {
            let mut anew = whole.chunks(len).map(Bytes::copy_from_slice);
            let (back, _) = read(&mut SnapshotReader::new(&mut anew)).unwrap();
            assert!(back.picture().eq(table.picture()), "cut into pieces of {len} bytes");
        }
        let short = Bytes::copy_from_slice(&whole[..whole.len() - 1]);
        assert!(read(&mut SnapshotReader::new(&mut std::iter::once(short))).is_err());
        assert!(read(&mut SnapshotReader::new(&mut std::iter::empty())).is_err());
    }

    #[test]
    fn an_empty_state_is_one_chunk() {
        let chunks: Vec<Bytes> = draw(&Table::default(), 5).collect();
        assert_eq!(chunks.len(), 1);
        assert_eq!(read(&mut SnapshotReader::new(&mut chunks.into_iter())).unwrap().1, 5);
    }
}
