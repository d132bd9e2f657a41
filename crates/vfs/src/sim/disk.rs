//! The whole state of a simulated disk and of the system above it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::content::{PAGE_LEN, hash_bytes};
use super::file::FileState;
use super::names::{self, Change, Dir, Dirs, Ino, NameChange, Names};
use super::ops::Ops;
use crate::error::reason;
use crate::rng::mix;

pub(super) const ROOT: Ino = 0;

#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) dirs: Dirs,
    pub(super) files: BTreeMap<Ino, Arc<FileState>>,
    pub(super) names: Vec<NameChange>,
    next_ino: Ino,
    /// Counts all changes there ever were, to keep their order.
    seq: u64,
    pub(super) capacity: Option<u64>,
    pub(super) read_only: bool,
    pub(super) no_direct: bool,
    pub(super) open: BTreeMap<Ino, u32>,
    pub(super) locks: BTreeSet<Ino>,
    pub(super) ops: Ops,
    /// How this state came about.
    pub(super) story: String,
}

impl Default for Disk {
    fn default() -> Disk {
        Disk {
            dirs: BTreeMap::from([(ROOT, Arc::default())]),
            files: BTreeMap::new(),
            names: Vec::new(),
            next_ino: ROOT + 1,
            seq: 0,
            capacity: None,
            read_only: false,
            no_direct: false,
            open: BTreeMap::new(),
            locks: BTreeSet::new(),
            ops: Ops::default(),
            story: String::from("no crash"),
        }
    }
}

/// Where a path leads.
pub(super) struct Place {
    pub(super) dir: Ino,
    pub(super) name: OsString,
    pub(super) ino: Option<Ino>,
}

