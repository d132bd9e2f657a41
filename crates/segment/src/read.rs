//! Reading entries, each verified, and around damage.

use std::io;

use bytes::Bytes;
use refloat_types::{Entry, EntryId, GroupKey, Index};

use crate::frame::{self, Fault, FrameHead, HEAD_LEN};
use crate::index::Stride;
use crate::{Damage, Segment, SegmentError};

/// The most that one read of the file asks for, unless one stretch is longer.
const READ_LEN: u64 = 256 << 10;

/// What [`Segment::salvage`] could and could not read.
#[derive(Debug, Default)]
pub struct Salvage {
    /// The intact entries, ascending.
    pub entries: Vec<Entry>,
    /// What was lost between them, ascending.
    pub damage: Vec<Damage>,
    /// The first index not looked at, because `max_bytes` were full; `last + 1` otherwise.
    pub next: Index,
}

impl Segment {
    /// The entries from `first` to `last` that are here, ascending, until `max_bytes` of payload
    /// are exceeded; one is always given, however large. Each is verified: its digest, its
    /// group, its index and its term. Payloads share the memory of the read they came from.
    ///
    /// # Errors
    /// [`SegmentError::Damaged`] if one of them is damaged or unreadable, naming the first such;
    /// [`Segment::salvage`] reads around it.
    pub fn read(
        &self,
        group: GroupKey,
        first: Index,
        last: Index,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, SegmentError> {
        let Salvage { entries, damage, .. } = self.salvage(group, first, last, max_bytes);
        match damage.into_iter().next() {
            Some(damage) => Err(SegmentError::Damaged(damage)),
            None => Ok(entries),
        }
    }

    /// As [`Segment::read`], but gives what is intact and says what is lost. A damaged entry
    /// does not take its neighbours with it.
    #[must_use]
    pub fn salvage(&self, group: GroupKey, first: Index, last: Index, max_bytes: usize) -> Salvage {
        let mut pass = Pass {
            segment: self,
            group,
            group_salt: frame::group_salt(self.salt, group),
            range: (first, last),
            bytes_left: max_bytes,
            full: None,
            out: Salvage::default(),
        };
        let mut strides = self.index.strides(group, first, last).peekable();
        while let Some(start) = strides.next() {
            let mut chunk = vec![start];
            let mut len = start.len();
            let limit = READ_LEN.min(max_bytes as u64);
            while let Some(more) = strides.next_if(|s| len + s.len() <= limit) {
                len += more.len();
                chunk.push(more);
            }
            pass.chunk(&chunk);
            if pass.full.is_some() {
                break;
            }
        }
        pass.out.next = pass.full.unwrap_or(Index(last.0.saturating_add(1)));
        pass.out
    }
}

struct Pass<'a> {
    segment: &'a Segment,
    group: GroupKey,
    group_salt: u32,
    range: (Index, Index),
    bytes_left: usize,
    /// The first index that did not fit any more.
    full: Option<Index>,
    out: Salvage,
}

impl Pass<'_> {
    /// Reads neighbouring strides at once; if that fails, one by one.
    fn chunk(&mut self, strides: &[Stride<'_>]) {
        let (Some(first), Some(last)) = (strides.first(), strides.last()) else { return };
        match self.bytes(first.offset, last.offset_end) {
            Ok(bytes) => {
                for stride in strides {
                    let start = (stride.offset - first.offset) as usize;
                    let end = (stride.offset_end - first.offset) as usize;
                    self.stride(stride, bytes.slice(start..end));
                }
            }
            Err(error) if strides.len() == 1 => self.unreadable(first, error),
            Err(_) => strides.iter().for_each(|stride| self.chunk(&[*stride])),
        }
    }

    fn bytes(&self, from: u64, to: u64) -> io::Result<Bytes> {
        // The index says so, and the layout that it lies inside the file.
        let mut bytes = vec![0; (to - from) as usize];
        // A file that became shorter since it was opened leaves zeros, which do not verify.
        self.segment.file.read_at(&mut bytes, from)?;
        Ok(bytes.into())
    }

    /// Walks over a stride. The index says which entries must stand here, one behind the other;
    /// behind one whose head is damaged the next is searched for.
    fn stride(&mut self, stride: &Stride<'_>, bytes: Bytes) {
        let (mut at, mut lost) = (0, false);
        for id in stride.ids() {
            if self.full.is_some() || id.index > self.range.1 {
                return;
            }
            if lost {
                match frame::find(&bytes, at, self.group_salt, id) {
                    Some(found) => (at, lost) = (found, false),
                    None => {
                        self.lose(stride, at, id, Fault::new("entry not found", 1, 0));
                        continue;
                    }
                }
            }
            let rest = bytes.get(at..).unwrap_or_default();
            match FrameHead::decode(rest, self.group_salt, id) {
                Ok(head) => {
                    let payload = at + HEAD_LEN..at + HEAD_LEN + head.payload_len;
                    self.take(stride, at, id, head, bytes.slice(payload.clone()));
                    at = payload.end;
                }
                Err(fault) => {
                    self.lose(stride, at, id, fault);
                    lost = true;
                }
            }
        }
    }

    fn take(
        &mut self,
        stride: &Stride<'_>,
        at: usize,
        id: EntryId,
        head: FrameHead,
        payload: Bytes,
    ) {
        if !self.is_wanted(id) {
            return;
        }
        let len = payload.len();
        match head.entry(payload) {
            Ok(_) if len > self.bytes_left && !self.out.entries.is_empty() => {
                self.full = Some(id.index);
            }
            Ok(entry) => {
                self.bytes_left = self.bytes_left.saturating_sub(len);
                self.out.entries.push(entry);
            }
            Err(fault) => self.lose(stride, at, id, fault),
        }
    }

    fn lose(&mut self, stride: &Stride<'_>, at: usize, id: EntryId, fault: Fault) {
        if self.is_wanted(id) {
            let damage = self.damage(stride.offset + at as u64, id, fault);
            self.out.damage.push(damage);
        }
    }

    fn unreadable(&mut self, stride: &Stride<'_>, error: io::Error) {
        let mut wanted = stride.ids().filter(|id| self.is_wanted(*id));
        let Some(first) = wanted.next() else { return };
        let last = wanted.last().unwrap_or(first);
        let damage = self.damage(stride.offset, first, Fault::new("unreadable", 0, 0));
        self.out.damage.push(Damage { last, cause: Some(error), ..damage });
    }

    fn is_wanted(&self, id: EntryId) -> bool {
        self.range.0 <= id.index && id.index <= self.range.1
    }

    fn damage(&self, offset: u64, id: EntryId, fault: Fault) -> Damage {
        let Fault { what, expected, found } = fault;
        let (path, group) = (self.segment.path.clone(), self.group);
        Damage { path, offset, group, first: id, last: id, what, expected, found, cause: None }
    }
}
