//! What a state machine may have beside its state: effects of the leader, versions of its rules.

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use refloat_node::{
    Chunks, Command, Consistency, Input, JobLane, RestoreError, SnapshotReader, StateMachine,
    Versions,
};
use refloat_types::{GroupId, NodeId};
use support::Cluster;
use support::debts::{Debts, open, told};

fn with_debts() -> Cluster {
    let mut cluster = Cluster::new(1);
    cluster.machines = Some(Arc::new(|_, _| Box::<Debts>::default()));
    cluster.start_all();
    cluster.wait_for_leaders(1);
    cluster
}

fn look<M: StateMachine>(
    cluster: &mut Cluster,
    node: u64,
    show: impl Fn(&M) -> String + Send + 'static,
) -> String {
    let ask = move |machine: &mut dyn StateMachine| {
        let machine: &mut dyn std::any::Any = machine;
        Bytes::from(show(machine.downcast_mut::<M>().expect("the machine of this test")))
    };
    cluster.ask(node, 1, Consistency::Stale, Box::new(ask)).expect("read")
}

#[test]
fn effects_are_the_leaders_alone_and_the_next_leader_repeats_what_is_owed() {
    let mut cluster = with_debts();
    let leader = cluster.leader(1).expect("formed");
    for command in ["owe a", "owe b", "done a"] {
        cluster.proposed(leader, 1, command).expect("applied");
    }
    cluster.run_for(1_000);
    assert_eq!(told(&mut cluster), [(leader, "a".to_owned()), (leader, "b".to_owned())]);
    cluster.kill(leader);
    let new = |c: &Cluster| c.leader(1).is_some_and(|now| now != leader);
    assert!(cluster.run_until(20, new));
    cluster.run_for(1_000);
    let heir = cluster.leader(1).expect("just seen");
    assert_eq!(told(&mut cluster), [(heir, "b".to_owned())], "what is done is not owed");
    // The old leader starts anew: as a follower it applies the same again, and tells nothing.
    cluster.start(leader);
    cluster.run_for(1_000);
    cluster.proposed(heir, 1, "owe c").expect("applied");
    cluster.run_for(500);
    assert_eq!(told(&mut cluster), [(heir, "c".to_owned())]);
}

/// A leader that cannot commit an entry of its own term may lack what the one before it applied.
#[test]
fn effects_begin_only_when_an_own_entry_is_applied() {
    let mut cluster = with_debts();
    let leader = cluster.leader(1).expect("formed");
    cluster.proposed(leader, 1, "owe a").expect("applied");
    cluster.run_for(500);
    told(&mut cluster);
    let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    others.iter().for_each(|other| cluster.partition(leader, *other));
    // The isolated leader takes a proposal that nobody else will have.
    cluster.propose(leader, 1, "owe never");
    assert!(cluster.run_until(20, |c| c.leader(1).is_some_and(|now| now != leader)));
    cluster.run_for(500);
    let heir = cluster.leader(1).expect("just seen");
    assert_eq!(told(&mut cluster), [(heir, "a".to_owned())]);
    cluster.heal();
    cluster.run_for(2_000);
    assert!(told(&mut cluster).iter().all(|(_, name)| name != "never"));
}

#[test]
fn a_timer_proposes_its_command_and_outlives_its_leader() {
    let mut cluster = with_debts();
    let leader = cluster.leader(1).expect("formed");
    let at = |cluster: &Cluster, millis| cluster.time().wall_ms + millis;
    let (soon, late) = (at(&cluster, 300), at(&cluster, 5_000));
    cluster.proposed(leader, 1, &format!("later a {soon}")).expect("applied");
    cluster.proposed(leader, 1, &format!("later bb {late}")).expect("applied");
    cluster.proposed(leader, 1, &format!("later ccc {late}")).expect("applied");
    cluster.proposed(leader, 1, "never ccc").expect("applied");
    assert_eq!(look(&mut cluster, leader, open), "a bb");
    cluster.run_for(600);
    for node in 1..=3 {
        assert_eq!(look(&mut cluster, node, open), "bb", "at {node}");
    }
    cluster.kill(leader);
    assert!(cluster.run_until(20, |c| c.leader(1).is_some_and(|now| now != leader)));
    let heir = cluster.leader(1).expect("just seen");
    assert_eq!(look(&mut cluster, heir, open), "bb");
    let left = late.saturating_sub(cluster.time().wall_ms);
    cluster.run_for(left + 500);
    assert_eq!(look(&mut cluster, heir, open), "");
    // What is done is not proposed again.
    let applied = cluster.applied(heir, 1);
    cluster.run_for(1_000);
    assert_eq!(cluster.applied(heir, 1), applied);
}

