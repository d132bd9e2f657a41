use super::*;

#[test]
fn a_name_is_lost_without_a_directory_sync_though_its_data_is_synced() {
    let fs = SimFs::new();
    let file = fs.open(p("/a"), OpenOptions::create_new()).unwrap();
    write(&file, 0, b"data");
    file.sync_data().unwrap();
    assert_eq!(if_all_is_lost(&fs, "/a"), None);
    fs.sync_dir(p("/")).unwrap();
    assert_eq!(if_all_is_lost(&fs, "/a").as_deref(), Some(&b"data"[..]));
}

#[test]
fn a_directory_without_a_durable_name_takes_everything_with_it() {
    let fs = SimFs::new();
    fs.create_dir(p("/d")).unwrap();
    create(&fs, "/d/a").sync_data().unwrap();
    assert_eq!(if_all_is_lost(&fs, "/d/a"), None);
    fs.sync_dir(p("/")).unwrap();
    assert_eq!(if_all_is_lost(&fs, "/d/a"), Some(vec![]));
}

#[test]
fn a_sync_makes_exactly_this_file_durable() {
    let fs = SimFs::new();
    let (a, b) = (create(&fs, "/a"), create(&fs, "/b"));
    write(&a, 0, b"aaa");
    write(&b, 0, b"bbb");
    a.sync_data().unwrap();
    assert_eq!(if_all_is_lost(&fs, "/a").as_deref(), Some(&b"aaa"[..]));
    assert_eq!(if_all_is_lost(&fs, "/b").as_deref(), Some(&b""[..]));
    assert!(fs.undecided().iter().all(|unit| unit.path() == p("/b")), "{:?}", fs.undecided());
}

#[test]
fn a_durable_write_is_durable_and_nothing_else_of_the_file_is() {
    let fs = SimFs::new();
    let plain = create(&fs, "/a");
    write(&plain, 0, &sector(1));
    write(&plain, 1024, &sector(2));
    let durable = fs.open(p("/a"), OpenOptions::write().durable()).unwrap();
    write(&durable, 512, &sector(3));
    let lost = if_all_is_lost(&fs, "/a").unwrap();
    assert_eq!(lost, [sector(0), sector(3), sector(0)].concat());
    assert_eq!(fs.contents("/a").unwrap(), [sector(1), sector(3), sector(2)].concat());
}

#[test]
fn a_size_may_come_without_data_and_data_without_size() {
    let fs = SimFs::new();
    write(&create(&fs, "/a"), 0, &sector(1));
    let by_kind = |length, data| {
        let cut = fs.power_cut(|unit| if unit.is_sector() { data } else { length });
        cut.contents("/a").unwrap()
    };
    assert_eq!(by_kind(Fate::Kept, Fate::Lost), sector(0));
    assert_eq!(by_kind(Fate::Lost, Fate::Kept), b"");
    assert_eq!(by_kind(Fate::Kept, Fate::Kept), sector(1));
}

#[test]
fn data_that_lost_its_size_does_not_come_back_when_the_file_grows_again() {
    let fs = SimFs::new();
    write(&create(&fs, "/a"), 0, &sector(1));
    let cut = fs.power_cut(|unit| if unit.is_sector() { Fate::Kept } else { Fate::Lost });
    cut.open(p("/a"), OpenOptions::write()).unwrap().set_len(512).unwrap();
    assert_eq!(cut.contents("/a").unwrap(), sector(0));
    assert!(!cut.undecided().iter().any(Unit::is_sector), "nor after the next power cut");
}

#[test]
fn a_lost_truncation_loses_no_bytes() {
    let fs = SimFs::new();
    let file = create(&fs, "/a");
    write(&file, 0, &sector(1));
    file.sync_data().unwrap();
    file.set_len(100).unwrap();
    assert_eq!(if_all_is_lost(&fs, "/a").unwrap(), sector(1));
    file.sync_data().unwrap();
    assert_eq!(if_all_is_lost(&fs, "/a").unwrap(), &sector(1)[..100]);
    file.set_len(512).unwrap();
    file.sync_data().unwrap();
    assert_eq!(if_all_is_lost(&fs, "/a").unwrap()[99..101], [1, 0]);
}

