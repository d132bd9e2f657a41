//! Entries that the state refers to and that only the log holds: read back through the node, lost,
//! and fetched from other members.

mod support;

use refloat_log_store::Options;
use refloat_node::{GroupStatus, Input, JobLane, RequestError};
use refloat_types::{GroupId, Index};
use support::keeper::{all_commands, commands, keeping, kept};
use support::{Cluster, DIR};

const FILE: u64 = 64 << 10;

/// Long enough that only a few stand in one file.
fn text(n: u32) -> String {
    let name = if n.is_multiple_of(7) { "keep" } else { "drop" };
    format!("{name} {n:04} {}", "x".repeat(2_000))
}

/// Every kept command of so many, with its index.
fn expected(cluster: &mut Cluster, count: u32) -> Vec<(u64, String)> {
    let indexes = kept(cluster, 1);
    let texts = (0..count).step_by(7).map(text);
    indexes.into_iter().zip(texts).collect()
}

/// Three members whose logs hold little more than what the snapshot refers to.
fn with_live_entries(count: u32) -> Cluster {
    let mut cluster = Cluster::new(1);
    cluster.config.snapshot_entries = 20;
    cluster.store = || {
        let mut options = Options::new(DIR);
        (options.wal_file_size, options.votes_file_size) = (FILE, FILE);
        options
    };
    keeping(&mut cluster);
    cluster.start_all();
    cluster.wait_for_leaders(1);
    write(&mut cluster, 0, count);
    compact(&mut cluster);
    cluster
}

fn write(cluster: &mut Cluster, from: u32, to: u32) {
    for n in from..to {
        cluster.proposed(1, 1, &text(n)).expect("applied");
    }
}

/// Two snapshots at each member, so that nothing below is kept but what is live.
fn compact(cluster: &mut Cluster) {
    for _ in 0..2 {
        cluster.proposed(1, 1, "drop").expect("applied");
        cluster.run_for(200);
        for node in 1..=3 {
            let token = cluster.input(node, |to| Input::Snapshot { to, group: GroupId(1) });
            cluster.answer(token).expect("a snapshot");
        }
    }
    cluster.run_for(1_000);
}

fn lose_segments(cluster: &Cluster, node: u64) {
    let files = cluster.files(node, "seg", "seg");
    assert!(!files.is_empty());
    for path in files {
        refloat_vfs::Vfs::remove_file(&cluster.disks[&node], &path).expect("removed");
    }
}

fn group_of(cluster: &Cluster, node: u64) -> GroupStatus {
    cluster.nodes[&node].status().groups[1].clone()
}

fn filled(cluster: &Cluster, node: u64) -> u64 {
    cluster.nodes[&node].counters().live_filled
}

fn is_clean(cluster: &Cluster, node: u64) -> bool {
    group_of(cluster, node).state == "clean"
}

fn cut_off(cluster: &mut Cluster, node: u64) {
    for other in (1..=3).filter(|other| *other != node) {
        cluster.partition(node, other);
    }
}

/// Also after a power cut and a start, and though the others are away.
fn has_all(cluster: &mut Cluster, node: u64, expected: &[(u64, String)]) {
    let indexes: Vec<u64> = expected.iter().map(|(index, _)| *index).collect();
    assert_eq!(all_commands(cluster, node, &indexes).as_deref(), Ok(expected));
    cluster.run_for(10);
    cluster.power_cut(node);
    cut_off(cluster, node);
    cluster.start(node);
    let read = |c: &mut Cluster| all_commands(c, node, &indexes);
    cluster.run_for(500);
    assert_eq!(read(cluster).as_deref(), Ok(expected));
    assert_eq!(group_of(cluster, node).state, "clean");
    cluster.heal();
    cluster.run_for(2_000);
    compact(cluster);
    assert_eq!(read(cluster).as_deref(), Ok(expected));
}

