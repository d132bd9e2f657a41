//! Clients that ask for much and do not read it: they wait, they cost little, and they make room.

mod common;

use std::time::{Duration, Instant};

use common::{Client, Cluster};

const MIB: u64 = 1 << 20;

#[test]
fn t09_replies_that_nobody_reads_take_little_memory_and_no_room_from_others_for_long() {
    let cluster = Cluster::start(1, &["--max-unsent", "4MiB"]);
    let value = "x".repeat(MIB as usize);
    assert_eq!(cluster.client(0).call(&["SET", "k", &value]), "OK");
    let before = cluster.most_resident(0);

    // Half of them only read, the others' requests are one entry of the log.
    let pipeline = |at: usize| -> Vec<u8> {
        let get = |n| match (at % 2, n) {
            (1, 0) => Client::encode(&["SET", "{k}other", "v"]),
            _ => Client::encode(&["GET", "k"]),
        };
        (0..40).flat_map(get).collect()
    };
    let stuck: Vec<Client> = (0..12)
        .map(|at| {
            let mut client = cluster.client(0);
            client.send_raw(&pipeline(at));
            client
        })
        .collect();
    let begin = Instant::now();
    while cluster.metric(0, "refloat_client_unsent_bytes") < 3 * MIB {
        assert!(begin.elapsed() < Duration::from_secs(10), "nobody is stuck");
        std::thread::sleep(Duration::from_millis(20));
    }

    let mut reader = cluster.client(0);
    for _ in 0..5 {
        assert_eq!(reader.call(&["GET", "k"]).len(), value.len());
    }
    let more = cluster.most_resident(0).saturating_sub(before);
    assert!(more < 48 * MIB, "{} MiB", more / MIB);
    assert!(begin.elapsed() < Duration::from_secs(12), "it waited for {:?}", begin.elapsed());
    assert!(cluster.metric(0, "refloat_client_stuck_total") > 0);
    assert!(cluster.metric(0, "refloat_client_unsent_bytes") <= 4 * MIB);
    let log = cluster.plans[0].log();
    let told = log.lines().find(|line| line.contains("client dropped")).expect("it is told");
    for part in ["WARN", "client=127.0.0.1:", "unsent=", "seconds=", "others want the room"] {
        assert!(told.contains(part), "no {part} in {told}");
    }
    drop(stuck);
}

#[test]
fn t09_a_client_that_reads_late_gets_every_reply_when_nobody_else_wants_the_room() {
    let cluster = Cluster::start(1, &["--max-unsent", "1MiB"]);
    let mut client = cluster.client(0);
    let value = "x".repeat(MIB as usize);
    assert_eq!(client.call(&["SET", "k", &value]), "OK");
    assert_eq!(client.call(&["SET", "other", &value[..100_000]]), "OK");
    let pair = [Client::encode(&["GET", "k"]), Client::encode(&["GET", "other"])].concat();
    client.send_raw(&pair.repeat(20));
    std::thread::sleep(Duration::from_millis(1500));
    for _ in 0..20 {
        assert_eq!(client.reply().unwrap().len(), value.len());
        assert_eq!(client.reply().unwrap().len(), 100_000);
    }
    assert_eq!(client.say("PING"), "PONG");
    assert_eq!(cluster.metric(0, "refloat_client_stuck_total"), 0);
    assert_eq!(cluster.metric(0, "refloat_client_unsent_bytes"), 0);
}
