//! Real processes under load, with one fault after the other.

use anyhow::{Context, Result, bail};

use crate::process::{cargo, run as run_program};

/// `cargo xtask torture [--rounds N] [--seed N]`: the test `torture` of the server, optimised.
/// `--kills N` instead: the test of scenario W23 with so many kills, then everything read back.
pub fn run(args: &[String]) -> Result<()> {
    if let [flag, kills] = args
        && flag == "--kills"
    {
        let kills: u64 = kills.parse().with_context(|| format!("--kills {kills}: not a number"))?;
        let mut command = cargo(&["test", "--release", "-p", "refloat", "--test", "cluster"]);
        command.args(["w23_", "--", "--nocapture"]);
        return run_program(command.env("REFLOAT_KILLS", kills.to_string()));
    }
    let mut command = cargo(&["test", "--release", "-p", "refloat", "--test", "torture"]);
    command.args(["--", "--nocapture"]);
    let mut rounds = 100;
    let mut rest = args.iter();
    while let Some(flag) = rest.next() {
        let value = rest.next().with_context(|| format!("{flag} needs a number"))?;
        let value: u64 = value.parse().with_context(|| format!("{flag} {value}: not a number"))?;
        match flag.as_str() {
            "--rounds" => rounds = value,
            "--seed" => _ = command.env("REFLOAT_TORTURE_SEED", value.to_string()),
            other => bail!(
                "unknown argument {other:?}; `torture` takes --rounds N and --seed N, or --kills N"
            ),
        }
    }
    run_program(command.env("REFLOAT_TORTURE_ROUNDS", rounds.to_string()))
}
