//! A majority is lost for good: one node goes on alone, in a new epoch, and no other one beside it.

mod support;

use std::path::Path;
use std::sync::Arc;

use refloat_log_store::{boot, identity};
use refloat_node::{
    Card, Consistency, Input, NodeChange, NodeCore, Presence, RecoverError, Recovery, StartError,
    plan_recovery, recover,
};
use refloat_types::NodeId;
use refloat_vfs::{SimFs, Vfs};
use support::{Cluster, DIR, Journal};

const LIFE: u128 = 0xA1A1_0000_0000_0002;

fn nobody(_: &str) -> Presence {
    Presence::Nobody
}

/// Three nodes with two groups that were written to, all of them down.
fn at_rest() -> Cluster {
    let mut cluster = Cluster::formed(2);
    for n in 0..10 {
        cluster.proposed(1 + n % 3, 1 + n % 2, &format!("entry-{n}")).expect("applied");
    }
    cluster.run_for(300);
    (1..=3).for_each(|node| cluster.kill(node));
    cluster
}

fn recover_on(cluster: &Cluster, node: u64) -> Result<Recovery, RecoverError> {
    let vfs: Arc<dyn Vfs> = Arc::new(cluster.disks[&node].clone());
    recover(&vfs, &(cluster.store)(), &mut nobody)
}

fn plan_on(
    cluster: &Cluster,
    node: u64,
    mut presence: impl FnMut(&str) -> Presence,
) -> Result<Recovery, RecoverError> {
    plan_recovery(&cluster.disks[&node], &(cluster.store)(), &mut presence)
}

fn leads_all(cluster: &Cluster, node: u64) -> bool {
    (0..=2).all(|group| cluster.leader(group) == Some(node))
}

/// Nodes that say that they lead any group.
fn leaders(cluster: &Cluster) -> Vec<u64> {
    (0..=2).filter_map(|group| cluster.leader(group)).collect()
}

#[test]
fn m18_after_a_recovery_the_lost_majority_returns_and_is_superseded() {
    let mut cluster = at_rest();
    let done = recover_on(&cluster, 1).expect("the others are gone");
    assert_eq!((done.node, done.epoch, done.groups.len()), (1, 1, 3));
    assert_eq!(done.lost.iter().map(|lost| lost.node).collect::<Vec<_>>(), [2, 3]);
    cluster.start(1);
    assert!(cluster.run_until(10, |c| leads_all(c, 1)), "{:#?}", cluster.statuses());
    let before = cluster.read(1, 1, Consistency::Linearizable).expect("it leads");
    assert_eq!(before.lines().count(), 5);
    cluster.proposed(1, 1, "after").expect("it is the majority");
    assert_eq!(cluster.nodes[&1].status().epoch, 1);
    // The two are a majority of what was.
    cluster.start(2);
    cluster.start(3);
    cluster.run_for(5000);
    assert_eq!(leaders(&cluster), [1, 1, 1]);
    for node in [2, 3] {
        let forming = cluster.nodes[&node].status().forming.unwrap_or_default();
        assert!(forming.contains("superseded"), "{forming}");
        // One thing to do, and everywhere the same.
        for group in cluster.nodes[&node].status().groups {
            assert_eq!(group.waits_for.as_deref(), Some(&forming[..]), "{group:#?}");
        }
        assert!(forming.ends_with("come back with join") && !forming.contains("restart"));
        assert!(cluster.proposed(node, 1, "never").is_err());
        assert!(cluster.read(node, 1, Consistency::Linearizable).is_err());
    }
    // They know it after a start too, also without the one that told them.
    (1..=3).for_each(|node| cluster.kill(node));
    cluster.start(2);
    cluster.start(3);
    cluster.run_for(5000);
    assert_eq!(leaders(&cluster), []);
    // With nothing they are taken back, and are a majority of what is.
    cluster.start(1);
    assert!(cluster.run_until(10, |c| leads_all(c, 1)), "{:#?}", cluster.statuses());
    for (node, life) in [(2, LIFE), (3, LIFE + 1)] {
        cluster.kill(node);
        cluster.join(node, life, 1);
        cluster.start(node);
        let back = cluster.run_until(20, |c| c.is_voter(1, node, life));
        assert!(back, "{:#?}", cluster.statuses());
    }
    cluster.run_for(500);
    cluster.kill(1);
    let read = cluster.read(2, 1, Consistency::Linearizable);
    assert_eq!(read, Ok(format!("{before}\nafter")));
}

