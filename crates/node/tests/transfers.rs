//! Snapshots on their way: how fast, how much at once, over which failures, and what goes first.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use refloat_log_store::{Event, Read, boot};
use refloat_node::{
    Chunks, Command, Consistency, Input, JobLane, RestoreError, SnapshotReader, StateMachine,
};
use refloat_types::{GroupId, Index, Now};
use refloat_vfs::Vfs;
use support::Cluster;
use support::keeper::{keeping, kept};

const MIB: u64 = 1 << 20;

/// A formed cluster in which node 1 leads as long as it runs, and node 3 misses what follows.
fn without_node_3(groups: u32, change: impl FnOnce(&mut Cluster)) -> Cluster {
    let mut cluster = Cluster::new(groups);
    cluster.config.snapshot_entries = 10;
    change(&mut cluster);
    let rank = cluster.config.rank;
    cluster.start(1);
    for node in [2, 3] {
        cluster.config.rank = 5;
        cluster.start(node);
    }
    cluster.config.rank = rank;
    cluster.wait_for_leaders(groups);
    for group in 1..=u64::from(groups) {
        cluster.lead(1, group);
        cluster.proposed(1, group, "first").expect("applied");
    }
    cluster.run_for(200);
    cluster.kill(3);
    cluster
}

/// So many commands of 50 KiB, so that a snapshot has several chunks.
fn write_large(cluster: &mut Cluster, node: u64, group: u64, count: u32) {
    for n in 0..count {
        let text = format!("{n} {}", "y".repeat(50 << 10));
        cluster.proposed(node, group, &text).expect("applied");
    }
    cluster.run_for(300);
}

fn rejoins(cluster: &mut Cluster, node: u64, leader: u64, group: u64) {
    let level = |c: &Cluster| c.applied(node, group) >= c.applied(leader, group);
    assert!(cluster.run_until(60, level), "{:#?}", cluster.statuses());
    let one = cluster.read(leader, group, Consistency::Linearizable).expect("read");
    assert_eq!(cluster.read(node, group, Consistency::Stale), Ok(one));
}

fn sent(cluster: &Cluster, node: u64) -> u64 {
    cluster.nodes[&node].counters().snapshot_bytes_sent
}

#[test]
fn n10_the_transfers_of_all_groups_share_one_rate() {
    let rate = MIB;
    let mut cluster = without_node_3(3, |c| c.config.snapshot_rate = rate);
    for group in 1..=3 {
        write_large(&mut cluster, 1, group, 20);
    }
    cluster.start(3);
    let begun = cluster.time().now;
    let all = |c: &Cluster| (1..=3).all(|g| c.applied(3, g) >= c.applied(1, g));
    let mut most = 0;
    while !all(&cluster) {
        cluster.crank();
        let elapsed = cluster.time().now.since(begun);
        let allowed = rate * (elapsed + 50_000) / 1_000_000 + (256 << 10);
        assert!(sent(&cluster, 1) <= allowed, "{} in {elapsed} us", sent(&cluster, 1));
        most = most.max(cluster.nodes[&1].counters().snapshot_bytes_inflight);
        assert!(elapsed < 60_000_000, "{:#?}", cluster.statuses());
    }
    assert!(sent(&cluster, 1) >= 5 * MIB / 2, "the groups came by snapshot");
    assert!(most > 0);
    for group in 1..=3 {
        rejoins(&mut cluster, 3, 1, group);
    }
}

#[test]
fn n10_what_is_read_and_what_waits_for_the_disk_is_bounded_over_all_groups() {
    let most = 600 << 10;
    let mut cluster = without_node_3(4, |c| c.config.snapshot_inflight_bytes = most);
    for group in 1..=4 {
        write_large(&mut cluster, 1, group, 20);
    }
    cluster.start(3);
    let all = |c: &Cluster| (1..=4).all(|g| c.applied(3, g) >= c.applied(1, g));
    let (mut out, mut held) = (0, 0);
    let done = cluster.run_until(60, |c| {
        out = out.max(c.nodes[&1].counters().snapshot_bytes_inflight);
        held = held.max(c.nodes[&3].counters().snapshot_bytes_waiting);
        all(c)
    });
    assert!(done, "{:#?}", cluster.statuses());
    assert!((1..=most).contains(&out), "{out} bytes out");
    assert!((1..=most).contains(&held), "{held} bytes held");
}

