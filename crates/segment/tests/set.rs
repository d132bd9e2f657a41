//! Overlapping segments: cuts, fills, and removal by name.

mod common;

use std::sync::Arc;

use common::*;
use refloat_segment::{Part, Segment, SegmentSet, remove_files};
use refloat_types::{Index, Term};
use refloat_vfs::{SimFs, Vfs};

fn set_of(fs: &SimFs, generations: Vec<Vec<Part>>) -> SegmentSet {
    let mut set = SegmentSet::new();
    for (n, parts) in generations.into_iter().enumerate() {
        set.add(flush(fs, n as u64 + 1, parts));
    }
    set
}

fn terms(set: &SegmentSet, id: u64) -> Vec<(u64, u64)> {
    log_of(set, group(id)).values().map(|e| (e.id.index.0, e.id.term.0)).collect()
}

fn reopened(fs: &SimFs) -> SegmentSet {
    let mut set = SegmentSet::new();
    for found in refloat_segment::list(fs, dir(), identity()).unwrap() {
        set.add(Arc::new(found.result.unwrap().unwrap()));
    }
    set
}

#[test]
fn g04_an_overwritten_suffix_across_segments_the_newest_wins_also_after_a_restart() {
    let fs = disk();
    let set = set_of(
        &fs,
        vec![
            vec![appended(1, 1..=20, 1), appended(2, 1..=3, 1)],
            // A new leader overwrites from 11 on, and the log is shorter than before.
            vec![appended(1, 11..=14, 2)],
            vec![appended(1, 13..=16, 3)],
        ],
    );
    let expected: Vec<(u64, u64)> = (1..=10)
        .map(|i| (i, 1))
        .chain([(11, 2), (12, 2), (13, 3), (14, 3), (15, 3), (16, 3)])
        .collect();
    assert_eq!(terms(&set, 1), expected);
    assert_eq!(terms(&set, 2), [(1, 1), (2, 1), (3, 1)]);
    assert_eq!(set.term(group(1), Index(12)), Some(Term(2)));
    assert_eq!(set.term(group(1), Index(17)), None, "overwritten entries stay hidden");
    assert_eq!(set.lowest_cut(group(1)), Some(Index(1)));
    let after = fs.power_cut(|_| refloat_vfs::Fate::Lost);
    assert_eq!(terms(&reopened(&after), 1), expected);
}

#[test]
fn g14_a_fill_below_the_end_keeps_the_suffix() {
    let fs = disk();
    let set = set_of(
        &fs,
        vec![vec![appended(1, 1..=9, 1)], vec![filled(1, &[3, 5], 7)], vec![filled(1, &[12], 7)]],
    );
    let filled_ones: Vec<(u64, u64)> =
        terms(&set, 1).into_iter().filter(|(_, term)| *term == 7).collect();
    assert_eq!(filled_ones, [(3, 7), (5, 7), (12, 7)]);
    assert_eq!(terms(&set, 1).len(), 10);
}

#[test]
fn a_cut_without_entries_hides_what_is_older() {
    let fs = disk();
    let cut = Part { group: group(1), cut: Some(Index(5)), entries: vec![] };
    let set = set_of(&fs, vec![vec![appended(1, 1..=9, 1)], vec![cut], vec![filled(1, &[8], 2)]]);
    assert_eq!(terms(&set, 1), [(1, 1), (2, 1), (3, 1), (4, 1), (8, 2)]);
}

#[test]
fn a_plan_asks_only_for_the_range_and_each_index_of_one_segment() {
    let fs = disk();
    let set = set_of(&fs, vec![vec![appended(1, 1..=20, 1)], vec![appended(1, 11..=30, 2)]]);
    let plan: Vec<_> = set
        .plan(group(1), Index(8), Index(13))
        .iter()
        .map(|s| (s.segment.generation().0, s.first.0, s.last.0))
        .collect();
    assert_eq!(plan, [(1, 8, 10), (2, 11, 13)]);
    assert!(set.plan(group(1), Index(9), Index(8)).is_empty());
    assert!(set.plan(group(7), Index(1), Index(8)).is_empty());
}

/// Two recoveries in a row: the segment of WAL file 1 was published, the file not yet released, so
/// that generation 2 brings the same ranges again. Removing one file must not remove the other.
#[test]
fn s04_overlapping_segments_are_removed_by_name_never_by_range() {
    let fs = disk();
    let again = || vec![appended(1, 1..=9, 1)];
    let mut set = set_of(&fs, vec![again(), again()]);
    assert!(set.remove(name(1, 0)).is_some());
    remove_files(&fs, dir(), &[name(1, 0)]).unwrap();
    assert_eq!(terms(&set, 1).len(), 9);
    let after = fs.power_cut(|_| refloat_vfs::Fate::Lost);
    assert_eq!(terms(&reopened(&after), 1).len(), 9);
    assert!(set.remove(name(1, 0)).is_none(), "twice");
    assert!(set.get(name(2, 0)).is_some() && set.len() == 1);
}

#[test]
fn a_reader_that_holds_a_removed_file_finishes() {
    let fs = disk();
    let mut set = set_of(&fs, vec![vec![appended(1, 1..=50, 1)]]);
    let held = set.plan(group(1), Index(1), Index(50));
    set.remove(name(1, 0));
    remove_files(&fs, dir(), &[name(1, 0)]).unwrap();
    assert!(!fs.exists(&path(1, 0)).unwrap());
    let read = held[0].segment.read(group(1), Index(1), Index(50), usize::MAX).unwrap();
    assert_eq!(read, entries(1..=50, 1));
}

#[test]
fn the_order_of_adding_does_not_matter() {
    let fs = disk();
    let parts = [appended(1, 1..=20, 1), appended(1, 8..=12, 2), filled(1, &[2], 3)];
    let segments: Vec<Arc<Segment>> =
        parts.iter().enumerate().map(|(n, p)| flush(&fs, n as u64 + 1, vec![p.clone()])).collect();
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut set = SegmentSet::new();
        order.iter().for_each(|at| set.add(Arc::clone(&segments[*at])));
        assert_eq!(terms(&set, 1).len(), 12);
    }
}
