//! Every behaviour of three real cores within small bounds: crashes that lose what is not
//! durable, late writes, one wiped member that returns as a new life, one damaged entry, messages
//! in any order, twice, or never. Time stands still where nothing depends on it; campaigns come from
//! the checker.
//!
//! The ordinary tests are the bounded slice. `cargo xtask model` prints it as a table, and with
//! `--deep` each check goes three steps further, or as far as its share of the time allows.

mod action;
mod begin;
mod budget;
mod clocks;
#[path = "../common/mod.rs"]
mod common;
mod cores;
mod properties;
mod rules;
mod steps;
mod world;

use std::time::{Duration, Instant};

use action::show;
use begin::{Begin, Logs};
use budget::Budget;
use clocks::Voting;
use cores::Cores;
use properties::*;
use stateright::{Checker, HasDiscoveries, Model};

/// Checks all behaviours up to `depth`, which counts the beginning and what is reached but not
/// looked at any more: of two steps less. `seen` are the properties of which an example must be met.
#[allow(clippy::disallowed_methods, reason = "says how long a check took")]
fn check(name: &str, model: Cores, depth: usize, seen: &[&str]) {
    let deep = std::env::var("REFLOAT_MODEL_DEEP").ok();
    let deep = deep.map(|seconds| seconds.parse().expect("seconds for each check"));
    let (depth, threads, patience) = match deep {
        Some(seconds) => (depth + 3, 2, seconds),
        None => (depth, 1, 300),
    };
    let start = Instant::now();
    let checker = model.checker().threads(threads).target_max_depth(depth);
    let checker = checker.timeout(Duration::from_secs(patience));
    let checker = checker.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "model: {name}: {} steps, {} states, {seconds:.1} s{}",
        checker.max_depth().min(depth - 1) - 1,
        checker.unique_state_count(),
        if seconds >= patience as f64 { ", not all" } else { "" },
    );
    let mut examples: Vec<&str> = Vec::new();
    for (property, path) in checker.discoveries() {
        if [SAFE, MATCH].contains(&property) {
            let broken = path.last_state().broken;
            let actions: Vec<String> = path.into_actions().iter().map(show).collect();
            panic!("{property}: {broken:?}\n{}", actions.join("\n"));
        }
        examples.push(property);
    }
    for property in seen {
        assert!(examples.contains(property), "no example of: {property}");
    }
}

fn cores(begin: Begin, budget: Budget) -> Cores {
    Cores { budget, begin, numbered: false, one_by_one: false, voting: Voting::Plain }
}

fn numbered(begin: Begin, budget: Budget) -> Cores {
    Cores { numbered: true, ..cores(begin, budget) }
}

#[test]
fn c06_model_elections_with_crashes() {
    let budget = Budget { campaigns: 2, crashes: 1, ..Budget::default() };
    check("elections with a crash", cores(Begin::Fresh, budget), 9, &[]);
}

#[test]
fn c02_model_commits_with_crashes() {
    let budget = Budget { campaigns: 1, proposals: 2, crashes: 1, ..Budget::default() };
    check("commits with a crash", cores(Begin::Settled, budget), 9, &[COMMITTED]);
}

#[test]
fn c02_model_figure_8() {
    let budget = Budget { campaigns: 2, ..Budget::default() };
    let begin = Begin::Logs([(&[1, 2], 3), (&[1], 3), (&[1, 3], 3)]);
    let model = Cores { one_by_one: true, ..cores(begin, budget) };
    check("from figure 8 (c)", model, 14, &[COMMITTED]);
}

#[test]
fn c04_model_late_writes() {
    let budget = Budget { campaigns: 1, proposals: 1, crashes: 1, lags: 1, ..Budget::default() };
    check("late writes with a crash", cores(Begin::Settled, budget), 10, &[COMMITTED]);
}

#[test]
fn c12_model_messages_that_arrive_twice() {
    let budget = Budget { campaigns: 1, proposals: 1, repeats: 2, ..Budget::default() };
    check("messages that arrive twice", cores(Begin::Settled, budget), 9, &[COMMITTED]);
}

#[test]
fn m02_model_a_leader_that_leaves() {
    let budget = Budget { removals: 1, ..Budget::default() };
    let model = Cores { one_by_one: true, ..cores(Begin::Settled, budget) };
    check("a leader that leaves", model, 14, &[LEFT]);
}

#[test]
fn m06_model_a_wiped_member_returns_as_a_new_life() {
    let budget = Budget { campaigns: 2, wipes: 1, ..Budget::default() };
    check("a wiped member", numbered(Begin::Settled, budget), 10, &[REPLACED]);
}

#[test]
fn m17_model_a_replica_that_forgot_its_votes_begins_a_new_life() {
    let budget = Budget { campaigns: 2, forgets: 1, ..Budget::default() };
    check("a forgotten vote", numbered(Begin::Settled, budget), 9, &[REPLACED]);
}

