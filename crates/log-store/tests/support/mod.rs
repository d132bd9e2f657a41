//! One helper language for the store's scenarios: a disk, writes on it, faults, boots, and the
//! model that every recovered store must equal.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use refloat_log_store::identity::{self, NodeIdentity};
use refloat_log_store::{
    Boot, BootError, Chunk, Event, GroupState, Job, Lane, LogStore, Options, Poisoned, Read,
    SnapshotMeta, SubmitError, Ticket,
};
use refloat_types::{
    ClusterId, ConfState, Entry, EntryId, EntryKind, Epoch, GroupId, GroupKey, GroupWrite,
    HardState, Identity, Incarnation, Index, IndexSet, LogOp, Member, NodeId, Now, Term,
};
use refloat_vfs::{SimFs, Vfs};

pub const DIR: &str = "/data/node";
pub const ME: Member = Member::new(NodeId(1), Incarnation(0xA1));

pub fn group(n: u64) -> GroupKey {
    GroupKey::new(GroupId(n), Epoch(n))
}

pub fn id(term: u64, index: u64) -> EntryId {
    EntryId::new(Term(term), Index(index))
}

pub fn entry(term: u64, index: u64, len: usize) -> Entry {
    let text = format!("t{term} i{index} ").repeat(len / 4 + 1);
    Entry::new(id(term, index), EntryKind::Command, Bytes::from(text.into_bytes()).slice(..len))
}

/// What a group's durable state should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupModel {
    pub hard_state: HardState,
    pub value: Option<Bytes>,
    pub snapshot: EntryId,
    pub log: BTreeMap<Index, Entry>,
}

impl GroupModel {
    pub fn last(&self) -> EntryId {
        self.log.values().next_back().map_or(self.snapshot, |e| e.id)
    }

    fn apply(&mut self, op: &LogOp) {
        if let Some(from) = op.cut_from() {
            self.log.split_off(&from);
        }
        self.log.extend(op.entries().iter().map(|e| (e.id.index, e.clone())));
    }
}

pub type Model = BTreeMap<GroupKey, GroupModel>;

/// A simulated disk with an initialised data directory and, mostly, a running store.
pub struct Disk {
    pub fs: SimFs,
    pub vfs: Arc<dyn Vfs>,
    pub options: Options,
    pub store: Option<LogStore>,
    pub now: Now,
    /// The model after each ticket, oldest first; the first is the state before anything.
    pub history: Vec<(Ticket, Model)>,
    pub jobs_by_hand: bool,
}

impl Disk {
    /// Small files, so that everything rolls over every few writes.
    pub fn small() -> Disk {
        let mut options = Options::new(DIR);
        options.wal_file_size = 16 * 4096;
        options.votes_file_size = 16 * 4096;
        options.small_segment = 1 << 20;
        Disk::with(options)
    }

    pub fn with(options: Options) -> Disk {
        let fs = SimFs::new();
        let vfs: Arc<dyn Vfs> = Arc::new(fs.clone());
        identity::create(vfs.as_ref(), Path::new(DIR), &node_identity()).expect("init");
        let mut disk = Disk {
            fs,
            vfs,
            options,
            store: None,
            now: Now(1),
            history: vec![(Ticket(0), Model::new())],
            jobs_by_hand: false,
        };
        disk.boot().expect("first boot");
        disk
    }

    /// The same data directory on another image of the disk.
    pub fn on(fs: SimFs, options: &Options) -> Disk {
        Disk {
            vfs: Arc::new(fs.clone()),
            fs,
            options: options.clone(),
            store: None,
            now: Now(1),
            history: vec![(Ticket(0), Model::new())],
            jobs_by_hand: false,
        }
    }

    pub fn boot(&mut self) -> Result<Boot2, BootError> {
        self.store = None;
        let boot: Boot = refloat_log_store::boot(&self.vfs, self.options.clone())?;
        let mut run = boot.identity.clone();
        identity::begin_run(self.vfs.as_ref(), Path::new(DIR), &mut run)?;
        self.store = Some(boot.store);
        Ok(Boot2 { groups: boot.groups, report: boot.report, node_state: boot.node_state })
    }

    pub fn store(&mut self) -> &mut LogStore {
        self.store.as_mut().expect("running")
    }

    pub fn model(&mut self) -> &mut Model {
        &mut self.history.last_mut().expect("never empty").1
    }

    fn record(&mut self, ticket: Ticket, change: impl FnOnce(&mut Model)) {
        let mut model = self.history.last().expect("never empty").1.clone();
        change(&mut model);
        self.history.push((ticket, model));
    }

