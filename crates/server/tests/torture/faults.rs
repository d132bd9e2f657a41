//! What is done to the nodes, one fault a round.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::common::wounds::{Chance, copy, files, hurt};
use crate::common::{Cluster, Node, run};

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    KillOne,
    KillAll,
    StopOne,
    PauseOne,
    WipeOne,
    WipeLeader,
    /// Anything at one node, the newest log, votes and identity included.
    WoundOne,
    /// What is long durable, at two nodes of three, so that the third has everything whole.
    WoundTwo,
    OldCopy,
    Swap,
}

pub const ALL: [Fault; 10] = [
    Fault::KillOne,
    Fault::WipeLeader,
    Fault::WoundOne,
    Fault::KillAll,
    Fault::WoundTwo,
    Fault::Swap,
    Fault::OldCopy,
    Fault::PauseOne,
    Fault::WipeOne,
    Fault::StopOne,
];

/// Lets it happen; afterwards all nodes run. Returns who was hit, and what was done in words.
pub fn happen(
    fault: Fault,
    cluster: &mut Cluster,
    chance: &mut Chance,
) -> Result<(Vec<usize>, String), String> {
    let one = chance.below(3) as usize;
    match fault {
        Fault::KillOne => {
            cluster.kill(one);
            start(cluster, one)?;
            Ok((vec![one], format!("node {} killed", one + 1)))
        }
        Fault::KillAll => {
            (0..3).for_each(|at| cluster.kill(at));
            start_together(cluster)?;
            Ok((vec![0, 1, 2], "all nodes killed".into()))
        }
        Fault::StopOne => {
            stop(cluster, one)?;
            start(cluster, one)?;
            Ok((vec![one], format!("node {} stopped in order", one + 1)))
        }
        Fault::PauseOne => {
            let pid = cluster.nodes[one].as_ref().unwrap().pid().to_string();
            let signal = |name: &str| {
                Command::new("kill").args(["-s", name, &pid]).status().unwrap();
            };
            signal("STOP");
            std::thread::sleep(Duration::from_millis(500 + chance.below(1000)));
            signal("CONT");
            Ok((vec![one], format!("node {} paused", one + 1)))
        }
        Fault::WipeOne => wipe(cluster, one),
        Fault::WipeLeader => {
            let leader = leader(cluster).unwrap_or(one);
            wipe(cluster, leader)
        }
        Fault::WoundOne => {
            cluster.kill(one);
            let wound = hurt(&files(&cluster.plans[one].dir), chance);
            let told = start_or_replace(cluster, one)?;
            Ok((vec![one], format!("{wound}; {told}")))
        }
        Fault::WoundTwo => {
            (0..3).for_each(|at| cluster.kill(at));
            let mut story = Vec::new();
            for at in [(one + 1) % 3, (one + 2) % 3] {
                let old = old_files(cluster, at);
                if !old.is_empty() {
                    story.push(hurt(&old, chance));
                }
            }
            start_together(cluster)?;
            Ok((vec![0, 1, 2], story.join("; ")))
        }
        Fault::OldCopy => {
            cluster.kill(one);
            let dir = cluster.plans[one].dir.clone();
            let aside = dir.with_extension("old");
            copy(&dir, &aside);
            start(cluster, one)?;
            std::thread::sleep(Duration::from_millis(700));
            cluster.kill(one);
            fs::remove_dir_all(&dir).unwrap();
            fs::rename(&aside, &dir).unwrap();
            let child = cluster.plans[one].spawn();
            let refused = match Node::ready_or_code(child) {
                Err(code) => code,
                Ok(mut node) => node.wait(Duration::from_secs(10)).flatten(),
            };
            if refused != Some(20) {
                return Err(format!("an old copy of node {}: {refused:?}, not 20", one + 1));
            }
            replace(cluster, one)?;
            Ok((vec![one], format!("an old copy of node {} refused, then wiped", one + 1)))
        }
        Fault::Swap => {
            let other = (one + 1) % 3;
            cluster.kill(one);
            cluster.kill(other);
            let peer = cluster.plans[one].peer.clone();
            let dir = cluster.plans[other].dir.display().to_string();
            let code = run(&["serve", "--data-dir", &dir, "--peer-addr", &peer]).status.code();
            if code != Some(20) {
                return Err(format!("node {} in place of node {}: {code:?}", other + 1, one + 1));
            }
            start_several(cluster, &[one, other])?;
            Ok((vec![one, other], format!("nodes {} and {} swapped, refused", one + 1, other + 1)))
        }
    }
}

fn start(cluster: &mut Cluster, at: usize) -> Result<(), String> {
    start_several(cluster, &[at])
}

fn start_together(cluster: &mut Cluster) -> Result<(), String> {
    start_several(cluster, &[0, 1, 2])
}

fn start_several(cluster: &mut Cluster, these: &[usize]) -> Result<(), String> {
    let children: Vec<_> = these.iter().map(|at| cluster.plans[*at].spawn()).collect();
    for (at, child) in these.iter().zip(children) {
        let node = Node::ready_or_code(child)
            .map_err(|code| format!("node {} did not start: {code:?}", at + 1))?;
        cluster.nodes[*at] = Some(node);
    }
    Ok(())
}

/// A start after any damage: it serves, or says that nothing here can be proven; then the
/// directory is given up, as an operator would.
fn start_or_replace(cluster: &mut Cluster, at: usize) -> Result<String, String> {
    match Node::ready_or_code(cluster.plans[at].spawn()) {
        Ok(node) => {
            cluster.nodes[at] = Some(node);
            Ok("serves".into())
        }
        Err(Some(code @ (20 | 22))) => {
            replace(cluster, at)?;
            Ok(format!("refused with {code}, then wiped"))
        }
        Err(code) => Err(format!("node {} ended with {code:?}", at + 1)),
    }
}

fn stop(cluster: &mut Cluster, at: usize) -> Result<(), String> {
    let mut node = cluster.nodes[at].take().unwrap();
    match node.signal_and_wait("TERM", Duration::from_secs(20)) {
        Some(Some(0)) => Ok(()),
        other => Err(format!("node {} stopped with {other:?}", at + 1)),
    }
}

fn wipe(cluster: &mut Cluster, at: usize) -> Result<(Vec<usize>, String), String> {
    cluster.kill(at);
    replace(cluster, at)?;
    Ok((vec![at], format!("node {} wiped", at + 1)))
}

/// An empty disk for a node that is down: `join` and `serve`, nothing else.
fn replace(cluster: &mut Cluster, at: usize) -> Result<(), String> {
    cluster.wipe(at, (at + 1) % 3);
    start(cluster, at)
}

/// Logs and segments that other files came after.
fn old_files(cluster: &Cluster, at: usize) -> Vec<PathBuf> {
    let mut found = files(&cluster.plans[at].dir);
    found.retain(|path| path.extension().is_some_and(|e| e == "wal" || e == "seg"));
    found.retain(|path| path.parent().is_some_and(|dir| !dir.ends_with("votes")));
    let mut logs: Vec<PathBuf> =
        found.iter().filter(|path| path.extension().is_some_and(|e| e == "wal")).cloned().collect();
    logs.sort();
    let newest: Vec<PathBuf> = logs.into_iter().rev().take(2).collect();
    found.retain(|path| !newest.contains(path));
    found
}

/// The node that leads group 1, as the first that answers says.
fn leader(cluster: &Cluster) -> Option<usize> {
    (0..3).find_map(|at| {
        let status = cluster.status(at);
        let group = status["groups"].as_array()?.iter().find(|g| g["group"] == 1)?.clone();
        Some(group["leader"].as_u64()? as usize - 1)
    })
}
