//! `repair`: what can be put right on this disk without a peer, and nothing else.
//!
//! 1. **The identity.** A copy that is missing, bad or behind is written again from the good one.
//! 2. **Files that nothing names** go into `quarantine/`, under a name that says where they were.
//! 3. **The end of the logs** is finished as a start would: a torn write that was never
//!    acknowledged is dropped, a last batch that nothing proves durable is written again.
//!
//! Why this order: each step leaves a directory that a start reads as before, so a crash anywhere
//! leaves a repair that goes on where it stopped. A bad identity copy is moved aside only while
//! the other one is whole. A file is moved by one rename, its new name synced before the old
//! one's absence. The end of the logs is finished by the code of a start, which survives its own
//! crashes. What is done is not planned again, so a second repair finds nothing to do.
//!
//! **Acknowledged data is never cut.** While either log is damaged, or a listed segment is not
//! there, nothing of the logs and segments is touched at all: a file that nothing names may be
//! what is left of what is missing. A group that is not clean keeps its snapshot folder as it is.

mod apply;
mod plan;

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::boot::BootReport;

pub use apply::{RepairError, repair};
pub use plan::plan_repair;

/// One step of a repair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "action")]
#[non_exhaustive]
pub enum Action {
    /// Write one copy of the identity again from the other.
    RewriteIdentity {
        /// The copy.
        path: PathBuf,
        /// Where what stands there goes, if anything does.
        kept_as: Option<PathBuf>,
        /// What is wrong with it.
        reason: String,
    },
    /// Move a file that nothing names out of the way.
    SetAside {
        /// The file.
        path: PathBuf,
        /// Where it goes.
        to: PathBuf,
        /// What it is.
        reason: String,
    },
    /// End a log as a start would.
    FinishLog {
        /// The file that ends so.
        path: PathBuf,
        /// What its end looks like.
        reason: String,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::RewriteIdentity { path, kept_as, reason } => {
                write!(f, "write {} again from the other copy: {reason}", path.display())?;
                match kept_as {
                    Some(kept) => write!(f, " (kept as {})", kept.display()),
                    None => Ok(()),
                }
            }
            Action::SetAside { path, to, reason } => {
                write!(f, "move {} to {}: {reason}", path.display(), to.display())
            }
            Action::FinishLog { path, reason } => {
                write!(f, "end the log behind {}: {reason}", path.display())
            }
        }
    }
}

/// What a repair does, or did.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// The steps, in order.
    pub actions: Vec<Action>,
    /// What is not touched, and who can heal it.
    pub left: Vec<String>,
    /// What the directory is like; after a repair, what it has become.
    pub report: BootReport,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for action in &self.actions {
            writeln!(f, "{action}")?;
        }
        if self.actions.is_empty() {
            writeln!(f, "nothing to do")?;
        }
        for line in &self.left {
            writeln!(f, "left alone: {line}")?;
        }
        Ok(())
    }
}
