//! Damage to the files of a stopped node, at places that a seed draws.

use std::fs;
use std::path::{Path, PathBuf};

use super::picture;

/// A small generator of numbers, so that a seed says all.
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit.max(1)
    }
}

/// Copies a directory.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// The files of a directory that hold something: logs, segments, snapshots, identity.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let is_ours = |path: &PathBuf| {
        path.extension().is_some_and(|e| ["wal", "seg", "snap", "a", "b"].iter().any(|w| e == *w))
    };
    picture(dir).into_iter().map(|(path, _)| path).filter(is_ours).collect()
}

/// One wound in one of these files, in words.
pub fn hurt(files: &[PathBuf], chance: &mut Chance) -> String {
    let path = &files[chance.below(files.len() as u64) as usize];
    let mut bytes = fs::read(path).unwrap();
    // Where something is written; behind it there is nothing to hurt.
    let used = bytes.iter().rposition(|b| *b != 0).unwrap_or(0) as u64 + 1;
    let at = chance.below(used) as usize;
    let what = match chance.below(6) {
        0 | 1 => {
            bytes[at] ^= 1 << chance.below(8);
            format!("one bit of byte {at}")
        }
        2 => {
            let start = at / 512 * 512;
            let end = (start + 512).min(bytes.len());
            bytes[start..end].fill(0);
            format!("a sector of zeros at {start}")
        }
        3 => {
            let start = at / 4096 * 4096;
            let end = (start + 4096).min(bytes.len());
            bytes[start..end].fill(0xa5);
            format!("a block of garbage at {start}")
        }
        4 => {
            bytes.truncate(at);
            format!("cut to {at} bytes")
        }
        _ => {
            fs::remove_file(path).unwrap();
            return format!("{}: removed", path.display());
        }
    };
    fs::write(path, bytes).unwrap();
    format!("{}: {what}", path.display())
}
