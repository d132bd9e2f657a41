//! Real clusters on loopback: what is acknowledged survives `kill -9` of any node at any moment.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::{Client, Cluster, code_and_lines, refused, run};

/// Small files, so that rolling over, flushing and snapshots happen in a test of seconds.
const SMALL: &[&str] =
    &["--wal-file-size", "512KiB", "--votes-file-size", "64KiB", "--snapshot-entries", "500"];

/// Clients that write keys of their own and remember which were acknowledged.
struct Load {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(cluster: &Cluster, nodes: &[usize], name: &str) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let writers = (0..6).map(|n| {
            let addresses: Vec<String> =
                nodes.iter().map(|at| cluster.plans[*at].client.clone()).collect();
            let (stop, name) = (stop.clone(), format!("{name}:{n}"));
            std::thread::spawn(move || write(&addresses, n, &name, &stop))
        });
        Load { writers: writers.collect(), stop }
    }

    fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    }
}

fn write(addresses: &[String], first: usize, name: &str, stop: &AtomicBool) -> Vec<String> {
    let (mut acknowledged, mut n, mut turn) = (Vec::new(), 0u64, first);
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let Ok(mut client) = Client::try_connect(&addresses[turn % addresses.len()]) else {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        while !stop.load(Ordering::Relaxed) {
            n += 1;
            let key = format!("{name}:{n}");
            match client.try_call(&["SET", &key, &value(&key)]) {
                Ok(reply) if reply == "OK" => acknowledged.push(key),
                Ok(_) => std::thread::sleep(Duration::from_millis(10)),
                Err(_) => break,
            }
        }
    }
    acknowledged
}

fn value(key: &str) -> String {
    let long = if key.ends_with('7') { 6000 } else { 100 };
    format!("{key}={}", "v".repeat(long))
}

fn read_back(cluster: &Cluster, acknowledged: &[String]) {
    for (at, keys) in acknowledged.chunks(acknowledged.len() / 3 + 1).enumerate() {
        let mut client = cluster.client(at % cluster.plans.len());
        for key in keys {
            assert_eq!(client.call(&["GET", key]), value(key), "{key} was acknowledged");
        }
    }
}

/// Until every group takes a write through this node.
fn wait_for_writes(cluster: &Cluster, at: usize) -> Duration {
    let begin = Instant::now();
    for key in ["foo", "bar", "a", "b", "c", "d", "e", "f"] {
        // A write on its way to a leader that dies has an unknown outcome, and ends its connection.
        while cluster.client(at).try_call(&["SET", key, "x"]).ok().as_deref() != Some("OK") {
            assert!(begin.elapsed() < Duration::from_secs(10), "no leader for {key}");
        }
    }
    begin.elapsed()
}

#[test]
fn three_nodes_serve_the_same_through_any_of_them() {
    let cluster = Cluster::start(3, &[]);
    for (at, key) in ["foo", "bar", "baz", "qux"].iter().enumerate() {
        assert_eq!(cluster.client(at % 3).call(&["SET", key, "v"]), "OK");
        for reader in 0..3 {
            assert_eq!(cluster.client(reader).call(&["GET", key]), "v");
        }
    }
    let counting: Vec<_> = (0..3)
        .map(|at| {
            let mut client = cluster.client(at);
            std::thread::spawn(move || (0..100).for_each(|_| drop(client.say("INCR n"))))
        })
        .collect();
    counting.into_iter().for_each(|counter| counter.join().unwrap());
    assert_eq!(cluster.client(1).say("GET n"), "300");
    assert_eq!(cluster.client(2).say("MSET a 1 b 2 c 3 d 4"), "OK");
    assert_eq!(cluster.client(0).say("MGET a b c d none"), "[1 2 3 4 nil]");
    assert_eq!(cluster.client(0).say("DBSIZE"), ":9");
}

/// How many kills: `cargo xtask torture --kills 100`, and a slice of them else.
fn kills() -> usize {
    std::env::var("REFLOAT_KILLS").map_or(3, |kills| kills.parse().expect("a number of kills"))
}

