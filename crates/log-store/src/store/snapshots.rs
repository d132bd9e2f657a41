//! Snapshots of the groups: written, read for sending, received, and kept two deep.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use refloat_snapshot::{Chunk, Head, Incoming, SnapshotError, SnapshotFile, SnapshotMeta, Source};
use refloat_types::{ConfState, EntryId, GroupKey, Identity, Index, IndexSet, Term};
use refloat_vfs::Vfs;

use super::read::with_cause;
use super::{GroupLog, Job, Lane, LogStore, Then};
use crate::error::{Poisoned, SubmitError};
use crate::event::{Event, RequestId, Ticket};
use crate::small_state::Change;

/// What the store knows of its snapshots.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    /// The newest published one of each group.
    newest: BTreeMap<GroupKey, Arc<SnapshotFile>>,
    /// Written or received and durable, waiting for the record that names it. A local one and one
    /// from a leader may wait at the same time.
    waiting: BTreeMap<(GroupKey, EntryId), Arc<SnapshotFile>>,
    writing: BTreeSet<GroupKey>,
    receiving: BTreeMap<GroupKey, Reception>,
    /// Newest ones that were found rotten: another of the same index takes their place.
    rotten: BTreeMap<GroupKey, EntryId>,
}

/// One snapshot on its way in. The open file travels with the job that writes to it.
#[derive(Debug)]
struct Reception {
    meta: SnapshotMeta,
    incoming: Option<Box<Incoming>>,
    queue: VecDeque<Chunk>,
    busy: bool,
    /// Bytes of chunks in the queue and with the job.
    bytes: u64,
}

pub(crate) enum SnapshotJob {
    Write {
        dir: PathBuf,
        identity: Identity,
        head: Head,
        source: Box<dyn Source>,
    },
    Read {
        request: RequestId,
        file: Arc<SnapshotFile>,
        chunk: u32,
    },
    Receive {
        dir: PathBuf,
        identity: Identity,
        meta: SnapshotMeta,
        incoming: Option<Box<Incoming>>,
        chunks: Vec<Chunk>,
    },
    /// Removes what the store made in the directory of a group that is gone.
    Clear(PathBuf),
}

impl fmt::Debug for SnapshotJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotJob::Write { head, .. } => {
                write!(f, "write snapshot {:?} of {}", head.id, head.group)
            }
            SnapshotJob::Read { file, chunk, .. } => {
                write!(f, "read chunk {chunk} of {}", file.path().display())
            }
            SnapshotJob::Receive { meta, chunks, .. } => {
                write!(f, "receive {} chunks of {:?} of {}", chunks.len(), meta.id, meta.group)
            }
            SnapshotJob::Clear(dir) => write!(f, "clear {}", dir.display()),
        }
    }
}

#[derive(Debug)]
pub(crate) enum SnapshotDone {
    Written { group: GroupKey, result: Result<Arc<SnapshotFile>, SnapshotError> },
    Read { request: RequestId, result: Result<Chunk, SnapshotError> },
    Received { group: GroupKey, result: Result<Received, SnapshotError> },
    Tidied,
}

#[derive(Debug)]
pub(crate) enum Received {
    Partly(Box<Incoming>),
    Whole(Box<SnapshotFile>),
}

impl Snapshots {
    pub(crate) fn with_newest(newest: BTreeMap<GroupKey, Arc<SnapshotFile>>) -> Snapshots {
        Snapshots { newest, ..Snapshots::default() }
    }
}

impl LogStore {
    /// Writes a snapshot of a group's machine as of the entry `id`; [`Event::SnapshotWritten`] or
    /// [`Event::SnapshotFailed`] follows. Ignored while one of the same group is being written,
    /// or where a newer one exists.
    pub fn write_snapshot(
        &mut self,
        group: GroupKey,
        id: EntryId,
        conf: ConfState,
        live: IndexSet,
        source: Box<dyn Source>,
    ) {
        let replaces = self.snapshots.rotten.get(&group) == Some(&id);
        let newest = |r: &crate::small_state::GroupRecord| r.snapshot.index >= id.index;
        let newer = self.state.groups.get(&group).is_none_or(newest) && !replaces;
        if newer || !self.snapshots.writing.insert(group) {
            return;
        }
        let dir = self.snapshot_dir(group);
        let head = Head::new(group, id, conf, live);
        let identity = self.identity;
        self.queue.push_back(Job::snapshot(SnapshotJob::Write { dir, identity, head, source }));
    }

