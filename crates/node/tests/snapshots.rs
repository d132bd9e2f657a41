//! Snapshots: made, sent to a member that lags, restored after a restart.

mod support;

use refloat_node::{Consistency, Input, JobLane, RequestError};
use refloat_types::{GroupId, NodeId};
use support::Cluster;
use support::ends::Ends;

/// A formed cluster with small files, whose groups snapshot after every few commands.
fn snapshotting(groups: u32) -> Cluster {
    let mut cluster = Cluster::new(groups);
    cluster.config.snapshot_entries = 10;
    cluster.start_all();
    cluster.wait_for_leaders(groups);
    cluster
}

fn write(cluster: &mut Cluster, node: u64, numbers: std::ops::Range<u32>) {
    for n in numbers {
        cluster.proposed(node, 1, &format!("command {n} {}", "x".repeat(100))).expect("applied");
    }
}

fn expected(count: u32) -> String {
    let lines: Vec<String> =
        (0..count).map(|n| format!("command {n} {}", "x".repeat(100))).collect();
    lines.join("\n")
}

#[test]
fn a_machine_comes_back_from_its_snapshot_and_the_log_behind_it() {
    let mut cluster = snapshotting(1);
    write(&mut cluster, 1, 0..35);
    cluster.run_for(500);
    let status = cluster.nodes[&2].status();
    assert!(status.groups[1].snapshot >= 20, "{status:#?}");
    for node in 1..=3 {
        cluster.kill(node);
    }
    cluster.start_all();
    cluster.wait_for_leaders(1);
    for node in 1..=3 {
        assert_eq!(cluster.read(node, 1, Consistency::Linearizable), Ok(expected(35)));
    }
    write(&mut cluster, 2, 35..40);
    assert_eq!(cluster.read(3, 1, Consistency::Linearizable), Ok(expected(40)));
}

#[test]
fn c10_a_follower_below_the_compacted_log_gets_a_snapshot_and_follows() {
    let mut cluster = snapshotting(1);
    write(&mut cluster, 1, 0..5);
    let leader = cluster.leader(1).expect("formed");
    let lagging = if leader == 3 { 2 } else { 3 };
    cluster.kill(lagging);
    write(&mut cluster, leader, 5..60);
    cluster.run_for(500);
    cluster.start(lagging);
    let caught_up = cluster.run_until(20, |c| c.applied(lagging, 1) >= c.applied(leader, 1));
    assert!(caught_up, "{:#?}", cluster.statuses());
    assert_eq!(cluster.read(lagging, 1, Consistency::Stale), Ok(expected(60)));
    assert!(cluster.nodes[&lagging].counters().snapshots_installed >= 1);
    // What was installed is there after a power cut, too.
    write(&mut cluster, leader, 60..63);
    for node in 1..=3 {
        cluster.power_cut(node);
    }
    cluster.start_all();
    cluster.wait_for_leaders(1);
    assert_eq!(cluster.read(lagging, 1, Consistency::Linearizable), Ok(expected(63)));
}

#[test]
fn n12_a_receiver_that_dies_in_mid_transfer_gets_the_snapshot_after_its_restart() {
    let mut cluster = snapshotting(1);
    // Several chunks, so that there is a middle.
    let large = "y".repeat(50 << 10);
    write(&mut cluster, 1, 0..5);
    let leader = cluster.leader(1).expect("formed");
    let lagging = if leader == 3 { 2 } else { 3 };
    cluster.kill(lagging);
    for _ in 0..25 {
        cluster.proposed(leader, 1, &large).expect("applied");
    }
    cluster.run_for(500);
    cluster.start(lagging);
    for _ in 0..40 {
        cluster.crank();
    }
    cluster.power_cut(lagging);
    cluster.start(lagging);
    let caught_up = cluster.run_until(30, |c| c.applied(lagging, 1) >= c.applied(leader, 1));
    assert!(caught_up, "{:#?}", cluster.statuses());
    let one = cluster.read(leader, 1, Consistency::Linearizable).expect("read");
    assert_eq!(cluster.read(lagging, 1, Consistency::Stale), Ok(one));
}

