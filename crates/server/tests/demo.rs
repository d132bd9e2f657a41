//! The demonstration, short, as a program or a person without a terminal would run it.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::refloat;

#[test]
fn the_demo_loses_nothing_and_ends_with_its_summary() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("demo");
    let output = refloat()
        .args(["demo", "--seconds", "5", "--seed", "7", "--dir"])
        .arg(&dir)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(text.contains("kill -9 of node"), "{text}");
    assert!(text.contains("groups clean"), "a boot report in short: {text}");
    assert!(text.contains("in a new life"), "a wiped node came back: {text}");
    let control = |c: char| c.is_control() && c != '\n';
    assert!(!text.contains(control) && !errors.contains(control), "{text:?}");

    let last = text.lines().next_back().unwrap();
    let fields: Vec<(&str, u64)> = last
        .split(' ')
        .map(|field| field.split_once('=').unwrap())
        .map(|(name, number)| (name, number.parse().unwrap()))
        .collect();
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    let expected = [
        "acknowledged",
        "verified",
        "missing",
        "restarts",
        "longest_pause_ms",
        "writes_per_s",
        "syncs_per_s",
    ];
    assert_eq!(names, expected);
    let number = |name| fields.iter().find(|(other, _)| *other == name).unwrap().1;
    assert!(number("acknowledged") > 0);
    assert_eq!(number("verified"), number("acknowledged"));
    assert_eq!(number("missing"), 0);
    assert!(number("restarts") > 0);
    assert!(number("syncs_per_s") > 0);
}

#[test]
fn an_interrupted_demo_leaves_no_process_behind() {
    for signal in ["INT", "KILL"] {
        let mut demo = refloat()
            .args(["demo", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut errors = BufReader::new(demo.stderr.take().unwrap());
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        let dir = line.trim_end().rsplit(' ').next().unwrap().to_owned();
        errors.read_line(&mut line).unwrap();
        assert!(line.contains("three nodes formed"), "{line}");
        assert_eq!(processes_with(&dir), 3);

        let pid = demo.id().to_string();
        Command::new("kill").args(["-s", signal, &pid]).status().unwrap();
        let status = demo.wait().unwrap();
        assert_ne!(status.code(), Some(0));
        let give_up = Instant::now() + Duration::from_secs(5);
        while processes_with(&dir) > 0 {
            assert!(Instant::now() < give_up, "SIG{signal} left processes behind");
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut rest = String::new();
        errors.read_to_string(&mut rest).unwrap();
        // Nobody could tidy up behind SIGKILL.
        let is_left = std::fs::remove_dir_all(dir).is_ok();
        assert_eq!(is_left, signal == "KILL");
    }
}

/// Processes with this text in their command line.
fn processes_with(text: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(text)).count()
}
