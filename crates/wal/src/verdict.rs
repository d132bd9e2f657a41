//! The verdict: what the place where a batch should stand says about it.
//!
//! A pure function over what was seen, and nothing else; the six rows of the table in
//! `docs/formats/wal.md`, "The verdict".

use refloat_planted::{Defect, is};

/// What was seen where a batch should start, and behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Every sector is the batch's own and every checksum holds.
    pub(crate) verifies: bool,
    /// A later sector, a seal, a link or `closed` says that the batch was synced.
    pub(crate) proven: bool,
    /// The first block is as it was before this file was written, whole.
    pub(crate) first_block_before: bool,
    /// Some sector of the batch is there.
    pub(crate) fragment: bool,
    /// Some sector of the batch is as it was before this file was written.
    pub(crate) before: bool,
    /// Some sector of the batch is neither, or cannot be read.
    pub(crate) bad: bool,
}

/// What it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Accept.
    Good,
    /// Accept whole, and write again before anything rests on it.
    Unproven,
    /// Durable data is damaged: never cut, salvage record by record, go on behind it.
    Rotten,
    /// Never acknowledged: drop.
    Torn,
    /// Maybe acknowledged: what a directory copy names is in doubt, or everything.
    Suspect,
    /// Nothing was written here.
    End,
}

pub(crate) fn judge(seen: &Seen) -> Judgement {
    match (seen.verifies, seen.proven) {
        (false, true) if is(Defect::RottenCalledTorn) => Judgement::Torn,
        (true, true) => Judgement::Good,
        (true, false) => Judgement::Unproven,
        (false, true) => Judgement::Rotten,
        (false, false) if seen.first_block_before && !seen.fragment => Judgement::End,
        (false, false) if seen.before && !seen.bad => Judgement::Torn,
        // Bad sectors, or all of them there and the content wrong.
        (false, false) => Judgement::Suspect,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(facts: &str) -> Seen {
        let has = |fact| facts.split(' ').any(|f| f == fact);
        Seen {
            verifies: has("verifies"),
            proven: has("proven"),
            first_block_before: has("first-before"),
            fragment: has("fragment"),
            before: has("before"),
            bad: has("bad"),
        }
    }

    #[test]
    fn the_rows_of_the_table() {
        for (facts, judgement) in [
            ("verifies proven", Judgement::Good),
            ("verifies proven before bad", Judgement::Good),
            ("verifies", Judgement::Unproven),
            ("proven before", Judgement::Rotten),
            ("proven bad", Judgement::Rotten),
            ("proven fragment", Judgement::Rotten),
            ("proven first-before before", Judgement::Rotten),
            ("first-before before", Judgement::End),
            ("first-before before bad", Judgement::End),
            ("fragment before", Judgement::Torn),
            ("first-before fragment before", Judgement::Torn),
            ("fragment before bad", Judgement::Suspect),
            ("fragment bad", Judgement::Suspect),
            ("bad", Judgement::Suspect),
            ("bad before", Judgement::Suspect),
            ("fragment", Judgement::Suspect),
        ] {
            assert_eq!(judge(&seen(facts)), judgement, "{facts}");
        }
    }

    #[test]
    fn nothing_that_is_proven_is_ever_dropped_and_nothing_bad_is_called_torn() {
        for bits in 0..64u32 {
            let bit = |n: u32| bits >> n & 1 == 1;
            let seen = Seen {
                verifies: bit(0),
                proven: bit(1),
                first_block_before: bit(2),
                fragment: bit(3),
                before: bit(4),
                bad: bit(5),
            };
            let judgement = judge(&seen);
            if seen.proven {
                assert!(matches!(judgement, Judgement::Good | Judgement::Rotten), "{seen:?}");
            }
            if seen.bad && seen.fragment {
                assert!(judgement != Judgement::Torn && judgement != Judgement::End, "{seen:?}");
            }
        }
    }
}
