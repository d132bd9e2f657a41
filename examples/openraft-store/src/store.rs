//! One data directory, shared by all Rafts of a process.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use bytes::Bytes;
use refloat_log_store::identity::{self, IdentityError, NodeIdentity};
use refloat_log_store::{GroupBoot, GroupState, Options, boot};
use refloat_types::{
    ClusterId, Entry, EntryId, Epoch, GroupId, GroupKey, Identity, Incarnation, Index, Member,
    NodeId,
};
use refloat_vfs::{OsFs, Vfs};
use tokio::sync::oneshot;

use crate::driver::{Done, Driver, Request, Write};
use crate::{Log, Machine};

/// An open data directory. Closed when the last [`Log`] and [`Machine`] of it are gone too.
#[derive(Debug)]
pub struct Store {
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    /// What the boot found and nobody asked for yet; `None` once it was handed out.
    found: Mutex<BTreeMap<GroupKey, Option<Found>>>,
}

/// One group as the boot found it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) boot: GroupBoot,
    /// The content of its newest snapshot.
    pub(crate) snapshot: Option<Bytes>,
}

impl Store {
    /// Opens a directory, and makes it this node's if it is empty. Blocking.
    ///
    /// # Errors
    /// The directory cannot be read, belongs to another node, or is in use.
    pub fn open(options: Options, node: u64) -> io::Result<Arc<Store>> {
        Store::open_on(Arc::new(OsFs), options, node)
    }

    /// The same on another file system; `SimFs` can be cut from its power.
    ///
    /// # Errors
    /// As for [`Store::open`].
    pub fn open_on(vfs: Arc<dyn Vfs>, options: Options, node: u64) -> io::Result<Arc<Store>> {
        make_or_check_identity(vfs.as_ref(), &options, node)?;
        let booted = boot(&vfs, options).map_err(io::Error::other)?;
        let mut found = BTreeMap::new();
        for group in booted.groups {
            let snapshot = booted.store.snapshot_file(group.key);
            let snapshot = snapshot.map(|file| {
                let chunks: Result<Vec<Bytes>, _> = file.chunks().collect();
                chunks.map(|chunks| Bytes::from(chunks.concat()))
            });
            let snapshot = snapshot.transpose().map_err(io::Error::other)?;
            found.insert(group.key, Some(Found { boot: group, snapshot }));
        }
        let (sender, requests) = mpsc::channel();
        let driver = Driver::new(booted.store, vfs);
        let thread = std::thread::Builder::new()
            .name("refloat-log-store".into())
            .spawn(move || driver.run(&requests))?;
        let found = Mutex::new(found);
        Ok(Arc::new(Store { requests: Some(sender), thread: Some(thread), found }))
    }

    /// The log and the machine of one Raft, made if they are new. To be asked for once.
    ///
    /// # Errors
    /// They were handed out before, what the disk holds of them cannot be proven, or the disk
    /// failed.
    pub async fn raft(self: &Arc<Store>, raft: u64) -> io::Result<(Log, Machine)> {
        let [log, machine] = [1, 2].map(|n| GroupKey::new(GroupId(2 * raft + n), Epoch(1)));
        let log = (log, self.group(log).await?);
        let machine = (machine, self.group(machine).await?);
        Ok((
            Log::new(self.clone(), log.0, log.1)?,
            Machine::new(self.clone(), machine.0, machine.1)?,
        ))
    }

    /// Only what is proven may run. refloat's own node heals the rest from its peers; with
    /// another Raft the replica is removed and added again.
    async fn group(&self, key: GroupKey) -> io::Result<Option<Found>> {
        let known = {
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            let known = found.get_mut(&key).map(Option::take);
            found.entry(key).or_insert(None);
            known
        };
        let Some(found) = known else {
            self.write(key, Write::Create).await?;
            return Ok(None);
        };
        let found = found.ok_or_else(|| io::Error::other(format!("group {key} is in use")))?;
        match (&found.boot.state, &found.boot.waits_for) {
            (GroupState::Clean, _) => Ok(Some(found)),
            (state, why) => {
                let why = why.as_deref().unwrap_or_default();
                Err(io::Error::other(format!("group {key} is {state}: {why}")))
            }
        }
    }