#[test]
fn m19_model_a_damaged_member() {
    let budget = Budget { campaigns: 1, damages: 1, ..Budget::default() };
    check("a damaged member", numbered(Begin::Proposed, budget), 9, &[HEALED]);
}

/// Two of three lack the last entry of the third, whose disk loses it. Or another one.
#[test]
fn m21_model_a_leader_with_a_hole() {
    let budget = Budget { campaigns: 1, damages: 1, ..Budget::default() };
    let begin = Begin::Logs([(&[1, 1], 1), (&[1], 1), (&[1], 1)]);
    check("a leader with a hole", cores(begin, budget), 12, &[CUT]);
}

/// The third's log ended with entries of a term that nobody committed; the leader's first entry
/// there is older, so that the old end, should it come back, looks newer than it.
const NEWER_END: Logs = [(&[1, 2], 4), (&[1], 4), (&[1, 3, 3], 4)];
/// The overwritten end is older than what took its place.
const OLDER_END: Logs = [(&[1, 3], 4), (&[1], 4), (&[1, 2, 2], 4)];

fn overwritten(begin: Begin, budget: Budget) -> Cores {
    Cores { one_by_one: true, ..numbered(begin, budget) }
}

/// Each end once where the store knows that something is missing, and once where it does not.
#[test]
fn w11_model_a_newer_end_that_comes_back() {
    let budget = Budget { campaigns: 1, beats: 1, old_ends: 1, ..Budget::default() };
    check(
        "a newer end comes back",
        overwritten(Begin::Overwritten(NEWER_END), budget),
        9,
        &[WHOLE],
    );
}

#[test]
fn w11_model_an_older_end_that_comes_back() {
    let budget = Budget { campaigns: 1, beats: 1, old_ends: 1, ..Budget::default() };
    check("an older end comes back", overwritten(Begin::Replaced(OLDER_END), budget), 9, &[]);
}

#[test]
fn c16_model_a_newer_end_that_nobody_misses() {
    let budget = Budget { campaigns: 1, beats: 1, unnoticed: 1, ..Budget::default() };
    check("a newer end, unnoticed", overwritten(Begin::Overwritten(NEWER_END), budget), 9, &[]);
}

#[test]
fn c16_model_an_older_end_that_nobody_misses() {
    let budget = Budget { campaigns: 1, beats: 1, unnoticed: 1, ..Budget::default() };
    check("an older end, unnoticed", overwritten(Begin::Replaced(OLDER_END), budget), 9, &[TOLD]);
}

/// The third has an end that was never committed, where the snapshot has another entry.
const CONTRADICTS: Logs = [(&[1], 2), (&[1], 2), (&[1, 2, 2, 2], 2)];
/// The third has what the snapshot ends with, and more.
const LAGS: Logs = [(&[1], 2), (&[1], 2), (&[1], 2)];

fn compacted(logs: Logs, budget: Budget) -> Cores {
    numbered(Begin::Compacted(logs), budget)
}

#[test]
fn n11_model_a_snapshot_with_a_crash() {
    let budget = Budget { campaigns: 1, crashes: 1, lags: 1, beats: 1, ..Budget::default() };
    check("a snapshot with a crash", compacted(CONTRADICTS, budget), 8, &[INSTALLED]);
}

#[test]
fn n01_model_snapshots_of_several() {
    let budget =
        Budget { campaigns: 1, proposals: 1, compactions: 2, beats: 1, ..Budget::default() };
    check("snapshots of several", compacted(LAGS, budget), 9, &[INSTALLED]);
}

#[test]
fn n02_model_a_snapshot_for_a_damaged_member() {
    let budget = Budget { campaigns: 1, damages: 1, crashes: 1, ..Budget::default() };
    check("a snapshot cures a hole", compacted(LAGS, budget), 9, &[CURED]);
}

/// The third hears from another leader, whose log is whole, while the first's snapshot is on its
/// way.
#[test]
fn n11_model_an_old_snapshot() {
    let budget = Budget { campaigns: 1, ..Budget::default() };
    check("an old snapshot", compacted(LAGS, budget), 10, &[OUTRUN]);
}

#[test]
fn n06_model_acks_below_what_is_compacted() {
    let budget = Budget { proposals: 1, compactions: 1, beats: 1, ..Budget::default() };
    let model = Cores { one_by_one: true, ..cores(Begin::Proposed, budget) };
    check("acks below a snapshot", model, 9, &[BELOW]);
}

#[test]
fn n06_model_a_snapshot_of_a_leader_not_heard_yet() {
    let budget = Budget { crashes: 1, lags: 1, beats: 1, ..Budget::default() };
    check("a snapshot from elsewhere", cores(Begin::Elsewhere, budget), 6, &[FOREIGN]);
}

