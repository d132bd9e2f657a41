//! The damage table of segments: every harm of [`Harm::all`] and every mix-up of whole files, on a
//! sealed file of several groups. A reader gets what was written, or hears exactly what is lost.
//!
//! `cargo test -p refloat-segment --test damage_table -- --nocapture` prints the table of
//! `docs/recovery.md`.

mod common;

use std::ops::Range;
use std::path::Path;
use std::sync::LazyLock;

use common::*;
use refloat_segment::{Part, Segment, SegmentError, list, write};
use refloat_types::{Generation, GroupKey, Identity, Index, NodeId};
use refloat_vfs::{BLOCK_LEN, Harm, SimFs, Tally, Vfs};

const STALE: &str = "block of an older file";

/// Four groups, large enough that most have blocks of their own.
static PARTS: LazyLock<Vec<Part>> = LazyLock::new(parts);

fn parts() -> Vec<Part> {
    let part = |id: u64| {
        let range = 1..=8 + id * 4;
        let entries = range.map(|index| sized(index, 1 + index / 9, (60 + id * 20) as usize));
        Part { group: group(id), cut: Some(Index(1)), entries: entries.collect() }
    };
    (1..=4).map(part).collect()
}

fn file_of(identity: Identity, generation: u64) -> Vec<u8> {
    let fs = disk();
    let made = write(&fs, dir(), identity, Generation(generation), parts());
    fs.contents(made.expect("write a segment").path()).unwrap()
}

/// Where each group's entries lie in the file.
fn places(good: &[u8]) -> Vec<(GroupKey, Range<usize>)> {
    let frame = |part: &Part| part.entries.iter().map(|e| 32 + e.payload.len()).sum::<usize>();
    let mut at = BLOCK_LEN;
    let places: Vec<_> = PARTS
        .iter()
        .map(|part| {
            let start = at;
            at += frame(part);
            (part.group, start..at)
        })
        .collect();
    assert!(at < good.len() && good[at..at.next_multiple_of(BLOCK_LEN)].iter().all(|b| *b == 0));
    places
}

/// Opens the file and reads all groups; every entry must be as written, every loss be named.
fn answer(
    fs: &SimFs,
    changed: impl Fn(&Range<usize>) -> bool,
    places: &[(GroupKey, Range<usize>)],
) -> String {
    let segment = match open(fs, 1) {
        Ok(segment) => segment,
        Err(error) => return format!("refused: {}", refusal(&error)),
    };
    let (mut entries, mut groups) = (0, 0);
    for (part, (group, place)) in PARTS.iter().zip(places) {
        let lost = lost(&segment, part);
        assert!(lost == 0 || changed(place), "{group} lost {lost} entries to another's damage");
        entries += lost;
        groups += usize::from(lost > 0);
    }
    let found = segment.scrub();
    assert!(found.iter().all(SegmentError::is_corruption), "{found:?}");
    assert!(!found.is_empty(), "the scrub noticed nothing");
    match (entries, groups) {
        (0, _) => "all entries read; the scrub names the bad copy".into(),
        (1, _) => "one entry lost, by name; the others whole".into(),
        (_, 1) => "several entries of one group lost, by name; the others whole".into(),
        (_, 2) => "entries of two groups lost, by name; the others whole".into(),
        _ => "entries of three or more groups lost, by name; the others whole".into(),
    }
}

fn lost(segment: &Segment, part: &Part) -> usize {
    let pass = segment.salvage(part.group, Index(0), Index(u64::MAX), usize::MAX);
    let mut found = pass.entries.iter().peekable();
    let mut lost = 0;
    for entry in &part.entries {
        if found.next_if(|found| *found == entry).is_none() {
            let names = |d: &refloat_segment::Damage| {
                (d.first.index..=d.last.index).contains(&entry.id.index)
            };
            assert!(pass.damage.iter().any(names), "{:?} vanished without a word", entry.id);
            lost += 1;
        }
    }
    assert_eq!(found.next(), None, "other bytes than written, or an invented entry");
    lost
}

