//! What concurrent clients of real processes saw, held against the rule that some order of it all
//! must explain it: the same history and the same checker as in the simulator.
//!
//! `REFLOAT_HISTORY_SECONDS` says how long the nodes are disturbed.

#[path = "../common/mod.rs"]
mod common;
mod hosts;
mod partitions;
mod recording;

use std::process::Command;
use std::time::{Duration, Instant};

use common::Cluster;
use recording::{Draw, Recording};

/// Stops nodes for a while, as if they were cut off, kills and restarts them.
fn disturb(cluster: &mut Cluster, time: Duration) -> [u32; 2] {
    let (end, mut draw) = (Instant::now() + time, Draw(7));
    let (mut pauses, mut kills) = (0, 0);
    while Instant::now() < end {
        let at = draw.below(cluster.nodes.len() as u64) as usize;
        if draw.below(3) > 0 {
            signal(cluster, at, "STOP");
            std::thread::sleep(Duration::from_millis(200 + draw.below(1_200)));
            signal(cluster, at, "CONT");
            pauses += 1;
        } else {
            cluster.kill(at);
            std::thread::sleep(Duration::from_millis(draw.below(300)));
            cluster.start_one(at);
            kills += 1;
        }
        std::thread::sleep(Duration::from_millis(draw.below(400)));
    }
    [pauses, kills]
}

fn signal(cluster: &Cluster, at: usize, signal: &str) {
    let pid = cluster.nodes[at].as_ref().expect("it is up").pid().to_string();
    assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
}

/// How long the nodes are disturbed.
fn seconds() -> u64 {
    let asked = std::env::var("REFLOAT_HISTORY_SECONDS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(8)
}

/// Some order must explain what the clients saw; what nothing explains is left in a file.
fn assert_linearizable(recording: Recording, disturbed: &str) {
    let history = recording.stop();
    let file = std::env::temp_dir().join(format!("refloat-history-{}.jsonl", std::process::id()));
    std::fs::write(&file, history.to_json_lines()).unwrap();
    let answered = history.operations.iter().filter(|o| o.end.is_some()).count();
    let open = history.operations.len() - answered;
    println!("{answered} answers, {open} open, {disturbed}");
    let explained = history.check();
    let explained = explained.unwrap_or_else(|why| panic!("{why}; see {}", file.display()));
    assert!(explained as usize >= answered && answered > 300, "{answered} answers");
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn what_clients_of_paused_and_killed_nodes_saw_is_linearizable() {
    let mut cluster = Cluster::start(3, &["--snapshot-entries", "400"]);
    let recording = Recording::start(&cluster, None);
    let [pauses, kills] = disturb(&mut cluster, Duration::from_secs(seconds()));
    std::thread::sleep(Duration::from_millis(500));
    assert_linearizable(recording, &format!("{pauses} pauses, {kills} kills"));
    assert!(pauses > 0 && kills > 0, "{pauses} pauses, {kills} kills");
}
