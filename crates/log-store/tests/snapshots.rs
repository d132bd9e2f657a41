//! Snapshots written, received and installed: which file counts when, and what may go.

mod support;

use refloat_log_store::{GroupState, Lane};
use refloat_types::{Entry, EntryId, EntryKind, Index, IndexSet, LogOp};
use refloat_vfs::Fate;
use support::*;

fn with_log(count: u64) -> Disk {
    let mut disk = Disk::small();
    disk.create_group(group(1)).unwrap();
    disk.append(group(1), 1, count, 100);
    disk.sync().unwrap();
    disk
}

fn live(indexes: &[u64]) -> IndexSet {
    indexes.iter().copied().map(Index).collect()
}

fn lost_power(disk: &Disk) -> Disk {
    Disk::on(disk.fs.power_cut(|_| Fate::Lost), &disk.options)
}

/// Runs the jobs but those that write logs, whose results stay out.
fn run_without_logs(disk: &mut Disk) {
    let (vfs, now) = (disk.vfs.clone(), disk.now);
    while let Some(job) = disk.store().poll_job(now) {
        if !matches!(job.lane(), Lane::Wal | Lane::Votes) {
            let done = job.run(&vfs);
            disk.store().complete(now, done).unwrap();
        }
    }
}

/// A local snapshot is published and its record not yet durable when the leader's is installed:
/// what the first record makes durable must not retire files for the sake of the second.
#[test]
fn an_install_retires_nothing_before_its_own_record_is_durable() {
    let mut disk = with_log(4);
    disk.snapshot(group(1), IndexSet::new()).unwrap();
    disk.append(group(1), 1, 4, 100);
    disk.sync().unwrap();
    disk.receive(group(1), id(2, 20), IndexSet::new()).unwrap();
    disk.begin_snapshot(group(1), id(1, 8), IndexSet::new());
    // The snapshot is written; its record waits in the batch that is in flight.
    let mut held = Vec::new();
    let (vfs, now) = (disk.vfs.clone(), disk.now);
    while let Some(job) = disk.store().poll_job(now) {
        if job.lane() == Lane::Wal {
            held.push(job);
            continue;
        }
        let done = job.run(&vfs);
        disk.store().complete(now, done).unwrap();
    }
    assert_eq!(held.len(), 1, "the record that publishes the local one");
    disk.install(group(1), id(2, 20)).unwrap();
    disk.run(held.remove(0)).unwrap();
    run_without_logs(&mut disk); // the install is never written
    let mut back = Disk::on(disk.fs.power_cut(|_| Fate::Kept), &disk.options);
    let boot = back.boot().unwrap();
    let g = &boot.groups[0];
    assert_eq!(g.state, GroupState::Clean, "{}", boot.report);
    assert_eq!((g.snapshot, g.last), (id(1, 8), id(1, 8)), "{}", boot.report);
    let fallback = back.files("snap").iter().any(|p| p.to_string_lossy().ends_with("04.snap"));
    assert!(fallback, "{:?}", back.files("snap"));
}

/// A received snapshot waits for its install while a local one is published: both must count.
#[test]
fn n04_a_local_snapshot_beside_a_received_one_loses_neither() {
    let mut disk = with_log(4);
    disk.begin_snapshot(group(1), id(1, 4), IndexSet::new());
    let held = disk.sync_without(Lane::Wal).unwrap();
    assert!(!held.is_empty());
    // The other one arrives while the record of the first is on its way.
    let (meta, chunks) = sent_snapshot(group(1), id(2, 20), IndexSet::new());
    disk.store().receive_snapshot(meta.clone(), None);
    run_without_logs(&mut disk);
    for chunk in chunks {
        disk.store().receive_snapshot(meta.clone(), Some(chunk));
        run_without_logs(&mut disk);
    }
    held.into_iter().for_each(|job| disk.run(job).unwrap());
    disk.sync().unwrap();
    assert_eq!(disk.store().latest_snapshot(group(1)).map(|m| m.id), Some(id(1, 4)));
    disk.install(group(1), id(2, 20)).unwrap();
    disk.sync().unwrap();
    assert_eq!(disk.store().latest_snapshot(group(1)).map(|m| m.id), Some(id(2, 20)));
    let mut back = lost_power(&disk);
    let boot = back.boot().unwrap();
    assert_eq!(boot.groups[0].state, GroupState::Clean, "{}", boot.report);
    assert_eq!(boot.groups[0].snapshot, id(2, 20));
}

