//! Replicas that miss something get it from the others, without being told to.

mod support;

use std::path::PathBuf;

use refloat_node::{Consistency, GroupStatus, Input, JobLane, MemberChange};
use refloat_types::{GroupId, Incarnation, Member, NodeId};
use support::{Cluster, DIR};

const LIFE: u128 = 0xA1A1_0000_0000_0003;

fn group_of(cluster: &Cluster, node: u64, group: u64) -> GroupStatus {
    let status = cluster.nodes[&node].status();
    status.groups.into_iter().find(|g| g.group == group).expect("it has the group")
}

fn all_clean(cluster: &Cluster) -> bool {
    cluster.nodes.values().all(|node| node.status().groups.iter().all(|g| g.state == "clean"))
}

/// The log files of a node, oldest first.
fn logs(cluster: &Cluster, node: u64) -> Vec<PathBuf> {
    files(cluster, node, "wal")
}

/// Files of a node whose directory and last part of the name are this.
fn files(cluster: &Cluster, node: u64, kind: &str) -> Vec<PathBuf> {
    let dir = PathBuf::from(DIR).join(kind);
    let mut names: Vec<PathBuf> = refloat_vfs::Vfs::list(&cluster.disks[&node], &dir)
        .expect("a directory")
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == kind))
        .collect();
    names.sort();
    names
}

/// Flips a byte in every place of a node's log where `text` stands.
fn rot(cluster: &Cluster, node: u64, text: &str) -> usize {
    cluster.rot_in(node, "wal", text)
}

fn write(cluster: &mut Cluster, from: u32, to: u32) {
    for n in from..to {
        let text = format!("entry-{n:04}");
        cluster.proposed(1 + u64::from(n) % 3, 1, &text).expect("applied");
    }
}

