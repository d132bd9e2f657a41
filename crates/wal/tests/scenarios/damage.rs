//! Damage in data that was durable: told, salvaged, never cut.

use refloat_types::Index;
use refloat_wal::*;

use crate::disk::*;

/// Damage never costs a record outside its batch, and is never called torn.
fn check_told(found: &Found, kept: &[Record], hurt: Lsn) {
    let words = found.words();
    assert!(!found.scan.damage.is_empty());
    assert!(found.scan.damage.iter().all(|d| d.at == hurt), "{words}");
    assert!(found.scan.damage.iter().all(|d| d.kind == DamageKind::Rotten), "{words}");
    for record in kept {
        assert!(found.seen.has(record), "{record:?}: {words}");
    }
}

/// A log with a batch in the middle that takes `blocks` blocks, and batches around it.
fn three_batches(middle: &[Record]) -> (Disk, Lsn, Vec<Record>) {
    let mut disk = Disk::new();
    let around = vec![append(7, 1, 2, 100), append(8, 1, 1, 5000)];
    disk.write(&around[..1]);
    let at = disk.write(middle);
    disk.write(&around[1..]);
    (disk, at, around)
}

#[test]
fn w06_length_words_flipped_in_synced_data_are_told_and_cost_nothing_around_them() {
    let middle = [append(1, 1, 2, 600)];
    let (disk, at, around) = three_batches(&middle);
    let block = disk.block_of(at) as usize;
    // Every word of the batch header and of the directory, with lengths of every kind.
    for word in (0..300).step_by(4) {
        for value in [u32::MAX, u32::MAX / 2, 0x8000_0000, 1 << 20, 0] {
            let fs = disk.fs.fork();
            let edit = |bytes: &mut Vec<u8>| {
                bytes[block * 4096 + word..][..4].copy_from_slice(&value.to_le_bytes());
            };
            let same = disk.fs.contents(disk.newest_file()).unwrap();
            fs.corrupt(disk.newest_file(), edit).unwrap();
            if fs.contents(disk.newest_file()).unwrap() == same {
                continue;
            }
            let found = look(&fs, &disk.options);
            check_told(&found, &around, at);
            assert!(found.seen.has(&middle[0]), "the copy and the digests still name it");
        }
    }
}

#[test]
fn w07_zeroed_sector_in_synced_data_is_never_cut() {
    let middle = [append(1, 1, 3, 2500), state(2, "voted for 3")];
    let (disk, at, around) = three_batches(&middle);
    let start = disk.block_of(at);
    for sector in 0..2 * 8 {
        let fs = disk.fs.fork();
        let from = (start * 4096 + sector * 512) as usize;
        fs.corrupt(disk.newest_file(), |bytes| bytes[from..from + 512].fill(0)).unwrap();
        let found = look(&fs, &disk.options);
        check_told(&found, &around, at);
        assert!(found.seen.has(&middle[1]), "sector {sector}: small state stands twice");
        let lost = found.seen.missing();
        assert!(lost.len() <= 2 && lost.iter().all(|(g, _)| *g == group(1)), "{lost:?}");
        let owners = lost.first().map(|(group, _)| *group).into_iter().collect();
        assert_eq!(found.scan.damage[0].owners, Owners::Known(owners));
    }
    for block in 0..2 {
        let fs = disk.fs.fork();
        let from = ((start + block) * 4096) as usize;
        fs.corrupt(disk.newest_file(), |bytes| bytes[from..from + 4096].fill(0)).unwrap();
        let found = look(&fs, &disk.options);
        check_told(&found, &around, at);
        assert!(found.seen.has(&middle[1]), "block {block}");
        assert_eq!(found.scan.damage[0].owners, Owners::Known(vec![group(1)]));
    }
}

#[test]
fn w08_types_flags_and_group_ids_flipped_in_synced_data_are_told() {
    let middle = [append(1, 1, 2, 600), state(2, "x")];
    let (disk, at, around) = three_batches(&middle);
    let block = disk.block_of(at) as usize;
    for byte in 0..370 {
        for bit in [0, 3, 7] {
            let fs = disk.fs.fork();
            fs.corrupt(disk.newest_file(), |b| b[block * 4096 + byte] ^= 1 << bit).unwrap();
            let found = look(&fs, &disk.options);
            check_told(&found, &around, at);
            let mut all = found.seen.data();
            all.retain(|record| !around.contains(record));
            assert_eq!(all, middle, "byte {byte}: nothing else than what was written");
        }
    }
}

