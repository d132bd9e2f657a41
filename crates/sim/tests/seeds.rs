//! Runs of the whole simulator.

use refloat_sim::{FaultRates, Settings, Simulation};

fn short() -> Settings {
    Settings { fault_us: 2_000_000, ..Settings::default() }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let simulation = Simulation::new(short());
    let (one, two) = (simulation.run(11), simulation.run(11));
    assert_eq!(one, two);
    assert_ne!(one.trace_hash, simulation.run(12).trace_hash);
}

#[test]
fn a_calm_cluster_serves() {
    let settings = Settings { faults: FaultRates::none(), ..short() };
    let report = Simulation::new(settings).run(1);
    assert!(report.violation.is_none(), "{report}");
    assert!(report.acknowledged > 100, "{report}");
    assert!(report.reads > 20, "{report}");
    assert_eq!(report.restarts, 0, "{report}");
}

#[test]
fn power_cuts_of_all_nodes_lose_nothing() {
    let faults = FaultRates { blackouts: 3.0, ..FaultRates::none() };
    let simulation = Simulation::new(Settings { faults, ..short() });
    let reports: Vec<_> = (1..=6).map(|seed| simulation.run(seed)).collect();
    for report in &reports {
        assert!(report.violation.is_none(), "{report}");
    }
    assert!(reports.iter().map(|r| r.restarts).sum::<u64>() >= 9, "the power did go");
    assert!(reports.iter().map(|r| r.acknowledged).sum::<u64>() > 100, "there was work");
}

#[test]
fn a_few_seeds_with_all_faults_hold() {
    let simulation = Simulation::new(short());
    for seed in 1..=8 {
        let report = simulation.run(seed);
        assert!(report.violation.is_none(), "{report}");
    }
}
