//! `inspect group`: the whole story of one group.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use refloat_types::{Epoch, GroupId, GroupKey, HardState, Index, IndexSet, Member};
use refloat_vfs::Vfs;
use refloat_wal::{Damage, Owners};
use serde::Serialize;

use super::fold::{Folded, Folds, Place, differences, fold};
use super::look::{Progress, doubts_of, in_words, settled};
use super::segments::Span;
use super::snapshots::{self, SnapshotReport};
use crate::boot::{Examination, examine};
use crate::error::BootError;
use crate::options::Options;
use crate::state::GroupState;

/// Which group: `7`, or `7/3` for its life of epoch 3. Without an epoch the newest life is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The group.
    pub id: GroupId,
    /// Its life, where it matters.
    pub epoch: Option<Epoch>,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Wanted, String> {
        let wrong = |_| format!("'{text}' is no group such as 7, or 7/3 for epoch 3 of it");
        let (id, epoch) = match text.split_once('/') {
            Some((id, epoch)) => (id, Some(Epoch(epoch.parse().map_err(wrong)?))),
            None => (text, None),
        };
        Ok(Wanted { id: GroupId(id.parse().map_err(wrong)?), epoch })
    }
}

/// Term and vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Vote {
    /// The term.
    pub term: u64,
    /// Who was voted for in it, `node:incarnation`.
    pub vote: Option<String>,
}

/// Consecutive entries that stand in one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Range {
    /// The file, below the data directory. A log file's entries make the memtable of that number
    /// at a start.
    pub source: String,
    /// The first index.
    pub first: u64,
    /// The last index.
    pub last: u64,
    /// Runs of one term.
    pub terms: Vec<Span>,
}

/// All that a directory says of one group.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct GroupStory {
    /// The group.
    pub group: u64,
    /// Its epoch.
    pub epoch: u64,
    /// Other lives of it in this directory.
    pub other_epochs: Vec<u64>,
    /// What a start could prove.
    pub state: GroupState,
    /// Why, and what it waits for, if it is not clean.
    pub waits_for: Option<String>,
    /// Term and vote, the later of both logs.
    pub hard_state: Vote,
    /// What the main log says of it.
    pub by_log: Vote,
    /// What the votes log says of it.
    pub by_votes_log: Vote,
    /// The voters at the snapshot, or those the group was created with.
    pub voters: Vec<String>,
    /// The learners.
    pub learners: Vec<String>,
    /// Indexes of membership entries above the snapshot.
    pub configs: Vec<u64>,
    /// The index of the snapshot that a start begins from; 0 for none.
    pub snapshot: u64,
    /// Its term.
    pub snapshot_term: u64,
    /// The index of the last entry.
    pub last: u64,
    /// Its term.
    pub last_term: u64,
    /// The commit hint as it stands on the disk.
    pub commit_hint: u64,
    /// The commit index that a start believes: the hint, at least the snapshot, at most the log.
    pub commit: u64,
    /// Where the entries stand, ascending.
    pub log: Vec<Range>,
    /// Indexes between the snapshot and the end that no intact record or segment supplies.
    pub holes: String,
    /// What is known of entries that were named and do not verify.
    pub lost: Vec<String>,
    /// Damage of the log that may concern the group.
    pub suspicions: Vec<String>,
    /// The group's snapshot files.
    pub snapshots: Vec<SnapshotReport>,
    /// Where two independent readers differ. Not empty means a defect of the program.
    pub contradictions: Vec<String>,
}

impl GroupStory {
    /// Whether the group is clean and every entry above its snapshot reads back.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.state == GroupState::Clean && self.lost.is_empty()
    }
}

