//! Damage in durable data: what is lost is said, and nothing that was cut comes back.

mod support;

use refloat_log_store::{BootError, GroupBoot, GroupState, SubmitError, examine};
use refloat_types::{EntryId, GroupWrite, HardState, Index, LogOp, Now, Term};
use refloat_vfs::{Fate, Vfs};
use support::*;

const BLOCK: usize = 4096;

fn two_groups() -> Disk {
    let mut disk = Disk::small();
    disk.create_group(group(1)).unwrap();
    disk.create_group(group(2)).unwrap();
    disk.sync().unwrap();
    disk
}

fn as_it_is(disk: &Disk) -> Disk {
    Disk::on(disk.fs.power_cut(|_| Fate::Kept), &disk.options)
}

/// Zeroes the block of the log that holds a text, and `more` blocks behind it.
fn zero_blocks_at(disk: &Disk, text: &str, more: usize) {
    let mut hit = false;
    for file in disk.files("wal") {
        let bytes = disk.fs.contents(&file).unwrap();
        let Some(at) = bytes.windows(text.len()).position(|w| w == text.as_bytes()) else {
            continue;
        };
        let from = at / BLOCK * BLOCK;
        disk.fs.corrupt(&file, |b| b[from..from + (more + 1) * BLOCK].fill(0)).unwrap();
        hit = true;
    }
    assert!(hit, "{text} stands nowhere in the log");
}

fn found(disk: &Disk) -> Vec<GroupBoot> {
    examine(&disk.fs, &disk.options).unwrap().groups().to_vec()
}

#[test]
fn w33_an_overwrite_lost_in_the_middle_does_not_bring_the_overwritten_entries_back() {
    for rolled in [false, true] {
        let mut disk = two_groups();
        disk.append(group(1), 1, 9, 60);
        disk.sync().unwrap();
        disk.append_after(group(1), id(1, 5), 2, 4, 60).unwrap();
        disk.sync().unwrap();
        for _ in 0..3 {
            disk.append(group(2), 1, 1, 60);
            disk.sync().unwrap();
        }
        if rolled {
            // The next file's checkpoint says where the log ends, with its term.
            for _ in 0..8 {
                disk.append(group(2), 1, 1, 8000);
                disk.sync_without(refloat_log_store::Lane::Flush).unwrap();
            }
        } else {
            disk.append(group(1), 2, 1, 60);
            disk.sync().unwrap();
        }
        disk.idle().unwrap();
        let mut back = as_it_is(&disk);
        zero_blocks_at(&back, "t2 i6 ", 1);
        let boot = back.boot().unwrap();
        let g = &boot.groups[0];
        assert_ne!(g.state, GroupState::Clean, "{g:?}\n{}", boot.report);
        assert!(g.waits_for.is_some());
        // The block behind was the other group's alone.
        assert_eq!(boot.groups[1].state, GroupState::Damaged, "{}", boot.report);
    }
}

#[test]
fn w11_an_overwrite_lost_with_a_whole_file_does_not_bring_the_overwritten_entries_back() {
    let mut disk = two_groups();
    disk.append(group(1), 1, 9, 60);
    disk.sync().unwrap();
    let mut held = Vec::new();
    let mut roll = |disk: &mut Disk| {
        let before = disk.store().stats().generation;
        while disk.store().stats().generation == before {
            disk.append(group(2), 1, 1, 9000);
            held.extend(disk.sync_without(refloat_log_store::Lane::Flush).unwrap());
        }
    };
    roll(&mut disk);
    let lost = disk.store().stats().generation;
    disk.append_after(group(1), id(1, 5), 2, 4, 60).unwrap();
    roll(&mut disk);
    roll(&mut disk);
    disk.append(group(1), 2, 1, 60);
    disk.sync_without(refloat_log_store::Lane::Flush).unwrap();
    let back = as_it_is(&disk);
    let file = back
        .files("wal")
        .into_iter()
        .find(|f| f.file_name().unwrap().to_string_lossy() == format!("{:020}.wal", lost.0));
    back.fs.remove_file(&file.expect("the file")).unwrap();
    let g = &found(&back)[0];
    assert_ne!(g.state, GroupState::Clean, "{g:?}");
}

