//! Three groups on one disk: written, killed, booted, damaged, and booted again.
//!
//! `cargo run -p refloat-log-store --example many_groups`

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use refloat_log_store::{LogStore, Options, boot, identity, run_jobs};
use refloat_types::{
    ClusterId, ConfState, Entry, EntryId, EntryKind, Epoch, GroupId, GroupKey, GroupWrite,
    HardState, Identity, Incarnation, Index, LogOp, Member, NodeId, Now, Term,
};
use refloat_vfs::{OpenOptions, OsFs, Vfs};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("node");
    let vfs: Arc<dyn Vfs> = Arc::new(OsFs);
    let me = Member::new(NodeId(1), Incarnation(7));
    let owner = identity::NodeIdentity {
        identity: Identity { cluster: ClusterId(1), member: me },
        cluster_name: "example".into(),
        groups: 3,
        members: vec![],
        run: 0,
        origin: identity::Origin::Init,
        lineage: identity::Lineage::default(),
        recovering: false,
    };
    identity::create(&OsFs, &data, &owner)?;

    let mut store = boot(&vfs, options(&data))?.store;
    let groups = [1, 2, 3].map(|id| GroupKey::new(GroupId(id), Epoch(1)));
    for group in groups {
        store.create_group(Now(0), group, &ConfState::of_voters([me]))?;
    }
    // One batch, one sync: a vote for each group and entries for each group.
    let writes: Vec<GroupWrite> = groups.iter().map(|group| first_write(*group, me)).collect();
    let ticket = store.submit(Now(0), &writes)?;
    run_jobs(&mut store, &vfs, Now(0))?; // a host has threads for this
    assert!(store.durable() >= ticket, "may be acknowledged now");
    for n in 6..200 {
        let log = Some(LogOp::Append { prev: entry_id(n - 1), entries: vec![entry(n)] });
        store.submit(Now(0), &[GroupWrite { group: groups[0], hard_state: None, log }])?;
        run_jobs(&mut store, &vfs, Now(0))?;
    }
    drop(store); // as a kill would: nothing is closed

    let booted = boot(&vfs, options(&data))?;
    println!("after the kill:\n{}", booted.report);
    assert!(booted.report.is_clean());
    println!("stats: {:?}\n", summary(&booted.store));
    drop(booted);

    // One byte of one entry in the newest log file that was written.
    let mut files = vfs.list(&data.join("wal"))?;
    files.retain(|path| path.extension().is_some_and(|end| end == "wal"));
    files.sort();
    let file = vfs.open(&files[1], OpenOptions::write())?;
    let mut bytes = vec![0; usize::try_from(file.len()?)?];
    file.read_at(&mut bytes, 0)?;
    let at = bytes.windows(5).position(|five| five == b"x=190").ok_or("the entry is there")?;
    file.write_at(&[bytes[at] ^ 0x40], at as u64)?;
    file.sync_data()?;
    let booted = boot(&vfs, options(&data))?;
    println!("after the flipped byte:\n{}", booted.report);
    for group in &booted.groups {
        println!("group {}: {}, holes {:?}", group.key.id, group.state, group.holes);
    }
    Ok(())
}

/// Files so small that a few entries fill one.
fn options(data: &Path) -> Options {
    let mut options = Options::new(data);
    options.wal_file_size = 256 << 10;
    options
}

fn first_write(group: GroupKey, me: Member) -> GroupWrite {
    let log = LogOp::Append { prev: EntryId::ZERO, entries: (1..6).map(entry).collect() };
    let hard_state = HardState { term: Term(1), vote: Some(me) };
    GroupWrite { group, hard_state: Some(hard_state), log: Some(log) }
}

fn entry_id(n: u64) -> EntryId {
    EntryId::new(Term(1), Index(n))
}

fn entry(n: u64) -> Entry {
    Entry::new(entry_id(n), EntryKind::Command, format!("x={n}").into_bytes().into())
}

fn summary(store: &LogStore) -> (u64, u64) {
    let stats = store.stats();
    (stats.segments, stats.memory_bytes)
}
