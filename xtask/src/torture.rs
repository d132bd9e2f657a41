//! Real processes under load, with one fault after the other.

use anyhow::{Context, Result, bail};

use crate::process::{cargo, run as run_program};

/// `cargo xtask torture [--rounds N] [--seed N]`: the test `torture` of the server, optimised.
pub fn run(args: &[String]) -> Result<()> {
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
            other => bail!("unknown argument {other:?}; `torture` takes --rounds N and --seed N"),
        }
    }
    run_program(command.env("REFLOAT_TORTURE_ROUNDS", rounds.to_string()))
}
