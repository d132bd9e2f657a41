//! Runs the examples that bind refloat to other libraries. They lie outside the workspace, with
//! lock files of their own, so that those libraries weigh on nobody.

use anyhow::{Context, Result, bail};

use crate::process::{self, cargo, dev_programs};

const MANIFEST: &str = "examples/openraft-store/Cargo.toml";

/// `cargo xtask adapters`: form and tests of each example, in the target folder of this build.
pub fn run(args: &[String]) -> Result<()> {
    if let Some(unknown) = args.first() {
        bail!("unknown argument {unknown:?}; `adapters` takes none");
    }
    process::run(&mut cargo(&["fmt", "--check", "--manifest-path", MANIFEST]))?;
    let programs = dev_programs()?;
    let target = programs.parent().context("the folder of programs lies in no target folder")?;
    let mut test = cargo(&["test", "--locked", "--manifest-path", MANIFEST, "--target-dir"]);
    process::run(test.arg(target))
}
