//! What a boot says of a log with holes, and how a group becomes clean again.

mod support;

use refloat_log_store::GroupState;
use refloat_types::{Entry, EntryKind, GroupWrite, Index, LogOp, Now};
use refloat_vfs::Fate;
use support::{Disk, entry, group, id};

fn indexes(set: &refloat_types::IndexSet) -> Vec<u64> {
    set.iter().map(|index| index.0).collect()
}

/// Entries 1 to 9 of term 1, all durable, of which entry 4 rotted.
fn with_a_hole() -> Disk {
    let mut disk = Disk::small();
    disk.create_group(group(1)).unwrap();
    for _ in 0..9 {
        disk.append(group(1), 1, 1, 60);
        disk.sync().unwrap();
    }
    disk.idle().unwrap();
    let back = Disk::on(disk.fs.power_cut(|_| Fate::Kept), &disk.options);
    back.rot("wal", "t1 i4 ");
    back
}

fn fill(disk: &mut Disk, index: u64) {
    let op = LogOp::Fill { entries: vec![entry(1, index, 60)] };
    let write = GroupWrite { group: group(1), hard_state: None, log: Some(op) };
    disk.store().submit(Now(0), &[write]).unwrap();
}

#[test]
fn a_hole_keeps_its_place_and_its_term_in_what_a_boot_hands_out() {
    let mut disk = with_a_hole();
    let boot = disk.boot().unwrap();
    let found = &boot.groups[0];
    assert_eq!(found.state, GroupState::Damaged, "{}", boot.report);
    assert_eq!(indexes(&found.holes), [4]);
    assert_eq!((found.last, found.terms.as_slice()), (id(1, 9), &[id(1, 1)][..]));
    // A lost last entry is part of the log too.
    disk.kill();
    disk.rot("wal", "t1 i9 ");
    let boot = disk.boot().unwrap();
    assert_eq!(indexes(&boot.groups[0].holes), [4, 9]);
    assert_eq!(boot.groups[0].last, id(1, 9));
}

#[test]
fn a_filled_hole_is_no_hole_for_the_next_boot_whether_the_record_of_it_was_written_or_not() {
    for noted in [false, true] {
        let mut disk = with_a_hole();
        assert_eq!(disk.boot().unwrap().groups[0].state, GroupState::Damaged);
        fill(&mut disk, 4);
        if noted {
            disk.store().note_healed(Now(0), group(1)).unwrap();
        }
        disk.sync().unwrap();
        for _ in 0..2 {
            disk.kill();
            let boot = disk.boot().unwrap();
            assert_eq!(boot.groups[0].state, GroupState::Clean, "{noted}: {}", boot.report);
            assert!(boot.groups[0].holes.is_empty());
        }
        let log = disk.read_log(group(1), Index(1)).unwrap();
        assert_eq!(log.len(), 9, "and every entry is read");
    }
}

#[test]
fn a_record_of_healing_is_never_durable_without_the_entries_that_healed() {
    let mut disk = with_a_hole();
    disk.boot().unwrap();
    fill(&mut disk, 4);
    disk.store().note_healed(Now(0), group(1)).unwrap();
    let stop = disk.fs.op_count() + 1;
    disk.fs.crash_at(stop);
    let _ = disk.sync();
    for image in disk.fs.crash_images(40) {
        let story = image.story();
        let mut back = Disk::on(image, &disk.options);
        let boot = back.boot().unwrap();
        let found = &boot.groups[0];
        let whole = found.holes.is_empty();
        assert_eq!(found.state == GroupState::Clean, whole, "{story}: {}", boot.report);
        if whole {
            assert_eq!(back.read_log(group(1), Index(1)).unwrap().len(), 9, "{story}");
        }
    }
}

#[test]
fn an_amnesia_that_the_host_was_told_of_outlives_every_start() {
    let mut disk = Disk::small();
    for n in 1..=2 {
        disk.create_group(group(n)).unwrap();
        disk.append(group(n), 1, 3, 60);
    }
    disk.sync().unwrap();
    disk.store().note_amnesia(Now(0), group(1), "its leader remembers more").unwrap();
    disk.sync().unwrap();
    for _ in 0..3 {
        disk.kill();
        let boot = disk.boot().unwrap();
        let states: Vec<GroupState> = boot.groups.iter().map(|g| g.state).collect();
        assert_eq!(states, [GroupState::Amnesia, GroupState::Clean], "{}", boot.report);
        let why = boot.groups[0].waits_for.as_deref().unwrap_or_default();
        assert!(why.contains("remembers more"), "{why}");
    }
}

