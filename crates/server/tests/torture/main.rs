//! Three real nodes under load, and one fault after the other. After each of them all groups must
//! be clean again with all three nodes as voters; then another node dies, and everything that was
//! acknowledged must be read through the one that was hit.
//!
//! `REFLOAT_TORTURE_ROUNDS` and `REFLOAT_TORTURE_SEED` say how long and with which choices.

#[path = "../common/mod.rs"]
mod common;
mod faults;
mod load;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::Cluster;
use common::wounds::Chance;
use load::{Ledger, Load};

const SMALL: &[&str] = &[
    "--wal-file-size",
    "256KiB",
    "--votes-file-size",
    "64KiB",
    "--snapshot-entries",
    "1000",
    "--election-timeout",
    "250ms",
];

fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).unwrap_or_default();
    text.parse().unwrap_or(default)
}

#[test]
fn nothing_acknowledged_is_lost_whatever_is_done_to_one_node_after_the_other() {
    let rounds = setting("REFLOAT_TORTURE_ROUNDS", 10);
    let seed = setting("REFLOAT_TORTURE_SEED", 1);
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut cluster = Cluster::init(3, SMALL);
    for plan in &mut cluster.plans {
        plan.flags.extend(["--peer-addr".to_owned(), plan.peer.clone()]);
    }
    cluster.start_all();
    let ledger = Arc::new(Ledger::default());
    let addresses: Vec<String> = cluster.plans.iter().map(|plan| plan.client.clone()).collect();
    for round in 0..rounds {
        let fault = match faults::ALL.get(round as usize) {
            Some(fault) => *fault,
            None => faults::ALL[chance.below(faults::ALL.len() as u64) as usize],
        };
        if let Err(why) = one_round(fault, &mut cluster, &ledger, &addresses, &mut chance) {
            let logs: Vec<String> =
                cluster.plans.iter().map(|plan| last_lines(&plan.log())).collect();
            panic!("seed {seed}, round {round}, {fault:?}: {why}\n{}", logs.join("\n"));
        }
    }
    assert!(ledger.acknowledged() > 100, "{} keys", ledger.acknowledged());
}

fn one_round(
    fault: faults::Fault,
    cluster: &mut Cluster,
    ledger: &Arc<Ledger>,
    addresses: &[String],
    chance: &mut Chance,
) -> Result<(), String> {
    let load = Load::begin(ledger, addresses);
    std::thread::sleep(Duration::from_millis(300 + chance.below(700)));
    let begin = Instant::now();
    let happened = faults::happen(fault, cluster, chance);
    let started = begin.elapsed();
    let whole = happened.and_then(|story| whole_again(cluster).map(|()| story));
    let healed = begin.elapsed();
    load.end();
    let (hit, story) = whole?;
    // Whoever was hit must be able to stand for the others now.
    let hit = hit[chance.below(hit.len() as u64) as usize];
    let dies = (hit + 1 + chance.below(2) as usize) % 3;
    cluster.kill(dies);
    let keys = ledger.verify(&addresses[hit])?;
    cluster.start_one(dies);
    whole_again(cluster)?;
    println!(
        "{fault:?}: {story}; started after {:.1} s, whole after {:.1} s; {keys} keys read through \
         node {} while node {} was dead",
        started.as_secs_f64(),
        healed.as_secs_f64(),
        hit + 1,
        dies + 1,
    );
    Ok(())
}

/// Waits until all three nodes say: every group is led, clean, and has each node as a voter under
/// the life that its directory has.
fn whole_again(cluster: &Cluster) -> Result<(), String> {
    let begin = Instant::now();
    loop {
        let missing = (0..3).find_map(|at| not_whole(cluster, at));
        let Some(missing) = missing else { return Ok(()) };
        if begin.elapsed() > Duration::from_secs(40) {
            return Err(format!("not whole after 40 s: {missing}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn not_whole(cluster: &Cluster, at: usize) -> Option<String> {
    let status = cluster.status(at);
    let Some(groups) = status["groups"].as_array() else {
        return Some(format!("node {} gives no status", at + 1));
    };
    if groups.len() != 5 {
        return Some(format!("node {} has {} groups", at + 1, groups.len()));
    }
    let sick = groups.iter().find(|group| {
        let members = group["members"].as_array().map(Vec::as_slice).unwrap_or_default();
        group["state"] != "clean"
            || group["leader"].is_null()
            || members.len() != 3
            || members.iter().any(|member| member["member"] != "voter")
            // A replica may have a life of its own, but one that runs here must be a member.
            || !group["waits_for"].is_null()
    });
    sick.map(|group| format!("node {}: {group}", at + 1))
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