#[test]
fn a_group_whose_registration_was_lost_is_named_and_not_forgotten() {
    let mut disk = Disk::small();
    disk.create_group(group(1)).unwrap();
    disk.sync().unwrap();
    disk.append(group(1), 1, 1, 60);
    disk.sync().unwrap();
    disk.create_group(group(2)).unwrap();
    disk.append(group(1), 3, 1, 60); // in the same batch
    disk.sync().unwrap();
    disk.append(group(1), 3, 1, 60);
    disk.sync().unwrap();
    disk.append(group(2), 1, 3, 60);
    disk.sync().unwrap();
    disk.idle().unwrap();
    let mut back = as_it_is(&disk);
    zero_blocks_at(&back, "t3 i2 ", 1);
    for _ in 0..2 {
        let boot = back.boot().unwrap();
        let g = boot.groups.iter().find(|g| g.key == group(2)).expect("named");
        assert_ne!(g.state, GroupState::Clean, "{}", boot.report);
        assert!(g.waits_for.as_ref().unwrap().contains("registration"), "{:?}", g.waits_for);
        back.kill();
    }
}

#[test]
fn a_deletion_lost_to_damage_does_not_bring_the_group_back_over_a_later_checkpoint() {
    let mut disk = two_groups();
    disk.append(group(2), 1, 2, 60);
    disk.sync().unwrap();
    disk.delete_group(group(2)).unwrap();
    disk.append(group(1), 3, 1, 60); // in the same batch
    disk.sync().unwrap();
    for _ in 0..12 {
        disk.append(group(1), 3, 1, 8000);
        disk.sync_without(refloat_log_store::Lane::Flush).unwrap();
    }
    disk.idle().unwrap();
    let back = as_it_is(&disk);
    zero_blocks_at(&back, "t3 i1 ", 1);
    let groups = found(&back);
    assert!(groups.iter().all(|g| g.key != group(2)), "{groups:?}");
}

#[test]
fn w20_a_votes_log_that_is_gone_proves_no_vote() {
    let mut disk = two_groups();
    disk.vote(group(1), 7).unwrap();
    disk.append(group(1), 3, 1, 60); // in the same batch
    disk.sync().unwrap();
    for _ in 0..2 {
        disk.append(group(1), 3, 1, 60);
        disk.sync().unwrap();
    }
    disk.idle().unwrap();
    let back = as_it_is(&disk);
    zero_blocks_at(&back, "t3 i1 ", 1);
    // The votes log has it.
    let g = &found(&back)[0];
    assert_eq!(g.hard_state, HardState { term: Term(7), vote: Some(ME) });
    assert_ne!(g.state, GroupState::Amnesia, "{g:?}");
    for file in back.files("votes") {
        back.fs.remove_file(&file).unwrap();
    }
    let g = &found(&back)[0];
    assert_eq!(g.state, GroupState::Amnesia, "{g:?}");
}

#[test]
fn w20_a_votes_log_that_is_gone_or_reads_as_zeros_is_told_though_no_group_needs_it() {
    let mut disk = two_groups();
    disk.vote(group(1), 7).unwrap();
    disk.idle().unwrap();
    for zeros in [false, true] {
        let mut back = as_it_is(&disk);
        for file in back.files("votes") {
            match zeros {
                true => back.fs.corrupt(&file, |bytes| bytes.fill(0)).unwrap(),
                false => back.fs.remove_file(&file).unwrap(),
            }
        }
        let boot = back.boot().unwrap();
        assert!(boot.report.is_clean(), "{}", boot.report);
        let [damage] = &boot.report.damage[..] else { panic!("{}", boot.report) };
        assert!(damage.contains("votes"), "{damage}");
        back.idle().unwrap();
        assert!(examine(&back.fs, &disk.options).unwrap().report().damage.is_empty());
    }
}

