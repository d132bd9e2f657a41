//! Runs the model checker over the consensus core and prints how far it came.

use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::process::cargo;

/// Seconds for each check of a deep run, where nothing is said: a quarter of an hour for all.
const SECONDS: u64 = 40;

/// `cargo xtask model [--deep [SECONDS]]`: an optimised build of the core's model checks, one at a
/// time. `--deep` goes three steps further in each, or as far as so many seconds allow.
pub fn run(args: &[String]) -> Result<()> {
    let deep = match args {
        [] => None,
        [flag] if flag == "--deep" => Some(SECONDS),
        [flag, seconds] if flag == "--deep" => {
            Some(seconds.parse().with_context(|| format!("{seconds:?} is no number of seconds"))?)
        }
        _ => bail!("unknown arguments {args:?}, expected nothing or --deep [SECONDS]"),
    };
    let mut command = cargo(&["test", "--release", "-p", "refloat-raft-core", "--test", "model"]);
    command.args(["--", "--nocapture", "--test-threads", "1"]);
    if let Some(seconds) = deep {
        command.env("REFLOAT_MODEL_DEEP", seconds.to_string());
    }
    let since = Instant::now();
    let output = command.stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("{text}\nthe model checks failed");
    }
    println!("{:<28} {:>6} {:>10} {:>9}", "check", "steps", "states", "seconds");
    let rows: Vec<Row<'_>> = text.lines().filter_map(Row::parse).collect();
    for row in &rows {
        let Row { check, steps, states, seconds } = row;
        println!("{check:<28} {steps:>6} {states:>10} {seconds:>9}");
    }
    let states: u64 = rows.iter().map(|row| row.states).sum();
    let seconds = format!("{:.1}", since.elapsed().as_secs_f64());
    println!("{:<28} {:>6} {states:>10} {seconds:>9}", "all, with the build", "");
    if rows.is_empty() {
        bail!("no model check told its counts");
    }
    Ok(())
}

struct Row<'a> {
    check: &'a str,
    steps: u64,
    states: u64,
    seconds: &'a str,
}

impl Row<'_> {
    /// `model: a wiped member: 9 steps, 38326 states, 0.9 s`, also behind the harness's own words,
    /// and with a remark that the time was not enough for all.
    fn parse(line: &str) -> Option<Row<'_>> {
        let (check, counts) = line.split_once("model: ")?.1.rsplit_once(": ")?;
        let mut parts = counts.splitn(3, ", ");
        let steps = parts.next()?.strip_suffix(" steps")?.parse().ok()?;
        let states = parts.next()?.strip_suffix(" states")?.parse().ok()?;
        Some(Row { check, steps, states, seconds: parts.next()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_check_is_read_and_others_are_not() {
        let row = Row::parse("test x ... model: a wiped member: 9 steps, 38326 states, 0.9 s");
        let row = row.expect("a row");
        assert_eq!((row.check, row.steps, row.states), ("a wiped member", 9, 38326));
        let row = Row::parse("model: all: 7 steps, 2 states, 120.3 s, not all").expect("a row");
        assert_eq!(row.seconds, "120.3 s, not all");
        assert!(Row::parse("test result: ok. 3 passed").is_none());
    }
}
