//! Sectors: 496 bytes of content and a tag that says whose they are.
//!
//! The tag is what makes torn and rotten two things: a sector that was never written still
//! carries its pre-image (zeros, or the tag of an older file), one that was written and hurt
//! carries neither.

use refloat_planted::{Defect, is};
use refloat_types::Identity;

use super::{PIECE, SECTOR};

/// Bytes of a tag: file `u64`, batch `u32`, check `u32`.
pub(crate) const TAG: usize = 16;

/// What every checksum of one file starts from: the directory's life and the file's number, so
/// that no byte of another life or of an earlier use of the file can verify.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Salt {
    pub(crate) file: u64,
    state: u32,
}

impl Salt {
    pub(crate) fn new(identity: &Identity, file: u64) -> Salt {
        let state = crc32c::crc32c(b"refloat-wal");
        let state = crc32c::crc32c_append(state, &identity.member.incarnation.0.to_le_bytes());
        if is(Defect::SaltReused) {
            return Salt { file: 1, state };
        }
        Salt { file, state: crc32c::crc32c_append(state, &file.to_le_bytes()) }
    }

    /// The salted checksum of some bytes.
    pub(crate) fn crc(&self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.state, bytes)
    }

    fn check(&self, batch: u32, sector: u32) -> u32 {
        let mut place = [0; 8];
        place[..4].copy_from_slice(&batch.to_le_bytes());
        place[4..].copy_from_slice(&sector.to_le_bytes());
        self.crc(&place)
    }

    /// Writes the tag of each sector of `blocks`, the first of which is number `sector` of the
    /// file.
    pub(crate) fn tag(&self, blocks: &mut [u8], batch: u32, sector: u32) {
        let mut head = [0; 12];
        head[..8].copy_from_slice(&self.file.to_le_bytes());
        head[8..].copy_from_slice(&batch.to_le_bytes());
        for (at, bytes) in (sector..).zip(blocks.chunks_exact_mut(SECTOR)) {
            bytes[PIECE..PIECE + 12].copy_from_slice(&head);
            bytes[PIECE + 12..].copy_from_slice(&self.check(batch, at).to_le_bytes());
        }
    }
}

/// What a sector shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sector {
    /// What was there before this file was written: zeros, or a sector of an older file.
    PreImage,
    /// A sector of this file, written with this batch.
    Own(u32),
    /// Neither.
    Bad,
}

/// Tells what sectors of one file show.
#[derive(Clone, Debug)]
pub(crate) struct Classifier {
    identity: Identity,
    salt: Salt,
    /// The salt of the older file seen last: pre-images come in long runs.
    older: Option<Salt>,
}

impl Classifier {
    pub(crate) fn new(identity: Identity, file: u64) -> Classifier {
        Classifier { identity, salt: Salt::new(&identity, file), older: None }
    }

    pub(crate) fn salt(&self) -> Salt {
        self.salt
    }

    /// Looks at sector number `sector` of the file. Anything but 512 bytes is bad.
    pub(crate) fn classify(&mut self, bytes: &[u8], sector: u32) -> Sector {
        let Some(tag) = bytes.get(PIECE..SECTOR) else { return Sector::Bad };
        let Some((file, batch, check)) = read_tag(tag) else { return Sector::Bad };
        if (file, batch, check) == (0, 0, 0) {
            return Sector::PreImage;
        }
        if file == self.salt.file {
            let expected = self.salt.check(batch, sector);
            return if is_cut_check(check, expected) {
                Sector::Own(batch)
            } else if check == 0 {
                Sector::PreImage
            } else {
                Sector::Bad
            };
        }
        if (batch, check) == (0, 0) && is_cut_file(file, self.salt.file) {
            return Sector::PreImage;
        }
        if file == 0 || file > self.salt.file {
            return Sector::Bad;
        }
        let older = match self.older {
            Some(salt) if salt.file == file => salt,
            _ => Salt::new(&self.identity, file),
        };
        self.older = Some(older);
        if older.check(batch, sector) == check { Sector::PreImage } else { Sector::Bad }
    }
}

fn read_tag(tag: &[u8]) -> Option<(u64, u32, u32)> {
    let file = u64::from_le_bytes(tag.get(..8)?.try_into().ok()?);
    let batch = u32::from_le_bytes(tag.get(8..12)?.try_into().ok()?);
    let check = u32::from_le_bytes(tag.get(12..16)?.try_into().ok()?);
    Some((file, batch, check))
}

// A write into zeros that was cut inside a sector leaves the start of a right tag and zeros from
// some byte on. Disks do not do this, copies into a page cache may. All the content stands
// before the tag, so a sector whose check alone is short is as good as whole; taking it for
// unwritten would let one flipped bit make a durable batch look torn.

/// Whether a check is the right one, or the start of it and zeros (but not zeros alone).
fn is_cut_check(found: u32, whole: u32) -> bool {
    let bytes = 4 - found.leading_zeros() / 8;
    let mask = u32::MAX.checked_shr(32 - 8 * bytes).unwrap_or(0);
    found == whole || (found != 0 && found == whole & mask)
}

