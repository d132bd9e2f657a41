//! Runs the cluster simulator.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::process::{cargo, dev_programs, root};

/// Seeds of the slice that `ci` runs.
const SLICE_SEEDS: &str = "100";

/// `cargo xtask sim …`: an optimised build, arguments passed on.
pub fn run(args: &[String]) -> Result<()> {
    let mut command = cargo(&["run", "--quiet", "--release", "-p", "refloat-sim", "--bin"]);
    run_program(command.arg("refloat-sim").arg("--").args(args))
}

/// The slice in `ci`: the program that the test step has built already.
pub fn slice() -> Result<()> {
    let program = dev_programs()?.join("refloat-sim");
    if !program.exists() {
        bail!("{} was not built by the test step", program.display());
    }
    let mut command = Command::new(program);
    run_program(command.args(["--seeds", SLICE_SEEDS]).current_dir(root()).stdin(Stdio::null()))
}

fn run_program(command: &mut Command) -> Result<()> {
    crate::process::run(command)
}