#[test]
fn w20_a_vote_survives_every_dropped_or_damaged_tail_that_did_not_contain_it() {
    let mut disk = two_groups();
    disk.vote(group(1), 7).unwrap();
    disk.sync().unwrap();
    disk.append(group(1), 7, 1, 60);
    disk.sync().unwrap();
    let stop = disk.fs.op_count() + 1;
    disk.fs.crash_at(stop);
    disk.append(group(1), 7, 4, 9000);
    let _ = disk.sync();
    let check = |mut back: Disk, story: String| {
        for _ in 0..2 {
            let boot = back.boot().unwrap_or_else(|e| panic!("{story}: {e}"));
            let g = &boot.groups[0];
            assert_eq!(g.hard_state, HardState { term: Term(7), vote: Some(ME) }, "{story}");
            assert_ne!(g.state, GroupState::Amnesia, "{story}");
            back.kill();
        }
    };
    for image in disk.fs.crash_images(40) {
        let story = image.story();
        let garbled = Disk::on(image.fork(), &disk.options);
        check(Disk::on(image, &disk.options), story.clone());
        // The same tail, and garbage in it: suspect rather than torn.
        for file in garbled.files("wal") {
            let tail = |bytes: &mut Vec<u8>| {
                let end = bytes.iter().rposition(|b| *b != 0).unwrap_or(0);
                if let Some(byte) = bytes.get_mut(end) {
                    *byte ^= 0x55;
                }
            };
            garbled.fs.corrupt(&file, tail).unwrap();
        }
        check(garbled, format!("{story}, last byte flipped"));
    }
}

#[test]
fn w20_a_vote_in_a_suspect_batch_still_binds() {
    let mut disk = two_groups();
    disk.vote(group(1), 7).unwrap();
    disk.append(group(1), 3, 1, 6000);
    disk.sync().unwrap();
    // The last batch of both logs, with its payload garbled: nothing proves or disproves it.
    let mut back = as_it_is(&disk);
    let text = "t3 i1 ".repeat(20);
    back.rot("wal", &text);
    for file in back.files("votes") {
        back.fs.remove_file(&file).unwrap();
    }
    let report = examine(&back.fs, &back.options).unwrap();
    let g = &report.groups()[0];
    assert_eq!(g.hard_state, HardState { term: Term(7), vote: Some(ME) }, "{}", report.report());
    let _ = back.boot();
}

#[test]
fn w10_damage_in_an_older_file_hurts_only_while_it_is_needed() {
    for needed in [true, false] {
        let mut disk = two_groups();
        disk.append(group(1), 1, 4, 200);
        disk.sync().unwrap();
        let first = disk.files("wal").remove(0);
        let mut held = Vec::new();
        while disk.store().stats().generation.0 < 3 {
            disk.append(group(2), 1, 1, 9000);
            held.extend(disk.sync_without(refloat_log_store::Lane::Flush).unwrap());
        }
        if !needed {
            // Flushed and published; the file itself stays, as one of the two newest or not yet
            // recycled.
            held.into_iter().for_each(|job| disk.run(job).unwrap());
            let kept = disk.sync_without(refloat_log_store::Lane::Prepare).unwrap();
            drop(kept);
        }
        let back_fs = disk.fs.power_cut(|_| Fate::Kept);
        assert!(back_fs.exists(&first).unwrap(), "needed: {needed}");
        let mut back = Disk::on(back_fs, &disk.options);
        let wanted = "t1 i3 ".repeat(20);
        back.fs
            .corrupt(&first, |bytes| {
                let at = bytes.windows(120).position(|w| w == wanted.as_bytes()).expect("there");
                bytes[at + 2] ^= 8;
            })
            .unwrap();
        for _ in 0..2 {
            let boot = back.boot().unwrap();
            let states: Vec<_> = boot.groups.iter().map(|g| g.state).collect();
            let hurt = if needed { GroupState::Damaged } else { GroupState::Clean };
            assert_eq!(states, [hurt, GroupState::Clean], "needed: {needed}\n{}", boot.report);
            assert!(!boot.report.damage.is_empty(), "said in any case");
            if needed {
                back.sync().unwrap();
                let aside = back.fs.exists(&first.with_extension("damaged")).unwrap();
                let there = back.fs.exists(&first).unwrap();
                assert!(there || aside, "kept while it may explain the hole");
            }
            back.kill();
        }
    }
}

#[test]
fn g08_a_key_of_which_anything_is_left_is_not_given_to_another_group() {
    let mut disk = two_groups();
    for _ in 0..6 {
        disk.append(group(2), 1, 1, 9000);
        disk.sync().unwrap();
    }
    disk.vote(group(2), 5).unwrap();
    disk.sync().unwrap();
    disk.delete_group(group(2)).unwrap();
    assert_eq!(disk.create_group(group(2)), Err(SubmitError::KeyInUse));
    disk.sync().unwrap();
    assert_eq!(disk.create_group(group(2)), Err(SubmitError::KeyInUse));
    // The same id in another life is another group, and knows nothing of the one before.
    let next = refloat_types::GroupKey::new(group(2).id, refloat_types::Epoch(99));
    disk.create_group(next).unwrap();
    disk.append(next, 1, 1, 10);
    disk.sync().unwrap();
    let mut back = as_it_is(&disk);
    let boot = back.boot().unwrap();
    let g = boot.groups.iter().find(|g| g.key == next).unwrap();
    assert_eq!(
        (g.state, g.last, g.hard_state),
        (GroupState::Clean, id(1, 1), HardState::default())
    );
    assert_eq!(back.read_log(next, Index(1)).unwrap().len(), 1);
    assert_eq!(back.create_group(group(2)), Err(SubmitError::KeyInUse), "also after a boot");
}

