//! Real disks that fail: a write that is refused, no space, no writing at all.

mod common;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Client, Cluster, Node, code_and_lines, picture, refused, run};

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

fn set(client: &mut Client, n: u64) -> std::io::Result<String> {
    client.try_call(&["SET", &format!("key{n}"), &format!("{n} {}", "v".repeat(2000))])
}

fn must_hold(client: &mut Client, acked: &[u64]) {
    for n in acked {
        let found = client.call(&["GET", &format!("key{n}")]);
        assert!(found.starts_with(&format!("{n} v")), "key{n}: {found}");
    }
}

#[test]
fn a_write_that_the_disk_refuses_is_code_21_and_the_next_start_serves_all_that_was_acknowledged() {
    let mut cluster = Cluster::init(1, SMALL);
    // Files of full length that a start with the limit writes into.
    cluster.start_one(0);
    let mut acked: Vec<u64> = (0..300).collect();
    let mut client = cluster.client(0);
    acked.iter().for_each(|n| assert_eq!(set(&mut client, *n).unwrap(), "OK"));
    std::thread::sleep(Duration::from_millis(300));
    cluster.kill(0);

    // No write may reach beyond 128 KiB of a file; the signal that says so is ignored, so that
    // the write fails with EFBIG.
    let plan = &cluster.plans[0];
    let earlier = plan.log();
    let child = plan.spawn_after("trap '' XFSZ; ulimit -f 256");
    let mut node = Node::when_ready(child, plan);
    let mut client = cluster.client(0);
    let start = Instant::now();
    for n in 300.. {
        assert!(start.elapsed() < Duration::from_secs(30), "no write failed");
        match set(&mut client, n) {
            Ok(reply) if reply == "OK" => acked.push(n),
            Ok(reply) => assert!(reply.starts_with('-'), "{reply}"),
            Err(_) => break,
        }
    }
    let ended = node.wait(Duration::from_secs(10));
    let log = plan.log();
    let log = log.strip_prefix(&earlier).unwrap();
    assert_eq!(ended, Some(Some(21)), "log:\n{log}");
    let lines: Vec<&str> = log.lines().filter(|line| line.starts_with("refloat: ")).collect();
    assert_eq!(lines.len(), 1, "one clear line: {lines:?}");
    for word in ["write", ".wal", "File too large"] {
        assert!(lines[0].contains(word), "{word}: {}", lines[0]);
    }

    let (code, lines) = code_and_lines(&run(&["check", plan.dir.to_str().unwrap()]));
    assert_eq!(code, 0, "{lines:?}");
    drop(node);
    cluster.start_one(0);
    must_hold(&mut cluster.client(0), &acked);
    assert!(acked.len() > 300, "something was acknowledged under the limit");
    assert_eq!(set(&mut cluster.client(0), 1).unwrap(), "OK");
}

/// Runs one of the ignored tests below inside a file system of its own in memory, of so many
/// MiB, that this process alone sees. Where that is not allowed, says so.
fn inside_a_small_disk(mebibytes: u32, name: &str) {
    let place = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size={mebibytes}m tmpfs \"$TMPDIR\"");
    let with = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", script]).env("TMPDIR", place.path());
        command.arg(std::env::current_exe().unwrap());
        command
    };
    match with(&mount).output() {
        Ok(output) if output.status.success() => {}
        other => {
            println!("skipped: a file system in memory cannot be mounted here: {other:?}");
            return;
        }
    }
    let script = format!("{mount} && exec \"$0\" --ignored --exact --nocapture {name}");
    let output = with(&script).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{errors}");
}

/// Bytes of disk that a directory takes.
fn taken(dir: &Path) -> u64 {
    let blocks = |entry: std::io::Result<std::fs::DirEntry>| {
        let (path, meta) = entry.map(|e| (e.path(), e.metadata())).ok()?;
        let below = if path.is_dir() { taken(&path) } else { 0 };
        Some(meta.ok()?.blocks() * 512 + below)
    };
    std::fs::read_dir(dir).unwrap().filter_map(blocks).sum()
}