#[test]
fn m17_a_new_life_is_kept_as_a_vote_is_and_ends_the_amnesia() {
    let mut disk = Disk::small();
    disk.create_group(group(1)).unwrap();
    disk.create_group(group(2)).unwrap();
    disk.append(group(1), 1, 3, 60);
    disk.store().note_amnesia(Now(0), group(1), "its leader remembers more").unwrap();
    disk.sync().unwrap();
    disk.kill();
    disk.boot().unwrap();
    disk.store().note_new_life(Now(0), group(1), "second".into()).unwrap();
    disk.sync().unwrap();
    for _ in 0..2 {
        disk.kill();
        let boot = disk.boot().unwrap();
        assert_eq!(boot.groups[0].state, GroupState::Clean, "{}", boot.report);
        assert_eq!(boot.groups[0].value.as_deref(), Some(&b"second"[..]));
    }
}

#[test]
fn a_lost_end_stays_unknown_until_it_is_said_to_be_healed() {
    let mut disk = Disk::small();
    disk.create_group(group(1)).unwrap();
    disk.vote(group(1), 1).unwrap();
    disk.sync().unwrap();
    disk.append(group(1), 1, 3, 60);
    disk.sync().unwrap();
    disk.kill();
    disk.boot().unwrap(); // a new file
    disk.append(group(1), 1, 3, 60);
    disk.sync().unwrap();
    disk.kill();
    let newest = disk.files("wal").into_iter().rfind(|f| f.extension().is_some_and(|e| e == "wal"));
    refloat_vfs::Vfs::remove_file(&disk.fs, &newest.unwrap()).unwrap();
    for _ in 0..3 {
        let boot = disk.boot().unwrap();
        assert_eq!(boot.groups.len(), 1, "{}", boot.report);
        assert_eq!(boot.groups[0].state, GroupState::HeadUnknown, "{}", boot.report);
        disk.kill();
    }
    disk.boot().unwrap();
    disk.append_after(group(1), id(1, 3), 2, 1, 60).unwrap();
    disk.store().note_healed(Now(0), group(1)).unwrap();
    disk.sync().unwrap();
    disk.kill();
    let boot = disk.boot().unwrap();
    assert_eq!(boot.groups[0].state, GroupState::Clean, "{}", boot.report);
}

/// A replica campaigns with holes, but not with one that may be a membership change.
#[test]
fn of_a_hole_that_a_directory_names_it_is_known_whether_it_is_a_membership_change() {
    let mut disk = Disk::small();
    disk.create_group(group(1)).unwrap();
    for index in 1..=6 {
        let entries = match index {
            4 => vec![Entry::new(id(1, 4), EntryKind::Config, b"who is in"[..].into())],
            _ => vec![entry(1, index, 60)],
        };
        let prev = if index == 1 { refloat_types::EntryId::ZERO } else { id(1, index - 1) };
        disk.write(group(1), None, Some(LogOp::Append { prev, entries })).unwrap();
        disk.sync().unwrap();
    }
    disk.idle().unwrap();
    let config_holes = |lost: &[&str]| {
        let mut back = Disk::on(disk.fs.power_cut(|_| Fate::Kept), &disk.options);
        lost.iter().for_each(|text| back.rot("wal", text));
        let boot = back.boot().unwrap();
        let found = &boot.groups[0];
        assert_eq!(found.state, GroupState::Damaged, "{}", boot.report);
        (indexes(&found.holes), indexes(&found.config_holes))
    };
    assert_eq!(config_holes(&["t1 i3 "]), (vec![3], vec![]));
    assert_eq!(config_holes(&["who is in"]), (vec![4], vec![4]));
    assert_eq!(config_holes(&["t1 i3 ", "who is in"]), (vec![3, 4], vec![4]));
}