#[test]
fn group_0_is_restored_from_a_snapshot_with_the_groups_it_created() {
    let mut cluster = snapshotting(3);
    let lagging = 3;
    cluster.kill(lagging);
    cluster.wait_for_leaders(3);
    for id in 10..40 {
        let create = |to| Input::CreateGroup { to, group: GroupId(id), members: vec![] };
        let token = cluster.input(1, create);
        cluster.answer(token).expect("created");
    }
    let token = cluster.input(1, |to| Input::DeleteGroup { to, group: GroupId(2) });
    cluster.answer(token).expect("deleted");
    cluster.run_for(500);
    cluster.start(lagging);
    let all = |c: &Cluster| {
        let status = c.nodes[&lagging].status();
        let has = |id| status.groups.iter().any(|g| g.group == id);
        (10..40).all(has) && !has(2)
    };
    assert!(cluster.run_until(20, all), "{:#?}", cluster.nodes[&lagging].status());
    assert!(cluster.nodes[&lagging].counters().snapshots_installed >= 1);
    let token = cluster.input(lagging, |to| Input::Snapshot { to, group: GroupId(0) });
    cluster.answer(token).expect("a snapshot on demand");
}

#[test]
fn t08_addresses_are_known_while_group_0_is_restored_from_a_snapshot() {
    let mut cluster = snapshotting(1);
    let (moved, lagging) = (2, 3);
    cluster.kill(moved);
    cluster.config.peer_address = Some("elsewhere:7".into());
    cluster.start(moved);
    cluster.config.peer_address = None;
    let found = |c: &Cluster| c.places[&lagging][&NodeId(moved)] == "elsewhere:7";
    assert!(cluster.run_until(10, found), "{:?}", cluster.places);
    cluster.partition(lagging, 1);
    cluster.partition(lagging, moved);
    for id in 10..40 {
        let create = |to| Input::CreateGroup { to, group: GroupId(id), members: vec![] };
        let token = cluster.input(1, create);
        cluster.answer(token).expect("created");
    }
    cluster.run_for(500);
    cluster.hold(lagging, JobLane::Apply);
    cluster.heal();
    let restoring = |c: &Cluster| {
        c.nodes[&lagging].counters().snapshots_installed > 0 && c.held(lagging, JobLane::Apply) > 0
    };
    assert!(cluster.run_until(10, restoring), "{:#?}", cluster.statuses());
    assert!(!cluster.holds_quick_ones(lagging), "the node's own thread does not wait for it");
    // A connection that comes and goes has it told anew where everybody is.
    cluster.partition(lagging, 1);
    cluster.heal();
    cluster.run_for(500);
    assert!(found(&cluster), "{:?}", cluster.places);
    cluster.release(lagging, JobLane::Apply);
    let all = |c: &Cluster| {
        let groups = c.nodes[&lagging].status().groups;
        (10..40).all(|id| groups.iter().any(|g| g.group == id))
    };
    assert!(cluster.run_until(20, |c| all(c) && found(c)), "{:#?}", cluster.statuses());
}

/// A member that lags so far that only a snapshot helps, and who leads. What it had is applied.
fn lagging(cluster: &mut Cluster) -> (u64, u64) {
    write(cluster, 1, 0..5);
    cluster.run_for(300);
    let leader = cluster.leader(1).expect("formed");
    let lagging = 1 + leader % 3;
    let other = 1 + lagging % 3;
    cluster.partition(lagging, leader);
    cluster.partition(lagging, other);
    write(cluster, leader, 5..60);
    cluster.run_for(500);
    (leader, lagging)
}

fn caught_up(cluster: &mut Cluster, node: u64, count: u32) {
    let leader = cluster.leader(1).expect("a leader");
    let level = |c: &Cluster| c.applied(node, 1) >= c.applied(leader, 1);
    assert!(cluster.run_until(30, level), "{:#?}", cluster.statuses());
    assert_eq!(cluster.read(node, 1, Consistency::Linearizable), Ok(expected(count)));
}

/// While the machine is about to be restored from a snapshot of the leader the next one arrives.
fn a_second_one_arrives(cluster: &mut Cluster, leader: u64, lagging: u64) {
    let first = cluster.nodes[&lagging].counters().snapshots_installed;
    cluster.partition(lagging, leader);
    cluster.partition(lagging, 1 + lagging % 3);
    write(cluster, leader, 60..110);
    cluster.run_for(500);
    cluster.heal();
    let second = |c: &Cluster| c.nodes[&lagging].counters().snapshots_installed > first;
    assert!(cluster.run_until(30, second), "{:#?}", cluster.statuses());
    cluster.run_for(200);
    cluster.release(lagging, JobLane::Apply);
    caught_up(cluster, lagging, 110);
}