#[test]
fn n10_a_node_takes_in_so_many_snapshots_at_once_and_invites_the_next() {
    let mut cluster = without_node_3(6, |c| c.config.snapshot_receptions = 2);
    for group in 1..=6 {
        write_large(&mut cluster, 1, group, 24);
    }
    cluster.start(3);
    let all = |c: &Cluster| (1..=6).all(|g| c.applied(3, g) >= c.applied(1, g));
    let mut most = 0;
    let begun = cluster.time().now;
    let done = cluster.run_until(60, |c| {
        most = most.max(c.nodes[&3].counters().snapshot_receptions);
        all(c)
    });
    assert!(done, "{:#?}", cluster.statuses());
    assert_eq!(most, 2);
    let took = cluster.time().now.since(begun);
    assert!(took < 3_000_000, "invited, not found out by asking again: {took} us");
}

#[test]
fn n12_a_receiver_that_restarts_goes_on_with_the_chunks_it_has() {
    let mut cluster = without_node_3(1, |c| {
        (c.config.snapshot_rate, c.config.snapshot_window) = (MIB, 1);
    });
    write_large(&mut cluster, 1, 1, 60);
    let before = sent(&cluster, 1);
    cluster.start(3);
    assert!(cluster.run_until(20, |c| sent(c, 1) >= before + 2 * MIB), "in the middle");
    cluster.kill(3);
    cluster.run_for(500);
    cluster.start(3);
    rejoins(&mut cluster, 3, 1, 1);
    let total = sent(&cluster, 1) - before;
    assert!((3 * MIB - (300 << 10)..4 * MIB).contains(&total), "{total} bytes for 3 MiB");
    is_electable(&mut cluster, 3);
}

#[test]
fn n05_a_sender_that_restarts_goes_on_where_the_receiver_is() {
    let mut cluster = without_node_3(1, |c| c.config.snapshot_rate = MIB);
    write_large(&mut cluster, 1, 1, 60);
    let before = sent(&cluster, 1);
    cluster.start(3);
    assert!(cluster.run_until(20, |c| sent(c, 1) >= before + 2 * MIB), "in the middle");
    // The other voter is away too, so that nobody else leads meanwhile.
    cluster.kill(1);
    cluster.kill(2);
    cluster.run_for(100);
    cluster.start(1);
    cluster.config.rank = 5;
    cluster.start(2);
    assert!(cluster.run_until(20, |c| c.leader(1) == Some(1)));
    rejoins(&mut cluster, 3, 1, 1);
    let again = sent(&cluster, 1);
    assert!((MIB / 2..3 * MIB / 2).contains(&again), "{again} bytes after 2 of 3 MiB");
    is_electable(&mut cluster, 3);
}

#[test]
fn n05_a_leader_that_changes_in_mid_transfer_is_no_obstacle() {
    let mut cluster = without_node_3(1, |c| c.config.snapshot_rate = MIB);
    write_large(&mut cluster, 1, 1, 60);
    cluster.start(3);
    assert!(cluster.run_until(20, |c| sent(c, 1) >= 3 * MIB / 2), "in the middle");
    cluster.lead(2, 1);
    cluster.partition(1, 3);
    rejoins(&mut cluster, 3, 2, 1);
    assert!(cluster.nodes[&3].counters().snapshots_installed >= 1);
    cluster.heal();
    is_electable(&mut cluster, 3);
}

/// Nothing is written between the install and its election.
fn is_electable(cluster: &mut Cluster, node: u64) {
    cluster.run_for(1_000);
    cluster.lead(node, 1);
    cluster.proposed(node, 1, "led by the one that was behind").expect("applied");
}