#[test]
fn w14_a_write_that_no_file_holds_is_too_large_and_never_poisons() {
    let mut refused = 0;
    for len in (30_000..60_000).step_by(97) {
        let mut disk = Disk::small();
        disk.create_group(group(1)).unwrap();
        disk.sync().unwrap();
        disk.append(group(1), 1, 1, 900);
        match disk.try_append(group(1), 1, 3, len / 3) {
            Ok(_) => disk.sync().unwrap(),
            Err(SubmitError::TooLarge { .. }) => refused += 1,
            Err(e) => panic!("{len} bytes: {e}"),
        }
        disk.append(group(1), 1, 1, 10);
        disk.sync().unwrap();
    }
    assert!(refused > 0);
}

#[test]
fn damage_that_took_a_cut_does_not_bring_the_cut_entries_back() {
    let mut disk = two_groups();
    disk.append(group(1), 1, 9, 60);
    disk.sync().unwrap();
    disk.write(group(1), None, Some(LogOp::Cut { from: Index(6) })).unwrap();
    disk.append(group(2), 5, 1, 60); // in the same batch
    disk.sync().unwrap();
    for _ in 0..10 {
        disk.append(group(2), 5, 1, 8000);
        disk.sync_without(refloat_log_store::Lane::Flush).unwrap();
    }
    disk.idle().unwrap();
    let back = as_it_is(&disk);
    zero_blocks_at(&back, "t5 i1 ", 1);
    let g = &found(&back)[0];
    assert_ne!(g.state, GroupState::Clean, "{g:?}");
}

/// Files at the start are gone, and a file that was never in use stands before the others.
#[test]
fn w11_a_lost_start_of_the_log_is_missed_behind_an_unused_file_too() {
    let mut disk = Disk::small();
    disk.create_group(group(1)).unwrap();
    for generation in [4, 8] {
        while disk.store().stats().generation.0 < generation {
            disk.append(group(1), 1, 2, 6000);
            match generation {
                4 => disk.sync().unwrap(),
                _ => drop(disk.sync_without(refloat_log_store::Lane::Flush).unwrap()),
            }
        }
    }
    disk.kill();
    let named = |n: u64| std::path::Path::new(DIR).join(format!("wal/{n:020}.wal"));
    let flushed = 3;
    disk.fs.remove_file(&named(flushed + 1)).unwrap();
    disk.fs.put(named(flushed), &vec![0; 16 * BLOCK]).unwrap();
    let boot = disk.boot().unwrap();
    assert_ne!(boot.groups[0].state, GroupState::Clean);
    let told = boot.report.damage.iter().any(|line| line.contains("log file 4 is gone"));
    assert!(told, "{}", boot.report);
}

/// Entries of group 1 that stand in a batch of their own, with batches of another group behind.
fn behind_a_lost_batch(disk: &mut Disk) {
    for _ in 0..3 {
        disk.append(group(2), 1, 1, 60);
        disk.sync().unwrap();
    }
}

#[test]
fn w33_a_hint_or_a_vote_behind_a_lost_append_does_not_show_that_nothing_was_lost() {
    for behind in ["nothing", "hint", "vote"] {
        let mut disk = two_groups();
        disk.append(group(1), 1, 9, 60);
        disk.sync().unwrap();
        disk.append(group(1), 3, 4, 60);
        disk.sync().unwrap();
        behind_a_lost_batch(&mut disk);
        match behind {
            "hint" => disk.store().hint_commit(group(1), Index(13)),
            "vote" => {
                let hard_state = Some(HardState { term: Term(7), vote: None });
                let write = GroupWrite { group: group(1), hard_state, log: None };
                disk.store().submit(Now(0), &[write]).unwrap();
                disk.sync().unwrap();
            }
            _ => {}
        }
        disk.idle().unwrap();
        let mut back = as_it_is(&disk);
        zero_blocks_at(&back, "t3 i10 ", 1);
        let boot = back.boot().unwrap();
        let found = &boot.groups[0];
        assert_eq!(found.state, GroupState::HeadUnknown, "{behind}: {}", boot.report);
        assert!(found.commit <= Index(9), "{behind}: commit {}", found.commit);
    }
}

