//! The directory of a batch: frames that name every record, so that each record can be judged
//! by itself and so that it is known whose records are lost.
//!
//! A frame stands alone: it names its batch, where that batch starts and where its payloads lie,
//! and has its own checksum. Frames are copied byte for byte into the next batch.

use bytes::Bytes;
use refloat_types::codec::{DecodeError, Put, Reader};
use refloat_types::{Digest, Entry, EntryId, EntryKind, GroupKey, Index, LogOp, Term};

use super::sector::Salt;
use crate::{Record, RecordRef};

pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"RFWd");
/// Bytes of a frame's head.
pub(crate) const HEAD: usize = 48;
/// A frame that has grown to this takes no further record: a lost sector then costs few records.
pub(crate) const FULL: usize = 2048;
/// Frames of the checkpoint in batch 1.
pub(crate) const OF_CHECKPOINT: u16 = 1;

const APPEND: u8 = 1;
const FILL: u8 = 2;
const CUT: u8 = 3;
const STATE: u8 = 4;
const RUN: usize = 20;
const META: usize = 9;
/// What an entry takes at most: the head of a record, a run, and itself.
pub(crate) const MOST_PER_ENTRY: usize = 1 + 16 + 16 + 8 + RUN + META;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FrameHead {
    pub(crate) len: u32,
    pub(crate) file: u64,
    pub(crate) batch: u32,
    pub(crate) start: u32,
    pub(crate) index: u32,
    pub(crate) count: u32,
    pub(crate) flags: u16,
    pub(crate) records: u16,
    pub(crate) payload_at: u32,
    pub(crate) payload_len: u32,
}

impl FrameHead {
    /// Writes the head over the first bytes of `frame`, checksum included.
    pub(crate) fn write(&self, salt: &Salt, frame: &mut [u8]) {
        self.write_unsigned(frame);
        let (head, body) = frame.split_at_mut(HEAD);
        let crc = crc32c::crc32c_append(salt.crc(&head[..HEAD - 4]), body);
        head[HEAD - 4..].copy_from_slice(&crc.to_le_bytes());
    }

    /// Writes the head without its checksum.
    pub(crate) fn write_unsigned(&self, frame: &mut [u8]) {
        let mut out = Vec::with_capacity(HEAD);
        out.put_u32(MAGIC);
        out.put_u32(self.len);
        out.put_u64(self.file);
        for field in [self.batch, self.start, self.index, self.count] {
            out.put_u32(field);
        }
        out.put_u16(self.flags);
        out.put_u16(self.records);
        out.put_u32(self.payload_at);
        out.put_u32(self.payload_len);
        frame[..out.len()].copy_from_slice(&out);
    }

    /// The head of a frame of one's own, not yet signed.
    pub(crate) fn peek(frame: &[u8]) -> FrameHead {
        FrameHead::read(frame).map(|(head, _)| head).unwrap_or_default()
    }

    fn read(bytes: &[u8]) -> Result<(FrameHead, u32), DecodeError> {
        let mut r = Reader::new(bytes);
        if r.u32("frame magic")? != MAGIC {
            return Err(r.invalid("frame magic"));
        }
        let head = FrameHead {
            len: r.u32("frame length")?,
            file: r.u64("frame file")?,
            batch: r.u32("frame batch")?,
            start: r.u32("frame start")?,
            index: r.u32("frame index")?,
            count: r.u32("frame count")?,
            flags: r.u16("frame flags")?,
            records: r.u16("frame records")?,
            payload_at: r.u32("frame payload offset")?,
            payload_len: r.u32("frame payload length")?,
        };
        Ok((head, r.u32("frame checksum")?))
    }
}

