//! `inspect snapshot`: every file of the snapshot directory, complete or not.

use std::fmt;
use std::io;
use std::path::Path;

use refloat_snapshot::{SnapshotError, SnapshotFile, SnapshotMeta, Unfinished, group_of};
use refloat_types::GroupKey;
use refloat_vfs::{OpenOptions, Vfs};
use serde::Serialize;

use super::look::{Progress, doubts_of, in_words, settled};
use crate::boot::{Examination, examine};
use crate::error::BootError;
use crate::options::Options;

/// What the directory makes of a snapshot file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SnapshotRole {
    /// A record names it as the group's newest.
    Newest,
    /// A record names it as the fallback.
    Previous,
    /// No record names it: written and not published yet, or left over.
    Unnamed,
    /// Being written, or left by a crash.
    Temporary,
    /// Being received, or left to go on with.
    Reception,
    /// A record names it, and it is not there.
    Missing,
    /// Of unknown origin, damaged ones set aside included: left alone.
    Stranger,
}

/// One file.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SnapshotReport {
    /// Where it is, or should be.
    pub path: String,
    /// What the directory makes of it.
    pub role: SnapshotRole,
    /// Its length.
    pub bytes: u64,
    /// The group.
    pub group: Option<u64>,
    /// Its epoch.
    pub epoch: Option<u64>,
    /// The index of the last entry that the state contains.
    pub index: Option<u64>,
    /// The term of that entry.
    pub term: Option<u64>,
    /// The voters, `node:incarnation`.
    pub voters: Vec<String>,
    /// The learners.
    pub learners: Vec<String>,
    /// The indexes whose entries the state still needs, as `{3, 7..=9}`.
    pub live: Option<String>,
    /// Bytes of state.
    pub payload: Option<u64>,
    /// How many chunks.
    pub chunks: Option<u32>,
    /// How many of them are here and verify.
    pub chunks_whole: Option<u64>,
    /// The digest over state and header: equal on all replicas that hold this snapshot.
    pub digest: Option<String>,
    /// What is wrong; `None` if the whole file verifies.
    pub damage: Option<String>,
}

/// Reads and verifies every file of the snapshot directory.
///
/// # Errors
/// As [`examine`].
pub fn inspect_snapshots(
    vfs: &dyn Vfs,
    options: &Options,
    progress: Progress<'_>,
) -> Result<Vec<SnapshotReport>, BootError> {
    settled(|| {
        let seen = examine(vfs, options);
        let mut doubts = doubts_of(&seen);
        let reports = seen.and_then(|seen| all(vfs, options, &seen, None, &mut *progress));
        match &reports {
            Ok(reports) => doubts.extend(reports.iter().filter_map(doubt)),
            Err(error) => doubts.push(in_words(error)),
        }
        (reports, doubts)
    })
}

fn doubt(report: &SnapshotReport) -> Option<String> {
    match report.role {
        SnapshotRole::Missing => Some(report.path.clone()),
        SnapshotRole::Newest | SnapshotRole::Previous => report.damage.clone(),
        _ => None,
    }
}

/// The files of all groups, or of one.
pub(super) fn all(
    vfs: &dyn Vfs,
    options: &Options,
    seen: &Examination,
    only: Option<GroupKey>,
    progress: Progress<'_>,
) -> Result<Vec<SnapshotReport>, BootError> {
    let root = options.snapshot_root();
    let mut reports = Vec::new();
    for dir in list(vfs, &root)? {
        let group = group_of(&dir);
        if only.is_some_and(|only| group != Some(only)) {
            continue;
        }
        let Some(group) = group else {
            reports.push(empty(&dir, SnapshotRole::Stranger));
            continue;
        };
        for path in list(vfs, &dir)? {
            progress(&path.display().to_string());
            reports.extend(report(vfs, seen, group, &path));
        }
    }
    for (key, record) in &seen.replay.state.groups {
        let wanted = only.is_none_or(|only| only == *key);
        let dir = refloat_snapshot::group_dir(&root, *key);
        for id in [record.snapshot, record.previous] {
            let path = refloat_snapshot::snapshot_path(&dir, id);
            let known = reports.iter().any(|report| Path::new(&report.path) == path);
            if wanted && id != refloat_types::EntryId::ZERO && !known {
                let mut missing = empty(&path, SnapshotRole::Missing);
                (missing.group, missing.epoch) = (Some(key.id.0), Some(key.epoch.0));
                (missing.index, missing.term) = (Some(id.index.0), Some(id.term.0));
                missing.damage = Some("not there".into());
                reports.push(missing);
            }
        }
    }
    reports.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(reports)
}