/// Whether a file number is the start of the right one and zeros.
fn is_cut_file(found: u64, whole: u64) -> bool {
    let bytes = 8 - found.leading_zeros() / 8;
    let mask = u64::MAX.checked_shr(64 - 8 * bytes).unwrap_or(0);
    found == whole & mask
}

/// Copies content into blocks, around the tags. `at` counts content bytes from the first block.
pub(crate) fn stripe(blocks: &mut [u8], at: usize, mut content: &[u8]) {
    let (mut sector, mut within) = (at / PIECE, at % PIECE);
    while !content.is_empty() {
        let (now, later) = content.split_at(content.len().min(PIECE - within));
        let to = sector * SECTOR + within;
        blocks[to..to + now.len()].copy_from_slice(now);
        content = later;
        sector += 1;
        within = 0;
    }
}

/// Zeroes content from `at` up to `end`.
pub(crate) fn stripe_zeros(blocks: &mut [u8], at: usize, end: usize) {
    let mut at = at;
    while at < end {
        let len = (PIECE - at % PIECE).min(end - at);
        let to = at / PIECE * SECTOR + at % PIECE;
        blocks[to..to + len].fill(0);
        at += len;
    }
}

/// Appends `len` content bytes from `at` on, or `None` where the blocks end first.
pub(crate) fn unstripe(blocks: &[u8], at: usize, len: usize, out: &mut Vec<u8>) -> Option<()> {
    let end = at.checked_add(len)?;
    if end > blocks.len() / SECTOR * PIECE {
        return None;
    }
    out.reserve(len);
    let mut at = at;
    while at < end {
        let take = (PIECE - at % PIECE).min(end - at);
        let from = at / PIECE * SECTOR + at % PIECE;
        out.extend_from_slice(blocks.get(from..from + take)?);
        at += take;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use refloat_types::{ClusterId, Incarnation, Member, NodeId};

    fn identity() -> Identity {
        Identity { cluster: ClusterId(1), member: Member::new(NodeId(1), Incarnation(0x77)) }
    }

    #[test]
    fn a_tag_is_known_only_in_its_file_and_at_its_place() {
        let mut block = vec![0; 4096];
        Salt::new(&identity(), 7).tag(&mut block, 3, 16);
        let first = &block[..SECTOR];
        let see = |file, sector| Classifier::new(identity(), file).classify(first, sector);
        assert_eq!(see(7, 16), Sector::Own(3));
        assert_eq!(see(7, 17), Sector::Bad, "misdirected");
        assert_eq!(see(8, 16), Sector::PreImage, "an older file's");
        assert_eq!(see(8, 17), Sector::Bad);
        assert_eq!(see(6, 16), Sector::Bad, "a newer file's");
        let stranger = Identity { member: Member::new(NodeId(1), Incarnation(5)), ..identity() };
        assert_eq!(Classifier::new(stranger, 7).classify(first, 16), Sector::Bad);
        assert_eq!(Classifier::new(identity(), 7).classify(&[0; 512], 16), Sector::PreImage);
        assert_eq!(Classifier::new(identity(), 7).classify(&[1; 512], 16), Sector::Bad);
        assert_eq!(Classifier::new(identity(), 7).classify(&[0; 12], 16), Sector::Bad);
    }

    #[test]
    fn a_flipped_bit_of_a_tag_never_makes_it_a_pre_image() {
        let mut block = vec![9; 512];
        Salt::new(&identity(), 7).tag(&mut block, 3, 16);
        for bit in PIECE * 8..SECTOR * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            let seen = Classifier::new(identity(), 7).classify(&block, 16);
            assert!(matches!(seen, Sector::Bad | Sector::Own(3)), "bit {bit}: {seen:?}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_tag_cut_by_zeros_is_a_pre_image_at_every_byte() {
        for file in [7, 0x0102_0304] {
            let mut whole = vec![9; 512];
            Salt::new(&identity(), file).tag(&mut whole, 0x0203, 16);
            for keep in 0..SECTOR {
                let mut cut = whole.clone();
                cut[keep..].fill(0);
                if cut != whole {
                    let seen = Classifier::new(identity(), file).classify(&cut, 16);
                    let whole =
                        if keep > PIECE + 12 { Sector::Own(0x0203) } else { Sector::PreImage };
                    assert_eq!(seen, whole, "cut at {keep}");
                }
            }
        }
    }

    #[test]
    fn striping_and_its_inverse_agree() {
        let content: Vec<u8> = (0..3000u32).map(|n| (n * 7 + n / 256) as u8).collect();
        for at in [0, 1, 495, 496, 497, 2000] {
            let mut blocks = vec![0xee; 3 * 4096];
            stripe_zeros(&mut blocks, 0, 3 * 8 * PIECE);
            stripe(&mut blocks, at, &content);
            let mut back = Vec::new();
            unstripe(&blocks, at, content.len(), &mut back).unwrap();
            assert_eq!(back, content);
            assert!(blocks.chunks(SECTOR).all(|s| s[PIECE..] == [0xee; TAG]), "tags untouched");
            assert!(unstripe(&blocks, 3 * 8 * PIECE - 1, 2, &mut back).is_none());
            assert!(unstripe(&blocks, usize::MAX, 2, &mut back).is_none());
        }
    }
}