#[test]
fn w23_kill_9_of_any_one_node_under_load_loses_nothing() {
    let mut cluster = Cluster::start(3, SMALL);
    let mut acknowledged = Vec::new();
    let (kills, mut longest) = (kills(), Duration::ZERO);
    for round in 0..kills {
        let at = round % 3;
        let load = Load::start(&cluster, &[0, 1, 2], &format!("round{round}"));
        std::thread::sleep(Duration::from_millis(500));
        cluster.kill(at);
        let pause = wait_for_writes(&cluster, (at + 1) % 3);
        assert!(pause < Duration::from_secs(5), "round {round}: writes paused for {pause:?}");
        longest = longest.max(pause);
        std::thread::sleep(Duration::from_millis(300));
        cluster.start_one(at);
        let new = load.stop();
        read_back(&cluster, &new);
        acknowledged.extend(new);
    }
    for at in 0..3 {
        cluster.kill(at);
    }
    cluster.start_all();
    wait_for_writes(&cluster, 0);
    read_back(&cluster, &acknowledged);
    let writes = acknowledged.len();
    println!("{kills} kills, {writes} writes read back, paused for {longest:?} at most");
    assert!(writes > 30 * kills, "{writes} writes");
}

#[test]
fn w30_kill_9_of_all_nodes_at_once_under_load_loses_nothing() {
    let mut cluster = Cluster::start(3, SMALL);
    let mut acknowledged = Vec::new();
    for round in 0..4 {
        let load = Load::start(&cluster, &[0, 1, 2], &format!("round{round}"));
        std::thread::sleep(Duration::from_millis(600));
        for node in &mut cluster.nodes {
            node.take().unwrap().kill();
        }
        acknowledged.extend(load.stop());
        cluster.start_all();
        wait_for_writes(&cluster, round % 3);
        read_back(&cluster, &acknowledged);
    }
    assert!(acknowledged.len() > 100, "{} writes", acknowledged.len());
}

#[test]
fn s16_a_torn_log_write_is_dropped_and_told_and_the_node_starts_by_itself() {
    let mut cluster = Cluster::start(1, &["--tear-on-signal", "--wal-file-size", "2MiB"]);
    let load = Load::start(&cluster, &[0], "torn");
    std::thread::sleep(Duration::from_millis(400));
    let mut node = cluster.nodes[0].take().unwrap();
    let ended = node.signal_and_wait("USR1", Duration::from_secs(10));
    assert_eq!(ended, Some(None), "the node dies of a signal in the middle of its write");
    let acknowledged = load.stop();

    let dir = cluster.plans[0].dir.to_str().unwrap().to_owned();
    let first = run(&["check", &dir, "--json"]);
    assert_eq!(first.status.code(), Some(0), "torn is ordinary: {first:?}");
    let second = run(&["check", &dir, "--json"]);
    assert_eq!(first.stdout, second.stdout, "a second reader gets the same verdict");
    assert!(String::from_utf8_lossy(&first.stdout).contains("never acknowledged"), "{first:?}");

    cluster.start_one(0);
    let log = cluster.plans[0].log();
    assert!(log.contains("never acknowledged") && log.contains(&dir), "{log}");
    assert!(acknowledged.len() > 10, "{} writes", acknowledged.len());
    read_back(&cluster, &acknowledged);
}

/// 71 with group 0. The first start makes them, the second one finds them.
#[test]
fn a_start_with_many_groups_logs_the_first_ones_and_counts_the_rest() {
    let mut cluster = Cluster::plan(1, &[]);
    cluster.plans[0].init(&[format!("1={}", cluster.plans[0].peer)], 70);
    cluster.start_one(0);
    let begin = Instant::now();
    while cluster.status(0)["groups"].as_array().is_none_or(|groups| groups.len() < 71) {
        assert!(begin.elapsed() < Duration::from_secs(20), "{}", cluster.plans[0].log());
        std::thread::sleep(Duration::from_millis(30));
    }
    cluster.kill(0);
    let earlier = cluster.plans[0].log().len();
    cluster.start_one(0);
    let log = cluster.plans[0].log().split_off(earlier);
    assert_eq!(log.matches("boot: group ").count(), 64, "{log}");
    assert!(log.contains("boot: 7 more groups are clean"), "{log}");
}