#[test]
fn live_entries_are_read_back_through_the_node_wherever_they_are() {
    let mut cluster = with_live_entries(70);
    let mut expected = expected(&mut cluster, 70);
    for node in 1..=3 {
        let indexes = kept(&mut cluster, node);
        assert_eq!(all_commands(&mut cluster, node, &indexes).as_ref(), Ok(&expected));
    }
    // Compacted, between live ones and alone; and above what is applied.
    let gone = expected[0].0 + 1;
    let error =
        |index, lost| Err(RequestError::NotKept { group: GroupId(1), index: Index(index), lost });
    assert_eq!(commands(&mut cluster, 1, &[gone]), error(gone, false));
    let above = cluster.applied(1, 1).0 + 1;
    assert_eq!(commands(&mut cluster, 1, &[expected[0].0, above]), error(above, false));
    // What is in memory, and what holds no command.
    write(&mut cluster, 70, 72);
    let last = cluster.applied(1, 1).0;
    expected.truncate(1);
    expected.extend([(last - 1, text(70)), (last, text(71))]);
    let indexes: Vec<u64> = expected.iter().map(|(index, _)| *index).collect();
    assert_eq!(commands(&mut cluster, 1, &indexes).as_ref(), Ok(&expected));
    assert_eq!(commands(&mut cluster, 1, &[]), Ok(Vec::new()));
    let unknown = cluster.input(1, |to| Input::ReadLog {
        to,
        group: GroupId(9),
        indexes: [Index(1)].into_iter().collect(),
    });
    let answer = cluster.answer(unknown).expect_err("there is no such group");
    assert!(matches!(answer, RequestError::UnknownGroup { .. }), "{answer}");
}

#[test]
fn an_answer_holds_as_many_commands_as_fit_and_one_in_any_case() {
    let mut cluster = with_live_entries(70);
    let expected = expected(&mut cluster, 70);
    let mut left: Vec<u64> = expected.iter().map(|(index, _)| *index).collect();
    for (most, counts) in [(5_000, 3), (1, 1)] {
        cluster.config.max_append_bytes = most;
        cluster.kill(1);
        cluster.start(1);
        let applied = cluster.run_until(20, |c| c.applied(1, 1).0 > left[left.len() - 1]);
        assert!(applied, "{:#?}", cluster.statuses());
        let got = commands(&mut cluster, 1, &left).expect("some");
        assert_eq!(got.len(), counts, "of {most} bytes");
        assert!(got.iter().all(|one| expected.contains(one)), "{got:?}");
        left.drain(..counts);
    }
}

#[test]
fn so_many_are_read_at_once_as_the_budget_of_requests_has_room_for() {
    let mut cluster = with_live_entries(70);
    let expected = expected(&mut cluster, 70);
    cluster.config.max_pending_bytes = 3 * FILE / 4;
    cluster.kill(2);
    cluster.start(2);
    assert!(cluster.run_until(20, |c| c.applied(2, 1).0 > expected[9].0));
    cluster.hold(2, JobLane::Read);
    let read = |to| Input::ReadLog {
        to,
        group: GroupId(1),
        indexes: [Index(expected[0].0)].into_iter().collect(),
    };
    let tokens: Vec<_> = (0..10).map(|_| cluster.input(2, read)).collect();
    cluster.run_for(100);
    cluster.release(2, JobLane::Read);
    let answers: Vec<_> = tokens.into_iter().map(|token| cluster.answer(token)).collect();
    let busy = |answer: &&Result<_, _>| matches!(answer, Err(RequestError::Busy { .. }));
    let refused = answers.iter().filter(busy).count();
    assert_eq!((answers.iter().filter(|answer| answer.is_ok()).count(), refused), (3, 7));
    assert_eq!(cluster.nodes[&2].counters().pending_bytes, 0);
    assert_eq!(commands(&mut cluster, 2, &[expected[0].0]).map(|read| read.len()), Ok(1));
}

#[test]
fn g03_live_entries_that_a_start_misses_come_from_another_member() {
    let mut cluster = with_live_entries(70);
    let expected = expected(&mut cluster, 70);
    for victim in [1, 2, 3] {
        cluster.kill(victim);
        lose_segments(&cluster, victim);
        cut_off(&mut cluster, victim);
        cluster.start(victim);
        cluster.run_for(200);
        let found = group_of(&cluster, victim);
        assert_eq!(found.state, "damaged", "{found:#?}");
        let waits_for = found.waits_for.expect("an explanation");
        assert!(waits_for.contains("to which the snapshot refers"), "{waits_for}");
        let first = expected[0].0;
        let refusal = commands(&mut cluster, victim, &[first]).expect_err("lost");
        let lost = RequestError::NotKept { group: GroupId(1), index: Index(first), lost: true };
        assert!(refusal == lost && refusal.is_retryable(), "{refusal}");
        cluster.heal();
        let begun = cluster.time().now;
        assert!(cluster.run_until(5, |c| is_clean(c, victim)), "{:#?}", cluster.statuses());
        assert!(cluster.time().now.since(begun) < 1_000_000, "within a second");
        assert_eq!(filled(&cluster, victim), expected.len() as u64);
        has_all(&mut cluster, victim, &expected);
    }
}