    pub fn create_group(&mut self, key: GroupKey) -> Result<(), SubmitError> {
        let (now, conf) = (self.now, ConfState::of_voters([ME]));
        let ticket = self.store().create_group(now, key, &conf)?;
        self.record(ticket, |m| drop(m.insert(key, GroupModel::default())));
        Ok(())
    }

    pub fn delete_group(&mut self, key: GroupKey) -> Result<(), SubmitError> {
        let now = self.now;
        let ticket = self.store().delete_group(now, key)?;
        self.record(ticket, |m| drop(m.remove(&key)));
        Ok(())
    }

    pub fn write(
        &mut self,
        key: GroupKey,
        hard_state: Option<HardState>,
        log: Option<LogOp>,
    ) -> Result<Ticket, SubmitError> {
        let now = self.now;
        let write = GroupWrite { group: key, hard_state, log: log.clone() };
        let ticket = self.store().submit(now, std::slice::from_ref(&write))?;
        self.record(ticket, |m| {
            let model = m.get_mut(&key).expect("registered");
            if let Some(hs) = hard_state {
                model.hard_state = hs;
            }
            if let Some(op) = &log {
                model.apply(op);
            }
        });
        Ok(ticket)
    }

    /// Appends `count` entries of `len` bytes behind the group's last one.
    pub fn append(&mut self, key: GroupKey, term: u64, count: u64, len: usize) -> Ticket {
        self.try_append(key, term, count, len).expect("append")
    }

    pub fn try_append(
        &mut self,
        key: GroupKey,
        term: u64,
        count: u64,
        len: usize,
    ) -> Result<Ticket, SubmitError> {
        let prev = self.model()[&key].last();
        self.append_after(key, prev, term, count, len)
    }

    /// Appends one entry without a copy of the model: for tests with many groups.
    pub fn append_quietly(&mut self, key: GroupKey, len: usize) {
        let now = self.now;
        let prev = self.store().last(key);
        let entries = vec![entry(prev.term.0, prev.index.0 + 1, len)];
        let log = Some(LogOp::Append { prev, entries });
        let write = GroupWrite { group: key, hard_state: None, log };
        self.store().submit(now, &[write]).expect("append");
    }

    /// Overwrites what stands above `prev`.
    pub fn append_after(
        &mut self,
        key: GroupKey,
        prev: EntryId,
        term: u64,
        count: u64,
        len: usize,
    ) -> Result<Ticket, SubmitError> {
        let first = prev.index.0 + 1;
        let entries = (first..first + count).map(|i| entry(term, i, len)).collect();
        self.write(key, None, Some(LogOp::Append { prev, entries }))
    }

    pub fn vote(&mut self, key: GroupKey, term: u64) -> Result<Ticket, SubmitError> {
        self.write(key, Some(HardState { term: Term(term), vote: Some(ME) }), None)
    }

    /// Keeps a value of the host's for the group.
    pub fn put_value(&mut self, key: GroupKey, value: &str) -> Result<Ticket, SubmitError> {
        let (now, value) = (self.now, Bytes::from(value.to_owned()));
        let ticket = self.store().put_group_value(now, key, value.clone())?;
        self.record(ticket, |m| m.get_mut(&key).expect("registered").value = Some(value));
        Ok(ticket)
    }

    /// Runs all jobs there are.
    pub fn sync(&mut self) -> Result<(), Poisoned> {
        let vfs = self.vfs.clone();
        let now = self.now;
        refloat_log_store::run_jobs(self.store(), &vfs, now)
    }

    /// Runs all jobs but those of one lane, which are given back unrun.
    pub fn sync_without(&mut self, held: Lane) -> Result<Vec<Job>, Poisoned> {
        let mut kept = Vec::new();
        let (vfs, now) = (self.vfs.clone(), self.now);
        while let Some(job) = self.store().poll_job(now) {
            if job.lane() == held {
                kept.push(job);
                continue;
            }
            let done = job.run(&vfs);
            self.store().complete(now, done)?;
        }
        Ok(kept)
    }

    /// Runs one job that was held back.
    pub fn run(&mut self, job: Job) -> Result<(), Poisoned> {
        let done = job.run(&self.vfs);
        let now = self.now;
        self.store().complete(now, done)
    }

    /// Lets time pass until the logs are sealed.
    pub fn idle(&mut self) -> Result<(), Poisoned> {
        self.now = self.now.after(1_000_000);
        self.sync()
    }

    /// Writes a snapshot up to the group's last entry and waits until it is published.
    pub fn snapshot(&mut self, key: GroupKey, live: IndexSet) -> Result<(), Poisoned> {
        let at = self.model()[&key].last();
        let payload = Bytes::from(format!("state at {at}"));
        let conf = ConfState::of_voters([ME]);
        self.store().write_snapshot(key, at, conf, live, Box::new(std::iter::once(payload)));
        self.sync()?;
        let written =
            self.store().take_events().into_iter().any(
                |e| matches!(e, Event::SnapshotWritten { group, id } if group == key && id == at),
            );
        if written {
            self.model().get_mut(&key).expect("registered").snapshot = at;
        }
        Ok(())
    }