fn text(from: u32, to: u32) -> String {
    (from..to).map(|n| format!("entry-{n:04}")).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_rotten_entry_of_a_follower_is_filled_by_the_others_and_the_group_is_clean_again() {
    let mut cluster = Cluster::formed(1);
    write(&mut cluster, 0, 20);
    let leader = cluster.leader(1).expect("formed");
    let victim = 1 + leader % 3;
    cluster.run_for(200);
    cluster.kill(victim);
    assert!(rot(&cluster, victim, "entry-0007") > 0);
    cluster.start(victim);
    let found = group_of(&cluster, victim, 1);
    assert_eq!(found.state, "damaged", "{found:#?}");
    assert!(found.waits_for.is_some_and(|text| text.contains("not readable")));
    assert!(cluster.run_until(10, all_clean), "{:#?}", cluster.statuses());
    assert_eq!(cluster.read(victim, 1, Consistency::Stale), Ok(text(0, 20)));
    // It stays whole: the next start finds nothing.
    cluster.run_for(1_000);
    cluster.power_cut(victim);
    cluster.start(victim);
    assert_eq!(group_of(&cluster, victim, 1).state, "clean");
}

/// An append brings what is missing and more, and there is space for what it brings more only: what
/// is written does not count as what is not.
#[test]
fn w16_a_hole_whose_entry_finds_no_space_is_not_filled_by_what_is_written_behind_it() {
    let mut cluster = Cluster::formed(2);
    let command = |name: &str, len: usize| format!("{name} {}", "x".repeat(len));
    cluster.proposed(1, 1, &command("lost", 40 << 10)).expect("applied");
    cluster.proposed(1, 1, &command("behind", 2 << 10)).expect("applied");
    let leader = cluster.leader(1).expect("formed");
    let victim = 1 + leader % 3;
    cluster.run_for(200);
    cluster.kill(victim);
    assert!(rot(&cluster, victim, "lost xxx") > 0);
    let learner = MemberChange::AddLearner(Member::new(NodeId(9), Incarnation(9)));
    change_members(&mut cluster, leader, learner);
    cluster.run_for(200);
    assert!(cluster.run_until(5, |c| c.leader(2).is_some_and(|node| node != victim)));
    cluster.lead(leader, 2);
    // Its next log file is not ready for long, nobody knows why, and the one that it has gets full.
    cluster.hold(victim, JobLane::Prepare);
    cluster.partition(victim, 6 - leader - victim);
    cluster.loses = Some(|bytes| bytes.len() > 40 << 10);
    cluster.start(victim);
    let gets_full = (0..40).any(|n| {
        cluster.proposed(leader, 2, &command(&n.to_string(), 30 << 10)).expect("two of three");
        cluster.run_for(100);
        cluster.applied(victim, 2) < cluster.applied(leader, 2)
    });
    assert!(gets_full, "{:#?}", cluster.nodes[&victim].counters());
    // Of who could give the entry it hears nothing but the leader's append.
    cluster.loses = Some(|bytes| (40 << 10..42 << 10).contains(&bytes.len()));
    cluster.run_for(2_000);
    let (found, at_leader) = (group_of(&cluster, victim, 1), group_of(&cluster, leader, 1));
    assert_eq!(found.state, "damaged", "{found:#?}");
    let acknowledged = at_leader.members.iter().find(|m| m.node == victim).and_then(|m| m.matched);
    assert!(acknowledged.is_none_or(|index| index < 2), "{at_leader:#?}");
    cluster.loses = None;
    cluster.release(victim, JobLane::Prepare);
    assert!(cluster.run_until(10, all_clean), "{:#?}", cluster.statuses());
    cluster.power_cut(victim);
    cluster.start(victim);
    assert_eq!(group_of(&cluster, victim, 1).state, "clean");
}

fn change_members(cluster: &mut Cluster, leader: u64, change: MemberChange) {
    let group = GroupId(1);
    let ask = |to| Input::ChangeMembers { to, group, change, expected: None };
    let token = cluster.input(leader, ask);
    cluster.answer(token).expect("proposed");
}

#[test]
fn m19_replicas_damaged_at_different_places_heal_without_a_leader() {
    let mut cluster = Cluster::formed(1);
    write(&mut cluster, 0, 30);
    cluster.run_for(200);
    for node in 1..=3 {
        cluster.kill(node);
        assert!(rot(&cluster, node, &format!("entry-{:04}", 5 * node)) > 0);
    }
    cluster.start_all();
    for node in 1..=3 {
        assert_eq!(group_of(&cluster, node, 1).state, "damaged");
    }
    assert!(cluster.run_until(20, all_clean), "{:#?}", cluster.statuses());
    cluster.wait_for_leaders(1);
    for node in 1..=3 {
        assert_eq!(cluster.read(node, 1, Consistency::Linearizable), Ok(text(0, 30)));
    }
}

#[test]
fn m20_an_entry_that_is_whole_nowhere_halts_its_group_and_no_other() {
    let mut cluster = Cluster::formed(2);
    write(&mut cluster, 0, 30);
    cluster.proposed(1, 2, "elsewhere").expect("applied");
    cluster.run_for(200);
    for node in 1..=3 {
        cluster.kill(node);
        assert!(rot(&cluster, node, "entry-0013") > 0);
    }
    cluster.start_all();
    assert!(cluster.run_until(20, |c| c.leader(2).is_some()));
    cluster.run_for(10_000);
    for node in 1..=3 {
        let found = group_of(&cluster, node, 1);
        assert_eq!(found.state, "damaged", "{found:#?}");
        assert!(found.waits_for.is_some_and(|text| text.contains("any member that has entries")));
        assert_eq!(cluster.read(node, 2, Consistency::Linearizable), Ok("elsewhere".into()));
    }
    let refused = cluster.proposed(1, 1, "more");
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn a_follower_that_lost_its_newest_log_file_follows_until_it_holds_what_the_leader_had() {
    let mut cluster = Cluster::formed(1);
    write(&mut cluster, 0, 20);
    cluster.run_for(200);
    let leader = cluster.leader(1).expect("formed");
    let victim = 1 + leader % 3;
    cluster.kill(victim);
    // A start makes a new file; what the follower takes in it is lost with it.
    cluster.start(victim);
    write(&mut cluster, 20, 40);
    cluster.run_for(200);
    cluster.kill(victim);
    let newest = logs(&cluster, victim).pop().expect("log files");
    refloat_vfs::Vfs::remove_file(&cluster.disks[&victim], &newest).expect("removed");
    // Without a leader it must not help to elect one.
    let other = (1..=3).find(|n| *n != leader && *n != victim).expect("three nodes");
    cluster.kill(leader);
    cluster.start(victim);
    assert_eq!(group_of(&cluster, victim, 1).state, "head-unknown");
    cluster.run_for(5_000);
    assert_eq!(cluster.leader(1), None, "{:#?}", cluster.statuses());
    assert_eq!(group_of(&cluster, other, 1).state, "clean");
    cluster.start(leader);
    assert!(cluster.run_until(20, all_clean), "{:#?}", cluster.statuses());
    assert_eq!(cluster.read(victim, 1, Consistency::Linearizable), Ok(text(0, 40)));
}

/// What may be wrong with a replica when it starts.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    Damaged,
    HeadUnknown,
    Amnesia,
}

#[test]
fn a_group_that_is_deleted_while_a_replica_heals_is_gone_there_and_can_be_created_again() {
    for wrong in [Wrong::Damaged, Wrong::HeadUnknown, Wrong::Amnesia] {
        let mut cluster = Cluster::formed(2);
        write(&mut cluster, 0, 20);
        cluster.run_for(200);
        let leader = cluster.leader(1).expect("formed");
        let victim = 1 + leader % 3;
        cluster.kill(victim);
        cluster.start(victim);
        write(&mut cluster, 20, 40);
        cluster.run_for(200);
        cluster.kill(victim);
        match wrong {
            Wrong::Damaged => assert!(rot(&cluster, victim, "entry-0033") > 0),
            Wrong::HeadUnknown => {
                let newest = logs(&cluster, victim).pop().expect("log files");
                refloat_vfs::Vfs::remove_file(&cluster.disks[&victim], &newest).expect("removed");
            }
            Wrong::Amnesia => cluster.forget(victim, 1),
        }
        cluster.start(victim);
        assert_ne!(group_of(&cluster, victim, 1).state, "clean", "{wrong:?}");
        // What makes it whole does not get to the disk before the group is deleted.
        cluster.hold(victim, JobLane::Wal);
        cluster.run_for(100);
        let token = cluster.input(leader, |to| Input::DeleteGroup { to, group: GroupId(1) });
        cluster.answer(token).expect("deleted");
        cluster.run_for(300);
        cluster.release(victim, JobLane::Wal);
        let gone = |c: &Cluster| c.nodes[&victim].status().groups.iter().all(|g| g.group != 1);
        assert!(cluster.run_until(10, gone), "{wrong:?}: {:#?}", cluster.statuses());
        let create = |to| Input::CreateGroup { to, group: GroupId(1), members: vec![] };
        let token = cluster.input(leader, create);
        cluster.answer(token).expect("created again");
        cluster.proposed(victim, 1, "new").expect("applied");
        for again in [false, true] {
            if again {
                cluster.power_cut(victim);
                cluster.start(victim);
            }
            assert!(cluster.run_until(20, all_clean), "{wrong:?}: {:#?}", cluster.statuses());
            let text = cluster.read(victim, 1, Consistency::Linearizable);
            assert_eq!(text, Ok("new".into()), "{wrong:?}");
        }
    }
}

/// A follower whose log is in segments, and in no log file any more; it is down.
fn flushed(entries: u32) -> (Cluster, u64) {
    let mut cluster = Cluster::formed(1);
    write(&mut cluster, 0, entries);
    cluster.run_for(300);
    let victim = 1 + cluster.leader(1).expect("formed") % 3;
    flush(&mut cluster, victim);
    (cluster, victim)
}

fn flush(cluster: &mut Cluster, node: u64) {
    for _ in 0..3 {
        cluster.kill(node);
        cluster.start(node);
        cluster.run_for(500);
    }
    cluster.kill(node);
}

#[test]
fn rot_in_a_segment_is_found_when_the_log_is_applied_and_only_that_entry_is_asked_for() {
    let (mut cluster, victim) = flushed(20);
    let leader = cluster.leader(1).expect("formed");
    let at = cluster.proposed(leader, 1, "behind").expect("applied").index.0 - 13;
    assert_eq!(rot(&cluster, victim, "entry-0007"), 0, "in no log file");
    assert!(cluster.rot_in(victim, "seg", "entry-0007") > 0);
    // Nobody who could give it is there.
    for node in (1..=3).filter(|n| *n != victim) {
        cluster.kill(node);
    }
    cluster.start(victim);
    cluster.run_for(200);
    let found = group_of(&cluster, victim, 1);
    let why = found.waits_for.clone().unwrap_or_default();
    assert!(why.contains(&format!("{{{at}}}")), "entry {at}: {found:#?}");
    assert_eq!(found.applied, at - 1, "{found:#?}");
    // Who takes what is here gets it.
    assert_eq!(cluster.read(victim, 1, Consistency::Stale), Ok(text(0, 7)));
    for node in (1..=3).filter(|n| *n != victim) {
        cluster.start(node);
    }
    assert!(cluster.run_until(10, all_clean), "{:#?}", cluster.statuses());
    assert_eq!(cluster.read(victim, 1, Consistency::Linearizable), Ok(text(0, 20) + "\nbehind"));
}

#[test]
fn a_hole_that_the_others_have_compacted_is_cured_by_their_snapshot_though_it_is_committed() {
    let mut cluster = Cluster::formed(1);
    write(&mut cluster, 0, 20);
    let leader = cluster.leader(1).expect("formed");
    let victim = 1 + leader % 3;
    for n in 20..23 {
        cluster.proposed(leader, 1, &format!("entry-{n:04}")).expect("applied");
        cluster.run_for(100);
        for node in (1..=3).filter(|n| *n != victim) {
            let token = cluster.input(node, |to| Input::Snapshot { to, group: GroupId(1) });
            cluster.answer(token).expect("written");
        }
    }
    flush(&mut cluster, victim);
    assert!(cluster.rot_in(victim, "seg", "entry-0007") > 0);
    cluster.start(victim);
    let installed = |c: &Cluster| c.nodes[&victim].counters().snapshots_installed > 0;
    assert!(cluster.run_until(10, |c| installed(c) && all_clean(c)), "{:#?}", cluster.statuses());
    assert_eq!(cluster.read(victim, 1, Consistency::Linearizable), Ok(text(0, 23)));
}

/// Found by the simulator: the leader blamed the first of the entries that it had read at once, and
/// asked for it for ever, since the others had compacted it.
#[test]
fn a_leader_that_cannot_read_what_the_others_have_compacted_makes_a_snapshot_of_it() {
    let mut cluster = Cluster::formed(1);
    write(&mut cluster, 0, 20);
    cluster.run_for(300);
    let leader = 2;
    flush(&mut cluster, leader);
    cluster.start(leader);
    cluster.run_for(500);
    let first = cluster.leader(1).expect("formed");
    let target = NodeId(leader);
    let token = cluster.input(first, |to| Input::Transfer { to, group: GroupId(1), target });
    assert!(first == leader || cluster.answer(token).is_ok());
    assert!(cluster.run_until(5, |c| c.leader(1) == Some(leader)));
    for n in 20..23 {
        cluster.proposed(leader, 1, &format!("entry-{n:04}")).expect("applied");
        cluster.run_for(100);
        let token = cluster.input(1, |to| Input::Snapshot { to, group: GroupId(1) });
        cluster.answer(token).expect("written");
    }
    assert!(cluster.rot_in(leader, "seg", "entry-0007") > 0);
    // Who comes back with nothing needs the whole log.
    cluster.kill(3);
    cluster.join(3, LIFE, leader);
    cluster.start(3);
    let back = |c: &Cluster| c.is_voter(leader, 3, LIFE) && all_clean(c);
    assert!(cluster.run_until(20, back), "{:#?}", cluster.statuses());
    assert_eq!(cluster.read(3, 1, Consistency::Stale), Ok(text(0, 23)));
    assert!(cluster.nodes[&leader].counters().snapshots_sent > 0);
}

#[test]
fn n13_rot_below_applied_is_found_and_cured_without_a_peer() {
    let mut cluster = Cluster::formed(1);
    for n in 0..30 {
        cluster.proposed(1, 1, &format!("{n} {}", "x".repeat(30 << 10))).expect("applied");
    }
    let leader = cluster.leader(1).expect("formed");
    let victim = 1 + leader % 3;
    cluster.run_for(200);
    assert!(cluster.rot_files(victim, "seg", "seg") > 0);
    // Nobody can help.
    for other in (1..=3).filter(|node| *node != victim) {
        cluster.partition(victim, other);
    }
    let applied = cluster.applied(victim, 1).0;
    cluster.run_for(70_000);
    let counters = cluster.nodes[&victim].counters();
    assert!(counters.rot > 0 && counters.scrubs > 0, "{counters:?}");
    let found = group_of(&cluster, victim, 1);
    assert!(found.snapshot >= applied && found.state == "clean", "{found:#?}");
    cluster.kill(victim);
    cluster.start(victim);
    cluster.run_for(500);
    let found = group_of(&cluster, victim, 1);
    assert_eq!((found.state, found.applied >= applied), ("clean", true), "{found:#?}");
}

#[test]
fn n13_a_rotten_snapshot_is_found_and_written_anew() {
    let mut cluster = Cluster::formed(1);
    write(&mut cluster, 0, 20);
    let leader = cluster.leader(1).expect("formed");
    let victim = 1 + leader % 3;
    let snapshot = |to| Input::Snapshot { to, group: GroupId(1) };
    let token = cluster.input(victim, snapshot);
    cluster.answer(token).expect("written");
    let of = group_of(&cluster, victim, 1).snapshot;
    assert_eq!(cluster.rot_files(victim, "snap", "snap"), 1);
    cluster.run_for(70_000);
    assert!(cluster.nodes[&victim].counters().rot > 0);
    cluster.kill(victim);
    cluster.start(victim);
    let found = group_of(&cluster, victim, 1);
    assert_eq!((found.state, found.snapshot >= of), ("clean", true), "{found:#?}");
    assert!(cluster.run_until(10, all_clean));
    assert_eq!(cluster.read(victim, 1, Consistency::Linearizable), Ok(text(0, 20)));
}
