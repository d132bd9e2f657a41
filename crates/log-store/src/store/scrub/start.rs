//! Where the first walk of a run begins.
//!
//! A walk over a large directory takes longer than a node that is often restarted runs. So each
//! run begins elsewhere: the number of the run says where, by steps of the golden ratio, and
//! nothing has to be written down. Of any n such places in a row no two neighbours are further
//! apart than 2/n of the whole. So where each run reads a part p of the bytes before it ends, all
//! of them are read within 2/p runs: in twice the time that one walk takes.

/// A part of a whole, in units of 2^-32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Share(u32);

impl Share {
    pub(super) const NONE: Share = Share(0);

    /// So much of something that is so long.
    pub(super) fn of(self, whole: u64) -> u64 {
        ((u128::from(whole) * u128::from(self.0)) >> 32) as u64
    }
}

/// The file with which a run begins, of files of these lengths, and how much of it is left for the
/// end of the walk.
pub(super) fn of_walk(run: u64, lengths: &[u64]) -> (usize, Share) {
    let total: u128 = lengths.iter().map(|len| u128::from(*len)).sum();
    let mut at = (total * u128::from(step(run) >> 32)) >> 32;
    for (file, len) in lengths.iter().map(|len| u128::from(*len)).enumerate() {
        if at < len {
            return (file, Share(((at << 32) / len) as u32));
        }
        at -= len;
    }
    (0, Share::NONE)
}

/// The fractional part of so many golden ratios, in units of 2^-64.
fn step(run: u64) -> u64 {
    run.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_any_n_runs_in_a_row_no_two_begin_further_apart_than_two_nth() {
        for first in [0, 1, 77, 10_946, u64::MAX - 300] {
            let mut places: Vec<u64> = Vec::new();
            for n in 1..600 {
                places.push(step(first.wrapping_add(n)));
                places.sort_unstable();
                let around = places[0].wrapping_sub(*places.last().expect("one at least"));
                let gaps = places.windows(2).map(|pair| pair[1] - pair[0]);
                let widest = gaps.chain((n > 1).then_some(around)).max().unwrap_or(0);
                assert!(u128::from(widest) * u128::from(n) < 2 << 64, "{n} runs from {first}");
            }
        }
    }

    #[test]
    fn a_place_is_a_file_and_how_much_of_it_stands_before() {
        // One golden ratio of 1000 bytes: the 618th.
        let (file, before) = of_walk(1, &[500, 0, 500]);
        assert_eq!((file, before.of(500)), (2, 117));
        assert_eq!(of_walk(1, &[1000]).1.of(1000), 617);
        assert_eq!(of_walk(0, &[500, 500]), (0, Share::NONE));
        assert_eq!(of_walk(1, &[]), (0, Share::NONE));
        assert_eq!(of_walk(1, &[0, 0]), (0, Share::NONE));
        assert_eq!(of_walk(1, &[u64::MAX, u64::MAX]).0, 1);
    }
}
