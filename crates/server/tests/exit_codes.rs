//! How the program ends: one clear line and the right code, and a refused start changes nothing.

mod common;
#[path = "../../log-store/tests/newer/mod.rs"]
mod newer;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use common::{Cluster, Node, free_port, picture, refused, run};

#[test]
fn nonsense_flags_are_one_line_and_code_2() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().to_str().unwrap();
    for (args, word) in [
        (&["nonsense"][..], "nonsense"),
        (&[], "a command is needed"),
        (&["inspect"], "command"),
        (&["serve"], "--data-dir"),
        (&["serve", "--data-dir", dir, "--nonsense"], "--nonsense"),
        (&["serve", "--data-dir", dir, "--client-addr", "x"], "'x'"),
        (&["serve", "--data-dir", dir, "--election-timeout", "5"], "150ms"),
        (&["serve", "--data-dir", dir, "--election-timeout", "1ms"], "--election-timeout"),
        (&["serve", "--data-dir", dir, "--heartbeat", "400ms"], "--heartbeat"),
        (&["serve", "--data-dir", dir, "--lease-drift", "500ms"], "--lease-drift"),
        (&["serve", "--data-dir", dir, "--quiet-after", "1ms"], "--quiet-after"),
        (&["serve", "--data-dir", dir, "--snapshot-receptions", "0"], "--snapshot-receptions"),
        (&["serve", "--data-dir", dir, "--wal-file-size", "1X"], "256MiB"),
        (&["serve", "--data-dir", dir, "--wal-file-size", "8KiB"], "--wal-file-size"),
        (&["serve", "--data-dir", dir, "--max-value-size", "1GiB"], "--max-value-size"),
        (&["serve", "--data-dir", dir, "--client-password-file", "/no/such"], "/no/such"),
        (&["init", "--data-dir", dir, "--node", "1", "--cluster", "c"], "--member"),
        (&["init", "--data-dir", dir, "--node", "1", "--cluster", "c", "--member", "1"], "'1'"),
        (&["status", "--admin-addr", "nowhere"], "nowhere"),
        (&["demo", "--seconds", "0"], "0"),
    ] {
        let (code, line) = refused(args);
        assert_eq!(code, 2, "{args:?}: {line}");
        assert!(line.contains(word), "{args:?}: {line}");
    }
    assert!(picture(temp.path()).is_empty());
}

#[test]
fn init_checks_who_is_a_member() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("d");
    let dir = dir.to_str().unwrap();
    for (members, node, word) in [
        (&["2=127.0.0.1:1"][..], "1", "--node 1"),
        (&["1=127.0.0.1:1", "1=127.0.0.1:2"], "1", "twice"),
        (&["1=127.0.0.1:1", "2=127.0.0.1:1"], "1", "twice"),
        (&["0=127.0.0.1:1"], "0", "start at 1"),
    ] {
        let mut args = vec!["init", "--data-dir", dir, "--cluster", "c", "--node", node];
        members.iter().for_each(|member| args.extend(["--member", member]));
        let (code, line) = refused(&args);
        assert_eq!(code, 2, "{line}");
        assert!(line.contains(word), "{line}");
    }
}

#[test]
fn a_directory_without_identity_is_code_22_and_stays_as_it_is() {
    let temp = tempfile::tempdir().unwrap();
    let empty = temp.path().to_str().unwrap();
    let missing = temp.path().join("missing");
    for dir in [empty, missing.to_str().unwrap()] {
        for args in [&["serve", "--data-dir", dir][..], &["check", dir], &["inspect", "wal", dir]] {
            let (code, line) = refused(args);
            assert_eq!(code, 22, "{args:?}: {line}");
            assert!(line.contains(dir) && line.contains("init"), "{line}");
        }
    }
    assert!(picture(temp.path()).is_empty());
    assert!(!missing.exists());
}

#[test]
fn init_refuses_a_directory_that_is_somebodys_with_code_20() {
    let cluster = Cluster::init(1, &[]);
    let dir = cluster.plans[0].dir.to_str().unwrap();
    let before = picture(&cluster.plans[0].dir);
    let (code, line) = refused(&[
        "init",
        "--data-dir",
        dir,
        "--node",
        "1",
        "--cluster",
        "c",
        "--member",
        "1=127.0.0.1:1",
    ]);
    assert_eq!(code, 20, "{line}");
    assert!(line.contains("node 1") && line.contains("\"test\""), "{line}");
    assert_eq!(picture(&cluster.plans[0].dir), before);
}