/// Tells the whole story of a group; `None` if the directory has no such group.
///
/// # Errors
/// As [`examine`].
pub fn inspect_group(
    vfs: &dyn Vfs,
    options: &Options,
    wanted: Wanted,
    progress: Progress<'_>,
) -> Result<Option<GroupStory>, BootError> {
    settled(|| {
        let seen = examine(vfs, options);
        let mut doubts = doubts_of(&seen);
        let story = seen.and_then(|seen| story(vfs, options, &seen, wanted, &mut *progress));
        match &story {
            Ok(Some(story)) => {
                doubts.extend(story.lost.iter().cloned());
                doubts.extend(story.contradictions.iter().cloned());
            }
            Ok(None) => {}
            Err(error) => doubts.push(in_words(error)),
        }
        (story, doubts)
    })
}

fn story(
    vfs: &dyn Vfs,
    options: &Options,
    seen: &Examination,
    wanted: Wanted,
    progress: Progress<'_>,
) -> Result<Option<GroupStory>, BootError> {
    let lives = |group: &&crate::state::GroupBoot| group.key.id == wanted.id;
    let matches = |key: GroupKey| wanted.epoch.is_none_or(|epoch| epoch == key.epoch);
    let groups: Vec<_> = seen.groups().iter().filter(lives).collect();
    let Some(group) = groups.iter().rev().find(|group| matches(group.key)) else {
        return Ok(None);
    };
    let key = group.key;
    let folds: Folds = fold(vfs, options, seen, &mut *progress)?;
    let nothing = Folded::default();
    let folded = folds.get(&key).unwrap_or(&nothing);
    let above = group.snapshot.index.next();
    let names = |members: &[Member]| members.iter().map(ToString::to_string).collect();
    let contradictions = differences(vfs, options, seen, &folds);
    let start = format!("group {key}:");
    Ok(Some(GroupStory {
        group: key.id.0,
        epoch: key.epoch.0,
        other_epochs: groups.iter().map(|g| g.key.epoch.0).filter(|e| *e != key.epoch.0).collect(),
        state: group.state,
        waits_for: group.waits_for.clone(),
        hard_state: vote(group.hard_state),
        by_log: vote(folded.by_log),
        by_votes_log: vote(folded.by_votes),
        voters: names(&group.conf.voters),
        learners: names(&group.conf.learners),
        configs: group.configs.iter().map(|entry| entry.id.index.0).collect(),
        snapshot: group.snapshot.index.0,
        snapshot_term: group.snapshot.term.0,
        last: group.last.index.0,
        last_term: group.last.term.0,
        commit_hint: folded.hint.0,
        commit: group.commit.0,
        log: ranges(folded),
        holes: holes(folded, above, group.last.index).to_string(),
        lost: lost(folded, above),
        suspicions: suspicions(seen, key),
        snapshots: snapshots::all(vfs, options, seen, Some(key), progress)?,
        contradictions: contradictions.into_iter().filter(|d| d.starts_with(&start)).collect(),
    }))
}

fn vote(hard_state: HardState) -> Vote {
    Vote { term: hard_state.term.0, vote: hard_state.vote.map(|member| member.to_string()) }
}

fn ranges(folded: &Folded) -> Vec<Range> {
    let mut ranges: Vec<(Place, Range)> = Vec::new();
    for (index, held) in &folded.entries {
        let index = index.0;
        let span = Span { term: held.term.0, first: index, last: index };
        match ranges.last_mut() {
            Some((place, range)) if *place == held.place && range.last + 1 == index => {
                range.last = index;
                match range.terms.last_mut() {
                    Some(run) if run.term == span.term => run.last = index,
                    _ => range.terms.push(span),
                }
            }
            _ => {
                let source = held.place.to_string();
                let range = Range { source, first: index, last: index, terms: vec![span] };
                ranges.push((held.place, range));
            }
        }
    }
    ranges.into_iter().map(|(_, range)| range).collect()
}