fn refusal(error: &SegmentError) -> &'static str {
    let text = error.to_string();
    assert!(text.contains("/seg/"), "names no path: {text}");
    match error {
        SegmentError::Unsealed { .. } => "no footer at its end",
        SegmentError::Foreign { .. } => "of another node, with both names",
        SegmentError::Misnamed { .. } => "another segment than its name says",
        SegmentError::Index { .. } => "both copies of the index damaged",
        error if error.is_missing() => "absent",
        other => panic!("{other}"),
    }
}

/// No decoder allocates by an unchecked number.
fn bounded<T>(len: usize, what: impl FnOnce() -> T) -> T {
    let mut result = None;
    let used = allocation_counter::measure(|| result = Some(what()));
    let limit = 64 * len as u64 + (256 << 10);
    assert!(used.bytes_max < limit, "{} bytes of memory for a file of {len}", used.bytes_max);
    result.expect("measured")
}

#[test]
fn g03_the_damage_table_of_a_segment() {
    let good = file_of(identity(), 1);
    let older = file_of(identity(), 0);
    let places = places(&good);
    let mut table = Tally::default();
    let fs = disk();
    for harm in Harm::all(good.len(), older.len()) {
        let Some(bad) = harm.apply(&good, &older) else {
            table.add(harm.class(), "nothing changed: the bytes were equal");
            continue;
        };
        fs.put(path(1, 0), &bad).unwrap();
        fs.clear_ops();
        let changed = |place: &Range<usize>| bad.get(place.clone()) != Some(&good[place.clone()]);
        let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            bounded(good.len(), || answer(&fs, changed, &places))
        }));
        table.add(harm.class(), &answer.unwrap_or_else(|_| panic!("at {harm:?}")));
    }
    whole_files(&good, &older, &mut table);
    println!("{table}");
    let refused = |fault: &str, why: &str| table.count(fault, &format!("refused: {why}"));
    assert_eq!(refused("file cut short", "no footer at its end"), good.len() as u64);
    for fault in ["one byte flipped", "512 B sector zeroed", "4 KiB block zeroed", STALE] {
        let none = table.answers_to(fault).all(|(answer, _)| !answer.starts_with("refused"));
        assert!(none, "{fault}: a single harm takes the file");
    }
    let one = "one entry lost, by name; the others whole";
    assert!(table.count("one byte flipped", one) > 10_000);
}

/// Files that are whole, and not the one that belongs here.
fn whole_files(good: &[u8], older: &[u8], table: &mut Tally) {
    let mut elsewhere = identity();
    elsewhere.member.node = NodeId(4);
    let doubled = [good, good].concat();
    let cases: [(&str, Option<&[u8]>); 4] = [
        ("file removed", None),
        ("file doubled in length", Some(&doubled)),
        ("older file under this name", Some(older)),
        ("another node's file under this name", Some(&file_of(elsewhere, 1))),
    ];
    for (fault, bytes) in cases {
        let fs = disk();
        if let Some(bytes) = bytes {
            fs.put(path(1, 0), bytes).unwrap();
        }
        table.add(fault, &answer(&fs, |_| false, &places(good)));
    }
    let fs = disk();
    fs.put(path(1, 0), good).unwrap();
    fs.put(path(9, 0), good).unwrap();
    let found = list(&fs as &dyn Vfs, Path::new("/seg"), identity()).unwrap();
    for found in found {
        let answer = match found.result {
            Some(Err(error)) => format!("refused: {}", refusal(&error)),
            Some(Ok(segment)) => {
                let lost: usize = PARTS.iter().map(|part| lost(&segment, part)).sum();
                assert_eq!((lost, segment.scrub().len()), (0, 0));
                "the one under its own name: all entries read".into()
            }
            None => panic!("{found:?} is no segment"),
        };
        table.add("copy of the file under a second name", &answer);
    }
}
