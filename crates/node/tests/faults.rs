//! What must not happen: under a false name, without a word, without a bound.
mod support;

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use refloat_node::{Consistency, Input, JobLane, RequestError, StopReason};
use refloat_types::{GroupId, Incarnation, Member, NodeId};
use refloat_vfs::{Fault, Layer, OpKind, SimFs, Vfs};
use support::Cluster;

#[test]
fn m14_a_node_initialised_again_is_refused_and_takes_no_part() {
    let mut cluster = Cluster::formed(1);
    cluster.proposed(1, 1, "kept").expect("applied");
    cluster.kill(3);
    cluster.disks.insert(3, refloat_vfs::SimFs::new());
    cluster.init(3, 0x9999, 1);
    cluster.start(3);
    cluster.run_for(5_000);
    let status = cluster.nodes[&3].status();
    assert!(status.groups.is_empty(), "{status:#?}");
    assert!(status.forming.is_some_and(|text| text.contains("with join")), "it says so");
    assert!(cluster.nodes[&1].counters().refused > 0);
    // It does not lend its vote: without node 2 there is no quorum.
    cluster.kill(2);
    let lonely = cluster.proposed(1, 1, "no quorum");
    assert!(lonely.is_err(), "{lonely:?}");
}

#[test]
fn m14_a_member_initialised_again_before_the_cluster_formed_halts_it_with_a_sentence() {
    let mut cluster = Cluster::new(1);
    // Nodes 1 and 3 meet and store each other's lives; node 2 was never there.
    cluster.start(1);
    cluster.start(3);
    cluster.run_for(3_000);
    cluster.kill(3);
    cluster.disks.insert(3, refloat_vfs::SimFs::new());
    cluster.init(3, 0x9999, 1);
    cluster.start(3);
    cluster.start(2);
    cluster.run_for(10_000);
    assert_eq!(cluster.leader(0), None, "{:#?}", cluster.statuses());
    let text = cluster.nodes[&1].status().forming.expect("not formed");
    assert!(text.contains("node 3"), "{text}");
}

#[test]
fn a_false_life_is_answered_and_not_stepped() {
    let mut cluster = Cluster::formed(1);
    let before = cluster.nodes[&1].counters();
    let from = Member::new(NodeId(2), Incarnation(0xbad));
    let mut frame = vec![1u8];
    frame.extend_from_slice(&1u64.to_le_bytes());
    frame.extend_from_slice(&1u64.to_le_bytes());
    frame.extend_from_slice(&0u128.to_le_bytes());
    let _ = cluster.input(1, |_| Input::Frame { from, bytes: Bytes::from(frame) });
    cluster.run_for(50);
    let after = cluster.nodes[&1].counters();
    assert_eq!(after.refused, before.refused + 1);
}

#[test]
fn w15_a_failed_sync_stops_the_node_and_nothing_is_acknowledged_by_it() {
    let mut cluster = Cluster::formed(1);
    let leader = cluster.leader(1).expect("formed");
    cluster.run_for(200);
    cluster.disks[&leader].inject(Fault::on(OpKind::Write).path("wal").forever());
    cluster.disks[&leader].inject(Fault::on(OpKind::Sync).path("wal").forever());
    let token = cluster.propose(leader, 1, "on a dying disk");
    assert!(cluster.run_until(5, |c| c.stops.contains_key(&leader)));
    assert!(matches!(cluster.stops[&leader], StopReason::Poisoned(_)));
    let result = cluster.answer(token);
    // The others may have it; this node does not know.
    assert!(matches!(result, Err(RequestError::Unknown { .. }) | Ok(_)), "{result:?}");
    cluster.wait_for_leaders(1);
    let other = if leader == 1 { 2 } else { 1 };
    cluster.proposed(other, 1, "life goes on").expect("applied");
}

