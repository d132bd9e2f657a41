//! Going on without a majority that is lost for good: by an operator, on a node that is stopped,
//! and never without a trace.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use refloat_log_store::identity::{self, IdentityError, NodeIdentity};
use refloat_log_store::{
    BootError, GroupBoot, LogStore, Options, SubmitError, boot_to_recover, examine, run_jobs,
};
use refloat_raft_core::ConfChange;
use refloat_types::{
    Entry, EntryId, EntryKind, GroupKey, GroupWrite, HardState, Index, LogOp, NodeId, Now,
};
use refloat_vfs::Vfs;

use super::plan::{LostNode, Presence, Recovery, going_on, plan};
use crate::core::{GroupCommand, encode_life, life_of_replica, slot};

/// Why nothing was recovered.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecoverError {
    /// A member of the old configuration answers: it is not lost.
    Reachable {
        /// Which.
        node: NodeId,
        /// Where.
        address: String,
        /// What is known of it, in a sentence.
        why: String,
    },
    /// The cluster never formed, or this node is no member of it: there is nothing to go on with.
    NoMember {
        /// The data directory.
        dir: PathBuf,
    },
    /// The identity cannot be read or written.
    Identity(IdentityError),
    /// The directory does not open.
    Boot(BootError),
    /// The log does not take the record. The same command may be given again.
    Submit(SubmitError),
    /// The record is written, but not that it is committed. The same command may be given again.
    Unproven {
        /// In which group.
        group: GroupKey,
        /// Up to here the directory knows entries to be committed.
        commit: Index,
        /// Where the record ends.
        expected: Index,
    },
    /// The disk failed. The same command may be given again.
    Poisoned {
        /// How.
        reason: String,
    },
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecoverError::Reachable { node, address, why } => write!(
                f,
                "node {node} of the old configuration is not lost: {why} at {address}; nothing was done"
            ),
            RecoverError::NoMember { dir } => write!(
                f,
                "the node of {} is no member of a cluster that formed: there is nothing to go on with",
                dir.display()
            ),
            RecoverError::Identity(error) => error.fmt(f),
            RecoverError::Boot(error) => error.fmt(f),
            RecoverError::Unproven { group, commit, expected } => write!(
                f,
                "group {group} does not keep that its record is committed: up to {commit}, expected {expected}"
            ),
            RecoverError::Submit(error) => write!(f, "the log does not take the record: {error}"),
            RecoverError::Poisoned { reason } => write!(f, "the disk failed: {reason}"),
        }
    }
}

impl std::error::Error for RecoverError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RecoverError::Identity(error) => error.source(),
            RecoverError::Boot(error) => error.source(),
            _ => None,
        }
    }
}

/// What [`recover`] would do. Changes nothing. Who is at the addresses of the other nodes is
/// asked with `presence` ([`crate::ask_presence`] on a network).
///
/// # Errors
/// The directory cannot be read, or has nothing to go on with.
pub fn plan_recovery(
    vfs: &dyn Vfs,
    options: &Options,
    presence: &mut dyn FnMut(&str) -> Presence,
) -> Result<Recovery, RecoverError> {
    let found = examine(vfs, options).map_err(RecoverError::Boot)?;
    let recovery = plan(&found, presence);
    if !recovery.groups.iter().any(|group| group.group == GroupKey::META.id.0) {
        return Err(RecoverError::NoMember { dir: options.dir.clone() });
    }
    Ok(recovery)
}

/// Lets this node go on alone: gives up every other voter of every group, and what only they had.
/// A new epoch of the cluster begins, in which old replicas and messages count for nothing; each
/// group's log holds the record of it. The other nodes come back with nothing, by `join`.
///
/// If it is cut off the directory is as it was, or takes no start until the same command is given
/// again and gets to its end.
///
/// # Errors
/// See [`RecoverError`].
pub fn recover(
    vfs: &Arc<dyn Vfs>,
    options: &Options,
    presence: &mut dyn FnMut(&str) -> Presence,
) -> Result<Recovery, RecoverError> {
    let done = plan_recovery(vfs.as_ref(), options, presence)?;
    let answers = done.lost.iter().find_map(|lost| lost.answers.clone().map(|why| (lost, why)));
    if let Some((lost, why)) = answers {
        let address = lost.address.clone().unwrap_or_default();
        return Err(RecoverError::Reachable { node: NodeId(lost.node), address, why });
    }
    let booted = boot_to_recover(vfs, options.clone()).map_err(RecoverError::Boot)?;
    let (mut store, mut identity) = (booted.store, booted.identity);
    let dir: &Path = &options.dir;
    // 1. From here on the directory takes no start: with the new epoch it would tell the others
    //    that they are superseded before it can go on, without it it could go on beside them.
    identity::begin_recovery(vfs.as_ref(), dir, &mut identity).map_err(RecoverError::Identity)?;
    // 2. The record, in every group.
    let mut records = BTreeMap::new();
    for group in going_on(&identity, &booted.groups) {
        let last = write(&mut store, group, &identity, &done.lost)?;
        run(&mut store, vfs)?;
        store.hint_commit(group.key, last);
        records.insert(group.key, last);
    }
    // Should it have been given up itself: it is the one that goes on now.
    let nothing = bytes::Bytes::new();
    store.put_node_state(Now(0), slot::SUPERSEDED, nothing).map_err(RecoverError::Submit)?;
    store.close();
    run(&mut store, vfs)?;
    drop(store);
    prove_committed(vfs, options, &records)?;
    // 3. All of it is durable, and that it is committed as well.
    identity::end_recovery(vfs.as_ref(), dir, &mut identity).map_err(RecoverError::Identity)?;
    Ok(done)
}

