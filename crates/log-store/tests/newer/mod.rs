//! Files as a later version of the program would have written them: whole, with another number.

use std::path::Path;

const SECTOR: usize = 512;
const BLOCK: usize = 4096;

/// Makes a file of version n one of version n + 1, whole by its checksums.
pub type MakeNewer = fn(&mut [u8]);

/// Of which kind a file of a data directory is, and how it becomes one of a newer version.
pub fn kind(dir: &Path, path: &Path) -> Option<(&'static str, MakeNewer)> {
    let inside = path.strip_prefix(dir).ok()?;
    let in_use = path.extension().is_some_and(|e| e == "wal");
    match inside.iter().next()?.to_str()? {
        "wal" if in_use => Some(("log", log)),
        "votes" if in_use => Some(("votes", log)),
        "seg" => Some(("segment", segment)),
        "snap" => Some(("snapshot", snapshot)),
        "identity.a" | "identity.b" => Some(("identity", identity)),
        _ => None,
    }
}

fn put(bytes: &mut [u8], at: usize, number: &[u8]) {
    bytes[at..at + number.len()].copy_from_slice(number);
}

fn crc(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).to_le_bytes()
}

/// The header of a log file: eight copies, the checksum behind the content of the sector.
fn log(bytes: &mut [u8]) {
    const CRC_AT: usize = 492;
    for sector in bytes[..BLOCK].chunks_exact_mut(SECTOR) {
        assert_eq!(&sector[..8], b"REFLOATW");
        let sum = crc(&sector[..CRC_AT]);
        assert_eq!(sector[CRC_AT..CRC_AT + 4], sum, "the place of the checksum");
        put(sector, 8, &2u16.to_le_bytes());
        let sum = crc(&sector[..CRC_AT]);
        put(sector, CRC_AT, &sum);
    }
}

/// Header and both footers of a segment: the checksum stands before what it covers.
fn segment(bytes: &mut [u8]) {
    let len = bytes.len();
    for from in [0, len - 2 * BLOCK, len - BLOCK] {
        let block = &mut bytes[from..from + BLOCK];
        put(block, 8, &2u32.to_le_bytes());
        let mut covered = block.to_vec();
        covered.drain(12..16);
        let sum = crc(&covered);
        put(block, 12, &sum);
    }
}

fn snapshot(bytes: &mut [u8]) {
    put(bytes, 8, &2u16.to_le_bytes());
    let sum = crc(&bytes[..124]);
    put(bytes, 124, &sum);
}

fn identity(bytes: &mut [u8]) {
    bytes[8] += 1;
    let end = bytes.len() - 4;
    let sum = crc(&bytes[..end]);
    put(bytes, end, &sum);
}