#[test]
fn w33_a_hint_younger_than_a_lost_overwrite_commits_nothing_that_was_overwritten() {
    // Behind the loss there are records that speak of the new term, or none.
    for told in [true, false] {
        let mut disk = two_groups();
        disk.append(group(1), 1, 9, 60);
        disk.sync().unwrap();
        disk.store().hint_commit(group(1), Index(5));
        disk.idle().unwrap();
        disk.append_after(group(1), id(1, 5), 2, 4, 60).unwrap();
        disk.sync().unwrap();
        behind_a_lost_batch(&mut disk);
        disk.store().hint_commit(group(1), Index(9));
        disk.idle().unwrap();
        if told {
            disk.append(group(1), 2, 1, 60);
            disk.sync().unwrap();
            disk.idle().unwrap();
        }
        let mut back = as_it_is(&disk);
        zero_blocks_at(&back, "t2 i6 ", 1);
        let boot = back.boot().unwrap();
        let found = &boot.groups[0];
        assert_eq!(found.state, GroupState::HeadUnknown, "{}", boot.report);
        assert_eq!(found.commit, Index(5), "told {told}: {}", boot.report);
        let again = back.boot().unwrap();
        assert_eq!(again.groups[0].commit, Index(5), "told {told}, again: {}", again.report);
    }
}

#[test]
fn w33_a_lost_segment_that_held_an_overwrite_does_not_bring_the_overwritten_entries_back() {
    let mut disk = two_groups();
    disk.kill();
    (disk.options.small_segment, disk.options.live_percent) = (0, 0);
    disk.boot().unwrap();
    let flush = |disk: &mut Disk| {
        let generation = disk.store().stats().generation;
        while disk.store().stats().flushed <= generation {
            disk.append(group(2), 1, 4, 900);
            disk.sync().unwrap();
            disk.idle().unwrap();
        }
    };
    disk.append(group(1), 1, 9, 60);
    disk.sync().unwrap();
    flush(&mut disk);
    disk.append_after(group(1), id(1, 5), 2, 4, 60).unwrap();
    disk.sync().unwrap();
    flush(&mut disk);
    disk.append(group(1), 2, 3, 60);
    disk.sync().unwrap();
    flush(&mut disk);
    disk.store().hint_commit(group(1), Index(12));
    flush(&mut disk);
    flush(&mut disk);
    let mut back = as_it_is(&disk);
    let holds = |disk: &Disk, folder: &str, text: &str| -> Vec<std::path::PathBuf> {
        let has = |file: &std::path::PathBuf| {
            disk.fs.contents(file).unwrap().windows(text.len()).any(|w| w == text.as_bytes())
        };
        disk.files(folder).into_iter().filter(has).collect()
    };
    for file in holds(&back, "seg", "t2 i6 ") {
        back.fs.remove_file(&file).unwrap();
    }
    // What is left may be merged, but not across what is lost: it would look like one log.
    (back.options.small_segment, back.options.live_percent) = (1 << 20, 50);
    for start in ["first", "second", "third"] {
        let boot = back.boot().unwrap();
        let found = &boot.groups[0];
        assert_eq!(found.state, GroupState::HeadUnknown, "{start}: {}", boot.report);
        assert_eq!((found.last, found.commit), (EntryId::ZERO, Index::ZERO), "{start}");
        back.sync().unwrap();
        back.kill();
    }
}

/// Zeros from some block of the newest log file on, its seal and its end included: what each start
/// finds of two groups that ended with these entries, and how often it noticed.
fn with_zeros_to_the_end(disk: &Disk) -> Vec<(usize, Vec<GroupBoot>)> {
    let newest = disk.files("wal").into_iter().rfind(|f| f.extension().is_some_and(|e| e == "wal"));
    let newest = newest.expect("a log file");
    let len = disk.fs.contents(&newest).unwrap().len();
    let start = |block: usize| {
        let image = as_it_is(disk);
        image.fs.corrupt(&newest, |bytes| bytes[block * BLOCK..].fill(0)).unwrap();
        (block, found(&image))
    };
    (2..len / BLOCK).map(start).collect()
}

