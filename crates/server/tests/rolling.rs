//! Restarts that are meant: one node after the other, under load.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Client, Cluster};

/// Without a hand-over, a group whose leader stops has no leader for at least that long.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(2);

/// What one client saw.
#[derive(Default)]
struct Seen {
    acknowledged: Vec<String>,
    /// The longest time from one acknowledgement to the next.
    pause: Duration,
}

/// Writes through one node until its connection ends, then through the next.
fn write(addresses: &[String], name: &str, first: usize, stop: &AtomicBool) -> Seen {
    let (mut seen, mut at, mut last) = (Seen::default(), first, Instant::now());
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        at += 1;
        let Ok(mut client) = Client::try_connect(&addresses[at % addresses.len()]) else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        while !stop.load(Ordering::Relaxed) {
            n += 1;
            let key = format!("{name}:{n}");
            match client.try_call(&["SET", &key, &key]) {
                Ok(reply) if reply == "OK" => {
                    seen.pause = seen.pause.max(last.elapsed());
                    last = Instant::now();
                    seen.acknowledged.push(key);
                }
                Ok(_) => std::thread::sleep(Duration::from_millis(5)),
                Err(_) => break,
            }
        }
    }
    seen
}

/// Until every group has a leader that sends to all members without a gap.
fn wait_until_level(cluster: &Cluster) {
    let begin = Instant::now();
    loop {
        let statuses: Vec<_> = (0..3).map(|at| cluster.status(at)).collect();
        let groups =
            |status: &serde_json::Value| status["groups"].as_array().cloned().unwrap_or_default();
        let led = statuses.iter().flat_map(groups).filter(|group| group["role"] == "leader");
        let level = |group: &serde_json::Value| {
            let members = group["members"].as_array().into_iter().flatten();
            members.filter(|m| m["sending"] == "replicate").count() == 2
        };
        if led.filter(level).count() == 5 {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "not level: {statuses:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn o03_a_rolling_restart_under_load_fails_no_write_and_pauses_none_for_an_election() {
    let mut cluster = Cluster::start(3, &["--election-timeout", "2s", "--heartbeat", "50ms"]);
    wait_until_level(&cluster);
    let addresses: Vec<String> = cluster.plans.iter().map(|plan| plan.client.clone()).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..6)
        .map(|n| {
            let (addresses, stop) = (addresses.clone(), stop.clone());
            std::thread::spawn(move || write(&addresses, &format!("w{n}"), n, &stop))
        })
        .collect();
    for at in 0..3 {
        std::thread::sleep(Duration::from_millis(300));
        let mut node = cluster.nodes[at].take().expect("it runs");
        let code = node.signal_and_wait("TERM", Duration::from_secs(10));
        assert_eq!(code, Some(Some(0)), "{}", cluster.plans[at].log());
        cluster.start_one(at);
        wait_until_level(&cluster);
    }
    stop.store(true, Ordering::Relaxed);
    let seen: Vec<Seen> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    let pause = seen.iter().map(|seen| seen.pause).max().unwrap_or_default();
    let count: usize = seen.iter().map(|seen| seen.acknowledged.len()).sum();
    println!("{count} writes acknowledged, the longest pause of a client was {pause:?}");
    assert!(count > 100, "{count} writes");
    assert!(pause < ELECTION_TIMEOUT * 3 / 4, "a client waited {pause:?}");
    for (at, seen) in seen.iter().enumerate() {
        let mut client = cluster.client(at % 3);
        for key in &seen.acknowledged {
            assert_eq!(&client.call(&["GET", key]), key, "{key} was acknowledged");
        }
    }
}
