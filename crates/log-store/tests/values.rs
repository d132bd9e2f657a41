//! The opaque value that a host keeps per group.

mod support;

use bytes::Bytes;
use refloat_log_store::{GroupState, MAX_GROUP_VALUE, SubmitError};
use refloat_types::Now;
use refloat_vfs::Fate;
use support::*;

fn with_group() -> Disk {
    let mut disk = Disk::small();
    disk.create_group(group(1)).unwrap();
    disk
}

fn is(text: &str) -> Option<Bytes> {
    Some(Bytes::from(text.to_owned()))
}

#[test]
fn a_value_is_handed_back_after_both_logs_rolled_over_and_the_power_went() {
    let mut disk = with_group();
    assert_eq!(disk.store().group_value(group(1)), None);
    disk.put_value(group(1), "kept").unwrap();
    disk.sync().unwrap();
    let (wal, votes) = (disk.store().stats().wal.files, disk.store().stats().votes.files);
    for term in 1..200 {
        disk.append(group(1), 1, 1, 2000);
        disk.vote(group(1), term).unwrap();
        disk.sync().unwrap();
    }
    let stats = disk.store().stats();
    assert!(stats.wal.files > wal + 2 && stats.votes.files > votes + 2, "{stats:?}");
    let mut back = Disk::on(disk.fs.power_cut(|_| Fate::Lost), &disk.options);
    let boot = back.boot().unwrap();
    assert_eq!(boot.groups[0].value, is("kept"));
    assert_eq!(back.store().group_value(group(1)), is("kept").as_ref());
}

#[test]
fn a_value_needs_both_logs_to_be_durable() {
    let mut disk = with_group();
    disk.sync().unwrap();
    let ticket = disk.put_value(group(1), "kept").unwrap();
    let held = disk.sync_without(refloat_log_store::Lane::Votes).unwrap();
    assert!(disk.store().durable() < ticket, "the votes log lags");
    held.into_iter().for_each(|job| disk.run(job).unwrap());
    disk.sync().unwrap();
    assert!(disk.store().durable() >= ticket);
}

#[test]
fn a_value_that_is_too_long_or_of_nobody_is_refused_and_changes_nothing() {
    let mut disk = with_group();
    disk.put_value(group(1), &"x".repeat(MAX_GROUP_VALUE)).unwrap();
    let long = Bytes::from(vec![0; MAX_GROUP_VALUE + 1]);
    let refused = disk.store().put_group_value(Now(1), group(1), long);
    assert_eq!(refused, Err(SubmitError::ValueTooLarge { len: MAX_GROUP_VALUE + 1 }));
    let stranger = disk.store().put_group_value(Now(1), group(9), Bytes::new());
    assert_eq!(stranger, Err(SubmitError::UnknownGroup));
    assert_eq!(disk.store().group_value(group(1)).map(Bytes::len), Some(MAX_GROUP_VALUE));
}

/// One value, then another, then a vote, so that records behind the damage restate the vote.
fn two_values_and_a_vote() -> Disk {
    let mut disk = with_group();
    for value in ["the older", "the newer"] {
        disk.put_value(group(1), value).unwrap();
        disk.sync().unwrap();
    }
    disk.vote(group(1), 4).unwrap();
    disk.sync().unwrap();
    disk.append(group(1), 4, 1, 10);
    disk.sync().unwrap();
    disk.idle().unwrap();
    Disk::on(disk.fs.power_cut(|_| Fate::Kept), &disk.options)
}

#[test]
fn of_two_copies_of_a_value_the_newer_counts() {
    for folder in ["wal", "votes"] {
        let mut back = two_values_and_a_vote();
        back.rot(folder, "the newer");
        for _ in 0..2 {
            let boot = back.boot().unwrap();
            let g = &boot.groups[0];
            assert_eq!((g.state, &g.value), (GroupState::Clean, &is("the newer")), "{folder}");
            back.kill();
        }
    }
}

#[test]
fn a_value_that_both_logs_lost_is_amnesia_though_the_vote_is_restated_behind_it() {
    let mut back = two_values_and_a_vote();
    back.rot("wal", "the newer");
    back.rot("votes", "the newer");
    let found = refloat_log_store::examine(&back.fs, &back.options).unwrap();
    let g = &found.groups()[0];
    assert_eq!(g.hard_state.term.0, 4, "{}", found.report());
    assert_eq!(g.state, GroupState::Amnesia, "never the older one: {}", found.report());
    assert!(g.waits_for.as_ref().unwrap().contains("value"), "{:?}", g.waits_for);
    assert!(back.boot().is_err(), "no other group survives");
}