    /// The newest published snapshot of a group.
    #[must_use]
    pub fn latest_snapshot(&self, group: GroupKey) -> Option<&SnapshotMeta> {
        self.snapshots.newest.get(&group).map(|file| file.meta())
    }

    /// Opens the newest published snapshot for reading, to restore a machine from it. It stays
    /// readable while held, also after a newer one took its place.
    #[must_use]
    pub fn snapshot_file(&self, group: GroupKey) -> Option<Arc<SnapshotFile>> {
        self.snapshots.newest.get(&group).cloned()
    }

    /// The newest snapshot of a group turned out to be unreadable. Its file is kept under another
    /// name, and another one of the same entry takes its place without a new record, be it written
    /// here or received. `false`: it is not the newest.
    pub fn lose_snapshot(&mut self, group: GroupKey, id: EntryId) -> bool {
        if self.state.groups.get(&group).is_none_or(|record| record.snapshot != id) {
            return false;
        }
        self.snapshots.rotten.insert(group, id);
        if self.snapshots.newest.remove(&group).is_some() {
            let path = self.snapshot_path(group, id);
            self.queue.push_back(Job::set_aside(vec![path], Lane::Snapshot));
        }
        true
    }

    /// The file in place of a rotten one: the record that names it is there, and so is the name.
    fn takes_the_place(&mut self, file: &Arc<SnapshotFile>) -> bool {
        let (group, id) = (file.meta().group, file.meta().id);
        let named = self.state.groups.get(&group).is_some_and(|record| record.snapshot == id);
        if !named || self.snapshots.rotten.get(&group) != Some(&id) {
            return false;
        }
        self.snapshots.rotten.remove(&group);
        self.snapshots.newest.insert(group, file.clone());
        true
    }

    /// Reads one chunk of the newest published snapshot; [`Event::SnapshotChunk`] follows.
    /// `None` if there is no snapshot of this `id` any more.
    pub fn read_snapshot_chunk(
        &mut self,
        group: GroupKey,
        id: EntryId,
        chunk: u32,
    ) -> Option<RequestId> {
        let file = self.snapshots.newest.get(&group).filter(|f| f.meta().id == id)?.clone();
        let request = self.request();
        self.queue.push_back(Job::snapshot(SnapshotJob::Read { request, file, chunk }));
        Some(request)
    }

    /// Takes chunks of a snapshot that a leader sends, in any order; none begins the reception
    /// and asks how far an earlier one got. Those for a group that is not registered are dropped.
    /// [`Event::SnapshotProgress`] and, at the end,
    /// [`Event::SnapshotReceived`] follow. A newer snapshot replaces one being received.
    pub fn receive_snapshot(&mut self, meta: SnapshotMeta, chunk: Option<Chunk>) {
        let group = meta.group;
        if !self.has_group(group) {
            return;
        }
        let known = self.snapshots.receiving.get(&group).is_some_and(|r| r.meta == meta);
        if !known {
            let busy = self.snapshots.receiving.get(&group).is_some_and(|r| r.busy);
            if busy {
                return; // the older one's job comes back first; the sender asks again
            }
            let fresh = Reception {
                meta: meta.clone(),
                incoming: None,
                queue: VecDeque::new(),
                busy: false,
                bytes: 0,
            };
            self.snapshots.receiving.insert(group, fresh);
        }
        let held = self.reception_bytes();
        let fits = |len: u64| held == 0 || held + len <= self.options.reception_bytes;
        let chunk = chunk.filter(|chunk| fits(chunk.bytes.len() as u64));
        let reception = self.snapshots.receiving.get_mut(&group).expect("just made sure");
        if let Some(chunk) = chunk {
            reception.bytes += chunk.bytes.len() as u64;
            reception.queue.push_back(chunk);
        }
        self.go_on_receiving(group);
    }

    /// Bytes of chunks that arrived and are not written.
    #[must_use]
    pub fn reception_bytes(&self) -> u64 {
        self.snapshots.receiving.values().map(|reception| reception.bytes).sum()
    }

    /// Nothing more is expected of a group's reception. What it brought stays in its `.part` file,
    /// and the next one of the same content goes on from there.
    pub fn stop_receiving(&mut self, group: GroupKey) {
        self.snapshots.receiving.retain(|key, reception| *key != group || reception.busy);
    }

