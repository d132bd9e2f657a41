//! Which faults: samples of every kind on every file, spread over what is in use of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use refloat_vfs::Harm;

use super::Result;

/// So many of each kind per file.
const SAMPLES: usize = 24;
/// Of flipped bytes this many, those at both ends of the file included.
const FLIPS: usize = 64;

/// The files of a directory in memory, each up to its last byte that is not zero, and its length.
pub struct Image(BTreeMap<PathBuf, (Vec<u8>, u64)>);

impl Image {
    pub fn of(dir: &Path) -> Result<Image> {
        let mut paths = Vec::new();
        files(dir, Path::new(""), &mut paths)?;
        let read = |path: PathBuf| -> Result<_> {
            let mut bytes = fs::read(dir.join(&path))?;
            let len = bytes.len() as u64;
            bytes.truncate(used(&bytes));
            Ok((path, (bytes, len)))
        };
        Ok(Image(paths.into_iter().map(read).collect::<Result<_>>()?))
    }

    /// Makes a directory of it. What was zero is a hole there.
    pub fn put(&self, dir: &Path) -> Result<()> {
        let _ = fs::remove_dir_all(dir);
        for (path, (bytes, len)) in &self.0 {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap_or(dir))?;
            write(&path, bytes, *len)?;
        }
        Ok(())
    }

    fn bytes(&self, path: &Path) -> Vec<u8> {
        let Some((bytes, len)) = self.0.get(path) else { return Vec::new() };
        let mut bytes = bytes.clone();
        bytes.resize(usize::try_from(*len).unwrap_or(usize::MAX), 0);
        bytes
    }
}

fn write(path: &Path, bytes: &[u8], len: u64) -> Result<()> {
    fs::write(path, bytes)?;
    fs::OpenOptions::new().write(true).open(path)?.set_len(len)?;
    Ok(())
}

fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// What is done to one file of a directory.
pub struct Fault {
    pub class: &'static str,
    /// For messages.
    pub what: String,
    path: PathBuf,
    how: How,
}

enum How {
    Harm { harm: Harm, older: Option<PathBuf> },
    Remove,
    Theirs,
}

impl Fault {
    /// Does it to a copy of `good`; `false` if nothing changes by it.
    pub fn apply(&self, good: &Image, other: &Image, copy: &Path) -> Result<bool> {
        let bytes = good.bytes(&self.path);
        let bad = match &self.how {
            How::Remove => {
                fs::remove_file(copy.join(&self.path))?;
                return Ok(true);
            }
            How::Theirs => Some(other.bytes(&self.path)).filter(|theirs| *theirs != bytes),
            How::Harm { harm, older } => {
                let older = older.as_ref().map_or(Vec::new(), |path| good.bytes(path));
                harm.apply(&bytes, &older)
            }
        };
        let Some(bad) = bad else { return Ok(false) };
        write(&copy.join(&self.path), &bad[..used(&bad)], bad.len() as u64)?;
        Ok(true)
    }
}

/// All faults on all files of `good`; `other` is the directory of another node.
pub fn all(good: &Image, other: &Image) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut before: Option<&PathBuf> = None;
    for (path, (bytes, _)) in good.0.iter().filter(|file| !file.1.0.is_empty() && !is_lock(file.0))
    {
        let older = before.filter(|neighbour| neighbour.parent() == path.parent());
        let older_len = older.map_or(0, |path| good.0[path].0.len());
        let mut add = |class, what, how| {
            let what = format!("{} {what}", path.display());
            faults.push(Fault { class, what, path: path.clone(), how });
        };
        for harm in sample(bytes.len(), older_len) {
            add(harm.class(), format!("{harm:?}"), How::Harm { harm, older: older.cloned() });
        }
        add("file removed", String::new(), How::Remove);
        if other.0.contains_key(path) {
            add("another node's file", String::new(), How::Theirs);
        }
        before = Some(path);
    }
    faults
}

/// Locks say nothing and are left alone.
fn is_lock(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().to_lowercase().contains("lock"))
}

fn files(root: &Path, below: &Path, out: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            files(root, &path, out)?;
        } else {
            out.push(path);
        }
    }
    Ok(())
}

/// Some of each class, of a file of which so many bytes are in use.
fn sample(used: usize, older: usize) -> Vec<Harm> {
    let mut classes: Vec<(&str, Vec<Harm>)> = Vec::new();
    for harm in Harm::all(used, older) {
        match classes.iter_mut().find(|class| class.0 == harm.class()) {
            Some(class) => class.1.push(harm),
            None => classes.push((harm.class(), vec![harm])),
        }
    }
    let pick = |(class, all): (&str, Vec<Harm>)| {
        let count = if class == "one byte flipped" { FLIPS } else { SAMPLES };
        places(all.len(), count).into_iter().map(move |at| all[at])
    };
    classes.into_iter().flat_map(pick).collect()
}

/// A quarter at the start, a quarter at the end, the rest spread over all.
fn places(len: usize, count: usize) -> BTreeSet<usize> {
    let at = |n: usize| match n {
        n if n < count / 4 => n * 3,
        n if n < count / 2 => len.saturating_sub(1 + (n - count / 4) * 5),
        // Odd steps: equal ones would always meet the same field.
        n => (n - count / 2) * len * 2 / count + n % 7,
    };
    (0..count).map(at).filter(|at| *at < len).collect()
}
