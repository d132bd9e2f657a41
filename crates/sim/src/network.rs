//! Which frames arrive, and when.

use std::collections::{BTreeMap, BTreeSet};

use refloat_node::Lane;
use refloat_vfs::Rng;

/// What the network does to frames at present.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// Directions in which nothing passes.
    blocked: BTreeSet<(usize, usize)>,
    /// When the last frame of a lane arrives: later ones do not overtake it.
    last: BTreeMap<(usize, usize, Lane), u64>,
    /// Frames of a thousand.
    dropped: u64,
    doubled: u64,
    late: u64,
}

/// The fate of one frame: when its copies arrive.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) arrivals: Vec<u64>,
    pub(crate) name: Option<&'static str>,
}

impl Network {
    /// A whole network that loses, doubles and delays so many frames of a thousand.
    pub(crate) fn new(dropped: u64, doubled: u64, late: u64) -> Network {
        Network { dropped, doubled, late, ..Network::default() }
    }

    pub(crate) fn block(&mut self, from: usize, to: usize) {
        self.blocked.insert((from, to));
    }

    pub(crate) fn heal(&mut self) {
        self.blocked.clear();
    }

    pub(crate) fn passes(&self, from: usize, to: usize) -> bool {
        !self.blocked.contains(&(from, to))
    }

    /// Whether frames pass in both directions.
    pub(crate) fn connected(&self, a: usize, b: usize) -> bool {
        self.passes(a, b) && self.passes(b, a)
    }

    /// Nothing goes wrong from now on.
    pub(crate) fn calm(&mut self) {
        self.heal();
        (self.dropped, self.doubled, self.late) = (0, 0, 0);
    }

    /// Decides a frame. `free`: it may be doubled and overtake others.
    pub(crate) fn fate(
        &mut self,
        now: u64,
        link: (usize, usize, Lane),
        free: bool,
        rng: &mut Rng,
    ) -> Fate {
        if !self.passes(link.0, link.1) {
            return Fate { arrivals: Vec::new(), name: Some("frames into a partition") };
        }
        let delay = 50 + rng.below(400);
        if rng.below(1000) < self.dropped {
            return Fate { arrivals: Vec::new(), name: Some("frames lost") };
        }
        if rng.below(1000) < self.late {
            let late = now + delay + rng.below(300_000);
            if free {
                return Fate { arrivals: vec![late], name: Some("frames overtaken") };
            }
            return Fate { arrivals: vec![self.in_order(link, late)], name: Some("frames late") };
        }
        let first = self.in_order(link, now + delay);
        if free && rng.below(1000) < self.doubled {
            let second = first + rng.below(100_000);
            return Fate { arrivals: vec![first, second], name: Some("frames doubled") };
        }
        Fate { arrivals: vec![first], name: None }
    }

    fn in_order(&mut self, link: (usize, usize, Lane), at: u64) -> u64 {
        let last = self.last.entry(link).or_default();
        *last = at.max(*last + 1);
        *last
    }
}
