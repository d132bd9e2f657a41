//! The open batch: records go in, one aligned write comes out.
//!
//! Each payload is copied once, from the caller's memory to its place between the tags. Small
//! payloads wait as handles until the batch is closed, since the directory in front of them
//! still grows; once there are [`LARGE`] bytes of them they start in a block of their own and
//! are copied at once, while the batch before is being synced.

use bytes::Bytes;
use refloat_types::{Entry, LogOp};
use refloat_vfs::AlignedBuf;

use crate::format::batch::{BatchHeader, CHECKPOINT, HEADER, LARGE, Layout};
use crate::format::directory::{self, FULL, FrameHead, HEAD, OF_CHECKPOINT, Size};
use crate::format::file_header::Previous;
use crate::format::sector::{Salt, stripe, stripe_zeros};
use crate::format::{BLOCK, CONTENT, SECTORS_PER_BLOCK, blocks_for};
use crate::{Lsn, RecordRef};

/// Blocks left free in front of large payload, for header and directories.
const ROOM: usize = 8;

/// Frames under construction. Heads hold payload offsets relative to the first payload and no
/// place until [`Frames::place`].
#[derive(Debug, Default)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
    /// Where the last frame starts and what it holds so far.
    open: Option<FrameHead>,
    open_at: usize,
    count: u32,
}

impl Frames {
    fn clear(&mut self) {
        self.bytes.clear();
        self.open = None;
        self.count = 0;
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    fn open_len(&self) -> usize {
        if self.open.is_some() { self.bytes.len() - self.open_at } else { FULL }
    }

    fn push(&mut self, record: RecordRef<'_>, payload_at: usize, payload: usize) {
        if self.open_len() >= FULL {
            self.close();
            self.open_at = self.bytes.len();
            self.bytes.resize(self.open_at + HEAD, 0);
            self.open = Some(FrameHead { payload_at: payload_at as u32, ..FrameHead::default() });
        }
        directory::write_record(record, &mut self.bytes);
        if let Some(open) = &mut self.open {
            open.records += 1;
            open.payload_len += payload as u32;
        }
    }

    /// Leaves what is known of the open frame in its head, unsigned.
    fn close(&mut self) {
        if let Some(mut open) = self.open.take() {
            open.len = (self.bytes.len() - self.open_at) as u32;
            open.write_unsigned(&mut self.bytes[self.open_at..]);
            self.count += 1;
        }
    }

    /// Gives every frame its place and its checksum.
    fn place(&mut self, salt: &Salt, place: &FrameHead) {
        let (mut at, mut index) = (0, place.index);
        while at < self.bytes.len() {
            let frame = &mut self.bytes[at..];
            let known = FrameHead::peek(frame);
            let head = FrameHead {
                len: known.len,
                records: known.records,
                payload_at: known.payload_at + place.payload_at,
                payload_len: known.payload_len,
                index,
                ..*place
            };
            let len = head.len as usize;
            assert!(len >= HEAD, "a frame of one's own has a length");
            head.write(salt, &mut frame[..len]);
            index += 1;
            at += len;
        }
    }
}

/// How the directory and the payload of a batch would be after some more records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) directory: usize,
    open_frame: usize,
    pub(crate) payload: usize,
}

impl Extent {
    /// Of a batch that nothing is in yet.
    pub(crate) fn empty() -> Extent {
        Extent { directory: 0, open_frame: FULL, payload: 0 }
    }

    /// Of a batch of so many entries, at most.
    pub(crate) fn of_entries(entries: usize, payload: usize) -> Extent {
        let directory = entries.saturating_mul(directory::MOST_PER_ENTRY);
        let frames = directory / FULL + 1;
        let directory = directory.saturating_add(frames.saturating_mul(HEAD));
        Extent { directory, open_frame: FULL, payload }
    }

    /// With one more record.
    pub(crate) fn with(mut self, size: Size) -> Extent {
        if self.open_frame >= FULL {
            self.directory += HEAD;
            self.open_frame = HEAD;
        }
        self.directory += size.directory;
        self.open_frame += size.directory;
        self.payload += size.payload;
        self
    }

