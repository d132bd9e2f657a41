//! Doing it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use refloat_types::Now;
use refloat_vfs::Vfs;

use super::plan::plan_repair;
use super::{Action, Plan};
use crate::boot::boot;
use crate::error::BootError;
use crate::identity::{self, NodeIdentity};
use crate::options::Options;
use crate::store::run_jobs;
use crate::tools::look::{Progress, look};

/// Why a repair ended before its end. What it did so far stays done, and the next one goes on.
#[derive(Debug)]
#[non_exhaustive]
pub enum RepairError {
    /// The directory does not open: as a start would answer.
    Boot(BootError),
    /// A write, a rename or a sync failed.
    Write {
        /// What was changed.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl fmt::Display for RepairError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RepairError::Boot(error) => error.fmt(f),
            RepairError::Write { path, .. } => write!(f, "cannot repair {}", path.display()),
        }
    }
}

impl std::error::Error for RepairError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RepairError::Boot(error) => error.source(),
            RepairError::Write { source, .. } => Some(source),
        }
    }
}

impl From<BootError> for RepairError {
    fn from(error: BootError) -> RepairError {
        RepairError::Boot(error)
    }
}

fn writing(path: &Path) -> impl FnOnce(io::Error) -> RepairError {
    let path = path.to_path_buf();
    move |source| RepairError::Write { path, source }
}

/// Repairs a directory that no node uses. When it returns, everything it did is durable, and what
/// it moved is in `quarantine/`. Safe to cut off anywhere, and to run again.
///
/// # Errors
/// [`BootError::InUse`] beside a running node; as [`crate::examine`]; or a write failed.
pub fn repair(
    vfs: &Arc<dyn Vfs>,
    options: &Options,
    progress: Progress<'_>,
) -> Result<Plan, RepairError> {
    // Before the lock file is made, so that a directory without identity stays as it is.
    let identity = identity::load(vfs.as_ref(), &options.dir).map_err(BootError::from)?;
    let lock = crate::boot::lock(vfs.as_ref(), &options.dir)?;
    let mut plan = plan_repair(vfs.as_ref(), options, &mut *progress)?;
    let mut finish = false;
    for action in &plan.actions {
        progress(&action.to_string());
        match action {
            Action::FinishLog { .. } => finish = true,
            other => carry_out(vfs.as_ref(), &options.dir, &identity, other)?,
        }
    }
    drop(lock);
    if finish {
        end_logs(vfs, options)?;
    }
    plan.report = look(vfs.as_ref(), options, progress)?.report().clone();
    Ok(plan)
}

fn carry_out(
    vfs: &dyn Vfs,
    dir: &Path,
    identity: &NodeIdentity,
    action: &Action,
) -> Result<(), RepairError> {
    match action {
        Action::RewriteIdentity { path, kept_as, .. } => {
            if let Some(kept) = kept_as {
                set_aside(vfs, dir, path, kept)?;
            }
            identity::rewrite_copy(vfs, path, identity).map_err(writing(path))
        }
        Action::SetAside { path, to, .. } => set_aside(vfs, dir, path, to),
        Action::FinishLog { .. } => Ok(()),
    }
}

/// Moves a file into the quarantine: at any moment it has a durable name.
fn set_aside(vfs: &dyn Vfs, dir: &Path, from: &Path, to: &Path) -> Result<(), RepairError> {
    let quarantine = to.parent().unwrap_or(dir);
    match vfs.create_dir(quarantine) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(writing(quarantine)(e)),
        _ => vfs.sync_dir(dir).map_err(writing(dir))?,
    }
    vfs.rename(from, to).map_err(writing(from))?;
    vfs.sync_dir(quarantine).map_err(writing(quarantine))?;
    let old = from.parent().unwrap_or(dir);
    vfs.sync_dir(old).map_err(writing(old))
}

/// Ends both logs by the code of a start, which locks the directory by itself, and of an orderly
/// stop. Nothing else that a start would begin is done.
fn end_logs(vfs: &Arc<dyn Vfs>, options: &Options) -> Result<(), RepairError> {
    let mut store = boot(vfs, options.clone())?.store;
    store.close();
    run_jobs(&mut store, vfs, Now(0))
        .map_err(|poisoned| RepairError::Boot(BootError::Poisoned { reason: poisoned.reason }))
}
