//! The disk states that a crash may leave, one after another.

use std::collections::BTreeSet;

use super::SimFs;
use super::content::SECTOR_LEN;
use super::crash::{Target, Undecided};
use super::disk::Disk;
use super::units::{Fate, InFlight};
use crate::rng::Rng;

/// Up to so many undecided units all their combinations are built.
pub const EXHAUSTIVE_UNITS: usize = 12;

/// Which images to build.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ImageOptions {
    /// At most so many; where every combination fits into it, kills and damaged sectors come
    /// on top.
    pub limit: usize,
    /// For the samples.
    pub seed: u64,
    /// Also what a process kill leaves: everything visible, everything still undecided.
    pub kills: bool,
    /// Also undecided sectors that read as zeros though they held something before.
    pub zeroed: bool,
    /// Also undecided sectors full of garbage.
    pub garbage: bool,
    /// Also undecided sectors torn in the middle.
    pub torn: bool,
}

impl ImageOptions {
    /// Kills and power cuts with zeroed sectors, without garbage and torn sectors.
    #[must_use]
    pub fn new(limit: usize) -> ImageOptions {
        ImageOptions { limit, seed: 1, kills: true, zeroed: true, garbage: false, torn: false }
    }
}

impl SimFs {
    /// The states that a crash here and now may leave, each once, with the default options.
    /// [`SimFs::story`] of an image says what it is. This `SimFs` is not touched.
    ///
    /// First comes what a kill leaves, then the power cuts: with up to [`EXHAUSTIVE_UNITS`]
    /// undecided units, and if they fit into the limit, every combination of lost, kept and what
    /// came between; else all lost, all kept, single and pair deviations from these, and seeded
    /// samples, a third of the limit each.
    pub fn crash_images(&self, limit: usize) -> impl Iterator<Item = SimFs> + use<> {
        self.crash_images_with(ImageOptions::new(limit))
    }

    /// The same with options.
    pub fn crash_images_with(&self, options: ImageOptions) -> impl Iterator<Item = SimFs> + use<> {
        let disk = self.disk.lock().clone();
        let units = disk.undecided();
        let limit = if is_small(&units, &options) { usize::MAX } else { options.limit };
        let plan = plan(&units, &options);
        let kills = if options.kills { kills(&disk) } else { Vec::new() };
        let mut seen = BTreeSet::new();
        let cuts = plan.map(move |fates| disk.cut(&units, &fates));
        kills
            .into_iter()
            .chain(cuts)
            .filter(move |image| seen.insert(image.hash()))
            .map(SimFs::from_disk)
            .take(limit)
    }
}

fn kills(disk: &Disk) -> Vec<Disk> {
    let mut kills = vec![disk.killed(InFlight::Done)];
    if disk.has_in_flight() {
        kills.push(disk.killed(InFlight::Lost));
    }
    let sectors = disk.sectors_in_flight();
    if sectors > 1 {
        kills.push(disk.killed(InFlight::Torn(sectors / 2)));
    }
    kills
}

type Plan = Box<dyn Iterator<Item = Vec<Fate>>>;

fn plan(units: &[Undecided], options: &ImageOptions) -> Plan {
    if is_small(units, options) {
        return Box::new(all(units).chain(damage(units, options)));
    }
    let mut rng = Rng::new(options.seed);
    let third = (options.limit / 3).max(1);
    let count = units.len();
    let uniform = [Fate::Lost, Fate::Kept].map(|fate| vec![fate; count]);
    let singles = singles(units, third, &mut rng);
    let pairs = pairs(count, third, &mut rng);
    let damage = damage(units, options).take(third);
    let units = units.to_vec();
    // Samples repeat each other where there are few states; somewhere it must end.
    let samples = (0..options.limit.saturating_mul(2)).map(move |_| sample(&units, &mut rng));
    Box::new(uniform.into_iter().chain(singles).chain(damage).chain(pairs).chain(samples))
}

/// Whether every combination is built.
fn is_small(units: &[Undecided], options: &ImageOptions) -> bool {
    units.len() <= EXHAUSTIVE_UNITS && combinations(units) <= options.limit
}

/// What may be combined freely: everything but zeroed sectors.
fn choices(undecided: &Undecided) -> usize {
    undecided.fates.iter().filter(|&&fate| fate != Fate::Zeroed).count()
}

fn combinations(units: &[Undecided]) -> usize {
    units.iter().map(choices).fold(1, usize::saturating_mul)
}

/// Every combination, counted like an odometer.
fn all(units: &[Undecided]) -> impl Iterator<Item = Vec<Fate>> + use<> {
    let fates: Vec<Vec<Fate>> =
        units.iter().map(|undecided| undecided.fates[..choices(undecided)].to_vec()).collect();
    (0..combinations(units)).map(move |mut number| {
        let pick = |fates: &Vec<Fate>| {
            let fate = fates[number % fates.len()];
            number /= fates.len();
            fate
        };
        fates.iter().map(pick).collect()
    })
}