#[test]
fn n11_an_install_of_what_was_never_received_or_is_older_is_refused_and_writes_nothing() {
    let mut disk = with_log(6);
    let conf = refloat_types::ConfState::of_voters([ME]);
    let now = disk.now;
    assert!(disk.store().install_snapshot(now, group(1), id(2, 20), &conf).is_err());
    assert!(disk.store().install_snapshot(now, group(9), id(2, 20), &conf).is_err());
    disk.receive(group(1), id(1, 5), IndexSet::new()).unwrap();
    disk.snapshot(group(1), IndexSet::new()).unwrap();
    assert!(disk.store().install_snapshot(now, group(1), id(1, 5), &conf).is_err(), "6 is newer");
    let mut back = lost_power(&disk);
    let boot = back.boot().unwrap();
    assert_eq!(boot.groups[0].state, GroupState::Clean, "{}", boot.report);
    assert_eq!(boot.groups[0].snapshot, id(1, 6));
}

/// The record that publishes a snapshot is unproven after a kill and written again behind a
/// checkpoint that knows it already.
#[test]
fn a_publication_that_is_written_again_does_not_cost_the_fallback() {
    let mut disk = with_log(4);
    disk.snapshot(group(1), IndexSet::new()).unwrap();
    disk.append(group(1), 1, 4, 100);
    disk.sync().unwrap();
    disk.snapshot(group(1), IndexSet::new()).unwrap();
    for _ in 0..3 {
        disk.kill();
        disk.boot().unwrap();
        disk.sync().unwrap();
    }
    let image = Disk::on(disk.fs.power_cut(|_| Fate::Kept), &disk.options);
    image.rot("snap", "state at 8 of term 1");
    let mut back = image;
    let boot = back.boot().unwrap();
    let g = &boot.groups[0];
    assert_eq!((g.state, g.snapshot, g.last), (GroupState::Clean, id(1, 4), id(1, 8)));
}

/// Live indexes of the older snapshot are needed as long as it is the fallback, also after a boot.
#[test]
fn the_fallback_keeps_its_live_entries_through_a_boot_a_flush_and_a_compaction() {
    let mut disk = with_log(6);
    disk.snapshot(group(1), live(&[2, 3])).unwrap();
    disk.append(group(1), 1, 4, 100);
    disk.sync().unwrap();
    disk.snapshot(group(1), live(&[3])).unwrap();
    disk.kill();
    disk.boot().unwrap();
    for _ in 0..8 {
        disk.append(group(1), 1, 3, 5000);
        disk.sync().unwrap();
    }
    assert!(disk.store().stats().segments > 0);
    for index in [2, 3] {
        let at = Index(index);
        let read = disk.store().read(group(1), at, at, 1 << 20);
        let found = match read {
            refloat_log_store::Read::Entries(entries) => entries.len(),
            refloat_log_store::Read::Later(_) => {
                disk.sync().unwrap();
                let answer = disk.store().take_events().into_iter().find_map(|e| match e {
                    refloat_log_store::Event::Read { result, .. } => Some(result),
                    _ => None,
                });
                answer.expect("answered").map_or(0, |entries| entries.len())
            }
            other => panic!("entry {index}: {other:?}"),
        };
        assert_eq!(found, 1, "entry {index}");
    }
}

#[test]
fn a_rotten_snapshot_is_not_taken_for_the_fallback_of_the_next() {
    let mut disk = with_log(4);
    disk.snapshot(group(1), IndexSet::new()).unwrap();
    disk.append(group(1), 1, 4, 100);
    disk.sync().unwrap();
    disk.snapshot(group(1), IndexSet::new()).unwrap();
    let mut back = Disk::on(disk.fs.power_cut(|_| Fate::Kept), &disk.options);
    back.rot("snap", "state at 8 of term 1");
    let boot = back.boot().unwrap();
    assert_eq!((boot.groups[0].state, boot.groups[0].snapshot), (GroupState::Clean, id(1, 4)));
    let found = back.observed(&boot).unwrap();
    back.history = vec![(refloat_log_store::Ticket(0), found)];
    back.append(group(1), 1, 4, 100);
    back.sync().unwrap();
    back.snapshot(group(1), IndexSet::new()).unwrap();
    // Now the newest rots too: 4 and the log from there must still be here.
    let mut again = Disk::on(back.fs.power_cut(|_| Fate::Kept), &back.options);
    again.rot("snap", "state at 12 of term 1");
    let boot = again.boot().unwrap();
    let g = &boot.groups[0];
    let found = (g.state, g.snapshot, g.last);
    assert_eq!(found, (GroupState::Clean, id(1, 4), id(1, 12)), "{}", boot.report);
}

