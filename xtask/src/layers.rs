//! Who may know whom, checked.
//!
//! The table is the one of `docs/architecture.md`: a crate may use what stands beside it and
//! nothing else of the workspace, in tests too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, bail};

use crate::process::{cargo, output, root};

/// One crate of the workspace and what it may know.
struct Layer {
    /// Folder under the top.
    folder: &'static str,
    package: &'static str,
    /// Folders (under `crates/`) of the crates that it may depend on.
    may_use: &'static [&'static str],
    /// Must stand without the standard library.
    no_std: bool,
    /// Must not bring a runtime, a clock or chance into the tree of its normal dependencies.
    light: bool,
    /// Is stepped from outside: its `clippy.toml` bans files, clocks, threads.
    steppable: bool,
}

const LOWER_THAN_NODE: &[&str] = &[
    "planted",
    "types",
    "vfs",
    "wal",
    "memtable",
    "segment",
    "snapshot",
    "raft-core",
    "log-store",
    "net",
];
const LOWER_THAN_TOP: &[&str] = &[
    "planted",
    "types",
    "vfs",
    "wal",
    "memtable",
    "segment",
    "snapshot",
    "raft-core",
    "log-store",
    "net",
    "node",
];
const ALL: &[&str] = &[
    "planted",
    "types",
    "vfs",
    "wal",
    "memtable",
    "segment",
    "snapshot",
    "raft-core",
    "log-store",
    "net",
    "node",
    "sim",
    "server",
];

#[rustfmt::skip]
const LAYERS: [Layer; 16] = [
    Layer { folder: "crates/fuzz", package: "refloat-fuzz", may_use: &[], no_std: false, light: true, steppable: false },
    Layer { folder: "crates/planted", package: "refloat-planted", may_use: &[], no_std: false, light: true, steppable: false },
    Layer { folder: "crates/types", package: "refloat-types", may_use: &[], no_std: true, light: true, steppable: true },
    Layer { folder: "crates/vfs", package: "refloat-vfs", may_use: &["planted"], no_std: false, light: true, steppable: false },
    Layer { folder: "crates/wal", package: "refloat-wal", may_use: &["planted", "types", "vfs"], no_std: false, light: true, steppable: true },
    Layer { folder: "crates/memtable", package: "refloat-memtable", may_use: &["planted", "types"], no_std: true, light: true, steppable: true },
    Layer { folder: "crates/segment", package: "refloat-segment", may_use: &["planted", "types", "vfs"], no_std: false, light: true, steppable: true },
    Layer { folder: "crates/snapshot", package: "refloat-snapshot", may_use: &["planted", "types", "vfs"], no_std: false, light: true, steppable: true },
    Layer { folder: "crates/raft-core", package: "refloat-raft-core", may_use: &["planted", "types"], no_std: true, light: true, steppable: true },
    Layer { folder: "crates/log-store", package: "refloat-log-store", may_use: &["planted", "types", "vfs", "wal", "memtable", "segment", "snapshot"], no_std: false, light: true, steppable: true },
    Layer { folder: "crates/net", package: "refloat-net", may_use: &["planted", "types"], no_std: false, light: false, steppable: false },
    Layer { folder: "crates/node", package: "refloat-node", may_use: LOWER_THAN_NODE, no_std: false, light: false, steppable: false },
    Layer { folder: "crates/sim", package: "refloat-sim", may_use: LOWER_THAN_TOP, no_std: false, light: false, steppable: false },
    Layer { folder: "crates/server", package: "refloat", may_use: LOWER_THAN_TOP, no_std: false, light: false, steppable: false },
    Layer { folder: "tests", package: "refloat-tests", may_use: ALL, no_std: false, light: false, steppable: false },
    Layer { folder: "xtask", package: "xtask", may_use: &["planted"], no_std: false, light: false, steppable: false },
];

/// What a package may use in its tests besides: decoders are fuzzed where they are, and the server's
/// tests hold the histories of real clients against the simulator's checker.
const IN_TESTS: [(&str, &str); 9] = [
    ("refloat-wal", "fuzz"),
    ("refloat-segment", "fuzz"),
    ("refloat-snapshot", "fuzz"),
    ("refloat-raft-core", "fuzz"),
    ("refloat-log-store", "fuzz"),
    ("refloat-net", "fuzz"),
    ("refloat-node", "fuzz"),
    ("refloat", "fuzz"),
    ("refloat", "sim"),
];