#[test]
fn m18_two_nodes_that_each_went_on_alone_have_nothing_to_do_with_each_other() {
    let mut cluster = at_rest();
    for node in [1, 2] {
        recover_on(&cluster, node).expect("nobody answers");
        cluster.start(node);
    }
    cluster.run_for(5000);
    for node in [1, 2] {
        let status = cluster.nodes[&node].status();
        assert!(status.groups.iter().all(|group| group.role == "leader"), "{status:#?}");
        assert!(status.refused.iter().any(|text| text.contains("wrong cluster")), "{status:#?}");
    }
    // A third one that was left behind is told so by both.
    cluster.start(3);
    cluster.run_for(1000);
    assert!(cluster.nodes[&3].status().forming.is_some_and(|text| text.contains("superseded")));
}

fn start(fs: &SimFs, cluster: &Cluster) -> Result<(), StartError> {
    let vfs: Arc<dyn Vfs> = Arc::new(fs.clone());
    let machines = Box::new(|_| Box::<Journal>::default() as _);
    let options = (cluster.store)();
    NodeCore::start(&vfs, options, cluster.config.clone(), machines, cluster.time(), 1).map(|_| ())
}

/// Starts node 1 alone from this disk: its epoch, and whether it leads every group.
fn alone(fs: &SimFs) -> (u32, bool) {
    let mut cluster = Cluster::new(2);
    cluster.disks.insert(1, fs.fork());
    cluster.start(1);
    let leads = cluster.run_until(2, |c| leads_all(c, 1));
    assert!(leads || leaders(&cluster).is_empty(), "some of the groups: {:#?}", cluster.statuses());
    if leads {
        let read = |cluster: &mut Cluster, group| {
            let text = cluster.read(1, group, Consistency::Linearizable).expect("it leads");
            text.lines().count()
        };
        assert_eq!((read(&mut cluster, 1), read(&mut cluster, 2)), (5, 5));
    }
    (cluster.nodes[&1].status().epoch, leads)
}

#[test]
fn m18_a_recovery_that_is_cut_off_anywhere_leaves_the_old_state_or_is_done_by_running_it_again() {
    let cluster = at_rest();
    let whole = cluster.disks[&1].fork();
    let run = |fs: &SimFs| {
        let vfs: Arc<dyn Vfs> = Arc::new(fs.clone());
        recover(&vfs, &(cluster.store)(), &mut nobody)
    };
    let (mut old, mut between, mut new) = (0, 0, 0);
    for stop in 0.. {
        let fs = whole.fork();
        fs.crash_at(fs.op_count() + stop);
        let result = run(&fs);
        let over = !fs.is_crashed();
        for image in fs.crash_images(8) {
            let id = identity::load(&image, Path::new(DIR)).expect("a whole copy");
            if id.recovering {
                between += 1;
                let before = image.state_hash();
                let refused = start(&image, &cluster).expect_err("half of it is done");
                assert!(refused.to_string().contains("recover --accept-loss again"), "{refused}");
                assert_eq!(image.state_hash(), before, "a refused start changes nothing");
                let again = run(&image).expect("nothing hinders it now");
                assert!(again.unfinished && again.epoch == 1, "{again:?}");
                assert_eq!(alone(&image), (1, true), "stop {stop}: {}", image.story());
            } else if id.lineage.epoch() == 0 {
                old += 1;
                assert!(!over, "it was done: {result:?}");
                assert_eq!(alone(&image), (0, false), "stop {stop}: {}", image.story());
            } else {
                new += 1;
                assert_eq!(alone(&image), (1, true), "stop {stop}: {}", image.story());
            }
        }
        if over {
            result.expect("it got to its end");
            break;
        }
    }
    println!("{old} images of the old state, {between} between, {new} of the new state");
    assert!(old > 0 && between > 0 && new > 0);
}

#[test]
fn m18_a_survivor_all_of_whose_groups_forgot_their_promises_goes_on_as_planned() {
    let cluster = at_rest();
    (0..=2).for_each(|group| cluster.forget(1, group));
    let refused = start(&cluster.disks[&1].fork(), &cluster).expect_err("nothing could run");
    assert!(refused.to_string().contains("no group survives"), "{refused}");
    let planned = plan_on(&cluster, 1, nobody).expect("it has all groups");
    assert_eq!(recover_on(&cluster, 1).expect("nobody answers"), planned, "as was planned");
    assert_eq!(alone(&cluster.disks[&1]), (1, true));
    // The record names a replica: the name stands in the directory too, lost before or not.
    let vfs: Arc<dyn Vfs> = Arc::new(cluster.disks[&1].fork());
    let store = boot(&vfs, (cluster.store)()).expect("it is whole").store;
    assert!(store.groups().all(|key| store.group_value(key).is_some()));
}

