//! P7: how long a start takes after a kill, with everything it has to read no longer cached.
//!
//! The floor reads the same files once, in order, past the page cache. A store that was killed
//! has nothing in segments here: all its bytes are replayed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use protobuf::descriptor::UninterpretedOption;
use raft_engine::{Config, Engine, LogBatch, ReadableSize};
use refloat_log_store::{Job, Lane, LogStore, Options, boot, identity};
use refloat_types::{
    ClusterId, ConfState, Entry, EntryId, EntryKind, Epoch, GroupId, GroupKey, GroupWrite,
    HardState, Identity, Incarnation, Index, LogOp, Member, NodeId, Now, Term,
};
use refloat_vfs::{AlignedBuf, BLOCK_LEN, OpenOptions, OsFs, Vfs};

use crate::measure::{Plan, Result};
use crate::peer::AsEntry;
use crate::report::{BootLine, Report};

const PAYLOAD: usize = 1024;
const GROUPS: u64 = 128;
/// Entries per sync and group.
const BATCH: u64 = 64;
const MANY_GROUPS: u64 = 10_000;

/// Runs the figure and adds it to the report.
pub fn run(plan: &Plan, dir: &Path, report: &mut Report) -> Result<()> {
    replay(plan, &dir.join("p7"), report)?;
    many_groups(plan, &dir.join("p7-groups"), report)
}

/// 256 MiB of entries in 128 groups, killed before any of it was flushed.
fn replay(plan: &Plan, dir: &Path, report: &mut Report) -> Result<()> {
    let bytes: u64 = 256 << 20;
    let entries = bytes / PAYLOAD as u64;
    let (ours, theirs) = (dir.join("refloat"), dir.join("raft-engine"));
    fs::create_dir_all(dir)?;
    fill(&ours, entries)?;
    fill_raft_engine(&theirs, entries)?;
    let mut lines = [
        BootLine::new("device, O_DIRECT reads of 1 MiB"),
        BootLine::new("refloat-log-store"),
        BootLine::new("raft-engine 0.4.2"),
    ];
    for _ in 0..plan.rounds {
        let (bytes, time) = read_floor(&ours.join("wal"))?;
        lines[0].add(bytes, time);

        let copy = copied(&ours, &dir.join("copy"))?;
        let bytes = size_of(&copy.join("wal"))?;
        let (store, time) = timed_boot(&copy)?;
        let last: u64 = store.groups().map(|group| store.last(group).index.0).sum();
        if last != entries {
            return Err(format!("{last} of {entries} entries after the start").into());
        }
        lines[1].add(bytes, time);

        let copy = copied(&theirs, &dir.join("copy"))?;
        let bytes = size_of(&copy)?;
        let start = Instant::now();
        let engine = Engine::open(raft_engine_config(&copy))?;
        lines[2].add(bytes, start.elapsed());
        let last: u64 = (0..GROUPS).filter_map(|group| engine.last_index(group)).sum();
        if last != entries {
            return Err(format!("{last} of {entries} entries in raft-engine").into());
        }
    }
    report.boots("P7", "start after a kill, 256 MiB of 1 KiB entries in 128 groups", &mut lines)
}

/// 10,000 groups with a vote and a few entries each, after a kill and after an orderly stop.
fn many_groups(plan: &Plan, dir: &Path, report: &mut Report) -> Result<()> {
    let (killed, closed) = (dir.join("killed"), dir.join("closed"));
    fs::create_dir_all(dir)?;
    for (path, orderly) in [(&killed, false), (&closed, true)] {
        let (vfs, mut store) = created(path)?;
        let mut held = Vec::new();
        for id in 1..=MANY_GROUPS {
            let group = GroupKey::new(GroupId(id), Epoch(1));
            store.create_group(Now(0), group, &ConfState::of_voters([me()]))?;
            let hard_state = Some(HardState { term: Term(1), vote: Some(me()) });
            let log = Some(LogOp::Append { prev: EntryId::ZERO, entries: entries_from(1, 3) });
            store.submit(Now(0), &[GroupWrite { group, hard_state, log }])?;
            if id % 1000 == 0 {
                write_only(&mut store, &vfs, &mut held)?;
            }
        }
        if orderly {
            for job in held {
                let done = job.run(&vfs);
                store.complete(Now(0), done)?;
            }
            refloat_log_store::run_jobs(&mut store, &vfs, Now(0))?;
            store.close();
            refloat_log_store::run_jobs(&mut store, &vfs, Now(0))?;
        }
    }
    let mut lines = [BootLine::new("after a kill"), BootLine::new("after an orderly stop")];
    for _ in 0..plan.rounds {
        for (path, line) in [&killed, &closed].into_iter().zip(&mut lines) {
            let copy = copied(path, &dir.join("copy"))?;
            let (store, time) = timed_boot(&copy)?;
            if store.groups().count() as u64 != MANY_GROUPS {
                return Err("groups are missing after the start".into());
            }
            line.add(size_of(&copy.join("wal"))?, time);
        }
    }
    report.boots("P7", "start of refloat-log-store with 10,000 groups", &mut lines)
}

fn timed_boot(dir: &Path) -> Result<(LogStore, Duration)> {
    let vfs: Arc<dyn Vfs> = Arc::new(OsFs);
    let start = Instant::now();
    let booted = boot(&vfs, options(dir))?;
    let time = start.elapsed();
    if !booted.report.is_clean() {
        return Err(booted.report.to_string().into());
    }
    Ok((booted.store, time))
}