/// One verified frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) head: FrameHead,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame that starts at the first of these bytes, if one does and its checksum holds.
    pub(crate) fn read(salt: &Salt, bytes: &'a [u8]) -> Option<Frame<'a>> {
        let (head, crc) = FrameHead::read(bytes).ok()?;
        let frame = bytes.get(..head.len as usize)?;
        let (covered, body) = (frame.get(..HEAD - 4)?, frame.get(HEAD..)?);
        let right = crc32c::crc32c_append(salt.crc(covered), body) == crc
            && head.file == salt.file
            && head.index < head.count;
        right.then_some(Frame { head, body })
    }

    /// How many bytes it takes.
    pub(crate) fn len(&self) -> usize {
        self.head.len as usize
    }

    /// Puts its records together. `payload` supplies content bytes of the batch by offset and
    /// length; an entry whose bytes are not there or do not have its digest is missing.
    /// `None` if the records do not fill the frame exactly.
    pub(crate) fn records(
        &self,
        payload: &mut dyn FnMut(u64, usize) -> Option<Bytes>,
        out: &mut dyn FnMut(Record, Missing),
    ) -> Option<()> {
        let mut r = Reader::new(self.body);
        let mut at = u64::from(self.head.payload_at);
        for _ in 0..self.head.records {
            let (record, missing) = read_record(&mut r, &mut at, payload).ok()?;
            out(record, missing);
        }
        let used = at - u64::from(self.head.payload_at);
        (r.remaining() == 0 && used == u64::from(self.head.payload_len)).then_some(())
    }
}

fn read_record(
    r: &mut Reader<'_>,
    at: &mut u64,
    payload: &mut dyn FnMut(u64, usize) -> Option<Bytes>,
) -> Result<(Record, Missing), DecodeError> {
    let kind = r.u8("record kind")?;
    let group = r.group("record group")?;
    match kind {
        APPEND => {
            let prev = r.entry_id("append prev")?;
            let (entries, missing, first) = read_entries(r, at, payload, true)?;
            if first.is_some_and(|first| prev.index.0.checked_add(1) != Some(first.0)) {
                return Err(r.invalid("append first index"));
            }
            Ok((Record::Log { group, op: LogOp::Append { prev, entries } }, missing))
        }
        FILL => {
            let (entries, missing, _) = read_entries(r, at, payload, false)?;
            Ok((Record::Log { group, op: LogOp::Fill { entries } }, missing))
        }
        CUT => {
            let from = Index(r.u64("cut from")?);
            Ok((Record::Log { group, op: LogOp::Cut { from } }, Missing::default()))
        }
        STATE => {
            let len = r.count(1, "state length")?;
            let body = Bytes::copy_from_slice(r.bytes(len, "state body")?);
            Ok((Record::State { group, body }, Missing::default()))
        }
        _ => Err(r.invalid("record kind")),
    }
}

/// Entries that a record names and whose payload is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) ids: Vec<EntryId>,
    /// Those of them that are membership changes.
    pub(crate) configs: Vec<EntryId>,
}

type Entries = (Vec<Entry>, Missing, Option<Index>);

fn read_entries(
    r: &mut Reader<'_>,
    at: &mut u64,
    payload: &mut dyn FnMut(u64, usize) -> Option<Bytes>,
    contiguous: bool,
) -> Result<Entries, DecodeError> {
    let runs = r.count(RUN, "runs")?;
    let count = r.u32("entries")? as usize;
    let mut runs = Reader::new(r.bytes(runs * RUN, "runs")?);
    if count.checked_mul(META).is_none_or(|len| len > r.remaining()) {
        return Err(r.invalid("entries"));
    }
    let (mut entries, mut missing) = (Vec::with_capacity(count), Missing::default());
    let (mut first, mut next, mut seen) = (None, None, 0usize);
    while runs.remaining() > 0 {
        let (start, term) = (runs.u64("run first")?, Term(runs.u64("run term")?));
        let len = u64::from(runs.u32("run length")?);
        let follows =
            next.is_none_or(|next| if contiguous { start == next } else { start >= next });
        seen += len as usize;
        let end = start.checked_add(len).filter(|_| follows && seen <= count);
        next = Some(end.ok_or_else(|| r.invalid("run"))?);
        first.get_or_insert(Index(start));
        for index in start..start + len {
            let id = EntryId::new(term, Index(index));
            let kind = EntryKind::from_byte(r.u8("entry kind")?);
            let kind = kind.ok_or_else(|| r.invalid("entry kind"))?;
            let size = r.u32("entry length")? as usize;
            let digest = Digest(r.u32("entry digest")?);
            let content = payload(*at, size);
            *at += size as u64;
            let entry = content.map(|payload| Entry::from_parts(id, kind, digest, payload));
            match entry.filter(Entry::is_intact) {
                Some(entry) => entries.push(entry),
                None => {
                    missing.ids.push(id);
                    missing.configs.extend((kind == EntryKind::Config).then_some(id));
                }
            }
        }
    }
    if seen != count {
        return Err(r.invalid("entries"));
    }
    Ok((entries, missing, first))
}