#[test]
fn w09_flipped_payload_bits_cost_their_entry_alone() {
    for fill in [0u8, 0xa5] {
        let entries: Vec<_> =
            (1..=3).map(|index| entry(index, 1, vec![fill; 900].into())).collect();
        let prev = refloat_types::EntryId::ZERO;
        let op = refloat_types::LogOp::Append { prev, entries };
        let middle = [Record::Log { group: group(1), op }];
        let (disk, at, around) = three_batches(&middle);
        let block = disk.block_of(at);
        for byte in [600, 1500, 2600, 3000] {
            let fs = disk.fs.fork();
            let place = block as usize * 4096 + byte;
            fs.corrupt(disk.newest_file(), |bytes| bytes[place] ^= 1).unwrap();
            let found = look(&fs, &disk.options);
            check_told(&found, &around, at);
            assert_eq!(found.seen.missing().len(), 1, "byte {byte}");
            let survived =
                found.seen.records.iter().find(|(lsn, ..)| *lsn == at).map(|r| r.2.clone());
            let Some(Record::Log { op, .. }) = survived else { panic!("the record is named") };
            assert_eq!(op.entries().len(), 2, "the others survive");
        }
        // A payload of zeros that reads as zeros is what was written.
        if fill == 0 {
            disk.fs
                .corrupt(disk.newest_file(), |bytes| {
                    bytes[block as usize * 4096 + 512..][..512].fill(0)
                })
                .unwrap();
            let found = disk.find();
            check_told(&found, &around, at);
            assert!(found.seen.has(&middle[0]), "every digest holds");
        }
    }
}

#[test]
fn w19_damage_that_hits_one_groups_records_names_no_other_group() {
    let middle: Vec<_> = (1..=5).map(|g| append(g, 1, 1, 600)).collect();
    let (disk, at, around) = three_batches(&middle);
    disk.flip(disk.block_of(at), 2000);
    let found = disk.find();
    check_told(&found, &around, at);
    let Owners::Known(groups) = &found.scan.damage[0].owners else { panic!("known") };
    assert_eq!(groups.len(), 1);
    let others = middle.iter().filter(|record| record.group() != groups[0]);
    assert!(others.clone().count() == 4 && others.clone().all(|r| found.seen.has(r)));
}

#[test]
fn w29_acked_batch_without_its_header_before_a_torn_fragment_is_never_cut() {
    for hidden in 0..2 {
        let mut disk = Disk::new();
        let before = append(7, 1, 1, 100);
        disk.write(std::slice::from_ref(&before));
        let acked = [append(1, 1, 1, 2000), state(2, "voted")];
        let at = disk.write(&acked);
        let torn = disk.write(&[append(3, 1, 1, 6000)]);
        let (start, tail) = (disk.block_of(at), disk.block_of(torn));
        // Of the fragment either the first block got to the disk or the second.
        disk.zero(tail + 1 - hidden, 0..8);
        // One sector of the acknowledged batch, and the sector of its header.
        disk.zero(start, 0..1);
        disk.zero(start, 3..4);
        let found = disk.find();
        assert!(found.seen.has(&before));
        let rotten = found.scan.damage.iter().find(|damage| damage.at == at);
        let rotten = rotten.expect("the acknowledged batch is damaged, not dropped");
        assert_eq!(rotten.kind, DamageKind::Rotten);
        assert!(matches!(found.verdict(), Verdict::Torn { .. }), "{:?}", found.verdict());
        if hidden == 0 {
            assert!(found.seen.has(&acked[1]), "the fragment holds a copy of the directory");
            assert_eq!(found.seen.missing(), [(group(1), Index(1))]);
        } else {
            assert_eq!(rotten.owners, Owners::Unknown);
        }
        let (disk, again) = disk.reboot();
        assert_eq!(again.seen, found.seen);
        assert!(disk.find().scan.damage.iter().any(|damage| damage.at == at), "and later too");
    }
}

#[test]
fn w31_small_state_in_a_zeroed_block_is_delivered_from_the_copy() {
    let (disk, at, around) = three_batches(&[state(1, "voted for 2 in term 9"), state(2, "x")]);
    disk.zero(disk.block_of(at), 0..8);
    let found = disk.find();
    check_told(&found, &around, at);
    let vote = state(1, "voted for 2 in term 9");
    assert!(found.seen.has(&vote) && found.seen.has(&state(2, "x")));
    assert_eq!(found.seen.trust_of(&vote), Some(Trust::Salvaged));
    assert_eq!(found.scan.damage[0].owners, Owners::Known(Vec::new()), "nobody lost anything");
}