fn card(cluster: &Cluster, of: u64) -> Card {
    cluster.cards[&of].clone()
}

#[test]
fn m18_a_member_that_answers_is_not_lost_and_nothing_is_done() {
    let mut cluster = at_rest();
    let before = cluster.disks[&1].state_hash();
    let there = card(&cluster, 2);
    let refused = |answer: Presence| {
        let vfs: Arc<dyn Vfs> = Arc::new(cluster.disks[&1].clone());
        let mut presence = |address: &str| match address {
            "node2:1" => answer.clone(),
            _ => Presence::Nobody,
        };
        let planned = plan_recovery(vfs.as_ref(), &(cluster.store)(), &mut presence).unwrap();
        assert!(planned.lost[0].answers.is_some() && planned.lost[1].answers.is_none());
        let error = recover(&vfs, &(cluster.store)(), &mut presence).expect_err("it answers");
        let RecoverError::Reachable { node, .. } = error else { panic!("{error}") };
        assert_eq!(node, NodeId(2));
        assert_eq!(cluster.disks[&1].state_hash(), before, "nothing is done");
    };
    refused(Presence::Node(there.clone()));
    refused(Presence::Silent);
    let mut ahead = there.clone();
    ahead.lineage = ahead.lineage.next(refloat_types::Incarnation(9));
    refused(Presence::Node(ahead));
    // Somebody else lives at the address now.
    let stranger = Card { cluster: refloat_types::ClusterId(1), ..there.clone() };
    let planned = plan_on(&cluster, 1, |_| Presence::Node(stranger.clone())).unwrap();
    assert!(planned.lost.iter().all(|lost| lost.answers.is_none()), "{planned:?}");
    assert_eq!(cluster.disks[&1].state_hash(), before, "a plan changes nothing");
    // Who was given up by a recovery is no hindrance to the next one.
    recover_on(&cluster, 1).expect("nobody answers");
    cluster.start(1);
    assert!(cluster.run_until(10, |c| leads_all(c, 1)));
    cluster.kill(1);
    let planned = plan_on(&cluster, 1, |_| Presence::Node(there.clone())).unwrap();
    assert!(planned.lost.iter().all(|lost| lost.answers.is_none()), "{planned:?}");
    assert_eq!(planned.epoch, 2);
}

#[test]
fn m18_a_member_is_asked_where_it_lives_now_and_one_that_left_is_not_asked() {
    let mut cluster = Cluster::formed(1);
    cluster.kill(3);
    cluster.join_at(3, LIFE, 1, "elsewhere:1");
    cluster.start(3);
    assert!(cluster.run_until(20, |c| c.is_voter(1, 3, LIFE)), "{:#?}", cluster.statuses());
    let leader = cluster.leader(0).expect("formed");
    let gone = cluster.input(leader, |to| Input::ChangeNodes {
        to,
        change: NodeChange::Remove { node: NodeId(2) },
    });
    cluster.answer(gone).expect("it may go");
    cluster.run_for(3000);
    (1..=3).for_each(|node| cluster.kill(node));
    let mut asked = Vec::new();
    let planned = plan_on(&cluster, 1, |address| {
        asked.push(address.to_owned());
        Presence::Nobody
    });
    assert_eq!(asked, ["elsewhere:1"], "{planned:?}");
}

#[test]
fn m18_what_is_not_readable_is_cut_by_name_and_the_rest_goes_on() {
    let mut cluster = at_rest();
    let disk = &cluster.disks[&1];
    let dir = Path::new(DIR).join("wal");
    let logs = Vfs::list(disk, &dir).expect("a directory").into_iter();
    for path in logs.filter(|path| path.extension().is_some_and(|e| e == "wal")) {
        let bytes = disk.contents(&path).expect("a log file");
        let hits = bytes.windows(7).enumerate().filter(|(_, window)| *window == b"entry-4");
        for (at, _) in hits {
            disk.corrupt(&path, |bytes| bytes[at] ^= 0x40).expect("a log file");
        }
    }
    let planned = plan_on(&cluster, 1, nobody).unwrap();
    let group = planned.groups.iter().find(|group| group.group == 1).expect("it has it");
    let at = group.cut_from.expect("one entry is rotten");
    assert!(at <= group.commit && at < group.last, "{group:?}");
    assert_eq!(group.kept(), at - 1);
    assert_eq!(recover_on(&cluster, 1).expect("nobody answers"), planned, "as was planned");
    cluster.start(1);
    assert!(cluster.run_until(10, |c| leads_all(c, 1)), "{:#?}", cluster.statuses());
    let read = cluster.read(1, 1, Consistency::Linearizable);
    assert_eq!(read, Ok("entry-0\nentry-2".to_owned()));
    let states = cluster.nodes[&1].status();
    assert!(states.groups.iter().all(|group| group.state == "clean"), "{states:#?}");
    cluster.proposed(1, 1, "after").expect("it goes on");
}

