//! A real directory of a stopped node, damaged by hand at random places: either the damage is
//! named, or everything that was acknowledged is there.

mod common;

use std::fs;
use std::path::Path;

use common::wounds::{Chance, copy, files, hurt};
use common::{Cluster, Node, Plan, code_and_lines, run};

const SMALL: &[&str] = &[
    "--wal-file-size",
    "256KiB",
    "--votes-file-size",
    "64KiB",
    "--snapshot-entries",
    "300",
    "--election-timeout",
    "150ms",
];
const KEYS: u64 = 1500;
const SEEDS: u64 = 36;

#[test]
fn a_directory_damaged_at_random_is_named_as_damaged_or_serves_everything_acknowledged() {
    let mut cluster = Cluster::start(1, SMALL);
    let mut client = cluster.client(0);
    let filling = "v".repeat(500);
    for n in 0..KEYS {
        assert_eq!(client.call(&["SET", &format!("key{n}"), &format!("{n} {filling}")]), "OK");
    }
    // An idle log seals itself: then what was acknowledged is proven durable by what follows.
    std::thread::sleep(std::time::Duration::from_millis(300));
    cluster.kill(0);
    let original = &cluster.plans[0];
    let (mut named, mut served) = (0, 0);
    for seed in 0..SEEDS {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let dir = cluster.temp.path().join(format!("seed{seed}"));
        copy(&original.dir, &dir);
        let wound = hurt(&files(&dir), &mut chance);
        let story = format!("seed {seed}: {wound}");
        let output = run(&["check", dir.to_str().unwrap()]);
        let (code, lines) = code_and_lines(&output);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let plan = Plan {
            id: 1,
            dir: dir.clone(),
            client: original.client.clone(),
            peer: String::new(),
            admin: original.admin.clone(),
            flags: original.flags.clone(),
            launcher: Vec::new(),
        };
        match code {
            0 => {
                assert!(lines.is_empty(), "{story}: {lines:?}");
                must_serve_everything(&plan, &story);
                served += 1;
            }
            10 | 20 | 22 => {
                assert_eq!(lines.len(), 1, "{story}: {lines:?}");
                let (file, _) = wound.split_once(": ").unwrap();
                let file = Path::new(file).file_name().unwrap().to_str().unwrap();
                let told = format!("{text}{}", lines[0]);
                assert!(told.contains(file), "{story}: {told}");
                named += 1;
            }
            _ => panic!("{story}: code {code}: {lines:?}\n{text}"),
        }
        fs::remove_dir_all(&dir).unwrap();
    }
    println!("{named} named, {served} served everything");
    assert!(named > 5 && served > 5, "{named} named, {served} served");
}

fn must_serve_everything(plan: &Plan, story: &str) {
    let node = Node::when_ready(plan.spawn(), plan);
    let mut client = common::Client::connect(&plan.client);
    for n in 0..KEYS {
        let found = client.call(&["GET", &format!("key{n}")]);
        assert!(found.starts_with(&format!("{n} v")), "{story}: key{n} is {found}\n{}", plan.log());
    }
    node.kill();
}