#[test]
fn w31_the_seal_holds_the_copy_too() {
    let mut disk = Disk::new();
    let at = disk.write(&[state(1, "voted")]);
    disk.seal();
    disk.zero(disk.block_of(at), 0..8);
    assert!(disk.find().seen.has(&state(1, "voted")));
}

#[test]
fn w33_neighbouring_blocks_and_a_large_extent_lost_in_the_middle() {
    for lost in [2u64, 16] {
        let mut disk = Disk::new();
        let mut batches = Vec::new();
        for n in 0..30 {
            let record = append(1 + n % 3, 1 + n / 3, 1, 200);
            batches.push((disk.write(std::slice::from_ref(&record)), record));
        }
        let first = disk.block_of(batches[5].0);
        for block in first..first + lost {
            disk.zero(block, 0..8);
        }
        let found = disk.find();
        let hit = 5..5 + lost as usize;
        for (n, (at, record)) in batches.iter().enumerate() {
            let damage = found.scan.damage.iter().find(|damage| damage.at == *at);
            if !hit.contains(&n) {
                assert!(found.seen.has(record) && damage.is_none(), "batch {n}: {}", found.words());
            } else if n + 1 == hit.end {
                // Its directory stands in the batch behind: the entry is known by name.
                assert_eq!(damage.unwrap().owners, Owners::Known(vec![record.group()]));
                assert_eq!(found.seen.missing().len(), 1);
            } else {
                assert_eq!(damage.unwrap().owners, Owners::Unknown, "batch {n}");
            }
        }
        assert_eq!(found.verdict(), Verdict::Unproven);
    }
}

#[test]
fn w34_one_groups_payload_flipped_among_64_leaves_63_whole() {
    let middle: Vec<_> = (1..=64).map(|g| append(g, 1, 1, 256)).collect();
    let (disk, at, around) = three_batches(&middle);
    let block = disk.block_of(at);
    disk.flip(block + 4, 1000);
    let found = disk.find();
    check_told(&found, &around, at);
    let Owners::Known(groups) = &found.scan.damage[0].owners else { panic!("known") };
    assert_eq!(groups.len(), 1, "{groups:?}");
    assert_eq!(middle.iter().filter(|record| found.seen.has(record)).count(), 63);
}

#[test]
fn w27_any_one_sector_of_header_or_checkpoint_lost_costs_nothing() {
    let mut disk = Disk::new();
    disk.write(&[append(1, 1, 1, 100)]);
    disk.roll();
    let acked = [append(1, 2, 1, 100), state(2, "x")];
    let behind = disk.write(&acked);
    let end = disk.block_of(behind);
    for (sector, how) in (0..end * 8).flat_map(|sector| [(sector, 0u8), (sector, 0x5a)]) {
        let fs = disk.fs.fork();
        let from = sector as usize * 512;
        fs.corrupt(disk.newest_file(), |bytes| bytes[from..from + 512].fill(how)).unwrap();
        let found = look(&fs, &disk.options);
        assert!(acked.iter().all(|record| found.seen.has(record)), "sector {sector}");
        let newest = disk.writer.generation();
        for (group, body) in checkpoint(3) {
            let at = Lsn::new(newest, 1);
            let given = found.seen.records.iter().any(|(lsn, _, record, _)| {
                *lsn == at && *record == Record::State { group, body: body.clone() }
            });
            assert!(given, "sector {sector}: the checkpoint stands twice");
        }
        for damage in &found.scan.damage {
            assert_eq!(damage.owners, Owners::Known(Vec::new()), "sector {sector}: {damage}");
        }
    }
    // The whole header block, or any block of the checkpoint.
    for block in (0..end).filter(|block| *block != 1) {
        let fs = disk.fs.fork();
        let from = block as usize * 4096;
        fs.corrupt(disk.newest_file(), |bytes| bytes[from..from + 4096].fill(0)).unwrap();
        let found = look(&fs, &disk.options);
        assert!(acked.iter().all(|record| found.seen.has(record)), "block {block}");
        let first = |lsn: &Lsn| *lsn == Lsn::new(disk.writer.generation(), 1);
        let given = found.seen.records.iter().filter(|(lsn, ..)| first(lsn)).count();
        assert_eq!(given, 3, "block {block}: {}", found.words());
    }
}

