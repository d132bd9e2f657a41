use std::collections::BTreeSet;
use std::io::ErrorKind;

use super::*;

#[test]
fn the_nth_matching_operation_fails_once() {
    let fs = SimFs::new();
    let (a, b) = (create(&fs, "/a.wal"), create(&fs, "/b.seg"));
    fs.inject(Fault::on(OpKind::Write).path(".wal").after(1).error(ErrorKind::StorageFull));
    write(&a, 0, b"1");
    write(&b, 0, b"1");
    let error = a.write_at(b"2", 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert!(!is_crash(&error));
    write(&a, 1, b"3");
    assert_eq!(fs.faults_fired(), 1);
    assert_eq!(fs.ops().iter().filter(|op| op.failed).count(), 1);
}

#[test]
fn a_lasting_fault_ends_when_it_is_cleared() {
    let fs = SimFs::new();
    let file = create(&fs, "/a");
    fs.inject(Fault::on_any().path("/a").forever());
    let error = file.sync_data().unwrap_err();
    assert!(error.to_string().contains("sync /a: input/output error"), "{error}");
    assert!(file.len().is_err() && file.read_at(&mut [0], 0).is_err());
    assert!(fs.list(p("/")).is_ok());
    fs.clear_faults();
    assert!(file.sync_data().is_ok());
}

#[test]
fn a_failed_write_may_have_written_half() {
    let fs = SimFs::new();
    let file = create(&fs, "/a");
    fs.inject(Fault::on(OpKind::Write));
    assert!(file.write_at(&[1; 2048], 0).is_err());
    assert_eq!(fs.contents("/a").unwrap(), [1; 1024]);
}

#[test]
fn repeating_a_failed_sync_makes_nothing_durable() {
    let fs = SimFs::new();
    let file = create(&fs, "/a");
    write(&file, 0, &[1; 1024]);
    fs.inject(Fault::on(OpKind::Sync));
    assert!(file.sync_data().is_err());
    assert!(file.sync_data().is_ok(), "the system reports an error once");
    assert_eq!(if_all_is_lost(&fs, "/a").unwrap(), b"");
    assert_eq!(fs.contents("/a").unwrap(), [1; 1024], "while the cache still shows it");
    write(&file, 0, &sector(1));
    file.sync_data().unwrap();
    let cut = fs.fork().power_cut(|unit| if unit.is_sector() { Fate::Lost } else { Fate::Kept });
    let expected = [sector(1), sector(0)].concat();
    assert_eq!(cut.contents("/a").unwrap(), expected, "what was written again is durable");
}

fn failed_sync_dir(fs: &SimFs) {
    fs.inject(Fault::on(OpKind::SyncDir));
    assert!(fs.sync_dir(p("/")).is_err());
}

fn rename(fs: &SimFs, from: &str, to: &str) {
    fs.rename(p(from), p(to)).unwrap();
}

/// Every set of names that a power cut may leave.
fn possible_names(fs: &SimFs) -> BTreeSet<String> {
    let names = |image: SimFs| {
        let names: Vec<String> =
            image.files().keys().map(|path| path.display().to_string()).collect();
        names.join(" ")
    };
    let options = ImageOptions { kills: false, ..ImageOptions::new(1000) };
    fs.crash_images_with(options).map(names).collect()
}

#[test]
fn repeating_a_failed_directory_sync_makes_no_name_durable() {
    let fs = SimFs::new();
    fs.open(p("/a"), OpenOptions::create_new()).unwrap();
    failed_sync_dir(&fs);
    assert!(fs.sync_dir(p("/")).is_ok());
    assert_eq!(if_all_is_lost(&fs, "/a"), None);
    let restarted = fs.fork().kill();
    assert!(restarted.sync_dir(p("/")).is_ok());
    assert_eq!(if_all_is_lost(&restarted, "/a"), None, "a new process changes nothing");
    fs.sync_all();
    assert_eq!(if_all_is_lost(&fs, "/a"), Some(vec![]));
}

#[test]
fn names_made_after_a_failed_directory_sync_become_durable_and_those_before_stay_undecided() {
    let fs = SimFs::new();
    create(&fs, "/old.tmp");
    fs.open(p("/new"), OpenOptions::create_new()).unwrap();
    rename(&fs, "/old.tmp", "/old");
    failed_sync_dir(&fs);
    fs.open(p("/later"), OpenOptions::create_new()).unwrap();
    fs.sync_dir(p("/")).unwrap();
    let expected = [
        "/later /new /old",
        "/later /new /old /old.tmp",
        "/later /new /old.tmp",
        "/later /old",
        "/later /old /old.tmp",
        "/later /old.tmp",
    ];
    assert_eq!(possible_names(&fs).into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn a_name_changed_again_after_a_failed_directory_sync_is_decided_by_the_next() {
    let fs = SimFs::new();
    create(&fs, "/c.tmp");
    fs.open(p("/a"), OpenOptions::create_new()).unwrap();
    fs.open(p("/b"), OpenOptions::create_new()).unwrap();
    rename(&fs, "/c.tmp", "/c");
    failed_sync_dir(&fs);
    rename(&fs, "/a", "/x");
    rename(&fs, "/x", "/a");
    fs.remove_file(p("/b")).unwrap();
    fs.open(p("/c.tmp"), OpenOptions::create_new()).unwrap().write_at(b"other", 0).unwrap();
    fs.sync_dir(p("/")).unwrap();
    let names: Vec<String> = possible_names(&fs).into_iter().collect();
    assert_eq!(names, ["/a /c /c.tmp", "/a /c.tmp"], "b is gone for good, a is there for good");
    assert!(fs.fork().power_cut(|_| Fate::Kept).contents("/c").is_ok());
}

#[test]
fn a_rename_between_directories_is_given_up_by_the_one_whose_sync_failed() {
    let fs = SimFs::new();
    fs.create_dir(p("/d")).unwrap();
    fs.put("/a", b"1").unwrap();
    fs.sync_all();
    rename(&fs, "/a", "/d/a");
    failed_sync_dir(&fs);
    fs.sync_dir(p("/d")).unwrap();
    fs.sync_dir(p("/")).unwrap();
    let names: Vec<String> = possible_names(&fs).into_iter().collect();
    assert_eq!(names, ["/a /d/a", "/d/a"], "it has arrived; whether it has left is open");
}

#[test]
fn a_quota_is_hit_in_the_middle_of_the_writes() {
    let fs = SimFs::new();
    let file = create(&fs, "/a.seg");
    let quota = Fault::on(OpKind::Write).path(".seg").after_bytes(2000).forever();
    fs.inject(quota.error(ErrorKind::StorageFull));
    write(&file, 0, &[1; 1500]);
    assert_eq!(file.write_at(&[1; 501], 1500).unwrap_err().kind(), ErrorKind::StorageFull);
    write(&create(&fs, "/b"), 0, &[1; 9000]);
    write(&file, 1500, &[1; 500]);
    assert_eq!(file.write_at(&[1], 2000).unwrap_err().kind(), ErrorKind::StorageFull);
}

#[test]
fn a_file_system_that_goes_read_only_fails_changes_and_syncs_and_reads_on() {
    let fs = SimFs::new();
    let file = create(&fs, "/a");
    write(&file, 0, b"x");
    fs.inject(Fault::on_change().error(ErrorKind::ReadOnlyFilesystem).forever());
    for result in [file.sync_data(), file.write_at(b"y", 0), fs.sync_dir(p("/"))] {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    }
    assert_eq!(file.read_at(&mut [0; 4], 0).unwrap(), 1);
    assert!(fs.list(p("/")).is_ok());
}

#[test]
fn a_full_disk_refuses_what_is_not_reserved() {
    let fs = SimFs::new();
    let reserved = create(&fs, "/reserved");
    let file = create(&fs, "/a");
    fs.set_capacity(Some(3 * 4096));
    reserved.allocate(2 * 4096).unwrap();
    assert_eq!(reserved.allocate(4 * 4096).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(fs.available_space(p("/")).unwrap(), 4096);
    let error = file.write_at(&[1; 10_000], 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 4096, "what fits is written");
    write(&reserved, 0, &[2; 8192]);
    write(&file, 0, &[3; 4096]);
    assert_eq!(fs.used(), 3 * 4096);
    fs.remove_file(p("/a")).unwrap();
    assert_eq!(fs.available_space(p("/")).unwrap(), 4096);
    let sparse = create(&fs, "/sparse");
    sparse.set_len(1 << 30).unwrap();
    assert_eq!(fs.used(), 2 * 4096, "holes are free");
    write(&sparse, 4096, &[0; 4096]);
    assert_eq!(fs.used(), 3 * 4096, "zeros that were written are not");
    sparse.sync_data().unwrap();
    fs.sync_dir(p("/")).unwrap();
    let fs = fs.power_cut(|_| Fate::Lost);
    assert_eq!(
        fs.used(),
        4096,
        "synced, they keep their space; a reservation that was not is gone"
    );
}

#[test]
fn unreadable_sectors_are_errors_until_written_again() {
    let fs = SimFs::new();
    fs.put("/a", &[1; 2048]).unwrap();
    fs.fail_reads("/a", 600..700).unwrap();
    let fs = fs.power_cut(|_| Fate::Lost);
    let file = fs.open(p("/a"), OpenOptions::write()).unwrap();
    let mut buf = [0; 512];
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 512);
    let error = file.read_at(&mut buf, 1).unwrap_err();
    assert!(error.to_string().contains("read /a at 1: input/output error"), "{error}");
    assert_eq!(file.read_at(&mut buf, 1024).unwrap(), 512);
    write(&file, 512, &sector(2));
    assert_eq!(file.read_at(&mut buf, 512).unwrap(), 512);
}

#[test]
fn a_read_only_disk_refuses_every_change() {
    let fs = SimFs::new();
    let file = create(&fs, "/a");
    fs.set_read_only(true);
    let kinds = [
        file.write_at(b"x", 0).unwrap_err().kind(),
        file.set_len(9).unwrap_err().kind(),
        fs.rename(p("/a"), p("/b")).unwrap_err().kind(),
        fs.remove_file(p("/a")).unwrap_err().kind(),
        fs.create_dir(p("/d")).unwrap_err().kind(),
        fs.open(p("/a"), OpenOptions::write()).map(|_| ()).unwrap_err().kind(),
        fs.open(p("/b"), OpenOptions::create_new()).map(|_| ()).unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::ReadOnlyFilesystem; 7]);
    fs.open(p("/a"), OpenOptions::read()).unwrap();
    assert_eq!(fs.files().len(), 1);
}

#[test]
fn direct_mode_can_be_missing() {
    let fs = SimFs::new();
    fs.set_direct_supported(false);
    let error = fs.open(p("/a"), OpenOptions::create_new().direct()).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(fs.files().is_empty());
}

#[test]
fn damage_outlives_a_power_cut() {
    let fs = SimFs::new();
    fs.put("/a", &[1; 2048]).unwrap();
    write(&fs.open(p("/a"), OpenOptions::write()).unwrap(), 0, &sector(2));
    fs.corrupt("/a", |bytes| bytes[1500] ^= 1).unwrap();
    let lost = if_all_is_lost(&fs, "/a").unwrap();
    assert_eq!((lost[0], lost[1500]), (1, 0), "and the rest stays undecided");
    fs.corrupt("/a", |bytes| bytes.truncate(700)).unwrap();
    assert_eq!(if_all_is_lost(&fs, "/a").unwrap().len(), 700);
}

#[test]
fn a_disk_travels_to_a_real_directory_and_back() {
    let real = tempfile::tempdir().unwrap();
    let fs = SimFs::new();
    fs.put("/d/e/a", b"deep").unwrap();
    fs.put("/b", &[7; 9000]).unwrap();
    fs.export(real.path()).unwrap();
    assert_eq!(std::fs::read(real.path().join("d/e/a")).unwrap(), b"deep");
    let back = SimFs::new();
    back.import(real.path(), "/").unwrap();
    assert_eq!(back.files(), fs.files());
    assert_eq!(if_all_is_lost(&back, "/d/e/a").unwrap(), b"deep");
    assert_eq!(if_all_is_lost(&back, "/b").unwrap(), [7; 9000]);
}