fn hand_over(cluster: &mut Cluster, to: u64) {
    let leader = cluster.leader(1).expect("formed");
    if leader != to {
        let (group, target) = (GroupId(1), NodeId(to));
        let token = cluster.input(leader, |to| Input::Transfer { to, group, target });
        cluster.answer(token).expect("handed over");
        assert_eq!(cluster.leader(1), Some(to));
    }
    cluster.run_for(500);
}

#[test]
fn a_timer_that_is_set_anew_is_due_at_its_new_time_only() {
    let mut cluster = with_debts();
    let leader = cluster.leader(1).expect("formed");
    let now = cluster.time().wall_ms;
    for at in [now + 300, now + 2_000] {
        cluster.proposed(leader, 1, &format!("later a {at}")).expect("applied");
    }
    cluster.run_for(1_000);
    assert_eq!(look(&mut cluster, leader, open), "a");
    cluster.run_for(1_500);
    assert_eq!(look(&mut cluster, leader, open), "");
}

#[test]
fn a_timers_command_that_is_not_taken_while_the_lead_is_handed_over_is_proposed_again() {
    let mut cluster = with_debts();
    let leader = cluster.leader(1).expect("formed");
    let (target, other) = (1 + leader % 3, 1 + (leader + 1) % 3);
    cluster.kill(target);
    let at = cluster.time().wall_ms + 200;
    cluster.proposed(leader, 1, &format!("later a {at}")).expect("applied");
    // Nobody takes it, and for an election timeout nothing can be proposed.
    let (group, to_node) = (GroupId(1), NodeId(target));
    let token = cluster.input(leader, |to| Input::Transfer { to, group, target: to_node });
    cluster.run_for(400);
    assert_eq!(look(&mut cluster, other, open), "a");
    cluster.run_for(1_000);
    assert!(cluster.answer(token).is_err(), "the other one is down");
    assert_eq!(cluster.leader(1), Some(leader));
    assert_eq!(look(&mut cluster, other, open), "");
}

#[test]
fn a_machine_that_never_cancels_its_timers_is_stopped_with_a_sentence() {
    let mut cluster = with_debts();
    let leader = cluster.leader(1).expect("formed");
    let _ = cluster.proposed(leader, 1, "many 65536");
    assert_eq!(cluster.nodes[&leader].status().groups[1].role, "leader", "as many as may be");
    let _ = cluster.proposed(leader, 1, "many 65537");
    let group = cluster.nodes[&leader].status().groups.remove(1);
    assert_eq!(group.role, "stopped");
    assert!(group.waits_for.is_some_and(|why| why.contains("more than 65536 timers")));
}

/// Remembers each command with the version by which it was applied.
struct Ruled {
    newest: u32,
    version: u32,
    commands: Vec<String>,
}

impl StateMachine for Ruled {
    fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
        for command in batch {
            let text = String::from_utf8_lossy(&command.payload);
            self.commands.push(format!("{text}@{}", self.version));
        }
        vec![Bytes::new(); batch.len()]
    }

    fn snapshot(&mut self) -> Chunks {
        Box::new(std::iter::once(self.commands.join(" ").into()))
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader<'_>) -> Result<(), RestoreError> {
        let text = String::from_utf8_lossy(&snapshot.rest()).into_owned();
        self.commands = text.split_whitespace().map(str::to_owned).collect();
        Ok(())
    }

    fn versions(&mut self) -> Option<&mut dyn Versions> {
        Some(self)
    }
}

impl Versions for Ruled {
    fn newest(&self) -> u32 {
        self.newest
    }

    fn switch_to(&mut self, version: u32) {
        assert!(version <= self.newest, "nobody asks for what cannot be run");
        self.version = version;
    }
}

/// Which program runs on which node.
type Programs = Arc<Mutex<BTreeMap<u64, u32>>>;

