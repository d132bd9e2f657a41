//! `compare`: two directories of one cluster, group by group and index by index.

use std::collections::BTreeSet;
use std::fmt;

use refloat_types::{GroupKey, Index, IndexSet};
use refloat_vfs::Vfs;
use serde::Serialize;

use super::fold::{Folded, Folds, differences, fold};
use super::group::holes;
use super::look::{Progress, doubts_of, in_words, settled};
use crate::boot::{Examination, examine};
use crate::error::BootError;
use crate::options::Options;
use crate::state::{GroupBoot, GroupState};

/// What one directory holds of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Holds {
    /// What a start could prove.
    pub state: GroupState,
    /// The term.
    pub term: u64,
    /// Who was voted for in it.
    pub vote: Option<u64>,
    /// The index of the snapshot that a start begins from.
    pub snapshot: u64,
    /// Its term.
    pub snapshot_term: u64,
    /// The index of the last entry.
    pub last: u64,
    /// Its term.
    pub last_term: u64,
    /// The lower bound known for the commit index.
    pub commit: u64,
    /// Indexes above the snapshot that cannot be read here.
    pub holes: String,
    /// Those of them that the other directory supplies, in the log or by its snapshot.
    pub filled_by_other: String,
}

/// How two logs stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Relation {
    /// Both are clean, and every index that both hold is the same entry. One may be longer.
    Agree,
    /// Something differs that replication, or healing from peers, puts right.
    Healable,
    /// An entry that both vouch for differs: acknowledged data was lost, or a rule of Raft broken.
    Contradiction,
}

/// An index at which two logs hold different entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Difference {
    /// The index.
    pub index: u64,
    /// Its term and digest in the first directory.
    pub first: String,
    /// Its term and digest in the second one.
    pub second: String,
    /// Why it is, or is not, a contradiction.
    pub meaning: String,
}

/// One group in both directories.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct GroupComparison {
    /// The group.
    pub group: u64,
    /// Its epoch.
    pub epoch: u64,
    /// How the logs stand to each other.
    pub relation: Relation,
    /// What the first directory holds; `None` if it does not know the group.
    pub first: Option<Holds>,
    /// What the second one holds.
    pub second: Option<Holds>,
    /// How many indexes both hold.
    pub common: u64,
    /// The lowest index at which they differ.
    pub difference: Option<Difference>,
}

/// Two directories.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// The cluster's name.
    pub cluster: String,
    /// The node of each.
    pub nodes: [u64; 2],
    /// The life of each.
    pub incarnations: [String; 2],
    /// All groups of either, ascending.
    pub groups: Vec<GroupComparison>,
    /// Where two readers of one directory differ. Not empty means a defect of the program.
    pub contradictions: Vec<String>,
}

impl Comparison {
    /// The worst relation of any group.
    #[must_use]
    pub fn relation(&self) -> Relation {
        self.groups.iter().map(|group| group.relation).max().unwrap_or(Relation::Agree)
    }
}

/// Reads both directories whole and compares them. Beside running nodes the two are not of one
/// moment: logs grow in between, which looks like one being longer.
///
/// # Errors
/// As [`examine`], for either; [`BootError::Refused`] if they are of two clusters.
pub fn compare(
    vfs: &dyn Vfs,
    first: &Options,
    second: &Options,
    progress: Progress<'_>,
) -> Result<Comparison, BootError> {
    let first = Side::read(vfs, first, &mut *progress)?;
    let second = Side::read(vfs, second, &mut *progress)?;
    let sides = [&first, &second];
    let [a, b] = sides.map(|side| side.seen.identity());
    if a.identity.cluster != b.identity.cluster {
        return Err(BootError::Refused {
            reason: format!(
                "two clusters: the first directory is node {} of cluster {:?} ({}), the second is node {} of cluster {:?} ({})",
                a.identity.member.node,
                a.cluster_name,
                a.identity.cluster,
                b.identity.member.node,
                b.cluster_name,
                b.identity.cluster
            ),
        });
    }
    let keys: BTreeSet<GroupKey> =
        sides.iter().flat_map(|side| side.folds.keys().copied()).collect();
    Ok(Comparison {
        cluster: a.cluster_name.clone(),
        nodes: [a, b].map(|id| id.identity.member.node.0),
        incarnations: [a, b].map(|id| id.identity.member.incarnation.to_string()),
        groups: keys.into_iter().map(|key| compare_group(&first, &second, key)).collect(),
        contradictions: sides.iter().flat_map(|side| side.contradictions.clone()).collect(),
    })
}

