//! Feeds the decoders with bytes that nobody wrote, for longer than the ordinary tests do.

use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::process::{cargo, stream};

/// Packages whose tests named `fuzz_…` are targets; each test says its name in the output.
const PACKAGES: [&str; 8] = [
    "refloat-wal",
    "refloat-segment",
    "refloat-snapshot",
    "refloat-raft-core",
    "refloat-log-store",
    "refloat-net",
    "refloat-node",
    "refloat",
];

/// Seconds for each target where nothing is said.
const SECONDS: u64 = 10;

/// `cargo xtask fuzz [--seconds N] [--seed N] [TARGET]`: every target, or those whose name contains
/// the word, for so many seconds each. Without a seed each run draws another one; a target prints
/// its own, and what made it fail.
pub fn run(args: &[String]) -> Result<()> {
    let Wanted { seconds, seed, target } = parse(args)?;
    let filter = format!("fuzz_{}", target.replace('-', "_"));
    // Targets are unit tests, or lie in a test program of this name: others are not built. The dev
    // profile, whose sums and asserts are checked.
    let mut command = cargo(&["test", "--no-fail-fast", "--lib", "--bins", "--test", "fuzz"]);
    for package in PACKAGES {
        command.args(["-p", package]);
    }
    command.args(["--", "--nocapture", "--test-threads", "1", &filter]);
    command.env("REFLOAT_FUZZ_SECONDS", seconds.to_string());
    command.env("REFLOAT_FUZZ_SEED", seed.to_string());
    let since = Instant::now();
    println!("{:<16} {:>20} {:>11} {:>9} {:>9}", "target", "seed", "inputs", "outcomes", "seconds");
    let mut targets = 0;
    let ok = stream(&mut command, |line| {
        if let Some(row) = Row::parse(line) {
            targets += 1;
            let Row { target, seed, inputs, outcomes, seconds } = row;
            println!("{target:<16} {seed:>20} {inputs:>11} {outcomes:>9} {seconds:>9}");
        }
    })?;
    println!("{targets} targets in {:.1} s, with the build", since.elapsed().as_secs_f64());
    if !ok {
        bail!("a target failed, see above; its input can be fed alone: REFLOAT_FUZZ_INPUT=FILE");
    }
    if targets == 0 {
        bail!("no target is named {target:?}");
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    seconds: u64,
    seed: u64,
    target: String,
}

fn parse(args: &[String]) -> Result<Wanted> {
    let drawn = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(1, |t| t.as_nanos() as u64);
    let mut wanted = Wanted { seconds: SECONDS, seed: drawn, target: String::new() };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut number = || {
            let text = args.next().with_context(|| format!("{arg} needs a number"))?;
            text.parse().with_context(|| format!("{arg}: {text:?} is no number"))
        };
        match arg.as_str() {
            "--seconds" => wanted.seconds = number()?,
            "--seed" => wanted.seed = number()?,
            flag if flag.starts_with('-') => bail!("unknown argument {flag:?}"),
            target => wanted.target = target.to_owned(),
        }
    }
    Ok(wanted)
}

struct Row<'a> {
    target: &'a str,
    seed: &'a str,
    inputs: &'a str,
    outcomes: &'a str,
    seconds: &'a str,
}

impl Row<'_> {
    /// `fuzz: hello: seed 1, 3182 inputs, 13 outcomes, 0.0 s`, also behind the harness's own words.
    fn parse(line: &str) -> Option<Row<'_>> {
        let (target, counts) = line.split_once("fuzz: ")?.1.split_once(": ")?;
        let mut parts = counts.split(", ");
        Some(Row {
            target,
            seed: parts.next()?.strip_prefix("seed ")?,
            inputs: parts.next()?.strip_suffix(" inputs")?,
            outcomes: parts.next()?.strip_suffix(" outcomes")?,
            seconds: parts.next()?.strip_suffix(" s")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_target_is_read_and_others_are_not() {
        let line = "test fuzz_hello ... fuzz: hello: seed 1, 3182 inputs, 13 outcomes, 0.0 s";
        let row = Row::parse(line).expect("a row");
        assert_eq!((row.target, row.inputs, row.seconds), ("hello", "3182", "0.0"));
        assert!(Row::parse("fuzz: hello: a seed, 74 bytes:").is_none());
    }

    #[test]
    fn arguments_are_read_and_unknown_ones_refused() {
        let args = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let wanted = parse(&args("--seconds 60 --seed 7 log-file")).expect("known");
        assert_eq!(wanted, Wanted { seconds: 60, seed: 7, target: "log-file".into() });
        assert!(parse(&args("--seconds soon")).is_err());
        assert!(parse(&args("--minutes 3")).is_err());
    }
}
