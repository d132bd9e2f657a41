//! Waits between attempts, from a seed.

use std::time::Duration;

/// Doubling waits with jitter: each is drawn from the upper half of its step, so that nodes that
/// lost a peer at the same moment do not return to it at the same moment.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    step: Duration,
    state: u64,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration, seed: u64) -> Backoff {
        Backoff { min, max, step: min, state: seed }
    }

    pub(crate) fn reset(&mut self) {
        self.step = self.min;
    }

    pub(crate) fn next_wait(&mut self) -> Duration {
        let step = self.step.min(self.max);
        self.step = step.saturating_mul(2).min(self.max);
        let half = u64::try_from(step.as_micros() / 2).unwrap_or(u64::MAX / 2);
        Duration::from_micros(half + self.draw() % (half + 1))
    }

    /// splitmix64.
    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound_and_come_from_the_seed() {
        let ms = Duration::from_millis;
        let waits = |seed| {
            let mut backoff = Backoff::new(ms(20), ms(1000), seed);
            (0..12).map(|_| backoff.next_wait()).collect::<Vec<_>>()
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
        for (n, wait) in waits(3).into_iter().enumerate() {
            let step = ms(20 << n.min(6)).min(ms(1000));
            assert!(wait >= step / 2 && wait <= step, "wait {n}: {wait:?}");
        }
        let mut backoff = Backoff::new(ms(20), ms(1000), 1);
        (0..9).for_each(|_| _ = backoff.next_wait());
        backoff.reset();
        assert!(backoff.next_wait() <= ms(20));
    }
}