#[test]
fn g03_a_live_entry_that_rots_while_the_node_runs_comes_from_another_member() {
    for by_reading in [true, false] {
        let mut cluster = with_live_entries(70);
        let expected = expected(&mut cluster, 70);
        let leader = cluster.leader(1).expect("formed");
        let victim = if by_reading { leader } else { 1 + leader % 3 };
        assert!(cluster.rot_in(victim, "seg", "keep 0014") > 0);
        if by_reading {
            let indexes: Vec<u64> = expected.iter().map(|(index, _)| *index).collect();
            let got = commands(&mut cluster, victim, &indexes).expect("those before it");
            assert_eq!(got, expected[..2]);
            let refusal = commands(&mut cluster, victim, &indexes[2..]).expect_err("rotten");
            assert!(refusal.is_retryable(), "{refusal}");
        } else {
            cluster.run_for(70_000);
            assert!(cluster.nodes[&victim].counters().rot > 0);
        }
        assert!(cluster.run_until(5, |c| is_clean(c, victim)), "{:#?}", cluster.statuses());
        assert_eq!(filled(&cluster, victim), 1);
        has_all(&mut cluster, victim, &expected);
    }
}

/// The machine is not restored yet, so that nothing is applied: what rots is below it all the same.
#[test]
fn g03_a_live_entry_that_rots_before_the_machine_is_restored_is_no_hole() {
    let mut cluster = with_live_entries(70);
    let expected = expected(&mut cluster, 70);
    let leader = cluster.leader(1).expect("formed");
    let victim = 1 + leader % 3;
    cluster.kill(victim);
    assert!(cluster.rot_in(victim, "seg", "keep 0014") > 0);
    cluster.hold(victim, JobLane::Apply);
    cluster.start(victim);
    cluster.run_for(70_000);
    assert!(cluster.nodes[&victim].counters().rot > 0 && cluster.applied(victim, 1).0 == 0);
    cluster.release(victim, JobLane::Apply);
    assert!(cluster.run_until(5, |c| is_clean(c, victim)), "{:#?}", cluster.statuses());
    cluster.run_for(1_000);
    has_all(&mut cluster, victim, &expected);
}

#[test]
fn g03_what_no_member_can_give_is_asked_for_again_once_another_one_is_there() {
    let mut cluster = with_live_entries(70);
    let expected = expected(&mut cluster, 70);
    let snapshot = (1..=3).map(|node| group_of(&cluster, node).snapshot).max().expect("three");
    (1..=3).for_each(|node| cluster.kill(node));
    [1, 2].into_iter().for_each(|node| lose_segments(&cluster, node));
    [1, 2].into_iter().for_each(|node| cluster.start(node));
    assert!(cluster.run_until(20, |c| c.leader(1).is_some()));
    let sent = |c: &Cluster| c.nodes[&1].counters().frames_sent;
    let before = sent(&cluster);
    cluster.run_for(5_000);
    let beats = 5_000_000 / cluster.config.heartbeat;
    assert!(sent(&cluster) - before < 5 * beats, "they do not ask each other without end");
    for node in [1, 2] {
        assert_eq!(group_of(&cluster, node).state, "damaged");
        assert_eq!(filled(&cluster, node), 0);
    }
    // Clients are served all the while, and a new snapshot is made that may refer to less.
    cluster.proposed(1, 1, "drop more").expect("applied");
    assert!([1, 2].into_iter().all(|node| group_of(&cluster, node).snapshot > snapshot));
    cluster.start(3);
    assert!(
        cluster.run_until(2, |c| is_clean(c, 1) && is_clean(c, 2)),
        "{:#?}",
        cluster.statuses()
    );
    for node in [1, 2] {
        has_all(&mut cluster, node, &expected);
    }
}

/// Who leads and lacks what its snapshot refers to cannot send it: it heals itself first.
#[test]
fn g03_a_leader_that_lost_live_entries_fetches_them_and_then_sends_its_snapshot() {
    let mut cluster = with_live_entries(70);
    let leader = cluster.leader(1).expect("formed");
    let (other, behind) = (1 + leader % 3, 1 + (leader + 1) % 3);
    cluster.kill(behind);
    for n in 70..140 {
        cluster.proposed(leader, 1, &text(n)).expect("applied");
    }
    cluster.run_for(500);
    let indexes = kept(&mut cluster, leader);
    let all = all_commands(&mut cluster, leader, &indexes).expect("all are there");
    assert_eq!(all.len(), 20);
    assert!(
        cluster.rot_in(leader, "seg", "keep 0084") + cluster.rot_in(leader, "seg", "keep 0091") > 1
    );
    assert!(cluster.leader(1) == Some(leader) && filled(&cluster, other) == 0);
    cluster.start(behind);
    let level = |c: &Cluster| c.applied(behind, 1) >= c.applied(leader, 1);
    assert!(cluster.run_until(30, level), "{:#?}", cluster.statuses());
    assert!(cluster.nodes[&behind].counters().snapshots_installed > 0);
    assert_eq!(all_commands(&mut cluster, behind, &indexes).as_ref(), Ok(&all));
    assert!(cluster.run_until(5, |c| is_clean(c, leader)), "{:#?}", cluster.statuses());
    assert_eq!(all_commands(&mut cluster, leader, &indexes).as_ref(), Ok(&all));
}

