//! The only source of chance: a small generator that is part of the state.

use refloat_types::{Now, Term};

use crate::Config;

/// SplitMix64.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Rng(u64);

impl Rng {
    /// Mixes the replica's name into the seed, so that members given one seed differ.
    pub(crate) fn new(config: &Config) -> Rng {
        let life = config.me.incarnation.0;
        let mut rng = Rng(config.seed);
        for word in [
            config.me.node.0,
            life as u64,
            (life >> 64) as u64,
            config.group.id.0,
            config.group.epoch.0,
        ] {
            rng.0 = rng.next() ^ word;
        }
        rng
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound` that belongs to a moment, 0 for a bound of 0. It leaves the
    /// generator as it is: what a core does depends on where it is, not on how it came there.
    pub(crate) fn below(&self, bound: u64, term: Term, now: Now) -> u64 {
        let mut moment = Rng(self.0 ^ term.0.rotate_left(32));
        moment.0 = moment.next() ^ now.0;
        moment.next().checked_rem(bound).unwrap_or(0)
    }
}
