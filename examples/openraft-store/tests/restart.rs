//! What was acknowledged is there after a stop and after a kill.

mod support;

use std::process::Command;
use std::sync::Arc;

use openraft::Vote;
use openraft::storage::{
    LogState, RaftLogStorage, RaftLogStorageExt, RaftSnapshotBuilder, RaftStateMachine,
};
use refloat_openraft_store::{Log, Machine, Store};
use refloat_vfs::{Fate, Fault, SimFs};
use support::*;

/// Three hundred entries of two leaders, a cut between them, a vote, and a purge.
async fn work(log: &mut Log, machine: &mut Machine) {
    log.save_vote(&Vote::new(1, 4)).await.unwrap();
    log.blocking_append(entries(1, 0, 219)).await.unwrap();
    log.truncate(log_id(1, 200)).await.unwrap();
    log.save_vote(&Vote::new_committed(2, 5)).await.unwrap();
    log.blocking_append(entries(2, 200, 299)).await.unwrap();
    log.save_committed(Some(log_id(2, 250))).await.unwrap();
    machine.apply(entries(1, 0, 149)).await.unwrap();
    machine.build_snapshot().await.unwrap();
    log.purge(log_id(1, 99)).await.unwrap();
    // Acknowledged last, so that nothing after it made it durable.
    log.save_vote(&Vote::new(3, 6)).await.unwrap();
    log.blocking_append(entries(2, 300, 300)).await.unwrap();
}

/// All that [`work`] was told is done, read from what the disk holds.
async fn expect_work(store: Arc<Store>) -> (Log, Machine) {
    let (mut log, mut machine) = raft(&store).await;
    let state = log.get_log_state().await.unwrap();
    let (purged, last) = (Some(log_id(1, 99)), Some(log_id(2, 300)));
    assert_eq!(state, LogState { last_purged_log_id: purged, last_log_id: last });
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(3, 6)));
    let held = [ids(1, 100, 199), ids(2, 200, 300)].concat();
    assert_eq!(read_all(&mut log).await, held);
    assert_eq!(machine.applied_state().await.unwrap().0, Some(log_id(1, 149)));
    assert_eq!(machine.get("key 149").as_deref(), Some("set by 1-149"));
    (log, machine)
}

#[tokio::test]
async fn everything_acknowledged_is_there_after_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, mut machine) = raft(&open(dir.path())).await;
    work(&mut log, &mut machine).await;
    drop((log, machine));
    let (mut log, _machine) = expect_work(open(dir.path())).await;
    // A stop loses no hint either.
    assert_eq!(log.read_committed().await.unwrap(), Some(log_id(2, 250)));
}

/// Says which directory the process that dies works on.
const DIR: &str = "OPENRAFT_STORE_DIR";
/// The exit code of a process that died where it should.
const DIED: i32 = 77;

/// Run by the test below, in a process of its own.
#[tokio::test]
#[ignore = "ends its process"]
async fn works_and_dies() {
    let dir = std::env::var_os(DIR).expect("started by hand");
    let (mut log, mut machine) = raft(&open(dir.as_ref())).await;
    work(&mut log, &mut machine).await;
    std::process::exit(DIED); // nothing is closed: to the files this is a kill
}

#[tokio::test]
async fn everything_acknowledged_is_there_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Command::new(std::env::current_exe().unwrap());
    process.args(["--ignored", "--exact", "works_and_dies"]).env(DIR, dir.path());
    assert_eq!(process.output().unwrap().status.code(), Some(DIED));
    let (mut log, _machine) = expect_work(open(dir.path())).await;
    // The hint may have stayed behind.
    let committed = log.read_committed().await.unwrap();
    assert!(committed >= Some(log_id(1, 99)) && committed <= Some(log_id(2, 250)));
}

#[tokio::test]
async fn everything_acknowledged_is_there_after_a_power_cut_that_takes_all_it_may() {
    let disk = SimFs::new();
    let (mut log, mut machine) = raft(&open_sim(&disk)).await;
    work(&mut log, &mut machine).await;
    expect_work(open_sim(&disk.power_cut(|_| Fate::Lost))).await;
}

#[tokio::test]
async fn nothing_is_acknowledged_whose_write_failed_nor_anything_after_it() {
    let disk = SimFs::new();
    let (mut log, machine) = raft(&open_sim(&disk)).await;
    log.save_vote(&Vote::new(1, 4)).await.unwrap();
    disk.inject(Fault::on_change().forever());
    assert!(log.blocking_append(entries(1, 0, 9)).await.is_err());
    assert!(log.save_vote(&Vote::new(2, 5)).await.is_err());
    assert!(log.purge(log_id(1, 5)).await.is_err());
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(1, 4)));
    drop((log, machine));
    let (mut log, _machine) = raft(&open_sim(&disk.power_cut(|_| Fate::Lost))).await;
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(1, 4)));
}

#[tokio::test]
async fn entries_that_went_to_segments_are_read_back_before_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, machine) = raft(&open(dir.path())).await;
    for round in 0..40 {
        log.blocking_append(entries(1, round * 200, round * 200 + 199)).await.unwrap();
    }
    let files = std::fs::read_dir(dir.path().join("seg")).unwrap().count();
    assert!(files > 0, "nothing was flushed");
    assert_eq!(read_all(&mut log).await, ids(1, 0, 7999));
    log.truncate(log_id(1, 500)).await.unwrap();
    assert_eq!(log.get_log_state().await.unwrap().last_log_id, Some(log_id(1, 499)));
    drop((log, machine));
    let (mut log, _machine) = raft(&open(dir.path())).await;
    assert_eq!(read_all(&mut log).await, ids(1, 0, 499));
}

#[tokio::test]
async fn a_log_purged_beyond_its_end_goes_on_behind_the_purge() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, machine) = raft(&open(dir.path())).await;
    log.blocking_append(entries(1, 0, 9)).await.unwrap();
    log.purge(log_id(3, 50)).await.unwrap();
    log.blocking_append(entries(3, 51, 60)).await.unwrap();
    drop((log, machine));
    let (mut log, _machine) = raft(&open(dir.path())).await;
    let state = log.get_log_state().await.unwrap();
    assert_eq!(
        (state.last_purged_log_id, state.last_log_id),
        (Some(log_id(3, 50)), Some(log_id(3, 60)))
    );
    assert_eq!(read_all(&mut log).await, ids(3, 51, 60));
}

#[tokio::test]
async fn an_append_that_leaves_a_hole_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _machine) = raft(&open(dir.path())).await;
    log.blocking_append(entries(1, 0, 2)).await.unwrap();
    assert!(log.blocking_append(entries(1, 4, 5)).await.is_err());
    assert_eq!(read_all(&mut log).await, ids(1, 0, 2));
}

#[tokio::test]
async fn many_rafts_share_a_store_and_each_is_handed_out_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..3 {
        let (mut log, _machine) = store.raft(n).await.unwrap();
        log.blocking_append(entries(n, 0, 10 * n)).await.unwrap();
    }
    assert!(store.raft(2).await.is_err());
    drop(store);
    let store = open(dir.path());
    for n in 0..3 {
        let (mut log, _machine) = store.raft(n).await.unwrap();
        assert_eq!(read_all(&mut log).await, ids(n, 0, 10 * n));
    }
}
