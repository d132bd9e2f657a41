//! Reading entries: from memory at once, from segments by a job.

use std::sync::Arc;

use refloat_segment::Source;
use refloat_types::{Entry, GroupKey, Index};
use refloat_vfs::Vfs;

use super::{Job, LogStore};
use crate::event::{Event, Read, RequestId};

/// Reads one contiguous range from segments, in ascending pieces.
#[derive(Debug)]
pub(crate) struct ReadJob {
    request: RequestId,
    group: GroupKey,
    pieces: Vec<Source>,
    first: Index,
    max_bytes: usize,
}

#[derive(Debug)]
pub(crate) struct ReadDone {
    request: RequestId,
    result: Result<Vec<Entry>, String>,
}

impl LogStore {
    /// Reads entries of a group from `first` up to `last`, at most about `max_bytes` of payload
    /// but at least one entry. What comes back is contiguous and may end before `last`; ask again.
    pub fn read(&mut self, key: GroupKey, first: Index, last: Index, max_bytes: usize) -> Read {
        let Some(log) = self.logs.get(&key) else { return Read::Compacted };
        if first <= log.dead && !log.live.contains(first) {
            return Read::Compacted;
        }
        if log.unreadable.contains(first) && log.live.contains(first) {
            return Read::Unreadable;
        }
        let last = last.min(log.last().index);
        if first > last {
            return Read::Beyond;
        }
        let mut entries = Vec::new();
        self.memtables.read(key, first, last, max_bytes, &mut entries);
        if !entries.is_empty() {
            return Read::Entries(entries);
        }
        let below_cut = self.memtables.lowest_cut(key).map_or(last, |cut| last.min(cut.prev()));
        let pieces = self.segments.plan(key, first, below_cut);
        let request = self.request();
        self.queue.push_back(Job::read(ReadJob { request, group: key, pieces, first, max_bytes }));
        Read::Later(request)
    }

    pub(super) fn answer_read(&mut self, done: ReadDone) {
        self.events.push(Event::Read { request: done.request, result: done.result });
    }
}

impl ReadJob {
    pub(super) fn run(self, _vfs: &Arc<dyn Vfs>) -> ReadDone {
        ReadDone { request: self.request, result: self.read() }
    }

    fn read(&self) -> Result<Vec<Entry>, String> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut room = self.max_bytes;
        let mut next = self.first;
        for Source { segment, first, last, .. } in &self.pieces {
            if *first != next || (room == 0 && !entries.is_empty()) {
                break;
            }
            let read = segment.read(self.group, *first, *last, room).map_err(|e| with_cause(&e))?;
            for entry in read {
                if entry.id.index != next {
                    return finish(entries, self.group, next);
                }
                next = next.next();
                room = room.saturating_sub(entry.payload.len());
                entries.push(entry);
            }
            if next <= *last {
                break;
            }
        }
        finish(entries, self.group, next)
    }
}

fn finish(entries: Vec<Entry>, group: GroupKey, next: Index) -> Result<Vec<Entry>, String> {
    if entries.is_empty() {
        return Err(format!("no segment holds entry {next} of group {group}"));
    }
    Ok(entries)
}

/// An error and its causes in one line.
pub(crate) fn with_cause(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut cause = e.source();
    while let Some(e) = cause {
        text.push_str(": ");
        text.push_str(&e.to_string());
        cause = e.source();
    }
    text
}