    /// Starts a snapshot up to `at`, without waiting for anything.
    pub fn begin_snapshot(&mut self, key: GroupKey, at: EntryId, live: IndexSet) {
        let payload = Bytes::from(format!("state at {at}"));
        let conf = ConfState::of_voters([ME]);
        self.store().write_snapshot(key, at, conf, live, Box::new(std::iter::once(payload)));
    }

    /// Receives a whole snapshot from a leader: durable under its name, not yet installed.
    pub fn receive(&mut self, key: GroupKey, at: EntryId, live: IndexSet) -> Result<(), Poisoned> {
        let (meta, chunks) = sent_snapshot(key, at, live);
        self.store().receive_snapshot(meta.clone(), None);
        self.sync()?;
        for chunk in chunks {
            self.store().receive_snapshot(meta.clone(), Some(chunk));
            self.sync()?;
        }
        Ok(())
    }

    /// Makes a received snapshot the head of the log.
    pub fn install(&mut self, key: GroupKey, at: EntryId) -> Result<Ticket, SubmitError> {
        let (now, conf) = (self.now, ConfState::of_voters([ME]));
        let ticket = self.store().install_snapshot(now, key, at, &conf)?;
        self.record(ticket, |m| {
            let model = m.get_mut(&key).expect("registered");
            if model.log.get(&at.index).is_none_or(|e| e.id != at) {
                model.log.split_off(&at.index.next());
                model.log.clear();
            }
            model.snapshot = at;
        });
        Ok(ticket)
    }

    /// Entries that keep their place and cut nothing.
    pub fn fill(&mut self, key: GroupKey, ids: &[EntryId]) -> Ticket {
        let entries = ids.iter().map(|id| entry(id.term.0, id.index.0, 30)).collect();
        self.write(key, None, Some(LogOp::Fill { entries })).expect("fill")
    }

    /// Flips a bit wherever a file of the folder holds the text.
    pub fn rot(&self, folder: &str, text: &str) {
        let mut hit = 0;
        for file in self.files(folder) {
            self.fs
                .corrupt(&file, |bytes| {
                    for at in 0..bytes.len().saturating_sub(text.len()) {
                        if bytes[at..].starts_with(text.as_bytes()) {
                            bytes[at] ^= 1;
                            hit += 1;
                        }
                    }
                })
                .expect("the file is there");
        }
        assert!(hit > 0, "{text} stands nowhere in {folder}");
    }

    /// How much of the history is acknowledged.
    pub fn acked(&self) -> usize {
        let Some(store) = &self.store else { return 0 };
        self.history.iter().rposition(|(t, _)| *t <= store.durable()).unwrap_or(0)
    }

    /// The process dies; the page cache stays.
    pub fn kill(&mut self) {
        self.store = None;
        self.fs = self.fs.kill();
        self.vfs = Arc::new(self.fs.clone());
    }

    pub fn files(&self, folder: &str) -> Vec<PathBuf> {
        let dir = Path::new(DIR).join(folder);
        self.fs.files().into_keys().filter(|p| p.starts_with(&dir)).collect()
    }

    /// Every entry that the store can read of a group, from memory and segments.
    pub fn read_log(&mut self, key: GroupKey, first: Index) -> Result<Vec<Entry>, String> {
        let mut all: Vec<Entry> = Vec::new();
        let mut next = first;
        loop {
            let read = self.store().read(key, next, Index(u64::MAX), 1 << 20);
            let entries = match read {
                Read::Entries(entries) => entries,
                Read::Beyond => return Ok(all),
                Read::Compacted => return Err(format!("entry {next} of {key} is compacted")),
                Read::Later(_) => self.wait_for_read()?,
                other => return Err(format!("{other:?}")),
            };
            next = entries.last().expect("at least one").id.index.next();
            all.extend(entries);
        }
    }

    /// One entry.
    pub fn read_one(&mut self, key: GroupKey, at: Index) -> Result<Entry, String> {
        let entries = match self.store().read(key, at, at, 1 << 20) {
            Read::Entries(entries) => entries,
            Read::Later(_) => self.wait_for_read()?,
            other => return Err(format!("{other:?}")),
        };
        entries.into_iter().next().ok_or_else(|| "nothing".to_owned())
    }

