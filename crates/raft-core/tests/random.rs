//! Seeded runs with loss, duplication, reordering, crashes that forget what was not synced,
//! compaction and membership changes; the checks of figure 3 run at every step, and each run
//! ends with a healed cluster that must make progress.

#![allow(clippy::disallowed_methods, reason = "seed and count of runs come from the environment")]

mod common;

use common::check::Checks;
use common::*;
use refloat_raft_core::*;
use refloat_types::*;

struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 ^ (self.0 >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 16
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

fn run(seed: u64, steps: u64) -> Checks {
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let n = [1, 2, 3, 3, 3, 4, 5, 5][chance.below(8) as usize];
    let pre_vote = !chance.one_in(4);
    let check_quorum = !chance.one_in(4);
    let window = 1 + chance.below(4) as usize;
    let mut c = Cluster::with(n, |config| {
        config.pre_vote = pre_vote;
        config.check_quorum = check_quorum;
        config.max_inflight_msgs = window;
        config.max_append_bytes = 60;
        config.seed = seed;
    });
    let damage = n >= 3 && chance.one_in(2);
    let keeps_old = damage && chance.one_in(3);
    for id in 1..=n {
        c.node(id).counts_runs = damage;
        c.node(id).disk.keeps_old = keeps_old;
        c.node(id).memory = c.nodes[&id].disk.clone();
    }
    c.auto = Auto { persist: false, apply: false };
    c.checks.initial = Some(conf(1..=n));
    let mut spare = n + 1;
    for step in 0..steps {
        one_step(&mut c, &mut chance, step, &mut spare, damage);
        c.trace.clear();
        if step % 64 == 0 {
            let disks: Vec<_> = c.nodes.values().map(|n| &n.memory).collect();
            Checks::log_matching(&disks);
        }
    }
    if !(pre_vote && check_quorum) {
        silence_removed(&mut c);
    }
    heal(&mut c, seed);
    for (id, node) in &c.nodes {
        assert!(node.alarms.is_empty(), "seed {seed}: false alarm of {id}: {:?}", node.alarms);
        assert_eq!(node.status().rights, Rights::ALL, "seed {seed}: {id} is not whole");
        c.checks.healed += node.healed;
    }
    c.checks
}

fn one_step(c: &mut Cluster, chance: &mut Chance, step: u64, spare: &mut u64, damage: bool) {
    let ids: Vec<u64> = c.nodes.keys().copied().collect();
    let id = ids[chance.below(ids.len() as u64) as usize];
    let n = ids.len() as u64;
    let up = c.nodes[&id].core.is_some();
    match chance.below(100) {
        0..48 => deliver(c, chance),
        48 if up => {
            let has_space = !chance.one_in(4);
            c.space(id, has_space);
        }
        49 if up && chance.one_in(2) && !c.nodes[&id].disk.keeps_old => c.give_up(id),
        50..65 if up => {
            c.persist(id);
        }
        65..75 if up => c.apply(id, 1 + chance.below(4) as usize),
        75..83 if up => {
            let _ = c.propose(id, &format!("s{step}"));
        }
        83..90 => {
            c.now = c.now.after(chance.below(E / 4));
            c.tick_all();
        }
        90 if up && chance.one_in(2) => c.crash(id),
        91 | 92 if !up => {
            if damage && chance.one_in(2) {
                hurt(c, chance, id);
            }
            c.restart(id);
        }
        93 if up && !c.nodes[&id].disk.keeps_old => c.compact(id),
        94 if up => send_snapshots(c, chance, id),
        95 if up => {
            let _ = c.read(id, step);
        }
        96 if up && !damage && chance.one_in(3) => change(c, chance, id, spare),
        97 if up && chance.one_in(3) => {
            let to = NodeId(ids[chance.below(ids.len() as u64) as usize]);
            let _ = c.with_core(id, |core, now| core.transfer_leader(now, to));
        }
        98 if up => c.with_core(id, |core, _| core.on_unreachable(member(1))),
        99 if up && c.status(id).disk_hangs => c.answer(id),
        99 if up && chance.one_in(2) => c.hang(id, ids.get(chance.below(2 * n) as usize).copied()),
        _ => {}
    }
}

/// Loses the content of some entries that another member has whole; or, if all others are well,
/// of some that nobody else has, or the tail of the log. In some runs instead only what overwrote
/// the tail, so that the old one is there again. A store that lost a tail knows that something is
/// missing.
fn hurt(c: &mut Cluster, chance: &mut Chance, id: u64) {
    let others: Vec<u64> = c.nodes.keys().copied().filter(|n| *n != id).collect();
    let indexes: Vec<Index> = c.nodes[&id].disk.entries.keys().copied().collect();
    let well = others
        .iter()
        .all(|n| c.nodes[n].disk.rights == Rights::ALL && c.nodes[n].disk.lost.is_empty());
    if c.nodes[&id].disk.keeps_old {
        c.checks.old_ends += u64::from(well && c.node(id).disk.bring_old_back());
    } else if well && chance.one_in(3) {
        let Some(from) = indexes.get(chance.below(indexes.len().max(1) as u64) as usize) else {
            return;
        };
        let disk = &mut c.node(id).disk;
        disk.entries.split_off(from);
        disk.lost.split_off(from);
        disk.rights = Rights::FOLLOW;
    } else {
        for index in indexes.into_iter().filter(|_| chance.one_in(4)) {
            let entry = c.nodes[&id].disk.entries[&index].id;
            let whole = |n: &&u64| c.nodes[n].disk.entries.get(&index).map(|e| e.id) == Some(entry);
            let known = |n: &&u64| c.nodes[n].disk.id(index) == Some(entry);
            let compacted = |n: &&u64| c.nodes[n].disk.base.index >= index;
            let alone = well && !others.iter().any(|n| known(&n) || compacted(&n));
            if alone || others.iter().any(|n| whole(&n)) {
                c.checks.lost_alone += u64::from(alone);
                c.node(id).disk.lose(index.0);
            }
        }
    }
    c.node(id).memory = c.nodes[&id].disk.clone();
}

fn deliver(c: &mut Cluster, chance: &mut Chance) {
    if c.wire.is_empty() {
        return;
    }
    let at = if chance.one_in(3) { chance.below(c.wire.len() as u64) } else { 0 } as usize;
    if chance.one_in(12) {
        c.wire.remove(at);
    } else if chance.one_in(12) {
        c.deliver_one(c.wire[at].clone());
    } else {
        let message = c.wire.remove(at);
        c.deliver_one(message);
    }
    if c.wire.len() > 400 {
        c.wire.drain(..200);
    }
}

fn send_snapshots(c: &mut Cluster, chance: &mut Chance, id: u64) {
    for to in c.node(id).wants_snapshot.clone() {
        let ok = !chance.one_in(3) && c.nodes[&to.node.0].core.is_some();
        c.send_snapshot(id, to.node.0, ok);
    }
}

fn change(c: &mut Cluster, chance: &mut Chance, id: u64, spare: &mut u64) {
    let conf = c.status(id).conf;
    let members: Vec<Member> = conf.iter().collect();
    let some = members[chance.below(members.len() as u64) as usize];
    if let Some(ghost) = ghosts(c, &conf).first() {
        let new = c.nodes[&ghost.node.0].config.me;
        let _ = c.change(id, ConfChange::replace(*ghost, new));
        return;
    }
    let change = match chance.below(6) {
        0 if *spare <= 7 => {
            // The new member starts empty and learns its membership from the log.
            let node = *spare;
            *spare += 1;
            let mut config = c.nodes[&1].config.clone();
            config.me = member(node);
            let first = c.nodes[&1].runs; // any life: it starts with nothing
            config.seed = config.seed.wrapping_add(first);
            let initial = c.checks.initial.clone().unwrap_or_else(|| conf.clone());
            c.add(config, disk::Disk::empty(initial));
            if chance.one_in(2) {
                ConfChange::AddVoter(member(node))
            } else {
                ConfChange::AddLearner(member(node))
            }
        }
        1 => ConfChange::Promote(some),
        3 => several(c, chance, &members),
        4 => ConfChange::Leave,
        5 => return wipe(c, chance, id, some),
        2 if conf.voters.len() > 2 => ConfChange::Remove(some),
        _ => match c.nodes.values().map(|n| n.config.me).find(|m| !conf.contains(*m)) {
            Some(back) => ConfChange::AddLearner(back),
            None => return,
        },
    };
    let _ = c.change(id, change);
}

/// Some steps, mostly sensible ones, in any transition.
fn several(c: &Cluster, chance: &mut Chance, members: &[Member]) -> ConfChange {
    let mut steps = Vec::new();
    for _ in 0..1 + chance.below(3) {
        let some = members[chance.below(members.len() as u64) as usize];
        steps.push(match chance.below(4) {
            0 => ConfStep::Promote(some),
            1 => ConfStep::Demote(some),
            2 => {
                let node = chance.below(c.nodes.len() as u64) as usize;
                let (_, node) = c.nodes.iter().nth(node).expect("a node");
                ConfStep::AddVoter(node.config.me)
            }
            _ => ConfStep::Remove(some),
        });
    }
    let transitions = [Transition::Auto, Transition::Implicit, Transition::Explicit];
    ConfChange::Several { steps, transition: transitions[chance.below(3) as usize] }
}

/// A member that is down loses everything, comes back as a new life, and is let in by a leader.
/// Messages of its old life are still on the wire.
fn wipe(c: &mut Cluster, chance: &mut Chance, leader: u64, old: Member) {
    let node = old.node.0;
    let down = c.nodes.get(&node).is_some_and(|n| n.core.is_none() && n.config.me == old);
    let new = Member::new(old.node, Incarnation(old.incarnation.0 + 1));
    if !down
        || c.status(leader).conf.voters.len() < 3
        || c.change(leader, ConfChange::replace(old, new)).is_err()
    {
        return;
    }
    let mut config = c.nodes[&node].config.clone();
    config.me = new;
    config.seed = config.seed.wrapping_add(chance.next());
    let initial = c.checks.initial.clone().expect("the first membership");
    let (runs, healed) = (c.nodes[&node].runs, c.nodes[&node].healed);
    c.add(config, disk::Disk::empty(initial));
    (c.node(node).runs, c.node(node).healed) = (runs, healed);
    c.with_core(leader, |core, now| core.on_not_me(now, old));
}

/// Members whose node runs in another life.
fn ghosts(c: &Cluster, conf: &ConfState) -> Vec<Member> {
    conf.iter().filter(|m| c.nodes[&m.node.0].config.me != *m).collect()
}

/// Without pre-vote or check quorum, removed members that never heard of it disturb for ever.
fn silence_removed(c: &mut Cluster) {
    for node in c.nodes.values_mut() {
        node.config.pre_vote = true;
        node.config.check_quorum = true;
    }
    let ids: Vec<u64> = c.nodes.keys().copied().collect();
    for id in ids {
        c.crash(id);
    }
}

/// Everybody is up, the wire is clean: a leader must come, and commit something new everywhere.
fn heal(c: &mut Cluster, seed: u64) {
    c.auto = Auto { persist: true, apply: true };
    c.wire.clear();
    let ids: Vec<u64> = c.nodes.keys().copied().collect();
    for id in &ids {
        c.node(*id).hangs = false;
        if c.nodes[id].core.is_none() {
            c.restart(*id);
        }
        c.answer(*id);
        c.space(*id, true);
    }
    // Streams of before died with the faults.
    for from in &ids {
        for to in &ids {
            let to = c.nodes[to].config.me;
            c.with_core(*from, |core, now| core.on_snapshot_sent(now, to, false));
        }
    }
    c.run(30 * E);
    let leader = c.leader().unwrap_or_else(|| {
        let all: Vec<_> = ids
            .iter()
            .map(|id| (show::status(&c.status(*id)), c.status(*id).conf))
            .map(|(status, conf)| {
                format!("{status} voters {:?} learners {:?}", conf.voters, conf.learners)
            })
            .collect();
        panic!("seed {seed}: no leader after healing\n{}", all.join("\n"))
    });
    for ghost in ghosts(c, &c.status(leader).conf) {
        let new = c.nodes[&ghost.node.0].config.me;
        let change = match c.status(leader).conf.member(ghost.node) == Some(new) {
            true => ConfChange::Remove(ghost),
            false => ConfChange::replace(ghost, new),
        };
        let _ = c.change(leader, ConfChange::Leave);
        c.run(5 * BEAT);
        let _ = c.change(leader, change);
        c.run(5 * BEAT);
    }
    let before = c.status(leader).commit;
    c.propose(leader, "healed").expect("the leader takes proposals");
    c.run(10 * E);
    let status = c.status(leader);
    assert!(status.commit > before, "seed {seed}: nothing commits after healing");
    for member in status.conf.iter() {
        let commit = c.status(member.node.0).commit;
        assert_eq!(commit, status.commit, "seed {seed}: {member} is left behind");
    }
    let disks: Vec<_> = c.nodes.values().map(|n| &n.disk).collect();
    Checks::log_matching(&disks);
}

#[test]
fn c12_faulty_runs_stay_safe_and_healed_clusters_go_on() {
    let runs: u64 = std::env::var("RUNS").ok().and_then(|s| s.parse().ok()).unwrap_or(300);
    let first: u64 = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let (mut elections, mut commits, mut messages, mut healed) = (0, 0, 0, 0);
    let (mut old_ends, mut given_up, mut lost_alone) = (0, 0, 0);
    for seed in first..first + runs {
        let checks = run(seed, 3000);
        elections += checks.elections;
        commits += checks.commits;
        messages += checks.messages;
        healed += checks.healed;
        given_up += checks.given_up;
        old_ends += checks.old_ends;
        lost_alone += checks.lost_alone;
    }
    println!("{runs} runs: {elections} elections, {commits} commits, {messages} messages checked");
    println!("{healed} replicas healed, {old_ends} overwritten ends came back");
    println!("{lost_alone} entries lost that nobody else had");
    println!("{given_up} writes given up for want of space");
    assert!(
        elections > runs && commits > runs && healed > runs / 3 && old_ends > 0 && given_up > 0,
        "the faults left nothing to check"
    );
    assert!(lost_alone > 0, "no entry was lost that nobody else had");
}
