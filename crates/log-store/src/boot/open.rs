//! From an examined directory to a running store.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use refloat_planted::{Defect, is};
use refloat_types::{GroupKey, Now};
use refloat_vfs::{FileLock, Vfs};
use refloat_wal::{Record, Writer};

use super::examine::{Examination, examine, votes_options, wal_options};
use super::report::BootReport;
use crate::error::{BootError, Poisoned};
use crate::identity::NodeIdentity;
use crate::options::Options;
use crate::small_state::{Change, NODE, SmallState};
use crate::state::GroupBoot;
use crate::store::{GroupLog, LogStore, Parts, SnapshotBook};

/// A store that came back, and what it came back with.
#[derive(Debug)]
#[non_exhaustive]
pub struct Boot {
    /// The store, ready for writes.
    pub store: LogStore,
    /// Whose directory it is.
    pub identity: NodeIdentity,
    /// Every registered group, ascending; only `Clean` ones may run.
    pub groups: Vec<GroupBoot>,
    /// The host's own values.
    pub node_state: BTreeMap<u32, Bytes>,
    /// The account of it.
    pub report: BootReport,
}

/// Opens a data directory. Blocking: reads both logs once, then writes one batch to a new file of
/// each. When it returns, everything that the boot rests on is durable.
///
/// # Errors
/// The directory is as it was, unless the error is [`BootError::Poisoned`]; then the next boot
/// reaches the same verdict.
pub fn boot(vfs: &Arc<dyn Vfs>, options: Options) -> Result<Boot, BootError> {
    open(vfs, options, refuse_if_nothing_is_left)
}

/// [`boot`] for a recovery that accepts a loss: also of a directory none of whose groups could
/// run, since what is left there may be all that is left.
///
/// # Errors
/// Those of [`boot`].
pub fn boot_to_recover(vfs: &Arc<dyn Vfs>, options: Options) -> Result<Boot, BootError> {
    open(vfs, options, |_| Ok(()))
}

fn open(
    vfs: &Arc<dyn Vfs>,
    options: Options,
    refuse: impl FnOnce(&Examination) -> Result<(), BootError>,
) -> Result<Boot, BootError> {
    // Before the lock file is made, so that a directory without identity stays as it is.
    crate::identity::load(vfs.as_ref(), &options.dir)?;
    let lock = lock(vfs.as_ref(), &options.dir)?;
    sync_names(vfs.as_ref(), &options)?;
    let mut examined = examine(vfs.as_ref(), &options)?;
    refuse(&examined)?;
    make_dirs(vfs.as_ref(), &options)?;

    let forgotten = examined.forget_lost_segments();
    let (wal, votes) = resume_logs(vfs, &options, &mut examined, forgotten)?;
    let mut logs = BTreeMap::new();
    for group in examined.groups() {
        let map = examined.maps.get(&group.key).cloned().unwrap_or_default();
        let record = &examined.replay.state.groups[&group.key];
        let live = examined.live.get(&group.key).cloned().unwrap_or_default();
        // The number of a change that was lost is not used again.
        let said = examined.replay.tracks.get(&group.key).map_or(0, |track| track.value_change);
        let log = GroupLog {
            map,
            base: group.snapshot,
            end: group.last.index,
            dead: record.previous.index,
            durable: group.last.index,
            commit: group.commit,
            live: match is(Defect::FilledLiveDropped) {
                true => live.difference(&group.lost_live),
                false => live,
            },
            unreadable: group.lost_live.clone(),
            value_change: record.value.change.max(said),
        };
        logs.insert(group.key, log);
    }
    let mut memtables = std::mem::replace(
        &mut examined.replay.memtables,
        refloat_memtable::Memtables::new(refloat_types::Generation::ZERO),
    );
    memtables.freeze(wal.generation());
    let identity = examined.identity.clone();
    let node_state = examined.replay.state.node.clone();
    let store = LogStore::from_parts(Parts {
        identity: identity.identity,
        run: identity.run,
        wal,
        votes,
        state: std::mem::take(&mut examined.replay.state),
        logs,
        memtables,
        segments: std::mem::take(&mut examined.segments.set),
        lost: std::mem::take(&mut examined.segments.lost),
        snapshots: SnapshotBook::with_newest(std::mem::take(&mut examined.snapshots)),
        published: std::mem::take(&mut examined.published),
        // Evidence is kept for those that may need it.
        hold_from: examined.hold_from.filter(|_| !examined.is_clean()),
        graves: std::mem::take(&mut examined.graves),
        retired: std::mem::take(&mut examined.retired),
        options,
        lock,
    });
    let (groups, report) = examined.into_groups();
    Ok(Boot { store, identity, groups, node_state, report })
}

