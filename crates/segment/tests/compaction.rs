//! Compaction keeps exactly what is needed.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::*;
use proptest::prelude::*;
use refloat_segment::{
    Keep, Limits, Part, Segment, SegmentError, SegmentSet, plan_compaction, remove_files,
};
use refloat_types::{Entry, GroupKey, Index, IndexSet};
use refloat_vfs::{SimFs, Vfs};

fn keep(above: u64, live: &[u64]) -> Keep {
    Keep::Log { above: Index(above), live: live.iter().copied().map(Index).collect::<IndexSet>() }
}

fn eager() -> Limits {
    let mut limits = Limits::default();
    limits.merge_from = 2;
    limits.live_percent = 100;
    limits.max_segments = 2;
    limits
}

/// One step as the log store takes it. Returns whether there was something to do.
fn step(
    fs: &SimFs,
    set: &mut SegmentSet,
    keep: &dyn Fn(GroupKey) -> Keep,
    limits: &Limits,
) -> bool {
    let Some(compaction) = plan_compaction(set, keep, limits) else { return false };
    let output = compaction.run(fs).expect("compact").map(std::sync::Arc::new);
    if let Some(output) = &output {
        assert_eq!(output.inputs(), compaction.inputs());
        assert_eq!(output.generation(), compaction.inputs().last().unwrap().generation);
        assert!(output.verify().is_ok());
    }
    set.replace(compaction.inputs(), output);
    remove_files(fs, dir(), compaction.inputs()).expect("remove the inputs");
    true
}

fn needed(log: &BTreeMap<u64, Entry>, keep: &Keep) -> BTreeMap<u64, Entry> {
    let is_needed = |index: u64| match keep {
        Keep::Log { above, live } => index > above.0 || live.contains(Index(index)),
        _ => false,
    };
    log.iter().filter(|(i, _)| is_needed(**i)).map(|(i, e)| (*i, e.clone())).collect()
}

#[test]
fn a_dead_segment_goes_without_an_output() {
    let fs = disk();
    let mut set = SegmentSet::new();
    set.add(flush(&fs, 1, vec![appended(1, 1..=9, 1)]));
    set.add(flush(&fs, 2, vec![appended(1, 10..=19, 1)]));
    let keep = |_| keep(9, &[]);
    let compaction = plan_compaction(&set, &keep, &Limits::default()).unwrap();
    assert_eq!(compaction.inputs(), [name(1, 0)]);
    assert!(compaction.run(&fs).unwrap().is_none());
    set.replace(compaction.inputs(), None);
    assert!(plan_compaction(&set, &keep, &Limits::default()).is_none());
}

#[test]
fn live_entries_survive_and_dead_ones_go() {
    let fs = disk();
    let mut set = SegmentSet::new();
    set.add(flush(&fs, 1, vec![appended(1, 1..=90, 1), appended(2, 1..=2, 1)]));
    let keep = |g| if g == group(1) { keep(90, &[4, 5, 80]) } else { Keep::Gone };
    assert!(step(&fs, &mut set, &keep, &Limits::default()));
    assert_eq!(fs.list(dir()).unwrap(), [path(1, 1)]);
    let output = Segment::open(&fs, &path(1, 1), identity()).unwrap();
    assert_eq!(output.groups().map(|m| (m.group, m.count)).collect::<Vec<_>>(), [(group(1), 3)]);
    assert_eq!(log_of(&set, group(1)).keys().copied().collect::<Vec<_>>(), [4, 5, 80]);
}

/// The entries of a cut log's end are dead in every sense but one: an older file still has others
/// at their places.
#[test]
fn g14_a_cut_survives_its_entries() {
    let fs = disk();
    let mut set = SegmentSet::new();
    set.add(flush(&fs, 1, vec![appended(1, 1..=50, 1), appended(2, 1..=900, 1)]));
    set.add(flush(&fs, 2, vec![appended(1, 20..=30, 2)]));
    // A snapshot at 30: nothing of generation 2 is needed, but 31 to 50 of term 1 must not be seen.
    let keep = |g| if g == group(1) { keep(30, &[]) } else { keep(0, &[]) };
    while step(&fs, &mut set, &keep, &Limits::default()) {}
    assert!(
        needed(&log_of(&set, group(1)), &keep(group(1))).is_empty(),
        "overwritten entries are back"
    );
    assert_eq!(set.lowest_cut(group(1)).map(|c| c <= Index(20)), Some(true));
}