struct Side {
    seen: Examination,
    folds: Folds,
    contradictions: Vec<String>,
}

impl Side {
    fn read(vfs: &dyn Vfs, options: &Options, progress: Progress<'_>) -> Result<Side, BootError> {
        settled(|| {
            let seen = examine(vfs, options);
            let mut doubts = doubts_of(&seen);
            let side = seen.and_then(|seen| {
                let folds = fold(vfs, options, &seen, &mut *progress)?;
                let contradictions = differences(vfs, options, &seen, &folds);
                Ok(Side { seen, folds, contradictions })
            });
            match &side {
                Ok(side) => {
                    doubts.extend(side.contradictions.iter().cloned());
                    let lost = side.folds.values().flat_map(|fold| fold.lost.values());
                    doubts.extend(lost.map(|(_, why)| why.clone()));
                }
                Err(error) => doubts.push(in_words(error)),
            }
            (side, doubts)
        })
    }

    fn group(&self, key: GroupKey) -> Option<(&GroupBoot, &Folded)> {
        let group = self.seen.groups().iter().find(|group| group.key == key)?;
        Some((group, self.folds.get(&key)?))
    }
}

fn compare_group(first: &Side, second: &Side, key: GroupKey) -> GroupComparison {
    let (a, b) = (first.group(key), second.group(key));
    let mut common = 0;
    let mut difference = None;
    let mut relation = match (a, b) {
        (Some(_), Some(_)) => Relation::Agree,
        _ => Relation::Healable,
    };
    if let (Some(a), Some(b)) = (a, b) {
        let found = first_difference(a, b, &mut common);
        if let Some((worse, found)) = found {
            relation = relation.max(worse);
            difference = Some(found);
        }
    }
    let hold = |this: Option<(&GroupBoot, &Folded)>, other| this.map(|this| holds(this, other));
    let (a, b) = (hold(a, b), hold(b, a));
    let unclean = |h: &Holds| h.state != GroupState::Clean || h.holes != "{}";
    if a.iter().chain(&b).any(unclean) {
        relation = relation.max(Relation::Healable);
    }
    let (group, epoch) = (key.id.0, key.epoch.0);
    GroupComparison { group, epoch, relation, first: a, second: b, common, difference }
}

fn holds((group, folded): (&GroupBoot, &Folded), other: Option<(&GroupBoot, &Folded)>) -> Holds {
    let holes = holes(folded, group.snapshot.index.next(), group.last.index);
    let filled: IndexSet = match other {
        Some((boot, fold)) => holes
            .iter()
            .filter(|i| *i <= boot.snapshot.index || fold.entries.contains_key(i))
            .collect(),
        None => IndexSet::new(),
    };
    Holds {
        state: group.state,
        term: group.hard_state.term.0,
        vote: group.hard_state.vote.map(|member| member.node.0),
        snapshot: group.snapshot.index.0,
        snapshot_term: group.snapshot.term.0,
        last: group.last.index.0,
        last_term: group.last.term.0,
        commit: group.commit.0,
        holes: holes.to_string(),
        filled_by_other: filled.to_string(),
    }
}