#[test]
fn n11_model_a_snapshot_over_a_hole() {
    let budget = Budget { campaigns: 1, damages: 1, ..Budget::default() };
    check("a snapshot over a hole", compacted(CONTRADICTS, budget), 8, &[CURED]);
}

#[test]
fn w21_model_a_disk_that_hangs() {
    let budget = Budget { campaigns: 1, proposals: 1, hangs: 1, crashes: 1, ..Budget::default() };
    check("a disk that hangs", cores(Begin::Settled, budget), 9, &[HANDED]);
}

#[test]
fn w21_model_votes_beside_a_disk_that_hangs() {
    let budget = Budget { campaigns: 2, hangs: 1, ..Budget::default() };
    check("votes and a hanging disk", cores(Begin::Settled, budget), 9, &[]);
}

fn pre_voting(begin: Begin, budget: Budget) -> Cores {
    Cores { voting: Voting::PreVote, one_by_one: true, ..cores(begin, budget) }
}

#[test]
fn c07_model_pre_votes_with_a_crash() {
    let budget = Budget { campaigns: 2, crashes: 1, ..Budget::default() };
    let begin = Begin::Logs([(&[1], 1), (&[1], 1), (&[1, 1], 2)]);
    check("pre-votes with a crash", pre_voting(begin, budget), 9, &[]);
}

#[test]
fn c07_model_pre_votes_and_a_leader_that_is_heard() {
    let budget = Budget { campaigns: 2, passes: 2, ..Budget::default() };
    check("pre-votes against a leader", pre_voting(Begin::Settled, budget), 10, &[PRE_VOTED]);
}

fn leased(begin: Begin, budget: Budget) -> Cores {
    Cores { voting: Voting::Leases, one_by_one: true, ..cores(begin, budget) }
}

#[test]
fn r02_model_lease_reads_on_clocks_that_drift() {
    let budget = Budget { campaigns: 1, passes: 2, reads: 1, ..Budget::default() };
    check("leases and clocks", leased(Begin::Beaten, budget), 12, &[LEASED, READ]);
}

#[test]
fn r02_model_lease_reads_across_a_transfer() {
    let budget = Budget { transfers: 1, reads: 1, ..Budget::default() };
    check("leases and a transfer", leased(Begin::Beaten, budget), 11, &[LEASED, READ]);
}

#[test]
fn c13_model_a_leader_whose_clock_goes_back_reads_nothing_from_a_lease() {
    let budget = Budget { campaigns: 1, passes: 1, reads: 1, falls: 1, ..Budget::default() };
    check("a clock that goes back", leased(Begin::Leased, budget), 10, &[LEASED, READ]);
}

/// That the checks above can see a stale read: a voter's clock that runs ahead takes its promise
/// back, and nobody can know.
#[test]
fn r02_model_a_voters_clock_that_runs_ahead_lets_a_read_be_stale() {
    let budget = Budget { campaigns: 1, reads: 1, jumps: 2, ..Budget::default() };
    check("a clock that runs ahead", leased(Begin::Leased, budget), 10, &[STALE]);
}

#[test]
fn r01_model_reads_by_a_round() {
    let budget = Budget { campaigns: 1, reads: 1, ..Budget::default() };
    check("reads by a round", cores(Begin::Settled, budget), 10, &[READ]);
}

fn with_a_learner(begin: Begin, budget: Budget) -> Cores {
    Cores { one_by_one: true, ..cores(begin, budget) }
}

#[test]
fn m01_model_a_learner_takes_a_voters_place() {
    let budget = Budget { campaigns: 1, swaps: 1, ..Budget::default() };
    check("a learner takes a place", with_a_learner(Begin::Learner, budget), 8, &[JOINT]);
}

#[test]
fn m01_model_a_joint_membership() {
    let budget = Budget { campaigns: 1, ..Budget::default() };
    check("a joint membership", with_a_learner(Begin::Joint, budget), 11, &[SWAPPED]);
}

#[test]
fn m05_model_a_learner_is_promoted_and_a_voter_goes() {
    let budget = Budget { campaigns: 1, promotions: 1, drops: 1, ..Budget::default() };
    let model = with_a_learner(Begin::Learner, budget);
    check("a promotion and a removal", model, 9, &[]);
}

#[test]
fn c12_model_everything_at_once() {
    let budget = Budget {
        campaigns: 3,
        proposals: 2,
        crashes: 2,
        lags: 1,
        repeats: 1,
        wipes: 1,
        forgets: 1,
        damages: 1,
        beats: 1,
        compactions: 1,
        hangs: 1,
        ..Budget::default()
    };
    check("everything at once", numbered(Begin::Settled, budget), 5, &[]);
}