#[test]
fn a_new_node_with_default_sizes_takes_at_most_128_mib() {
    let cluster = Cluster::start(1, &[]);
    let (dir, start) = (&cluster.plans[0].dir, Instant::now());
    let files = |log: &str| std::fs::read_dir(dir.join(log)).unwrap().count();
    // The first file of each log, one to go on in, and two for the next starts.
    while files("wal") < 4 || files("votes") < 4 {
        assert!(start.elapsed() < Duration::from_secs(30), "{} {}", files("wal"), files("votes"));
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_millis(300));
    assert!(taken(dir) <= 128 << 20, "{} bytes", taken(dir));
}

#[test]
fn w16_a_really_full_disk_refuses_writes_serves_reads_and_resumes_by_itself() {
    inside_a_small_disk(24, "a_disk_that_fills_up");
}

#[test]
fn a_directory_that_cannot_be_written_is_explained_and_not_started() {
    inside_a_small_disk(24, "a_disk_that_is_read_only");
}

/// Takes all space that is left, but for less than a block.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    for len in [1 << 16, 4096] {
        while file.write_all(&vec![1; len]).is_ok() {}
    }
}

fn impatient(cluster: &Cluster) -> Client {
    let client = cluster.client(0);
    client.stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    client
}

/// Writes until several writes were refused for want of space; says how many.
fn fill_up(cluster: &Cluster, ballast: &Path, acked: &mut Vec<u64>) -> u32 {
    let (mut client, start) = (impatient(cluster), Instant::now());
    let mut refused = 0;
    for n in 100.. {
        assert!(start.elapsed() < Duration::from_secs(60), "the disk is not full");
        let Ok(reply) = set(&mut client, n) else {
            // An unknown outcome: neither acknowledged nor refused.
            client = impatient(cluster);
            continue;
        };
        match reply.as_str() {
            "OK" => acked.push(n),
            _ => {
                let typed = ["-MISCONF ", "-CLUSTERDOWN ", "-BUSY "];
                assert!(typed.iter().any(|code| reply.starts_with(code)), "{reply}");
                refused += u32::from(reply.starts_with("-MISCONF "));
            }
        }
        fill(ballast);
        if refused > 5 {
            break;
        }
    }
    refused
}

#[test]
fn w35_kills_on_a_really_full_disk_stop_no_start() {
    inside_a_small_disk(24, "a_full_disk_and_many_kills");
}

#[test]
#[ignore = "needs a small disk: run by w35_kills_on_a_really_full_disk"]
fn a_full_disk_and_many_kills() {
    let mut cluster = Cluster::start(3, SMALL);
    let mut acked: Vec<u64> = (0..100).collect();
    let mut client = cluster.client(0);
    acked.iter().for_each(|n| assert_eq!(set(&mut client, *n).unwrap(), "OK"));
    let ballast = cluster.temp.path().join("ballast");
    fill_up(&cluster, &ballast, &mut acked);
    let (mut served, mut slowest) = (0, Duration::ZERO);
    for round in 0..24 {
        // One of them, or all at once.
        let hit = if round % 6 == 5 { 0..3 } else { round % 3..round % 3 + 1 };
        hit.clone().for_each(|at| cluster.kill(at));
        fill(&ballast);
        hit.for_each(|at| cluster.start_one(at));
        fill(&ballast);
        for n in &acked[..4] {
            let (mut client, start) = (cluster.client(round % 3), Instant::now());
            let found = client.call(&["GET", &format!("key{n}")]);
            slowest = slowest.max(start.elapsed());
            if !found.starts_with("-CLUSTERDOWN ") {
                assert!(found.starts_with(&format!("{n} v")), "key{n}: {found}");
                served += 1;
            }
        }
    }
    assert!(served > 0, "nothing is read on a full disk");
    assert!(slowest < Duration::from_secs(4), "a read took {slowest:?}");
    std::fs::remove_file(&ballast).unwrap();
    must_hold(&mut cluster.client(2), &acked);
    println!("{} acknowledged, {served} reads served, the slowest {slowest:?}", acked.len());
}