fn options(dir: &Path) -> Options {
    Options::new(dir)
}

fn me() -> Member {
    Member::new(NodeId(1), Incarnation(1))
}

fn created(dir: &Path) -> Result<(Arc<dyn Vfs>, LogStore)> {
    let vfs: Arc<dyn Vfs> = Arc::new(OsFs);
    let owner = identity::NodeIdentity {
        identity: Identity { cluster: ClusterId(1), member: me() },
        cluster_name: "bench".into(),
        groups: 1,
        members: Vec::new(),
        run: 0,
        origin: identity::Origin::Init,
        lineage: identity::Lineage::default(),
        recovering: false,
    };
    identity::create(&OsFs, dir, &owner)?;
    let store = boot(&vfs, options(dir))?.store;
    Ok((vfs, store))
}

fn entries_from(first: u64, count: u64) -> Vec<Entry> {
    let payload = bytes::Bytes::from(vec![0x5a; PAYLOAD]);
    (first..first + count)
        .map(|n| Entry::new(EntryId::new(Term(1), Index(n)), EntryKind::Command, payload.clone()))
        .collect()
}

/// Writes and prepares WAL files, and keeps back every other job: a kill before the first flush.
fn write_only(store: &mut LogStore, vfs: &Arc<dyn Vfs>, held: &mut Vec<Job>) -> Result<()> {
    while let Some(job) = store.poll_job(Now(0)) {
        if matches!(job.lane(), Lane::Wal | Lane::Votes | Lane::Prepare) {
            let done = job.run(vfs);
            store.complete(Now(0), done)?;
        } else {
            held.push(job);
        }
    }
    Ok(())
}

fn fill(dir: &Path, entries: u64) -> Result<()> {
    let (vfs, mut store) = created(dir)?;
    let groups: Vec<GroupKey> =
        (1..=GROUPS).map(|id| GroupKey::new(GroupId(id), Epoch(1))).collect();
    for &group in &groups {
        store.create_group(Now(0), group, &ConfState::of_voters([me()]))?;
    }
    let mut held = Vec::new();
    let mut first = 1;
    while first <= entries / GROUPS {
        for &group in &groups {
            let prev = EntryId::new(Term(u64::from(first > 1)), Index(first - 1));
            let log = Some(LogOp::Append { prev, entries: entries_from(first, BATCH) });
            store.submit(Now(0), &[GroupWrite { group, hard_state: None, log }])?;
            write_only(&mut store, &vfs, &mut held)?;
        }
        first += BATCH;
    }
    Ok(())
}

fn raft_engine_config(dir: &Path) -> Config {
    Config {
        dir: dir.to_string_lossy().into_owned(),
        batch_compression_threshold: ReadableSize(0),
        target_file_size: ReadableSize::mb(32),
        enable_log_recycle: false,
        ..Config::default()
    }
}

fn fill_raft_engine(dir: &Path, entries: u64) -> Result<()> {
    let engine = Engine::open(raft_engine_config(dir))?;
    let mut first = 1;
    while first <= entries / GROUPS {
        for group in 0..GROUPS {
            let mut batch = LogBatch::with_capacity(BATCH as usize);
            let list: Vec<UninterpretedOption> = (first..first + BATCH)
                .map(|index| {
                    let mut entry = UninterpretedOption::new();
                    entry.set_string_value(vec![0x5a; PAYLOAD]);
                    entry.set_positive_int_value(index);
                    entry
                })
                .collect();
            batch.add_entries::<AsEntry>(group, &list)?;
            engine.write(&mut batch, true)?;
        }
        first += BATCH;
    }
    Ok(())
}

/// The files of a directory and of those in it.
fn files_of(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(files_of(&entry.path())?);
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn size_of(dir: &Path) -> Result<u64> {
    files_of(dir)?.iter().map(|path| Ok(fs::metadata(path)?.len())).sum()
}

/// A fresh copy, on the disk and out of the page cache.
fn copied(from: &Path, to: &Path) -> Result<PathBuf> {
    let _ = fs::remove_dir_all(to);
    for file in files_of(from)? {
        let target = to.join(file.strip_prefix(from)?);
        fs::create_dir_all(target.parent().ok_or("a file has a parent")?)?;
        fs::copy(&file, &target)?;
        File::open(&target)?.sync_all()?;
        OsFs.open(&target, OpenOptions::read())?.drop_cache();
    }
    Ok(to.to_owned())
}

fn read_floor(dir: &Path) -> Result<(u64, Duration)> {
    let mut buf = AlignedBuf::default();
    buf.resize((1 << 20) / BLOCK_LEN);
    let files = files_of(dir)?;
    for file in &files {
        OsFs.open(file, OpenOptions::read())?.drop_cache();
    }
    let start = Instant::now();
    let mut total = 0;
    for file in &files {
        let len = fs::metadata(file)?.len();
        let file = OsFs.open(file, OpenOptions::read().direct())?;
        let mut at = 0;
        while at < len {
            let n = file.read_at(&mut buf, at)?;
            if n == 0 {
                break;
            }
            at += n as u64;
        }
        total += at;
    }
    Ok((total, start.elapsed()))
}