#[test]
fn a_write_tears_between_sectors() {
    let fs = SimFs::new();
    let file = create(&fs, "/a");
    write(&file, 0, &[1; 2048]);
    file.sync_data().unwrap();
    write(&file, 0, &[2; 2048]);
    let offset = |unit: &Unit| match unit {
        Unit::Sector { offset, .. } => *offset,
        other => panic!("only sectors are undecided, not {other}"),
    };
    let cut = fs.power_cut(|unit| if offset(unit) == 512 { Fate::Kept } else { Fate::Lost });
    assert_eq!(cut.contents("/a").unwrap(), [sector(1), sector(2), sector(1), sector(1)].concat());
    let cut = fs.power_cut(|unit| match offset(unit) {
        0 => Fate::Torn(100),
        512 => Fate::Zeroed,
        1024 => Fate::Garbage(9),
        _ => Fate::Kept,
    });
    let bytes = cut.contents("/a").unwrap();
    assert_eq!((bytes[99], bytes[100], bytes[511]), (2, 1, 1));
    assert_eq!(bytes[512..1024], sector(0));
    assert!(![sector(0), sector(1), sector(2)].iter().any(|old| bytes[1024..1536] == old[..]));
    assert_eq!(bytes[1536..], sector(2));
    assert!(cut.story().contains("Torn(100) sector /a+0"), "{}", cut.story());
}

#[test]
fn a_sector_written_twice_may_show_what_came_between() {
    let fs = SimFs::new();
    let file = create(&fs, "/a");
    write(&file, 0, &sector(1));
    file.sync_data().unwrap();
    write(&file, 0, &sector(2));
    write(&file, 0, &sector(3));
    write(&file, 0, &sector(3));
    let seen = |fate| fs.power_cut(|_| fate).contents("/a").unwrap()[0];
    assert_eq!([Fate::Lost, Fate::Version(0), Fate::Kept].map(seen), [1, 2, 3]);
    assert_eq!(fs.undecided().len(), 1);
}

#[test]
fn writing_what_is_there_already_leaves_nothing_undecided() {
    let fs = SimFs::new();
    let file = create(&fs, "/a");
    write(&file, 0, &[1; 5000]);
    file.sync_data().unwrap();
    write(&file, 10, &[1; 4000]);
    assert_eq!(fs.undecided(), []);
}

#[test]
fn a_rename_leaves_the_old_the_new_or_both_and_never_neither() {
    let fs = SimFs::new();
    let old = create(&fs, "/to");
    write(&old, 0, b"old");
    old.sync_data().unwrap();
    let new = create(&fs, "/from");
    write(&new, 0, b"new");
    new.sync_data().unwrap();
    fs.rename(p("/from"), p("/to")).unwrap();
    let after = |fate| {
        let cut = fs.fork().power_cut(|_| fate);
        (cut.contents("/from").ok(), cut.contents("/to").unwrap())
    };
    assert_eq!(after(Fate::Lost), (Some(b"new".to_vec()), b"old".to_vec()));
    assert_eq!(after(Fate::BothNames), (Some(b"new".to_vec()), b"new".to_vec()));
    assert_eq!(after(Fate::Kept), (None, b"new".to_vec()));
    fs.sync_dir(p("/")).unwrap();
    assert_eq!(after(Fate::Lost), (None, b"new".to_vec()));
}

#[test]
fn a_rename_may_be_durable_though_its_content_is_not() {
    let fs = SimFs::new();
    write(&create(&fs, "/tmp"), 0, b"never synced");
    fs.rename(p("/tmp"), p("/final")).unwrap();
    fs.sync_dir(p("/")).unwrap();
    assert_eq!(if_all_is_lost(&fs, "/final"), Some(vec![]));
}

#[test]
fn a_move_between_directories_is_lost_if_only_the_old_one_is_synced() {
    let moved = || {
        let fs = SimFs::new();
        fs.put("/from/a", b"x").unwrap();
        fs.put("/to/b", b"").unwrap();
        fs.rename(p("/from/a"), p("/to/a")).unwrap();
        fs
    };
    let places = |fs: &SimFs| {
        let cut = fs.fork().power_cut(|_| Fate::Lost);
        (cut.contents("/from/a").is_ok(), cut.contents("/to/a").is_ok())
    };
    let fs = moved();
    assert_eq!(places(&fs), (true, false));
    fs.sync_dir(p("/from")).unwrap();
    assert_eq!(places(&fs), (false, false), "the wrong order");
    let fs = moved();
    fs.sync_dir(p("/to")).unwrap();
    assert_eq!(places(&fs), (true, true));
    fs.sync_dir(p("/from")).unwrap();
    assert_eq!(places(&fs), (false, true));
}

#[test]
fn a_removal_may_be_undone() {
    let fs = SimFs::new();
    fs.put("/a", b"x").unwrap();
    fs.remove_file(p("/a")).unwrap();
    assert!(fs.contents("/a").is_err());
    assert_eq!(if_all_is_lost(&fs, "/a").as_deref(), Some(&b"x"[..]));
    fs.sync_dir(p("/")).unwrap();
    assert_eq!(if_all_is_lost(&fs, "/a"), None);
}

