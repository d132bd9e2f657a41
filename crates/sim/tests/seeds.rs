//! Runs of the whole simulator.

use std::collections::BTreeMap;

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
    let faults = FaultRates::none();
    let settings = Settings { faults, lost_majorities: 0, removed_leaders: 0, ..short() };
    let report = Simulation::new(settings).run(1);
    assert!(report.violation.is_none(), "{report}");
    assert!(report.acknowledged > 100, "{report}");
    assert!(report.reads > 20, "{report}");
    assert_eq!(report.restarts, 3, "only after the power cut at the end: {report}");
}

#[test]
fn power_cuts_of_all_nodes_lose_nothing() {
    let faults = FaultRates { blackouts: 3.0, ..FaultRates::none() };
    let simulation = Simulation::new(Settings { faults, ..short() });
    let reports: Vec<_> = (1..=6).map(|seed| simulation.run(seed)).collect();
    for report in &reports {
        assert!(report.violation.is_none(), "{report}");
    }
    assert!(reports.iter().map(|r| r.restarts).sum::<u64>() >= 9 + 18, "the power did go");
    assert!(reports.iter().map(|r| r.acknowledged).sum::<u64>() > 100, "there was work");
}

/// Sums up what fired and what was checked over some seeds, none of which may fail.
fn counts(settings: &Settings, seeds: std::ops::Range<u64>) -> BTreeMap<&'static str, u64> {
    let simulation = Simulation::new(settings.clone());
    let mut sum = BTreeMap::new();
    for seed in seeds {
        let report = simulation.run(seed);
        assert!(report.violation.is_none(), "{report}");
        for (name, n) in report.faults.into_iter().chain(report.evaluated) {
            *sum.entry(name).or_default() += n;
        }
    }
    sum
}

#[test]
fn damage_to_synced_data_costs_no_acknowledged_write_and_is_never_called_proven() {
    let faults =
        FaultRates { rot: 4.0, unreadable: 1.0, kills: 1.0, power_cuts: 1.0, ..FaultRates::none() };
    // Entries rot once they are a second old.
    let sum = counts(&Settings { faults, fault_us: 3_000_000, ..Settings::default() }, 1..25);
    let rot: u64 = sum.iter().filter(|(name, _)| name.starts_with("rot: ")).map(|(_, n)| n).sum();
    let count = |name| sum.get(name).copied().unwrap_or_default();
    let (entries, sectors) = (count("rot: entries"), count("sectors made unreadable"));
    assert!(rot > 20 && entries > 0 && sectors > 5, "{sum:?}");
    assert!(count("no undetected damage") > 20, "{sum:?}");
}

/// Every machine refers to some of its commands, and every node gives them back in the end.
#[test]
fn n07_live_entries_are_read_back_from_every_node_in_the_end() {
    let faults = FaultRates { rot: 2.0, power_cuts: 1.0, snapshots: 4.0, ..FaultRates::none() };
    let sum = counts(&Settings { faults, ..short() }, 1..5);
    assert!(sum["live entries"] > 4 * 3, "{sum:?}");
}

#[test]
fn full_and_hanging_disks_stop_no_node_for_good() {
    let faults =
        FaultRates { full_disks: 2.0, hanging_disks: 1.0, kills: 0.5, ..FaultRates::none() };
    let sum = counts(&Settings { faults, ..short() }, 1..9);
    assert!(sum["disks filled"] > 3 && sum["disks that hang"] > 1, "{sum:?}");
}

/// Nothing but failing writes and syncs ends a process here.
#[test]
fn w15_what_was_acknowledged_when_a_write_failed_is_there_at_the_next_start() {
    let faults = FaultRates { disk_errors: 4.0, ..FaultRates::none() };
    let sum = counts(&Settings { faults, lost_majorities: 0, ..short() }, 1..9);
    assert!(sum["no false ack after a failed write"] > 8, "{sum:?}");
}

#[test]
fn w21_leaders_whose_disk_hangs_leave_the_lead_to_others_and_the_writes_go_on() {
    let faults = FaultRates { hanging_disks: 1.0, ..FaultRates::none() };
    let settings = Settings { faults, fault_us: 6_000_000, ..Settings::default() };
    let simulation = Simulation::new(settings);
    let (mut noticed, mut led) = (0, 0);
    for report in (1..=8).map(|seed| simulation.run(seed)) {
        assert!(report.violation.is_none(), "{report}");
        let reached = |name| report.reached.get(name).copied().unwrap_or_default();
        noticed += reached("hanging disks noticed");
        led += reached("leaders whose disk hung");
        assert!(report.acknowledged > 300, "{report}");
    }
    assert!(noticed > 5 && led > 3, "{noticed} noticed, {led} groups led");
}