/// Removals run beside the writing of snapshots: a name that was retired and is written anew must
/// not be taken away by the removal that comes late.
#[test]
fn a_late_removal_takes_no_snapshot_that_was_written_anew_under_the_name() {
    let mut disk = with_log(4);
    disk.begin_snapshot(group(1), id(1, 4), IndexSet::new());
    run_without_logs(&mut disk); // written, and never published
    let mut back = lost_power(&disk);
    let boot = back.boot().unwrap();
    let found = back.observed(&boot).unwrap();
    back.history = vec![(refloat_log_store::Ticket(0), found)];
    back.begin_snapshot(group(1), id(1, 4), IndexSet::new());
    let slow = back.sync_without(Lane::Flush).unwrap();
    slow.into_iter().for_each(|job| back.run(job).unwrap());
    back.sync().unwrap();
    let mut after = Disk::on(back.fs.power_cut(|_| Fate::Kept), &back.options);
    let boot = after.boot().unwrap();
    assert_eq!(boot.groups[0].state, GroupState::Clean, "{}", boot.report);
    assert_eq!(boot.groups[0].snapshot, id(1, 4), "{}", boot.report);
}

#[test]
fn n07_live_entries_that_came_before_the_snapshot_survive_its_install() {
    let mut disk = Disk::small();
    disk.create_group(group(1)).unwrap();
    // A tail of an older term that the leader's log does not have.
    disk.append(group(1), 1, 6, 50);
    disk.sync().unwrap();
    disk.fill(group(1), &[id(2, 3), id(2, 9)]);
    disk.receive(group(1), id(3, 12), live(&[3, 9])).unwrap();
    disk.install(group(1), id(3, 12)).unwrap();
    disk.sync().unwrap();
    for _ in 0..2 {
        for index in [3, 9] {
            match disk.store().read(group(1), Index(index), Index(index), 1 << 20) {
                refloat_log_store::Read::Entries(e) => assert_eq!(e[0].id, id(2, index)),
                refloat_log_store::Read::Later(_) => {
                    disk.sync().unwrap();
                    let events = disk.store().take_events();
                    let ok = events.iter().any(|e| {
                        matches!(e, refloat_log_store::Event::Read { result: Ok(entries), .. }
                            if entries[0].id == id(2, index))
                    });
                    assert!(ok, "{events:?}");
                }
                other => panic!("entry {index}: {other:?}"),
            }
        }
        assert_eq!(disk.store().durable_index(group(1)), Index(12));
        let image = disk.fs.power_cut(|_| Fate::Lost);
        disk = Disk::on(image, &disk.options);
        let boot = disk.boot().unwrap();
        assert_eq!(boot.groups[0].state, GroupState::Clean, "{}", boot.report);
        assert_eq!(boot.groups[0].last, id(3, 12));
    }
}

