//! Damage tables: whatever happens to a sealed file, a reader gets what was written or a typed
//! error that names it, never other bytes and never a panic.

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::*;
use refloat_segment::{Part, Segment, SegmentError};
use refloat_types::{Entry, EntryId, EntryKind, GroupKey, Index, Term};
use refloat_vfs::{OpenOptions, OsFs, SECTOR_LEN, SimFs, Vfs};

/// Three groups, two of one stretch, one of several.
fn small() -> Vec<Part> {
    let long = Part {
        group: group(2),
        cut: None,
        entries: (1..=70).filter(|i| i % 9 != 0).map(|i| sized(i, 1 + i / 30, 5)).collect(),
    };
    vec![appended(1, 4..=9, 1), long, filled(3, &[1, 20], 2)]
}

fn sealed() -> (SimFs, Vec<u8>) {
    let fs = disk();
    flush(&fs, 1, small());
    let bytes = fs.contents(path(1, 0)).unwrap();
    (fs, bytes)
}

fn with(bytes: &[u8]) -> (SimFs, Result<Segment, SegmentError>) {
    let fs = disk();
    fs.put(path(1, 0), bytes).unwrap();
    let opened = open(&fs, 1);
    (fs, opened)
}

/// Reads all that can be read; every entry must be as written, every loss must be named.
fn lost(segment: &Segment) -> BTreeSet<(GroupKey, Index)> {
    let mut lost = BTreeSet::new();
    for part in small() {
        let pass = segment.salvage(part.group, Index(0), Index(u64::MAX), usize::MAX);
        let held = |id: Index| pass.entries.iter().find(|e| e.id.index == id);
        for entry in &part.entries {
            match held(entry.id.index) {
                Some(found) => assert_eq!(found, entry, "other bytes than written"),
                None => {
                    let named = pass.damage.iter().any(|d| {
                        d.group == part.group
                            && (d.first.index..=d.last.index).contains(&entry.id.index)
                    });
                    assert!(named, "{:?} vanished without a word", entry.id);
                    lost.insert((part.group, entry.id.index));
                }
            }
        }
        assert!(pass.entries.len() <= part.entries.len(), "invented an entry");
        let strict = segment.read(part.group, Index(0), Index(u64::MAX), usize::MAX);
        assert_eq!(strict.is_err(), !pass.damage.is_empty());
    }
    lost
}

#[test]
fn g03_a_flipped_byte_loses_one_entry_at_most_and_says_which() {
    let (_, good) = sealed();
    let (mut refused, mut impaired, mut losses) = (0, 0, 0);
    for at in 0..good.len() {
        let mask = [0x01, 0x80, 0xff][at % 3];
        let mut bad = good.clone();
        bad[at] ^= mask;
        let (_fs, opened) = with(&bad);
        let segment = match opened {
            Ok(segment) => segment,
            Err(error) => panic!("byte {at}: one flip made it unreadable: {error}"),
        };
        let lost = lost(&segment);
        assert!(lost.len() <= 1, "byte {at} took {lost:?}");
        let found = segment.scrub();
        assert!(!found.is_empty(), "byte {at} was not noticed");
        assert!(found.iter().all(SegmentError::is_corruption));
        losses += lost.len();
        impaired += usize::from(segment.is_impaired());
        refused += usize::from(segment.verify().is_err());
    }
    assert_eq!(refused, good.len(), "verify noticed every flip");
    assert!(losses > 1000 && impaired > 4096, "{losses} losses, {impaired} impaired");
}

#[test]
fn g03_damage_to_one_groups_entries_leaves_the_others_whole() {
    let (_, good) = sealed();
    let mut bad = good.clone();
    let start = 4096 + 6 * 32 + 54 + 14; // inside the second group's first entry
    bad[start..start + 600].fill(0xaa);
    let (_fs, opened) = with(&bad);
    let lost = lost(&opened.unwrap());
    assert!(lost.len() > 5 && lost.iter().all(|(g, _)| *g == group(2)), "{lost:?}");
}

#[test]
fn a_zeroed_sector_never_reads_as_data_and_never_as_absence() {
    let (_, good) = sealed();
    for sector in 0..good.len() / SECTOR_LEN {
        let mut bad = good.clone();
        bad[sector * SECTOR_LEN..][..SECTOR_LEN].fill(0);
        let (_fs, opened) = with(&bad);
        lost(&opened.unwrap_or_else(|e| panic!("sector {sector}: {e}")));
    }
}

#[test]
fn an_unreadable_sector_is_damage_with_a_cause() {
    let (_, good) = sealed();
    let mut with_cause = 0;
    for sector in 0..(good.len() / SECTOR_LEN) as u64 {
        let (fs, _) = with(&good);
        let range = sector * SECTOR_LEN as u64..(sector + 1) * SECTOR_LEN as u64;
        fs.fail_reads(path(1, 0), range).unwrap();
        match open(&fs, 1) {
            Ok(segment) => {
                lost(&segment);
                let found = segment.scrub();
                let cause = |e: &SegmentError| e.damage().is_some_and(|d| d.cause.is_some());
                with_cause += usize::from(found.iter().any(cause));
                assert!(found.iter().all(SegmentError::is_corruption));
            }
            Err(error) => panic!("sector {sector}: {error}"),
        }
    }
    assert!(with_cause >= 2);
}

