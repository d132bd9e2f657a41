//! Files of a newer version: refused by name, and nothing is touched.

mod newer;
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use refloat_log_store::examine;
use refloat_types::IndexSet;
use refloat_vfs::SimFs;
use support::*;

/// A directory with files of every kind: logs of several generations, segments, two snapshots.
fn with_files_of_every_kind() -> Disk {
    let mut disk = Disk::small();
    disk.create_group(group(1)).unwrap();
    for _ in 0..2 {
        for _ in 0..6 {
            disk.append(group(1), 1, 3, 5000);
            disk.vote(group(1), 1).unwrap();
            disk.sync().unwrap();
        }
        disk.snapshot(group(1), IndexSet::new()).unwrap();
    }
    disk.append(group(1), 1, 1, 50);
    disk.sync().unwrap();
    disk.idle().unwrap();
    disk.kill();
    disk
}

fn contents(fs: &SimFs) -> BTreeMap<PathBuf, Vec<u8>> {
    fs.files().into_keys().map(|path| (path.clone(), fs.contents(&path).unwrap())).collect()
}

#[test]
fn o06_a_newer_version_in_any_file_is_refused_by_name_and_the_directory_is_left_as_it_was() {
    let disk = with_files_of_every_kind();
    let mut refused: BTreeMap<&str, u32> = BTreeMap::new();
    for path in disk.fs.files().into_keys() {
        // Those of no version: the note of who holds the directory, files that are not in use.
        let Some((kind, make_newer)) = newer::kind(Path::new(DIR), &path) else { continue };
        *refused.entry(kind).or_default() += 1;
        let fs = disk.fs.fork();
        fs.corrupt(&path, |bytes| make_newer(bytes)).unwrap();
        let before = contents(&fs);
        let read = examine(&fs, &disk.options).map(|_| ()).map_err(|e| e.to_string());
        let mut back = Disk::on(fs, &disk.options);
        let booted = back.boot().map(|_| ()).map_err(|e| e.to_string());
        let after = contents(&back.fs);
        let is_changed = |path: &&PathBuf| after.get(*path) != before.get(*path);
        let changed: Vec<_> = before.keys().chain(after.keys()).filter(is_changed).collect();
        assert!(changed.is_empty(), "{}: {booted:?} and changed {changed:?}", path.display());
        for result in [read, booted] {
            let told = result.expect_err(&format!("{} is of a newer version", path.display()));
            let named = told.contains(&path.display().to_string()) && told.contains("version");
            assert!(named, "{}: {told}", path.display());
        }
    }
    let kinds: Vec<&str> = refused.keys().copied().collect();
    assert_eq!(kinds, ["identity", "log", "segment", "snapshot", "votes"]);
    assert!(refused["log"] >= 2 && refused["snapshot"] == 2, "{refused:?}");
}