/// The reception of a snapshot is cut off behind its live entries. They were committed by others;
/// what stands before them here may be an end that nobody committed, and to take both for one log
/// would be to hold what no leader ever had.
#[test]
fn n07_live_entries_behind_the_end_of_the_log_are_no_part_of_it_without_their_snapshot() {
    let stories = ["nothing", "a checkpoint", "a flush", "another start"];
    let fills = [vec![id(3, 7), id(3, 8)], vec![id(3, 7), id(3, 20)], vec![id(1, 9)]];
    for (later, filled) in stories.into_iter().flat_map(|s| fills.iter().map(move |f| (s, f))) {
        let mut disk = with_log(6);
        disk.vote(group(1), 3).unwrap();
        disk.fill(group(1), filled);
        disk.sync().unwrap();
        match later {
            "nothing" => {}
            "another start" => {
                disk.kill();
                disk.boot().unwrap();
            }
            rolled => {
                disk.create_group(group(2)).unwrap();
                let generation = disk.store().stats().generation;
                for _ in 0..40 {
                    disk.append(group(2), 1, 1, 4000);
                    match rolled {
                        "a flush" => disk.sync().unwrap(),
                        _ => drop(disk.sync_without(Lane::Flush).unwrap()),
                    }
                }
                let stats = disk.store().stats();
                assert!(stats.generation > generation);
                assert_eq!(stats.flushed >= generation, rolled == "a flush", "{rolled}");
            }
        }
        let last = disk.store().last(group(1));
        for fate in [Fate::Kept, Fate::Lost] {
            let mut back = Disk::on(disk.fs.power_cut(|_| fate), &disk.options);
            let boot = back.boot().unwrap();
            let found = &boot.groups[0];
            assert_eq!(
                (found.state, found.last),
                (GroupState::Clean, id(1, 6)),
                "{later} {filled:?}"
            );
            assert_eq!(found.terms, [id(1, 1)], "{later}");
            // The leader goes on from there, or sends its snapshot again.
            let wanted = live(&[filled[0].index.0, 20]);
            assert_eq!(back.store().missing_live(group(1), &wanted), wanted, "{later}");
            back.history = vec![(refloat_log_store::Ticket(0), disk.model().clone())];
            back.append_after(group(1), id(1, 6), 3, 3, 50).unwrap();
            back.sync().unwrap();
            assert_eq!(back.store().last(group(1)), id(3, 9), "{later}");
            assert_eq!(back.read_log(group(1), Index(1)).unwrap().len(), 9, "{later}");
        }
        assert_eq!(last, id(1, 6), "{later}");
    }
}

#[test]
fn n07_what_of_a_vast_live_set_is_missing_is_known_at_once() {
    let mut disk = with_log(6);
    let mut vast = IndexSet::new();
    vast.insert_range(Index(4), Index(1 << 60));
    let missing = disk.store().missing_live(group(1), &vast);
    assert_eq!(missing.ranges(), &[(Index(7), Index(1 << 60))]);
}

#[test]
fn n07_an_install_without_its_live_entries_is_refused() {
    let mut disk = with_log(2);
    disk.receive(group(1), id(3, 12), live(&[2, 9])).unwrap();
    let (now, conf) = (disk.now, refloat_types::ConfState::of_voters([ME]));
    let refused = disk.store().install_snapshot(now, group(1), id(3, 12), &conf).unwrap_err();
    assert!(refused.to_string().contains('9'), "{refused}");
    disk.fill(group(1), &[id(2, 9)]);
    disk.install(group(1), id(3, 12)).unwrap();
}

#[test]
fn the_durable_index_reaches_an_installed_snapshot_only_with_its_record() {
    let mut disk = with_log(2);
    disk.receive(group(1), id(3, 12), IndexSet::new()).unwrap();
    disk.install(group(1), id(3, 12)).unwrap();
    assert!(disk.store().durable_index(group(1)) <= Index(2));
    disk.sync().unwrap();
    assert_eq!(disk.store().durable_index(group(1)), Index(12));
}

#[test]
fn a_fill_above_the_end_raises_no_durable_index() {
    let mut disk = with_log(2);
    disk.fill(group(1), &[id(2, 9)]);
    disk.sync().unwrap();
    assert_eq!(disk.store().durable_index(group(1)), Index(2), "3 to 8 are not here");
}

#[test]
fn snapshots_that_came_to_nothing_leave_no_files() {
    let mut disk = with_log(4);
    // Overtaken by an install while it was written.
    disk.begin_snapshot(group(1), id(1, 4), IndexSet::new());
    let slow = disk.sync_without(Lane::Snapshot).unwrap();
    disk.receive(group(1), id(2, 20), IndexSet::new()).unwrap();
    disk.install(group(1), id(2, 20)).unwrap();
    disk.sync().unwrap();
    slow.into_iter().for_each(|job| disk.run(job).unwrap());
    disk.sync().unwrap();
    assert_eq!(disk.files("snap").len(), 1, "{:?}", disk.files("snap"));
    // A reception that a newer one replaced, in two steps, with a restart between them.
    let (meta, _) = sent_snapshot(group(1), id(2, 30), IndexSet::new());
    disk.store().receive_snapshot(meta, None);
    disk.sync().unwrap();
    disk.kill();
    disk.boot().unwrap();
    let (meta, _) = sent_snapshot(group(1), id(2, 40), IndexSet::new());
    disk.store().receive_snapshot(meta, None);
    disk.sync().unwrap();
    let parts = |disk: &Disk| {
        disk.files("snap").iter().filter(|p| p.extension().is_some_and(|e| e == "part")).count()
    };
    assert_eq!(parts(&disk), 1, "{:?}", disk.files("snap"));
    // Received, and overtaken before it was installed.
    disk.receive(group(1), id(2, 50), IndexSet::new()).unwrap();
    disk.receive(group(1), id(2, 60), IndexSet::new()).unwrap();
    disk.install(group(1), id(2, 60)).unwrap();
    disk.sync().unwrap();
    assert_eq!(disk.files("snap").len(), 1, "{:?}", disk.files("snap"));
}