#[test]
fn w32_an_unreadable_last_block_is_damage_and_never_torn() {
    let mut disk = Disk::new();
    let acked = append(1, 1, 1, 100);
    let at = disk.write(std::slice::from_ref(&acked));
    disk.seal();
    let block = disk.block_of(at);
    // The seal cannot be read: what it proved is there, and is written again.
    let fs = disk.fs.fork();
    fs.fail_reads(disk.newest_file(), (block + 1) * 4096..(block + 2) * 4096).unwrap();
    let found = look(&fs, &disk.options);
    assert_eq!(found.verdict(), Verdict::Suspect);
    assert!(found.seen.has(&acked) && found.scan.unproven().contains(&acked));
    assert_eq!(found.scan.damage[0].owners, Owners::Unknown);
    // The data cannot be read: the seal names whose it was.
    let fs = disk.fs.fork();
    fs.fail_reads(disk.newest_file(), block * 4096..(block + 1) * 4096).unwrap();
    let found = look(&fs, &disk.options);
    assert_eq!(found.scan.damage[0].kind, DamageKind::Rotten);
    assert_eq!(found.scan.damage[0].owners, Owners::Known(vec![group(1)]));
    assert_eq!(found.seen.missing(), [(group(1), Index(1))]);
}

#[test]
fn s19_damage_in_acked_data_says_that_it_is_not_repaired_here_and_what_happens_next() {
    let (disk, at, _) = three_batches(&[append(1, 1, 2, 1000)]);
    disk.flip(disk.block_of(at), 1000);
    let path = disk.newest_file();
    let before = disk.fs.contents(&path).unwrap();
    let found = disk.find();
    let words = found.scan.damage[0].to_string();
    for said in [
        path.to_str().unwrap(),
        "not repairable from this disk",
        "nothing is cut",
        "ask their peers",
        "group 1@1",
        "proves it durable",
    ] {
        assert!(words.contains(said), "{said:?} is missing in: {words}");
    }
    // Going on changes nothing of the damaged file but its link block.
    let generation = disk.writer.generation();
    let (disk, _) = disk.reboot();
    let after = disk.fs.contents(disk.file(generation.0)).unwrap();
    assert_eq!(before[..4096], after[..4096]);
    assert_eq!(before[2 * 4096..], after[2 * 4096..]);
    let again = disk.find().scan.damage;
    let told = |damage: &Damage| (damage.at, damage.offset, damage.kind, damage.owners.clone());
    assert!(again.iter().map(told).eq(found.scan.damage.iter().map(told)), "{again:?}");
    // Released, it is kept aside, not recycled.
    let mut disk = disk;
    for _ in 0..3 {
        disk.roll();
    }
    disk.writer.release(disk.writer.generation());
    disk.settle();
    let kept =
        disk.fs.files().into_keys().find(|path| path.extension().is_some_and(|e| e == "damaged"));
    assert_eq!(disk.fs.contents(kept.expect("set aside")).unwrap(), after);
}

#[test]
fn a_whole_batch_of_another_history_in_the_place_of_the_right_one_is_told() {
    let twin = |middle: &[Record]| {
        let (disk, at, _) = three_batches(middle);
        let start = disk.block_of(at) as usize * 4096;
        (disk, at, start..start + 4096)
    };
    let (disk, at, place) = twin(&[append(1, 1, 1, 100)]);
    let (other, _, _) = twin(&[append(1, 1, 1, 101)]);
    let bytes = other.fs.contents(other.newest_file()).unwrap()[place.clone()].to_vec();
    disk.hurt(|whole| whole[place].copy_from_slice(&bytes));
    // It verifies by itself. The batch behind it knows better.
    let found = disk.find();
    check_told(&found, &[append(7, 1, 2, 100), append(8, 1, 1, 5000)], at);
    assert!(found.words().contains("names another digest"), "{}", found.words());
    assert_eq!(found.seen.trust_of(&append(1, 1, 1, 101)), Some(Trust::Salvaged));
}

#[test]
fn a_last_batch_of_another_history_is_told_by_the_link() {
    let twin = |len| {
        let mut disk = Disk::new();
        let at = disk.write(&[append(1, 1, 1, len)]);
        let start = disk.block_of(at) as usize * 4096;
        disk.roll();
        (disk, at, start..start + 4096)
    };
    let ((disk, at, place), (other, ..)) = (twin(100), twin(101));
    let bytes = other.fs.contents(other.file(1)).unwrap()[place.clone()].to_vec();
    disk.fs.corrupt(disk.file(1), |whole| whole[place].copy_from_slice(&bytes)).unwrap();
    check_told(&disk.find(), &[], at);
}
