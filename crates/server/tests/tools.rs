//! The offline tools, as a person or a script runs them on real directories.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Client, Cluster, code_and_lines, picture, refused, run};

/// Small files, so that everything rolls over, flushes and snapshots within a second.
const SMALL: &[&str] = &[
    "--wal-file-size",
    "256KiB",
    "--votes-file-size",
    "64KiB",
    "--snapshot-entries",
    "300",
    "--election-timeout",
    "300ms",
];
const SIZES: &[&str] = &["--wal-file-size", "256KiB", "--votes-file-size", "64KiB"];

/// Every read-only command on a directory, with and without `--json`.
fn every_look(dir: &str) -> Vec<Vec<String>> {
    let commands: [&[&str]; 8] = [
        &["check", dir],
        &["inspect", "wal", dir],
        &["inspect", "wal", dir, "--votes"],
        &["inspect", "segment", dir],
        &["inspect", "snapshot", dir],
        &["inspect", "group", dir, "--group", "1"],
        &["repair", dir, "--dry-run"],
        &["compare", dir, dir],
    ];
    let mut all = Vec::new();
    for command in commands {
        for json in [false, true] {
            let mut args: Vec<String> = command.iter().map(|arg| (*arg).to_owned()).collect();
            args.extend(SIZES.iter().map(|arg| (*arg).to_owned()));
            args.extend(json.then(|| "--json".to_owned()));
            all.push(args);
        }
    }
    all
}

fn load(client: &mut Client, from: u64, count: u64) {
    let value = "v".repeat(600);
    for n in from..from + count {
        assert_eq!(client.call(&["SET", &format!("key{n}"), &format!("{n} {value}")]), "OK");
    }
}

/// A cluster of one with segments and snapshots, killed.
fn aged() -> Cluster {
    let mut cluster = Cluster::start(1, SMALL);
    load(&mut cluster.client(0), 0, 2500);
    cluster.kill(0);
    cluster
}

fn files(dir: &Path, folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = picture(&dir.join(folder)).into_iter().map(|(p, _)| p).collect();
    found.retain(|path| path.to_str().unwrap().ends_with(ending));
    found
}

fn ok(args: &[String]) -> String {
    let output = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
    assert!(output.stderr.is_empty(), "{args:?}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    if args.iter().any(|arg| arg == "--json") {
        for line in text.lines() {
            serde_json::from_str::<serde_json::Value>(line)
                .unwrap_or_else(|e| panic!("{e}: {line}"));
        }
    }
    text
}

#[test]
fn every_tool_explains_a_killed_node_and_changes_nothing() {
    let cluster = aged();
    let dir = &cluster.plans[0].dir;
    let name = dir.to_str().unwrap();
    assert!(!files(dir, "seg", ".seg").is_empty() && !files(dir, "snap", ".snap").is_empty());
    let before = picture(dir);
    let said: Vec<String> = every_look(name).iter().map(|args| ok(args)).collect();
    assert_eq!(picture(dir), before, "nothing changed");
    let find = |word: &str| said.iter().any(|text| text.contains(word));
    for word in [
        "every entry verifies",
        "the newest, named by a record",
        "starts from: snapshot",
        "in seg/0",
        "in wal/0",
        "\"role\":\"listed\"",
        "\"chunks_whole\":1",
        "\"by_votes_log\"",
        "\"relation\":\"agree\"",
        "clean: serve starts with every group",
    ] {
        assert!(find(word), "{word}");
    }
}

