//! The only source of chance: a small generator that is part of the state.

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

    /// A number below `bound`, 0 for a bound of 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }
}
