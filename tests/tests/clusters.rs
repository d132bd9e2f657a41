//! Scenarios that need a whole cluster: production nodes on simulated disks, clock and network.

use refloat_sim::{FaultRates, Report, Settings, Simulation};

/// Runs some seeds with only these faults, so that one mechanism carries the whole test.
fn run(faults: FaultRates, seeds: std::ops::RangeInclusive<u64>) -> Vec<Report> {
    let settings = Settings { faults, fault_us: 2_000_000, ..Settings::default() };
    let simulation = Simulation::new(settings);
    let reports: Vec<Report> = seeds.map(|seed| simulation.run(seed)).collect();
    for report in &reports {
        assert!(report.violation.is_none(), "{report}");
    }
    reports
}

fn sum(reports: &[Report], of: impl Fn(&Report) -> u64) -> u64 {
    reports.iter().map(of).sum()
}

#[test]
fn w30_all_nodes_killed_at_once_start_again_and_then_the_power_goes() {
    // What each node reads back after the kill is in no disk yet: the cluster starts on it, makes
    // new promises on it, and the power cut that follows must not take it.
    let faults = FaultRates { massacres: 2.0, blackouts: 2.0, ..FaultRates::none() };
    let reports = run(faults, 1..=6);
    assert!(sum(&reports, |r| r.restarts) >= 18, "{}", reports[0]);
    assert!(sum(&reports, |r| r.acknowledged) > 100, "{}", reports[0]);
}

#[test]
fn s10_term_and_vote_survive_when_all_nodes_restart_at_once_without_a_snapshot() {
    let faults = FaultRates { blackouts: 4.0, ..FaultRates::none() };
    let settings =
        Settings { faults, fault_us: 2_000_000, snapshot_entries: u64::MAX, ..Settings::default() };
    let simulation = Simulation::new(settings);
    for seed in 1..=4 {
        let report = simulation.run(seed);
        assert!(report.violation.is_none(), "{report}");
        assert!(report.evaluated.keys().any(|name| name.contains("election")), "{report}");
    }
}

#[test]
fn w21_a_slow_disk_gives_no_false_acknowledgement() {
    let faults = FaultRates { slow_jobs: 6.0, power_cuts: 1.0, ..FaultRates::none() };
    let reports = run(faults, 1..=4);
    assert!(sum(&reports, |r| r.acknowledged) > 50, "{}", reports[0]);
}

#[test]
fn c12_frames_doubled_reordered_and_late_change_nothing() {
    let faults = FaultRates {
        dropped_frames: 50,
        doubled_frames: 100,
        late_frames: 100,
        ..FaultRates::none()
    };
    let reports = run(faults, 1..=4);
    assert!(sum(&reports, |r| r.acknowledged) > 50, "{}", reports[0]);
}