#[test]
fn the_snapshots_of_a_deleted_group_go_also_if_the_power_goes_first() {
    let mut disk = with_log(4);
    disk.snapshot(group(1), IndexSet::new()).unwrap();
    let (meta, _) = sent_snapshot(group(1), id(2, 30), IndexSet::new());
    disk.store().receive_snapshot(meta, None);
    disk.sync().unwrap();
    disk.delete_group(group(1)).unwrap();
    let held = disk.sync_without(Lane::Snapshot).unwrap();
    drop(held);
    let mut back = lost_power(&disk);
    let boot = back.boot().unwrap();
    assert!(boot.groups.is_empty());
    back.sync().unwrap();
    assert!(back.files("snap").is_empty(), "{:?}", back.files("snap"));
}

#[test]
fn n03_all_snapshots_rotten_deletes_nothing_and_says_what_is_missing() {
    let mut disk = with_log(4);
    disk.snapshot(group(1), IndexSet::new()).unwrap();
    disk.append(group(1), 1, 4, 100);
    disk.sync().unwrap();
    disk.snapshot(group(1), IndexSet::new()).unwrap();
    // One more, written and not named: nothing that may still help is thrown away.
    disk.append(group(1), 1, 4, 100);
    disk.sync().unwrap();
    disk.begin_snapshot(group(1), id(1, 12), IndexSet::new());
    run_without_logs(&mut disk);
    let mut back = Disk::on(disk.fs.power_cut(|_| Fate::Lost), &disk.options);
    let contents = |disk: &Disk| -> Vec<Vec<u8>> {
        let mut all: Vec<_> = disk
            .fs
            .files()
            .into_keys()
            .filter(|p| disk.fs.contents(p).unwrap().windows(8).any(|w| w == b"tate at "))
            .filter(|p| p.starts_with(DIR) && !p.to_string_lossy().contains(".wal"))
            .map(|p| disk.fs.contents(p).unwrap())
            .collect();
        all.sort();
        all
    };
    back.rot("snap", "state at 4 of term 1");
    back.rot("snap", "state at 8 of term 1");
    let before = contents(&back);
    assert_eq!(before.len(), 3);
    for _ in 0..3 {
        let boot = back.boot().unwrap();
        let g = &boot.groups[0];
        assert_ne!(g.state, GroupState::Clean, "{}", boot.report);
        let why = g.waits_for.clone().expect("explains");
        assert!(why.contains("snapshot") && why.contains("mismatch"), "{why}");
        back.sync().unwrap();
        assert_eq!(contents(&back), before, "no byte of a snapshot is gone");
        back.kill();
    }
}

#[test]
fn a_snapshot_whose_publication_was_lost_to_damage_is_not_thrown_away() {
    let mut disk = with_log(4);
    for _ in 0..3 {
        disk.append(group(1), 1, 4, 100);
        disk.sync().unwrap();
        disk.snapshot(group(1), IndexSet::new()).unwrap();
    }
    disk.append(group(1), 1, 1, 10);
    disk.sync().unwrap();
    disk.idle().unwrap();
    let kept = disk.files("snap");
    let mut back = Disk::on(disk.fs.power_cut(|_| Fate::Kept), &disk.options);
    // 64 KiB of the log, from the first snapshot's record on.
    let file = wal_files(&back).remove(0);
    back.fs.corrupt(&file, |bytes| bytes[5 * 4096..12 * 4096].fill(0)).unwrap();
    let boot = back.boot().unwrap();
    back.sync().unwrap();
    assert_ne!(boot.groups[0].state, GroupState::Clean, "{}", boot.report);
    for path in kept {
        let name = path.file_name().unwrap().to_owned();
        let there = back.fs.files().into_keys().any(|p| p.file_name() == Some(&name));
        assert!(there, "{} is gone\n{}", path.display(), boot.report);
    }
}