    /// Blocks of the batch behind one whose directory takes `copy` bytes.
    pub(crate) fn blocks(self, copy: usize) -> usize {
        Layout::new(self.directory, copy, self.payload, false).blocks()
    }

    pub(crate) fn bytes(self) -> usize {
        self.directory + self.payload
    }
}

/// Where a batch goes, decided when it is closed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) salt: Salt,
    pub(crate) start: u32,
    pub(crate) file_blocks: u32,
    pub(crate) previous: Previous,
}

/// A closed batch, ready to be written.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) buf: AlignedBuf,
    /// The first block of `buf` that belongs to the batch, and how many do.
    pub(crate) first: usize,
    pub(crate) blocks: usize,
    pub(crate) digest: u32,
}

/// Records that will be durable together.
#[derive(Debug)]
pub(crate) struct OpenBatch {
    pub(crate) lsn: Lsn,
    pub(crate) flags: u16,
    checkpoint: Frames,
    frames: Frames,
    held: Vec<Bytes>,
    payload: usize,
    buf: AlignedBuf,
    large: bool,
    records: u32,
}

impl OpenBatch {
    pub(crate) fn new(lsn: Lsn, flags: u16, parts: Spare) -> OpenBatch {
        let Spare { buf, mut frames, mut held } = parts;
        frames.clear();
        held.clear();
        OpenBatch {
            lsn,
            flags,
            checkpoint: Frames::default(),
            frames,
            held,
            payload: 0,
            buf,
            large: false,
            records: 0,
        }
    }

    /// Bytes of the directory that the next batch repeats.
    pub(crate) fn frames_len(&self) -> usize {
        self.frames.len()
    }

    pub(crate) fn extent(&self) -> Extent {
        Extent {
            directory: self.frames.len(),
            open_frame: self.frames.open_len(),
            payload: self.payload,
        }
    }

    /// Blocks of a first batch, whose checkpoint is there twice.
    pub(crate) fn first_blocks(&self) -> usize {
        self.layout(0).blocks()
    }

    fn layout(&self, copy: usize) -> Layout {
        let directory = self.checkpoint.len() + self.frames.len();
        let first = self.flags & CHECKPOINT != 0;
        let copy = if first { self.checkpoint.len() } else { copy };
        Layout::new(directory, copy, self.payload, first)
    }

    pub(crate) fn push_checkpoint(&mut self, record: RecordRef<'_>) {
        self.checkpoint.push(record, 0, 0);
        self.records += 1;
    }

    /// Takes a record that was measured before; returns its payload bytes.
    pub(crate) fn push(&mut self, record: RecordRef<'_>) -> usize {
        let at = self.payload;
        let op = match record {
            RecordRef::Log { op, .. } => Some(op),
            RecordRef::State { .. } => None,
        };
        let entries = op.map_or(&[][..], LogOp::entries);
        let payload = entries.iter().map(|entry| entry.payload.len()).sum();
        self.frames.push(record, at, payload);
        self.records += 1;
        self.take_payload(entries);
        payload
    }

    fn take_payload(&mut self, entries: &[Entry]) {
        for Entry { payload, .. } in entries {
            let at = self.payload;
            self.payload += payload.len();
            if self.large {
                self.copy_payload(at, payload);
            } else if !payload.is_empty() {
                self.held.push(payload.clone());
                if self.payload >= LARGE {
                    self.grow_large();
                }
            }
        }
    }

    fn grow_large(&mut self) {
        self.large = true;
        let mut held = std::mem::take(&mut self.held);
        let mut at = 0;
        for payload in held.drain(..) {
            self.copy_payload(at, &payload);
            at += payload.len();
        }
        self.held = held;
    }

    fn copy_payload(&mut self, at: usize, payload: &[u8]) {
        let blocks = ROOM + blocks_for(at + payload.len());
        if self.buf.blocks() < blocks {
            self.buf.resize(blocks.max(self.buf.blocks() * 2));
        }
        stripe(&mut self.buf, ROOM * CONTENT + at, payload);
    }

