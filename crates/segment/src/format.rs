//! Header and footer blocks, and where everything lies. Byte tables: `docs/formats/segment.md`.

use refloat_types::codec::{Put, Reader};
use refloat_types::{ClusterId, Generation, Identity};

use crate::SegmentName;

/// Header, footers and index copies start on multiples of this, and share no block.
pub(crate) const BLOCK_LEN: usize = 4096;
/// Where the first entry starts.
pub(crate) const DATA_START: u64 = BLOCK_LEN as u64;
/// The format that is written, and the newest that is read.
pub(crate) const VERSION: u32 = 1;
/// How many inputs a header has room for.
pub(crate) const MAX_INPUTS: usize = 256;
pub(crate) const HEADER_MAGIC: &[u8; 8] = b"RFLTSEG\0";
pub(crate) const FOOTER_MAGIC: &[u8; 8] = b"RFLTSEGF";

/// Bytes 0..16 of a block mean the same in every version: magic, version, checksum of the rest.
const BODY_START: usize = 16;

/// What header and footer both say: whose segment this is, and from what it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) identity: Identity,
    pub(crate) name: SegmentName,
    pub(crate) first_generation: Generation,
    pub(crate) inputs: Vec<SegmentName>,
}

/// What only the footer can say. Zero in the header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) data_len: u64,
    pub(crate) index_len: u64,
    pub(crate) entries: u64,
    pub(crate) groups: u32,
}

/// Why a block is no header or footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockFault {
    /// Not one, or damaged.
    Bad,
    /// Intact, and of a version that is not known here.
    Version(u32),
}

impl Head {
    /// What every checksum of entries and index starts from: bytes of another data directory,
    /// generation or rewrite never verify here.
    pub(crate) fn salt(&self) -> u32 {
        let mut bytes = Vec::with_capacity(52);
        self.put_names(&mut bytes);
        crc32c::crc32c(&bytes)
    }

    fn put_names(&self, out: &mut Vec<u8>) {
        out.put_u128(self.identity.cluster.0);
        out.put_member(self.identity.member);
        out.put_u64(self.name.generation.0);
        out.put_u32(self.name.revision);
    }

    pub(crate) fn encode(&self, magic: &[u8; 8], extent: Extent) -> Vec<u8> {
        let mut out = Vec::with_capacity(BLOCK_LEN);
        out.put_slice(magic);
        out.put_u32(VERSION);
        out.put_u32(0);
        self.put_names(&mut out);
        out.put_u64(self.first_generation.0);
        out.put_u64(extent.data_len);
        out.put_u64(extent.index_len);
        out.put_u64(extent.entries);
        out.put_u32(extent.groups);
        out.put_u32(u32::try_from(self.inputs.len()).expect("inputs are bounded by MAX_INPUTS"));
        for input in &self.inputs {
            out.put_u64(input.generation.0);
            out.put_u32(input.revision);
        }
        assert!(out.len() <= BLOCK_LEN, "a header is one block");
        out.resize(BLOCK_LEN, 0);
        let check = block_check(&out);
        out[12..BODY_START].copy_from_slice(&check.to_le_bytes());
        out
    }

    pub(crate) fn decode(block: &[u8], magic: &[u8; 8]) -> Result<(Head, Extent), BlockFault> {
        let mut r = Reader::new(block);
        let mut word = |len| r.bytes(len, "block start").map_err(|_| BlockFault::Bad);
        let (found_magic, version, check) = (word(8)?, word(4)?, word(4)?);
        if block.len() != BLOCK_LEN || found_magic != magic {
            return Err(BlockFault::Bad);
        }
        if check != block_check(block).to_le_bytes() {
            return Err(BlockFault::Bad);
        }
        if version != VERSION.to_le_bytes() {
            let mut number = [0; 4];
            number.copy_from_slice(version);
            return Err(BlockFault::Version(u32::from_le_bytes(number)));
        }
        decode_body(&mut r).ok_or(BlockFault::Bad)
    }
}