fn wal_files(disk: &Disk) -> Vec<std::path::PathBuf> {
    disk.files("wal").into_iter().filter(|f| f.extension().is_some_and(|e| e == "wal")).collect()
}

#[test]
fn w17_an_overwritten_suffix_is_not_durable_before_the_new_entries_are() {
    let mut disk = with_log(9);
    assert_eq!(disk.store().durable_index(group(1)), Index(9));
    disk.append_after(group(1), id(1, 4), 2, 5, 80).unwrap();
    assert_eq!(disk.store().durable_index(group(1)), Index(4), "at once");
    let acked = disk.acked();
    // The power goes before the new entries are durable: the old ones or the new, never a mix.
    let vfs = disk.vfs.clone();
    let now = disk.now;
    let job = disk.store().poll_job(now).expect("the write of the log");
    disk.fs.crash_at(disk.fs.op_count());
    drop(job.run(&vfs)); // written or half written, its completion never seen
    let images = disk.fs.crash_images(60).count();
    assert!(images >= 2, "{images} {:?}", disk.fs.ops().last());
    for image in disk.fs.crash_images(60) {
        let story = image.story();
        let mut back = Disk::on(image, &disk.options);
        let boot = back.boot().unwrap();
        let found = back.observed(&boot).unwrap_or_else(|e| panic!("{story}: {e}"));
        explain(&disk.history, acked, &found).unwrap_or_else(|e| panic!("{story}: {e}"));
        assert_eq!(back.store().durable_index(group(1)), found[&group(1)].last().index);
    }
    disk.write(group(1), None, Some(LogOp::Cut { from: Index(3) })).unwrap();
    assert!(disk.store().durable_index(group(1)) <= Index(2));
}

#[test]
fn n02_a_leaders_snapshot_takes_the_place_of_a_rotten_one_that_is_as_new_or_newer() {
    for at in [6, 8, 20] {
        let mut disk = with_log(4);
        disk.snapshot(group(1), IndexSet::new()).unwrap();
        disk.append(group(1), 1, 4, 100);
        disk.sync().unwrap();
        disk.snapshot(group(1), IndexSet::new()).unwrap();
        let mut back = Disk::on(disk.fs.power_cut(|_| Fate::Lost), &disk.options);
        back.rot("snap", "state at 4 of term 1");
        back.rot("snap", "state at 8 of term 1");
        let boot = back.boot().unwrap();
        assert_eq!(boot.groups[0].state, GroupState::HeadUnknown, "{}", boot.report);
        back.receive(group(1), id(1, at), IndexSet::new()).unwrap();
        let conf = refloat_types::ConfState::of_voters([ME]);
        let now = back.now;
        back.store().install_snapshot(now, group(1), id(1, at), &conf).unwrap();
        back.store().note_healed(now, group(1)).unwrap();
        back.sync().unwrap();
        assert_eq!(back.store().latest_snapshot(group(1)).map(|m| m.id), Some(id(1, at)));
        for _ in 0..2 {
            back = Disk::on(back.fs.power_cut(|_| Fate::Lost), &disk.options);
            let boot = back.boot().unwrap();
            assert_eq!(boot.groups[0].state, GroupState::Clean, "{}", boot.report);
            assert_eq!(boot.groups[0].snapshot, id(1, at), "{}", boot.report);
        }
    }
}

#[test]
fn n02_a_group_that_healed_by_its_log_gives_its_rotten_snapshot_up() {
    let mut disk = with_log(4);
    disk.snapshot(group(1), IndexSet::new()).unwrap();
    restart(&mut disk);
    disk.append(group(1), 1, 4, 100);
    disk.sync().unwrap();
    restart(&mut disk);
    disk.snapshot(group(1), IndexSet::new()).unwrap();
    let mut back = Disk::on(disk.fs.power_cut(|_| Fate::Lost), &disk.options);
    back.rot("snap", "state at 8 of term 1");
    for segment in back.files("seg") {
        refloat_vfs::Vfs::remove_file(&back.fs, &segment).unwrap();
    }
    let boot = back.boot().unwrap();
    let g = &boot.groups[0];
    assert_ne!(g.state, GroupState::Clean, "{}", boot.report);
    assert_eq!((g.snapshot, g.last), (id(1, 4), id(1, 4)), "{}", boot.report);
    (0..4).for_each(|_| back.append_quietly(group(1), 80));
    let now = back.now;
    back.store().note_healed(now, group(1)).unwrap();
    back.sync().unwrap();
    // At an index that the rotten one stood above.
    let at = id(1, 6);
    back.begin_snapshot(group(1), at, IndexSet::new());
    back.sync().unwrap();
    assert_eq!(back.store().latest_snapshot(group(1)).map(|m| m.id), Some(at));
    let mut last = lost_power(&back);
    let boot = last.boot().unwrap();
    assert_eq!(boot.groups[0].state, GroupState::Clean, "{}", boot.report);
    assert_eq!(boot.groups[0].snapshot, at);
}

