//! Enumerates the crash images of the log store and prints how many there were.

use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::process::{cargo, run as run_program};

/// How many times deeper `--deep` goes without a number: minutes on one core.
const DEEP: u32 = 5;

/// `cargo xtask crash [--deep [N]]`: an optimised build of the store's crash tests, one at a time.
/// `--deep` tries N times the images, and the boot after a crash at N times the stops, so that it
/// takes about N times N as long; how far it is stands on standard error. It ends with the tests of
/// the WAL that are too long for every run, of which `ci` runs a slice.
pub fn run(args: &[String]) -> Result<()> {
    let deep = match args {
        [] => 1,
        [flag] if flag == "--deep" => DEEP,
        [flag, n] if flag == "--deep" => n
            .parse()
            .ok()
            .filter(|n| *n > 0)
            .with_context(|| format!("{n:?} is no number of times to go deeper"))?,
        _ => bail!("unknown arguments {args:?}, expected nothing or --deep [N]"),
    };
    let mut command = cargo(&["test", "--release", "-p", "refloat-log-store", "--test", "crash"]);
    command.args(["--", "--nocapture", "--test-threads", "1"]);
    if deep > 1 {
        command.env("REFLOAT_CRASH_DEEP", deep.to_string());
    }
    let since = Instant::now();
    let output = command.stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("{text}\nthe crash tests failed");
    }
    println!("{:<28} {:>8} {:>10} {:>9}", "workload", "stops", "images", "seconds");
    let rows: Vec<Row<'_>> = text.lines().filter_map(Row::parse).collect();
    for row in &rows {
        println!("{:<28} {:>8} {:>10} {:>9}", row.workload, row.stops, row.images, row.seconds);
    }
    let (stops, images): (u64, u64) =
        rows.iter().fold((0, 0), |sum, row| (sum.0 + row.stops, sum.1 + row.images));
    let seconds = format!("{:.1}", since.elapsed().as_secs_f64());
    println!("{:<28} {stops:>8} {images:>10} {seconds:>9}", "all, with the build");
    if rows.is_empty() {
        bail!("no crash test told its counts");
    }
    if deep > 1 { long_tests_of_the_wal() } else { Ok(()) }
}

/// Chains of short runs from tens of thousands of seeds, and damage to every byte in six ways.
fn long_tests_of_the_wal() -> Result<()> {
    let mut command = cargo(&["test", "--release", "-p", "refloat-wal", "--test", "scenarios"]);
    command.args(["--", "--ignored", "--nocapture"]);
    run_program(&mut command)
}

struct Row<'a> {
    workload: &'a str,
    stops: u64,
    images: u64,
    seconds: &'a str,
}

impl Row<'_> {
    /// `crash: append: 31 stops, 412 images, 0.8 s`, also behind the harness's own words.
    fn parse(line: &str) -> Option<Row<'_>> {
        let (workload, counts) = line.split_once("crash: ")?.1.rsplit_once(": ")?;
        let mut parts = counts.split(", ");
        let stops = parts.next()?.strip_suffix(" stops")?.parse().ok()?;
        let images = parts.next()?.strip_suffix(" images")?.parse().ok()?;
        Some(Row { workload, stops, images, seconds: parts.next()?.strip_suffix(" s")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_test_is_read_and_others_are_not() {
        let row = Row::parse("test x ... crash: roll-over and flush: 31 stops, 412 images, 0.8 s");
        let row = row.expect("a row");
        assert_eq!((row.workload, row.stops, row.images), ("roll-over and flush", 31, 412));
        assert_eq!(row.seconds, "0.8");
        assert!(Row::parse("test result: ok. 3 passed").is_none());
    }
}