fn decode_body(r: &mut Reader<'_>) -> Option<(Head, Extent)> {
    let cluster = ClusterId(r.u128("cluster").ok()?);
    let member = r.member("member").ok()?;
    let generation = Generation(r.u64("generation").ok()?);
    let name = SegmentName::new(generation, r.u32("revision").ok()?);
    let first_generation = Generation(r.u64("first generation").ok()?);
    let extent = Extent {
        data_len: r.u64("data length").ok()?,
        index_len: r.u64("index length").ok()?,
        entries: r.u64("entries").ok()?,
        groups: r.u32("groups").ok()?,
    };
    let count = r.count(12, "inputs").ok()?;
    let mut inputs = Vec::with_capacity(count);
    for _ in 0..count {
        let generation = Generation(r.u64("input generation").ok()?);
        inputs.push(SegmentName::new(generation, r.u32("input revision").ok()?));
    }
    let identity = Identity { cluster, member };
    Some((Head { identity, name, first_generation, inputs }, extent))
}

/// Over everything but the checksum itself.
fn block_check(block: &[u8]) -> u32 {
    let start = crc32c::crc32c(block.get(..12).unwrap_or_default());
    crc32c::crc32c_append(start, block.get(BODY_START..).unwrap_or_default())
}

/// Where the parts behind the header lie. Everything follows from two lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) data_end: u64,
    /// Where the two copies of the index start.
    pub(crate) index: [u64; 2],
    /// Where the two copies of the footer start.
    pub(crate) footer: [u64; 2],
    pub(crate) file_len: u64,
}

impl Layout {
    /// `None` if the lengths are absurd.
    pub(crate) fn of(extent: Extent) -> Option<Layout> {
        let up = |at: u64| at.checked_next_multiple_of(BLOCK_LEN as u64);
        let data_end = DATA_START.checked_add(extent.data_len)?;
        let first = up(data_end)?;
        let second = up(first.checked_add(extent.index_len)?)?;
        let footer = up(second.checked_add(extent.index_len)?)?;
        let next = footer.checked_add(BLOCK_LEN as u64)?;
        let file_len = next.checked_add(BLOCK_LEN as u64)?;
        Some(Layout { data_end, index: [first, second], footer: [footer, next], file_len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(inputs: usize) -> Head {
        let name = SegmentName::new(Generation(9), 3);
        let inputs = (0..inputs as u64).map(|n| SegmentName::new(Generation(n), 1)).collect();
        Head { identity: Identity::default(), name, first_generation: Generation(4), inputs }
    }

    #[test]
    fn a_block_is_read_as_written_and_no_flipped_bit_passes() {
        let extent = Extent { data_len: 77, index_len: 5, entries: 3, groups: 2 };
        let block = head(MAX_INPUTS).encode(FOOTER_MAGIC, extent);
        assert_eq!(Head::decode(&block, FOOTER_MAGIC), Ok((head(MAX_INPUTS), extent)));
        assert_eq!(Head::decode(&block, HEADER_MAGIC), Err(BlockFault::Bad));
        for bit in 0..block.len() * 8 {
            let mut bad = block.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::decode(&bad, FOOTER_MAGIC), Err(BlockFault::Bad), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut block = head(0).encode(HEADER_MAGIC, Extent::default());
        block[8..12].copy_from_slice(&7u32.to_le_bytes());
        let check = block_check(&block);
        block[12..16].copy_from_slice(&check.to_le_bytes());
        assert_eq!(Head::decode(&block, HEADER_MAGIC), Err(BlockFault::Version(7)));
    }

    #[test]
    fn absurd_lengths_have_no_layout() {
        for (data_len, index_len) in [(u64::MAX, 0), (0, u64::MAX), (u64::MAX / 2, u64::MAX / 2)] {
            assert_eq!(Layout::of(Extent { data_len, index_len, ..Extent::default() }), None);
        }
    }
}
