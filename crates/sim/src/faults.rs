//! What goes wrong next.

use refloat_vfs::Rng;

use crate::FaultRates;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Kill,
    PowerCut,
    Blackout,
    Massacre,
    Partition,
    Pause,
    DiskError,
    SlowJobs,
    Transfer,
    Snapshot,
    Shutdown,
    Rot,
    Unreadable,
    FullDisk,
    HangingDisk,
    Membership,
    Churn,
    Wipe,
    OldCopy,
    Swap,
    Burst,
}

/// Whose synced data may go bad in a run. Whatever is committed stays whole somewhere, so that
/// the cluster owes it to its clients to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    Nobody,
    /// This node's, anywhere.
    One(usize),
    /// Everybody's, but each entry at one node only.
    Everybody,
}

/// The faults of one run: drawn once, then one after another.
#[derive(Debug)]
pub(crate) struct Plan {
    rates: Vec<(Kind, f64)>,
    pub(crate) damage: Damage,
    /// By how much clocks may go wrong, in millionths.
    pub(crate) drift_ppm: u64,
    pub(crate) dropped: u64,
    pub(crate) doubled: u64,
    pub(crate) late: u64,
}

impl Plan {
    /// Switches some kinds off.
    pub(crate) fn draw(rates: &FaultRates, nodes: usize, rng: &mut Rng) -> Plan {
        let all = [
            (Kind::Kill, rates.kills),
            (Kind::PowerCut, rates.power_cuts),
            (Kind::Blackout, rates.blackouts),
            (Kind::Massacre, rates.massacres),
            (Kind::Partition, rates.partitions),
            (Kind::Pause, rates.pauses),
            (Kind::DiskError, rates.disk_errors),
            (Kind::SlowJobs, rates.slow_jobs),
            (Kind::Transfer, rates.transfers),
            (Kind::Snapshot, rates.snapshots),
            (Kind::Shutdown, rates.shutdowns),
            (Kind::Rot, rates.rot),
            (Kind::Unreadable, rates.unreadable),
            (Kind::FullDisk, rates.full_disks),
            (Kind::HangingDisk, rates.hanging_disks),
            (Kind::Membership, rates.memberships),
            (Kind::Churn, rates.group_churn),
            (Kind::Wipe, rates.wipes),
            (Kind::OldCopy, rates.old_copies),
            (Kind::Swap, rates.swaps),
            (Kind::Burst, rates.bursts),
        ];
        let mut drawn: Vec<(Kind, f64)> =
            all.into_iter().filter(|(_, rate)| rng.chance(70) && *rate > 0.0).collect();
        let damage = match rng.below(3) {
            0 => Damage::Nobody,
            1 => Damage::One(rng.index(nodes)),
            _ => Damage::Everybody,
        };
        drawn.retain(|(kind, _)| match kind {
            Kind::Rot => damage != Damage::Nobody,
            Kind::Unreadable | Kind::Wipe => matches!(damage, Damage::One(_)),
            // A group of two in which one forgot its votes needs a person.
            Kind::Membership => !matches!(damage, Damage::One(_)),
            _ => true,
        });
        let mut share = |rate: u64| if rng.chance(60) { rate } else { 0 };
        Plan {
            damage,
            drift_ppm: share(rates.drift_ppm),
            dropped: share(rates.dropped_frames),
            doubled: share(rates.doubled_frames),
            late: share(rates.late_frames),
            rates: drawn,
        }
    }

    /// Whether this kind of fault is on.
    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.rates.iter().any(|(on, _)| *on == kind)
    }

    /// The next fault and how long until then; `None` if nothing ever happens.
    pub(crate) fn next(&self, rng: &mut Rng) -> Option<(u64, Kind)> {
        let total: f64 = self.rates.iter().map(|(_, rate)| rate).sum();
        if total <= 0.0 {
            return None;
        }
        let mean = 1e6 / total;
        // Between nothing and twice the mean: no logarithm, whose last bit machines may disagree on.
        let wait = rng.below((2.0 * mean) as u64 + 1);
        let mut at = rng.below(1_000_000) as f64 / 1e6 * total;
        for (kind, rate) in &self.rates {
            if at < *rate {
                return Some((wait, *kind));
            }
            at -= rate;
        }
        self.rates.last().map(|(kind, _)| (wait, *kind))
    }
}

/// The directions that a partition cuts, between nodes numbered from 0.
pub(crate) fn partition(nodes: usize, rng: &mut Rng) -> (&'static str, Vec<(usize, usize)>) {
    let pairs = || (0..nodes).flat_map(|a| (0..nodes).map(move |b| (a, b))).filter(|(a, b)| a != b);
    let one = rng.index(nodes);
    let other = (one + 1 + rng.index(nodes.saturating_sub(1).max(1))) % nodes;
    match rng.below(6) {
        0 => (
            "partitions: one node apart",
            pairs().filter(|(a, b)| (*a == one) != (*b == one)).collect(),
        ),
        1 => ("partitions: one node mute", pairs().filter(|(a, _)| *a == one).collect()),
        2 => ("partitions: one node deaf", pairs().filter(|(_, b)| *b == one).collect()),
        3 => ("partitions: one link down", vec![(one, other), (other, one)]),
        4 => ("partitions: one direction down", vec![(one, other)]),
        _ => ("partitions: all apart", pairs().collect()),
    }
}
