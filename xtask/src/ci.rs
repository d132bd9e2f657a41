//! Everything that must hold before a change lands.
//!
//! All steps use one profile and one selection of features, so that nothing is compiled twice:
//! clippy and the documentation share the checked dependencies, the tests and the simulator the
//! built ones.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::process::{self, cargo, stream};
use crate::{adapters, layers, planted, scenarios, sim};

/// Targets whose tests run; doc tests have a step of their own.
const TEST_TARGETS: [&str; 5] = ["--workspace", "--lib", "--bins", "--tests", "--examples"];

pub fn run(args: &[String]) -> Result<()> {
    if let Some(unknown) = args.first() {
        bail!("unknown argument {unknown:?}; `ci` takes none");
    }
    let mut steps = Steps::default();
    let mut tests = TestLines::default();
    steps.run("fmt", || run_cargo(&["fmt", "--all", "--check"]));
    steps.run("layers", layers::check);
    steps.run("clippy", || {
        run_cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
    });
    steps.run("build", || {
        let mut args = vec!["test", "--no-run"];
        args.extend(TEST_TARGETS);
        run_cargo(&args)
    });
    steps.run("tests", || {
        let mut args = vec!["test", "--no-fail-fast"];
        args.extend(TEST_TARGETS);
        tests.run(&args)
    });
    steps.run("doc tests", || tests.run(&["test", "--workspace", "--doc", "--no-fail-fast"]));
    steps.run("docs", || {
        let mut command = cargo(&["doc", "--workspace", "--no-deps"]);
        process::run(command.env("RUSTDOCFLAGS", "-D warnings"))
    });
    steps.run("scenarios", || scenarios::check_page_and_results(&tests.results));
    steps.run("planted", || planted::run(&[]));
    steps.run("simulation", sim::slice);
    steps.run("adapters", || adapters::run(&[]));
    steps.run("deny", || {
        let installed = cargo(&["deny", "--version"]).output().is_ok_and(|o| o.status.success());
        if installed {
            return run_cargo(&["deny", "check"]);
        }
        println!("cargo-deny is not installed: skipped");
        Ok(())
    });
    steps.print();
    println!("{} passed, {} failed, {} skipped", tests.passed, tests.failed, tests.ignored);
    match steps.failed.as_slice() {
        [] => Ok(()),
        failed => bail!("failed: {}", failed.join(", ")),
    }
}

fn run_cargo(args: &[&str]) -> Result<()> {
    process::run(&mut cargo(args))
}

/// The steps so far: each runs even if an earlier one failed, so that one run shows all.
#[derive(Default)]
struct Steps {
    done: Vec<(&'static str, Duration, bool)>,
    failed: Vec<&'static str>,
}

impl Steps {
    fn run(&mut self, name: &'static str, step: impl FnOnce() -> Result<()>) {
        println!("==> {name}");
        let start = Instant::now();
        let result = step();
        let took = start.elapsed();
        if let Err(error) = &result {
            println!("==> {name} failed: {error:#}");
            self.failed.push(name);
        }
        println!("==> {name}: {:.1} s", took.as_secs_f64());
        self.done.push((name, took, result.is_ok()));
    }

    fn print(&self) {
        println!("\n{:<12} {:>8}  result", "step", "seconds");
        for (name, took, ok) in &self.done {
            let result = if *ok { "ok" } else { "FAILED" };
            println!("{name:<12} {:>8.1}  {result}", took.as_secs_f64());
        }
        let total: Duration = self.done.iter().map(|step| step.1).sum();
        println!("{:<12} {:>8.1}", "all", total.as_secs_f64());
    }
}

/// What the test runner said.
#[derive(Default)]
struct TestLines {
    passed: u64,
    failed: u64,
    ignored: u64,
    /// Name of each test function, and whether every test of that name passed.
    results: BTreeMap<String, bool>,
}

impl TestLines {
    fn run(&mut self, args: &[&str]) -> Result<()> {
        let ok = stream(&mut cargo(args), |line| self.see(line))?;
        if !ok {
            bail!("some tests failed, see above");
        }
        Ok(())
    }

    fn see(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += count(counts, " passed");
            self.failed += count(counts, " failed");
            self.ignored += count(counts, " ignored");
        } else if let Some((name, ok)) = scenarios::test_line(line) {
            *self.results.entry(name.to_owned()).or_insert(true) &= ok;
        }
    }
}

/// The number that stands before `what` in a closing line of the test runner.
fn count(counts: &str, what: &str) -> u64 {
    let Some(end) = counts.find(what) else { return 0 };
    let before = counts[..end].rsplit(|c: char| !c.is_ascii_digit()).next();
    before.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_summed() {
        let mut lines = TestLines::default();
        lines.see("test verdict::tests::w07_zeroed ... ok");
        lines.see("test w07_zeroed ... FAILED");
        lines
            .see("test result: FAILED. 12 passed; 1 failed; 3 ignored; 0 measured; 0 filtered out");
        lines.see("test result: ok. 30 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
        assert_eq!((lines.passed, lines.failed, lines.ignored), (42, 1, 3));
        assert_eq!(lines.results.get("w07_zeroed"), Some(&false), "one failure counts for all");
    }
}
