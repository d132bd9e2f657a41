//! refloat-wal, driven in three ways.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use bytes::Bytes;
use refloat_types::{
    ClusterId, Entry, EntryId, EntryKind, Epoch, GroupId, GroupKey, Identity, Incarnation, Index,
    LogOp, Member, NodeId, Now, Term,
};
use refloat_vfs::OsFs;
use refloat_wal::{Done, Job, Lsn, Options, RecordRef, Visit, Writer};

use crate::measure::{Result, Subject, Window, closed_loop, nanos};

/// Small enough that each window rolls over and recycles many times.
const FILE_SIZE: u64 = 16 << 20;

struct Ignore;

impl Visit for Ignore {
    fn record(&mut self, _: Lsn, _: refloat_wal::Trust, _: refloat_wal::Record, _: &[EntryId]) {}
}

/// A writer with its background jobs on a thread of their own.
struct Log {
    writer: Writer,
    fs: Arc<OsFs>,
    background: Sender<Job>,
    finished: Receiver<Done>,
    start: Instant,
}

impl Log {
    fn open(dir: &Path) -> Result<Log> {
        std::fs::create_dir_all(dir)?;
        let fs = Arc::new(OsFs);
        let member = Member::new(NodeId(1), Incarnation(1));
        let mut options = Options::new(dir, Identity { cluster: ClusterId(1), member });
        options.file_size = FILE_SIZE;
        let scan = refloat_wal::scan(&*fs, &options, &mut Ignore)?;
        let writer = Writer::resume(scan, options, Vec::new(), Vec::new());
        let (background, jobs) = channel::<Job>();
        let (done, finished) = channel();
        let vfs = Arc::clone(&fs);
        thread::spawn(move || {
            for job in jobs {
                if done.send(job.run(&*vfs)).is_err() {
                    return;
                }
            }
        });
        let mut log = Log { writer, fs, background, finished, start: Instant::now() };
        while !log.writer.is_ready() {
            log.turn()?;
        }
        Ok(log)
    }

