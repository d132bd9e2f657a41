//! `check`: what a start would say, and what reading every entry adds to it.

use std::fmt;

use refloat_types::{GroupKey, Index, IndexSet};
use refloat_vfs::Vfs;
use serde::Serialize;

use super::fold::{Folds, differences, fold};
use super::look::{Progress, doubts_of, settled};
use super::snapshots::{SnapshotReport, SnapshotRole, all};
use crate::boot::{BootReport, Examination, examine, refuse_if_nothing_is_left};
use crate::error::BootError;
use crate::options::Options;
use crate::state::GroupState;

/// The account of a directory.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Checked {
    /// What a start would report.
    #[serde(flatten)]
    pub report: BootReport,
    /// Entries that a start counts as present and that do not verify when read.
    pub unreadable: Vec<Unreadable>,
    /// Snapshots that a record names and that do not verify, or are not there.
    pub snapshots: Vec<BadSnapshot>,
    /// Where two independent readers differ. Not empty means a defect of the program.
    pub contradictions: Vec<String>,
}

/// Entries of a group that are listed somewhere and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Unreadable {
    /// The group.
    pub group: u64,
    /// Its epoch.
    pub epoch: u64,
    /// Which entries, as `{3, 7..=9}`.
    pub entries: String,
    /// What is wrong with the first of them, with file and offset.
    pub evidence: String,
}

/// A snapshot that cannot serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BadSnapshot {
    /// The group.
    pub group: u64,
    /// Its epoch.
    pub epoch: u64,
    /// The index of the last entry that its state contains.
    pub index: u64,
    /// What is wrong with it, with file and offset.
    pub evidence: String,
}

impl Checked {
    /// Whether every group is clean, every entry above the snapshots reads back and every one to
    /// which they refer, and every snapshot verifies. Torn tails are clean, and so is damage in a log that took nothing, or that healed.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.report.is_clean() && self.damaged_places() == 0
    }

    /// How many places are damaged that only reading everything finds, those included that have a
    /// second copy.
    #[must_use]
    pub fn damaged_places(&self) -> usize {
        self.unreadable.len() + self.snapshots.len()
    }

    /// How many groups are not.
    #[must_use]
    pub fn unclean_groups(&self) -> usize {
        let group = |g: &&crate::boot::GroupLine| {
            g.state != GroupState::Clean
                || self.unreadable.iter().any(|u| (u.group, u.epoch) == (g.group, g.epoch))
        };
        self.report.groups.iter().filter(group).count()
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.report.fmt(f)?;
        for Unreadable { group, epoch, entries, evidence } in &self.unreadable {
            writeln!(
                f,
                "group {group} (epoch {epoch}): entries {entries} are listed and do not verify: {evidence}"
            )?;
        }
        for BadSnapshot { group, epoch, index, evidence } in &self.snapshots {
            writeln!(
                f,
                "group {group} (epoch {epoch}): the snapshot up to {index} does not serve: {evidence}"
            )?;
        }
        for line in &self.contradictions {
            writeln!(f, "two readers differ: {line}")?;
        }
        Ok(())
    }
}

/// Examines a directory, reads every entry, and compares both readings.
///
/// # Errors
/// As a start would answer: as [`examine`], and [`BootError::NothingSurvives`] where no group
/// could run.
pub fn check(
    vfs: &dyn Vfs,
    options: &Options,
    progress: Progress<'_>,
) -> Result<Checked, BootError> {
    settled(|| {
        progress("both logs, segments and snapshots");
        let seen = examine(vfs, options);
        let mut doubts = doubts_of(&seen);
        let checked = seen.and_then(|seen| {
            seen.identity.refuse_if_recovering(&options.dir)?;
            refuse_if_nothing_is_left(&seen)?;
            let folds = fold(vfs, options, &seen, &mut *progress)?;
            let snapshots = all(vfs, options, &seen, None, &mut *progress)?;
            Ok(Checked {
                snapshots: snapshots.iter().filter_map(bad_snapshot).collect(),
                report: seen.report().clone(),
                unreadable: folds
                    .keys()
                    .filter_map(|key| unreadable(&seen, &folds, *key))
                    .collect(),
                contradictions: differences(vfs, options, &seen, &folds),
            })
        });
        match &checked {
            Ok(checked) => {
                doubts.extend(checked.unreadable.iter().map(|u| u.evidence.clone()));
                doubts.extend(checked.snapshots.iter().map(|s| s.evidence.clone()));
                doubts.extend(checked.contradictions.iter().cloned());
            }
            Err(error) => doubts.push(super::look::in_words(error)),
        }
        (checked, doubts)
    })
}

/// A start reads the snapshot that it begins with; its fallback is read here only.
fn bad_snapshot(snapshot: &SnapshotReport) -> Option<BadSnapshot> {
    let damage = snapshot.damage.as_ref()?;
    let named = matches!(
        snapshot.role,
        SnapshotRole::Newest | SnapshotRole::Previous | SnapshotRole::Missing
    );
    named.then(|| BadSnapshot {
        group: snapshot.group.unwrap_or_default(),
        epoch: snapshot.epoch.unwrap_or_default(),
        index: snapshot.index.unwrap_or_default(),
        evidence: match damage.contains(&snapshot.path) {
            true => damage.clone(),
            false => format!("{}: {damage}", snapshot.path),
        },
    })
}

/// What only reading everything found: the start's own holes are in its report.
fn unreadable(seen: &Examination, folds: &Folds, key: GroupKey) -> Option<Unreadable> {
    let group = seen.groups().iter().find(|group| group.key == key)?;
    let map = seen.maps.get(&key)?;
    let live = seen.live.get(&key);
    let is_needed = |index: Index| match index > group.snapshot.index {
        true => map.term(index).is_some(),
        false => live.is_some_and(|live| live.contains(index)),
    };
    let fold = folds.get(&key)?;
    let lost = fold.lost_live.iter().chain(&fold.lost);
    let lost: Vec<_> = lost.filter(|(index, _)| is_needed(**index)).collect();
    let mut entries: IndexSet = lost.iter().map(|(index, _)| **index).collect();
    group.lost_live.ranges().iter().for_each(|(first, last)| entries.insert_range(*first, *last));
    let nowhere = || "the snapshot refers to them, and they are nowhere".to_owned();
    let evidence = lost.first().map_or_else(nowhere, |(_, (_, evidence))| evidence.clone());
    if entries.is_empty() {
        return None;
    }
    Some(Unreadable { group: key.id.0, epoch: key.epoch.0, entries: entries.to_string(), evidence })
}
