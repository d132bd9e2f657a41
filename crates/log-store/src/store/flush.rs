//! From a WAL file's memtable to its segment.
//!
//! A generation is flushed only when its whole WAL file is durable, so that a sealed segment never
//! holds what the log may still lose. The segment counts once a record in the WAL names it.

use std::collections::BTreeMap;
use std::sync::Arc;

use refloat_memtable::Memtable;
use refloat_planted::{Defect, is};
use refloat_segment::{Part, Segment, SegmentError, SegmentName};
use refloat_types::{Entry, Generation, GroupKey, Identity, Index, IndexSet, Now};
use refloat_vfs::Vfs;

use super::read::with_cause;
use super::{Job, LogStore, Then};
use crate::error::{Poisoned, SubmitError};
use crate::small_state::{Change, NODE};

/// What of a group is dead: at or below `through`, unless it is live. Read as one, when the job
/// is made: a snapshot that moves meanwhile is seen by the next flush.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dead {
    pub(crate) through: Index,
    pub(crate) live: IndexSet,
}

impl Dead {
    pub(crate) fn contains(&self, index: Index) -> bool {
        index <= self.through && !self.live.contains(index)
    }
}

/// Writes one segment from one or more frozen generations.
#[derive(Debug)]
pub(crate) struct FlushJob {
    dir: std::path::PathBuf,
    identity: Identity,
    generation: Generation,
    tables: Vec<Arc<Memtable>>,
    /// The groups that exist; others are gone and leave nothing.
    groups: BTreeMap<GroupKey, Dead>,
}

#[derive(Debug)]
pub(crate) struct FlushDone {
    generation: Generation,
    result: Result<Option<Segment>, SegmentError>,
}

impl LogStore {
    /// All frozen generations whose files are wholly durable go into one segment: a start that
    /// finds several small ones flushes them together.
    pub(super) fn start_flush(&mut self) -> Option<Job> {
        if self.flushing {
            return None;
        }
        let durable = self.wal.durable().generation;
        let tables: Vec<Arc<Memtable>> = self
            .memtables
            .frozen()
            .filter(|t| t.generation() < durable && t.generation() > self.state.flushed)
            .cloned()
            .collect();
        let generation = tables.last()?.generation();
        self.flushing = true;
        Some(Job::flush(FlushJob {
            dir: self.options.segment_dir(),
            identity: self.identity,
            generation,
            tables,
            groups: self.dead(),
        }))
    }

    /// What may be dropped, by what is durable: a snapshot or a deletion whose record the power
    /// may still take drops nothing. Both are known from the moment their records are durable.
    pub(super) fn dead(&self) -> BTreeMap<GroupKey, Dead> {
        let registered = self.state.groups.keys().map(|key| {
            let log = self.logs.get(key);
            let dead = Dead {
                through: match is(Defect::DeadByUndurableRecord) {
                    true => self.state.groups.get(key).map_or(Index::ZERO, |g| g.snapshot.index),
                    false => log.map_or(Index::ZERO, |log| log.dead),
                },
                live: log.map(|log| log.live.clone()).unwrap_or_default(),
            };
            (*key, dead)
        });
        let leaving = self.leaving.iter().map(|key| (*key, Dead::default()));
        leaving.chain(registered).collect()
    }

    pub(super) fn flushed(&mut self, now: Now, done: FlushDone) -> Result<(), Poisoned> {
        self.flushing = false;
        let segment = match done.result {
            Ok(segment) => segment,
            // The WAL files stay, and so do the memtables.
            Err(e) if e.is_retryable() => {
                self.compacts_first = true;
                return self.postpone(now);
            }
            Err(e) => return Err(Poisoned { reason: with_cause(&e) }),
        };
        let add: Vec<SegmentName> = segment.iter().map(Segment::name).collect();
        let change = Change::Segments { flushed: done.generation, add, remove: Vec::new() };
        let ticket = match self.submit_change(NODE, change) {
            Ok(ticket) => ticket,
            // Sealed and not named: the next flush writes it again under the same name.
            Err(SubmitError::NoSpace) => return self.postpone(now),
            Err(e) => return Err(Poisoned { reason: e.to_string() }),
        };
        if let Some(segment) = segment {
            self.segments.add(Arc::new(segment));
        }
        self.after.push_back((ticket, Then::Released(done.generation)));
        Ok(())
    }
}

/// How long a flush or compaction waits after it found no space, in microseconds.
const RETRY_AFTER: u64 = 1_000_000;

impl LogStore {
    pub(super) fn postpone(&mut self, now: Now) -> Result<(), Poisoned> {
        self.not_before = now.after(RETRY_AFTER);
        self.postponed = true;
        Ok(())
    }

    /// When a flush or compaction that found no space is tried again.
    pub(super) fn postponed_until(&self) -> Option<Now> {
        self.postponed.then_some(self.not_before)
    }
}

impl FlushJob {
    pub(super) fn run(self, vfs: &Arc<dyn Vfs>) -> FlushDone {
        let parts = self.parts();
        let result = if parts.is_empty() {
            Ok(None)
        } else {
            let first = self.tables.first().map_or(self.generation, |t| t.generation());
            refloat_segment::write_merged(
                vfs.as_ref(),
                &self.dir,
                self.identity,
                first,
                self.generation,
                parts,
            )
            .map(Some)
        };
        FlushDone { generation: self.generation, result }
    }

    fn parts(&self) -> Vec<Part> {
        let Some(merged) = Memtable::merged(&self.tables) else { return Vec::new() };
        let mut parts = Vec::new();
        for (group, table) in merged.groups() {
            let Some(dead) = self.groups.get(&group) else { continue };
            let entries: Vec<Entry> =
                table.entries().filter(|e| !dead.contains(e.id.index)).cloned().collect();
            if !entries.is_empty() || table.cut().is_some() {
                let cut = table.cut().filter(|_| !is(Defect::FlushLosesCuts));
                parts.push(Part { group, cut, entries });
            }
        }
        parts
    }
}
