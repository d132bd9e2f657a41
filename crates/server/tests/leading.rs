//! Who leads, what a read costs, and what idle groups send, as the flags of `serve` say.

mod common;

use std::time::{Duration, Instant};

use common::{Cluster, run};
use serde_json::Value;

/// What every node says of every group, once it is so.
fn wait_for(cluster: &Cluster, what: &str, holds: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let begin = Instant::now();
    loop {
        let statuses: Vec<Value> = (0..3).map(|at| cluster.status(at)).collect();
        let groups: Vec<Value> = statuses
            .iter()
            .flat_map(|status| status["groups"].as_array().cloned().unwrap_or_default())
            .collect();
        if groups.len() == 15 && holds(&groups) {
            return statuses;
        }
        assert!(begin.elapsed() < Duration::from_secs(15), "never {what}: {groups:#?}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

#[test]
fn the_node_of_the_lowest_rank_leads_every_group() {
    let mut cluster = Cluster::init(3, &["--election-timeout", "300ms"]);
    for at in [0, 2] {
        cluster.plans[at].flags.extend(["--rank", "3"].map(str::to_owned));
    }
    cluster.start_all();
    let statuses = wait_for(&cluster, "led by node 2", |groups| {
        groups.iter().all(|group| group["leader"] == 2)
    });
    assert_eq!(statuses[0]["rank"], 3);
    assert_eq!(statuses[1]["rank"], 0);
    // Where it is missing the others lead. What was on its way to it has an unknown outcome, and
    // closes the connection.
    cluster.kill(1);
    let begin = Instant::now();
    while !cluster.client(0).try_call(&["SET", "foo", "x"]).is_ok_and(|reply| reply == "OK") {
        assert!(begin.elapsed() < Duration::from_secs(15), "nobody else leads");
        std::thread::sleep(Duration::from_millis(30));
    }
}

#[test]
fn leaders_hold_leases_while_groups_are_busy_and_idle_groups_fall_quiet() {
    let flags = ["--election-timeout", "400ms", "--lease-drift", "50ms", "--quiet-after", "600ms"];
    let cluster = Cluster::start(3, &flags);
    for key in ["foo", "bar", "baz", "qux"] {
        assert_eq!(cluster.client(0).call(&["SET", key, "v"]), "OK");
    }
    let statuses = wait_for(&cluster, "leased", |groups| {
        let led = groups.iter().filter(|group| group["role"] == "leader");
        led.filter(|group| group["lease"] == true).count() > 0
    });
    assert_eq!(statuses[0]["lease_drift"], 50_000);
    wait_for(&cluster, "quiet", |groups| groups.iter().all(|group| group["quiet"] == true));
    let sent = |cluster: &Cluster| {
        (0..3).map(|at| cluster.metric(at, "refloat_messages_sent_total")).sum::<u64>()
    };
    let before = sent(&cluster);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(sent(&cluster) - before, 0, "messages between replicas of quiet groups");
    for (at, key) in ["foo", "bar", "baz", "qux"].iter().enumerate() {
        assert_eq!(cluster.client(at % 3).call(&["GET", key]), "v");
        assert_eq!(cluster.client(at % 3).call(&["SET", key, "w"]), "OK");
    }
    let text = run(&["status", "--admin-addr", &cluster.plans[0].admin]);
    assert!(text.status.success());
}
