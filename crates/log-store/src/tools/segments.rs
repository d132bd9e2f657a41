//! `inspect segment`: every segment file, verified to its last byte.

use std::fmt;
use std::path::Path;

use refloat_segment::{Found, Segment, SegmentError, SegmentName};
use refloat_vfs::Vfs;
use serde::Serialize;

use super::look::{Progress, doubts_of, in_words, settled};
use crate::boot::{Examination, examine};
use crate::error::BootError;
use crate::options::Options;

/// What the directory makes of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SegmentRole {
    /// A record names it.
    Listed,
    /// Sealed, and the record that would name it is missing: a start takes it.
    Adoptable,
    /// Nothing names it any more, or it was never finished: a start removes it.
    Retired,
    /// A record names it, and it is not there.
    Missing,
    /// Of unknown origin: left alone.
    Stranger,
}

/// One file.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SegmentReport {
    /// Where it is, or should be.
    pub path: String,
    /// What the directory makes of it.
    pub role: SegmentRole,
    /// Its length.
    pub bytes: u64,
    /// The lowest and the highest generation that it was made from.
    pub generations: Option<(u64, u64)>,
    /// The segments that it replaced.
    pub inputs: Vec<String>,
    /// How many entries it holds.
    pub entries: u64,
    /// What it holds.
    pub groups: Vec<SegmentGroup>,
    /// What is wrong with it; empty if every byte verifies.
    pub damage: Vec<Spot>,
}

/// What a segment holds of one group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SegmentGroup {
    /// The group.
    pub group: u64,
    /// Its epoch.
    pub epoch: u64,
    /// From this index on it hides all older segments.
    pub cut: Option<u64>,
    /// The first index.
    pub first: Option<u64>,
    /// The last index.
    pub last: Option<u64>,
    /// How many entries.
    pub count: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Runs of one term.
    pub terms: Vec<Span>,
}

/// Consecutive entries of one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// Their term.
    pub term: u64,
    /// The first index.
    pub first: u64,
    /// The last index.
    pub last: u64,
}

/// One damaged place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Spot {
    /// Where in the file, where that is known.
    pub offset: Option<u64>,
    /// Whether entries are lost: a damaged copy of what exists twice loses nothing.
    pub loses_entries: bool,
    /// What was seen.
    pub evidence: String,
}

/// Reads and verifies every file of the segment directory.
///
/// # Errors
/// As [`examine`].
pub fn inspect_segments(
    vfs: &dyn Vfs,
    options: &Options,
    progress: Progress<'_>,
) -> Result<Vec<SegmentReport>, BootError> {
    settled(|| {
        let seen = examine(vfs, options);
        let mut doubts = doubts_of(&seen);
        let reports = seen.and_then(|seen| all(vfs, options, &seen, &mut *progress));
        match &reports {
            Ok(reports) => {
                for report in reports {
                    let hurt = report.damage.iter().map(|spot| spot.evidence.clone());
                    doubts.extend(hurt);
                    if report.role == SegmentRole::Missing {
                        doubts.push(report.path.clone());
                    }
                }
            }
            Err(error) => doubts.push(in_words(error)),
        }
        (reports, doubts)
    })
}

fn all(
    vfs: &dyn Vfs,
    options: &Options,
    seen: &Examination,
    progress: Progress<'_>,
) -> Result<Vec<SegmentReport>, BootError> {
    let dir = options.segment_dir();
    let found = match refloat_segment::list(vfs, &dir, seen.identity().identity) {
        Ok(found) => found,
        Err(error) if error.is_missing() => Vec::new(),
        Err(error) => return Err(BootError::Refused { reason: in_words(&error) }),
    };
    let listed = &seen.replay.state.segments;
    let present: Vec<SegmentName> = found.iter().filter_map(|file| file.name).collect();
    let mut reports: Vec<SegmentReport> = listed
        .iter()
        .filter(|name| !present.contains(name))
        .map(|name| empty(&dir.join(name.to_string()), SegmentRole::Missing, 0))
        .collect();
    for file in found {
        // Removed since it was listed: by a compaction of the running node.
        let gone = matches!(&file.result, Some(Err(error)) if error.is_missing());
        if !gone {
            progress(&file.path.display().to_string());
            reports.push(report(vfs, seen, file));
        }
    }
    reports.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(reports)
}

fn role(seen: &Examination, file: &Found) -> SegmentRole {
    match file.name {
        Some(name) if seen.segments.adopted.contains(&name) => SegmentRole::Adoptable,
        Some(name) if seen.replay.state.segments.contains(&name) => SegmentRole::Listed,
        _ if seen.retired.segments.contains(&file.path) => SegmentRole::Retired,
        _ => SegmentRole::Stranger,
    }
}

