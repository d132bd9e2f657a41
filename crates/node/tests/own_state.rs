//! State machines that keep their state, and how far it is, on a disk of their own.

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use refloat_node::Input;
use refloat_node::{
    Chunks, Command, Consistency, Query, RestoreError, SnapshotReader, StateMachine,
};
use refloat_types::{GroupId, GroupKey, Index};
use support::Cluster;

/// What a ledger has on its disk.
#[derive(Clone, Default)]
struct Kept {
    at: Index,
    lines: Vec<String>,
}

type Disks = Arc<Mutex<BTreeMap<u64, Kept>>>;

/// A machine whose state outlives the process. `twice` forgets to move the index.
struct Ledger {
    node: u64,
    disks: Disks,
}

impl Ledger {
    fn with<R>(&self, work: impl FnOnce(&mut Kept) -> R) -> R {
        work(self.disks.lock().expect("no panic").entry(self.node).or_default())
    }
}

impl StateMachine for Ledger {
    fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
        self.with(|kept| {
            for command in batch {
                let line = String::from_utf8_lossy(&command.payload).into_owned();
                if line != "twice" {
                    kept.at = command.index;
                }
                kept.lines.push(line);
            }
        });
        vec![Bytes::new(); batch.len()]
    }

    fn snapshot(&mut self) -> Chunks {
        let (at, text) = self.with(|kept| (kept.at, kept.lines.join("\n")));
        let head = Bytes::copy_from_slice(&at.0.to_le_bytes());
        Box::new([head, text.into()].into_iter())
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader<'_>) -> Result<(), RestoreError> {
        let at = Index(u64::from_le_bytes(snapshot.array()?));
        let text = String::from_utf8_lossy(&snapshot.rest()).into_owned();
        self.with(|kept| *kept = Kept { at, lines: text.lines().map(str::to_owned).collect() });
        Ok(())
    }

    fn applied(&self) -> Option<Index> {
        Some(self.with(|kept| kept.at))
    }
}

fn cluster() -> (Cluster, Disks) {
    let disks = Disks::default();
    let mut cluster = Cluster::new(1);
    cluster.config.snapshot_entries = 10;
    let shared = disks.clone();
    cluster.machines =
        Some(Arc::new(move |node, _: GroupKey| Box::new(Ledger { node, disks: shared.clone() })));
    cluster.start_all();
    cluster.wait_for_leaders(1);
    (cluster, disks)
}

fn lines(cluster: &mut Cluster, node: u64) -> Vec<String> {
    let query: Query = Box::new(|machine| {
        let machine: &dyn std::any::Any = machine;
        let ledger = machine.downcast_ref::<Ledger>().expect("the tests' machine");
        ledger.with(|kept| kept.lines.join("\n")).into()
    });
    let read = cluster.ask(node, 1, Consistency::Linearizable, query).expect("read");
    read.lines().map(str::to_owned).collect()
}

fn wanted(count: u32) -> Vec<String> {
    (0..count).map(|n| format!("line {n}")).collect()
}

fn write(cluster: &mut Cluster, node: u64, numbers: std::ops::Range<u32>) {
    for n in numbers {
        cluster.proposed(node, 1, &format!("line {n}")).expect("applied");
    }
}

#[test]
fn n09_a_machine_with_its_own_index_applies_each_command_once_whatever_it_lost() {
    // What the machine's own disk went back to: nothing lost, some, all.
    for back_to in [u64::MAX, 25, 4, 0] {
        let (mut cluster, disks) = cluster();
        write(&mut cluster, 1, 0..4);
        let mut history: Vec<Kept> = vec![Kept::default()];
        for n in 4..38 {
            write(&mut cluster, 2, n..n + 1);
            cluster.run_for(100);
            history.push(disks.lock().expect("no panic")[&3].clone());
        }
        for node in 1..=3 {
            cluster.kill(node);
        }
        let earlier =
            history.iter().rev().find(|kept| kept.at.0 <= back_to).expect("the empty one");
        disks.lock().expect("no panic").insert(3, earlier.clone());
        cluster.start_all();
        cluster.wait_for_leaders(1);
        assert_eq!(lines(&mut cluster, 3), wanted(38), "back to {back_to}");
        write(&mut cluster, 3, 38..50);
        for node in 1..=3 {
            assert_eq!(lines(&mut cluster, node), wanted(50), "node {node}, back to {back_to}");
        }
    }
}