/// By the kinds of the items behind the frame's header, of which each gives its length.
fn holds_a_raft_message(frame: &[u8]) -> bool {
    let mut items = &frame[41..];
    while let [kind, a, b, c, d, rest @ ..] = items {
        if *kind == 1 {
            return true;
        }
        items = &rest[u32::from_le_bytes([*a, *b, *c, *d]) as usize..];
    }
    false
}

/// What stands at an index and is not known to be committed may be another entry.
#[test]
fn g03_nobody_gives_what_may_not_be_committed() {
    let mut cluster = with_live_entries(70);
    let deposed = cluster.leader(1).expect("formed");
    let (victim, other) = (1 + deposed % 3, 1 + (deposed + 1) % 3);
    cut_off(&mut cluster, deposed);
    for n in 0..5 {
        cluster.propose(deposed, 1, &format!("keep mine {n}"));
    }
    cluster.run_for(100);
    let next = |c: &Cluster| c.leader(1).is_some_and(|leader| leader != deposed);
    assert!(cluster.run_until(20, next), "{:#?}", cluster.statuses());
    let at = cluster.leader(1).expect("elected");
    for n in 0..80 {
        let text = if n < 5 { format!("keep theirs {n}") } else { text(n).replace("keep", "drop") };
        cluster.proposed(at, 1, &text).expect("applied");
    }
    for _ in 0..2 {
        cluster.proposed(at, 1, "drop").expect("applied");
        cluster.run_for(500);
        let token = cluster.input(victim, |to| Input::Snapshot { to, group: GroupId(1) });
        cluster.answer(token).expect("a snapshot");
    }
    cluster.run_for(1_000);
    let indexes = kept(&mut cluster, victim);
    let all = all_commands(&mut cluster, victim, &indexes).expect("all are there");
    assert_eq!(all.iter().filter(|(_, text)| text.starts_with("keep theirs")).count(), 5);
    (1..=3).for_each(|node| cluster.kill(node));
    cluster.heal();
    lose_segments(&cluster, victim);
    cluster.loses = Some(holds_a_raft_message);
    [victim, deposed].into_iter().for_each(|node| cluster.start(node));
    cluster.run_for(5_000);
    let given = filled(&cluster, victim);
    assert!((1..=10).contains(&given), "{given}: as far as the other one knows them committed");
    cluster.loses = None;
    cluster.start(other);
    assert!(cluster.run_until(20, |c| is_clean(c, victim)), "{:#?}", cluster.statuses());
    assert_eq!(all_commands(&mut cluster, victim, &indexes).as_ref(), Ok(&all));
}

/// The disk is full, and what comes waits outside until there is space.
#[test]
fn g03_lost_entries_are_asked_for_again_once_there_is_space_for_them() {
    let mut cluster = with_live_entries(70);
    let expected = expected(&mut cluster, 70);
    cluster.kill(3);
    lose_segments(&cluster, 3);
    cut_off(&mut cluster, 3);
    cluster.start(3);
    let used = cluster.disks[&3].files().values().sum::<u64>();
    cluster.disks[&3].set_capacity(Some(used));
    cluster.run_for(500);
    cluster.heal();
    cluster.run_for(5_000);
    cluster.disks[&3].set_capacity(None);
    assert!(cluster.run_until(20, |c| is_clean(c, 3)), "{:#?}", cluster.statuses());
    has_all(&mut cluster, 3, &expected);
}

/// Each frame arrives twice, so each gift does. Nobody writes what is here.
#[test]
fn gifts_that_come_again_are_not_taken() {
    let mut cluster = with_live_entries(70);
    cluster.kill(3);
    lose_segments(&cluster, 3);
    cluster.repeat = true;
    cluster.start(3);
    assert!(cluster.run_until(5, |c| is_clean(c, 3)), "{:#?}", cluster.statuses());
    cluster.run_for(500);
    assert_eq!(filled(&cluster, 3), 10);
}
