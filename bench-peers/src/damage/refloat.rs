//! refloat's log store: log, votes, segments, identity.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use refloat_log_store::{Event, GroupState, LogStore, Options, Read, boot, identity, run_jobs};
use refloat_types::{
    ClusterId, ConfState, Entry, EntryId, EntryKind, Epoch, GroupId, GroupKey, GroupWrite,
    Identity, Incarnation, Index, LogOp, Member, NodeId, Now, Term,
};
use refloat_vfs::{OsFs, Vfs};

use super::{Found, Id, Log, Result, ids, payload};

pub struct Refloat;

fn options(dir: &Path) -> Options {
    let mut options = Options::new(dir);
    options.wal_file_size = 512 << 10;
    options.votes_file_size = 64 << 10;
    options
}

fn key(group: u64) -> GroupKey {
    GroupKey::new(GroupId(group), Epoch(1))
}

impl Log for Refloat {
    fn name(&self) -> &'static str {
        "refloat-log-store"
    }

    fn write(&self, dir: &Path, node: u64) -> Result<()> {
        std::fs::create_dir_all(dir)?;
        let vfs: Arc<dyn Vfs> = Arc::new(OsFs);
        let me = Member::new(NodeId(node), Incarnation(node.into()));
        let owner = identity::NodeIdentity {
            identity: Identity { cluster: ClusterId(1), member: me },
            cluster_name: "damage".into(),
            groups: super::GROUPS as u32,
            members: vec![],
            run: 0,
            origin: identity::Origin::Init,
            lineage: identity::Lineage::default(),
            recovering: false,
        };
        identity::create(&*vfs, dir, &owner)?;
        let mut store = boot(&vfs, options(dir))?.store;
        for group in 1..=super::GROUPS {
            store.create_group(Now(0), key(group), &ConfState::of_voters([me]))?;
        }
        for id in ids() {
            let entry_id = EntryId::new(Term(1), Index(id.index));
            let entries = vec![Entry::new(entry_id, EntryKind::Command, payload(node, id).into())];
            let prev = match id.index {
                1 => EntryId::ZERO,
                index => EntryId::new(Term(1), Index(index - 1)),
            };
            let log = Some(LogOp::Append { prev, entries });
            let write = GroupWrite { group: key(id.group), hard_state: None, log };
            let ticket = store.submit(Now(0), &[write])?;
            run_jobs(&mut store, &vfs, Now(0))?;
            if store.durable() < ticket {
                return Err("not acknowledged".into());
            }
        }
        // Idle, so that the last batch is sealed; not closed.
        run_jobs(&mut store, &vfs, Now(1_000_000))?;
        Ok(())
    }

    fn read(&self, dir: &Path) -> Result<Vec<(Id, Found)>> {
        let vfs: Arc<dyn Vfs> = Arc::new(OsFs);
        let opened = boot(&vfs, options(dir))?;
        let states: BTreeMap<GroupKey, GroupState> =
            opened.groups.iter().map(|group| (group.key, group.state)).collect();
        let mut store = opened.store;
        let mut found = Vec::new();
        for id in ids() {
            let group = key(id.group);
            let named = states.get(&group).is_some_and(|state| *state != GroupState::Clean);
            let answer = match entry(&mut store, &vfs, group, Index(id.index))? {
                Answer::Entry(bytes) => Found::Bytes(bytes),
                Answer::Error => Found::Named,
                Answer::Nothing if named => Found::Named,
                Answer::Nothing => Found::Absent,
            };
            found.push((id, answer));
        }
        Ok(found)
    }
}

enum Answer {
    Entry(Vec<u8>),
    Error,
    Nothing,
}

fn entry(
    store: &mut LogStore,
    vfs: &Arc<dyn Vfs>,
    group: GroupKey,
    index: Index,
) -> Result<Answer> {
    let of = |entries: Vec<Entry>| match entries.into_iter().next() {
        Some(entry) if entry.id.index == index => Answer::Entry(entry.payload.to_vec()),
        _ => Answer::Nothing,
    };
    match store.read(group, index, index, usize::MAX) {
        Read::Entries(entries) => return Ok(of(entries)),
        Read::Later(_) => run_jobs(store, vfs, Now(0))?,
        _ => return Ok(Answer::Nothing),
    }
    for event in store.take_events() {
        if let Event::Read { result, .. } = event {
            return Ok(result.map_or(Answer::Error, of));
        }
    }
    Ok(Answer::Nothing)
}