impl Disk {
    /// The parent directory of a path, and what stands there.
    pub(super) fn place(&self, path: &Path) -> io::Result<Place> {
        let mut parts = parts(path)?;
        let Some(name) = parts.pop() else {
            return Err(reason(ErrorKind::InvalidInput, "the root directory has no name"));
        };
        let mut dir = ROOT;
        for part in parts {
            dir = match self.names_of(dir)?.get(&part) {
                Some(&ino) => ino,
                None => return Err(reason(ErrorKind::NotFound, "no such directory")),
            };
        }
        let ino = self.names_of(dir)?.get(&name).copied();
        Ok(Place { dir, name, ino })
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<Ino> {
        if parts(path)?.is_empty() {
            return Ok(ROOT);
        }
        self.place(path)?
            .ino
            .ok_or_else(|| reason(ErrorKind::NotFound, "no such file or directory"))
    }

    pub(super) fn find_file(&self, path: &Path) -> io::Result<Ino> {
        let ino = self.find(path)?;
        if self.dirs.contains_key(&ino) {
            return Err(reason(ErrorKind::IsADirectory, "is a directory"));
        }
        Ok(ino)
    }

    pub(super) fn names_of(&self, dir: Ino) -> io::Result<&Names> {
        match self.dirs.get(&dir) {
            Some(dir) => Ok(&dir.visible),
            None => Err(reason(ErrorKind::NotADirectory, "not a directory")),
        }
    }

    pub(super) fn file(&self, ino: Ino) -> io::Result<&FileState> {
        match self.files.get(&ino) {
            Some(file) => Ok(file),
            None => Err(reason(ErrorKind::NotFound, "no such file")),
        }
    }

    pub(super) fn file_mut(&mut self, ino: Ino) -> io::Result<&mut FileState> {
        match self.files.get_mut(&ino) {
            Some(file) => Ok(Arc::make_mut(file)),
            None => Err(reason(ErrorKind::NotFound, "no such file")),
        }
    }

    pub(super) fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    pub(super) fn create_file(&mut self, place: Place) -> Ino {
        let ino = self.new_ino();
        self.files.insert(ino, Arc::default());
        self.change_names(Change::Link { dir: place.dir, name: place.name, ino });
        ino
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        let place = self.place(path)?;
        if place.ino.is_some() {
            return Err(reason(ErrorKind::AlreadyExists, "exists already"));
        }
        let ino = self.new_ino();
        self.dirs.insert(ino, Arc::default());
        self.change_names(Change::Link { dir: place.dir, name: place.name, ino });
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let source = self.place(from)?;
        let target = self.place(to)?;
        let Some(ino) = source.ino else {
            return Err(reason(ErrorKind::NotFound, "no such file or directory"));
        };
        if target.ino == Some(ino) {
            return Ok(());
        }
        if target.ino.is_some_and(|ino| self.dirs.contains_key(&ino)) {
            return Err(reason(ErrorKind::IsADirectory, "the new name is that of a directory"));
        }
        if self.dirs.contains_key(&ino) && target.ino.is_some() {
            return Err(reason(ErrorKind::NotADirectory, "the new name is that of a file"));
        }
        if self.dirs.contains_key(&ino) && to.starts_with(from) {
            return Err(reason(ErrorKind::InvalidInput, "a directory cannot move into itself"));
        }
        let (from, to) = ((source.dir, source.name), (target.dir, target.name));
        self.change_names(Change::Rename { from, to, ino });
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        let ino = self.find_file(path)?;
        let place = self.place(path)?;
        self.change_names(Change::Unlink { dir: place.dir, name: place.name, ino });
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, dir: Ino) {
        names::sync(&mut self.dirs, &mut self.names, dir);
        self.drop_unreachable();
    }

    fn change_names(&mut self, what: Change) {
        let seq = self.next_seq();
        names::make(&mut self.dirs, &what);
        self.names.push(NameChange::new(seq, what));
    }

    fn new_ino(&mut self) -> Ino {
        self.next_ino += 1;
        self.next_ino - 1
    }

    /// Keeps a file alive while a handle is open, whatever happens to its names.
    pub(super) fn hold(&mut self, ino: Ino) -> Ino {
        *self.open.entry(ino).or_default() += 1;
        ino
    }

    pub(super) fn close(&mut self, ino: Ino) {
        if let Some(count) = self.open.get_mut(&ino) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&ino);
            }
        }
    }

    /// Bytes in use by files that have a visible name.
    pub(super) fn used(&self) -> u64 {
        let files: BTreeSet<Ino> =
            self.dirs.values().flat_map(|d| d.visible.values()).copied().collect();
        let pages =
            files.iter().filter_map(|ino| self.files.get(ino)).map(|f| f.visible.allocated());
        pages.sum::<u64>() * PAGE_LEN as u64
    }

    /// How many more pages fit.
    pub(super) fn pages_free(&self) -> u64 {
        match self.capacity {
            Some(capacity) => capacity.saturating_sub(self.used()) / PAGE_LEN as u64,
            None => u64::MAX,
        }
    }

    /// Forgets files that neither a name, nor an undecided change, nor a handle leads to.
    pub(super) fn drop_unreachable(&mut self) {
        let changed = self.names.iter().map(|change| change.what.ino());
        let mut next: Vec<Ino> = self.open.keys().copied().chain(changed).collect();
        next.push(ROOT);
        let mut reachable = BTreeSet::new();
        while let Some(ino) = next.pop() {
            if !reachable.insert(ino) {
                continue;
            }
            if let Some(dir) = self.dirs.get(&ino) {
                next.extend(dir.durable.values().chain(dir.visible.values()));
            }
        }
        self.files.retain(|ino, _| reachable.contains(ino));
        self.dirs.retain(|ino, _| reachable.contains(ino));
    }

    /// The visible paths of files and directories, in the order of their names.
    pub(super) fn paths(&self) -> Vec<(PathBuf, Ino)> {
        let mut paths = Vec::new();
        self.walk(ROOT, &mut PathBuf::from("/"), &mut paths, |dir| &dir.visible);
        paths
    }

    /// Some path for each file and directory, visible ones first, for messages.
    pub(super) fn known_as(&self) -> BTreeMap<Ino, PathBuf> {
        let mut paths = Vec::new();
        self.walk(ROOT, &mut PathBuf::from("/"), &mut paths, |dir| &dir.durable);
        let mut known: BTreeMap<Ino, PathBuf> =
            paths.into_iter().map(|(path, ino)| (ino, path)).collect();
        known.extend(self.paths().into_iter().map(|(path, ino)| (ino, path)));
        known.insert(ROOT, PathBuf::from("/"));
        for change in &self.names {
            if let Change::Link { dir, name, ino } | Change::Rename { to: (dir, name), ino, .. } =
                &change.what
                && !known.contains_key(ino)
                && let Some(parent) = known.get(dir)
            {
                known.insert(*ino, parent.join(name));
            }
        }
        known
    }

    fn walk(
        &self,
        dir: Ino,
        at: &mut PathBuf,
        out: &mut Vec<(PathBuf, Ino)>,
        view: fn(&Dir) -> &Names,
    ) {
        let Some(names) = self.dirs.get(&dir).map(|dir| view(dir)) else { return };
        for (name, &ino) in names {
            at.push(name);
            out.push((at.clone(), ino));
            self.walk(ino, at, out, view);
            at.pop();
        }
    }

    /// A number that tells apart states that behave differently.
    pub(super) fn hash(&self) -> u64 {
        let mut hash = 0;
        let mut feed = |number: u64| hash = mix(hash ^ number);
        for (dir, names) in &self.dirs {
            for (view, names) in [&names.durable, &names.visible].into_iter().enumerate() {
                feed(mix(*dir) ^ view as u64);
                for (name, ino) in names {
                    feed(hash_bytes(name.as_encoded_bytes()));
                    feed(*ino);
                }
            }
        }
        for change in &self.names {
            feed(hash_bytes(change.outline().as_bytes()));
        }
        for (ino, file) in &self.files {
            feed(*ino);
            feed(file.hash());
        }
        hash
    }
}

/// The names along a path, seen from the root.
fn parts(path: &Path) -> io::Result<Vec<OsString>> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => parts.push(name.to_os_string()),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(reason(ErrorKind::InvalidInput, "paths here do not go upwards"));
            }
        }
    }
    Ok(parts)
}