    fn now(&self) -> Now {
        Now(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Hands background work over; returns the write, if there is one. Asks until there is
    /// nothing more: the next file is prepared while the write runs, not once it is missing.
    fn poll(&mut self) -> Result<Option<Job>> {
        while let Ok(done) = self.finished.try_recv() {
            self.writer.done(self.now(), done)?;
        }
        let mut write = None;
        while let Some(job) = self.writer.poll(self.now()) {
            match job.is_background() {
                true => self.background.send(job)?,
                false => write = Some(job),
            }
        }
        Ok(write)
    }

    /// Polls once and runs the write here.
    fn turn(&mut self) -> Result<()> {
        match self.poll()? {
            Some(job) => {
                let done = job.run(&*self.fs);
                self.writer.done(self.now(), done)?;
            }
            None => {
                if let Ok(done) = self.finished.recv_timeout(Duration::from_millis(1)) {
                    self.writer.done(self.now(), done)?;
                }
            }
        }
        Ok(())
    }

    fn submit(&mut self, group: GroupKey, op: &LogOp) -> Result<Lsn> {
        let records = [RecordRef::Log { group, op }];
        loop {
            if !self.writer.fits(&records) {
                let generation = self.writer.roll(Vec::new());
                // Nothing here is flushed; a benchmark may forget what it wrote.
                self.writer.release(generation);
            }
            match self.writer.submit(&records) {
                Err(refloat_wal::SubmitError::NotYet { .. }) => self.turn()?,
                taken => return Ok(taken?),
            }
        }
    }

    fn counters(&self) -> (u64, u64) {
        let stats = self.writer.stats();
        (stats.syncs, stats.bytes)
    }
}

/// The next append of one group.
struct Group {
    key: GroupKey,
    last: EntryId,
    payload: Bytes,
}

impl Group {
    fn new(id: u64, payload: usize) -> Group {
        let key = GroupKey { id: GroupId(id), epoch: Epoch(1) };
        let last = EntryId::new(Term(1), Index(0));
        Group { key, last, payload: vec![0x5a; payload].into() }
    }

    /// Entries are made anew, so that the digest is paid for as in real use.
    fn next(&mut self, count: usize) -> LogOp {
        let prev = if self.last.index == Index(0) { EntryId::ZERO } else { self.last };
        let entries = (0..count)
            .map(|_| {
                self.last.index = self.last.index.next();
                Entry::new(self.last, EntryKind::Command, self.payload.clone())
            })
            .collect();
        LogOp::Append { prev, entries }
    }
}

/// One writer, one batch per sync; the submitter writes by itself.
pub struct OneByOne {
    log: Log,
    group: Group,
    payload: usize,
    count: usize,
}

impl OneByOne {
    pub fn new(dir: &Path, payload: usize, count: usize) -> Result<OneByOne> {
        let log = Log::open(&dir.join(format!("refloat-{payload}-{count}")))?;
        Ok(OneByOne { log, group: Group::new(1, payload), payload, count })
    }
}

impl Subject for OneByOne {
    fn name(&self) -> String {
        "refloat-wal".to_owned()
    }

    fn payload(&self) -> usize {
        self.payload
    }

    fn run(&mut self, window: Duration) -> Result<Window> {
        let before = self.log.counters();
        let (entries, latencies, elapsed) = closed_loop(window, || {
            let op = self.group.next(self.count);
            let lsn = self.log.submit(self.group.key, &op)?;
            while self.log.writer.durable() < lsn {
                self.log.turn()?;
            }
            Ok(self.count as u64)
        })?;
        Ok(with_counters(
            Window { entries, latencies, elapsed, ..Window::default() },
            before,
            &self.log,
        ))
    }
}

fn with_counters(window: Window, before: (u64, u64), log: &Log) -> Window {
    let (syncs, bytes) = log.counters();
    Window { syncs: Some(syncs - before.0), bytes: Some(bytes - before.1), ..window }
}

/// Many closed-loop submitters in the turn of one worker, as `refloat-node` drives its groups.
/// The worker writes by itself.
pub struct OneWorker {
    log: Log,
    groups: Vec<Group>,
    payload: usize,
    submitters: usize,
    at: usize,
}

impl OneWorker {
    pub fn new(dir: &Path, payload: usize, submitters: usize, groups: u64) -> Result<OneWorker> {
        let log = Log::open(&dir.join(format!("refloat-worker-{payload}-{submitters}")))?;
        let groups = (1..=groups).map(|id| Group::new(id, payload)).collect();
        Ok(OneWorker { log, groups, payload, submitters, at: 0 })
    }
}

impl Subject for OneWorker {
    fn name(&self) -> String {
        format!("refloat-wal, one worker, {} in flight", self.submitters)
    }

    fn payload(&self) -> usize {
        self.payload
    }

    fn run(&mut self, window: Duration) -> Result<Window> {
        let before = self.log.counters();
        let start = Instant::now();
        let mut total = Window::default();
        let mut waiting: std::collections::VecDeque<(Lsn, Instant)> = Default::default();
        loop {
            let now = Instant::now();
            let durable = self.log.writer.durable();
            while waiting.front().is_some_and(|(lsn, _)| *lsn <= durable) {
                let (_, since) = waiting.pop_front().unwrap_or((durable, now));
                total.latencies.push(nanos(now - since));
                total.entries += 1;
            }
            if now - start >= window {
                if waiting.is_empty() {
                    break;
                }
            } else {
                while waiting.len() < self.submitters {
                    self.at = (self.at + 1) % self.groups.len();
                    let group = &mut self.groups[self.at];
                    let op = group.next(1);
                    let key = group.key;
                    waiting.push_back((self.log.submit(key, &op)?, Instant::now()));
                }
            }
            self.log.turn()?;
        }
        total.elapsed = start.elapsed();
        Ok(with_counters(total, before, &self.log))
    }
}

/// The same load from threads that block: whoever finds no write in flight writes for all.
pub struct Threads {
    shared: Arc<Shared>,
    payload: usize,
    groups: Vec<Vec<Group>>,
}

struct Shared {
    state: Mutex<State>,
}

struct State {
    log: Log,
    writing: bool,
    waiting: Vec<(Lsn, Thread)>,
}

impl Threads {
    pub fn new(dir: &Path, payload: usize, threads: usize, groups: usize) -> Result<Threads> {
        let log = Log::open(&dir.join(format!("refloat-threads-{payload}-{threads}")))?;
        let state = State { log, writing: false, waiting: Vec::new() };
        let per_thread = (groups / threads).max(1);
        let groups = (0..threads)
            .map(|t| {
                (0..per_thread)
                    .map(|g| Group::new((t * per_thread + g + 1) as u64, payload))
                    .collect()
            })
            .collect();
        Ok(Threads { shared: Arc::new(Shared { state: Mutex::new(state) }), payload, groups })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self, key: GroupKey, op: &LogOp) -> Result<()> {
        let mut state = self.lock();
        let lsn = state.log.submit(key, op)?;
        loop {
            if state.log.writer.durable() >= lsn {
                return Ok(());
            }
            let job = if state.writing { None } else { state.log.poll()? };
            let Some(job) = job else {
                state.waiting.push((lsn, thread::current()));
                let writing = state.writing;
                drop(state);
                // With nobody writing only a background job can help: look again soon.
                thread::park_timeout(if writing {
                    Duration::from_millis(100)
                } else {
                    Duration::from_micros(50)
                });
                state = self.lock();
                continue;
            };
            state.writing = true;
            let fs = Arc::clone(&state.log.fs);
            drop(state);
            let done = job.run(&*fs);
            state = self.lock();
            state.writing = false;
            let now = state.log.now();
            state.log.writer.done(now, done)?;
            let durable = state.log.writer.durable();
            let (mut wake, keep): (Vec<_>, Vec<_>) =
                std::mem::take(&mut state.waiting).into_iter().partition(|(l, _)| *l <= durable);
            state.waiting = keep;
            // One of the next batch goes on writing.
            wake.extend(state.waiting.pop());
            drop(state);
            wake.iter().for_each(|(_, thread)| thread.unpark());
            state = self.lock();
        }
    }
}

impl Subject for Threads {
    fn name(&self) -> String {
        format!("refloat-wal, {} threads", self.groups.len())
    }

    fn payload(&self) -> usize {
        self.payload
    }

    fn run(&mut self, window: Duration) -> Result<Window> {
        let before = self.shared.lock().log.counters();
        let shared = &self.shared;
        let mut total = Window::default();
        thread::scope(|scope| -> Result<()> {
            let all: Vec<_> = self
                .groups
                .iter_mut()
                .map(|groups| {
                    scope.spawn(move || {
                        let mut at = 0;
                        closed_loop(window, || {
                            at = (at + 1) % groups.len();
                            let op = groups[at].next(1);
                            shared.write(groups[at].key, &op)?;
                            Ok(1)
                        })
                        .map_err(|e| e.to_string())
                    })
                })
                .collect();
            for thread in all {
                let (entries, latencies, elapsed) =
                    thread.join().map_err(|_| "a submitter panicked")??;
                total.entries += entries;
                total.latencies.extend(latencies);
                total.elapsed = total.elapsed.max(elapsed);
            }
            Ok(())
        })?;
        let state = self.shared.lock();
        Ok(with_counters(total, before, &state.log))
    }
}