#[test]
fn a_kill_keeps_everything_and_makes_nothing_durable() {
    let fs = SimFs::new();
    let file = create(&fs, "/a");
    let lock = fs.lock(p("/LOCK")).unwrap();
    write(&file, 0, b"from the first process");
    let before = fs.undecided();

    let second = fs.kill();
    assert!(fs.is_crashed() && is_crash(&file.write_at(b"x", 0).unwrap_err()));
    assert!(is_crash(&fs.exists(p("/a")).unwrap_err()));
    assert!(!second.is_crashed());
    second.lock(p("/LOCK")).expect("the lock died with its process");
    drop(lock);
    assert_eq!(second.contents("/a").unwrap(), b"from the first process");
    assert_eq!(second.undecided(), before);
    assert_eq!(if_all_is_lost(&second, "/a"), Some(vec![]), "a power cut still takes it");

    let file = second.open(p("/a"), OpenOptions::write()).unwrap();
    file.sync_data().unwrap();
    let third = second.kill().power_cut(|_| Fate::Lost);
    assert_eq!(third.contents("/a").unwrap(), b"from the first process");
}

#[test]
fn a_crash_hits_the_operation_with_its_number() {
    let fs = SimFs::new();
    let file = create(&fs, "/a");
    let durable = fs.open(p("/a"), OpenOptions::write().durable()).unwrap();
    fs.crash_at(fs.op_count() + 1);
    write(&file, 0, &sector(1));
    let error = durable.write_at(&[2; 2048], 512).unwrap_err();
    assert!(is_crash(&error) && fs.is_crashed(), "{error}");
    assert!(is_crash(&std::io::Error::other(error)), "also as a cause");
    assert!(is_crash(&file.sync_data().unwrap_err()), "and for ever after");

    let in_flight = |fate| fs.kill_with(fate).contents("/a").unwrap().len();
    assert_eq!(in_flight(InFlight::Lost), 512);
    assert_eq!(in_flight(InFlight::Torn(3)), 512 + 3 * 512);
    assert_eq!(in_flight(InFlight::Done), 512 + 2048);
    let torn = fs.kill_with(InFlight::Torn(3)).power_cut(|unit| match unit {
        Unit::Sector { offset: 1024, .. } => Fate::Lost,
        _ => Fate::Kept,
    });
    let expected = [sector(1), sector(2), sector(0), sector(2)].concat();
    assert_eq!(torn.contents("/a").unwrap(), expected);
    assert_eq!(if_all_is_lost(&fs, "/a").unwrap(), b"", "in flight is not durable");
    assert!(fs.kill().story().contains("write /a at 512+2048"), "{}", fs.kill().story());
}

#[test]
fn an_interrupted_sync_may_have_done_nothing_or_all() {
    let fs = SimFs::new();
    let file = create(&fs, "/a");
    write(&file, 0, b"x");
    fs.crash_at(fs.op_count());
    assert!(file.sync_data().is_err());
    assert_eq!(if_all_is_lost(&fs, "/a").unwrap(), b"");
    assert_eq!(fs.power_cut(|_| Fate::Kept).contents("/a").unwrap(), b"x");
}

#[test]
fn a_fork_goes_its_own_way() {
    let fs = SimFs::new();
    let file = create(&fs, "/a");
    write(&file, 0, b"one");
    let hash = fs.state_hash();
    let fork = fs.fork();
    assert_eq!(fork.state_hash(), hash);
    write(&file, 0, b"two");
    assert_eq!(fork.contents("/a").unwrap(), b"one");
    assert_eq!(fork.state_hash(), hash);
    assert_ne!(fs.state_hash(), hash);
    let hash = fs.state_hash();
    file.sync_data().unwrap();
    assert_ne!(fs.state_hash(), hash, "what is durable counts too");
}

#[test]
fn the_log_shows_the_order_of_operations() {
    let fs = SimFs::new();
    let file = create(&fs, "/tmp");
    write(&file, 0, b"x");
    file.sync_data().unwrap();
    fs.rename(p("/tmp"), p("/final")).unwrap();
    fs.sync_dir(p("/")).unwrap();
    fs.list(p("/")).unwrap();
    let log: Vec<String> = fs.ops().iter().map(ToString::to_string).collect();
    let expected = [
        "0: create /tmp",
        "1: sync directory /",
        "2: write /tmp at 0+1",
        "3: sync /tmp",
        "4: rename /tmp to /final",
        "5: sync directory /",
        "list /",
    ];
    assert_eq!(log, expected);
    assert_eq!(fs.op_count(), 6);
    fs.clear_ops();
    assert_eq!((fs.ops(), fs.op_count()), (vec![], 6));
}