#[test]
fn w22_offline_tools_read_the_directory_while_the_node_runs_under_load() {
    let mut cluster = Cluster::start(1, SMALL);
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..4u64)
        .map(|n| {
            let (mut client, stop) = (cluster.client(0), Arc::clone(&stop));
            let written = Arc::clone(&written);
            std::thread::spawn(move || {
                let mut at = n << 32;
                while !stop.load(Ordering::Relaxed) {
                    load(&mut client, at % (1 << 32) % 50 + (n << 32), 10);
                    at += 10;
                    written.fetch_add(10, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let dir = cluster.plans[0].dir.to_str().unwrap().to_owned();
    let start = Instant::now();
    let mut looks = 0;
    while looks < 48 || start.elapsed() < Duration::from_secs(5) {
        for args in every_look(&dir) {
            if args[0] != "compare" {
                ok(&args);
                looks += 1;
            }
        }
        assert!(start.elapsed() < Duration::from_secs(100), "{looks} looks");
    }
    // The two sides of a comparison are not of one moment; there is no damage in either.
    let output = run(&["compare", &dir, &dir]);
    assert!(matches!(output.status.code(), Some(0 | 10)), "{output:?}");
    let (code, line) = refused(&["repair", &dir]);
    assert_eq!(code, 20, "{line}");
    assert!(line.contains("LOCK"), "{line}");
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    let logs = std::fs::read_dir(cluster.plans[0].dir.join("wal")).unwrap();
    let numbers = logs.filter_map(|file| file.unwrap().path().file_stem()?.to_str()?.parse().ok());
    let (newest, files) = numbers.fold((0u64, 0), |(most, n), number| (most.max(number), n + 1));
    assert!(newest > 10 && files < newest, "log files came and went: {newest}, {files} there");
    println!("{looks} looks beside {} writes", written.load(Ordering::Relaxed));
    assert!(written.load(Ordering::Relaxed) > 500);
    let ended = cluster.nodes[0].take().unwrap().signal_and_wait("TERM", Duration::from_secs(10));
    assert_eq!(ended, Some(Some(0)), "the node did not mind; log:\n{}", cluster.plans[0].log());
}

#[test]
fn a_repair_of_a_killed_node_is_done_once_and_the_node_serves_everything() {
    let mut cluster = aged();
    let dir = cluster.plans[0].dir.clone();
    let name = dir.to_str().unwrap();
    let mut bytes = std::fs::read(dir.join("identity.b")).unwrap();
    bytes[40] ^= 1;
    std::fs::write(dir.join("identity.b"), bytes).unwrap();
    std::fs::write(dir.join("seg/notes"), "a person's").unwrap();
    let args = |more: &[&str]| -> Vec<String> {
        ["repair", name].iter().chain(more).chain(SIZES).map(|arg| (*arg).to_owned()).collect()
    };
    let before = picture(&dir);
    let planned = ok(&args(&["--dry-run"]));
    assert_eq!(picture(&dir), before);
    let done = ok(&args(&[]));
    let steps = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.contains("steps"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(steps(&planned), steps(&done), "the same words");
    for word in ["identity.b", "seg/notes", "of unknown origin"] {
        assert!(planned.contains(word), "{planned}");
    }
    assert!(ok(&args(&[])).starts_with("nothing to do"), "the second time");
    assert_eq!(files(&dir, "quarantine", "").len(), 2);
    cluster.start_one(0);
    let mut client = cluster.client(0);
    for n in 0..2500 {
        assert!(client.call(&["GET", &format!("key{n}")]).starts_with(&format!("{n} ")), "{n}");
    }
}

#[test]
fn rot_in_a_segment_is_10_and_names_file_and_offset() {
    let cluster = aged();
    let dir = &cluster.plans[0].dir;
    let name = dir.to_str().unwrap();
    let segment = files(dir, "seg", ".seg").pop().expect("a segment");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(8).rposition(|w| w == b"vvvvvvvv").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let text = ok(&["inspect".into(), "segment".into(), name.to_owned()]);
    let damage = text.lines().find(|line| line.starts_with("  damage: ")).expect("it is named");
    assert!(damage.contains(segment.to_str().unwrap()) && damage.contains(" at "), "{damage}");
    // What a snapshot made dead is nobody's loss; anything else is 10.
    let output = run(&["check", name]);
    let (code, lines) = code_and_lines(&output);
    let told = String::from_utf8_lossy(&output.stdout).contains(segment.to_str().unwrap());
    assert!(code == if told { 10 } else { 0 }, "{code}: {lines:?}");
}

#[test]
fn nonsense_is_one_clear_line_with_the_right_code() {
    let clusters = [Cluster::init(2, SMALL), Cluster::init(1, &[])];
    let two = [0, 1].map(|n| clusters[0].plans[n].dir.to_str().unwrap().to_owned());
    let [one, two] = &two;
    let other = clusters[1].plans[0].dir.to_str().unwrap();
    let missing = "/no/such/directory";
    for (args, code, word) in [
        (&["inspect", "segment"][..], 2, "<D>"),
        (&["inspect", "group", one], 2, "--group"),
        (&["inspect", "group", one, "--group", "x"], 2, "7/3"),
        (&["inspect", "group", one, "--group", "99"], 1, "no group 99"),
        (&["inspect", "snapshot", missing], 22, missing),
        (&["inspect", "segment", missing], 22, missing),
        (&["repair", missing], 22, missing),
        (&["repair", missing, "--dry-run"], 22, missing),
        (&["repair", one, "--yes"], 2, "--yes"),
        (&["compare", one], 2, "<D2>"),
        (&["compare", one, missing], 22, missing),
        (&["compare", one, other], 20, "node 1"),
    ] {
        let (found, line) = refused(args);
        assert_eq!(found, code, "{args:?}: {line}");
        assert!(line.contains(word), "{args:?}: {line}");
    }
    assert!(!Path::new(missing).exists());
    let output = run(&["compare", one, two]);
    assert_eq!(output.status.code(), Some(0), "two nodes that never ran: {output:?}");
}

#[test]
fn replicas_of_one_cluster_compare_as_equal_after_an_orderly_stop() {
    let mut cluster = Cluster::start(3, SMALL);
    load(&mut cluster.client(0), 0, 600);
    std::thread::sleep(Duration::from_millis(500));
    for at in 0..3 {
        let mut node = cluster.nodes[at].take().unwrap();
        assert_eq!(node.signal_and_wait("TERM", Duration::from_secs(10)), Some(Some(0)));
    }
    let dirs: Vec<&str> = cluster.plans.iter().map(|plan| plan.dir.to_str().unwrap()).collect();
    for (a, b) in [(0, 1), (1, 2), (0, 2)] {
        let output = run(&["compare", dirs[a], dirs[b], "--json"]);
        // Whoever lost its leader first may hold the start of a newer term alone.
        assert!(matches!(output.status.code(), Some(0 | 10)), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let found: serde_json::Value = serde_json::from_str(&text).unwrap();
        let groups = found["groups"].as_array().unwrap();
        let common: u64 = groups.iter().map(|g| g["common"].as_u64().unwrap()).sum();
        assert!(common > 100, "{text}");
        assert!(groups.iter().all(|g| g["relation"] != "contradiction"), "{text}");
    }
}