fn restart(disk: &mut Disk) {
    disk.kill();
    disk.boot().unwrap();
}

/// There is no cache of live indexes: they stand in the snapshot. So whatever another engine, a
/// person or a crash left beside it says nothing, also while a next snapshot takes over.
#[test]
fn s02_live_indexes_come_from_the_snapshot_whatever_lies_beside_it() {
    let live = live(&[3, 5]);
    let prepare = || {
        let mut disk = with_log(9);
        disk.snapshot(group(1), live.clone()).unwrap();
        for _ in 0..6 {
            disk.append(group(1), 1, 2, 6000);
            disk.sync().unwrap();
        }
        disk.snapshot(group(1), live.clone()).unwrap();
        disk.idle().unwrap();
        disk
    };
    let all_live = |disk: &mut Disk, story: &str| {
        let boot = disk.boot().unwrap_or_else(|e| panic!("{story}: {e}"));
        assert_eq!(boot.groups[0].state, GroupState::Clean, "{story}: {}", boot.report);
        // What a flush and a compaction take for dead goes now.
        for _ in 0..8 {
            disk.append_quietly(group(1), 20_000);
            disk.sync().unwrap();
        }
        for index in [3, 5] {
            let read = disk.read_one(group(1), Index(index));
            assert!(read.is_ok(), "{story}: live entry {index}: {read:?}");
        }
        assert!(disk.read_one(group(1), Index(4)).is_err(), "{story}: entry 4 is dead");
        boot.report
    };
    // A cache that is missing, empty, torn, stale, or whole with the wrong content.
    let stale: Vec<u8> = (1..=9u64).flat_map(u64::to_le_bytes).collect();
    let mut wrong = stale.clone();
    wrong.extend(crc32c::crc32c(&stale).to_le_bytes());
    for cache in [None, Some(Vec::new()), Some(stale[..11].to_vec()), Some(stale), Some(wrong)] {
        for name in ["live_indexes", "live.cache", "indexes.tmp"] {
            let mut disk = prepare();
            let dir = disk.files("snap")[0].parent().unwrap().to_owned();
            if let Some(cache) = &cache {
                disk.fs.put(dir.join(name), cache).unwrap();
            }
            disk.kill();
            let report = all_live(&mut disk, name);
            let told = report.set_aside.iter().any(|line| line.contains(name));
            assert!(told || cache.is_none(), "{name}: {report}");
        }
    }
    // While the next snapshot takes over.
    let promote = |disk: &mut Disk| {
        disk.append(group(1), 1, 1, 50);
        disk.sync().and_then(|()| disk.snapshot(group(1), live.clone()))
    };
    let mut whole = prepare();
    let start = whole.fs.op_count();
    promote(&mut whole).unwrap();
    for stop in 1..=whole.fs.op_count() - start {
        let mut disk = prepare();
        let dir = disk.files("snap")[0].parent().unwrap().to_owned();
        disk.fs.put(dir.join("live_indexes"), &b"none"[..]).unwrap();
        disk.fs.crash_at(disk.fs.op_count() + stop);
        let _ = promote(&mut disk);
        for image in disk.fs.crash_images(6) {
            let story = format!("stop {stop}: {}", image.story());
            all_live(&mut Disk::on(image, &disk.options), &story);
        }
    }
}

