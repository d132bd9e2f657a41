//! One helper language for the tests.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::Path;
use std::sync::Arc;

use openraft::{CommittedLeaderId, Entry, EntryPayload, LogId, RaftLogReader};
use refloat_log_store::Options;
use refloat_openraft_store::{Log, Machine, Set, Store, TypeConfig};
use refloat_vfs::{OsFs, SimFs, Vfs};

/// A store with small files, so that many of them are filled.
pub fn open(dir: &Path) -> Arc<Store> {
    try_open(dir, 1).unwrap()
}

pub fn try_open(dir: &Path, node: u64) -> std::io::Result<Arc<Store>> {
    open_on(Arc::new(OsFs), dir, node)
}

/// On a disk in memory.
pub fn open_sim(disk: &SimFs) -> Arc<Store> {
    open_on(Arc::new(disk.clone()), "/data".as_ref(), 1).unwrap()
}

fn open_on(vfs: Arc<dyn Vfs>, dir: &Path, node: u64) -> std::io::Result<Arc<Store>> {
    let mut options = Options::new(dir);
    options.wal_file_size = 256 << 10;
    options.votes_file_size = 64 << 10;
    Store::open_on(vfs, options, node)
}

pub async fn raft(store: &Arc<Store>) -> (Log, Machine) {
    store.raft(7).await.unwrap()
}

/// Leader `term`'s entries `first..=last`.
pub fn entries(term: u64, first: u64, last: u64) -> Vec<Entry<TypeConfig>> {
    (first..=last).map(|i| entry(log_id(term, i))).collect()
}

pub fn entry(log_id: LogId<u64>) -> Entry<TypeConfig> {
    let set = Set { key: format!("key {}", log_id.index), value: format!("set by {log_id}") };
    Entry { log_id, payload: EntryPayload::Normal(set) }
}

pub fn log_id(term: u64, index: u64) -> LogId<u64> {
    LogId::new(CommittedLeaderId::new(term, 0), index)
}

/// Every entry that can be read.
pub async fn read_all(log: &mut Log) -> Vec<LogId<u64>> {
    let entries = log.try_get_log_entries(..).await.unwrap();
    for read in &entries {
        assert_eq!(format!("{:?}", read.payload), format!("{:?}", entry(read.log_id).payload));
    }
    entries.iter().map(|entry| entry.log_id).collect()
}

pub fn ids(term: u64, first: u64, last: u64) -> Vec<LogId<u64>> {
    (first..=last).map(|i| log_id(term, i)).collect()
}
