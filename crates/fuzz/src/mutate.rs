//! Changes of an input: few and small ones mostly, in places where formats keep numbers.

use crate::rng::Rng;

/// Numbers at which checks are wrong by one.
const EDGES: [u64; 12] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff_ffff,
    0x8000_0000,
    u32::MAX as u64,
    1 << 62,
    i64::MAX as u64,
    u64::MAX,
];

/// Changes an input, mostly in one place; `other` gives pieces.
pub(crate) fn mutate(bytes: &mut Vec<u8>, other: &[u8], max_len: usize, rng: &mut Rng) {
    let changes = if rng.one_in(3) { 1 + rng.below(6) } else { 1 };
    for _ in 0..changes {
        change(bytes, other, rng);
    }
    bytes.truncate(max_len);
}

fn change(bytes: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    if bytes.is_empty() {
        bytes.extend_from_slice(other);
        return;
    }
    // Formats say at the beginning what follows.
    let whole = bytes.len();
    let near = if rng.one_in(2) { whole.min(128) } else { whole };
    let at = rng.below(near);
    match rng.below(12) {
        0 | 1 => bytes[at] ^= 1 << rng.below(8),
        2 => bytes[at] = rng.next().to_le_bytes()[0],
        3..=5 => put(bytes, at, EDGES[rng.below(EDGES.len())], 1 << rng.below(4)),
        6 | 7 => step(bytes, at, rng),
        8 => bytes.truncate(at),
        9 => {
            let len = 1 + rng.below(32.min(whole - at));
            bytes.drain(at..(at + len).min(whole));
        }
        10 => {
            let (from, len) = (rng.below(whole), 1 + rng.below(64));
            let piece = bytes[from..(from + len).min(whole)].to_vec();
            bytes.splice(at..at, piece);
        }
        _ => {
            let (from, len) = (rng.below(other.len()), 1 + rng.below(256));
            let piece = &other[from..(from + len).min(other.len())];
            let end = (at + piece.len()).min(whole);
            bytes[at..end].copy_from_slice(&piece[..end - at]);
        }
    }
}

/// Writes the low bytes of a number.
fn put(bytes: &mut [u8], at: usize, number: u64, len: usize) {
    let end = (at + len).min(bytes.len());
    bytes[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
}

/// A number that stands there becomes a little more, a little less, or twice as much.
fn step(bytes: &mut [u8], at: usize, rng: &mut Rng) {
    let len = 1 << rng.below(4);
    let end = (at + len).min(bytes.len());
    let mut word = [0; 8];
    word[..end - at].copy_from_slice(&bytes[at..end]);
    let number = u64::from_le_bytes(word);
    let by = 1 + rng.below(16) as u64;
    let number = match rng.below(3) {
        0 => number.wrapping_add(by),
        1 => number.wrapping_sub(by),
        _ => number.wrapping_mul(2),
    };
    put(bytes, at, number, len);
}