/// A lost membership change that was overwritten is none of the log any more.
#[test]
fn a_lost_membership_change_that_was_overwritten_keeps_nobody_from_campaigning() {
    let mut disk = Disk::small();
    disk.create_group(group(1)).unwrap();
    disk.append(group(1), 1, 3, 60);
    let entries = vec![Entry::new(id(1, 4), EntryKind::Config, b"who is in"[..].into())];
    disk.write(group(1), None, Some(LogOp::Append { prev: id(1, 3), entries })).unwrap();
    disk.sync().unwrap();
    disk.append_after(group(1), id(1, 3), 2, 3, 60).unwrap();
    disk.sync().unwrap();
    disk.idle().unwrap();
    let mut back = Disk::on(disk.fs.power_cut(|_| Fate::Kept), &disk.options);
    back.rot("wal", "who is in");
    back.rot("wal", "t2 i4 ");
    let boot = back.boot().unwrap();
    let found = &boot.groups[0];
    assert_eq!(found.state, GroupState::Damaged, "{}", boot.report);
    assert_eq!((indexes(&found.holes), indexes(&found.config_holes)), (vec![4], vec![]));
}

/// Where no directory names them, lost entries may be membership changes.
#[test]
fn of_entries_lost_with_a_segment_nothing_is_known_but_their_term() {
    let mut options = Disk::small().options;
    options.small_segment = 0;
    let mut disk = Disk::with(options);
    disk.create_group(group(1)).unwrap();
    for _ in 0..16 {
        disk.append(group(1), 1, 2, 6000);
        disk.sync().unwrap();
    }
    disk.kill();
    let segments = disk.files("seg");
    assert!(segments.len() > 2, "{segments:?}");
    refloat_vfs::Vfs::remove_file(&disk.fs, &segments[1]).unwrap();
    let boot = disk.boot().unwrap();
    let found = &boot.groups[0];
    assert_eq!(found.state, GroupState::Damaged, "{}", boot.report);
    assert!(!found.holes.is_empty());
    assert_eq!(found.config_holes, found.holes);
}

/// Group 2 has an end of term 1, segments of group 1 behind it, and then entries of term 2. Lost
/// is a segment in between, so that only what the log file of the latter says of the entry before
/// them shows that nothing overwrote that end.
fn with_a_lost_segment_between_two_terms() -> Disk {
    let (disk, lost) = with_segments_between_two_terms();
    refloat_vfs::Vfs::remove_file(&disk.fs, &lost).unwrap();
    disk
}

/// And the segment that stands between the terms of group 2, with much of group 1.
fn with_segments_between_two_terms() -> (Disk, std::path::PathBuf) {
    let mut options = Disk::small().options;
    (options.small_segment, options.live_percent) = (0, 0);
    let mut disk = Disk::with(options);
    disk.create_group(group(1)).unwrap();
    disk.create_group(group(2)).unwrap();
    disk.append(group(2), 1, 3, 60);
    run_on(&mut disk, 4);
    disk.append(group(2), 2, 3, 60);
    disk.sync().unwrap();
    disk.kill();
    let segments = disk.files("seg");
    assert!(segments.len() > 2, "{segments:?}");
    (disk, segments[1].clone())
}

/// Writes to group 1 until so many log files are flushed and released.
fn run_on(disk: &mut Disk, files: u64) {
    let generation = disk.store().stats().generation.0;
    while disk.store().stats().flushed.0 < generation + files {
        disk.append(group(1), 1, 2, 6000);
        disk.sync().unwrap();
    }
}

fn states(boot: &support::Boot2) -> Vec<GroupState> {
    boot.groups.iter().map(|group| group.state).collect()
}

fn heal_group_1(disk: &mut Disk, boot: &support::Boot2) {
    let ids: Vec<_> = boot.groups[0].holes.iter().map(|index| id(1, index.0)).collect();
    disk.fill(group(1), &ids);
    disk.store().note_healed(Now(0), group(1)).unwrap();
    disk.sync().unwrap();
}

#[test]
fn a_segment_that_was_lost_is_forgotten_once_its_group_is_healed() {
    for starts_between in [false, true] {
        let mut disk = with_a_lost_segment_between_two_terms();
        let boot = disk.boot().unwrap();
        let expected = [GroupState::Damaged, GroupState::Clean];
        assert_eq!(states(&boot), expected, "{}", boot.report);
        heal_group_1(&mut disk, &boot);
        if starts_between {
            disk.kill();
            let boot = disk.boot().unwrap();
            assert_eq!(states(&boot), [GroupState::Clean; 2], "{}", boot.report);
        }
        let before = disk.files("wal");
        run_on(&mut disk, 4);
        let still = disk.files("wal").into_iter().filter(|file| before.contains(file));
        assert!(still.clone().all(|f| f.extension().is_none_or(|e| e != "wal")), "released");
        for _ in 0..2 {
            disk.kill();
            let boot = disk.boot().unwrap();
            assert_eq!(states(&boot), [GroupState::Clean; 2], "{}", boot.report);
            assert!(boot.report.damage.is_empty(), "{}", boot.report);
        }
        let log = disk.read_log(group(2), Index(1)).unwrap();
        assert_eq!(log.iter().map(|e| e.id.term.0).collect::<Vec<_>>(), [1, 1, 1, 2, 2, 2]);
    }
}