#[test]
fn s19_damage_in_acknowledged_data_is_named_by_check_and_never_cut() {
    let mut cluster = Cluster::start(1, &[]);
    for n in 0..50 {
        assert_eq!(cluster.client(0).call(&["SET", &format!("key{n}"), &"x".repeat(5000)]), "OK");
    }
    cluster.kill(0);
    let plan = &cluster.plans[0];
    let wal = plan.dir.join("wal/00000000000000000001.wal");
    let mut bytes = std::fs::read(&wal).unwrap();
    let at = bytes.windows(64).position(|window| window == [b'x'; 64]).unwrap();
    bytes[at + 10] ^= 0x40;
    std::fs::write(&wal, &bytes).unwrap();

    let dir = plan.dir.to_str().unwrap();
    let output = run(&["check", dir]);
    let (code, lines) = code_and_lines(&output);
    assert_eq!(code, 10, "{output:?}");
    assert_eq!(lines.len(), 1, "{lines:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("damage") && text.contains(wal.to_str().unwrap()), "{text}");
    assert_eq!(std::fs::read(&wal).unwrap(), bytes, "check changes nothing");

    cluster.start_one(0);
    let status = run(&["status", "--admin-addr", &cluster.plans[0].admin, "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let groups = status["groups"].as_array().unwrap();
    let hurt: Vec<_> = groups.iter().filter(|group| group["state"] != "clean").collect();
    assert_eq!(hurt.len(), 1, "{status}");
    assert!(hurt[0]["waits_for"].is_string(), "{status}");
    let group = hurt[0]["group"].as_u64().unwrap();
    let (mut served, mut refused) = (0, 0);
    for n in 0..50 {
        let reply = cluster.client(0).call(&["GET", &format!("key{n}")]);
        match reply.starts_with("-CLUSTERDOWN") {
            true => {
                assert!(reply.contains(&format!("group {group}")), "{reply}");
                refused += 1;
            }
            false => {
                assert_eq!(reply.len(), 5000, "{reply}");
                served += 1;
            }
        }
    }
    assert!(served > 0 && refused > 0, "{served} served, {refused} refused");
}

#[test]
fn the_log_of_another_node_is_refused_with_code_20() {
    let mut cluster = Cluster::start(3, &[]);
    assert_eq!(cluster.client(0).say("SET k v"), "OK");
    for node in &mut cluster.nodes {
        node.take().unwrap().kill();
    }
    let [one, two] = [cluster.plans[0].dir.join("wal"), cluster.plans[1].dir.join("wal")];
    std::fs::remove_dir_all(&one).unwrap();
    std::fs::rename(two, &one).unwrap();
    let before = common::picture(&cluster.plans[0].dir);
    let dir = cluster.plans[0].dir.to_str().unwrap();
    let (code, line) = refused(&["serve", "--data-dir", dir, "--client-addr", "127.0.0.1:0"]);
    assert_eq!(code, 20, "{line}");
    assert!(line.contains("node 2") && line.contains("node 1"), "{line}");
    assert_eq!(common::picture(&cluster.plans[0].dir), before);
}

#[test]
fn status_and_the_admin_pages_say_how_the_groups_are() {
    let cluster = Cluster::start(3, &[]);
    let admin = &cluster.plans[0].admin;
    let output = run(&["status", "--admin-addr", admin, "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["node"], 1);
    assert!(status["cluster"].is_string() && status["incarnation"].is_string());
    let groups = status["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 5);
    for group in groups {
        for field in ["group", "term", "commit", "applied", "durable"] {
            assert!(group[field].is_u64(), "{field}: {group}");
        }
        assert_eq!(group["state"], "clean");
        assert!(group["waits_for"].is_null());
        assert!(group["leader"].is_u64());
        assert_eq!(group["members"].as_array().unwrap().len(), 3);
        assert_eq!(group["members"][0]["member"], "voter");
        assert!(group["members"][0].get("match").is_some());
    }
    let table = String::from_utf8(run(&["status", "--admin-addr", admin]).stdout).unwrap();
    assert!(table.contains("node 1 of cluster test"), "{table}");

    for (path, word) in [
        ("/healthz", "ok"),
        ("/readyz", "ready"),
        ("/metrics", "# TYPE refloat_log_syncs_total counter"),
        ("/v1/status", "\"groups\""),
        ("/v1/boot", "\"files\""),
        ("/", "<title>refloat</title>"),
    ] {
        let mut client = Client::connect(admin);
        client.send_raw(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes());
        let answer = client.rest();
        assert!(answer.starts_with("HTTP/1.0 200"), "{path}: {answer}");
        assert!(answer.contains(word), "{path}: {answer}");
    }
}