fn run(store: &mut LogStore, vfs: &Arc<dyn Vfs>) -> Result<(), RecoverError> {
    run_jobs(store, vfs, Now(0)).map_err(|error| RecoverError::Poisoned { reason: error.reason })
}

/// Sees to it that every record is known to be committed: the old electorate, which it ends, is
/// not there to commit it. A log may leave out such a word where its last file has no room for
/// it; a second try begins with a new file.
fn prove_committed(
    vfs: &Arc<dyn Vfs>,
    options: &Options,
    records: &BTreeMap<GroupKey, Index>,
) -> Result<(), RecoverError> {
    if unproven(vfs, options, records)?.is_none() {
        return Ok(());
    }
    let mut store = boot_to_recover(vfs, options.clone()).map_err(RecoverError::Boot)?.store;
    for (group, last) in records {
        store.hint_commit(*group, *last);
    }
    store.close();
    run(&mut store, vfs)?;
    drop(store);
    match unproven(vfs, options, records)? {
        Some((group, commit, expected)) => Err(RecoverError::Unproven { group, commit, expected }),
        None => Ok(()),
    }
}

/// The first group whose record a start would not take for committed, with how far it would.
fn unproven(
    vfs: &Arc<dyn Vfs>,
    options: &Options,
    records: &BTreeMap<GroupKey, Index>,
) -> Result<Option<(GroupKey, Index, Index)>, RecoverError> {
    let found = examine(vfs.as_ref(), options).map_err(RecoverError::Boot)?;
    let commit = |key| found.groups().iter().find(|g| g.key == key).map(|g| g.commit);
    let known = records.iter().map(|(key, last)| (*key, commit(*key).unwrap_or_default(), *last));
    Ok(known.into_iter().find(|(_, commit, last)| commit < last))
}

/// The record in one group's log; returns its last index.
fn write(
    store: &mut LogStore,
    group: &GroupBoot,
    identity: &NodeIdentity,
    lost: &[LostNode],
) -> Result<Index, RecoverError> {
    let key = group.key;
    let me = life_of_replica(identity.identity.member, group);
    let epoch = identity.lineage.epoch();
    let term = group.hard_state.term.max(group.last.term).next();
    let hard_state = HardState { term, vote: Some(me) };
    let mut prev = group.last;
    if let Some(hole) = group.holes.first() {
        let log = Some(LogOp::Cut { from: hole });
        submit(store, GroupWrite { group: key, hard_state: None, log })?;
        prev = store.last(key);
    }
    let mut payloads = vec![(EntryKind::Config, ConfChange::Recover { voter: me, epoch }.encode())];
    if key == GroupKey::META {
        for LostNode { node, life, learner, .. } in lost {
            let gone = GroupCommand::Dismiss { node: NodeId(*node), life: *life };
            let expected = GroupCommand::Expect { node: NodeId(*node), learner: *learner };
            payloads.extend([gone, expected].map(|c| (EntryKind::Command, c.encode())));
        }
    }
    // The next start must find the name that the record makes the only voter, also where the
    // group's value was lost.
    store.put_group_value(Now(0), key, encode_life(me)).map_err(RecoverError::Submit)?;
    let first = prev.index.next();
    let entries: Vec<Entry> = payloads
        .into_iter()
        .enumerate()
        .map(|(n, (kind, payload))| Entry::new(EntryId::new(term, first + n as u64), kind, payload))
        .collect();
    let last = entries.last().map_or(prev.index, |entry| entry.id.index);
    let log = Some(LogOp::Append { prev, entries });
    submit(store, GroupWrite { group: key, hard_state: Some(hard_state), log })?;
    store.note_healed(Now(0), key).map_err(RecoverError::Submit)?;
    Ok(last)
}

fn submit(store: &mut LogStore, write: GroupWrite) -> Result<(), RecoverError> {
    store.submit(Now(0), &[write]).map(drop).map_err(RecoverError::Submit)
}