#[test]
fn g02_a_file_cut_at_any_length_is_unsealed() {
    let (_, good) = sealed();
    for len in 0..good.len() {
        let (_fs, opened) = with(&good[..len]);
        match opened {
            Err(SegmentError::Unsealed { len: found, has_header, .. }) => {
                assert_eq!((found, has_header), (len as u64, len >= 4096));
            }
            other => panic!("{len} bytes: {other:?}"),
        }
    }
}

#[test]
fn g02_data_without_footer_zeros_and_garbage_are_unsealed() {
    let (_, good) = sealed();
    let footers = good.len() - 8192;
    let mut no_footer = good.clone();
    no_footer[footers..].fill(0);
    let mut longer = good.clone();
    longer.extend_from_slice(&good[footers..]);
    let garbage: Vec<u8> = (0..good.len()).map(|n| (n * n % 251) as u8).collect();
    for bytes in [no_footer, longer, garbage, vec![0; good.len()], vec![]] {
        let (_fs, opened) = with(&bytes);
        assert!(matches!(opened, Err(SegmentError::Unsealed { .. })), "{opened:?}");
    }
}

#[test]
fn both_copies_of_one_index_block_damaged_is_a_typed_error() {
    let (_, good) = sealed();
    let (_fs, opened) = with(&good);
    let index_len = u64::from_le_bytes(good[good.len() - 4096 + 84..][..8].try_into().unwrap());
    assert!(opened.is_ok() && index_len < 4096);
    let second = good.len() - 8192 - 4096;
    let first = second - 4096;
    for at in (0..index_len as usize).step_by(3) {
        let mut bad = good.clone();
        bad[first + at] ^= 4;
        assert!(with(&bad).1.is_ok_and(|s| s.is_impaired() && lost(&s).is_empty()), "{at}");
        bad[second + at] ^= 4;
        let opened = with(&bad).1;
        assert!(matches!(opened, Err(SegmentError::Index { .. })), "{at}: {opened:?}");
    }
}

/// A stale or misdirected write leaves bytes that are in themselves intact: of another segment, of
/// another place in this one. Salt, group, index and term tell.
#[test]
fn bytes_from_elsewhere_never_pass_for_these() {
    let (fs, good) = sealed();
    let data = 4096..4096 + 1500;
    let other_life = {
        let fs = disk();
        let mut other = identity();
        other.member.incarnation.0 ^= 1;
        let dir = Path::new("/seg");
        let made = refloat_segment::write(&fs, dir, other, refloat_types::Generation(1), small());
        fs.contents(made.unwrap().path()).unwrap()
    };
    flush(&fs, 2, small());
    let other_generation = fs.contents(path(2, 0)).unwrap();
    for other in [other_life, other_generation] {
        assert_ne!(other[data.clone()], good[data.clone()]);
        let mut bad = good.clone();
        bad[data.clone()].copy_from_slice(&other[data.clone()]);
        assert!(lost(&with(&bad).1.unwrap()).len() > 6);
    }
    let frame = 32 + 5 * 3; // of entry 5, the second
    let first = 4096 + 32 + 4 * 3;
    let mut bad = good.clone();
    let copy = good[first..first + frame].to_vec();
    bad[first + frame..][..frame].copy_from_slice(&copy);
    let lost = lost(&with(&bad).1.unwrap());
    assert!(lost.contains(&(group(1), Index(6))) && !lost.contains(&(group(1), Index(5))));
}

#[test]
fn an_entry_of_another_group_never_passes_though_index_term_and_length_agree() {
    let fs = disk();
    let of = |id: u64, text: &'static str| {
        let id_of = |i| EntryId::new(Term(1), Index(i));
        let made = |i| Entry::new(id_of(i), EntryKind::Command, text.into());
        Part { group: group(id), cut: None, entries: (1..=3).map(made).collect() }
    };
    flush(&fs, 1, vec![of(1, "aaaa"), of(2, "bbbb")]);
    let all = 3 * (32 + 4);
    fs.corrupt(path(1, 0), |bytes| bytes.copy_within(4096..4096 + all, 4096 + all)).unwrap();
    let segment = open(&fs, 1).unwrap();
    let pass = segment.salvage(group(2), Index(1), Index(3), usize::MAX);
    assert!(pass.entries.is_empty(), "read {:?}", pass.entries);
    assert_eq!(pass.damage.len(), 3);
    assert!(segment.read(group(1), Index(1), Index(3), usize::MAX).is_ok());
}

#[test]
fn o06_the_bytes_of_version_1_are_those_of_the_golden_file() {
    let (_, bytes) = sealed();
    if std::env::var_os("REFLOAT_BLESS").is_some() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/version-1.seg"));
        let options = OpenOptions { create: true, ..OpenOptions::write() };
        OsFs.open(path, options).unwrap().write_at(&bytes, 0).unwrap();
    }
    let expected = include_bytes!("golden/version-1.seg");
    assert!(bytes == *expected, "the format changed: raise its version and keep reading this one");
    let (_fs, opened) = with(expected);
    assert_eq!(contents(&opened.unwrap()).unwrap(), as_contents(&small()));
}

#[test]
fn errors_name_path_offset_found_and_expected() {
    let (_, good) = sealed();
    let mut bad = good.clone();
    bad[4096 + 40] ^= 1;
    let (_fs, opened) = with(&bad);
    let error = opened.unwrap().verify().unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with(
            "read segment /seg/00000000000000000001.seg at 4096: digest mismatch (found "
        ),
        "{text}"
    );
    assert!(text.ends_with("group 1@10 entry 4 of term 1"), "{text}");
    let intact = |e: &Entry| e.is_intact();
    assert!(small().iter().all(|p| p.entries.iter().all(intact)));
}