    /// Which of these entries, that a snapshot from a leader refers to, are not here.
    #[must_use]
    pub fn missing_live(&self, group: GroupKey, live: &IndexSet) -> IndexSet {
        self.logs.get(&group).map_or_else(|| live.clone(), |log| log.lacks(live))
    }

    /// The entries to which a group's own snapshots refer and that are not on this disk, or cannot
    /// be read from it, as far as a start, the scrub or [`LogStore::note_unreadable`] found out.
    /// Another member's take their place by [`LogOp::Fill`](refloat_types::LogOp::Fill).
    #[must_use]
    pub fn lost_live(&self, group: GroupKey) -> IndexSet {
        self.logs.get(&group).map_or_else(IndexSet::new, GroupLog::lost_live)
    }

    /// Whether an entry is known not to read back from this disk.
    #[must_use]
    pub fn is_unreadable(&self, group: GroupKey, index: Index) -> bool {
        self.logs.get(&group).is_some_and(|log| log.unreadable.contains(index))
    }

    /// The host could not read an entry that is needed.
    pub fn note_unreadable(&mut self, group: GroupKey, index: Index) {
        if let Some(log) = self.logs.get_mut(&group) {
            log.unreadable.insert(index);
        }
    }

    fn go_on_receiving(&mut self, group: GroupKey) {
        let dir = self.snapshot_dir(group);
        let identity = self.identity;
        let Some(reception) = self.snapshots.receiving.get_mut(&group).filter(|r| !r.busy) else {
            return;
        };
        if reception.incoming.is_some() && reception.queue.is_empty() {
            return;
        }
        reception.busy = true;
        let job = SnapshotJob::Receive {
            dir,
            identity,
            meta: reception.meta.clone(),
            incoming: reception.incoming.take(),
            chunks: reception.queue.drain(..).collect(),
        };
        self.queue.push_back(Job::snapshot(job));
    }

    /// Notes that the newest snapshot of a group does not verify any more.
    pub(super) fn snapshot_is_rotten(&mut self, group: GroupKey, id: EntryId) {
        if self.state.groups.get(&group).is_some_and(|record| record.snapshot == id) {
            self.snapshots.rotten.insert(group, id);
        }
    }

    pub(super) fn snapshot_path(&self, group: GroupKey, id: EntryId) -> PathBuf {
        refloat_snapshot::snapshot_path(&self.snapshot_dir(group), id)
    }

    pub(super) fn snapshot_dir(&self, group: GroupKey) -> PathBuf {
        refloat_snapshot::group_dir(&self.options.snapshot_root(), group)
    }

    pub(super) fn snapshot_done(&mut self, done: SnapshotDone) -> Result<(), Poisoned> {
        match done {
            SnapshotDone::Written { group, result } => self.snapshot_written(group, result),
            SnapshotDone::Read { request, result } => {
                let result = result.map_err(|e| with_cause(&e));
                self.events.push(Event::SnapshotChunk { request, result });
                Ok(())
            }
            SnapshotDone::Received { group, result } => self.snapshot_received(group, result),
            SnapshotDone::Tidied => Ok(()),
        }
    }

    fn snapshot_written(
        &mut self,
        group: GroupKey,
        result: Result<Arc<SnapshotFile>, SnapshotError>,
    ) -> Result<(), Poisoned> {
        self.snapshots.writing.remove(&group);
        let file = match result {
            Ok(file) => file,
            Err(e) if e.is_poison() => return Err(Poisoned { reason: with_cause(&e) }),
            Err(e) => {
                self.events.push(Event::SnapshotFailed { group, reason: with_cause(&e) });
                return Ok(());
            }
        };
        let id = file.meta().id;
        if self.takes_the_place(&file) {
            self.events.push(Event::SnapshotWritten { group, id });
            return Ok(());
        }
        let Some(record) = self.state.groups.get(&group) else { return Ok(()) };
        if record.snapshot.index >= id.index {
            self.discard_snapshot(group, id); // one from the leader overtook it
            return Ok(());
        }
        let change = Change::Published { id, conf: file.meta().conf.clone() };
        match self.submit_change(group, change) {
            Ok(ticket) => {
                self.snapshots.waiting.insert((group, id), file);
                self.publish_after(ticket, group);
                Ok(())
            }
            Err(SubmitError::Poisoned(poisoned)) => Err(poisoned),
            Err(e) => {
                self.discard_snapshot(group, id);
                self.events.push(Event::SnapshotFailed { group, reason: e.to_string() });
                Ok(())
            }
        }
    }

