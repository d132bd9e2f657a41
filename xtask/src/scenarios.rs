//! The page `docs/scenarios.md`: which failure of the catalogue is shown by which test.
//!
//! A scenario is built when a test function bears its id: `fn w07_…` for W07. The page is written
//! from the sources, so it cannot claim a test that does not exist; `ci` also looks up that each
//! of these tests ran and passed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::catalogue::{AREAS, SCENARIOS};
use crate::process::{cargo, root, stream};

const PAGE: &str = "docs/scenarios.md";

/// Scenario id in lower case → the tests that bear it, as `path::function`.
type Tests = BTreeMap<String, Vec<String>>;

pub fn run(args: &[String]) -> Result<()> {
    let (mut check, mut run) = (false, false);
    for arg in args {
        match arg.as_str() {
            "--check" => check = true,
            "--run" => run = true,
            unknown => bail!("unknown argument {unknown:?}; known are --check and --run"),
        }
    }
    let tests = find_tests()?;
    let page = render(&tests);
    let path = root().join(PAGE);
    if check {
        compare(&path, &page)?;
    } else {
        fs::write(&path, &page).with_context(|| format!("write {PAGE}"))?;
    }
    println!("{PAGE}: {} of {} scenarios built", tests.len(), SCENARIOS.len());
    if run { run_tests(&tests) } else { Ok(()) }
}

/// For `ci`: the page is what the sources say, and every test that it names ran and passed.
pub fn check_page_and_results(results: &BTreeMap<String, bool>) -> Result<()> {
    let tests = find_tests()?;
    compare(&root().join(PAGE), &render(&tests))?;
    report(&tests, results)
}

/// Reads one line of the test runner: the bare name of the function, and whether it passed.
pub fn test_line(line: &str) -> Option<(&str, bool)> {
    let (path, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let path = path.strip_suffix(" - should panic").unwrap_or(path);
    let name = path.rsplit("::").next()?;
    match result {
        "ok" => Some((name, true)),
        "FAILED" => Some((name, false)),
        _ => None,
    }
}

fn run_tests(tests: &Tests) -> Result<()> {
    let mut command = cargo(&["test", "--workspace", "--lib", "--bins", "--tests"]);
    command.args(["--no-fail-fast", "--"]);
    command.args(tests.keys().map(|id| format!("{id}_")));
    let mut results = BTreeMap::new();
    stream(&mut command, |line| {
        if let Some((name, ok)) = test_line(line) {
            *results.entry(name.to_owned()).or_insert(true) &= ok;
        }
    })?;
    report(tests, &results)
}

/// Prints id → tests → result; fails if one failed or did not run.
fn report(tests: &Tests, results: &BTreeMap<String, bool>) -> Result<()> {
    let mut bad = Vec::new();
    for (id, paths) in tests {
        for path in paths {
            let name = path.rsplit("::").next().unwrap_or_default();
            let result = match results.get(name) {
                Some(true) => "ok",
                Some(false) => "FAILED",
                None => "did not run",
            };
            println!("{} {path}: {result}", id.to_uppercase());
            if result != "ok" {
                bad.push(format!("{path} {result}"));
            }
        }
    }
    match bad.as_slice() {
        [] => Ok(()),
        bad => bail!("scenario tests: {}", bad.join("; ")),
    }
}

fn compare(path: &Path, page: &str) -> Result<()> {
    let found = fs::read_to_string(path).unwrap_or_default();
    if found == page {
        return Ok(());
    }
    let line = found.lines().zip(page.lines()).position(|(a, b)| a != b);
    let line = line.unwrap_or_else(|| found.lines().count().min(page.lines().count())) + 1;
    bail!("{PAGE} is stale from line {line} on: run `cargo xtask scenarios`")
}

fn render(tests: &Tests) -> String {
    let mut page = String::from(
        "# Scenarios\n\n\
         Written by `cargo xtask scenarios`; do not edit.\n\
         Each line is a failure that systems of this field suffered.\n\
         It is built when a test bears its id, and open otherwise.\n",
    );
    for (letter, title) in AREAS {
        let _ = write!(page, "\n## {letter}: {title}\n\n");
        for (id, text) in SCENARIOS.iter().filter(|(id, _)| id.starts_with(letter)) {
            let state = match tests.get(&id.to_lowercase()) {
                Some(paths) => format!("built: {}", paths.join(", ")),
                None => "open".to_owned(),
            };
            let _ = writeln!(page, "- {id} {state}\n  {text}");
        }
    }
    page
}

fn find_tests() -> Result<Tests> {
    let mut files = Vec::new();
    for top in ["crates", "tests"] {
        rust_files(&root().join(top), &mut files)?;
    }
    files.sort();
    let mut tests = Tests::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let shown = file.strip_prefix(root()).unwrap_or(&file).display().to_string();
        for (id, name) in tests_in(&text) {
            tests.entry(id).or_default().push(format!("{shown}::{name}"));
        }
    }
    Ok(tests)
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// The tests of a source text that bear an id of the catalogue. A function counts only if the
/// lines between it and the item before it hold a test attribute and no `#[ignore]`.
fn tests_in(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let (mut is_test, mut ignored) = (false, false);
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if line.starts_with("#[ignore") {
            ignored = true;
        } else if let Some(name) = function_name(line) {
            let id = name.split('_').next().unwrap_or_default();
            let known = SCENARIOS.iter().any(|(known, _)| known.to_lowercase() == id);
            if is_test && !ignored && known && name.len() > id.len() + 1 {
                found.push((id.to_owned(), name.to_owned()));
            }
            (is_test, ignored) = (false, false);
        } else if !line.is_empty() && !line.starts_with("//") && !line.starts_with("#[") {
            (is_test, ignored) = (false, false);
        }
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub ").unwrap_or(line);
    let line = line.strip_prefix("async ").unwrap_or(line);
    let rest = line.strip_prefix("fn ")?;
    rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tests_that_run_count() {
        let text = "
            #[test]
            // the story
            #[should_panic]
            fn w07_sector() {}
            fn w08_helper() {}
            #[test]
            #[ignore = \"slow\"]
            fn w09_slow() {}
            #[test]
            fn w99_unknown() {}
            #[tokio::test]
            async fn s16_kill() {}
        ";
        let names: Vec<String> = tests_in(text).into_iter().map(|t| t.1).collect();
        assert_eq!(names, ["w07_sector", "s16_kill"]);
    }

    #[test]
    fn the_catalogue_names_each_id_once_and_in_order() {
        let ids: Vec<&str> = SCENARIOS.iter().map(|s| s.0).collect();
        for (letter, _) in AREAS {
            let numbers: Vec<usize> = ids
                .iter()
                .filter_map(|id| id.strip_prefix(letter))
                .map(|n| n.parse().expect("a number follows the letter"))
                .collect();
            assert!(numbers.iter().copied().eq(1..=numbers.len()), "{letter}: {numbers:?}");
        }
    }
}
