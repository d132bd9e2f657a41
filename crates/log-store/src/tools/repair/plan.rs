//! What there is to do.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use refloat_snapshot::{group_dir, leftovers};
use refloat_vfs::Vfs;
use refloat_wal::{FileReport, Scan, Verdict};

use super::{Action, Plan};
use crate::boot::{Examination, refuse_if_nothing_is_left};
use crate::error::BootError;
use crate::identity::{self, CopyState};
use crate::options::Options;
use crate::state::{GroupBoot, GroupState};
use crate::store::with_cause;
use crate::tools::look::{Progress, look};

/// Plans a repair, and changes nothing. Takes no lock: beside a running node the plan is a
/// picture of one moment, and [`super::repair()`] would refuse.
///
/// # Errors
/// As [`crate::tools::check`].
pub fn plan_repair(
    vfs: &dyn Vfs,
    options: &Options,
    progress: Progress<'_>,
) -> Result<Plan, BootError> {
    let seen = look(vfs, options, progress)?;
    refuse_if_nothing_is_left(&seen)?;
    let mut planner = Planner {
        vfs,
        options,
        taken: BTreeSet::new(),
        plan: Plan { actions: Vec::new(), left: Vec::new(), report: seen.report().clone() },
    };
    planner.identity(&seen)?;
    planner.files(&seen)?;
    planner.logs(&seen);
    planner.groups(&seen);
    Ok(planner.plan)
}

struct Planner<'a> {
    vfs: &'a dyn Vfs,
    options: &'a Options,
    /// Names in the quarantine that this plan gives out.
    taken: BTreeSet<PathBuf>,
    plan: Plan,
}

