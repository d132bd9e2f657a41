//! Runs the benchmark package, which lies outside the workspace so that nobody compiles the
//! peers by accident.

use anyhow::Result;

use crate::process::cargo;

/// `cargo xtask bench …`: builds the server (P5 and P8 need it) and the package, arguments passed on.
pub fn run(args: &[String]) -> Result<()> {
    crate::process::run(&mut cargo(&["build", "--quiet", "--release", "-p", "refloat"]))?;
    let mut command = cargo(&["run", "--quiet", "--release", "--manifest-path"]);
    crate::process::run(command.args(["bench-peers/Cargo.toml", "--"]).args(args))
}