#[test]
fn a_snapshot_drawn_while_the_leaders_arrives_is_dropped_and_the_next_one_is_made() {
    let mut cluster = snapshotting(1);
    let (leader, lagging) = lagging(&mut cluster);
    cluster.hold(lagging, JobLane::Apply);
    let first = cluster.input(lagging, |to| Input::Snapshot { to, group: GroupId(1) });
    assert!(
        cluster.run_until(1, |c| c.held(lagging, JobLane::Apply) == 1),
        "the state is being drawn"
    );
    cluster.heal();
    let installed = |c: &Cluster| c.nodes[&lagging].counters().snapshots_installed >= 1;
    assert!(cluster.run_until(20, installed), "{:#?}", cluster.statuses());
    cluster.run_for(200);
    cluster.release(lagging, JobLane::Apply);
    cluster.answer(first).expect("the leader's serves as well");
    caught_up(&mut cluster, lagging, 60);
    write(&mut cluster, leader, 60..63);
    let second = cluster.input(lagging, |to| Input::Snapshot { to, group: GroupId(1) });
    cluster.answer(second).expect("nothing is stuck");
}

/// The record that names a local snapshot becomes durable in the moment in which the leader's
/// snapshot is whole: the one must not be taken for the other.
#[test]
fn n04_a_local_snapshot_that_waits_for_its_record_does_not_push_out_a_received_one() {
    for steps in 1..=4 {
        let mut cluster = snapshotting(1);
        let (_, lagging) = lagging(&mut cluster);
        cluster.hold(lagging, JobLane::Wal);
        let token = cluster.input(lagging, |to| Input::Snapshot { to, group: GroupId(1) });
        cluster.run_for(50);
        cluster.hold(lagging, JobLane::Snapshot);
        cluster.heal();
        for _ in 1..steps {
            cluster.run_until(3, |c| c.held(lagging, JobLane::Snapshot) > 0);
            cluster.release(lagging, JobLane::Snapshot);
            cluster.hold(lagging, JobLane::Snapshot);
        }
        cluster.run_until(3, |c| c.held(lagging, JobLane::Snapshot) > 0);
        cluster.release(lagging, JobLane::Snapshot);
        cluster.release(lagging, JobLane::Wal);
        cluster.answer(token).expect("one of the two");
        caught_up(&mut cluster, lagging, 60);
    }
}

#[test]
fn n04_a_second_snapshot_that_arrives_while_the_first_is_applied_takes_its_place() {
    let mut cluster = snapshotting(1);
    let (leader, lagging) = lagging(&mut cluster);
    cluster.hold(lagging, JobLane::Apply);
    cluster.heal();
    assert!(
        cluster.run_until(20, |c| c.held(lagging, JobLane::Apply) == 1),
        "the first is being restored"
    );
    a_second_one_arrives(&mut cluster, leader, lagging);
    for node in 1..=3 {
        cluster.kill(node);
    }
    cluster.start_all();
    cluster.wait_for_leaders(1);
    assert_eq!(cluster.read(lagging, 1, Consistency::Linearizable), Ok(expected(110)));
}

#[test]
fn the_state_that_a_snapshot_replaces_ends_with_the_job_and_not_on_the_nodes_own_thread() {
    let mut cluster = Cluster::new(1);
    cluster.config.snapshot_entries = 10;
    let ends = Ends::default();
    cluster.machines = Some(ends.machines());
    cluster.start_all();
    cluster.wait_for_leaders(1);
    let (_, lagging) = lagging(&mut cluster);
    cluster.hold(lagging, JobLane::Apply);
    cluster.heal();
    assert!(cluster.run_until(20, |c| c.held(lagging, JobLane::Apply) == 1), "to be restored");
    assert_eq!(ends.states(), 0);
    cluster.release(lagging, JobLane::Apply);
    assert_eq!(ends.states(), 1);
    let leader = cluster.leader(1).expect("led");
    assert!(cluster.run_until(20, |c| c.applied(lagging, 1) >= c.applied(leader, 1)));
}

/// A member whose snapshot from the leader has rotted when it is to be restored from it.
fn rotten_before_use(cluster: &mut Cluster) -> (u64, u64) {
    let (leader, lagging) = lagging(cluster);
    cluster.hold(lagging, JobLane::Apply);
    cluster.heal();
    let arrived = cluster.run_until(20, |c| c.held(lagging, JobLane::Apply) == 1);
    assert!(arrived, "it is about to be restored");
    assert!(cluster.rot_files(lagging, "snap", "snap") > 0);
    (leader, lagging)
}

