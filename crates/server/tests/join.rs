//! Real nodes that lose their disk: `join` and `serve`, and they are whole members again.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Client, Cluster, code_and_lines, picture, refused};

const SMALL: &[&str] = &["--wal-file-size", "1MiB", "--votes-file-size", "64KiB"];

/// A client that writes until it is told to stop; returns how many writes were acknowledged.
struct Load {
    stop: Arc<AtomicBool>,
    writer: std::thread::JoinHandle<Vec<u32>>,
}

impl Load {
    fn begin(cluster: &Cluster, at: &[usize]) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let (over, addresses) =
            (stop.clone(), at.iter().map(|at| cluster.plans[*at].client.clone()));
        let addresses: Vec<String> = addresses.collect();
        let writer = std::thread::spawn(move || {
            let (mut acknowledged, mut client) = (Vec::new(), None);
            for n in 0u32.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let address = &addresses[n as usize % addresses.len()];
                let connected = client.take().or_else(|| Client::try_connect(address).ok());
                let Some(mut connected) = connected else { continue };
                let set = ["SET", &format!("key-{n}"), &format!("value-{n}")];
                match connected.try_call(&set) {
                    Ok(reply) => {
                        if reply == "OK" {
                            acknowledged.push(n);
                        }
                        client = Some(connected);
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(20)),
                }
            }
            acknowledged
        });
        Load { stop, writer }
    }

    fn end(self) -> Vec<u32> {
        self.stop.store(true, Ordering::Relaxed);
        self.writer.join().unwrap()
    }
}

fn read_back(client: &mut Client, acknowledged: &[u32]) {
    for n in acknowledged {
        let reply = client.call(&["GET", &format!("key-{n}")]);
        assert_eq!(reply, format!("value-{n}"), "key {n} was acknowledged");
    }
}

/// The node that leads group 1.
fn leader(cluster: &Cluster) -> usize {
    let status = cluster.status(0);
    let groups = status["groups"].as_array().cloned().unwrap_or_default();
    let group = groups.iter().find(|group| group["group"] == 1).expect("group 1");
    group["leader"].as_u64().expect("led") as usize - 1
}

/// Under load one node stops, loses its disk, joins and serves; then another one dies.
fn a_wiped_node_returns(pick: fn(usize) -> usize) {
    let mut cluster = Cluster::start(3, SMALL);
    let victim = pick(leader(&cluster));
    let (other, third) = ((victim + 1) % 3, (victim + 2) % 3);
    let old = cluster.life(victim);
    let load = Load::begin(&cluster, &[other, third]);
    std::thread::sleep(Duration::from_millis(700));
    cluster.kill(victim);
    cluster.wipe(victim, other);
    cluster.start_one(victim);
    let life = cluster.life(victim);
    assert_ne!(life, old);
    cluster.wait_for_voter(other, victim, &life);
    std::thread::sleep(Duration::from_millis(300));
    let acknowledged = load.end();
    assert!(acknowledged.len() > 100, "{} writes", acknowledged.len());
    cluster.wait_for_voter(victim, victim, &life);
    cluster.kill(third);
    read_back(&mut cluster.client(victim), &acknowledged);
}

#[test]
fn s11_a_wiped_follower_is_a_voter_again_without_another_command() {
    a_wiped_node_returns(|leader| (leader + 1) % 3);
}

#[test]
fn a_wiped_leader_is_a_voter_again_without_another_command() {
    a_wiped_node_returns(|leader| leader);
}

