//! Real nodes whose files were damaged while they were down: they heal by themselves.

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{Client, Cluster, code_and_lines, run};

const SMALL: &[&str] = &["--wal-file-size", "8MiB", "--votes-file-size", "64KiB"];

fn write(cluster: &Cluster, from: u32, to: u32) {
    let mut client = cluster.client(0);
    for n in from..to {
        let reply = client.call(&["SET", &format!("key-{n:05}"), &format!("value-{n:05}")]);
        assert_eq!(reply, "OK", "write {n}");
    }
}

fn read_back(client: &mut Client, to: u32) {
    for n in 0..to {
        let reply = client.call(&["GET", &format!("key-{n:05}")]);
        assert_eq!(reply, format!("value-{n:05}"), "key {n} was acknowledged");
    }
}

fn logs(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir.join("wal")).expect("a log directory");
    let mut files: Vec<PathBuf> = files
        .map(|file| file.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "wal"))
        .collect();
    files.sort();
    files
}

/// Flips one byte wherever the text stands in a log file.
fn rot(dir: &Path, text: &str) -> usize {
    let mut hits = 0;
    for path in logs(dir) {
        let mut bytes = std::fs::read(&path).expect("a log file");
        let places: Vec<usize> = bytes
            .windows(text.len())
            .enumerate()
            .filter(|(_, window)| *window == text.as_bytes())
            .map(|(at, _)| at)
            .collect();
        for at in &places {
            bytes[*at] ^= 0x20;
        }
        hits += places.len();
        if !places.is_empty() {
            std::fs::write(&path, bytes).expect("written");
        }
    }
    hits
}

/// What `check` ends with, and prints.
fn check(dir: &Path) -> (i32, String) {
    let output = run(&["check", &dir.display().to_string()]);
    let (code, _) = code_and_lines(&output);
    (code, String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Until `status` calls every group of a node clean.
fn wait_until_clean(cluster: &Cluster, at: usize) {
    let begin = Instant::now();
    loop {
        let output = run(&["status", "--admin-addr", &cluster.plans[at].admin, "--json"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let clean = text.contains("\"state\":\"clean\"")
            && !["damaged", "head-unknown", "amnesia"].iter().any(|s| text.contains(s));
        if clean {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(30), "not clean: {text}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_node_whose_log_rotted_heals_by_itself_and_is_whole_on_disk() {
    let mut cluster = Cluster::start(3, SMALL);
    write(&cluster, 0, 300);
    std::thread::sleep(Duration::from_millis(300));
    cluster.kill(1);
    let dir = cluster.plans[1].dir.clone();
    assert!(rot(&dir, "value-00123") > 0, "the value stands in the log");
    let (code, lines) = check(&dir);
    assert_eq!(code, 10, "{lines}");
    cluster.start_one(1);
    wait_until_clean(&cluster, 1);
    write(&cluster, 300, 310);
    // Whole, so that another may go right after.
    cluster.kill(2);
    read_back(&mut cluster.client(1), 310);
    std::thread::sleep(Duration::from_millis(300));
    cluster.kill(1);
    let (code, lines) = check(&dir);
    assert_eq!(code, 0, "{lines}");
}

#[test]
fn m19_three_nodes_with_different_damage_serve_everything() {
    let mut cluster = Cluster::start(3, SMALL);
    write(&cluster, 0, 300);
    std::thread::sleep(Duration::from_millis(300));
    for at in 0..3 {
        cluster.kill(at);
    }
    for at in 0..3 {
        let text = format!("value-{:05}", 50 + 60 * at);
        assert!(rot(&cluster.plans[at].dir, &text) > 0, "the value stands in the log");
    }
    cluster.start_all();
    for at in 0..3 {
        wait_until_clean(&cluster, at);
        read_back(&mut cluster.client(at), 300);
    }
}
