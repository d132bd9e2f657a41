//! What a scan found, in words for people and in fields for code.

use std::fmt;
use std::path::PathBuf;

use refloat_types::{Generation, GroupKey};

use crate::Lsn;

/// What is known about the end of one file (see `docs/formats/wal.md`, "The verdict").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// Every batch up to the end verifies, and something later proves the last one durable
    /// (a seal, a later sector, a link); what follows was never acknowledged or does not exist.
    Good,
    /// The last batch verifies and nothing proves it durable: its records are in
    /// [`Scan::unproven`](crate::Scan::unproven) and must be written again before anything
    /// rests on them.
    Unproven,
    /// The last write was cut off. It was never acknowledged and is dropped.
    Torn {
        /// How many blocks of it are there.
        blocks: u64,
    },
    /// The end does not verify, and not because parts of it never reached the disk.
    /// It may have been acknowledged.
    Suspect,
    /// Data that something proves durable does not verify at the very end of the file.
    Rotten,
    /// Another file proves that this one existed, and it is not there.
    Missing,
    /// The file was being made when the node stopped; nothing rests on it. It is used again.
    NeverExisted,
}

/// One file, as the scan saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileReport {
    /// Its number.
    pub generation: Generation,
    /// Where it stands, or should.
    pub path: PathBuf,
    /// Bytes in it.
    pub len: u64,
    /// How many batches verify.
    pub batches: u32,
    /// The offset behind the last accepted batch.
    pub end: u64,
    /// What is known about its end.
    pub verdict: Verdict,
    /// Whether its link block names the next file.
    pub linked: bool,
    /// Whether the writer ended it in an orderly shutdown.
    pub closed: bool,
    /// The file before it, as its header or its first batch says; `ZERO` for the first file of a
    /// log, `None` if nothing readable says so. A file before the oldest one present was
    /// released, or was lost: who keeps track of what was released can tell.
    pub previous: Option<Generation>,
}

impl fmt::Display for FileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} batches, end at {} of {} bytes, ",
            self.path.display(),
            self.batches,
            self.end,
            self.len
        )?;
        match self.verdict {
            Verdict::Good => f.write_str("good")?,
            Verdict::Unproven => {
                f.write_str("good, the last batch unproven (it is written again)")?
            }
            Verdict::Torn { blocks } => {
                write!(
                    f,
                    "torn: {blocks} blocks of a write that was never acknowledged are dropped"
                )?;
            }
            Verdict::Suspect => {
                f.write_str("suspect: the last batch is damaged and may have been acknowledged")?
            }
            Verdict::Rotten => f.write_str("rotten: durable data at the end is damaged")?,
            Verdict::Missing => f.write_str("missing")?,
            Verdict::NeverExisted => f.write_str("never in use")?,
        }
        if self.closed {
            f.write_str(", closed")?;
        }
        if self.linked {
            f.write_str(", linked")?;
        }
        Ok(())
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DamageKind {
    /// Proven durable, and does not verify.
    Rotten,
    /// Does not verify, and may have been durable.
    Suspect,
    /// A file, or the end of one, is not there.
    Missing,
}

/// Who lost something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owners {
    /// These groups, and no others. Empty where all records survived.
    Known(Vec<GroupKey>),
    /// No copy of the directory says. Any group that wrote to this file may be hurt, except
    /// those whose next record continues what is there.
    Unknown,
}

/// Bytes that were or may have been durable and are not what they were.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The batch; its number is 0 where a whole file is gone.
    pub at: Lsn,
    /// Where the file stands, or should.
    pub path: PathBuf,
    /// Where in the file.
    pub offset: u64,
    /// How many blocks of 4096 bytes are concerned.
    pub blocks: u64,
    /// How bad it is.
    pub kind: DamageKind,
    /// Who lost something.
    pub owners: Owners,
    /// What was seen and what proves it.
    pub evidence: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            DamageKind::Rotten => "damage in durable data",
            DamageKind::Suspect => "damage in data that may have been acknowledged",
            DamageKind::Missing => "missing data",
        };
        write!(
            f,
            "{what} in {} at {}, batch {}, {} blocks: {}; ",
            self.path.display(),
            self.offset,
            self.at,
            self.blocks,
            self.evidence
        )?;
        match &self.owners {
            Owners::Known(groups) if groups.is_empty() => f.write_str("every record survived"),
            Owners::Known(groups) => {
                f.write_str("lost entries of ")?;
                for (n, group) in groups.iter().enumerate() {
                    write!(f, "{}group {group}", if n == 0 { "" } else { ", " })?;
                }
                f.write_str(HEALING)
            }
            Owners::Unknown => {
                f.write_str("no directory copy says whose records are lost")?;
                f.write_str(HEALING)
            }
        }
    }
}

/// What happens next, said wherever something is lost.
const HEALING: &str = ": this is not repairable from this disk and nothing is cut away; \
the groups concerned ask their peers for what is missing before they vouch for it, \
and the damaged file is kept";
