//! Writing and reading, without faults; and what is refused.

mod common;

use std::path::Path;

use common::*;
use refloat_segment::{Part, Segment, SegmentError, list, remove_files, write_merged};
use refloat_types::{Generation, Identity, Incarnation, Index, Member, NodeId, Term};
use refloat_vfs::{OpKind, OpenOptions, OsFs, SimFs, Vfs};

fn several() -> Vec<Part> {
    vec![
        appended(1, 1..=200, 1),
        filled(2, &[3, 4, 9, 400], 2),
        Part { group: group(3), cut: Some(Index(7)), entries: vec![] },
        Part {
            group: group(4),
            cut: Some(Index(1)),
            entries: (1..=9).map(|i| sized(i, i, 9000)).collect(),
        },
        Part { group: group(5), cut: None, entries: vec![sized(20, 1, 1 << 20), sized(21, 1, 0)] },
    ]
}

#[test]
fn what_is_written_is_read() {
    let fs = disk();
    let written = flush(&fs, 7, several());
    let opened = open(&fs, 7).unwrap();
    for segment in [&*written, &opened] {
        assert_eq!(contents(segment).unwrap(), as_contents(&several()));
        assert!(segment.verify().is_ok() && !segment.is_impaired());
        assert_eq!(
            (segment.generation(), segment.first_generation()),
            (Generation(7), Generation(7))
        );
        assert_eq!(segment.path(), path(7, 0));
        assert_eq!(segment.entries(), 200 + 4 + 9 + 2);
    }
    let meta = opened.group(group(2)).unwrap();
    assert_eq!(meta.terms.len(), 3);
    assert_eq!((meta.term(Index(9)), meta.term(Index(5))), (Some(Term(2)), None));
    assert_eq!(meta.configs, [Index(400)]);
    assert!(opened.group(group(9)).is_none());
}

#[test]
fn the_real_file_system_holds_the_same_bytes() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let generation = Generation(7);
    let written = refloat_segment::write(&OsFs, dir, identity(), generation, several()).unwrap();
    assert_eq!(contents(&written).unwrap(), as_contents(&several()));
    let fs = disk();
    flush(&fs, 7, several());
    let ours = SimFs::new();
    ours.import(dir, "/copy").unwrap();
    let copied = Path::new("/copy").join(name(7, 0).to_string());
    assert!(ours.contents(copied).unwrap() == fs.contents(path(7, 0)).unwrap());
    assert_eq!(ours.files().len(), 1, "a temporary file was left");
}

#[test]
fn every_range_is_read_as_a_filter_would() {
    let fs = disk();
    let segment = flush(&fs, 1, several());
    for part in several() {
        let top = part.entries.last().map_or(0, |e| e.id.index.0).min(220) + 2;
        for first in 0..=top {
            for last in [first, first + 1, first + 40, top] {
                let wanted = |e: &&_| -> bool {
                    let e: &refloat_types::Entry = e;
                    first <= e.id.index.0 && e.id.index.0 <= last
                };
                let expected: Vec<_> = part.entries.iter().filter(wanted).cloned().collect();
                let found =
                    segment.read(part.group, Index(first), Index(last), usize::MAX).unwrap();
                assert_eq!(found, expected, "{} {first}..={last}", part.group);
            }
        }
    }
}

#[test]
fn max_bytes_bounds_a_read_and_one_entry_is_always_given() {
    let fs = disk();
    let segment = flush(&fs, 1, several());
    let read = |first, max| -> Vec<u64> {
        let found = segment.read(group(4), Index(first), Index(9), max).unwrap();
        found.iter().map(|e| e.id.index.0).collect()
    };
    assert_eq!(read(1, 0), [1]);
    assert_eq!(read(2, 18_000), [2, 3]);
    assert_eq!(read(2, 17_999), [2]);
    assert_eq!(read(8, usize::MAX), [8, 9]);
    let pass = segment.salvage(group(4), Index(2), Index(9), 18_000);
    assert_eq!(pass.next, Index(4));
}

#[test]
fn an_empty_generation_makes_a_segment() {
    let fs = disk();
    flush(&fs, 1, vec![]);
    let segment = open(&fs, 1).unwrap();
    assert_eq!(segment.groups().len(), 0);
    assert!(segment.verify().is_ok());
}

#[test]
fn several_generations_flushed_as_one_say_so() {
    let fs = disk();
    let (from, to) = (Generation(5), Generation(8));
    write_merged(&fs, dir(), identity(), from, to, vec![appended(1, 1..=3, 1)]).unwrap();
    let segment = open(&fs, 8).unwrap();
    assert_eq!((segment.first_generation(), segment.generation()), (from, to));
}