#[test]
fn only_neighbours_are_merged() {
    let fs = disk();
    let mut set = SegmentSet::new();
    set.add(flush(&fs, 1, vec![appended(1, 1..=20, 1)]));
    let big = Part { group: group(2), cut: None, entries: vec![sized(1, 1, 600_000)] };
    set.add(flush(&fs, 2, vec![appended(1, 10..=30, 2), big]));
    set.add(flush(&fs, 3, vec![appended(1, 25..=35, 3)]));
    let mut limits = eager();
    limits.small = 100_000;
    limits.live_percent = 0;
    limits.max_segments = 9;
    assert!(plan_compaction(&set, &|_| keep(0, &[]), &limits).is_none());
}

#[test]
fn damage_in_a_needed_entry_stops_a_compaction_and_dead_damage_does_not() {
    let fs = disk();
    let mut set = SegmentSet::new();
    set.add(flush(&fs, 1, vec![appended(1, 1..=60, 1)]));
    fs.corrupt(path(1, 0), |bytes| bytes[4096 + 33] ^= 1).unwrap(); // entry 1's payload
    let before = fs.list(dir()).unwrap();
    let needs_it = plan_compaction(&set, &|_| keep(50, &[1]), &Limits::default()).unwrap();
    match needs_it.run(&fs) {
        Err(SegmentError::Damaged(damage)) => assert_eq!(damage.first.index, Index(1)),
        other => panic!("{other:?}"),
    }
    assert_eq!(fs.list(dir()).unwrap(), before);
    let mut limits = Limits::default();
    limits.avoid.push(name(1, 0));
    assert!(plan_compaction(&set, &|_| keep(50, &[1]), &limits).is_none());
    assert!(step(&fs, &mut set, &|_| keep(50, &[2]), &Limits::default()));
    assert_eq!(log_of(&set, group(1)).len(), 11);
}

#[test]
fn a_leftover_output_of_the_same_name_is_not_overwritten() {
    let fs = disk();
    let mut set = SegmentSet::new();
    set.add(flush(&fs, 1, vec![appended(1, 1..=60, 1)]));
    fs.put(path(1, 1), b"an output that was never published").unwrap();
    assert!(step(&fs, &mut set, &|_| keep(50, &[]), &Limits::default()));
    assert_eq!(set.iter().next().unwrap().name(), name(1, 2));
    assert_eq!(fs.contents(path(1, 1)).unwrap(), b"an output that was never published");
}

/// Where an input's file was set aside meanwhile, its name is free, and must not be taken: a removal
/// by name would hit the output.
#[test]
fn an_output_never_takes_the_name_of_an_input() {
    let fs = disk();
    let mut set = SegmentSet::new();
    set.add(flush(&fs, 1, vec![appended(1, 1..=60, 1)]));
    let compaction = plan_compaction(&set, &|_| keep(50, &[]), &Limits::default()).unwrap();
    fs.remove_file(&path(1, 0)).unwrap();
    let output = compaction.run(&fs).unwrap().unwrap();
    assert!(!compaction.inputs().contains(&output.name()));
}

#[test]
fn the_number_of_files_stays_bounded_and_bytes_are_copied_seldom() {
    let fs = disk();
    let mut set = SegmentSet::new();
    let mut limits = Limits::default();
    limits.max_segments = 8;
    let (mut written, mut copied) = (0, 0);
    for n in 1..=120 {
        let segment = flush(&fs, n, vec![appended(1, n * 50 - 49..=n * 50, 1)]);
        written += segment.file_len();
        set.add(segment);
        while step(&fs, &mut set, &|_| keep(0, &[]), &limits) {
            copied += set.iter().map(|s| s.file_len()).max().unwrap_or(0);
        }
        assert!(set.len() <= 8, "{} files", set.len());
        assert!(set.plan(group(1), Index(1), Index(n * 50)).len() <= 8);
    }
    assert_eq!(log_of(&set, group(1)).len(), 6000);
    assert!(copied < written * 4, "{copied} bytes copied for {written} written");
}

