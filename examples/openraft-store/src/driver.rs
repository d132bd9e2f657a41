//! The one thread that owns the log store.
//!
//! Requests that arrive while a sync runs share the next one. Jobs run on this thread, which
//! keeps the example short; a host that cares for latency gives each lane a thread of its own.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use refloat_log_store::{Event, LogStore, Poisoned, Read, RequestId, SubmitError, Ticket};
use refloat_types::{ConfState, Entry, EntryId, GroupKey, GroupWrite, Index, IndexSet, LogOp, Now};
use refloat_vfs::Vfs;

/// Called once: what was asked for is durable, or will never be.
pub(crate) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;
type Entries = Box<dyn FnOnce(io::Result<Vec<Entry>>) + Send>;

/// What the rest asks of the thread; answered in order, but for reads from disk.
pub(crate) enum Request {
    Write { group: GroupKey, what: Write, done: Done },
    Read { group: GroupKey, first: Index, last: Index, max_bytes: usize, done: Entries },
    Snapshot { group: GroupKey, id: EntryId, body: Bytes, done: Done },
    Commit { group: GroupKey, index: Index },
}

pub(crate) enum Write {
    Create,
    Log(LogOp),
    Value(Bytes),
}

pub(crate) struct Driver {
    store: LogStore,
    vfs: Arc<dyn Vfs>,
    started: Instant,
    writes: VecDeque<(Ticket, Done)>,
    reads: HashMap<RequestId, Entries>,
    /// Why the last snapshot was not written.
    snapshot_failed: Option<String>,
}

impl Driver {
    pub(crate) fn new(store: LogStore, vfs: Arc<dyn Vfs>) -> Driver {
        Driver {
            store,
            vfs,
            started: Instant::now(),
            writes: VecDeque::new(),
            reads: HashMap::new(),
            snapshot_failed: None,
        }
    }

    /// Until every sender is gone; then the logs are closed, so that the next boot has nothing
    /// to write again.
    pub(crate) fn run(mut self, requests: &Receiver<Request>) {
        while let Some(first) = self.next(requests) {
            for request in first.into_iter().chain(requests.try_iter()) {
                self.take(request);
            }
            self.run_jobs();
        }
        self.store.close();
        self.run_jobs();
    }

    /// The next request, `Some(None)` where the store has something to do by itself, `None` at
    /// the end.
    fn next(&self, requests: &Receiver<Request>) -> Option<Option<Request>> {
        let Some(at) = self.store.wake_at().filter(|_| self.store.poisoned().is_none()) else {
            return requests.recv().ok().map(Some);
        };
        match requests.recv_timeout(Duration::from_micros(at.since(self.now()))) {
            Ok(request) => Some(Some(request)),
            Err(RecvTimeoutError::Timeout) => Some(None),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    fn now(&self) -> Now {
        Now(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn take(&mut self, request: Request) {
        match request {
            Request::Write { group, what, done } => match self.write(group, what) {
                Ok(ticket) => self.writes.push_back((ticket, done)),
                Err(e) => done(Err(io::Error::other(e))),
            },
            Request::Read { group, first, last, max_bytes, done } => {
                match self.store.read(group, first, last, max_bytes) {
                    Read::Entries(entries) => done(Ok(entries)),
                    Read::Later(request) => drop(self.reads.insert(request, done)),
                    _ => done(Ok(Vec::new())),
                }
            }
            Request::Snapshot { group, id, body, done } => {
                let body = (!body.is_empty()).then_some(body).into_iter();
                let conf = ConfState::default();
                self.store.write_snapshot(group, id, conf, IndexSet::new(), Box::new(body));
                self.run_jobs(); // to the end: the store writes one snapshot of a group at a time
                done(self.snapshot_result(group, id));
            }
            Request::Commit { group, index } => self.store.hint_commit(group, index),
        }
    }

    fn write(&mut self, group: GroupKey, what: Write) -> Result<Ticket, SubmitError> {
        let now = self.now();
        match what {
            Write::Create => self.store.create_group(now, group, &ConfState::default()),
            Write::Value(value) => self.store.put_group_value(now, group, value),
            Write::Log(op) => {
                let write = GroupWrite { group, hard_state: None, log: Some(op) };
                self.store.submit(now, &[write])
            }
        }
    }

    /// A snapshot at or above `id` is published and durable, or there is a reason.
    fn snapshot_result(&mut self, group: GroupKey, id: EntryId) -> io::Result<()> {
        let failed = self.snapshot_failed.take();
        if self.store.latest_snapshot(group).is_some_and(|meta| meta.id.index >= id.index) {
            return Ok(());
        }
        let poisoned = self.store.poisoned().map(ToString::to_string);
        let reason = failed.or(poisoned).unwrap_or_else(|| "the snapshot was not published".into());
        Err(io::Error::other(reason))
    }

    fn run_jobs(&mut self) {
        let result = self.try_run_jobs();
        if let Err(poisoned) = result {
            // Nothing may be acknowledged any more; what comes later is refused by the store.
            let error = || io::Error::other(poisoned.clone());
            self.writes.drain(..).for_each(|(_, done)| done(Err(error())));
            self.reads.drain().for_each(|(_, done)| done(Err(error())));
        }
    }

    fn try_run_jobs(&mut self) -> Result<(), Poisoned> {
        while let Some(job) = self.store.poll_job(self.now()) {
            let done = job.run(&self.vfs);
            self.store.complete(self.now(), done)?;
            self.answer();
        }
        // A read that could not be served needs no job to be answered; neither does a write that
        // changed nothing.
        self.answer();
        Ok(())
    }

    fn answer(&mut self) {
        while self.writes.front().is_some_and(|(ticket, _)| *ticket <= self.store.durable()) {
            if let Some((_, done)) = self.writes.pop_front() {
                done(Ok(()));
            }
        }
        for event in self.store.take_events() {
            match event {
                Event::Read { request, result } => {
                    if let Some(done) = self.reads.remove(&request) {
                        done(result.map_err(io::Error::other));
                    }
                }
                Event::SnapshotFailed { reason, .. } => self.snapshot_failed = Some(reason),
                _ => {}
            }
        }
    }
}