fn state_of(cluster: &Cluster, node: u64) -> (&'static str, String) {
    let group = cluster.nodes[&node].status().groups.remove(1);
    (group.state, group.waits_for.unwrap_or_default())
}

#[test]
fn n02_a_snapshot_that_rots_between_its_arrival_and_its_use_is_asked_for_again() {
    let mut cluster = snapshotting(1);
    let (leader, lagging) = rotten_before_use(&mut cluster);
    let other = 1 + lagging % 3;
    cluster.partition(lagging, leader);
    cluster.partition(lagging, other);
    cluster.release(lagging, JobLane::Apply);
    cluster.run_for(300);
    let (state, waits_for) = state_of(&cluster, lagging);
    assert_eq!(state, "damaged", "{waits_for}");
    assert!(waits_for.contains("any member that has a snapshot"), "{waits_for}");
    assert_eq!(cluster.files(lagging, "snap", "bad").len(), 1, "what rotted is kept aside");
    // There is no state, not even an old one, and who asks for it does not wait.
    let stale = cluster.read(lagging, 1, Consistency::Stale);
    assert!(matches!(stale, Err(RequestError::Unavailable { .. })), "{stale:?}");
    // It leads nobody meanwhile, whatever it has of the log.
    cluster.run_for(3_000);
    assert_ne!(cluster.nodes[&lagging].status().groups[1].role, "leader");
    cluster.heal();
    caught_up(&mut cluster, lagging, 60);
    assert_eq!(state_of(&cluster, lagging), ("clean", String::new()));
    // It can lead, and what it has now outlives a start.
    let target = NodeId(lagging);
    let from = cluster.leader(1).expect("led");
    let token = cluster.input(from, |to| Input::Transfer { to, group: GroupId(1), target });
    cluster.answer(token).expect("under way");
    assert!(cluster.run_until(2, |c| c.leader(1) == Some(lagging)), "{:#?}", cluster.statuses());
    cluster.power_cut(lagging);
    cluster.start(lagging);
    cluster.run_for(1_000);
    cluster.kill(leader);
    cluster.wait_for_leaders(1);
    assert_eq!(cluster.read(lagging, 1, Consistency::Linearizable), Ok(expected(60)));
    write(&mut cluster, lagging, 60..63);
}

#[test]
fn n02_who_leads_by_now_makes_a_snapshot_for_a_member_whose_own_rotted() {
    let mut cluster = snapshotting(1);
    let (leader, lagging) = rotten_before_use(&mut cluster);
    // Only the third one is left, whose own snapshots may be older.
    cluster.kill(leader);
    cluster.release(lagging, JobLane::Apply);
    cluster.wait_for_leaders(1);
    caught_up(&mut cluster, lagging, 60);
    assert_eq!(state_of(&cluster, lagging), ("clean", String::new()));
    write(&mut cluster, lagging, 60..63);
}

#[test]
fn n02_a_snapshot_that_rots_while_a_newer_one_takes_its_place_is_not_missed() {
    let mut cluster = snapshotting(1);
    let (leader, lagging) = rotten_before_use(&mut cluster);
    a_second_one_arrives(&mut cluster, leader, lagging);
    assert_eq!(state_of(&cluster, lagging), ("clean", String::new()));
}

#[test]
fn n02_a_leader_that_has_no_snapshot_makes_one_for_a_member_whose_own_rotted() {
    let mut cluster = Cluster::new(1);
    for (node, entries) in [(1, 10), (2, 1_000_000), (3, 1_000_000)] {
        cluster.config.snapshot_entries = entries;
        cluster.config.rank = if node == 1 { 0 } else { 5 };
        cluster.start(node);
    }
    cluster.wait_for_leaders(1);
    write(&mut cluster, 1, 0..5);
    let (group, target) = (GroupId(1), refloat_types::NodeId(1));
    let from = cluster.leader(1).expect("led");
    if from != 1 {
        let token = cluster.input(from, |to| Input::Transfer { to, group, target });
        cluster.answer(token).expect("under way");
        assert!(cluster.run_until(2, |c| c.leader(1) == Some(1)));
    }
    cluster.partition(3, 1);
    cluster.partition(3, 2);
    write(&mut cluster, 1, 5..60);
    cluster.run_for(500);
    cluster.hold(3, JobLane::Apply);
    cluster.heal();
    assert!(cluster.run_until(20, |c| c.held(3, JobLane::Apply) == 1), "about to be restored");
    assert!(cluster.rot_files(3, "snap", "snap") > 0);
    assert_eq!(cluster.nodes[&2].status().groups[1].snapshot, 0, "it has the whole log");
    cluster.kill(1);
    cluster.release(3, JobLane::Apply);
    cluster.wait_for_leaders(1);
    caught_up(&mut cluster, 3, 60);
}