/// What the log on a stopped node's disk holds at some indexes.
fn payloads_on_disk(cluster: &mut Cluster, node: u64, indexes: &[u64]) -> Vec<String> {
    let disk = cluster.disks[&node].kill();
    cluster.disks.insert(node, disk.clone());
    let vfs: Arc<dyn Vfs> = Arc::new(disk);
    let found = boot(&vfs, (cluster.store)()).expect("it starts");
    let (mut store, key) = (found.store, found.groups[1].key);
    let mut texts = Vec::new();
    for index in indexes.iter().map(|index| Index(*index)) {
        let entries = match store.read(key, index, index, 1 << 20) {
            Read::Entries(entries) => entries,
            Read::Later(request) => {
                while let Some(job) = store.poll_job(Now(0)) {
                    let done = job.run(&vfs);
                    store.complete(Now(0), done).expect("a good disk");
                }
                let mine = |event| match event {
                    Event::Read { request: of, result } if of == request => Some(result),
                    _ => None,
                };
                let answer = store.take_events().into_iter().find_map(mine).expect("an answer");
                answer.expect("it is readable")
            }
            other => panic!("live entry {index}: {other:?}"),
        };
        texts.push(String::from_utf8_lossy(&entries[0].payload).into_owned());
    }
    cluster.disks.insert(node, cluster.disks[&node].kill());
    texts
}

#[test]
fn n07_a_follower_gets_the_live_entries_that_it_lacks_before_the_snapshot() {
    let mut cluster = without_node_3(1, keeping);
    for n in 0..80 {
        let text = if n % 7 == 0 { format!("keep {n}") } else { format!("drop {n}") };
        cluster.proposed(1, 1, &text).expect("applied");
    }
    cluster.run_for(500);
    cluster.start(3);
    assert!(cluster.run_until(20, |c| c.applied(3, 1) >= c.applied(1, 1)));
    assert!(cluster.nodes[&3].counters().snapshots_installed >= 1);
    let indexes = kept(&mut cluster, 3);
    assert_eq!(indexes.len(), 12);
    cluster.power_cut(3);
    let expected: Vec<String> = (0..80).step_by(7).map(|n| format!("keep {n}")).collect();
    assert_eq!(payloads_on_disk(&mut cluster, 3, &indexes), expected);
    cluster.start(3);
    is_electable(&mut cluster, 3);
}

/// A snapshot refers to so many live entries, each a range of its own, and node 3 lacks all.
fn with_a_vast_live_set(entries: u32, change: impl FnOnce(&mut Cluster)) -> Cluster {
    let mut cluster = without_node_3(1, |c| {
        keeping(c);
        c.config.snapshot_entries = u64::from(entries / 8);
        (c.config.urgent_bytes, c.config.max_append_bytes) = (500, 1_000);
        change(c);
    });
    for n in 0..entries {
        let name = if n % 2 == 0 { "keep" } else { "drop" };
        cluster.propose(1, 1, &format!("{name} {n}"));
        cluster.run_for(1);
    }
    cluster.run_for(500);
    cluster.trace.clear();
    cluster.start(3);
    cluster
}

/// The frames of a lane from node 1 to node 3, as their lengths.
fn lengths(cluster: &Cluster, lane: &str) -> Vec<usize> {
    let start = format!("n1 -> n3 {lane} ");
    let sent = cluster.trace.iter().filter_map(|line| line.split_once(&start));
    sent.filter_map(|(_, rest)| rest.split(' ').next()?.parse().ok()).collect()
}

#[test]
fn n07_of_a_vast_live_set_little_travels_with_the_beats_and_the_rest_in_parts() {
    let mut cluster = with_a_vast_live_set(800, |c| c.repeat = true);
    assert!(cluster.run_until(60, |c| c.applied(3, 1) >= c.applied(1, 1)));
    assert!(cluster.nodes[&3].counters().snapshots_installed >= 1);
    let urgent = lengths(&cluster, "urgent").into_iter().max();
    assert!(urgent.is_some_and(|longest| longest < 1_500), "{urgent:?}");
    assert_eq!(kept(&mut cluster, 3), kept(&mut cluster, 1));
    is_electable(&mut cluster, 3);
}