fn with_programs(snapshot_entries: u64) -> (Cluster, Programs) {
    let programs = Programs::default();
    let mut cluster = Cluster::new(1);
    cluster.config.snapshot_entries = snapshot_entries;
    let of = programs.clone();
    cluster.machines = Some(Arc::new(move |node, _| {
        let newest = of.lock().expect("no panic").get(&node).copied().unwrap_or(0);
        Box::new(Ruled { newest, version: 0, commands: Vec::new() })
    }));
    cluster.start_all();
    cluster.wait_for_leaders(1);
    (cluster, programs)
}

fn replace_program(cluster: &mut Cluster, programs: &Programs, node: u64, newest: u32) {
    cluster.kill(node);
    programs.lock().expect("no panic").insert(node, newest);
    cluster.start(node);
    cluster.wait_for_leaders(1);
    cluster.run_for(2_000);
}

fn write(cluster: &mut Cluster, at: u64, numbers: std::ops::Range<u32>) {
    for n in numbers {
        cluster.proposed(at, 1, &format!("c{n}")).expect("applied");
    }
}

fn in_force(cluster: &Cluster, node: u64) -> u32 {
    cluster.nodes[&node].status().groups[1].machine_version
}

fn same_everywhere(cluster: &mut Cluster) -> Vec<String> {
    cluster.run_for(1_000);
    let show = |ruled: &Ruled| ruled.commands.join(" ");
    let texts: Vec<String> = (1..=3).map(|node| look(cluster, node, show)).collect();
    assert_eq!(texts[0], texts[1]);
    assert_eq!(texts[1], texts[2]);
    texts[0].split(' ').map(str::to_owned).collect()
}

#[test]
fn o06_a_newer_version_comes_into_force_when_the_last_member_can_run_it() {
    let (mut cluster, programs) = with_programs(1_000);
    write(&mut cluster, 1, 0..3);
    for node in 1..=2 {
        replace_program(&mut cluster, &programs, node, 2);
        assert_eq!(in_force(&cluster, node), 0);
    }
    write(&mut cluster, 1, 3..6);
    // One that can run more than 0, and less than the others.
    replace_program(&mut cluster, &programs, 3, 1);
    assert!(cluster.run_until(20, |c| (1..=3).all(|node| in_force(c, node) == 1)));
    write(&mut cluster, 1, 6..9);
    replace_program(&mut cluster, &programs, 3, 2);
    assert!(cluster.run_until(20, |c| (1..=3).all(|node| in_force(c, node) == 2)));
    write(&mut cluster, 1, 9..12);
    let expected: Vec<String> = (0..12).map(|n| format!("c{n}@{}", [0, 0, 1, 2][n / 3])).collect();
    assert_eq!(same_everywhere(&mut cluster), expected);
    for node in 1..=3 {
        cluster.power_cut(node);
    }
    cluster.start_all();
    cluster.wait_for_leaders(1);
    assert_eq!(same_everywhere(&mut cluster), expected, "by the same rules again");
}

#[test]
fn o06_a_member_that_is_away_puts_a_newer_version_off() {
    let (mut cluster, programs) = with_programs(1_000);
    cluster.kill(3);
    for node in 1..=2 {
        replace_program(&mut cluster, &programs, node, 1);
    }
    cluster.run_for(5_000);
    assert_eq!((in_force(&cluster, 1), in_force(&cluster, 2)), (0, 0));
    let (leader, applied) = (cluster.leader(1), cluster.applied(1, 1));
    programs.lock().expect("no panic").insert(3, 1);
    cluster.start(3);
    assert!(cluster.run_until(20, |c| (1..=3).all(|node| in_force(c, node) == 1)));
    cluster.run_for(2_000);
    assert_eq!(cluster.leader(1), leader);
    assert_eq!(cluster.applied(1, 1), applied.next(), "one entry is enough");
}

/// Whether node 3, whose program is an old one, is asked before the others' version comes into
/// force, though it once said that it could run that one.
fn asks_node_3_again(mut cluster: Cluster, programs: &Programs) {
    replace_program(&mut cluster, programs, 2, 1);
    cluster.run_for(5_000);
    assert_eq!(cluster.leader(1), Some(1));
    assert_eq!((in_force(&cluster, 1), in_force(&cluster, 2)), (0, 0));
    assert_eq!(cluster.nodes[&3].status().groups[1].role, "follower", "it would be stopped");
}

