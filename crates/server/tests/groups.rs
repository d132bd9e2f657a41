//! A group is deleted and created by order, while the others go on.

mod common;

use std::time::{Duration, Instant};

use common::{Client, Cluster, run};
use serde_json::{Value, json};

fn order(cluster: &Cluster, at: usize, words: &[&str]) -> (Option<i32>, String, String) {
    let mut args = vec!["group", words[0], "--admin-addr", &cluster.plans[at].admin];
    args.extend(&words[1..]);
    let output = run(&args);
    let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The groups that a node runs.
fn groups(cluster: &Cluster, at: usize) -> Vec<u64> {
    let status = cluster.status(at);
    let ids = status["groups"].as_array().into_iter().flatten().map(|g| g["group"].as_u64());
    ids.flatten().collect()
}

fn wait_for_groups(cluster: &Cluster, wanted: &[u64]) {
    let begin = Instant::now();
    while (0..3).any(|at| groups(cluster, at) != wanted) {
        assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", cluster.status(0));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_group_is_deleted_through_any_node_once_the_loss_is_accepted_and_comes_back_empty() {
    let mut cluster = Cluster::start(3, &[]);
    let mut client = cluster.client(0);
    let keys: Vec<String> = (0..40).map(|n| format!("key{n}")).collect();
    keys.iter().for_each(|key| assert_eq!(client.call(&["SET", key, "v"]), "OK"));

    let (code, out, error) = order(&cluster, 0, &["delete", "--group", "2"]);
    assert_eq!((code, out.as_str()), (Some(2), ""), "{error}");
    assert!(error.contains("all keys of group 2 would be lost") && error.contains("--accept-loss"));
    assert_eq!(client.say("DBSIZE"), ":40", "nothing was done");
    let (code, _, error) = order(&cluster, 0, &["delete", "--group", "0", "--accept-loss"]);
    assert!(code == Some(20) && error.contains("group 0 cannot be deleted"), "{code:?} {error}");

    let leader = cluster.status(0)["groups"][0]["leader"].as_u64().unwrap() as usize;
    let follower = leader % 3;
    let words = ["delete", "--group", "2", "--accept-loss", "--json"];
    let (code, out, error) = order(&cluster, follower, &words);
    assert_eq!(code, Some(0), "{error}");
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(said, json!({ "done": "delete", "group": 2, "existed": true }));
    wait_for_groups(&cluster, &[0, 1, 3, 4]);
    let (code, out, _) = order(&cluster, leader - 1, &words[..4]);
    assert_eq!((code, out.as_str()), (Some(0), "group 2: there is none"), "again is fine");

    let gets: Vec<u8> = keys.iter().flat_map(|key| Client::encode(&["GET", key])).collect();
    client.send_raw(&gets);
    let is_left = |_: &&String| client.reply().unwrap() == "v";
    let left: Vec<&String> = keys.iter().filter(is_left).collect();
    assert!((1..40).contains(&left.len()), "{} of 40 are left", left.len());
    let lost = keys.iter().find(|key| !left.contains(key)).unwrap();
    assert!(client.call(&["SET", lost, "v"]).starts_with("-CLUSTERDOWN"));

    let (code, _, error) = order(&cluster, 1, &["create", "--group", "5"]);
    assert!(code == Some(20) && error.contains("over groups 1 to 4"), "{code:?} {error}");
    for _ in 0..2 {
        let (code, out, error) = order(&cluster, follower, &["create", "--group", "2"]);
        assert_eq!(code, Some(0), "{error}");
        assert_eq!(out, "group 2: it exists, empty if it is new");
    }
    wait_for_groups(&cluster, &[0, 1, 2, 3, 4]);
    assert_eq!(client.say("DBSIZE"), format!(":{}", left.len()));
    assert_eq!(client.call(&["GET", lost]), "nil");
    assert_eq!(client.call(&["SET", lost, "new"]), "OK");

    // What a node did not hear of it does when it is back.
    cluster.kill(2);
    assert_eq!(order(&cluster, 0, &["delete", "--group", "3", "--accept-loss"]).0, Some(0));
    cluster.start_one(2);
    wait_for_groups(&cluster, &[0, 1, 2, 4]);
    assert_eq!(cluster.client(2).call(&["GET", lost]), "new");
    let output =
        run(&["group", "delete", "--admin-addr", "127.0.0.1:1", "--group", "1", "--accept-loss"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}
