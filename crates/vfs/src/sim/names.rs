//! Names in directories: what is durable, what is visible, and the changes between.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::sync::Arc;

/// What a name stands for; never used twice.
pub(super) type Ino = u64;

pub(super) type Names = BTreeMap<OsString, Ino>;

#[derive(Clone, Debug, Default)]
pub(super) struct Dir {
    pub(super) durable: Names,
    pub(super) visible: Names,
}

pub(super) type Dirs = BTreeMap<Ino, Arc<Dir>>;

/// One change of names that no directory sync has made durable yet.
#[derive(Clone, Debug)]
pub(super) struct NameChange {
    pub(super) seq: u64,
    pub(super) what: Change,
    /// Directories whose sync failed while this waited for it. The system has dropped it from its
    /// list of work: a later sync of them succeeds and does nothing for it.
    given_up_by: BTreeSet<Ino>,
}

impl NameChange {
    pub(super) fn new(seq: u64, what: Change) -> NameChange {
        NameChange { seq, what, given_up_by: BTreeSet::new() }
    }

    /// All that decides what may become of it.
    pub(super) fn outline(&self) -> String {
        format!("{:?} {:?}", self.what, self.given_up_by)
    }

    /// Goes on with what is left of it; whether anything is.
    fn replace(&mut self, rest: Option<Change>) -> bool {
        match rest {
            Some(rest) => {
                self.what = rest;
                true
            }
            None => false,
        }
    }

    /// Lets syncs of every directory work for it again.
    pub(super) fn recall(&mut self) {
        self.given_up_by.clear();
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Link { dir: Ino, name: OsString, ino: Ino },
    Unlink { dir: Ino, name: OsString, ino: Ino },
    Rename { from: (Ino, OsString), to: (Ino, OsString), ino: Ino },
}

/// What a crash may make of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Whole,
    /// The file has its new name, and still the old one.
    NewNameOnly,
}

#[derive(Clone, Copy)]
enum View {
    Durable,
    Visible,
}

impl Change {
    /// The file or directory whose name changes.
    pub(super) fn ino(&self) -> Ino {
        match self {
            Change::Link { ino, .. } | Change::Unlink { ino, .. } | Change::Rename { ino, .. } => {
                *ino
            }
        }
    }

    fn apply(&self, dirs: &mut Dirs, view: View, outcome: Outcome) {
        match self {
            Change::Link { dir, name, ino } => link(dirs, view, (*dir, name), *ino),
            Change::Unlink { dir, name, ino } => unlink(dirs, view, (*dir, name), *ino),
            Change::Rename { from, to, ino } => {
                if outcome == Outcome::Whole {
                    unlink(dirs, view, (from.0, &from.1), *ino);
                }
                link(dirs, view, (to.0, &to.1), *ino);
            }
        }
    }

    /// What remains undecided of it once one directory is durable; `None`: nothing.
    fn after_sync_of(&self, synced: Ino) -> Option<Change> {
        match self {
            Change::Link { dir, .. } | Change::Unlink { dir, .. } => {
                (*dir != synced).then(|| self.clone())
            }
            Change::Rename { from, to, ino } => match (from.0 == synced, to.0 == synced) {
                (true, true) => None,
                (false, false) => Some(self.clone()),
                // The order that loses the file: gone from where it was, not yet where it goes.
                (true, false) => Some(Change::Link { dir: to.0, name: to.1.clone(), ino: *ino }),
                (false, true) => {
                    Some(Change::Unlink { dir: from.0, name: from.1.clone(), ino: *ino })
                }
            },
        }
    }

    /// The names in a directory that it concerns.
    fn names_in(&self, of: Ino) -> impl Iterator<Item = &OsString> {
        let (a, b) = match self {
            Change::Link { dir, name, .. } | Change::Unlink { dir, name, .. } => {
                ((dir, name), None)
            }
            Change::Rename { from, to, .. } => ((&from.0, &from.1), Some((&to.0, &to.1))),
        };
        std::iter::once(a).chain(b).filter(move |(dir, _)| **dir == of).map(|(_, name)| name)
    }