fn report(vfs: &dyn Vfs, seen: &Examination, file: Found) -> SegmentReport {
    let role = role(seen, &file);
    let length = || {
        let opened = vfs.open(&file.path, refloat_vfs::OpenOptions::read());
        opened.and_then(|file| file.len()).unwrap_or(0)
    };
    match &file.result {
        Some(Ok(segment)) => whole(segment, role),
        Some(Err(error)) => {
            let mut report = empty(&file.path, role, length());
            report.damage.push(spot(error));
            report
        }
        None => empty(&file.path, role, length()),
    }
}

fn empty(path: &Path, role: SegmentRole, bytes: u64) -> SegmentReport {
    SegmentReport {
        path: path.display().to_string(),
        role,
        bytes,
        generations: None,
        inputs: Vec::new(),
        entries: 0,
        groups: Vec::new(),
        damage: Vec::new(),
    }
}

fn whole(segment: &Segment, role: SegmentRole) -> SegmentReport {
    let group = |meta: refloat_segment::GroupMeta<'_>| SegmentGroup {
        group: meta.group.id.0,
        epoch: meta.group.epoch.0,
        cut: meta.cut.map(|cut| cut.0),
        first: meta.first().map(|id| id.index.0),
        last: meta.last().map(|id| id.index.0),
        count: meta.count,
        bytes: meta.bytes,
        terms: meta
            .terms
            .iter()
            .map(|run| Span { term: run.term.0, first: run.first.0, last: run.last.0 })
            .collect(),
    };
    SegmentReport {
        generations: Some((segment.first_generation().0, segment.generation().0)),
        inputs: segment.inputs().iter().map(ToString::to_string).collect(),
        entries: segment.entries(),
        groups: segment.groups().map(group).collect(),
        damage: segment.scrub().iter().map(spot).collect(),
        ..empty(segment.path(), role, segment.file_len())
    }
}

fn spot(error: &SegmentError) -> Spot {
    let offset = match error {
        SegmentError::Damaged(damage) => Some(damage.offset),
        SegmentError::Copy { offset, .. } | SegmentError::Index { offset, .. } => Some(*offset),
        _ => None,
    };
    let loses_entries = !matches!(error, SegmentError::Copy { .. });
    Spot { offset, loses_entries, evidence: in_words(error) }
}

impl SegmentReport {
    fn verdict(&self) -> &'static str {
        match (self.role, self.damage.as_slice(), self.generations) {
            (SegmentRole::Missing, ..) => "not there",
            (_, [], Some(_)) => "every entry verifies",
            (_, [], None) => "not a segment",
            (_, spots, _) if spots.iter().any(|spot| spot.loses_entries) => "damaged",
            _ => "whole, one of two copies damaged",
        }
    }
}

impl fmt::Display for SegmentRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SegmentRole::Listed => "listed",
            SegmentRole::Adoptable => "adoptable: sealed and not yet named",
            SegmentRole::Retired => "retired: nothing names it",
            SegmentRole::Missing => "listed",
            SegmentRole::Stranger => "of unknown origin",
        })
    }
}

impl fmt::Display for SegmentReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}, {}, {} bytes", self.path, self.role, self.verdict(), self.bytes)?;
        if let Some((first, last)) = self.generations {
            match first == last {
                true => write!(f, ", generation {first}")?,
                false => write!(f, ", generations {first} to {last}")?,
            }
            write!(f, ", {} entries of {} groups", self.entries, self.groups.len())?;
        }
        if !self.inputs.is_empty() {
            write!(f, ", made from {}", self.inputs.join(", "))?;
        }
        writeln!(f)?;
        for group in &self.groups {
            write!(f, "  group {} (epoch {}): ", group.group, group.epoch)?;
            match group.first.zip(group.last) {
                Some((first, last)) => {
                    write!(f, "{first} to {last}, {} entries, {} bytes", group.count, group.bytes)?
                }
                None => f.write_str("no entries")?,
            }
            if let Some(cut) = group.cut {
                write!(f, ", cuts at {cut}")?;
            }
            for run in &group.terms {
                write!(f, ", {} to {} of term {}", run.first, run.last, run.term)?;
            }
            writeln!(f)?;
        }
        for spot in &self.damage {
            let what = if spot.loses_entries { "damage" } else { "damaged copy" };
            writeln!(f, "  {what}: {}", spot.evidence)?;
        }
        Ok(())
    }
}
