//! What a boot read, repaired, set aside and could not prove, for people and for programs.

use std::fmt;

use serde::Serialize;

use crate::state::GroupState;

/// The account of one boot, or of one look at a directory by a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BootReport {
    /// The node.
    pub node: u64,
    /// Its life, as 32 hex digits.
    pub incarnation: String,
    /// The cluster's name.
    pub cluster: String,
    /// How often the node was started before.
    pub run: u64,
    /// The files of both logs, in order.
    pub files: Vec<FileLine>,
    /// Damage found in the logs, in order.
    pub damage: Vec<String>,
    /// Segments: how many are live.
    pub segments: u64,
    /// What was put right: torn tails dropped, hints clamped, segments adopted.
    pub repaired: Vec<String>,
    /// Files that nothing names: leftovers that were retired, and files of unknown origin.
    pub set_aside: Vec<String>,
    /// Whether log files came or went while they were read: somebody writes to the directory, and
    /// what looks like damage may be none.
    pub moved: bool,
    /// The groups.
    pub groups: Vec<GroupLine>,
}

/// One log file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FileLine {
    /// Where it is.
    pub path: String,
    /// How many whole batches it holds.
    pub batches: u64,
    /// Where its last whole batch ends, in bytes.
    pub end: u64,
    /// What its end looks like.
    pub verdict: String,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GroupLine {
    /// Its id.
    pub group: u64,
    /// Its epoch.
    pub epoch: u64,
    /// What could be proven.
    pub state: GroupState,
    /// What it waits for if it is not clean, with the evidence.
    pub waits_for: Option<String>,
    /// Its term.
    pub term: u64,
    /// The node it voted for in that term.
    pub vote: Option<u64>,
    /// The index of its newest snapshot; 0 if none.
    pub snapshot: u64,
    /// The index of its last entry.
    pub last: u64,
    /// The lower bound known for its commit index.
    pub commit: u64,
}

impl BootReport {
    /// Whether every group is clean.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.groups.iter().all(|g| g.state == GroupState::Clean)
    }

    /// One line: what a person wants to see first.
    #[must_use]
    pub fn summary(&self) -> String {
        let batches: u64 = self.files.iter().map(|f| f.batches).sum();
        let clean = self.groups.iter().filter(|g| g.state == GroupState::Clean).count();
        let mut text = format!(
            "node {}: read {} log files with {batches} batches, {} segments; {clean} of {} groups clean",
            self.node,
            self.files.len(),
            self.segments,
            self.groups.len()
        );
        for line in self.repaired.iter().chain(&self.damage) {
            text.push_str("; ");
            text.push_str(line);
        }
        text
    }
}

impl fmt::Display for BootReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "node {} of cluster {:?}, incarnation {}, started {} times before",
            self.node, self.cluster, self.incarnation, self.run
        )?;
        for file in &self.files {
            writeln!(
                f,
                "log file {}: {} batches, ends at {}, {}",
                file.path, file.batches, file.end, file.verdict
            )?;
        }
        writeln!(f, "segments: {}", self.segments)?;
        if self.moved {
            writeln!(f, "log files came or went meanwhile: somebody writes to this directory")?;
        }
        for (title, lines) in
            [("repaired", &self.repaired), ("set aside", &self.set_aside), ("damage", &self.damage)]
        {
            for line in lines {
                writeln!(f, "{title}: {line}")?;
            }
        }
        for g in &self.groups {
            let vote = g.vote.map_or("nobody".into(), |n| format!("node {n}"));
            writeln!(
                f,
                "group {} (epoch {}): {}, term {}, voted for {vote}, snapshot {}, last {}, commit {} or higher",
                g.group, g.epoch, g.state, g.term, g.snapshot, g.last, g.commit
            )?;
            if let Some(why) = &g.waits_for {
                writeln!(f, "  waits for: {why}")?;
            }
        }
        Ok(())
    }
}
