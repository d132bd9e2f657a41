//! What happened, as one number, and as lines if wanted.

use std::fmt::Arguments;

/// Folds every event into a hash: equal runs have equal hashes.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) hash: u64,
    pub(crate) events: u64,
    pub(crate) lines: Option<Vec<String>>,
}

impl Trace {
    /// One event: when, what kind, at which node, with what.
    pub(crate) fn event(&mut self, now: u64, kind: u8, node: usize, what: u64) {
        self.events += 1;
        let head = mix(now ^ u64::from(kind) << 56 ^ (node as u64) << 48);
        self.hash = mix(self.hash ^ head ^ what.rotate_left(17));
    }

    /// A line for a person; costs nothing unless lines are kept.
    pub(crate) fn line(&mut self, now: u64, text: Arguments<'_>) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>10.3} ms  {text}", now as f64 / 1000.0));
        }
    }
}

/// The finaliser of SplitMix64.
pub(crate) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A hash of bytes, the same on every machine.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut hash = bytes.len() as u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    mix(hash)
}