#[test]
fn n02_a_first_snapshot_that_is_rotten_is_not_needed_while_the_log_starts_at_one() {
    let mut disk = with_log(9);
    disk.snapshot(group(1), IndexSet::new()).unwrap();
    disk.append(group(1), 1, 3, 100);
    disk.sync().unwrap();
    disk.idle().unwrap();
    let path = disk.files("snap").remove(0);
    disk.kill();
    disk.fs.corrupt(&path, |bytes| bytes[70] ^= 1).unwrap();
    let boot = disk.boot().unwrap();
    let found = &boot.groups[0];
    assert_eq!(found.state, GroupState::Clean, "{}", boot.report);
    assert_eq!((found.snapshot.index, found.last.index), (Index(0), Index(12)));
    assert_eq!(found.conf, refloat_types::ConfState::of_voters([ME]));
    assert_eq!(disk.read_log(group(1), Index(1)).unwrap().len(), 12);
    disk.sync().unwrap();
    let kept = disk.files("snap").iter().any(|found| found.extension() != path.extension());
    assert!(kept, "the bad one is kept aside: {:?}", disk.files("snap"));
    // And so it stays, and the next snapshot is a first one.
    disk.kill();
    let boot = disk.boot().unwrap();
    assert_eq!(boot.groups[0].state, GroupState::Clean, "{}", boot.report);
    disk.snapshot(group(1), IndexSet::new()).unwrap();
    disk.kill();
    assert_eq!(disk.boot().unwrap().groups[0].snapshot.index, Index(12));
}

/// Of a group whose log begins with its first entry: entries 1 to 9, a snapshot there, more.
fn with_one_snapshot(entries_of: impl Fn(u64) -> refloat_types::Entry) -> Disk {
    let mut disk = Disk::small();
    disk.create_group(group(1)).unwrap();
    for index in 1..=9 {
        let prev = if index == 1 { refloat_types::EntryId::ZERO } else { id(1, index - 1) };
        let entries = vec![entries_of(index)];
        disk.write(group(1), None, Some(LogOp::Append { prev, entries })).unwrap();
        disk.sync().unwrap();
    }
    let later = refloat_types::Member::new(refloat_types::NodeId(8), ME.incarnation);
    let conf = refloat_types::ConfState::of_voters([ME, later]);
    let payload = bytes::Bytes::from_static(b"state at 9");
    let source = Box::new(std::iter::once(payload));
    disk.store().write_snapshot(group(1), id(1, 9), conf, IndexSet::new(), source);
    disk.append(group(1), 1, 3, 100);
    disk.sync().unwrap();
    disk.idle().unwrap();
    disk
}

fn rot_the_only_snapshot(disk: &mut Disk) {
    let path = disk.files("snap").remove(0);
    disk.kill();
    disk.fs.corrupt(&path, |bytes| bytes[70] ^= 1).unwrap();
}

/// Without the snapshot the log must be whole, from its first entry to where the snapshot stood.
#[test]
fn n02_a_log_that_is_not_whole_does_not_stand_in_for_the_only_snapshot() {
    let lost = with_one_snapshot(|index| entry(1, index, 60));
    lost.rot("wal", "t1 i4 ");
    let mut short = with_log(4);
    short.receive(group(1), id(2, 20), IndexSet::new()).unwrap();
    short.install(group(1), id(2, 20)).unwrap();
    short.sync().unwrap();
    for (mut disk, story) in [(lost, "an entry is lost"), (short, "it never held them")] {
        rot_the_only_snapshot(&mut disk);
        let boot = disk.boot().unwrap();
        let found = &boot.groups[0];
        assert_eq!(found.state, GroupState::HeadUnknown, "{story}: {}", boot.report);
    }
}

#[test]
fn n02_a_group_whose_membership_changed_starts_over_with_the_one_that_it_began_with() {
    for flushed in [false, true] {
        let mut disk = with_one_snapshot(|index| match index {
            5 => Entry::new(id(1, 5), EntryKind::Config, b"who is in"[..].into()),
            _ => entry(1, index, 60),
        });
        for _ in 0..if flushed { 6 } else { 0 } {
            disk.append(group(1), 1, 2, 6000);
            disk.sync().unwrap();
        }
        rot_the_only_snapshot(&mut disk);
        for _ in 0..2 {
            let boot = disk.boot().unwrap();
            let found = &boot.groups[0];
            assert_eq!(found.state, GroupState::Clean, "{}", boot.report);
            assert_eq!(found.snapshot, EntryId::ZERO);
            assert_eq!(found.conf, refloat_types::ConfState::of_voters([ME]), "as created");
            let changes: Vec<u64> = found.configs.iter().map(|entry| entry.id.index.0).collect();
            assert_eq!(changes, [5], "and the change is applied again");
            assert!(disk.read_log(group(1), Index(1)).unwrap().len() >= 12);
            disk.kill();
        }
    }
}
