//! For people and tools: what is in one file, batch by batch, without any judgement.

use std::fmt;
use std::io;
use std::path::Path;

use refloat_types::{EntryId, Generation, GroupKey, Identity, LogOp};
use refloat_vfs::{OpenOptions, Vfs};

use crate::format::batch::{CHECKPOINT, CLOSED, SEAL};
use crate::format::file_header::{FileHeader, HeaderSeen};
use crate::format::{BLOCK, FIRST_BATCH_BLOCK, offset_of};
use crate::names::Name;
use crate::scan::parse::{FileReader, Found};
use crate::scan::window::Window;
use crate::{Lsn, Options, Record};

/// One batch of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchReport {
    /// Its position in the log.
    pub at: Lsn,
    /// Where it starts in the file.
    pub offset: u64,
    /// How many blocks of 4096 bytes it takes.
    pub blocks: u64,
    /// Whether it holds a checkpoint.
    pub is_checkpoint: bool,
    /// Whether it was written because the log went idle.
    pub is_seal: bool,
    /// Whether it was written by an orderly shutdown.
    pub is_closed: bool,
    /// Whether all of it verifies. If not, no records are listed.
    pub verifies: bool,
    /// What is in it.
    pub records: Vec<RecordSummary>,
}

/// One record in a few words.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordSummary {
    /// Whose.
    pub group: GroupKey,
    /// `append`, `fill`, `cut` or `state`.
    pub kind: &'static str,
    /// The first entry and the last one.
    pub entries: Option<(EntryId, EntryId)>,
    /// How many entries.
    pub count: usize,
    /// Bytes of payload, or of state.
    pub bytes: usize,
}

impl fmt::Display for BatchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "batch {} at {}, {} blocks", self.at, self.offset, self.blocks)?;
        for (flag, word) in [
            (self.is_checkpoint, ", checkpoint"),
            (self.is_seal, ", seal"),
            (self.is_closed, ", closed"),
            (!self.verifies, ", does not verify"),
        ] {
            f.write_str(if flag { word } else { "" })?;
        }
        write!(f, ", {} records", self.records.len())
    }
}

impl fmt::Display for RecordSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group {} {}", self.group, self.kind)?;
        if let Some((first, last)) = self.entries {
            write!(f, " of {} entries, {first} to {last}", self.count)?;
        }
        write!(f, ", {} bytes", self.bytes)
    }
}

/// Lists the batches of one file whose headers can be read, in the order in which they lie,
/// behind a linked end too.
///
/// # Errors
/// The file cannot be opened.
pub fn batches(
    vfs: &dyn Vfs,
    options: &Options,
    generation: Generation,
) -> io::Result<Vec<BatchReport>> {
    let file = vfs.open(&Name::Log(generation).path(&options.dir), OpenOptions::read())?;
    let window = Window::new(&file, file.len()?);
    let mut reader = FileReader::new(window, options.identity, generation.0);
    let (mut block, mut found) = (FIRST_BATCH_BLOCK, Vec::new());
    let end = reader.window.file_blocks();
    while block < end {
        let Some((header, _)) = reader.header_at(block) else {
            block += 1;
            continue;
        };
        let batch = reader.batch_at(block, header.batch, end);
        let has = |flag| header.flags & flag != 0;
        found.push(BatchReport {
            at: Lsn::new(generation, header.batch),
            offset: offset_of(block),
            blocks: u64::from(header.blocks),
            is_checkpoint: has(CHECKPOINT),
            is_seal: has(SEAL),
            is_closed: has(CLOSED),
            verifies: batch.is_ok(),
            records: batch.map(|b| b.records.iter().map(summary).collect()).unwrap_or_default(),
        });
        block = block.saturating_add(header.blocks);
    }
    Ok(found)
}

/// Whose a file says it is, and which number it has; `None` if no copy of its header verifies.
///
/// # Errors
/// The file cannot be opened or read.
pub fn peek(vfs: &dyn Vfs, path: &Path) -> io::Result<Option<(Identity, Generation)>> {
    let file = vfs.open(path, OpenOptions::read())?;
    let mut block = vec![0; BLOCK];
    let read = file.read_at(&mut block, 0)?;
    block.truncate(read);
    Ok(match FileHeader::read(&block) {
        HeaderSeen::Valid(header) => Some((header.identity, header.file)),
        HeaderSeen::Newer(_) | HeaderSeen::None => None,
    })
}

fn summary(found: &Found) -> RecordSummary {
    let group = found.record.group();
    let (kind, entries) = match &found.record {
        Record::State { body, .. } => {
            return RecordSummary {
                group,
                kind: "state",
                entries: None,
                count: 0,
                bytes: body.len(),
            };
        }
        Record::Log { op, .. } => match op {
            LogOp::Append { entries, .. } => ("append", &entries[..]),
            LogOp::Fill { entries } => ("fill", &entries[..]),
            LogOp::Cut { .. } => ("cut", &[][..]),
        },
    };
    let ends = entries.first().zip(entries.last()).map(|(first, last)| (first.id, last.id));
    let bytes = entries.iter().map(|entry| entry.payload.len()).sum();
    RecordSummary { group, kind, entries: ends, count: entries.len(), bytes }
}
