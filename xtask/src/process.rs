//! Running other programs, and finding the project's own places.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

/// The top folder of the checkout from which `cargo xtask` was called.
///
/// Cargo names it when it starts this program. What was compiled in is only for a call without
/// cargo: with a target folder shared by two checkouts it may be the other one.
pub fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let here = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let here = here.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
        here.parent().expect("xtask lies one level below the top").to_path_buf()
    })
}

/// A `cargo` call in the top folder, without standard input.
pub fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root()).stdin(Stdio::null());
    // What `cargo run` tells xtask about xtask itself must not reach the builds that it starts.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text == "CARGO_MANIFEST_DIR" {
            command.env_remove(name);
        }
    }
    command
}

/// The folder in which dev-profile programs of this build lie: the one this program runs from.
pub fn dev_programs() -> Result<PathBuf> {
    let me = std::env::current_exe().context("find the folder of this program")?;
    Ok(me.parent().context("this program has no folder")?.to_path_buf())
}

/// Runs to the end with output passed through; an exit code other than 0 is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let line = describe(command);
    let status = command.status().with_context(|| format!("start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(())
}

/// Runs to the end and returns standard output; standard error is passed through.
pub fn output(command: &mut Command) -> Result<String> {
    let line = describe(command);
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` ended with {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("read the output of `{line}`"))
}

/// Runs to the end, passing standard output through and showing each line to `see`.
/// Returns whether the exit code was 0.
pub fn stream(command: &mut Command, mut see: impl FnMut(&str)) -> Result<bool> {
    let line = describe(command);
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("start `{line}`"))?;
    let stdout = child.stdout.take().context("the child has no standard output")?;
    for text in BufReader::new(stdout).lines() {
        let text = text.with_context(|| format!("read the output of `{line}`"))?;
        println!("{text}");
        see(&text);
    }
    Ok(child.wait().with_context(|| format!("wait for `{line}`"))?.success())
}

fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let mut line = program.to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}