#[test]
fn n07_a_vast_live_set_that_was_cut_off_on_its_way_goes_on_where_it_was() {
    let mut cluster = with_a_vast_live_set(2_000, |_| {});
    // Of 16,000 bytes.
    let bulk = |c: &Cluster| lengths(c, "bulk").into_iter().sum::<usize>();
    assert!(cluster.run_until(5, |c| bulk(c) > 8_000), "{}", bulk(&cluster));
    cluster.partition(1, 3);
    cluster.run_for(300);
    cluster.heal();
    let offered = |c: &Cluster| c.nodes[&3].counters().snapshot_receptions > 0;
    assert!(offered(&cluster));
    assert!(cluster.run_until(60, |c| c.applied(3, 1) >= c.applied(1, 1)));
    let parts = lengths(&cluster, "bulk").into_iter().filter(|len| (1_000..1_200).contains(len));
    let parts = parts.count();
    assert!(parts < 22, "{parts} parts of 1,000 bytes");
    assert_eq!(kept(&mut cluster, 3), kept(&mut cluster, 1));
}

/// A deposed leader wrote its own entries where the others committed live ones.
#[test]
fn n07_live_entries_take_the_place_of_own_ones_that_never_were_committed() {
    let mut cluster = Cluster::new(1);
    cluster.config.snapshot_entries = 10;
    keeping(&mut cluster);
    cluster.start_all();
    cluster.wait_for_leaders(1);
    let deposed = cluster.leader(1).expect("formed");
    let others: Vec<u64> = (1..=3).filter(|node| *node != deposed).collect();
    others.iter().for_each(|other| cluster.partition(deposed, *other));
    for n in 0..20 {
        cluster.propose(deposed, 1, &format!("never {n}"));
    }
    let new = |c: &Cluster| c.leader(1).is_some_and(|leader| leader != deposed);
    assert!(cluster.run_until(20, new));
    let leader = cluster.leader(1).expect("just seen");
    for n in 0..60 {
        let text = if n % 3 == 0 { format!("keep {n}") } else { format!("drop {n}") };
        cluster.proposed(leader, 1, &text).expect("applied");
    }
    cluster.run_for(500);
    // Cut off between the live entries and the chunks.
    cluster.hold(deposed, JobLane::Snapshot);
    cluster.heal();
    cluster.run_for(400);
    assert!(cluster.held(deposed, JobLane::Snapshot) > 0, "the live entries are here");
    cluster.power_cut(deposed);
    cluster.start(deposed);
    let status = cluster.nodes[&deposed].status();
    assert_ne!(status.groups[1].role, "stopped", "{status:#?}");
    let level = |c: &Cluster| c.applied(deposed, 1) >= c.applied(leader, 1);
    assert!(cluster.run_until(30, level), "{:#?}", cluster.statuses());
    assert!(cluster.nodes[&deposed].counters().snapshots_installed >= 1);
    let indexes = kept(&mut cluster, deposed);
    cluster.power_cut(deposed);
    let expected: Vec<String> = (0..60).step_by(3).map(|n| format!("keep {n}")).collect();
    assert_eq!(payloads_on_disk(&mut cluster, deposed, &indexes), expected);
}

/// What a leader says of why a member took no snapshot.
fn refusal(cluster: &Cluster, leader: u64, node: u64) -> Option<String> {
    let group = cluster.nodes[&leader].status().groups.remove(1);
    group.members.into_iter().find(|m| m.node == node).and_then(|m| m.refusal)
}