/// What a record takes: bytes in the directory and bytes of payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) directory: usize,
    pub(crate) payload: usize,
}

/// Measures small state.
pub(crate) fn size_of_state(body: &[u8]) -> Size {
    Size { directory: 1 + 16 + 4 + body.len(), payload: 0 }
}

/// Measures a record; the error is the first index that is out of place.
pub(crate) fn measure(record: RecordRef<'_>) -> Result<Size, (GroupKey, Index)> {
    let head = 1 + 16;
    let (group, op) = match record {
        RecordRef::State { body, .. } => return Ok(size_of_state(body)),
        RecordRef::Log { group, op } => (group, op),
    };
    let (entries, fixed) = match op {
        LogOp::Cut { .. } => return Ok(Size { directory: head + 8, payload: 0 }),
        LogOp::Append { entries, .. } => (entries, 16 + 8),
        LogOp::Fill { entries } => (entries, 8),
    };
    let mut payload = 0;
    let mut last = match op {
        LogOp::Append { prev, .. } => Some(prev.index),
        _ => None,
    };
    for entry in entries {
        let index = entry.id.index;
        let fits = match (op, last) {
            (LogOp::Append { .. }, Some(last)) => last.0.checked_add(1) == Some(index.0),
            (_, Some(last)) => index > last,
            (_, None) => true,
        };
        if !fits || index.0 == u64::MAX {
            return Err((group, index));
        }
        last = Some(index);
        payload += entry.payload.len();
    }
    let runs = runs_of(entries).count();
    Ok(Size { directory: head + fixed + runs * RUN + entries.len() * META, payload })
}

/// Appends a record's directory bytes. It was measured before.
pub(crate) fn write_record(record: RecordRef<'_>, out: &mut Vec<u8>) {
    let (group, op) = match record {
        RecordRef::State { group, body } => {
            out.put_u8(STATE);
            out.put_group(group);
            out.put_u32(body.len() as u32);
            out.put_slice(body);
            return;
        }
        RecordRef::Log { group, op } => (group, op),
    };
    match op {
        LogOp::Cut { from } => {
            out.put_u8(CUT);
            out.put_group(group);
            out.put_u64(from.0);
        }
        LogOp::Append { prev, entries } => {
            out.put_u8(APPEND);
            out.put_group(group);
            out.put_entry_id(*prev);
            write_entries(entries, out);
        }
        LogOp::Fill { entries } => {
            out.put_u8(FILL);
            out.put_group(group);
            write_entries(entries, out);
        }
    }
}

fn write_entries(entries: &[Entry], out: &mut Vec<u8>) {
    out.put_u32(runs_of(entries).count() as u32);
    out.put_u32(entries.len() as u32);
    for run in runs_of(entries) {
        out.put_u64(run[0].id.index.0);
        out.put_u64(run[0].id.term.0);
        out.put_u32(run.len() as u32);
    }
    for entry in entries {
        let mut meta = [0; META];
        meta[0] = entry.kind as u8;
        meta[1..5].copy_from_slice(&(entry.payload.len() as u32).to_le_bytes());
        meta[5..].copy_from_slice(&entry.digest.0.to_le_bytes());
        out.extend_from_slice(&meta);
    }
}

/// Stretches of consecutive indexes of one term.
fn runs_of(entries: &[Entry]) -> impl Iterator<Item = &[Entry]> {
    entries.chunk_by(|a, b| a.id.term == b.id.term && a.id.index.next() == b.id.index)
}
