//! Nodes that do not hear each other, while clients reach all of them.

use std::time::{Duration, Instant};

use crate::common::Cluster;
use crate::hosts::{Hosts, address, inside_a_network_of_our_own};
use crate::recording::{Draw, Recording};
use crate::{assert_linearizable, seconds};

const PASSWORD: &str = "partitions";

/// Three nodes, each on a host of its own.
fn cluster(hosts: &Hosts) -> Cluster {
    let mut cluster = Cluster::plan(3, &["--snapshot-entries", "400", "--peer-plain-tcp"]);
    let file = cluster.temp.path().join("password");
    std::fs::write(&file, PASSWORD).unwrap();
    for (at, plan) in cluster.plans.iter_mut().enumerate() {
        plan.launcher = hosts.launcher(at);
        let on = |port: u16| format!("{}:{port}", address(at));
        (plan.peer, plan.client, plan.admin) = (on(7100), on(6379), on(8371));
        let password = ["--client-password-file", file.to_str().unwrap()];
        plan.flags.extend(password.map(str::to_owned));
    }
    cluster.init_all();
    cluster.start_all();
    cluster
}

/// What vanishes, as pairs of who sends and who should hear it.
fn shape(draw: &mut Draw) -> (&'static str, Vec<(usize, usize)>) {
    let one = draw.below(3) as usize;
    let (two, three) = ((one + 1) % 3, (one + 2) % 3);
    match draw.below(4) {
        0 => ("alone", vec![(one, two), (one, three), (two, one), (three, one)]),
        1 => ("deaf", vec![(two, one), (three, one)]),
        2 => ("mute", vec![(one, two), (one, three)]),
        _ => ("two apart", vec![(one, two), (two, one)]),
    }
}

/// Cuts nodes off from each other; in some of the cuts one is killed and comes back.
fn disturb(hosts: &Hosts, cluster: &mut Cluster, time: Duration) -> String {
    let (end, mut draw) = (Instant::now() + time, Draw(11));
    let mut seen: Vec<&str> = Vec::new();
    while Instant::now() < end {
        let (name, cuts) = shape(&mut draw);
        cuts.iter().for_each(|(from, to)| hosts.cut(*from, *to));
        std::thread::sleep(Duration::from_millis(300 + draw.below(2_200)));
        if draw.below(4) == 0 {
            let at = draw.below(3) as usize;
            cluster.kill(at);
            cluster.start_one(at);
            std::thread::sleep(Duration::from_millis(500));
            seen.push("and a kill");
        }
        cuts.iter().for_each(|(from, to)| hosts.join(*from, *to));
        std::thread::sleep(Duration::from_millis(draw.below(1_200)));
        seen.push(name);
    }
    format!("partitions: {}", seen.join(", "))
}

#[test]
fn what_clients_of_nodes_that_do_not_hear_each_other_saw_is_linearizable() {
    inside_a_network_of_our_own("partitions::with_nodes_on_hosts_of_their_own");
}

#[test]
#[ignore = "runs in a network namespace, by the test above"]
fn with_nodes_on_hosts_of_their_own() {
    let hosts = Hosts::new(3);
    let mut cluster = cluster(&hosts);
    let recording = Recording::start(&cluster, Some(PASSWORD));
    let disturbed = disturb(&hosts, &mut cluster, Duration::from_secs(seconds()));
    // Healed, every node serves again by itself.
    for plan in &cluster.plans {
        let begin = Instant::now();
        let serves = |key: &str| {
            let mut client = crate::recording::connect(&plan.client, Some(PASSWORD)).ok()?;
            let reply = client.try_call(&["SET", key, "1"]).ok()?;
            (reply == "OK").then_some(())
        };
        while serves(&format!("healed-{}", plan.id)).is_none() {
            assert!(begin.elapsed() < Duration::from_secs(10), "{disturbed}:\n{}", plan.log());
        }
    }
    assert_linearizable(recording, &disturbed);
    assert!(["alone", "mute", "deaf"].iter().any(|shape| disturbed.contains(shape)), "{disturbed}");
}