#[test]
fn members_come_and_go_and_every_node_is_a_voter_again_in_the_end() {
    let faults = FaultRates { memberships: 6.0, transfers: 1.0, kills: 0.5, ..FaultRates::none() };
    let sum = counts(&Settings { faults, ..short() }, 1..13);
    let names =
        ["members removed", "members added", "voters made learners", "learners made voters"];
    assert!(names.iter().all(|name| sum[name] > 3), "{sum:?}");
}

#[test]
fn a_node_that_loses_its_disk_again_and_again_is_a_voter_in_the_end_and_costs_nothing() {
    let faults = FaultRates { wipes: 6.0, kills: 0.5, partitions: 0.5, ..FaultRates::none() };
    let sum = counts(&Settings { faults, ..short() }, 1..13);
    assert!(sum["disks replaced by empty ones"] > 5, "{sum:?}");
}

#[test]
fn m09_old_copies_and_swapped_directories_are_refused_and_cost_nothing() {
    let faults = FaultRates {
        old_copies: 4.0,
        swaps: 1.0,
        kills: 2.0,
        power_cuts: 1.0,
        ..FaultRates::none()
    };
    let sum = counts(&Settings { faults, ..short() }, 1..17);
    let count = |name| sum.get(name).copied().unwrap_or_default();
    let put_back = count("old copies of directories put back");
    assert!(put_back > 3 && count("old copies are refused") == put_back, "{sum:?}");
    assert!(count("directories swapped") > 3, "{sum:?}");
    assert!(count("foreign directories are left alone") > 6, "{sum:?}");
}

#[test]
fn bursts_of_requests_are_answered_one_by_one_and_bounded() {
    let faults = FaultRates { bursts: 3.0, kills: 0.5, ..FaultRates::none() };
    let sum = counts(&Settings { faults, ..short() }, 1..7);
    assert!(sum["bursts of requests"] > 5, "{sum:?}");
}

#[test]
fn m18_a_majority_lost_for_good_costs_nothing_that_the_one_left_has() {
    let faults = FaultRates { kills: 0.5, group_churn: 3.0, ..FaultRates::none() };
    let sum = counts(&Settings { faults, lost_majorities: 100, ..short() }, 1..9);
    let count = |name| sum.get(name).copied().unwrap_or_default();
    assert_eq!(count("majorities lost for good"), 8, "{sum:?}");
    assert!(count("groups created") > 5, "they come back everywhere too: {sum:?}");
    assert!(count("recoveries of one node cut off") > 0, "{sum:?}");
    assert!(count("who is left behind is superseded") > 0, "{sum:?}");
}

#[test]
fn m02_a_leader_that_is_removed_and_switched_off_at_once_is_not_waited_for() {
    let faults = FaultRates { transfers: 1.0, kills: 0.5, ..FaultRates::none() };
    let settings = Settings { faults, fault_us: 1_000_000, removed_leaders: 100, ..short() };
    let sum = counts(&settings, 1..13);
    assert_eq!(sum["removed leaders switched off"], 12, "{sum:?}");
}

#[test]
fn groups_come_and_go_also_under_ids_that_were_in_use() {
    let faults = FaultRates { group_churn: 8.0, blackouts: 0.5, kills: 1.0, ..FaultRates::none() };
    let sum = counts(&Settings { faults, ..short() }, 1..13);
    assert!(sum["groups created"] > 20 && sum["groups deleted"] > 20, "{sum:?}");
}

#[test]
fn the_clients_history_is_linearizable_and_would_not_be_if_reads_were_served_from_any_replica() {
    let faults = FaultRates { partitions: 3.0, kills: 0.5, late_frames: 50, ..FaultRates::none() };
    let simulation = Simulation::new(Settings { faults, ..short() });
    let mut explained = 0;
    let stale = |seed: u64| {
        let report = simulation.run(seed);
        assert!(report.violation.is_none(), "{report}");
        explained += report.history.check().expect("linearizable");
        let lines = report.history.to_json_lines();
        assert!(lines.lines().count() as u64 >= report.acknowledged, "{lines}");
        report.history.as_if_no_read_was_stale().check().is_err()
    };
    let caught = (1..=24).map(stale).filter(|stale| *stale).count();
    assert!(caught > 0, "{explained} operations explained, and no stale read among them");
    assert!(explained > 500, "{explained}");
}

#[test]
fn a_few_seeds_with_all_faults_hold() {
    let simulation = Simulation::new(short());
    for seed in 1..=8 {
        let report = simulation.run(seed);
        assert!(report.violation.is_none(), "{report}");
    }
}