#[test]
fn s13_why_a_member_cannot_write_a_snapshot_is_in_its_leaders_status_until_it_can() {
    let mut cluster = without_node_3(1, |_| {});
    write_large(&mut cluster, 1, 1, 20);
    cluster.start(3);
    let used = cluster.disks[&3].used();
    cluster.disks[&3].set_capacity(Some(used));
    let told = cluster.run_until(20, |c| refusal(c, 1, 3).is_some());
    assert!(told, "{:#?}", cluster.statuses());
    let text = refusal(&cluster, 1, 3).unwrap_or_default();
    assert!(text.starts_with("snapshot up to ") && text.contains("no space"), "{text}");
    cluster.disks[&3].set_capacity(None);
    rejoins(&mut cluster, 3, 1, 1);
    assert_eq!(refusal(&cluster, 1, 3), None);
}

/// Takes commands, and no state of before.
struct Picky;

impl StateMachine for Picky {
    fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
        vec![Bytes::new(); batch.len()]
    }
    fn snapshot(&mut self) -> Chunks {
        Box::new(std::iter::empty())
    }
    fn restore(&mut self, _: &mut SnapshotReader<'_>) -> Result<(), RestoreError> {
        Err(RestoreError::new("a state of another program"))
    }
}

#[test]
fn s13_why_a_members_machine_refuses_a_snapshot_is_in_its_leaders_status() {
    let mut cluster = without_node_3(1, |c| {
        c.machines = Some(Arc::new(|node, _| match node {
            3 => Box::new(Picky) as Box<dyn StateMachine>,
            _ => Box::<support::Journal>::default(),
        }));
    });
    write_large(&mut cluster, 1, 1, 20);
    cluster.start(3);
    let told = cluster.run_until(20, |c| refusal(c, 1, 3).is_some());
    assert!(told, "{:#?}", cluster.statuses());
    let text = refusal(&cluster, 1, 3).unwrap_or_default();
    assert!(text.contains("a state of another program"), "{text}");
    assert_eq!(cluster.nodes[&3].status().groups[1].role, "stopped");
}

#[test]
fn a_reception_that_stands_still_makes_room_for_another_group() {
    let mut cluster = without_node_3(2, |c| {
        c.config.snapshot_receptions = 1;
        c.config.snapshot_rate = MIB;
    });
    cluster.lead(2, 2);
    write_large(&mut cluster, 1, 1, 40);
    write_large(&mut cluster, 2, 2, 24);
    cluster.start(3);
    assert!(cluster.run_until(20, |c| sent(c, 1) + sent(c, 2) > MIB / 4));
    // Whoever sends first falls silent for the receiver.
    let silent = if sent(&cluster, 1) > 0 { 1 } else { 2 };
    cluster.partition(silent, 3);
    let other = 3 - silent;
    let level = |c: &Cluster| c.applied(3, other) >= c.applied(other, other);
    assert!(cluster.run_until(30, level), "{:#?}", cluster.statuses());
    cluster.heal();
    rejoins(&mut cluster, 3, silent, silent);
}

#[test]
fn n05_a_leader_that_is_deposed_ends_its_transfers_and_the_next_ones_begin_at_once() {
    let mut cluster = without_node_3(1, |c| c.config.snapshot_rate = MIB);
    write_large(&mut cluster, 1, 1, 80);
    cluster.start(3);
    assert!(cluster.run_until(20, |c| sent(c, 1) >= MIB), "in the middle");
    // The next leader's snapshot is another one.
    cluster.proposed(1, 1, "newer").expect("applied");
    cluster.run_for(200);
    let token = cluster.input(2, |to| Input::Snapshot { to, group: GroupId(1) });
    cluster.answer(token).expect("made");
    cluster.lead(2, 1);
    assert_eq!(cluster.nodes[&1].counters().snapshots_sending, 0, "it leads no more");
    let before = sent(&cluster, 1);
    // Less than the time after which a reception that stands still makes room.
    let begins = |c: &Cluster| sent(c, 2) > 0;
    assert!(cluster.run_until(2, begins), "{:#?}", cluster.statuses());
    rejoins(&mut cluster, 3, 2, 1);
    assert_eq!(sent(&cluster, 1), before, "nothing more of the old one");
    is_electable(&mut cluster, 3);
}
