//! openraft's log and vote.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use refloat_types::{EntryId, GroupKey, LogOp, Term};

use crate::driver::{Done, Write};
use crate::ids::{LogId, StorageError, StorageIoError, decode, encode, entry_id, index, log_id};
use crate::store::Found;
use crate::{Store, TypeConfig};

type Vote = openraft::Vote<u64>;
type Entry = openraft::Entry<TypeConfig>;

/// About as many bytes of entries are read at once.
const READ_BYTES: usize = 1 << 20;

/// The log and the vote of one Raft. Clones are readers of the same log.
#[derive(Clone, Debug)]
pub struct Log {
    store: Arc<Store>,
    group: GroupKey,
    known: Arc<Mutex<Known>>,
}

/// What is asked for often, so that the store is not.
#[derive(Debug, Default)]
struct Known {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    /// The first entry; means nothing while `last` is not above `purged`.
    first: u64,
    /// The last entry, or `purged`.
    last: Option<LogId>,
}

impl Known {
    fn after_boot(found: &Found) -> io::Result<Known> {
        let boot = &found.boot;
        let purged = log_id(boot.snapshot);
        // The entry that the commit hint names is of the last term that starts at or below it.
        let run = boot.terms.iter().rev().find(|start| start.index <= boot.commit);
        let committed = run.map(|start| EntryId::new(start.term, boot.commit));
        Ok(Known {
            vote: boot.value.as_ref().map(|vote| serde_json::from_slice(vote)).transpose()?,
            committed: committed.and_then(log_id).or(purged),
            purged,
            first: purged.map_or(0, |id| id.index + 1),
            last: log_id(boot.last),
        })
    }

    fn next(&self) -> u64 {
        self.last.map_or(0, |id| id.index + 1)
    }

    /// What the first of some new entries follows.
    fn prev(&self, first: LogId) -> io::Result<EntryId> {
        match self.last {
            Some(last) if first.index == last.index + 1 => Ok(entry_id(last)),
            None if first.index == 0 => Ok(EntryId::ZERO),
            // openraft's suite begins logs anywhere. The store takes such a log, and the next
            // boot calls it damaged, because entries before it are missing.
            None => Ok(EntryId::new(Term::ZERO, index(first.index).prev())),
            Some(last) => Err(io::Error::other(format!("entry {first} does not follow {last}"))),
        }
    }
}

impl Log {
    pub(crate) fn new(store: Arc<Store>, group: GroupKey, found: Option<Found>) -> io::Result<Log> {
        let known = found.as_ref().map(Known::after_boot).transpose()?.unwrap_or_default();
        Ok(Log { store, group, known: Arc::new(Mutex::new(known)) })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The part of a range that the log holds, as `[start, end)`.
    fn held(&self, range: &impl RangeBounds<u64>) -> (u64, u64) {
        let known = self.known();
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        (start.max(known.first), end.min(known.next()))
    }

    /// Some entries of `[start, end)`, which must not be empty and held.
    async fn read(&self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let (first, last) = (index(start), index(end - 1));
        let entries = self.store.read(self.group, first, last, READ_BYTES).await?;
        Ok(entries.iter().map(decode).collect::<Result<_, _>>()?)
    }

    async fn read_all(&self, mut start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        while start < end {
            entries.extend(self.read(start, end).await?);
            start = entries.last().map_or(end, |entry| entry.log_id.index + 1);
        }
        Ok(entries)
    }

    /// Encodes entries and takes them into account; `None` where the purge covers them all.
    fn prepare(&self, entries: impl IntoIterator<Item = Entry>) -> io::Result<Option<LogOp>> {
        let mut known = self.known();
        let covered = known.purged.map_or(0, |id| id.index + 1);
        let entries: Vec<Entry> =
            entries.into_iter().filter(|entry| entry.log_id.index >= covered).collect();
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(None) };
        let op = LogOp::Append {
            prev: known.prev(first.log_id)?,
            entries: entries.iter().map(encode).collect::<Result<_, _>>()?,
        };
        if known.last == known.purged {
            known.first = first.log_id.index;
        }
        known.last = Some(last.log_id);
        Ok(Some(op))
    }

    /// The entry before `at`, as the last one of a log that is cut there.
    async fn before(&self, at: u64) -> io::Result<Option<LogId>> {
        {
            let known = self.known();
            if at <= known.first {
                return Ok(known.purged);
            }
        }
        Ok(self.read(at - 1, at).await?.first().map(|entry| entry.log_id))
    }
}

impl RaftLogReader<TypeConfig> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, StorageError> {
        let (start, end) = self.held(&range);
        Ok(self.read_all(start, end).await.map_err(|e| StorageIoError::read_logs(&e))?)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        let (start, end) = self.held(&(start..end));
        if start >= end {
            return Ok(Vec::new());
        }
        Ok(self.read(start, end).await.map_err(|e| StorageIoError::read_logs(&e))?)
    }
}

impl RaftLogStorage<TypeConfig> for Log {
    type LogReader = Log;

    async fn get_log_reader(&mut self) -> Log {
        self.clone()
    }

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let known = self.known();
        Ok(LogState { last_purged_log_id: known.purged, last_log_id: known.last })
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let body = serde_json::to_vec(vote).map_err(|e| StorageIoError::write_vote(&e))?;
        let write = self.store.write(self.group, Write::Value(Bytes::from(body)));
        write.await.map_err(|e| StorageIoError::write_vote(&e))?;
        self.known().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.known().vote)
    }

    /// A hint: it is written down with the next seal of the log, and may fall behind in a crash.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        if let Some(id) = committed {
            let told = self.store.commit(self.group, index(id.index));
            told.map_err(|e| StorageIoError::write(&e))?;
        }
        self.known().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.known().committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let op = self.prepare(entries).map_err(|e| StorageIoError::write_logs(&e))?;
        let done: Done = Box::new(|result| callback.log_io_completed(result));
        match op {
            // Readable at once: a later read reaches the thread behind this write.
            Some(op) => self.store.begin_write(self.group, Write::Log(op), done),
            None => done(Ok(())),
        }
        Ok(())
    }

    async fn truncate(&mut self, from: LogId) -> Result<(), StorageError> {
        if from.index >= self.known().next() {
            return Ok(());
        }
        let last = self.before(from.index).await.map_err(|e| StorageIoError::read_logs(&e))?;
        let cut = LogOp::Cut { from: index(from.index) };
        let write = self.store.write(self.group, Write::Log(cut));
        write.await.map_err(|e| StorageIoError::write_logs(&e))?;
        self.known().last = last;
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        if self.known().purged.is_some_and(|purged| purged.index >= upto.index) {
            return Ok(());
        }
        let base = self.store.snapshot(self.group, entry_id(upto), Bytes::new());
        base.await.map_err(|e| StorageIoError::write_logs(&e))?;
        let mut known = self.known();
        known.purged = Some(upto);
        known.first = known.first.max(upto.index + 1);
        // A snapshot from the leader may reach beyond the end of the log.
        known.last = known.last.max(Some(upto));
        Ok(())
    }
}
