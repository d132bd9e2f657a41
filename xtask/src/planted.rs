//! Plants one defect at a time and runs the test that must notice it.
//!
//! The tests are those of the ordinary build: the package `refloat-tests` turns the feature on for
//! the whole workspace, and the variable chooses a defect when a test program starts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use refloat_planted::{Catcher, DEFECTS, Planted, VARIABLE};

use crate::process::{cargo, output};

/// A test that hangs over a defect has noticed it too.
const PATIENCE: Duration = Duration::from_secs(180);

/// `cargo xtask planted [NAME …]`: all defects, or the named ones.
pub fn run(names: &[String]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| DEFECTS.iter().all(|row| row.name != **name)) {
        let known: Vec<&str> = DEFECTS.iter().map(|row| row.name).collect();
        bail!("no defect is called {unknown:?}; there are {}", known.join(", "));
    }
    let programs = Programs::build()?;
    let mut missed = Vec::new();
    println!("{:<34} {:<8} {:>7}  test", "defect", "result", "seconds");
    for row in DEFECTS.iter().filter(|row| names.is_empty() || names.iter().any(|n| n == row.name))
    {
        let start = Instant::now();
        let caught = programs.catches(row)?;
        let Catcher { package, target, test } = row.catcher;
        let (word, seconds) = (if caught { "caught" } else { "MISSED" }, start.elapsed());
        println!(
            "{:<34} {word:<8} {:>7.1}  {package} {target} {test}",
            row.name,
            seconds.as_secs_f64()
        );
        if !caught {
            missed.push(row.name);
        }
    }
    if !missed.is_empty() {
        bail!("planted and not noticed: {}", missed.join(", "));
    }
    Ok(())
}

/// The test programs of the workspace, by package and target.
struct Programs(BTreeMap<(String, String), (PathBuf, PathBuf)>);

impl Programs {
    fn build() -> Result<Programs> {
        let mut build = cargo(&["test", "--quiet", "--workspace", "--lib", "--bins", "--tests"]);
        let text = output(build.args(["--examples", "--no-run", "--message-format", "json"]))?;
        let mut programs = BTreeMap::new();
        for line in text.lines() {
            let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            let Some(program) = message["executable"].as_str() else { continue };
            let target = &message["target"];
            let manifest = PathBuf::from(message["manifest_path"].as_str().unwrap_or_default());
            let folder = manifest.parent().context("a manifest lies in a folder")?.to_path_buf();
            let id = message["package_id"].as_str().unwrap_or_default();
            let kind = target["kind"][0].as_str().unwrap_or_default();
            let name = match kind {
                "test" => target["name"].as_str().unwrap_or_default(),
                kind => kind,
            };
            let package = package_of(id, &folder);
            programs.insert((package, name.to_owned()), (PathBuf::from(program), folder));
        }
        Ok(Programs(programs))
    }

    /// Whether the defect's test fails, or hangs, when it is planted.
    fn catches(&self, row: &Planted) -> Result<bool> {
        let Catcher { package, target, test } = row.catcher;
        let key = (package.to_owned(), target.to_owned());
        let (program, folder) =
            self.0.get(&key).with_context(|| format!("{package} has no test target {target}"))?;
        let listed = output(Command::new(program).args([test, "--list"]).current_dir(folder))?;
        if !listed.lines().any(|line| line.ends_with(": test")) {
            bail!("{}: no test of {package} {target} is called {test:?}", row.name);
        }
        let mut child = Command::new(program)
            .arg(test)
            .current_dir(folder)
            .env(VARIABLE, row.name)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait().context("wait for a test")? {
                return Ok(!status.success());
            }
            if start.elapsed() > PATIENCE {
                child.kill().context("stop a test that hangs")?;
                child.wait().context("wait for a test")?;
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The name in a package id: behind `#`, or the last folder where that is only a version.
fn package_of(id: &str, folder: &std::path::Path) -> String {
    let behind = id.rsplit_once('#').map_or(id, |(_, behind)| behind);
    match behind.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::root;

    #[test]
    fn a_package_is_found_in_both_forms_of_its_id() {
        let folder = PathBuf::from("/x/tests");
        assert_eq!(
            package_of("path+file:///x/crates/wal#refloat-wal@0.1.0", &folder),
            "refloat-wal"
        );
        assert_eq!(package_of("path+file:///x/tests#0.1.0", &folder), "tests");
    }

    #[test]
    fn the_page_names_every_defect_and_its_test() {
        let page = std::fs::read_to_string(root().join("docs/testing.md")).expect("the page");
        for row in DEFECTS {
            let line = format!("| `{}` | {} |", row.name, row.what);
            assert!(page.contains(&line), "docs/testing.md lacks {line}");
        }
    }
}