/// What no intact copy supplies between two indexes.
pub(super) fn holes(folded: &Folded, above: Index, last: Index) -> IndexSet {
    let mut holes = IndexSet::new();
    let mut next = above;
    for index in folded.entries.range(above..).map(|(index, _)| *index) {
        if next < index {
            holes.insert_range(next, index.prev());
        }
        next = index.next();
    }
    let named = folded.lost.keys().next_back().copied().unwrap_or_default();
    if next <= last.max(named) {
        holes.insert_range(next, last.max(named));
    }
    holes
}

/// Neighbours that were lost for one reason are told together.
fn lost(folded: &Folded, above: Index) -> Vec<String> {
    let mut by_reason: BTreeMap<&str, IndexSet> = BTreeMap::new();
    for (index, (_, why)) in folded.lost.range(above..) {
        by_reason.entry(why).or_default().insert(*index);
    }
    by_reason.into_iter().map(|(why, entries)| format!("entries {entries}: {why}")).collect()
}

fn suspicions(seen: &Examination, key: GroupKey) -> Vec<String> {
    let concerns = |damage: &&Damage| match &damage.owners {
        Owners::Known(groups) => groups.contains(&key),
        Owners::Unknown => true,
    };
    let logs = seen.wal.iter().chain(&seen.votes);
    logs.flat_map(|scan| &scan.damage).filter(concerns).map(ToString::to_string).collect()
}

impl fmt::Display for Vote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.vote {
            Some(member) => write!(f, "term {}, voted for {member}", self.term),
            None => write!(f, "term {}, voted for nobody", self.term),
        }
    }
}

impl fmt::Display for GroupStory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "group {} (epoch {}): {}", self.group, self.epoch, self.state)?;
        if let Some(why) = &self.waits_for {
            writeln!(f, "waits for: {why}")?;
        }
        if !self.other_epochs.is_empty() {
            writeln!(f, "other epochs here: {:?}", self.other_epochs)?;
        }
        writeln!(f, "hard state: {}", self.hard_state)?;
        writeln!(f, "  by the log: {}", self.by_log)?;
        writeln!(f, "  by the votes log: {}", self.by_votes_log)?;
        writeln!(f, "voters: {}", self.voters.join(", "))?;
        if !self.learners.is_empty() {
            writeln!(f, "learners: {}", self.learners.join(", "))?;
        }
        if !self.configs.is_empty() {
            writeln!(f, "membership changes at: {:?}", self.configs)?;
        }
        match self.snapshot {
            0 => writeln!(f, "starts from: the beginning, there is no snapshot")?,
            index => writeln!(f, "starts from: snapshot {index} of term {}", self.snapshot_term)?,
        }
        for snapshot in &self.snapshots {
            write!(f, "{snapshot}")?;
        }
        writeln!(f, "log: up to {} of term {}", self.last, self.last_term)?;
        for range in &self.log {
            write!(f, "  {} to {} in {}", range.first, range.last, range.source)?;
            for run in &range.terms {
                write!(f, ", {} to {} of term {}", run.first, run.last, run.term)?;
            }
            writeln!(f)?;
        }
        writeln!(f, "commit: {} or higher (hint on disk: {})", self.commit, self.commit_hint)?;
        writeln!(f, "holes: {}", if self.holes == "{}" { "none" } else { &self.holes })?;
        for (title, lines) in [
            ("lost", &self.lost),
            ("suspicion", &self.suspicions),
            ("two readers differ", &self.contradictions),
        ] {
            for line in lines {
                writeln!(f, "{title}: {line}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_named_by_its_number_and_maybe_its_epoch() {
        let group = |id, epoch| Wanted { id: GroupId(id), epoch };
        assert_eq!("7".parse(), Ok(group(7, None)));
        assert_eq!("7/3".parse(), Ok(group(7, Some(Epoch(3)))));
        for text in ["", "x", "7/", "/3", "7/x", "-1", "7@3"] {
            assert!(text.parse::<Wanted>().unwrap_err().contains("7/3"), "{text}");
        }
    }
}