    fn wait_for_read(&mut self) -> Result<Vec<Entry>, String> {
        self.sync().map_err(|p| p.to_string())?;
        let read = |event| match event {
            Event::Read { result, .. } => Some(result),
            _ => None,
        };
        self.store().take_events().into_iter().find_map(read).expect("the read was answered")
    }

    /// What the running store holds, in the words of the model.
    pub fn observed(&mut self, boot: &Boot2) -> Result<Model, String> {
        let mut model = Model::new();
        for g in &boot.groups {
            if g.state != GroupState::Clean {
                return Err(format!("group {} is {}: {:?}", g.key, g.state, g.waits_for));
            }
            let log = self.read_log(g.key, g.snapshot.index.next())?;
            let group = GroupModel {
                hard_state: g.hard_state,
                value: g.value.clone(),
                snapshot: g.snapshot,
                log: log.into_iter().map(|e| (e.id.index, e)).collect(),
            };
            if group.last() != g.last {
                return Err(format!(
                    "group {}: boot says last {:?}, read {:?}",
                    g.key,
                    g.last,
                    group.last()
                ));
            }
            model.insert(g.key, group);
        }
        Ok(model)
    }
}

/// A snapshot as a leader would send it: made on a disk of its own.
pub fn sent_snapshot(key: GroupKey, at: EntryId, live: IndexSet) -> (SnapshotMeta, Vec<Chunk>) {
    let fs = SimFs::new();
    let (dir, identity) = (Path::new("/"), node_identity().identity);
    let head = refloat_snapshot::Head::new(key, at, ConfState::of_voters([ME]), live);
    let mut payload = std::iter::once(Bytes::from(format!("state at {at}")));
    let meta = refloat_snapshot::write(&fs, dir, &identity, head, &mut payload).expect("written");
    let path = refloat_snapshot::snapshot_path(dir, at);
    let file = refloat_snapshot::SnapshotFile::open(&fs, &path, &identity).expect("opens");
    let chunks = (0..meta.chunks).map(|n| file.chunk(n).expect("verifies")).collect();
    (meta, chunks)
}

/// What a boot says, without the store.
pub struct Boot2 {
    pub groups: Vec<refloat_log_store::GroupBoot>,
    pub report: refloat_log_store::BootReport,
    pub node_state: BTreeMap<u32, Bytes>,
}

pub fn node_identity() -> NodeIdentity {
    NodeIdentity {
        identity: Identity { cluster: ClusterId(7), member: ME },
        cluster_name: "test".into(),
        groups: 1,
        members: vec![(NodeId(1), "127.0.0.1:7101".into())],
        run: 0,
        origin: identity::Origin::Init,
        lineage: identity::Lineage::default(),
        recovering: false,
    }
}

/// Whether a recovered state is one that the history allows: the state after some ticket at or
/// above the acknowledged one. Term, vote and value may be a step ahead, because the votes log is
/// written first; a snapshot may be missing while the log still holds what it covers.
pub fn explain(history: &[(Ticket, Model)], acked: usize, found: &Model) -> Result<(), String> {
    let mut nearest = String::new();
    for (n, (ticket, model)) in history.iter().enumerate().skip(acked) {
        match same(model, found, &history[n..]) {
            Ok(()) => return Ok(()),
            Err(why) => nearest.push_str(&format!("\n  not the state after {ticket:?}: {why}")),
        }
    }
    Err(format!("no state at or after the acknowledged one explains what was found:{nearest}"))
}

fn same(want: &Model, found: &Model, later: &[(Ticket, Model)]) -> Result<(), String> {
    let keys: Vec<_> = want.keys().collect();
    if keys != found.keys().collect::<Vec<_>>() {
        return Err(format!("groups {:?} instead of {keys:?}", found.keys().collect::<Vec<_>>()));
    }
    for (key, want) in want {
        let found = &found[key];
        let vote_ok =
            later.iter().filter_map(|(_, m)| m.get(key)).any(|m| m.hard_state == found.hard_state);
        if !vote_ok {
            return Err(format!("group {key}: term and vote {:?}", found.hard_state));
        }
        let value_ok = later.iter().filter_map(|(_, m)| m.get(key)).any(|m| m.value == found.value);
        if !value_ok {
            return Err(format!("group {key}: value {:?}, not {:?}", found.value, want.value));
        }
        let above = found.snapshot.index;
        let want_log: Vec<_> = want.log.values().filter(|e| e.id.index > above).collect();
        let found_log: Vec<_> = found.log.values().collect();
        if want_log != found_log || want.last().index < above {
            return Err(format!(
                "group {key}: log {:?} above {above} instead of {:?}",
                found_log.iter().map(|e| e.id).collect::<Vec<_>>(),
                want_log.iter().map(|e| e.id).collect::<Vec<_>>()
            ));
        }
    }
    Ok(())
}