#[test]
#[ignore = "needs a small disk: run by w16_a_really_full_disk"]
fn a_disk_that_fills_up() {
    let mut cluster = Cluster::start(3, SMALL);
    let mut acked: Vec<u64> = (0..100).collect();
    let mut client = cluster.client(0);
    acked.iter().for_each(|n| assert_eq!(set(&mut client, *n).unwrap(), "OK"));
    let ballast = cluster.temp.path().join("ballast");
    fill(&ballast);

    let refused = fill_up(&cluster, &ballast, &mut acked);
    // Who leads goes on to serve what is there; a group that has to elect now waits for space.
    // No answer is wrong.
    let mut served = 0;
    for at in 0..3 {
        for n in &acked[..12] {
            let mut client = cluster.client(at);
            client.stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            match client.try_call(&["GET", &format!("key{n}")]) {
                Ok(found) if found.starts_with("-CLUSTERDOWN ") => {}
                Ok(found) => {
                    assert!(found.starts_with(&format!("{n} v")), "key{n}: {found}");
                    served += 1;
                }
                Err(_) => {}
            }
        }
    }
    assert!(served > 0, "nothing is read on a full disk");

    std::fs::remove_file(&ballast).unwrap();
    let start = Instant::now();
    let mut client = impatient(&cluster);
    let mut resumed = 0;
    for n in 1_000_000.. {
        match set(&mut client, n) {
            Ok(reply) if reply == "OK" => {
                acked.push(n);
                resumed += 1;
            }
            Ok(_) => std::thread::sleep(Duration::from_millis(50)),
            Err(_) => client = impatient(&cluster),
        }
        if resumed == 100 {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{}", cluster.plans[1].log());
    }
    must_hold(&mut cluster.client(2), &acked);
    // And all of it is on the disks.
    (0..3).for_each(|at| cluster.kill(at));
    cluster.start_all();
    must_hold(&mut cluster.client(0), &acked);
    println!("{} acknowledged, {refused} refused for space", acked.len());
}

#[test]
#[ignore = "needs a small disk: run by a_directory_that_cannot_be_written"]
fn a_disk_that_is_read_only() {
    let mut cluster = Cluster::start(1, SMALL);
    let acked: Vec<u64> = (0..100).collect();
    let mut client = cluster.client(0);
    acked.iter().for_each(|n| assert_eq!(set(&mut client, *n).unwrap(), "OK"));
    cluster.kill(0);
    let dir = cluster.plans[0].dir.to_str().unwrap().to_owned();
    let remount = |how: &str| {
        let disk = std::env::var("TMPDIR").unwrap();
        let status = Command::new("mount").args(["-o", &format!("remount,{how}"), &disk]).status();
        assert!(status.unwrap().success());
    };
    let before = picture(&cluster.plans[0].dir);
    remount("ro");
    for tool in [&["check", &dir][..], &["inspect", "group", &dir, "--group", "1"]] {
        let (code, lines) = code_and_lines(&run(tool));
        assert_eq!((code, lines.len()), (0, 0), "{tool:?}: {lines:?}");
    }
    let client = &cluster.plans[0].client;
    let (code, line) = refused(&["serve", "--data-dir", &dir, "--client-addr", client]);
    assert!(code == 1 || code == 20 || code == 21, "{code}: {line}");
    assert!(line.contains("Read-only file system"), "{line}");
    let (code, line) = refused(&["repair", &dir]);
    assert!(code == 1 || code == 21, "{code}: {line}");
    assert!(line.contains("Read-only file system"), "{line}");
    remount("rw");
    assert_eq!(picture(&cluster.plans[0].dir), before);
    cluster.start_one(0);
    must_hold(&mut cluster.client(0), &acked);
}