#[test]
fn g09_a_node_whose_flush_is_slower_than_its_writes_says_busy_and_goes_on_behind_it() {
    let mut cluster = Cluster::new(1);
    cluster.store = || {
        let mut options = refloat_log_store::Options::new(support::DIR);
        (options.wal_file_size, options.votes_file_size) = (256 << 10, 64 << 10);
        options.max_unflushed = 1 << 20;
        options
    };
    cluster.start_all();
    cluster.wait_for_leaders(1);
    let leader = cluster.leader(1).expect("formed");
    cluster.hold(leader, JobLane::Flush);
    let payload = "x".repeat(30 << 10);
    let refused = (0..200).find_map(|_| cluster.proposed(leader, 1, &payload).err());
    let Some(RequestError::Busy { used, limit }) = refused else { panic!("{refused:?}") };
    assert!(used > limit && limit == 1 << 20 && used < 2 << 20, "{used} of {limit}");
    assert!(cluster.nodes[&leader].counters().memory_bytes < 2 << 20);
    // It goes on to lead, and to serve reads.
    cluster.run_for(3_000);
    assert_eq!(cluster.leader(1), Some(leader));
    cluster.read(leader, 1, Consistency::Linearizable).expect("reads go on");
    cluster.release(leader, JobLane::Flush);
    cluster.run_for(1_000);
    cluster.proposed(leader, 1, "flushed").expect("taken again");
    // A follower that lags behind with its flush keeps no majority from writing.
    let follower = 1 + leader % 3;
    cluster.hold(follower, JobLane::Flush);
    for _ in 0..100 {
        cluster.proposed(leader, 1, &payload).expect("two of three flush");
    }
    assert!(cluster.nodes[&follower].counters().memory_bytes < 2 << 20);
    cluster.release(follower, JobLane::Flush);
    let last = |c: &Cluster, node: u64| c.nodes[&node].status().groups[1].applied;
    let caught_up = |c: &Cluster| last(c, follower) == last(c, leader);
    assert!(cluster.run_until(20, caught_up), "{:#?}", cluster.statuses());
}

/// A disk on which every job meets a mistake of the program, or only a compaction, which alone
/// asks whether a name is free.
#[derive(Debug)]
struct Buggy {
    flushes_on: Option<SimFs>,
}

impl Buggy {
    fn disk(&self) -> &SimFs {
        self.flushes_on.as_ref().unwrap_or_else(|| panic!("a mistake in the flusher"))
    }
}

impl Layer for Buggy {
    fn below(&self) -> &dyn Vfs {
        self.disk()
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        panic!("a mistake in the compactor: {:?}", self.disk().exists(path))
    }
}

#[test]
fn g10_a_flusher_that_panics_stops_its_node_with_a_sentence_and_the_others_go_on() {
    stops_alone_for("a mistake in the flusher");
}

#[test]
fn g10_a_compactor_that_panics_stops_its_node_with_a_sentence_and_the_others_go_on() {
    stops_alone_for("a mistake in the compactor");
}

fn stops_alone_for(mistake: &str) {
    let mut cluster = Cluster::formed(1);
    let leader = cluster.leader(1).expect("formed");
    let flushes_on = mistake.contains("compactor").then(|| cluster.disks[&leader].clone());
    let buggy = Arc::new(Buggy { flushes_on }) as Arc<dyn Vfs>;
    let payload = "x".repeat(30 << 10);
    cluster.hold(leader, JobLane::Flush);
    for _ in 0..400 {
        while cluster.held(leader, JobLane::Flush) > 0 {
            cluster.release_on(leader, JobLane::Flush, &buggy);
            cluster.hold(leader, JobLane::Flush);
            cluster.run_for(50);
        }
        if cluster.stops.contains_key(&leader) {
            break;
        }
        cluster.proposed(leader, 1, &payload).expect("applied");
    }
    let Some(StopReason::Poisoned(why)) = cluster.stops.get(&leader) else {
        panic!("{mistake}: {:?}", cluster.stops);
    };
    assert!(why.contains("panicked") && why.contains(mistake), "{why}");
    assert!(cluster.run_until(20, |c| c.leader(1).is_some_and(|node| node != leader)));
    cluster.proposed(1 + leader % 3, 1, "goes on").expect("applied by the others");
    // The next start flushes and compacts what the last one could not.
    cluster.start(leader);
    cluster.run_for(3_000);
    cluster.proposed(leader, 1, "all three").expect("applied");
    cluster.read(leader, 1, Consistency::Linearizable).expect("whole");
}