#[test]
fn parts_out_of_order_are_refused() {
    let fs = disk();
    let twice = try_flush(&fs, 1, vec![appended(2, 1..=3, 1), appended(2, 4..=5, 1)]);
    assert!(matches!(twice, Err(SegmentError::Unsorted { index: None, .. })));
    let mut part = appended(1, 1..=3, 1);
    part.entries.swap(0, 2);
    let swapped = try_flush(&fs, 1, vec![part]);
    assert!(matches!(swapped, Err(SegmentError::Unsorted { index: Some(Index(2)), .. })));
    assert_eq!(fs.list(dir()).unwrap(), [] as [std::path::PathBuf; 0], "something was left");
}

#[test]
fn w24_an_entry_that_changed_in_memory_is_never_written() {
    let fs = disk();
    let mut part = appended(1, 1..=30, 1);
    let victim = &mut part.entries[20];
    let mut flipped = victim.payload.to_vec();
    flipped.push(0);
    victim.payload = flipped.into();
    match try_flush(&fs, 1, vec![part]) {
        Err(SegmentError::NotIntact { group: g, id, expected, found }) => {
            assert_eq!((g, id.index), (group(1), Index(21)));
            assert_ne!(expected, found);
        }
        other => panic!("{other:?}"),
    }
    assert!(fs.files().is_empty(), "something was left");
}

#[test]
fn a_segment_of_another_identity_is_refused_with_both_names() {
    let fs = disk();
    flush(&fs, 1, several());
    let member = Member::new(NodeId(3), Incarnation(5));
    let other = Identity { member, ..identity() };
    let error = Segment::open(&fs, &path(1, 0), other).unwrap_err();
    assert!(matches!(error, SegmentError::Foreign { .. }));
    let text = error.to_string();
    assert!(text.contains(&member.to_string()) && text.contains(&identity().member.to_string()));
    assert!(!error.is_corruption());
}

#[test]
fn a_segment_under_another_name_is_refused() {
    let fs = disk();
    flush(&fs, 1, several());
    fs.rename(&path(1, 0), &path(2, 0)).unwrap();
    assert!(matches!(open(&fs, 2), Err(SegmentError::Misnamed { .. })));
    assert!(open(&fs, 1).unwrap_err().is_missing());
}

#[test]
fn g11_ten_thousand_groups_cost_as_many_syncs_as_one() {
    let counted = |groups: u64| {
        let fs = disk();
        fs.clear_ops();
        let parts = (1..=groups).map(|g| appended(g, 1..=5, 1));
        refloat_segment::write(&fs, dir(), identity(), Generation(1), parts).unwrap();
        let ops = fs.ops();
        let count = |kind| ops.iter().filter(|op| op.kind == kind).count();
        let writes: Vec<u64> =
            ops.iter().filter(|op| op.kind == OpKind::Write).map(|op| op.len).collect();
        assert!(writes.iter().rev().skip(3).all(|len| *len >= 256 << 10), "{writes:?}");
        (count(OpKind::Sync), count(OpKind::SyncDir), count(OpKind::Rename))
    };
    assert_eq!(counted(1), (1, 1, 1));
    assert_eq!(counted(10_000), (1, 1, 1));
}

#[test]
fn the_directory_tells_segments_leftovers_and_strangers_apart() {
    let fs = disk();
    flush(&fs, 2, several());
    flush(&fs, 1, several());
    for stray in ["00000000000000000003.seg.tmp", "notes.txt", "00000000000000000009.seg"] {
        fs.open(&dir().join(stray), OpenOptions::create_new()).unwrap();
    }
    let found = list(&fs, dir(), identity()).unwrap();
    let names: Vec<_> = found.iter().map(|f| f.name).collect();
    assert_eq!(names, [Some(name(1, 0)), Some(name(2, 0)), None, Some(name(9, 0)), None]);
    assert!(matches!(found[0].result, Some(Ok(_))) && matches!(found[1].result, Some(Ok(_))));
    assert!(matches!(found[3].result, Some(Err(SegmentError::Unsealed { len: 0, .. }))));
}

#[test]
fn removing_files_is_by_name_idempotent_and_synced() {
    let fs = disk();
    flush(&fs, 1, several());
    flush(&fs, 2, several());
    for _ in 0..2 {
        remove_files(&fs, dir(), &[name(1, 0)]).unwrap();
    }
    let after: SimFs = fs.power_cut(|_| refloat_vfs::Fate::Lost);
    assert_eq!(after.list(dir()).unwrap(), [path(2, 0)]);
}