#[test]
fn n02_a_node_alone_whose_snapshot_rots_while_it_starts_stops_the_group_and_says_what_to_do() {
    let mut cluster = Cluster::of(1, 1);
    cluster.config.snapshot_entries = 10;
    cluster.start_all();
    cluster.wait_for_leaders(1);
    write(&mut cluster, 1, 0..35);
    cluster.run_for(500);
    cluster.kill(1);
    let newest = cluster.files(1, "snap", "snap").into_iter().max().expect("a snapshot");
    cluster.hold(1, JobLane::Apply);
    cluster.start(1);
    assert!(cluster.run_until(2, |c| c.held(1, JobLane::Apply) == 1), "about to be restored");
    let flip = |bytes: &mut Vec<u8>| {
        let at = bytes.len() / 2;
        bytes[at..at + 100].iter_mut().for_each(|byte| *byte ^= 0x40);
    };
    cluster.disks[&1].corrupt(&newest, flip).expect("a file");
    cluster.release(1, JobLane::Apply);
    cluster.run_for(500);
    let (_, why) = state_of(&cluster, 1);
    assert!(why.starts_with("stopped, restart the node: read snapshot"), "{why}");
    cluster.kill(1);
    cluster.start(1);
    cluster.wait_for_leaders(1);
    assert_eq!(cluster.read(1, 1, Consistency::Linearizable), Ok(expected(35)));
}

#[test]
fn w16_a_snapshot_that_finds_the_log_full_is_installed_when_there_is_space() {
    let mut cluster = snapshotting(2);
    let (leader, lagging) = lagging(&mut cluster);
    // The other group fills the lagging member's log: too few entries for a snapshot of it.
    let large = "z".repeat(50 << 10);
    for _ in 0..9 {
        cluster.proposed(leader, 2, &large).expect("applied");
    }
    cluster.run_for(500);
    let used = cluster.disks[&lagging].used();
    cluster.disks[&lagging].set_capacity(Some(used + (60 << 10)));
    cluster.heal();
    cluster.run_for(8_000);
    let status = cluster.nodes[&lagging].status();
    assert_ne!(status.groups[1].role, "stopped", "{status:#?}");
    cluster.disks[&lagging].set_capacity(None);
    caught_up(&mut cluster, lagging, 60);
    assert!(cluster.nodes[&lagging].counters().snapshots_installed >= 1);
}

#[test]
fn m13_a_group_deleted_and_created_again_while_a_member_was_down_starts_empty_there() {
    for through_snapshot in [false, true] {
        let mut cluster = snapshotting(2);
        write(&mut cluster, 1, 0..5);
        cluster.run_for(300);
        let away = 1 + cluster.leader(1).expect("formed") % 3;
        let at = 1 + away % 3;
        let old = cluster.nodes[&away].status().groups[1].epoch;
        cluster.kill(away);
        let token = cluster.input(at, |to| Input::DeleteGroup { to, group: GroupId(1) });
        cluster.answer(token).expect("deleted");
        let create = |id| move |to| Input::CreateGroup { to, group: GroupId(id), members: vec![] };
        let token = cluster.input(at, create(1));
        cluster.answer(token).expect("created again");
        let more = if through_snapshot { 10..40 } else { 10..11 };
        for id in more {
            let token = cluster.input(at, create(id));
            cluster.answer(token).expect("created");
        }
        cluster.proposed(at, 1, "new life").expect("applied");
        cluster.start(away);
        let followed = |c: &Cluster| {
            let groups = c.nodes[&away].status().groups;
            let lives: Vec<_> = groups.iter().filter(|g| g.group == 1).collect();
            lives.len() == 1 && lives[0].epoch > old && lives[0].leader.is_some()
        };
        assert!(cluster.run_until(30, followed), "{:#?}", cluster.nodes[&away].status());
        let installed = cluster.nodes[&away].counters().snapshots_installed;
        assert_eq!(installed > 0, through_snapshot, "the way that was meant");
        assert_eq!(cluster.read(away, 1, Consistency::Linearizable), Ok("new life".into()));
        // The same after a restart: the effects of group 0 are not repeated.
        for node in 1..=3 {
            cluster.kill(node);
        }
        cluster.start_all();
        cluster.wait_for_leaders(1);
        assert_eq!(cluster.read(away, 1, Consistency::Linearizable), Ok("new life".into()));
    }
}