#[test]
fn o04_a_panic_while_a_snapshot_is_drawn_stops_that_group_and_no_other() {
    let mut cluster = Cluster::formed(2);
    let leader = cluster.leader(1).expect("formed");
    cluster.proposed(leader, 1, "bomb").expect("applied");
    let token = cluster.input(leader, |to| Input::Snapshot { to, group: GroupId(1) });
    let result = cluster.answer(token);
    assert!(matches!(result, Err(RequestError::Unavailable { .. })), "{result:?}");
    let status = cluster.nodes[&leader].status();
    let text = status.groups[1].waits_for.clone().unwrap_or_default();
    assert!(text.contains("panicked"), "{text}");
    assert_eq!(cluster.nodes[&leader].counters().panics, 1);
    // The others have the group, and this node's other groups make snapshots still.
    cluster.run_until(20, |c| c.leader(1).is_some_and(|node| node != leader));
    cluster.proposed(1 + leader % 3, 1, "goes on").expect("applied by the others");
    cluster.proposed(leader, 2, "another group").expect("applied");
    let token = cluster.input(leader, |to| Input::Snapshot { to, group: GroupId(2) });
    cluster.answer(token).expect("a snapshot of another group");
}

#[test]
fn a_node_of_one_that_is_killed_while_it_forms_forms_at_its_next_start() {
    for cranks in 0..24 {
        let mut cluster = Cluster::of(1, 1);
        cluster.start(1);
        (0..cranks).for_each(|_| cluster.crank());
        cluster.kill(1);
        cluster.start(1);
        let leads = |c: &Cluster| c.leader(1).is_some();
        assert!(cluster.run_until(20, leads), "{cranks}: {:?}", cluster.statuses());
    }
}

/// Found by the simulator: the vote stood in the votes log, its group was not registered yet, and
/// the next start took the group's key for one that had been in use.
#[test]
fn a_vote_for_a_new_group_does_not_outlive_the_registration_of_the_group() {
    let mut cluster = Cluster::formed(1);
    let slow = 2;
    cluster.hold(slow, JobLane::Wal);
    let asked =
        cluster.input(1, |to| Input::CreateGroup { to, group: GroupId(7), members: Vec::new() });
    cluster.answer(asked).expect("two of three decide");
    let has = |c: &Cluster, node: u64| c.nodes[&node].status().groups.iter().any(|g| g.group == 7);
    // All it does until then is votes; its disk is slow only where the log is.
    cluster.run_for(3_000);
    cluster.power_cut(slow);
    cluster.start(slow);
    assert!(cluster.run_until(10, |c| has(c, slow)), "{:#?}", cluster.statuses());
    cluster.proposed(slow, 7, "served").expect("applied");
}

/// A snapshot is sent in many frames; its receiver goes away in the middle, again and again.
#[test]
fn s13_transfers_that_are_cut_off_leave_nothing_that_hangs_the_senders_stop() {
    let mut cluster = Cluster::new(1);
    cluster.config.snapshot_entries = 10;
    cluster.start_all();
    cluster.wait_for_leaders(1);
    let large = "y".repeat(50 << 10);
    let leader = cluster.leader(1).expect("formed");
    let lagging = 1 + leader % 3;
    cluster.kill(lagging);
    for _ in 0..25 {
        cluster.proposed(leader, 1, &large).expect("applied");
    }
    cluster.run_for(500);
    for _ in 0..5 {
        cluster.start(lagging);
        let begun = |c: &Cluster| c.nodes[&leader].counters().snapshots_sending > 0;
        assert!(cluster.run_until(10, begun), "{:#?}", cluster.statuses());
        cluster.kill(lagging);
    }
    let over = |c: &Cluster| c.nodes[&leader].counters().snapshots_sending == 0;
    assert!(cluster.run_until(120, over), "a transfer to nobody goes on");
    cluster.start(lagging);
    let begun = |c: &Cluster| c.nodes[&leader].counters().snapshots_sending > 0;
    assert!(cluster.run_until(10, begun), "{:#?}", cluster.statuses());
    // The stop waits for no stream.
    cluster.input(leader, |_| Input::Shutdown);
    assert!(cluster.run_until(10, |c| c.stops.contains_key(&leader)), "the stop hangs");
    assert_eq!(cluster.stops[&leader], StopReason::Shutdown);
}