/// Sectors that are neither old nor new: all at once, then one at a time with the rest kept.
fn damage(units: &[Undecided], options: &ImageOptions) -> impl Iterator<Item = Vec<Fate>> + use<> {
    let kinds = [
        options.zeroed.then_some(Fate::Zeroed),
        options.garbage.then_some(Fate::Garbage(options.seed)),
        options.torn.then_some(Fate::Torn(SECTOR_LEN / 2)),
    ];
    let count = units.len();
    let hit = |undecided: &Undecided, fate: Fate| match fate {
        Fate::Zeroed => undecided.fates.contains(&fate),
        _ => undecided.unit.is_sector(),
    };
    let hits = |fate| (0..count).filter(|&one| hit(&units[one], fate)).collect();
    let kinds: Vec<(Fate, Vec<usize>)> =
        kinds.into_iter().flatten().map(|fate| (fate, hits(fate))).collect();
    kinds.into_iter().flat_map(move |(fate, hits)| {
        let together = deviation(count, Fate::Kept, fate, &hits);
        let alone = hits.into_iter().map(move |one| deviation(count, Fate::Kept, fate, &[one]));
        std::iter::once(together).chain(alone)
    })
}

/// All units after one rule, but for some.
fn deviation(count: usize, rule: Fate, odd: Fate, exceptions: &[usize]) -> Vec<Fate> {
    let mut fates = vec![rule; count];
    for &one in exceptions {
        fates[one] = odd;
    }
    fates
}

/// All kept but one, all lost but one; a random choice of them if there are too many.
fn singles(
    units: &[Undecided],
    limit: usize,
    rng: &mut Rng,
) -> impl Iterator<Item = Vec<Fate>> + use<> {
    let mut deviations = Vec::new();
    for (index, undecided) in units.iter().enumerate() {
        for &fate in &undecided.fates[..choices(undecided)] {
            for rule in [Fate::Kept, Fate::Lost] {
                if fate != rule {
                    deviations.push((rule, index, fate));
                }
            }
        }
    }
    choose(&mut deviations, limit, rng);
    let count = units.len();
    deviations.into_iter().map(move |(rule, index, fate)| deviation(count, rule, fate, &[index]))
}

/// All kept but two, all lost but two. Where there are too many pairs some are drawn, without a
/// list of them all.
fn pairs(count: usize, limit: usize, rng: &mut Rng) -> impl Iterator<Item = Vec<Fate>> + use<> {
    let total = count * count.saturating_sub(1) / 2;
    let pairs: Vec<[usize; 2]> = if total.saturating_mul(2) <= limit {
        (0..count).flat_map(|b| (0..b).map(move |a| [a, b])).collect()
    } else {
        let draw = |_| {
            let b = 1 + rng.index(count - 1);
            [rng.index(b), b]
        };
        (0..limit / 2).map(draw).collect()
    };
    pairs.into_iter().flat_map(move |pair| {
        [(Fate::Kept, Fate::Lost), (Fate::Lost, Fate::Kept)]
            .map(|(rule, odd)| deviation(count, rule, odd, &pair))
    })
}

/// A random choice that keeps the order.
fn choose<T>(items: &mut Vec<T>, mut wanted: usize, rng: &mut Rng) {
    let mut left = items.len();
    items.retain(|_| {
        let take = rng.index(left) < wanted;
        left -= 1;
        wanted -= usize::from(take);
        take
    });
}

/// One state in the manner of a disk: sectors by chance, whole blocks by chance, a prefix of the
/// writes, or file by file.
pub(super) fn sample(units: &[Undecided], rng: &mut Rng) -> Vec<Fate> {
    let kept_percent = [10, 50, 90][rng.index(3)];
    let salt = rng.next_u64();
    let cut = rng.index(units.len() + 1);
    let manner = rng.below(4);
    let draw = |(index, undecided): (usize, &Undecided)| {
        let mut shared = Rng::new(salt ^ group(undecided, manner));
        let kept = match manner {
            0 => rng.chance(kept_percent),
            1 => index < cut,
            _ => shared.chance(kept_percent),
        };
        if manner == 0 && rng.chance(10) {
            return undecided.fates[rng.index(undecided.fates.len())];
        }
        if kept { Fate::Kept } else { Fate::Lost }
    };
    units.iter().enumerate().map(draw).collect()
}

/// What shares a fate: a block of 4096 bytes, or a file.
fn group(undecided: &Undecided, manner: u64) -> u64 {
    match undecided.target {
        Target::Sector(ino, sector) if manner == 2 => (ino << 32) ^ (sector / 8),
        Target::Sector(ino, _) | Target::Length(ino) => (ino << 32) ^ 0xffff_ffff,
        Target::Name(index) => !(index as u64),
    }
}