#[test]
fn n05_a_snapshot_arrives_though_it_takes_longer_than_the_leader_needs_for_the_next() {
    let mut cluster = Cluster::new(1);
    cluster.config.snapshot_entries = 10;
    // Six chunks in six seconds.
    cluster.config.snapshot_rate = 256 << 10;
    cluster.start_all();
    cluster.wait_for_leaders(1);
    let leader = cluster.leader(1).expect("formed");
    let lagging = 1 + leader % 3;
    cluster.kill(lagging);
    for _ in 0..30 {
        cluster.proposed(leader, 1, &"y".repeat(50 << 10)).expect("applied");
    }
    cluster.run_for(500);
    cluster.start(lagging);
    // A snapshot is due in every second.
    for _ in 0..20 {
        for n in 0..12 {
            cluster.proposed(leader, 1, &format!("command {n}")).expect("applied");
        }
        cluster.run_for(500);
    }
    let installed = cluster.nodes[&lagging].counters().snapshots_installed;
    assert_eq!(installed, 1, "one, and the log behind it: {:#?}", cluster.statuses());
    let level = |c: &Cluster| c.applied(lagging, 1) >= c.applied(leader, 1);
    assert!(cluster.run_until(5, level), "{:#?}", cluster.statuses());
    let status = cluster.nodes[&leader].status();
    assert!(status.groups[1].snapshot >= 250, "then others are drawn: {status:#?}");
}

#[test]
fn n05_two_leaders_in_turn_do_not_push_out_each_others_snapshots_for_ever() {
    let mut cluster = Cluster::new(1);
    // A chunk a second, and about twenty of them.
    cluster.config.snapshot_rate = 256 << 10;
    cluster.start_all();
    cluster.wait_for_leaders(1);
    let leader = cluster.leader(1).expect("formed");
    let (lagging, next) = (1 + leader % 3, 1 + (1 + leader % 3) % 3);
    cluster.kill(lagging);
    // Each has snapshots of its own, the older of which is where its log begins.
    for node in [leader, next, leader, next] {
        for _ in 0..24 {
            cluster.proposed(leader, 1, &"y".repeat(50 << 10)).expect("applied");
        }
        cluster.run_for(500);
        let token = cluster.input(node, |to| Input::Snapshot { to, group: GroupId(1) });
        cluster.answer(token).expect("drawn");
    }
    cluster.start(lagging);
    let begun = |c: &Cluster| c.nodes[&leader].counters().snapshot_bytes_sent >= 512 << 10;
    assert!(cluster.run_until(10, begun), "{:#?}", cluster.statuses());
    let target = refloat_types::NodeId(next);
    let token = cluster.input(leader, |to| Input::Transfer { to, group: GroupId(1), target });
    cluster.answer(token).expect("handed over");
    assert!(cluster.run_until(5, |c| c.leader(1) == Some(next)), "{:#?}", cluster.statuses());
    let level = |c: &Cluster| c.applied(lagging, 1) >= c.applied(next, 1);
    assert!(cluster.run_until(90, level), "{:#?}", cluster.nodes[&lagging].counters());
}

#[test]
fn g13_a_machine_that_never_rests_is_snapshotted_too() {
    let mut cluster = snapshotting(1);
    let leader = cluster.leader(1).expect("formed");
    cluster.hold(leader, JobLane::Apply);
    for round in 0..40 {
        for n in 0..3 {
            cluster.propose(leader, 1, &format!("command {round} {n}"));
        }
        // More is committed before the machine is through with what it has.
        cluster.run_for(100);
        cluster.release(leader, JobLane::Apply);
        cluster.hold(leader, JobLane::Apply);
    }
    cluster.release(leader, JobLane::Apply);
    let status = cluster.nodes[&leader].status();
    assert!(status.groups[1].applied >= 100, "{status:#?}");
    assert!(status.groups[1].snapshot >= 60, "{status:#?}");
}