#[test]
fn w02_zeros_over_the_end_of_a_log_that_was_closed_are_never_taken_for_its_end() {
    let mut disk = two_groups();
    disk.idle().unwrap();
    disk.kill();
    disk.boot().unwrap();
    disk.vote(group(1), 1).unwrap();
    for n in 0..4 {
        disk.append(group(1 + n % 2), 1, 2, 900);
        disk.sync().unwrap();
    }
    disk.store().close();
    disk.sync().unwrap();
    assert!(disk.store().is_closed());
    let ends: Vec<EntryId> =
        [1, 2].iter().map(|g| disk.store.as_ref().expect("open").last(group(*g))).collect();
    let mut noticed = 0;
    for (block, groups) in with_zeros_to_the_end(&disk) {
        for (group, end) in groups.iter().zip(&ends) {
            let whole = group.state == GroupState::Clean && group.last == *end;
            let named = group.state == GroupState::HeadUnknown;
            assert!(whole || named, "zeros from block {block} on: {group:?}");
            noticed += usize::from(named);
        }
        assert_eq!(groups.len(), 2, "zeros from block {block} on");
    }
    assert!(noticed > 8, "{noticed}");
}

/// The window that is left: what was written behind the last vote, by a node that was killed.
#[test]
fn w02_zeros_over_the_end_of_a_killed_log_are_noticed_up_to_the_last_vote() {
    let mut disk = two_groups();
    disk.idle().unwrap();
    disk.kill();
    disk.boot().unwrap();
    for n in 0..4 {
        disk.append(group(1 + n % 2), 1, 2, 900);
        disk.sync().unwrap();
    }
    disk.vote(group(2), 2).unwrap();
    disk.sync().unwrap();
    let before = disk.store().last(group(1));
    disk.append(group(1), 1, 1, 900);
    disk.idle().unwrap();
    for (block, groups) in with_zeros_to_the_end(&disk) {
        let (one, two) = (&groups[0], &groups[1]);
        assert!(
            one.last >= before && two.hard_state.term == Term(2)
                || groups.iter().all(|group| group.state == GroupState::HeadUnknown),
            "zeros from block {block} on: {groups:?}"
        );
    }
}

/// Found by hand: of the first file only its first batch was left, before any group; the node was
/// called clean, took part in the forming of its cluster again, and was never whole.
#[test]
fn w11_a_log_that_names_no_group_any_more_and_is_damaged_is_refused() {
    let mut disk = two_groups();
    disk.vote(group(1), 1).unwrap();
    disk.append(group(2), 1, 2, 900);
    disk.store().close();
    disk.sync().unwrap();
    let image = as_it_is(&disk);
    let first = image.files("wal").into_iter().find(|f| f.extension().is_some_and(|e| e == "wal"));
    image.fs.corrupt(first.expect("a log file"), |bytes| bytes[4 * BLOCK..].fill(0)).unwrap();
    let seen = examine(&image.fs, &disk.options).unwrap();
    assert!(seen.groups().is_empty() && !seen.report().damage.is_empty(), "{}", seen.report());
    let before = image.fs.files();
    let mut back = Disk::on(image.fs.fork(), &disk.options);
    assert!(matches!(back.boot(), Err(BootError::NothingSurvives { .. })));
    assert_eq!(back.fs.files(), before);
}

/// Found by hand: such a directory was called clean, and what the log had named was removed.
#[test]
fn w11_a_directory_whose_log_reads_as_zeros_is_refused_and_nothing_of_it_is_removed() {
    let mut disk = two_groups();
    for _ in 0..12 {
        disk.append(group(1), 1, 2, 6000);
        disk.sync().unwrap();
    }
    disk.snapshot(group(1), Default::default()).unwrap();
    disk.idle().unwrap();
    let image = as_it_is(&disk);
    for file in image.files("wal") {
        image.fs.corrupt(&file, |bytes| bytes.fill(0)).unwrap();
    }
    let before = image.fs.files();
    let mut back = Disk::on(image.fs.fork(), &disk.options);
    assert!(matches!(back.boot(), Err(BootError::NothingSurvives { .. })));
    assert!(before.keys().any(|path| path.extension().is_some_and(|e| e == "seg")), "{before:?}");
    assert_eq!(back.fs.files(), before);
}