#[test]
fn m22_the_one_that_is_left_of_two_says_what_it_waits_for_and_goes_on_by_recover() {
    let mut cluster = Cluster::of(2, 1);
    cluster.start_all();
    cluster.wait_for_leaders(1);
    cluster.proposed(1, 1, "kept").expect("applied");
    cluster.run_for(300);
    cluster.kill(2);
    cluster.join(2, LIFE, 1);
    cluster.start(2);
    let told = |c: &Cluster| {
        let status = c.nodes[&1].status();
        status.groups.iter().filter(|g| g.group == 1).all(|g| {
            g.waits_for.as_ref().is_some_and(|text| text.contains("recover --accept-loss"))
        })
    };
    assert!(cluster.run_until(20, told), "{:#?}", cluster.statuses());
    assert!(!cluster.is_voter(1, 2, LIFE), "never by itself");
    (1..=2).for_each(|node| cluster.kill(node));
    let done = recover_on(&cluster, 1).expect("nobody answers");
    let voters: Vec<_> = done.groups.iter().map(|group| group.voters.clone()).collect();
    assert_eq!(voters, [vec![1, 2], vec![1, 2]]);
    cluster.start(1);
    assert!(cluster.run_until(10, |c| c.leader(1) == Some(1)));
    assert_eq!(cluster.read(1, 1, Consistency::Linearizable), Ok("kept".to_owned()));
    // The directory that waited in the epoch before is superseded too; an empty one is taken in.
    cluster.join(2, LIFE + 1, 1);
    cluster.start(2);
    let back = cluster.run_until(20, |c| c.is_voter(1, 2, LIFE + 1));
    assert!(back, "{:#?}", cluster.statuses());
}

#[test]
fn a_node_that_never_formed_a_cluster_has_nothing_to_go_on_with() {
    let cluster = Cluster::new(1);
    let error = plan_on(&cluster, 1, nobody).expect_err("it was never started");
    assert!(matches!(error, RecoverError::NoMember { .. }), "{error}");
}

/// Its logs know the node by the life before until the entry that takes it in has come.
#[test]
fn m18_a_directory_that_joined_does_not_go_on_with_a_group_that_has_not_taken_it_in_yet() {
    let mut cluster = Cluster::new(1);
    (cluster.config.max_append_bytes, cluster.config.max_inflight_msgs) = (1, 1);
    cluster.start_all();
    cluster.wait_for_leaders(1);
    for n in 0..20 {
        cluster.proposed(1 + n % 3, 1, &format!("entry-{n}")).expect("applied");
    }
    cluster.run_for(300);
    cluster.kill(3);
    cluster.join(3, LIFE, 1);
    cluster.start(3);
    let has =
        |c: &Cluster| c.nodes[&3].status().groups.iter().any(|g| g.group == 1 && g.durable > 2);
    assert!(cluster.run_until(20, has), "{:#?}", cluster.statuses());
    let named = cluster.members_of(3, 1).iter().any(|m| m.1.ends_with("1003"));
    assert!(named, "by its life before: {:?}", cluster.members_of(3, 1));
    cluster.kill(3);
    let goes_on = |c: &Cluster| match plan_on(c, 3, nobody) {
        Ok(planned) => planned.groups.iter().any(|group| group.group == 1),
        Err(error) => !matches!(error, RecoverError::NoMember { .. }),
    };
    assert!(!goes_on(&cluster), "it is no member of group 1");
    // Taken in it could go on.
    cluster.start(3);
    assert!(cluster.run_until(60, |c| c.is_voter(1, 3, LIFE)), "{:#?}", cluster.statuses());
    cluster.run_for(500);
    cluster.kill(3);
    assert!(goes_on(&cluster));
}
