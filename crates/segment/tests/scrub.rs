//! A walk over a segment in small steps finds what one over all of it finds.

mod common;

use std::sync::Arc;

use common::*;
use refloat_segment::{Part, Scrub, Segment, SegmentError};
use refloat_types::Index;
use refloat_vfs::SimFs;

/// Small and large groups, and an entry longer than a step.
fn parts() -> Vec<Part> {
    let mut parts: Vec<Part> = (1..=40).map(|id| appended(id, 1..=3, 1)).collect();
    let long = (1..=300).map(|index| sized(index, 2, 500)).collect();
    parts.push(Part { group: group(50), cut: Some(Index(1)), entries: long });
    let huge = vec![sized(1, 1, 10), sized(2, 1, 70_000), sized(3, 1, 10)];
    parts.push(Part { group: group(51), cut: None, entries: huge });
    parts
}

fn sealed() -> (SimFs, Arc<Segment>) {
    let fs = disk();
    let segment = flush(&fs, 1, parts());
    (fs, segment)
}

/// All steps of one walk: how many, the longest, and what they found.
fn walk(segment: &Arc<Segment>, max_bytes: u64) -> (u64, u64, Vec<String>) {
    let mut scrub = Scrub::new(Arc::clone(segment));
    let (mut steps, mut longest, mut found) = (0, 0, Vec::new());
    while !scrub.is_done() {
        let before = scrub.position();
        let step = scrub.step(max_bytes);
        assert!(scrub.position() > before, "a step goes on");
        (steps, longest) = (steps + 1, longest.max(step.bytes));
        found.extend(step.found.iter().map(SegmentError::to_string));
        // What a host does that keeps its place only: the next step is of a new walk.
        scrub = Scrub::resume(Arc::clone(segment), scrub.position());
    }
    assert_eq!(scrub.position(), segment.file_len());
    (steps, longest, found)
}

#[test]
fn a_step_is_as_long_as_allowed_or_one_stretch() {
    let (fs, segment) = sealed();
    for max_bytes in [1, 20_000, 100_000, 1 << 20] {
        fs.clear_ops();
        let (steps, longest, found) = walk(&segment, max_bytes);
        assert!(found.is_empty(), "{found:?}");
        assert!(longest <= max_bytes.max(70_000 + 16_384 + 64), "{longest} of {max_bytes}");
        assert!(steps >= segment.file_len() / max_bytes.max(90_000));
        let read: u64 = fs.ops().iter().map(|op| op.len).sum();
        assert!(read >= segment.file_len(), "{read} bytes of {}", segment.file_len());
    }
}

#[test]
fn every_sector_zeroed_is_found_by_small_steps_as_by_one_walk() {
    let (fs, segment) = sealed();
    let good = fs.contents(segment.path()).unwrap();
    let mut noticed = 0;
    for sector in (0..good.len() / 512).step_by(3) {
        fs.corrupt(segment.path(), |bytes| bytes[sector * 512..][..512].fill(0)).unwrap();
        let whole: Vec<String> = segment.scrub().iter().map(SegmentError::to_string).collect();
        let changed = fs.contents(segment.path()).unwrap() != good;
        assert_eq!(!whole.is_empty(), changed, "sector {sector}");
        noticed += usize::from(changed);
        for max_bytes in [1, 40_000] {
            let (_, _, mut stepwise) = walk(&segment, max_bytes);
            let mut whole = whole.clone();
            stepwise.sort();
            whole.sort();
            assert_eq!(stepwise, whole, "sector {sector}, steps of {max_bytes}");
        }
        fs.corrupt(segment.path(), |bytes| bytes.copy_from_slice(&good)).unwrap();
    }
    assert!(noticed > 100);
}

#[test]
fn g03_rot_is_named_by_group_entries_path_and_offset() {
    let (fs, segment) = sealed();
    let at = fs.contents(segment.path()).unwrap().len() as u64 / 2;
    fs.fail_reads(segment.path(), at..at + 1).unwrap();
    let mut scrub = Scrub::new(Arc::clone(&segment));
    let mut found = Vec::new();
    while !scrub.is_done() {
        found.extend(scrub.step(1).found);
    }
    let [error] = &found[..] else { panic!("{found:?}") };
    let damage = error.damage().expect("entries");
    assert_eq!((&*damage.path, damage.group), (segment.path(), group(50)));
    assert!(
        damage.offset <= at && damage.first.index < damage.last.index && damage.cause.is_some()
    );
}