#[test]
fn m08_an_empty_directory_is_not_started_and_init_on_a_known_node_is_explained() {
    let mut cluster = Cluster::start(3, SMALL);
    cluster.kill(2);
    let plan = &cluster.plans[2];
    std::fs::remove_dir_all(&plan.dir).unwrap();
    std::fs::create_dir(&plan.dir).unwrap();
    let dir = plan.dir.display().to_string();
    let (code, line) = refused(&["serve", "--data-dir", &dir, "--client-addr", &plan.client]);
    assert_eq!(code, 22, "{line}");
    assert!(picture(&plan.dir).is_empty(), "as it was");
    // `init` makes a directory, but not a member: it stays up and says what to do.
    let members: Vec<String> =
        cluster.plans.iter().map(|plan| format!("{}={}", plan.id, plan.peer)).collect();
    plan.init(&members, 4);
    let mut child = plan.spawn();
    let begin = Instant::now();
    loop {
        let text = cluster.status(2)["forming"].as_str().unwrap_or_default().to_owned();
        if text.contains("join") {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{text:?}; {}", cluster.plans[2].log());
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(cluster.client(0).say("SET still here"), "OK");
    // And it is taken back as soon as it joins.
    cluster.wipe(2, 0);
    cluster.start_one(2);
    cluster.wait_for_voter(0, 2, &cluster.life(2));
}

#[test]
fn m08_join_refuses_what_cannot_be_and_leaves_the_directory_as_it_was() {
    let mut cluster = Cluster::start(3, SMALL);
    let code_of = |cluster: &Cluster, name: &str, peer: &str| {
        let output = cluster.plans[2].join(name, peer);
        let (code, lines) = code_and_lines(&output);
        assert!(lines.len() == 1 && lines[0].starts_with("refloat: "), "{lines:?}");
        (code, lines[0].clone())
    };
    let peer = cluster.plans[0].peer.clone();
    let (code, line) = code_of(&cluster, "test", &peer);
    assert!(code == 20 && line.contains("already belongs to node 3"), "{code} {line}");
    let kept = cluster.plans[2].dir.with_extension("kept");
    std::fs::rename(&cluster.plans[2].dir, &kept).unwrap();
    let (code, line) = code_of(&cluster, "test", &peer);
    assert!(code == 20 && line.contains("node id in use"), "{code} {line}");
    std::fs::rename(&kept, &cluster.plans[2].dir).unwrap();
    cluster.kill(2);
    std::fs::remove_dir_all(&cluster.plans[2].dir).unwrap();
    let (code, line) = code_of(&cluster, "other", &peer);
    assert!(code == 20 && line.contains("wrong cluster"), "{code} {line}");
    let nobody = format!("127.0.0.1:{}", common::free_port());
    let (code, line) = code_of(&cluster, "test", &nobody);
    assert!(code == 23 && line.contains("nobody answers"), "{code} {line}");
    let (code, line) = code_of(&cluster, "test", &cluster.plans[0].client);
    assert_eq!(code, 23, "{line}");
    assert!(!cluster.plans[2].dir.exists(), "nothing was made");
    let stranger = common::Plan { id: 9, ..cluster.plans.pop().unwrap() };
    let (code, lines) = code_and_lines(&stranger.join("test", &peer));
    assert!(code == 20 && lines[0].contains("member add"), "{code} {lines:?}");
}

#[test]
fn m09_two_directories_swapped_between_their_places_are_refused_with_names() {
    let mut cluster = Cluster::init(3, SMALL);
    for plan in &mut cluster.plans {
        plan.flags.extend(["--peer-addr".to_owned(), plan.peer.clone()]);
    }
    cluster.start_all();
    assert_eq!(cluster.client(0).say("SET a 1"), "OK");
    cluster.kill(1);
    cluster.kill(2);
    let (one, two) = (cluster.plans[1].dir.clone(), cluster.plans[2].dir.clone());
    let aside = one.with_extension("aside");
    std::fs::rename(&one, &aside).unwrap();
    std::fs::rename(&two, &one).unwrap();
    std::fs::rename(&aside, &two).unwrap();
    let before = picture(&one);
    let dir = one.display().to_string();
    let peer = cluster.plans[1].peer.clone();
    let (code, line) = refused(&["serve", "--data-dir", &dir, "--peer-addr", &peer]);
    assert_eq!(code, 20, "{line}");
    assert!(line.contains("node 3") && line.contains("node 2"), "{line}");
    assert_eq!(picture(&one), before, "as it was");
    // Back in their places they serve.
    std::fs::rename(&one, &aside).unwrap();
    std::fs::rename(&two, &one).unwrap();
    std::fs::rename(&aside, &two).unwrap();
    cluster.start_one(1);
    cluster.start_one(2);
    assert_eq!(cluster.client(1).say("GET a"), "1");
}

#[test]
fn m09_an_old_copy_of_a_directory_is_refused_with_20() {
    let mut cluster = Cluster::start(3, SMALL);
    assert_eq!(cluster.client(0).say("SET a 1"), "OK");
    cluster.kill(2);
    let dir = cluster.plans[2].dir.clone();
    let copy = dir.with_extension("copy");
    let copied = std::process::Command::new("cp").arg("-r").arg(&dir).arg(&copy).status().unwrap();
    assert!(copied.success());
    cluster.start_one(2);
    assert_eq!(cluster.client(2).say("SET b 2"), "OK");
    cluster.kill(2);
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::rename(&copy, &dir).unwrap();
    let mut child = cluster.plans[2].spawn();
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{}", cluster.plans[2].log());
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(status.code(), Some(20), "{}", cluster.plans[2].log());
    assert!(cluster.plans[2].log().contains("old copy"));
    assert_eq!(cluster.client(0).say("GET b"), "2");
}

/// Waits until no group has a node as a member, as another one says.
fn wait_until_gone(cluster: &Cluster, at: usize, node: u64) {
    let begin = Instant::now();
    let left = |status: &serde_json::Value| {
        let groups = status["groups"].as_array().cloned().unwrap_or_default();
        let gone = |group: &serde_json::Value| {
            let mut members = group["members"].as_array().into_iter().flatten();
            members.all(|member| member["node"] != node)
        };
        groups.len() > 1 && groups.iter().all(gone)
    };
    while !left(&cluster.status(at)) {
        assert!(begin.elapsed() < Duration::from_secs(20), "{:#}", cluster.status(at));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn m02_of_two_nodes_one_leaves_and_the_other_serves_alone() {
    let mut cluster = Cluster::start(2, SMALL);
    assert_eq!(cluster.client(1).say("SET before 1"), "OK");
    let admin = &cluster.plans[0].admin;
    let output = common::run(&["member", "remove", "--admin-addr", admin, "--node", "2"]);
    assert_eq!(code_and_lines(&output), (0, vec![]));
    wait_until_gone(&cluster, 0, 2);
    cluster.kill(1);
    assert_eq!(cluster.client(0).say("SET after 2"), "OK");
    assert_eq!(cluster.client(0).say("GET before"), "1");
}

#[test]
fn a_new_node_is_added_joins_and_becomes_a_voter_and_another_one_leaves() {
    let mut cluster = Cluster::start(3, SMALL);
    for n in 0..50 {
        let set = ["SET".to_owned(), format!("key-{n}"), format!("value-{n}")];
        assert_eq!(cluster.client(0).call(&set.each_ref().map(String::as_str)), "OK");
    }
    let admin = cluster.plans[0].admin.clone();
    let member = |order: &str, node: &str| {
        let output = common::run(&["member", order, "--admin-addr", &admin, "--node", node]);
        code_and_lines(&output)
    };
    let address = || format!("127.0.0.1:{}", common::free_port());
    let plan = common::Plan {
        id: 4,
        dir: cluster.temp.path().join("n4"),
        client: address(),
        admin: address(),
        peer: address(),
        flags: cluster.plans[0].flags.clone(),
        launcher: Vec::new(),
    };
    let peer = cluster.plans[1].peer.clone();
    let join = |plan: &common::Plan| {
        let mut command = common::refloat();
        command.arg("join").arg("--data-dir").arg(&plan.dir).args(["--node", "4"]);
        command.args(["--cluster", "test", "--peer", &peer, "--peer-addr", &plan.peer]);
        code_and_lines(&command.output().unwrap())
    };
    let (code, lines) = join(&plan);
    assert!(code == 20 && lines[0].contains("member add"), "{code} {lines:?}");
    assert_eq!(member("add", "3").0, 20, "it belongs already");
    assert_eq!(member("promote", "3").0, 20, "it is no learner");
    assert_eq!(member("remove", "9").0, 20, "nobody");
    assert_eq!(member("add", "4"), (0, vec![]));
    assert_eq!(join(&plan), (0, vec![]));
    cluster.plans.push(plan);
    cluster.nodes.push(None);
    cluster.start_one(3);
    cluster.wait_for_voter(0, 3, &cluster.life(3));
    assert_eq!(member("remove", "1"), (0, vec![]));
    wait_until_gone(&cluster, 3, 1);
    cluster.kill(0);
    // Of the three that are left, two suffice.
    cluster.kill(1);
    let mut client = cluster.client(3);
    for n in 0..50 {
        assert_eq!(client.call(&["GET", &format!("key-{n}")]), format!("value-{n}"));
    }
    let status = cluster.status(3);
    let group = status["groups"].as_array().unwrap().iter().find(|g| g["group"] == 1).unwrap();
    let leader = group["leader"].as_u64().unwrap() as usize - 1;
    let other = if leader == 3 { 2 } else { 3 };
    let to = (other + 1).to_string();
    let args = ["--admin-addr", &cluster.plans[leader].admin, "--group", "1", "--json"];
    let output = common::run(&[&["transfer"], &args[..], &["--to", &to]].concat());
    assert_eq!(code_and_lines(&output).0, 0, "{output:?}");
    let status = cluster.status(leader);
    let group = status["groups"].as_array().unwrap().iter().find(|g| g["group"] == 1).unwrap();
    assert_eq!(group["leader"], other as u64 + 1, "it returns when the other one leads");
    let output = common::run(&[&["transfer"], &args[..], &["--to", &to]].concat());
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"kind\":\"not-leader\""));
    let output = common::run(&[&["snapshot"], &args[..]].concat());
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("\"done\":\"snapshot\""),
        "{output:?}"
    );
    let output = common::run(&["snapshot", "--admin-addr", &admin, "--group", "1"]);
    assert_eq!(code_and_lines(&output).0, 3, "that node is down");
}

#[test]
fn m22_a_group_of_two_that_lost_one_goes_on_by_recover_and_takes_it_back() {
    let mut cluster = Cluster::start(2, SMALL);
    for n in 0..50 {
        assert_eq!(cluster.client(0).say(&format!("SET key-{n} value-{n}")), "OK");
    }
    cluster.kill(1);
    cluster.wipe(1, 0);
    let mut wiped = cluster.plans[1].spawn();
    let begin = Instant::now();
    loop {
        let text = cluster.status(0).to_string();
        if text.contains("recover --accept-loss") {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{text}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let dir = cluster.plans[0].dir.display().to_string();
    let recover = |flags: &[&str]| {
        let args: Vec<&str> = ["recover", &dir].iter().chain(flags).chain(SMALL).copied().collect();
        let output = common::run(&args);
        let (code, lines) = code_and_lines(&output);
        (code, lines.join(" "), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(recover(&["--accept-loss"]).0, 20, "the node runs");
    cluster.kill(0);
    let before = picture(&cluster.plans[0].dir);
    let (code, _, text) = recover(&[]);
    assert!(code == 20 && text.contains("node 2: NOT LOST at"), "{code} {text}");
    let (code, line, _) = recover(&["--accept-loss"]);
    assert!(code == 20 && line.contains("node 2"), "it answers: {code} {line}");
    wiped.kill().unwrap();
    wiped.wait().unwrap();
    let (code, _, text) = recover(&[]);
    assert!(code == 0 && text.contains("nothing was done"), "{code} {text}");
    let says = |line: &str| text.lines().any(|other| other.starts_with(line));
    assert!(says("group 1: clean, voters 1, 2, ends with entry "), "{text}");
    assert!(says("node 2: nobody answers at 127.0.0.1:"), "{text}");
    assert_eq!(picture(&cluster.plans[0].dir), before, "a dry run changes nothing");
    let (code, line, text) = recover(&["--accept-loss"]);
    assert_eq!(code, 0, "{line}");
    assert!(text.contains("epoch 1"), "{text}");
    cluster.start_one(0);
    let mut client = cluster.client(0);
    for n in 0..50 {
        assert_eq!(client.say(&format!("GET key-{n}")), format!("value-{n}"));
    }
    assert_eq!(client.say("SET after 1"), "OK");
    cluster.wipe(1, 0);
    cluster.start_one(1);
    cluster.wait_for_voter(0, 1, &cluster.life(1));
    assert_eq!(cluster.client(1).say("GET after"), "1");
}

#[test]
fn m18_a_lost_majority_that_returns_after_recover_is_superseded() {
    let mut cluster = Cluster::start(3, SMALL);
    assert_eq!(cluster.client(0).say("SET a 1"), "OK");
    std::thread::sleep(Duration::from_millis(300));
    for at in 0..3 {
        cluster.kill(at);
    }
    let dir = cluster.plans[0].dir.display().to_string();
    let args = [&["recover", dir.as_str(), "--accept-loss", "--json"], SMALL].concat();
    let output = common::run(&args);
    assert_eq!(code_and_lines(&output).0, 0, "{output:?}");
    cluster.start_one(0);
    assert_eq!(cluster.client(0).say("GET a"), "1");
    assert_eq!(cluster.client(0).say("SET a 2"), "OK");
    // The other two are a majority of what was: they hear that it is over, and serve nothing.
    let mut back = [cluster.plans[1].spawn(), cluster.plans[2].spawn()];
    for at in [1, 2] {
        let begin = Instant::now();
        loop {
            let status = cluster.status(at);
            let text = status["forming"].as_str().unwrap_or_default().to_owned();
            if text.contains("superseded") {
                break;
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "{status:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
        let said = cluster.client(at).say("GET a");
        assert!(said.starts_with('-'), "{said}");
    }
    assert_eq!(cluster.client(0).say("GET a"), "2");
    for child in &mut back {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // They know it after a start too, and come back with nothing.
    for at in [1, 2] {
        cluster.wipe(at, 0);
        cluster.start_one(at);
        cluster.wait_for_voter(0, at, &cluster.life(at));
    }
    cluster.kill(0);
    assert_eq!(cluster.client(1).say("GET a"), "2");
}