/// Packages that a light crate must not pull in by its normal dependencies.
const HEAVY: [&str; 6] = ["tokio", "async-std", "rand", "getrandom", "fastrand", "mio"];

/// The one crate in which `unsafe` may stand (aligned memory for direct writes).
const MAY_BE_UNSAFE: &str = "crates/vfs";

pub fn check() -> Result<()> {
    let mut broken = Vec::new();
    let packages = workspace_packages()?;
    for (package, folder) in &packages {
        if !LAYERS.iter().any(|l| l.package == package && l.folder == folder) {
            broken.push(format!("{package} ({folder}) has no row in the layer table"));
        }
    }
    for layer in &LAYERS {
        check_dependencies(layer, &packages, &mut broken)?;
        check_source(layer, &mut broken)?;
    }
    if broken.is_empty() {
        println!("{} packages, layering holds", LAYERS.len());
        return Ok(());
    }
    bail!("layering is broken:\n  {}", broken.join("\n  "))
}

/// Package name → folder, as cargo sees the workspace.
fn workspace_packages() -> Result<BTreeMap<String, String>> {
    let text = tree(&["--workspace", "--depth", "0"])?;
    let mut packages = BTreeMap::new();
    for line in text.lines().filter(|l| !l.is_empty()) {
        let name = line.split(' ').next().unwrap_or_default();
        let path = line.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|p| p.0);
        let path = path.with_context(|| format!("no path in the line {line:?} of cargo tree"))?;
        let folder = path.strip_prefix(&*root().to_string_lossy()).unwrap_or(path);
        packages.insert(name.to_owned(), folder.trim_start_matches('/').to_owned());
    }
    Ok(packages)
}

fn check_dependencies(
    layer: &Layer,
    packages: &BTreeMap<String, String>,
    broken: &mut Vec<String>,
) -> Result<()> {
    for edges in ["normal,build", "dev"] {
        let direct = tree(&["-p", layer.package, "-e", edges, "--depth", "1"])?;
        for used in names(&direct).into_iter().filter(|used| used != layer.package) {
            let Some(folder) = packages.get(&used) else { continue };
            let short = folder.strip_prefix("crates/").unwrap_or(folder);
            let in_tests = edges == "dev" && IN_TESTS.contains(&(layer.package, short));
            if !layer.may_use.contains(&short) && !in_tests {
                broken.push(format!("{} must not know {used}", layer.package));
            }
        }
    }
    if layer.light {
        let all = names(&tree(&["-p", layer.package, "-e", "normal"])?);
        for heavy in HEAVY.iter().filter(|heavy| all.contains(**heavy)) {
            broken.push(format!("{} pulls in {heavy}", layer.package));
        }
    }
    Ok(())
}

fn check_source(layer: &Layer, broken: &mut Vec<String>) -> Result<()> {
    let folder = root().join(layer.folder);
    let entry = ["src/lib.rs", "src/main.rs"].map(|file| folder.join(file));
    for file in entry.iter().filter(|file| file.exists()) {
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        let has = |line: &str| text.lines().any(|l| l.trim() == line);
        if layer.no_std && !has("#![no_std]") {
            broken.push(format!("{} lacks #![no_std]", file.display()));
        }
        if layer.folder != MAY_BE_UNSAFE && !has("#![forbid(unsafe_code)]") {
            broken.push(format!("{} lacks #![forbid(unsafe_code)]", file.display()));
        }
    }
    if layer.steppable {
        let own = fs::read_to_string(folder.join("clippy.toml")).unwrap_or_default();
        if own != include_str!("../steppable.clippy.toml") {
            broken.push(format!(
                "{}/clippy.toml is not the text of xtask/steppable.clippy.toml",
                layer.folder
            ));
        }
    }
    Ok(())
}

fn tree(args: &[&str]) -> Result<String> {
    let mut command = cargo(&["tree", "--quiet", "--prefix", "none", "--no-dedupe"]);
    output(command.args(args))
}

/// The package names in the lines of `cargo tree`.
fn names(tree: &str) -> BTreeSet<String> {
    tree.lines().filter_map(|l| l.split(' ').next()).map(str::to_owned).collect()
}