/// The worst difference, and of equal ones the lowest. An index up to the commit index that a
/// directory knows is committed with the entry that it holds there; one term has one leader, so
/// one entry of one index and term is the same everywhere.
fn first_difference(
    a: (&GroupBoot, &Folded),
    b: (&GroupBoot, &Folded),
    common: &mut u64,
) -> Option<(Relation, Difference)> {
    let both_committed = a.0.commit.min(b.0.commit);
    let mut found: Option<(Relation, Difference)> = None;
    let mut note = |index: Index, first: String, second: String, same_term: bool| {
        let (relation, meaning) = if same_term {
            (
                Relation::Contradiction,
                "one term has one leader: one of them is not what was written",
            )
        } else if index <= both_committed {
            (Relation::Contradiction, "both know this index as committed")
        } else {
            (Relation::Healable, "not committed in both: the leader overwrites one of them")
        };
        if found.as_ref().is_none_or(|(worst, known)| {
            (relation, std::cmp::Reverse(index.0)) > (*worst, std::cmp::Reverse(known.index))
        }) {
            let meaning = meaning.to_owned();
            found = Some((relation, Difference { index: index.0, first, second, meaning }));
        }
    };
    for (index, mine) in &a.1.entries {
        let Some(theirs) = b.1.entries.get(index) else { continue };
        *common += 1;
        if (mine.term, mine.digest) != (theirs.term, theirs.digest) {
            let text = |held: &super::fold::Held| {
                format!("term {}, digest {} in {}", held.term, held.digest, held.place)
            };
            note(*index, text(mine), text(theirs), mine.term == theirs.term);
        }
    }
    // A snapshot's last entry is known by its term alone.
    for (snapshot, log, swapped) in [(a.0.snapshot, b.1, false), (b.0.snapshot, a.1, true)] {
        let Some(held) = log.entries.get(&snapshot.index) else { continue };
        if held.term != snapshot.term {
            let (s, l) = (
                format!("term {} by the snapshot", snapshot.term),
                format!("term {}, digest {} in {}", held.term, held.digest, held.place),
            );
            let (first, second) = if swapped { (l, s) } else { (s, l) };
            note(snapshot.index, first, second, false);
        }
    }
    if a.0.snapshot.index == b.0.snapshot.index && a.0.snapshot.term != b.0.snapshot.term {
        let text = |group: &GroupBoot| format!("term {} by the snapshot", group.snapshot.term);
        note(a.0.snapshot.index, text(a.0), text(b.0), false);
    }
    found
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Relation::Agree => "agree",
            Relation::Healable => "differ, and replication or healing puts it right",
            Relation::Contradiction => "CONTRADICT each other",
        })
    }
}

impl fmt::Display for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vote = self.vote.map_or("nobody".into(), |node| format!("node {node}"));
        write!(
            f,
            "{}, term {}, voted for {vote}, snapshot {}, last {} of term {}, commit {} or higher",
            self.state, self.term, self.snapshot, self.last, self.last_term, self.commit
        )?;
        if self.holes != "{}" {
            write!(f, ", holes {}, of which the other fills {}", self.holes, self.filled_by_other)?;
        }
        Ok(())
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b] = self.nodes;
        writeln!(f, "cluster {:?}: node {a} beside node {b}", self.cluster)?;
        for group in &self.groups {
            writeln!(
                f,
                "group {} (epoch {}): {}, {} entries in both",
                group.group, group.epoch, group.relation, group.common
            )?;
            for (node, holds) in [(a, &group.first), (b, &group.second)] {
                match holds {
                    Some(holds) => writeln!(f, "  node {node}: {holds}")?,
                    None => writeln!(f, "  node {node}: does not know the group")?,
                }
            }
            if let Some(Difference { index, first, second, meaning }) = &group.difference {
                writeln!(f, "  at {index}: {first}; {second}: {meaning}")?;
            }
        }
        for line in &self.contradictions {
            writeln!(f, "two readers differ: {line}")?;
        }
        Ok(())
    }
}