/// Node 1 leads, and heard of node 3, but not yet of node 2, that it can run version 1.
fn node_3_said_1() -> (Cluster, Programs) {
    let (mut cluster, programs) = with_programs(1_000);
    for node in [1, 3] {
        replace_program(&mut cluster, &programs, node, 1);
    }
    hand_over(&mut cluster, 1);
    cluster.run_for(2_000);
    (cluster, programs)
}

#[test]
fn o06_what_a_member_said_in_another_life_does_not_count_for_this_one() {
    const LIFE: u128 = 0xA1A1_0000_0000_0003;
    let (mut cluster, programs) = node_3_said_1();
    cluster.kill(3);
    programs.lock().expect("no panic").insert(3, 0);
    cluster.join(3, LIFE, 1);
    cluster.start(3);
    assert!(cluster.run_until(20, |c| c.is_voter(1, 3, LIFE)), "{:#?}", cluster.statuses());
    assert_eq!(cluster.leader(1), Some(1));
    asks_node_3_again(cluster, &programs);
}

#[test]
fn o06_what_a_member_said_to_an_earlier_leadership_does_not_count() {
    let (mut cluster, programs) = node_3_said_1();
    hand_over(&mut cluster, 2);
    cluster.kill(3);
    programs.lock().expect("no panic").insert(3, 0);
    cluster.start(3);
    cluster.run_for(500);
    hand_over(&mut cluster, 1);
    asks_node_3_again(cluster, &programs);
}

#[test]
fn o06_an_older_program_applies_nothing_of_a_newer_version_and_says_so() {
    for snapshots in [1_000, 5] {
        let (mut cluster, programs) = with_programs(snapshots);
        for node in 1..=3 {
            replace_program(&mut cluster, &programs, node, 1);
        }
        assert!(cluster.run_until(20, |c| (1..=3).all(|node| in_force(c, node) == 1)));
        let old = 1 + cluster.leader(1).expect("formed") % 3;
        let other = 1 + old % 3;
        write(&mut cluster, other, 0..20);
        cluster.run_for(500);
        cluster.kill(old);
        write(&mut cluster, other, 20..40);
        programs.lock().expect("no panic").insert(old, 0);
        cluster.start(old);
        let stopped = |c: &Cluster| c.nodes[&old].status().groups[1].role == "stopped";
        assert!(cluster.run_until(20, stopped), "{:#?}", cluster.nodes[&old].status());
        let why = cluster.nodes[&old].status().groups[1].waits_for.clone().unwrap_or_default();
        assert!(why.contains("version 1") && why.contains("up to 0"), "{why}");
        // The node goes on, and so does the group elsewhere.
        let knows = |c: &Cluster| c.nodes[&old].status().groups[0].leader.is_some();
        assert!(cluster.run_until(5, knows));
        write(&mut cluster, other, 40..45);
        replace_program(&mut cluster, &programs, old, 1);
        let level = |c: &Cluster| c.applied(old, 1) >= c.applied(other, 1);
        assert!(cluster.run_until(30, level), "{:#?}", cluster.statuses());
        let expected: Vec<String> = (0..45).map(|n| format!("c{n}@1")).collect();
        assert_eq!(same_everywhere(&mut cluster), expected);
    }
}

#[test]
fn o06_a_newer_version_is_proposed_once_however_long_its_entry_takes() {
    let (mut cluster, programs) = with_programs(1_000);
    write(&mut cluster, 1, 0..1);
    for node in 1..=2 {
        replace_program(&mut cluster, &programs, node, 1);
    }
    hand_over(&mut cluster, 1);
    cluster.kill(3);
    programs.lock().expect("no panic").insert(3, 1);
    // Both others write nothing down for some seconds.
    cluster.start(3);
    for node in 2..=3 {
        cluster.hold(node, JobLane::Wal);
    }
    let last = |c: &Cluster| c.nodes[&1].status().groups[1].durable;
    let before = last(&cluster);
    assert!(cluster.run_until(2, |c| last(c) > before), "it is proposed");
    cluster.run_for(2_400);
    assert_eq!(cluster.leader(1), Some(1));
    assert_eq!(last(&cluster), before + 1, "and once is enough");
    for node in 2..=3 {
        cluster.release(node, JobLane::Wal);
    }
    assert!(cluster.run_until(20, |c| (1..=3).all(|node| in_force(c, node) == 1)));
}