impl Planner<'_> {
    fn identity(&mut self, seen: &Examination) -> Result<(), BootError> {
        for name in ["identity.a.tmp", "identity.b.tmp"] {
            let path = self.options.dir.join(name);
            let exists = self.vfs.exists(&path);
            if exists.map_err(|source| BootError::Io { path: path.clone(), source })? {
                self.set_aside(&path, "left by a crash")?;
            }
        }
        for (path, state) in identity::copies(self.vfs, &self.options.dir, seen.identity()) {
            let (reason, is_there) = match state {
                CopyState::Good => continue,
                CopyState::Missing => ("missing".to_owned(), false),
                CopyState::Bad(why) => (why, true),
                CopyState::Behind(run) => (format!("behind: it says run {run}"), false),
            };
            let kept_as = if is_there { Some(self.place_for(&path)?) } else { None };
            self.plan.actions.push(Action::RewriteIdentity { path, kept_as, reason });
        }
        Ok(())
    }

    /// Files that nothing names, where it is known that nothing names them.
    fn files(&mut self, seen: &Examination) -> Result<(), BootError> {
        let strays = seen.wal.iter().chain(&seen.votes).flat_map(|scan| &scan.strays);
        let is_evidence = |path: &&PathBuf| path.extension().is_some_and(|e| e == "bad");
        let strangers = seen.segments.strangers.iter().filter(|path| !is_evidence(path));
        let unknown = strays.chain(strangers).map(|path| (path, "of unknown origin"));
        let retired = seen.retired.segments.iter().map(|path| (path, "nothing names it"));
        let rotten = seen.retired.damaged_segments.iter();
        let rotten = rotten.map(|path| (path, "nothing names it, and it does not verify"));
        for (path, reason) in unknown.chain(retired).chain(rotten) {
            match is_whole(seen) {
                true => self.set_aside(path, reason)?,
                false => self.plan.left.push(format!(
                    "{}: {reason}, and it may be what is left of what is missing",
                    path.display()
                )),
            }
        }
        seen.groups().iter().try_for_each(|group| self.snapshots(seen, group))
    }

    /// Receptions stay, since they go on; so do damaged snapshots that were set aside.
    fn snapshots(&mut self, seen: &Examination, group: &GroupBoot) -> Result<(), BootError> {
        let dir = group_dir(&self.options.snapshot_root(), group.key);
        let left = leftovers(self.vfs, &dir)
            .map_err(|error| BootError::Refused { reason: with_cause(&error) })?;
        let is_evidence = |path: &&PathBuf| path.extension().is_some_and(|e| e == "bad");
        let strays = left.strays.iter().filter(|path| !is_evidence(path));
        let retired = seen.retired.snapshots.iter().filter(|path| path.starts_with(&dir));
        let files = strays
            .map(|path| (path, "of unknown origin"))
            .chain(retired.map(|path| (path, "nothing names it")));
        for (path, reason) in files {
            match group.state == GroupState::Clean && is_whole(seen) {
                true => self.set_aside(path, reason)?,
                false => self.plan.left.push(format!(
                    "{}: {reason}, and it may be what is left of what is missing",
                    path.display()
                )),
            }
        }
        Ok(())
    }

    /// A damaged log is left to a start: it can end it too, and knows peers.
    fn logs(&mut self, seen: &Examination) {
        let open: Vec<(&FileReport, String)> =
            seen.wal.iter().chain(&seen.votes).filter_map(open_end).collect();
        for (file, reason) in open {
            let path = file.path.clone();
            match is_whole(seen) {
                true => self.plan.actions.push(Action::FinishLog { path, reason }),
                false => self.plan.left.push(format!(
                    "{}: {reason}; the log is damaged, so it is left to a start",
                    path.display()
                )),
            }
        }
    }

    fn groups(&mut self, seen: &Examination) {
        for group in seen.groups() {
            if let Some(why) = &group.waits_for {
                let line = format!(
                    "group {} is {}: only its peers can heal it: {why}",
                    group.key, group.state
                );
                self.plan.left.push(line);
            }
        }
    }

    fn set_aside(&mut self, path: &Path, reason: &str) -> Result<(), BootError> {
        let (path, to, reason) = (path.to_path_buf(), self.place_for(path)?, reason.to_owned());
        self.plan.actions.push(Action::SetAside { path, to, reason });
        Ok(())
    }

    /// A free name in the quarantine that says where the file was.
    fn place_for(&mut self, path: &Path) -> Result<PathBuf, BootError> {
        let inside = path.strip_prefix(&self.options.dir).unwrap_or(path);
        let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
        let name = parts.join("-");
        let dir = self.options.dir.join("quarantine");
        for n in 1u32.. {
            let to = match n {
                1 => dir.join(&name),
                n => dir.join(format!("{name}.{n}")),
            };
            let taken = self.vfs.exists(&to).or_else(absent);
            let taken = taken.map_err(|source| BootError::Io { path: to.clone(), source })?;
            if !taken && self.taken.insert(to.clone()) {
                return Ok(to);
            }
        }
        Err(BootError::Refused { reason: format!("{} is full", dir.display()) })
    }
}

fn absent(error: io::Error) -> io::Result<bool> {
    if error.kind() == io::ErrorKind::NotFound { Ok(false) } else { Err(error) }
}

/// Whether everything that the records name is there: only then is a file that they do not name
/// known to be of no use.
fn is_whole(seen: &Examination) -> bool {
    let logs = seen.wal.iter().chain(&seen.votes);
    let no_damage = logs.flat_map(|scan| &scan.damage).next().is_none();
    no_damage && seen.replay.unreadable.is_empty() && seen.segments.damage.is_empty()
}

/// The newest file of a log, if its end is not one that a writer left in order.
fn open_end(scan: &Scan) -> Option<(&FileReport, String)> {
    let file = scan.files.iter().rev().find(|file| file.verdict != Verdict::NeverExisted)?;
    let reason = match file.verdict {
        Verdict::Torn { blocks } => {
            format!("torn: {blocks} blocks of a write that was never acknowledged are dropped")
        }
        Verdict::Unproven => {
            "its last batch is whole and nothing proves it durable: it is written again".into()
        }
        _ => return None,
    };
    Some((file, reason))
}