/// Takes the directory for this process.
pub(crate) fn lock(vfs: &dyn Vfs, dir: &Path) -> Result<Box<dyn FileLock>, BootError> {
    let path = dir.join("LOCK");
    match vfs.lock(&path) {
        Ok(lock) => Ok(lock),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(BootError::InUse { path }),
        Err(source) => Err(BootError::Io { path, source }),
    }
}

/// After a kill a segment may show under a name that a power cut would still take. It is adopted
/// below, and its WAL file given up for it: so the name is made durable before it is believed.
fn sync_names(vfs: &dyn Vfs, options: &Options) -> Result<(), BootError> {
    let path = options.segment_dir();
    match vfs.sync_dir(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(BootError::Io { path, source })
        }
        _ => Ok(()),
    }
}

/// A node none of whose groups could run does not start.
pub(crate) fn refuse_if_nothing_is_left(examined: &Examination) -> Result<(), BootError> {
    let groups = examined.groups();
    if let Some(damage) = examined.may_have_lost_all() {
        return Err(BootError::NothingSurvives {
            reason: format!("no group is named by what is left of the log: {damage}"),
        });
    }
    let dead = |g: &GroupBoot| g.state == crate::state::GroupState::Amnesia;
    if !groups.is_empty() && groups.iter().all(dead) {
        let reason = groups[0].waits_for.clone().unwrap_or_default();
        return Err(BootError::NothingSurvives { reason: format!("no group survives: {reason}") });
    }
    Ok(())
}

fn make_dirs(vfs: &dyn Vfs, options: &Options) -> Result<(), BootError> {
    let make = |path: &Path| match vfs.create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    };
    let dirs =
        [options.wal_dir(), options.votes_dir(), options.segment_dir(), options.snapshot_root()];
    for path in &dirs {
        make(path).map_err(|source| BootError::Io { path: path.clone(), source })?;
    }
    vfs.sync_dir(&options.dir).map_err(|source| BootError::Io { path: options.dir.clone(), source })
}

/// New files of both logs, linked, with what nothing proved written again.
fn resume_logs(
    vfs: &Arc<dyn Vfs>,
    options: &Options,
    examined: &mut Examination,
    forgotten: Option<Change>,
) -> Result<(Writer, Writer), BootError> {
    let state = &examined.replay.state;
    let (checkpoint, votes_checkpoint) = (state.checkpoint(), state.votes_checkpoint());
    let wal = examined.wal.take().expect("scanned, and taken only here");
    let mut again: Vec<Record> = wal.unproven().to_vec();
    again.extend(verdicts_on(&again, state));
    // Behind what is written again, which may list such a segment.
    again.extend(forgotten.map(|change| Record::State { group: NODE, body: change.encode() }));
    let votes = examined.votes.take().expect("scanned, and taken only here");
    let votes_again: Vec<Record> = votes.unproven().to_vec();
    let mut votes = Writer::resume(
        votes,
        votes_options(options, examined.identity.identity),
        votes_checkpoint,
        votes_again,
    );
    finish(vfs, &mut votes, &options.votes_dir())?;
    let mut wal =
        Writer::resume(wal, wal_options(options, examined.identity.identity), checkpoint, again);
    finish(vfs, &mut wal, &options.wal_dir())?;
    Ok((wal, votes))
}

/// What this boot decided about the groups whose small state is written again: the old records
/// stand behind the checkpoint and would undo a clamped hint or a snapshot given up.
fn verdicts_on(again: &[Record], state: &SmallState) -> Vec<Record> {
    let written: BTreeSet<GroupKey> = again
        .iter()
        .filter_map(|record| match record {
            Record::State { group, .. } => Some(*group),
            Record::Log { .. } => None,
        })
        .collect();
    let verdict = |group: GroupKey| {
        let record = state.groups.get(&group)?;
        Some(Record::State { group, body: Change::CheckpointGroup(record.clone()).encode() })
    };
    written.into_iter().filter_map(verdict).collect()
}

fn finish(vfs: &Arc<dyn Vfs>, writer: &mut Writer, dir: &Path) -> Result<(), BootError> {
    let poisoned = |p: refloat_wal::Poisoned| BootError::Poisoned {
        reason: Poisoned { reason: crate::store::with_cause(&p) }.reason,
    };
    // Whether there is space is asked before anything is taken that could need it.
    while !writer.is_ready() || !writer.knows_space() {
        let Some(job) = writer.poll(Now(0)) else {
            return Err(BootError::NoSpace { dir: dir.to_path_buf() });
        };
        let done = job.run(vfs.as_ref());
        writer.done(Now(0), done).map_err(poisoned)?;
    }
    Ok(())
}