/// What proves such a group is which term a record names before its newer entries: no segment says
/// that, and the log file that does goes with its flush, whoever else waits to be healed.
#[test]
fn a_group_that_only_a_log_record_proved_beside_a_lost_segment_is_doubted_once_that_is_gone() {
    let mut disk = with_a_lost_segment_between_two_terms();
    let boot = disk.boot().unwrap();
    assert_eq!(states(&boot), [GroupState::Damaged, GroupState::Clean], "{}", boot.report);
    let before = disk.files("wal");
    run_on(&mut disk, 4);
    let is_gone = |file: &&std::path::PathBuf| !disk.files("wal").contains(file);
    assert!(before.iter().filter(is_gone).count() > 0, "a group that waits holds no log file back");
    disk.kill();
    let boot = disk.boot().unwrap();
    assert_eq!(boot.groups[1].state, GroupState::HeadUnknown, "{}", boot.report);
    // Nothing that may have been overwritten is relied on, and a leader makes up for it.
    assert_eq!((boot.groups[1].last, boot.groups[1].commit), (id(0, 0), Index::ZERO));
    heal_group_1(&mut disk, &boot);
    let entries = (1..=6).map(|n| entry(if n < 4 { 1 } else { 2 }, n, 60)).collect();
    disk.write(group(2), None, Some(LogOp::Append { prev: id(0, 0), entries })).unwrap();
    disk.store().note_healed(Now(0), group(2)).unwrap();
    disk.sync().unwrap();
    disk.kill();
    let boot = disk.boot().unwrap();
    assert_eq!(states(&boot), [GroupState::Clean; 2], "{}", boot.report);
}

#[test]
fn w28_a_damaged_segment_is_kept_aside_once_it_is_forgotten() {
    let (mut disk, damaged) = with_segments_between_two_terms();
    disk.fs.corrupt(&damaged, |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0x55)).unwrap();
    let content = disk.fs.contents(&damaged).unwrap();
    for _ in 0..2 {
        let boot = disk.boot().unwrap();
        assert_eq!(boot.groups[0].state, GroupState::Damaged, "{}", boot.report);
        disk.sync().unwrap();
        assert!(disk.fs.files().contains_key(&damaged), "it stays while a group misses something");
        disk.kill();
    }
    let boot = disk.boot().unwrap();
    heal_group_1(&mut disk, &boot);
    let aside = damaged.with_extension("seg.bad");
    for start in 0..3 {
        disk.kill();
        let boot = disk.boot().unwrap();
        assert_eq!(states(&boot), [GroupState::Clean; 2], "{}", boot.report);
        let says = boot.report.set_aside.iter().any(|line| line.contains(".seg"));
        assert!(says, "start {start}: {}", boot.report);
        disk.sync().unwrap();
        assert_eq!(disk.fs.contents(&aside).unwrap(), content, "start {start}");
        assert!(!disk.fs.files().contains_key(&damaged));
    }
    // Not without bound: of many the newest four are kept.
    let before = disk.files("seg").len();
    for revision in 100..107 {
        let name =
            refloat_segment::SegmentName::new(refloat_types::Generation(1), revision).to_string();
        disk.fs.put(damaged.with_file_name(name), &content).unwrap();
    }
    disk.kill();
    disk.boot().unwrap();
    disk.sync().unwrap();
    let mut bad = disk.files("seg");
    assert_eq!(bad.len(), before + 3, "{bad:?}");
    bad.retain(|path| path.extension().is_some_and(|e| e == "bad"));
    assert!(bad.len() == 4 && bad.contains(&aside), "{bad:?}");
}