    /// Lays the batch out, signs it, and leaves what it was made of, with its frames to be
    /// copied into the next batch.
    pub(crate) fn close(mut self, place: &Place, copy: &[u8]) -> (Closed, Spare) {
        self.checkpoint.close();
        self.frames.close();
        let layout = self.layout(copy.len());
        let head_blocks = if self.large { layout.payload_at / CONTENT } else { 0 };
        let first = self.make_room(&layout, head_blocks);
        self.place_frames(place, &layout);

        let copy = if self.flags & CHECKPOINT != 0 { &self.checkpoint.bytes[..] } else { copy };
        let blocks = layout.blocks();
        let directory_len = self.checkpoint.len() + self.frames.len();
        let directory_crc =
            crc32c::crc32c_append(place.salt.crc(&self.checkpoint.bytes), &self.frames.bytes);
        let header = BatchHeader {
            flags: self.flags,
            batch: self.lsn.batch,
            start: place.start,
            blocks: blocks as u32,
            file_blocks: place.file_blocks,
            directory_len: directory_len as u32,
            copy_at: layout.copy_at as u32,
            copy_len: copy.len() as u32,
            payload_at: layout.payload_at as u32,
            payload_len: self.payload as u32,
            records: self.records,
            directory_crc,
            copy_crc: place.salt.crc(copy),
            previous: place.previous,
        };
        let (header, digest) = header.write(&place.salt);
        let out = &mut self.buf[first * BLOCK..(first + blocks) * BLOCK];
        stripe(out, 0, &header);
        stripe(out, HEADER, &self.checkpoint.bytes);
        stripe(out, HEADER + self.checkpoint.len(), &self.frames.bytes);
        stripe_zeros(out, HEADER + directory_len, layout.copy_at);
        stripe(out, layout.copy_at, copy);
        stripe_zeros(out, layout.copy_at + copy.len(), layout.payload_at);
        let mut at = layout.payload_at;
        for payload in self.held.drain(..) {
            stripe(out, at, &payload);
            at += payload.len();
        }
        stripe_zeros(out, layout.end, blocks * CONTENT);
        place.salt.tag(out, self.lsn.batch, place.start * SECTORS_PER_BLOCK as u32);

        let closed = Closed { buf: self.buf, first, blocks, digest };
        (closed, Spare { buf: AlignedBuf::default(), frames: self.frames, held: self.held })
    }

    /// Makes the buffer long enough and returns its first block that belongs to the batch.
    fn make_room(&mut self, layout: &Layout, head_blocks: usize) -> usize {
        let blocks = layout.blocks();
        if !self.large {
            if self.buf.blocks() < blocks {
                self.buf.resize(blocks);
            }
            return 0;
        }
        if head_blocks <= ROOM {
            return ROOM - head_blocks;
        }
        // The directories outgrew the room left for them: the payload moves up.
        self.buf.resize((blocks).max(self.buf.blocks() + head_blocks - ROOM));
        let payload = (blocks - head_blocks) * BLOCK;
        self.buf.copy_within(ROOM * BLOCK..ROOM * BLOCK + payload, head_blocks * BLOCK);
        0
    }

    fn place_frames(&mut self, place: &Place, layout: &Layout) {
        let mut head = FrameHead {
            file: place.salt.file,
            batch: self.lsn.batch,
            start: place.start,
            count: self.checkpoint.count + self.frames.count,
            flags: OF_CHECKPOINT,
            payload_at: layout.payload_at as u32,
            ..FrameHead::default()
        };
        self.checkpoint.place(&place.salt, &head);
        head.index = self.checkpoint.count;
        head.flags = 0;
        self.frames.place(&place.salt, &head);
    }
}

/// Memory to make a batch from, kept from earlier ones.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    pub(crate) buf: AlignedBuf,
    pub(crate) frames: Frames,
    pub(crate) held: Vec<Bytes>,
}

impl Spare {
    /// Exchanges the frames of the batch just closed for the memory of an older copy.
    pub(crate) fn swap_frames(&mut self, copy: &mut Vec<u8>) {
        std::mem::swap(&mut self.frames.bytes, copy);
        self.frames.clear();
    }
}
