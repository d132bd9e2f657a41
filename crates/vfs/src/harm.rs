//! What disks do to files that were durable, one harm after another: for damage tables.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use crate::aligned::BLOCK_LEN;
use crate::sim::SECTOR_LEN;

/// One way in which bytes at rest go bad.
///
/// ```
/// use refloat_vfs::{Harm, Tally};
///
/// let (good, older) = (vec![7; 9000], vec![6; 9000]);
/// let mut table = Tally::default();
/// for harm in Harm::all(good.len(), older.len()) {
///     let Some(bad) = harm.apply(&good, &older) else { continue };
///     table.add(harm.class(), if bad.len() == good.len() { "same length" } else { "shorter" });
/// }
/// assert_eq!(table.count("one byte flipped", "same length"), 9000);
/// assert!(table.to_string().starts_with("| fault | answer | files |"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Harm {
    /// Bits of one byte change.
    Flip {
        /// Which byte.
        at: usize,
        /// Which bits.
        mask: u8,
    },
    /// A range reads as zeros: a sector or a block that was lost.
    Zero {
        /// The first byte.
        at: usize,
        /// How many.
        len: usize,
    },
    /// Two blocks have changed places, as after misdirected writes.
    Swap {
        /// The number of one block.
        a: usize,
        /// The number of the other.
        b: usize,
    },
    /// A block has the bytes of some block of an older file, as after a lost write.
    Stale {
        /// The number of the block.
        block: usize,
        /// The number of the block in the older file.
        from: usize,
    },
    /// The file ends early.
    Cut {
        /// Its length.
        len: usize,
    },
}

impl Harm {
    /// Every byte flipped (one, eight or all of its bits, in turn), every sector and every block
    /// zeroed, every two blocks swapped, every block replaced by every block of an older file,
    /// every shorter length.
    pub fn all(len: usize, older_len: usize) -> impl Iterator<Item = Harm> {
        let blocks = len.div_ceil(BLOCK_LEN);
        let flip = |at| Harm::Flip { at, mask: [0x01, 0x80, 0xff][at % 3] };
        let zero = move |step: usize| {
            let at = (0..len).step_by(step);
            at.map(move |at| Harm::Zero { at, len: step.min(len - at) })
        };
        let swaps = (0..blocks).flat_map(|a| (0..a).map(move |b| Harm::Swap { a: b, b: a }));
        let stale = (0..blocks).flat_map(move |block| {
            (0..older_len.div_ceil(BLOCK_LEN)).map(move |from| Harm::Stale { block, from })
        });
        (0..len)
            .map(flip)
            .chain(zero(SECTOR_LEN))
            .chain(zero(BLOCK_LEN))
            .chain(swaps)
            .chain(stale)
            .chain((0..len).map(|len| Harm::Cut { len }))
    }

    /// The row of a table that it belongs to.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Harm::Flip { .. } => "one byte flipped",
            Harm::Zero { len, .. } if *len > SECTOR_LEN => "4 KiB block zeroed",
            Harm::Zero { .. } => "512 B sector zeroed",
            Harm::Swap { .. } => "two blocks swapped",
            Harm::Stale { .. } => "block of an older file",
            Harm::Cut { .. } => "file cut short",
        }
    }

    /// The harmed bytes; `None` if nothing changes by it.
    #[must_use]
    pub fn apply(&self, good: &[u8], older: &[u8]) -> Option<Vec<u8>> {
        let mut bad = good.to_vec();
        match *self {
            Harm::Flip { at, mask } => *bad.get_mut(at)? ^= mask,
            Harm::Zero { at, len } => bad.get_mut(at..at + len)?.fill(0),
            Harm::Swap { a, b } => {
                let (a, b) = (block(a, good), block(b, good));
                let len = a.len().min(b.len());
                bad[a.start..a.start + len].copy_from_slice(&good[b.start..b.start + len]);
                bad[b.start..b.start + len].copy_from_slice(&good[a.start..a.start + len]);
            }
            Harm::Stale { block: to, from } => {
                let (to, from) = (block(to, good), block(from, older));
                let len = to.len().min(from.len());
                bad[to.start..to.start + len].copy_from_slice(&older[from.start..from.start + len]);
            }
            Harm::Cut { len } => bad.truncate(len),
        }
        (bad != good).then_some(bad)
    }
}

fn block(number: usize, bytes: &[u8]) -> Range<usize> {
    let at = |number: usize| (number * BLOCK_LEN).min(bytes.len());
    at(number)..at(number + 1)
}

/// Counts answers by fault; its text is a Markdown table, in the order of first appearance.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    rows: Vec<(String, String)>,
    counts: BTreeMap<(String, String), u64>,
}

impl Tally {
    /// One more file with this fault got this answer.
    pub fn add(&mut self, fault: &str, answer: &str) {
        let key = (fault.to_owned(), answer.to_owned());
        if !self.counts.contains_key(&key) {
            let behind = self.rows.iter().rposition(|row| row.0 == fault);
            self.rows.insert(behind.map_or(self.rows.len(), |at| at + 1), key.clone());
        }
        *self.counts.entry(key).or_default() += 1;
    }

    /// How often.
    #[must_use]
    pub fn count(&self, fault: &str, answer: &str) -> u64 {
        self.counts.get(&(fault.to_owned(), answer.to_owned())).copied().unwrap_or(0)
    }

    /// The answers to a fault, and how often each was given.
    pub fn answers_to(&self, fault: &str) -> impl Iterator<Item = (&str, u64)> {
        let of = move |key: &&(String, String)| key.0 == fault;
        self.rows.iter().filter(of).map(|key| (key.1.as_str(), self.counts[key]))
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| fault | answer | files |\n|---|---|---|")?;
        let mut last = "";
        for key in &self.rows {
            let fault = if key.0 == last { "" } else { key.0.as_str() };
            writeln!(f, "| {fault} | {} | {} |", key.1, self.counts[key])?;
            last = &key.0;
        }
        Ok(())
    }
}