    /// The record that names a group's newest snapshot was submitted under this ticket. What it
    /// names is noted now: when the ticket is durable a later record may have been submitted, on
    /// which nothing may rest yet.
    pub(super) fn publish_after(&mut self, ticket: Ticket, group: GroupKey) {
        let Some(record) = self.state.groups.get(&group) else { return };
        let (id, previous) = (record.snapshot, record.previous);
        self.after.push_back((ticket, Then::SnapshotPublished { group, id, previous }));
    }

    fn snapshot_received(
        &mut self,
        group: GroupKey,
        result: Result<Received, SnapshotError>,
    ) -> Result<(), Poisoned> {
        let Some(reception) = self.snapshots.receiving.get_mut(&group) else { return Ok(()) };
        reception.busy = false;
        reception.bytes = reception.queue.iter().map(|chunk| chunk.bytes.len() as u64).sum();
        match result {
            Ok(Received::Partly(incoming)) => {
                let id = reception.meta.id;
                let next_chunk = incoming.missing(0).unwrap_or(reception.meta.chunks);
                reception.incoming = Some(incoming);
                self.events.push(Event::SnapshotProgress { group, id, next_chunk });
                self.go_on_receiving(group);
            }
            Ok(Received::Whole(file)) => {
                self.snapshots.receiving.remove(&group);
                let (meta, file) = (file.meta().clone(), Arc::new(*file));
                if !self.takes_the_place(&file) {
                    self.snapshots.waiting.insert((group, meta.id), file);
                }
                self.events.push(Event::SnapshotReceived { group, meta });
            }
            Err(e) if e.is_poison() => return Err(Poisoned { reason: with_cause(&e) }),
            // The part file stays and is resumed with what verifies in it.
            Err(e) => {
                let (id, reason) = (reception.meta.id, with_cause(&e));
                self.snapshots.receiving.remove(&group);
                self.events.push(Event::SnapshotRefused { group, id, reason });
            }
        }
        Ok(())
    }

    /// A received snapshot that waits for its install.
    pub(super) fn received_snapshot(&self, group: GroupKey, id: EntryId) -> Option<&SnapshotMeta> {
        self.snapshots.waiting.get(&(group, id)).map(|file| file.meta())
    }

    /// The record that names the snapshot is durable: it is the newest, and what is older than the
    /// one before it may go.
    pub(super) fn snapshot_published(&mut self, group: GroupKey, id: EntryId, previous: EntryId) {
        if !self.has_group(group) {
            return;
        }
        if let Some(file) = self.snapshots.waiting.remove(&(group, id)) {
            let replaced = self.snapshots.newest.insert(group, file.clone());
            if let Some(log) = self.logs.get_mut(&group) {
                log.base = log.base.max(id);
                log.dead = previous.index;
                log.map.drop_through(previous.index);
                if previous == id {
                    log.durable = log.durable.max(id.index); // installed: it is the log now
                }
                log.live = file.meta().live.clone();
                if let Some(replaced) = replaced.filter(|_| previous != id) {
                    add_all(&mut log.live, &replaced.meta().live);
                }
                log.forget_needless();
            }
        }
        self.retire_snapshots(group, &[id, previous]);
        self.drop_overtaken(group, id);
        self.events.push(Event::SnapshotWritten { group, id });
    }

    /// Received snapshots that are older than a published one will never be installed.
    fn drop_overtaken(&mut self, group: GroupKey, published: EntryId) {
        let all = (group, EntryId::ZERO)..=(group, EntryId::new(Term(u64::MAX), Index(u64::MAX)));
        let overtaken: Vec<EntryId> = self
            .snapshots
            .waiting
            .range(all)
            .map(|((_, id), _)| *id)
            .filter(|id| id.index <= published.index)
            .collect();
        for id in overtaken {
            self.snapshots.waiting.remove(&(group, id));
            self.discard_snapshot(group, id);
        }
    }

    /// Removes a file that no record will name, unless a record names another of the same id.
    fn discard_snapshot(&mut self, group: GroupKey, id: EntryId) {
        let named =
            self.state.groups.get(&group).is_some_and(|r| [r.snapshot, r.previous].contains(&id));
        let published = self.published.get(&group).is_some_and(|ids| ids.contains(&id));
        if !named && !published && !self.snapshots.waiting.contains_key(&(group, id)) {
            let path = refloat_snapshot::snapshot_path(&self.snapshot_dir(group), id);
            self.queue.push_back(Job::remove_snapshots(vec![path]));
        }
    }