    /// What is left of it once a name says something newer.
    fn without(&self, of: Ino, gone: &OsString) -> Option<Change> {
        let Change::Rename { from, to, ino } = self else { return None };
        let is = |place: &(Ino, OsString)| place.0 == of && place.1 == *gone;
        match (is(from), is(to)) {
            (true, _) => Some(Change::Link { dir: to.0, name: to.1.clone(), ino: *ino }),
            (_, true) => Some(Change::Unlink { dir: from.0, name: from.1.clone(), ino: *ino }),
            _ => Some(self.clone()),
        }
    }

    /// The part of it that a sync of one directory makes durable.
    fn durable_part(&self, synced: Ino) -> Option<Change> {
        match self {
            Change::Link { dir, .. } | Change::Unlink { dir, .. } => {
                (*dir == synced).then(|| self.clone())
            }
            Change::Rename { from, to, ino } => match (from.0 == synced, to.0 == synced) {
                (true, true) => Some(self.clone()),
                (false, false) => None,
                (true, false) => {
                    Some(Change::Unlink { dir: from.0, name: from.1.clone(), ino: *ino })
                }
                (false, true) => Some(Change::Link { dir: to.0, name: to.1.clone(), ino: *ino }),
            },
        }
    }
}

fn link(dirs: &mut Dirs, view: View, (dir, name): (Ino, &OsString), ino: Ino) {
    if let Some(names) = names_mut(dirs, view, dir) {
        names.insert(name.clone(), ino);
    }
}

fn unlink(dirs: &mut Dirs, view: View, (dir, name): (Ino, &OsString), ino: Ino) {
    if let Some(names) = names_mut(dirs, view, dir)
        && names.get(name) == Some(&ino)
    {
        names.remove(name);
    }
}

fn names_mut(dirs: &mut Dirs, view: View, dir: Ino) -> Option<&mut Names> {
    let dir = Arc::make_mut(dirs.get_mut(&dir)?);
    Some(match view {
        View::Durable => &mut dir.durable,
        View::Visible => &mut dir.visible,
    })
}

/// Carries out a change for everybody to see.
pub(super) fn make(dirs: &mut Dirs, change: &Change) {
    change.apply(dirs, View::Visible, Outcome::Whole);
}

/// Lets a crash decide a change.
pub(super) fn decide(dirs: &mut Dirs, change: &Change, outcome: Outcome) {
    change.apply(dirs, View::Durable, outcome);
}

/// Makes durable what concerns one directory, in the order in which it was done, but for what an
/// earlier sync that failed gave up. What is durable of a name ends what was undecided of it before.
pub(super) fn sync(dirs: &mut Dirs, pending: &mut Vec<NameChange>, dir: Ino) {
    let mut settled: BTreeMap<OsString, u64> = BTreeMap::new();
    pending.retain_mut(|change| {
        if change.given_up_by.contains(&dir) {
            return true;
        }
        if let Some(part) = change.what.durable_part(dir) {
            part.apply(dirs, View::Durable, Outcome::Whole);
            settled.extend(part.names_in(dir).map(|name| (name.clone(), change.seq)));
        }
        change.replace(change.what.after_sync_of(dir))
    });
    pending.retain_mut(|change| {
        let newer = |name: &OsString| settled.get(name).is_some_and(|&seq| seq > change.seq);
        let names = change.what.names_in(dir).filter(|name| newer(name)).cloned();
        names.collect::<Vec<_>>().iter().all(|name| change.replace(change.what.without(dir, name)))
    });
}

/// A directory sync failed: nothing became durable, and the system will not try these again.
pub(super) fn give_up(pending: &mut [NameChange], dir: Ino) {
    for change in pending.iter_mut().filter(|change| change.what.names_in(dir).next().is_some()) {
        change.given_up_by.insert(dir);
    }
}

impl Dir {
    /// Takes what is durable for the whole truth, as after a power cut.
    pub(super) fn settle(&mut self) {
        self.visible = self.durable.clone();
    }
}