#[test]
fn an_identity_that_cannot_be_proven_is_code_22() {
    let cluster = Cluster::init(1, &[]);
    let dir = &cluster.plans[0].dir;
    for name in ["identity.a", "identity.b"] {
        let mut bytes = std::fs::read(dir.join(name)).unwrap();
        bytes[20] ^= 1;
        std::fs::write(dir.join(name), bytes).unwrap();
    }
    let before = picture(dir);
    let (code, line) = refused(&["serve", "--data-dir", dir.to_str().unwrap()]);
    assert_eq!(code, 22, "{line}");
    assert!(line.contains("identity.a") && line.contains("checksum"), "{line}");
    assert_eq!(picture(dir), before);
}

#[test]
fn identity_copies_of_two_nodes_are_code_20() {
    let cluster = Cluster::init(2, &[]);
    let [one, two] = [&cluster.plans[0].dir, &cluster.plans[1].dir];
    std::fs::copy(two.join("identity.b"), one.join("identity.b")).unwrap();
    let before = picture(one);
    let (code, line) = refused(&["serve", "--data-dir", one.to_str().unwrap()]);
    assert_eq!(code, 20, "{line}");
    assert!(line.contains("node 1") && line.contains("node 2"), "{line}");
    assert_eq!(picture(one), before);
}

/// `serve` and `check` say which file it is, and leave every byte as it was.
#[test]
fn o06_a_newer_version_in_any_kind_of_file_is_code_20_and_the_directory_stays_as_it_is() {
    let mut cluster = Cluster::start(1, &["--wal-file-size", "64KiB", "--snapshot-entries", "60"]);
    for n in 0..300 {
        let value = "x".repeat(2000);
        assert_eq!(cluster.client(0).call(&["SET", &format!("key{}", n % 9), &value]), "OK");
    }
    cluster.kill(0);
    let dir = cluster.plans[0].dir.clone();
    let files: Vec<PathBuf> = picture(&dir).into_iter().map(|(path, _)| path).collect();
    let mut kinds = BTreeSet::new();
    for path in files.iter().filter(|path| path.is_file()) {
        let Some((kind, make_newer)) = newer::kind(&dir, path) else { continue };
        // One file of a kind; which one does not matter.
        if path.extension().is_some_and(|e| e == "tmp") || !kinds.insert(kind) {
            continue;
        }
        let whole = std::fs::read(path).unwrap();
        let mut bytes = whole.clone();
        make_newer(&mut bytes);
        std::fs::write(path, bytes).unwrap();
        let before = picture(&dir);
        let dir = dir.to_str().unwrap();
        for args in [&["serve", "--data-dir", dir][..], &["check", dir]] {
            let (code, line) = refused(args);
            assert_eq!(code, 20, "{kind}, {args:?}: {line}");
            let named = line.contains(path.to_str().unwrap()) && line.contains("version");
            assert!(named, "{kind}, {args:?}: {line}");
        }
        assert_eq!(picture(&cluster.plans[0].dir), before, "{kind}");
        std::fs::write(path, whole).unwrap();
    }
    assert_eq!(Vec::from_iter(kinds), ["identity", "log", "segment", "snapshot", "votes"]);
    cluster.start_one(0);
    assert!(cluster.client(0).call(&["GET", "key1"]).starts_with("xx"));
}

#[test]
fn a_used_port_is_code_23_and_the_directory_stays_as_it_is() {
    let cluster = Cluster::init(1, &[]);
    let plan = &cluster.plans[0];
    let dir = plan.dir.to_str().unwrap();
    let before = picture(&plan.dir);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for flag in ["--client-addr", "--admin-addr", "--peer-addr"] {
        let mut args = vec!["serve", "--data-dir", dir, flag, &taken];
        if flag != "--client-addr" {
            args.extend(["--client-addr", &plan.client]);
        }
        let (code, line) = refused(&args);
        assert_eq!(code, 23, "{flag}: {line}");
        assert!(line.contains("in use"), "{flag}: {line}");
        assert_eq!(picture(&plan.dir), before, "{flag}");
    }
}