#[test]
fn a_lost_segment_stays_listed_until_the_last_group_that_misses_something_is_healed() {
    let mut disk = with_a_lost_segment_between_two_terms();
    for _ in 0..3 {
        let boot = disk.boot().unwrap();
        assert_eq!(boot.groups[0].state, GroupState::Damaged, "{}", boot.report);
        let says = boot.report.damage.iter().any(|line| line.contains("cannot be opened"));
        assert!(says, "{}", boot.report);
        disk.kill();
    }
    // Until the record of it is durable, whatever the power leaves is judged as before.
    let boot = disk.boot().unwrap();
    let ids: Vec<_> = boot.groups[0].holes.iter().map(|index| id(1, index.0)).collect();
    disk.fill(group(1), &ids);
    disk.store().note_healed(Now(0), group(1)).unwrap();
    let whole = disk.fs.fork();
    disk.sync().unwrap();
    let total = disk.fs.op_count() - whole.op_count();
    assert!(total > 1, "{total}");
    for image in disk.fs.crash_images(40) {
        let story = image.story();
        let mut back = Disk::on(image, &disk.options);
        let boot = back.boot().unwrap();
        assert_ne!(boot.groups[0].state, GroupState::HeadUnknown, "{story}: {}", boot.report);
        assert_eq!(boot.groups[1].state, GroupState::Clean, "{story}: {}", boot.report);
    }
}

#[test]
fn a_lost_segment_that_nobody_misses_is_forgotten_by_the_start_that_finds_out_at_any_crash() {
    // Everything that it held is below a snapshot.
    let lose = || {
        let mut disk = with_a_lost_segment_between_two_terms();
        let boot = disk.boot().unwrap();
        heal_group_1(&mut disk, &boot);
        run_on(&mut disk, 2);
        disk.snapshot(group(1), refloat_types::IndexSet::new()).unwrap();
        disk.append(group(2), 3, 3, 60);
        disk.sync().unwrap();
        disk.kill();
        let newest = disk.files("seg").pop().expect("some");
        refloat_vfs::Vfs::remove_file(&disk.fs, &newest).unwrap();
        disk
    };
    let mut whole = lose();
    let before = whole.fs.op_count();
    let boot = whole.boot().unwrap();
    assert_eq!(states(&boot), [GroupState::Clean; 2], "{}", boot.report);
    assert!(boot.report.damage.iter().any(|line| line.contains("cannot be opened")));
    for stop in 1..=whole.fs.op_count() - before {
        let mut disk = lose();
        disk.fs.crash_at(disk.fs.op_count() + stop);
        let _ = disk.boot();
        for image in disk.fs.crash_images(3) {
            let story = image.story();
            let mut back = Disk::on(image, &disk.options);
            back.history = disk.history.clone();
            let boot = back.boot().unwrap();
            assert_eq!(states(&boot), [GroupState::Clean; 2], "{story}: {}", boot.report);
            run_on(&mut back, 4);
            back.kill();
            let boot = back.boot().unwrap();
            assert_eq!(states(&boot), [GroupState::Clean; 2], "{story}: {}", boot.report);
            assert!(boot.report.damage.is_empty(), "{story}: {}", boot.report);
        }
    }
}

#[test]
fn a_lost_segment_is_not_listed_again_by_a_record_that_a_start_writes_again() {
    let mut disk = Disk::small();
    disk.create_group(group(1)).unwrap();
    while disk.store().stats().generation.0 < 2 {
        disk.append(group(1), 1, 2, 6000);
        drop(disk.sync_without(refloat_log_store::Lane::Flush).unwrap());
    }
    disk.snapshot(group(1), refloat_types::IndexSet::new()).unwrap();
    disk.kill();
    disk.boot().unwrap();
    // The record that names the segment is the last one, and nothing proves it.
    disk.sync().unwrap();
    assert_eq!(disk.files("seg").len(), 1);
    disk.kill();
    refloat_vfs::Vfs::remove_file(&disk.fs, &disk.files("seg")[0]).unwrap();
    let boot = disk.boot().unwrap();
    assert!(boot.report.damage.iter().any(|line| line.contains("cannot be opened")));
    assert!(boot.report.files.iter().any(|file| file.verdict.contains("written again")));
    assert_eq!(states(&boot), [GroupState::Clean], "{}", boot.report);
    disk.kill();
    let boot = disk.boot().unwrap();
    assert!(boot.report.damage.is_empty(), "{}", boot.report);
}