    /// Hands a write to the store and returns; `done` is called when it is durable.
    pub(crate) fn begin_write(&self, group: GroupKey, what: Write, done: Done) {
        if let Err(Request::Write { done, .. }) = self.send(Request::Write { group, what, done }) {
            done(Err(gone()));
        }
    }

    /// Returns when the write is durable.
    pub(crate) async fn write(&self, group: GroupKey, what: Write) -> io::Result<()> {
        let (done, wait) = answer();
        self.begin_write(group, what, done);
        wait.await.map_err(|_| gone())?
    }

    /// Returns when a snapshot at or above `id` is published and durable.
    pub(crate) async fn snapshot(
        &self,
        group: GroupKey,
        id: EntryId,
        body: Bytes,
    ) -> io::Result<()> {
        let (done, wait) = answer();
        self.send(Request::Snapshot { group, id, body, done }).map_err(|_| gone())?;
        wait.await.map_err(|_| gone())?
    }

    /// Entries from `first` on, at least one, at most up to `last`.
    pub(crate) async fn read(
        &self,
        group: GroupKey,
        first: Index,
        last: Index,
        max_bytes: usize,
    ) -> io::Result<Vec<Entry>> {
        let (done, wait) = answer();
        let read = Request::Read { group, first, last, max_bytes, done };
        self.send(read).map_err(|_| gone())?;
        let entries = wait.await.map_err(|_| gone())??;
        match entries.is_empty() {
            true => Err(io::Error::other(format!("entry {first} of group {group} is gone"))),
            false => Ok(entries),
        }
    }

    pub(crate) fn commit(&self, group: GroupKey, index: Index) -> io::Result<()> {
        self.send(Request::Commit { group, index }).map_err(|_| gone())
    }

    fn send(&self, request: Request) -> Result<(), Request> {
        match &self.requests {
            Some(requests) => requests.send(request).map_err(|e| e.0),
            None => Err(request),
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was told by the panic hook, and every caller got an error.
            let _ = thread.join();
        }
    }
}

type Answer<T> = Box<dyn FnOnce(io::Result<T>) + Send>;

fn answer<T: Send + 'static>() -> (Answer<T>, oneshot::Receiver<io::Result<T>>) {
    let (sender, wait) = oneshot::channel();
    // Who asked may have stopped waiting.
    (Box::new(move |result| drop(sender.send(result))), wait)
}

fn gone() -> io::Error {
    io::Error::other("the thread of the log store is gone")
}

fn make_or_check_identity(vfs: &dyn Vfs, options: &Options, node: u64) -> io::Result<()> {
    let found = match identity::load(vfs, &options.dir) {
        Ok(found) => found.identity.member.node,
        Err(IdentityError::Absent { .. }) => {
            let owner = NodeIdentity {
                identity: Identity { cluster: ClusterId(0), member: new_life(NodeId(node)) },
                cluster_name: "openraft".into(),
                groups: 0,
                members: Vec::new(),
                run: 0,
                origin: identity::Origin::Init,
                lineage: identity::Lineage::default(),
                recovering: false,
            };
            return identity::create(vfs, &options.dir, &owner).map_err(io::Error::other);
        }
        Err(e) => return Err(io::Error::other(e)),
    };
    match found == NodeId(node) {
        true => Ok(()),
        false => {
            let dir = options.dir.display();
            Err(io::Error::other(format!("{dir} belongs to node {found}, not to node {node}")))
        }
    }
}

/// A life that no other directory has: the standard library seeds each hasher by chance.
fn new_life(node: NodeId) -> Member {
    let chance = || u128::from(RandomState::new().build_hasher().finish());
    Member::new(node, Incarnation(chance() << 64 | chance()))
}