type Cuts = Option<u64>;

#[derive(Clone, Debug)]
struct Flush {
    parts: BTreeMap<u64, (Cuts, BTreeSet<u64>)>,
}

fn flushes() -> impl Strategy<Value = Vec<Flush>> {
    let at = 1..40u64;
    let appends = (at.clone(), 0..12u64).prop_map(|(cut, n)| (Some(cut), (cut..cut + n).collect()));
    let fills = proptest::collection::btree_set(at.clone(), 1..8).prop_map(|s| (None, s));
    let both = (at.clone(), 0..9u64, proptest::collection::btree_set(at, 0..6)).prop_map(
        |(cut, n, mut set): (u64, u64, BTreeSet<u64>)| {
            set.extend(cut..cut + n);
            (Some(cut), set)
        },
    );
    let part = prop_oneof![3 => appends, 1 => fills, 1 => both];
    let parts = proptest::collection::btree_map(1..4u64, part, 1..4);
    proptest::collection::vec(parts.prop_map(|parts| Flush { parts }), 1..9)
}

fn keeps() -> impl Strategy<Value = BTreeMap<u64, Option<(u64, BTreeSet<u64>)>>> {
    let log = (0..45u64, proptest::collection::btree_set(1..45u64, 0..6));
    proptest::collection::btree_map(1..4u64, proptest::option::weighted(0.85, log), 3)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    /// Against a map: every flush cuts and inserts; whatever is compacted whenever, the needed
    /// entries read as in the map, and what was compacted holds nothing else.
    #[test]
    fn g06_compaction_keeps_exactly_live_and_above_snapshot(
        flushes in flushes(),
        keeps in proptest::collection::vec(keeps(), 3),
        every in 1..4usize,
        live_percent in prop_oneof![Just(30u8), Just(100u8)],
    ) {
        let fs = disk();
        let mut set = SegmentSet::new();
        let mut model: BTreeMap<u64, BTreeMap<u64, Entry>> = BTreeMap::new();
        let mut bounds: BTreeMap<u64, Option<(u64, BTreeSet<u64>)>> = BTreeMap::new();
        let mut limits = eager();
        limits.live_percent = live_percent;
        for (n, flushed) in flushes.iter().enumerate() {
            let term = n as u64 + 1;
            let mut parts = Vec::new();
            for (id, (cut, indexes)) in &flushed.parts {
                let log = model.entry(*id).or_default();
                cut.map(|c| log.split_off(&c));
                let held: Vec<Entry> = indexes.iter().map(|i| entry(*i, term)).collect();
                log.extend(held.iter().map(|e| (e.id.index.0, e.clone())));
                parts.push(Part { group: group(*id), cut: cut.map(Index), entries: held });
            }
            set.add(flush(&fs, term, parts));
            for (id, log) in &model {
                prop_assert_eq!(&needed(&log_of(&set, group(*id)), &bound(&bounds, *id)), &needed(log, &bound(&bounds, *id)));
            }
            if n % every != 0 {
                continue;
            }
            // Snapshots move up; a live index stays or goes, it never comes back.
            for (id, next) in &keeps[n % 3] {
                let before = bounds.entry(*id).or_insert(Some((0, BTreeSet::new())));
                *before = match (before.take(), next) {
                    (None, _) => None,
                    // A group that is gone stays gone; here only a later flush would say otherwise.
                    (Some(_), None) if flushes[n + 1..].iter().all(|f| !f.parts.contains_key(id)) => None,
                    (old, None) => old,
                    (Some((above, live)), Some((to, wanted))) => {
                        let to = above.max(*to);
                        let may_live = |i: &u64| *i <= to && (*i > above || live.contains(i));
                        Some((to, wanted.iter().copied().filter(may_live).collect()))
                    }
                };
            }
            let keep = |g: GroupKey| bound(&bounds, g.id.0);
            let mut rounds = 0;
            while step(&fs, &mut set, &keep, &limits) {
                rounds += 1;
                prop_assert!(rounds < 50, "compaction does not come to rest");
                for (id, log) in &model {
                    let keep = bound(&bounds, *id);
                    prop_assert_eq!(needed(&log_of(&set, group(*id)), &keep), needed(log, &keep));
                }
                let names: BTreeSet<_> = set.iter().map(|s| s.path().to_path_buf()).collect();
                prop_assert_eq!(names, fs.list(dir()).unwrap().into_iter().collect());
            }
            prop_assert!(set.len() <= limits.max_segments);
        }
        // All into one: exactly the needed entries are left.
        limits.max_segments = 1;
        let keep = |g: GroupKey| bound(&bounds, g.id.0);
        while step(&fs, &mut set, &keep, &limits) {}
        prop_assert!(set.len() <= 1);
        let rewritten = set.iter().next().filter(|s| s.name().revision > 0);
        for meta in rewritten.iter().flat_map(|s| s.groups()) {
            let id = meta.group.id.0;
            let found: Vec<u64> = meta.terms.iter().flat_map(|r| r.first.0..=r.last.0).collect();
            let kept = needed(&model[&id], &keep(meta.group));
            if live_percent == 100 {
                prop_assert!(found.iter().eq(kept.keys()), "{found:?} instead of {kept:?}");
            } else {
                prop_assert!(kept.keys().all(|i| found.contains(i)));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    /// However flushes and snapshots follow each other: at rest, the files take at most twice what
    /// is live, and a constant per file.
    #[test]
    fn g13_at_rest_the_bytes_on_disk_are_bounded_by_what_is_live(
        rounds in proptest::collection::vec(
            (1..4u64, 5..40u64, 0..10u64, prop_oneof![Just(0u64), 1..100u64]), 1..12),
    ) {
        const PER_FILE: u64 = 8 * 4096;
        let fs = disk();
        let mut set = SegmentSet::new();
        let (mut last, mut above): (BTreeMap<u64, u64>, BTreeMap<u64, u64>) = Default::default();
        for (n, (id, count, back, percent)) in rounds.iter().enumerate() {
            let end = last.entry(*id).or_default();
            let first = (*end + 1).saturating_sub(*back).max(above.get(id).copied().unwrap_or(0) + 1);
            *end = first + count - 1;
            let held: Vec<Entry> = (first..=*end).map(|i| sized(i, n as u64 + 1, 3000)).collect();
            let part = Part { group: group(*id), cut: Some(Index(first)), entries: held };
            set.add(flush(&fs, n as u64 + 1, vec![part]));
            let to = above.entry(*id).or_default();
            *to = (*to).max(*end * percent / 100);
            let keep = |g: GroupKey| keep(above.get(&g.id.0).copied().unwrap_or(0), &[]);
            while step(&fs, &mut set, &keep, &Limits::default()) {}
            let live: u64 = last
                .keys()
                .map(|id| needed(&log_of(&set, group(*id)), &keep(group(*id))).len() as u64 * 3032)
                .sum();
            let bytes: u64 = fs.files().values().sum();
            let files = set.len() as u64;
            prop_assert!(
                bytes <= 2 * live + files * PER_FILE,
                "{bytes} bytes in {files} files for {live} live ones"
            );
        }
    }
}

fn bound(bounds: &BTreeMap<u64, Option<(u64, BTreeSet<u64>)>>, id: u64) -> Keep {
    match bounds.get(&id) {
        None => keep(0, &[]),
        Some(None) => Keep::Gone,
        Some(Some((above, live))) => keep(*above, &live.iter().copied().collect::<Vec<_>>()),
    }
}