    /// Removes a group's snapshots that were published before and are not among those kept.
    fn retire_snapshots(&mut self, group: GroupKey, keep: &[EntryId]) {
        let dir = self.snapshot_dir(group);
        let published = self.published.entry(group).or_default();
        let gone: Vec<PathBuf> = published
            .iter()
            .filter(|id| !keep.contains(id))
            .map(|id| refloat_snapshot::snapshot_path(&dir, *id))
            .collect();
        *published = keep.iter().copied().filter(|id| id.index.0 > 0).collect();
        if !gone.is_empty() {
            self.queue.push_back(Job::remove_snapshots(gone));
        }
    }

    pub(super) fn forget_snapshots(&mut self, group: GroupKey) {
        self.snapshots.newest.remove(&group);
        self.snapshots.rotten.remove(&group);
        self.snapshots.waiting.retain(|(key, _), _| *key != group);
        self.snapshots.receiving.remove(&group);
        self.published.remove(&group);
        self.queue.push_back(Job::snapshot(SnapshotJob::Clear(self.snapshot_dir(group))));
    }
}

/// Adds all of one set to another.
pub(crate) fn add_all(to: &mut IndexSet, from: &IndexSet) {
    for (first, last) in from.ranges() {
        to.insert_range(*first, *last);
    }
}

impl SnapshotJob {
    pub(super) fn run(self, vfs: &Arc<dyn Vfs>) -> SnapshotDone {
        let vfs = vfs.as_ref();
        match self {
            SnapshotJob::Write { dir, identity, head, mut source } => {
                let (group, path) = (head.group, refloat_snapshot::snapshot_path(&dir, head.id));
                let written = refloat_snapshot::write(vfs, &dir, &identity, head, source.as_mut());
                let result =
                    written.and_then(|_| SnapshotFile::open(vfs, &path, &identity)).map(Arc::new);
                SnapshotDone::Written { group, result }
            }
            SnapshotJob::Read { request, file, chunk } => {
                SnapshotDone::Read { request, result: file.chunk(chunk) }
            }
            SnapshotJob::Receive { dir, identity, meta, incoming, chunks } => {
                let group = meta.group;
                let result = receive(vfs, &dir, &identity, meta, incoming, &chunks);
                SnapshotDone::Received { group, result }
            }
            SnapshotJob::Clear(dir) => {
                for path in own_files(vfs, &dir) {
                    let _ = vfs.remove_file(&path); // what stays is retired by the next boot
                }
                SnapshotDone::Tidied
            }
        }
    }
}

fn receive(
    vfs: &dyn Vfs,
    dir: &Path,
    identity: &Identity,
    meta: SnapshotMeta,
    incoming: Option<Box<Incoming>>,
    chunks: &[Chunk],
) -> Result<Received, SnapshotError> {
    let path = refloat_snapshot::snapshot_path(dir, meta.id);
    let mut incoming = match incoming {
        Some(incoming) => incoming,
        None => {
            // Only one is received at a time: what an earlier one left would stay for good.
            let part = refloat_snapshot::part_of(dir, &meta);
            refloat_snapshot::remove_leftovers(vfs, dir, &|path| path == part)?;
            Box::new(Incoming::begin(vfs, dir, identity, meta)?)
        }
    };
    for chunk in chunks {
        match incoming.put(chunk) {
            // A chunk that is not what was sent is asked for again.
            Ok(_) | Err(SnapshotError::BadChunk { .. } | SnapshotError::NoSuchChunk { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    if incoming.missing(0).is_some() {
        return Ok(Received::Partly(incoming));
    }
    incoming.finish(vfs)?;
    SnapshotFile::open(vfs, &path, identity).map(|file| Received::Whole(Box::new(file)))
}

/// What the store itself made in a group's directory.
pub(crate) fn own_files(vfs: &dyn Vfs, dir: &Path) -> Vec<PathBuf> {
    let mut files = vfs.list(dir).unwrap_or_default();
    files.retain(|p| {
        p.extension().is_some_and(|e| ["snap", "tmp", "part"].iter().any(|own| e == *own))
    });
    files
}