fn list(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<std::path::PathBuf>, BootError> {
    match vfs.list(dir) {
        Ok(paths) => Ok(paths),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(source) => Err(BootError::Io { path: dir.to_path_buf(), source }),
    }
}

fn role(seen: &Examination, group: GroupKey, path: &Path) -> SnapshotRole {
    let record = seen.replay.state.groups.get(&group);
    let named = |id| path.file_name() == refloat_snapshot::snapshot_path(path, id).file_name();
    match path.extension().and_then(|e| e.to_str()) {
        Some("snap") if record.is_some_and(|r| named(r.snapshot)) => SnapshotRole::Newest,
        Some("snap") if record.is_some_and(|r| named(r.previous)) => SnapshotRole::Previous,
        Some("snap") => SnapshotRole::Unnamed,
        Some("tmp") => SnapshotRole::Temporary,
        Some("part") => SnapshotRole::Reception,
        _ => SnapshotRole::Stranger,
    }
}

/// `None` for a file that is gone by now.
fn report(
    vfs: &dyn Vfs,
    seen: &Examination,
    group: GroupKey,
    path: &Path,
) -> Option<SnapshotReport> {
    let identity = &seen.identity().identity;
    let mut report = empty(path, role(seen, group, path));
    (report.group, report.epoch) = (Some(group.id.0), Some(group.epoch.0));
    report.bytes = match vfs.open(path, OpenOptions::read()).and_then(|file| file.len()) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
        length => length.unwrap_or(0),
    };
    if report.role == SnapshotRole::Stranger {
        return Some(report);
    }
    let whole = SnapshotFile::open(vfs, path, identity);
    let damage = match &whole {
        Ok(file) => {
            describe(&mut report, file.meta());
            file.verify().err()
        }
        Err(_) => None,
    };
    if let (Ok(_), None) = (&whole, &damage) {
        report.chunks_whole = report.chunks.map(u64::from);
        return Some(report);
    }
    let failed: Option<&SnapshotError> = damage.as_ref().or(whole.as_ref().err());
    report.damage = failed.map(|error| in_words(error));
    if let Ok(unfinished) = Unfinished::read(vfs, path, identity) {
        describe(&mut report, &unfinished.meta);
        report.chunks_whole = Some(unfinished.have.len());
    }
    Some(report)
}

fn describe(report: &mut SnapshotReport, meta: &SnapshotMeta) {
    let names = |members: &[refloat_types::Member]| members.iter().map(|m| m.to_string()).collect();
    (report.group, report.epoch) = (Some(meta.group.id.0), Some(meta.group.epoch.0));
    (report.index, report.term) = (Some(meta.id.index.0), Some(meta.id.term.0));
    (report.voters, report.learners) = (names(&meta.conf.voters), names(&meta.conf.learners));
    report.live = Some(meta.live.to_string());
    (report.payload, report.chunks) = (Some(meta.payload_len), Some(meta.chunks));
    report.digest = Some(format!("{:08x}", meta.digest));
}

fn empty(path: &Path, role: SnapshotRole) -> SnapshotReport {
    SnapshotReport {
        path: path.display().to_string(),
        role,
        bytes: 0,
        group: None,
        epoch: None,
        index: None,
        term: None,
        voters: Vec::new(),
        learners: Vec::new(),
        live: None,
        payload: None,
        chunks: None,
        chunks_whole: None,
        digest: None,
        damage: None,
    }
}

impl fmt::Display for SnapshotRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SnapshotRole::Newest => "the newest, named by a record",
            SnapshotRole::Previous => "the fallback, named by a record",
            SnapshotRole::Unnamed => "no record names it",
            SnapshotRole::Temporary => "being written, or left by a crash",
            SnapshotRole::Reception => "being received, or left to go on with",
            SnapshotRole::Missing => "named by a record",
            SnapshotRole::Stranger => "of unknown origin",
        })
    }
}

impl fmt::Display for SnapshotReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unfinished = matches!(self.role, SnapshotRole::Temporary | SnapshotRole::Reception);
        let verdict = match (&self.damage, self.role) {
            (_, SnapshotRole::Stranger) => "not read",
            (_, SnapshotRole::Missing) => "not there",
            (None, _) => "every byte verifies",
            (Some(_), _) if unfinished => "not complete",
            (Some(_), _) => "damaged",
        };
        writeln!(f, "{}: {}, {verdict}, {} bytes", self.path, self.role, self.bytes)?;
        if let (Some(index), Some(term), Some(payload)) = (self.index, self.term, self.payload) {
            writeln!(
                f,
                "  group {} (epoch {}): up to {index} of term {term}, {payload} bytes of state, {} of {} chunks whole, digest {}",
                self.group.unwrap_or_default(),
                self.epoch.unwrap_or_default(),
                self.chunks_whole.unwrap_or_default(),
                self.chunks.unwrap_or_default(),
                self.digest.as_deref().unwrap_or("-"),
            )?;
            writeln!(
                f,
                "  voters {}, learners {}, live indexes {}",
                list_of(&self.voters),
                list_of(&self.learners),
                self.live.as_deref().unwrap_or("-"),
            )?;
        }
        match &self.damage {
            Some(damage) if !unfinished && self.role != SnapshotRole::Missing => {
                writeln!(f, "  damage: {damage}")
            }
            _ => Ok(()),
        }
    }
}

fn list_of(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
