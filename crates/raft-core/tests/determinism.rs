//! A core is its whole state.

mod common;

use common::*;
use refloat_raft_core::*;
use refloat_types::*;
use std::hash::{DefaultHasher, Hash, Hasher};

fn hash(core: &Core) -> u64 {
    let mut hasher = DefaultHasher::new();
    core.hash(&mut hasher);
    hasher.finish()
}

#[test]
fn a_clone_is_equal_and_goes_on_as_the_original() {
    let mut c = Cluster::of(3);
    c.elect(1);
    c.propose(1, "x").unwrap();
    let now = c.now;
    let mut clone = c.node(1).core().clone();
    assert_eq!(&clone, c.node(1).core());
    assert_eq!(hash(&clone), hash(c.node(1).core()));
    let now = now.after(BEAT);
    let original = c.node(1).core();
    for core in [&mut clone, original] {
        core.tick(now);
        core.propose(now, vec![command("y")]).unwrap();
    }
    assert_eq!(clone.ready(), c.node(1).core().ready());
    assert_eq!(&clone, c.node(1).core());
    clone.read_index(now, ReadId(1)).unwrap();
    assert_ne!(&clone, c.node(1).core());
}

#[test]
fn timeouts_differ_between_members_of_one_seed_and_stay_in_their_bounds() {
    let start = |node: u64, seed: u64| {
        let mut config = settings(member(node));
        config.seed = seed;
        let core = Core::new(config, Restored::empty(conf(1..=3)), Now(0)).unwrap();
        core.wake_at().expect("an election").0
    };
    let waits: Vec<u64> = (0..200).map(|seed| start(1, seed)).collect();
    assert!(waits.iter().all(|w| (E..2 * E).contains(w)));
    assert!(waits.iter().max().unwrap() - waits.iter().min().unwrap() > E / 2);
    assert_ne!(start(1, 7), start(2, 7));
    assert_eq!(start(1, 7), start(1, 7));
}

#[test]
fn the_same_faults_leave_the_same_trace() {
    let trace = || {
        let mut c = Cluster::of(5);
        c.run(3 * E);
        let leader = c.leader().expect("a leader");
        c.crash(leader);
        c.run(5 * E);
        c.trace
    };
    assert_eq!(trace(), trace());
}