#[test]
fn n09_a_snapshot_from_the_leader_replaces_a_machine_that_keeps_its_state() {
    let (mut cluster, _disks) = cluster();
    write(&mut cluster, 1, 0..3);
    let leader = cluster.leader(1).expect("formed");
    let away = 1 + leader % 3;
    cluster.kill(away);
    write(&mut cluster, leader, 3..40);
    cluster.run_for(300);
    cluster.start(away);
    assert_eq!(lines(&mut cluster, away), wanted(40));
    assert!(cluster.nodes[&away].counters().snapshots_installed >= 1);
}

#[test]
fn n09_a_machine_that_is_ahead_of_its_log_is_not_drawn_under_an_older_index() {
    let (mut cluster, disks) = cluster();
    cluster.config.snapshot_entries = 1_000;
    for node in 1..=3 {
        cluster.kill(node);
    }
    cluster.start_all();
    write(&mut cluster, 1, 0..5);
    cluster.run_for(300);
    cluster.kill(3);
    write(&mut cluster, 1, 5..30);
    cluster.run_for(300);
    cluster.kill(1);
    cluster.kill(2);
    // Somebody brought the ledger of another node here.
    let ahead = disks.lock().expect("no panic")[&1].clone();
    let at = ahead.at;
    disks.lock().expect("no panic").insert(3, ahead);
    cluster.start(3);
    cluster.run_for(100);
    let token = cluster.input(3, |to| Input::Snapshot { to, group: GroupId(1) });
    cluster.run_for(300);
    assert_eq!(cluster.nodes[&3].status().groups[1].snapshot, 0, "no snapshot of the future");
    cluster.start(1);
    cluster.start(2);
    assert!(cluster.answer(token).expect("drawn in the end").index >= at);
    write(&mut cluster, 3, 30..35);
    assert_eq!(lines(&mut cluster, 3), wanted(35));
}

#[test]
fn n09_an_index_that_does_not_move_with_the_commands_stops_the_group_with_a_sentence() {
    let (mut cluster, disks) = cluster();
    write(&mut cluster, 1, 0..3);
    cluster.run_for(200);
    // On one node the index moves by itself: commands would be skipped.
    disks.lock().expect("no panic").get_mut(&3).expect("its ledger").at.0 += 5;
    write(&mut cluster, 1, 3..4);
    cluster.run_for(300);
    let says = |c: &Cluster, node: u64| {
        let group = c.nodes[&node].status().groups.into_iter().find(|g| g.group == 1);
        group.and_then(|g| g.waits_for).unwrap_or_default()
    };
    assert!(says(&cluster, 3).contains("applied twice or never"), "{}", says(&cluster, 3));
    assert_eq!(says(&cluster, 1), "", "only there");
    // And where it stands still, commands would be applied twice.
    let _ = cluster.proposed(1, 1, "twice");
    cluster.run_for(300);
    assert!(says(&cluster, 1).contains("applied twice or never"), "{}", says(&cluster, 1));
}

/// Draws two bytes and takes one back.
#[derive(Default)]
struct Careless;

impl StateMachine for Careless {
    fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
        vec![Bytes::new(); batch.len()]
    }

    fn snapshot(&mut self) -> Chunks {
        Box::new([Bytes::from_static(b"a"), Bytes::from_static(b"b")].into_iter())
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader<'_>) -> Result<(), RestoreError> {
        snapshot.array::<1>().map(drop)
    }
}

#[test]
fn a_restore_that_leaves_bytes_over_stops_the_group_with_a_sentence() {
    let mut cluster = Cluster::new(1);
    cluster.config.snapshot_entries = 10;
    cluster.machines = Some(Arc::new(|_, _| Box::new(Careless)));
    cluster.start_all();
    cluster.wait_for_leaders(1);
    write(&mut cluster, 1, 0..15);
    cluster.run_for(300);
    cluster.kill(2);
    cluster.start(2);
    cluster.run_for(300);
    let text = cluster.nodes[&2].status().groups[1].waits_for.clone().unwrap_or_default();
    assert!(text.contains("took 1 bytes and left the rest"), "{text}");
}