#[test]
fn addresses_beyond_loopback_need_a_password_or_a_flag() {
    let cluster = Cluster::init(1, &[]);
    let dir = cluster.plans[0].dir.to_str().unwrap();
    let public = format!("0.0.0.0:{}", free_port());
    let (code, line) = refused(&["serve", "--data-dir", dir, "--client-addr", &public]);
    assert_eq!(code, 2, "{line}");
    assert!(line.contains("--client-password-file"), "{line}");
    let (code, line) = refused(&["serve", "--data-dir", dir, "--peer-addr", &public]);
    assert_eq!(code, 2, "{line}");
    assert!(line.contains("--peer-plain-tcp"), "{line}");
}

#[test]
fn a_directory_in_use_is_code_20_and_signals_end_a_node_with_code_0() {
    let mut cluster = Cluster::start(1, &[]);
    let dir = cluster.plans[0].dir.to_str().unwrap().to_owned();
    let (code, line) = refused(&["serve", "--data-dir", &dir, "--client-addr", "127.0.0.1:0"]);
    assert_eq!(code, 20, "{line}");
    assert!(line.contains("LOCK"), "{line}");

    for signal in ["TERM", "INT"] {
        let mut node = cluster.nodes[0].take().unwrap();
        assert_eq!(cluster.client(0).say("SET k v"), "OK");
        let ended = node.signal_and_wait(signal, Duration::from_secs(10));
        assert_eq!(ended, Some(Some(0)), "SIG{signal}; log:\n{}", cluster.plans[0].log());
        cluster.nodes[0] = Some(Node::when_ready(cluster.plans[0].spawn(), &cluster.plans[0]));
    }
    assert_eq!(cluster.client(0).say("GET k"), "v");
}

#[test]
fn a_node_without_its_peers_stops_in_order_too() {
    let mut cluster = Cluster::init(3, &[]);
    cluster.start_one(0);
    let mut node = cluster.nodes[0].take().unwrap();
    assert!(node.ready.contains("waiting: "), "{}", node.ready);
    let mut client = cluster.client(0);
    let reply = client.say("SET k v");
    assert!(reply.starts_with("-CLUSTERDOWN "), "{reply}");
    client.send_raw(&common::Client::encode(&["SET", "k", "v"]));
    let ended = node.signal_and_wait("TERM", Duration::from_secs(10));
    assert_eq!(ended, Some(Some(0)), "log:\n{}", cluster.plans[0].log());
}

#[test]
fn check_and_inspect_explain_a_directory_at_every_age() {
    let mut cluster = Cluster::init(1, &[]);
    let dir = cluster.plans[0].dir.to_str().unwrap().to_owned();
    let explain = |word: &str| {
        let before = picture(&cluster.plans[0].dir);
        for args in [&["check", &dir][..], &["check", &dir, "--json"]] {
            let output = run(args);
            assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(text.contains(word), "{args:?}: {text}");
        }
        let inspect = ["inspect", "wal", &dir, "--records", "--json"];
        let output = run(&inspect);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(picture(&cluster.plans[0].dir), before);
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(explain("node"), "");
    cluster.start_one(0);
    assert_eq!(cluster.client(0).say("SET k v"), "OK");
    cluster.kill(0);
    let explain = |word: &str| {
        let output = run(&["inspect", "wal", &dir, "--records"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(word), "{text}");
        let output = run(&["check", &dir]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(explain("append").contains("group 1"));
}

#[test]
fn a_reader_that_goes_away_is_no_internal_error() {
    let cluster = Cluster::init(1, &[]);
    let dir = cluster.plans[0].dir.to_str().unwrap();
    for args in [&["check", dir][..], &["check", dir, "--json"], &["inspect", "wal", dir]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = common::refloat().args(args).stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{args:?}: {output:?}");
    }
}

#[test]
fn status_without_a_node_is_code_3() {
    let address = format!("127.0.0.1:{}", free_port());
    let (code, line) = refused(&["status", "--admin-addr", &address]);
    assert_eq!(code, 3, "{line}");
    assert!(line.contains(&address), "{line}");
}

#[test]
fn help_and_version_are_no_failure() {
    for args in [&["--help"][..], &["--version"], &["help", "serve"], &["serve", "--help"]] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{args:?}");
    }
    let help = String::from_utf8(run(&["serve", "--help"]).stdout).unwrap();
    assert!(!help.contains("tear"), "hidden flags are hidden");
}
