//! The memtables against a plain map.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use refloat_memtable::{ENTRY_OVERHEAD, GROUP_OVERHEAD, Lookup, Memtable, Memtables};
use refloat_types::{
    Entry, EntryId, EntryKind, Epoch, Generation, GroupId, GroupKey, Index, LogOp, Term,
};

const HIGHEST: u64 = 40;

fn group(n: u64) -> GroupKey {
    GroupKey::new(GroupId(n), Epoch(7))
}

fn entry(index: u64, term: u64) -> Entry {
    let payload = vec![term as u8; (index % 5) as usize];
    Entry::new(EntryId::new(Term(term), Index(index)), EntryKind::Command, payload.into())
}

fn append(first: u64, count: u64, term: u64) -> LogOp {
    let entries = (first..first + count).map(|i| entry(i, term)).collect();
    LogOp::Append { prev: EntryId::new(Term(term), Index(first - 1)), entries }
}

/// What is written to, and released from, one group's log, as maps. A released generation goes to
/// `below` (the segments), which memtables know nothing of.
#[derive(Clone, Debug, Default)]
struct Model {
    log: BTreeMap<u64, Entry>,
    /// Per unreleased generation: what it wrote last, and its lowest cut.
    generations: BTreeMap<u64, (BTreeMap<u64, Entry>, Option<u64>)>,
}

impl Model {
    fn apply(&mut self, generation: u64, op: &LogOp) {
        let (written, lowest) = self.generations.entry(generation).or_default();
        if let Some(cut) = op.cut_from() {
            self.log.split_off(&cut.0);
            written.split_off(&cut.0);
            *lowest = Some(lowest.map_or(cut.0, |l| l.min(cut.0)));
        }
        for entry in op.entries() {
            self.log.insert(entry.id.index.0, entry.clone());
            written.insert(entry.id.index.0, entry.clone());
        }
    }

    fn lowest_cut(&self) -> Option<u64> {
        self.generations.values().filter_map(|(_, cut)| *cut).min()
    }

    /// Whether the entry that the log has at an index was written by an unreleased generation.
    fn in_memory(&self, index: u64) -> Option<&Entry> {
        let held = self.generations.values().rev().find_map(|(written, cut)| {
            let hit = written.get(&index).map(Some);
            hit.or_else(|| cut.is_some_and(|c| index >= c).then_some(None))
        });
        held.flatten()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Op(u64, LogOp),
    Freeze,
    Release(u64),
    Drop(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let op = prop_oneof![
        5 => (1..HIGHEST, 1..6u64, 1..9u64).prop_map(|(first, count, term)| append(first, count, term)),
        3 => (proptest::collection::btree_set(1..HIGHEST, 1..6), 1..9u64).prop_map(|(at, term)| {
            LogOp::Fill { entries: at.into_iter().map(|i| entry(i, term)).collect() }
        }),
        1 => (0..HIGHEST).prop_map(|from| LogOp::Cut { from: Index(from) }),
    ];
    prop_oneof![
        12 => (0..3u64, op).prop_map(|(g, op)| Step::Op(g, op)),
        2 => Just(Step::Freeze),
        1 => (1..4u64).prop_map(Step::Release),
        1 => (0..3u64).prop_map(Step::Drop),
    ]
}

fn check(tables: &Memtables, group: GroupKey, model: &Model) {
    for index in 0..HIGHEST + 8 {
        let expected = match model.in_memory(index) {
            Some(entry) => Lookup::Entry(entry),
            None if model.lowest_cut().is_some_and(|cut| index >= cut) => Lookup::Cut,
            None => Lookup::Older,
        };
        assert_eq!(tables.lookup(group, Index(index)), expected, "index {index}");
        if let Lookup::Entry(entry) = expected {
            assert_eq!(model.log.get(&index), Some(entry), "the model contradicts itself");
        }
    }
    assert_eq!(tables.lowest_cut(group), model.lowest_cut().map(Index));
    let visible: Vec<&Entry> = (0..HIGHEST + 8).filter_map(|i| model.in_memory(i)).collect();
    assert_eq!(tables.visible(group), visible);
    assert_eq!(tables.last(group), visible.last().map(|e| e.id));

    for (first, max_bytes) in [(1, usize::MAX), (7, 6), (20, 0)] {
        let mut expected = Vec::new();
        let mut bytes = 0;
        let mut next = first;
        while let Some(entry) = model.in_memory(next).filter(|_| next <= HIGHEST) {
            bytes += entry.payload.len();
            if bytes > max_bytes && next != first {
                break;
            }
            expected.push(entry.clone());
            next += 1;
        }
        let mut out = Vec::new();
        let stop = tables.read(group, Index(first), Index(HIGHEST), max_bytes, &mut out);
        assert_eq!((stop, &out), (Index(next), &expected));
    }
}

fn counted(table: &Memtable) -> u64 {
    let bytes = |e: &Entry| e.payload.len() as u64 + ENTRY_OVERHEAD;
    table.groups().map(|(_, t)| GROUP_OVERHEAD + t.entries().map(bytes).sum::<u64>()).sum()
}

fn walk(steps: &[Step]) {
    let mut tables = Memtables::new(Generation(1));
    let mut models = [Model::default(), Model::default(), Model::default()];
    let mut frozen = Vec::new();
    for step in steps {
        let now = tables.active_generation().0;
        match step {
            Step::Op(g, op) => {
                tables.apply(group(*g), op);
                models[*g as usize].apply(now, op);
            }
            Step::Freeze => {
                let table = tables.freeze(Generation(now + 1));
                let copy: Vec<_> = table
                    .groups()
                    .map(|(g, t)| (g, t.entries().cloned().collect::<Vec<_>>()))
                    .collect();
                frozen.push((table, copy));
            }
            Step::Release(back) => {
                let up_to = now.saturating_sub(*back);
                tables.release(Generation(up_to));
                models.iter_mut().for_each(|m| m.generations.retain(|g, _| *g > up_to));
            }
            Step::Drop(g) => {
                tables.drop_group(group(*g));
                models[*g as usize] = Model::default();
            }
        }
        let total = counted(tables.active()) + tables.frozen().map(|t| counted(t)).sum::<u64>();
        assert_eq!(tables.bytes(), total);
    }
    for (n, model) in models.iter().enumerate() {
        check(&tables, group(n as u64), model);
    }
    for (table, copy) in &frozen {
        let now = table.groups().map(|(g, t)| (g, t.entries().cloned().collect::<Vec<_>>()));
        assert!(now.eq(copy.iter().cloned()), "a frozen generation changed");
        assert!(table.groups().map(|(g, _)| g).is_sorted());
    }
    let all: Vec<Arc<Memtable>> =
        tables.frozen().cloned().chain([Arc::new(tables.active().clone())]).collect();
    let merged = Memtable::merged(&all).expect("at least the active one");
    assert_eq!(merged.bytes(), counted(&merged));
    for (n, model) in models.iter().enumerate() {
        if steps.iter().any(|s| matches!(s, Step::Drop(g) if *g == n as u64)) {
            continue; // frozen generations still hold it, by contract
        }
        let table = merged.table(group(n as u64));
        assert_eq!(table.and_then(|t| t.cut()), model.lowest_cut().map(Index));
        let visible: Vec<&Entry> = (0..HIGHEST + 8).filter_map(|i| model.in_memory(i)).collect();
        assert!(table.into_iter().flat_map(|t| t.entries()).eq(visible));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn memtables_read_like_a_map(steps in proptest::collection::vec(step(), 0..60)) {
        walk(&steps);
    }

    /// Three WAL files replayed one after the other, each into its own generation, with overwrites
    /// and sparse inserts; in between the first is flushed and released, as after a snapshot.
    #[test]
    fn g12_memtables_carried_over_three_wal_files_equal_the_model(
        files in proptest::collection::vec(proptest::collection::vec(step(), 1..20), 3),
        release_after in 0..3usize,
    ) {
        let mut steps = Vec::new();
        for (n, file) in files.iter().enumerate() {
            steps.extend(file.iter().filter(|s| matches!(s, Step::Op(..))).cloned());
            if n < 2 {
                steps.push(Step::Freeze);
            }
            if n == release_after && n > 0 {
                steps.push(Step::Release(n as u64));
            }
        }
        walk(&steps);
    }
}

#[test]
#[should_panic(expected = "never used twice")]
fn a_generation_is_never_used_twice() {
    Memtables::new(Generation(3)).freeze(Generation(3));
}

#[test]
fn the_active_generation_is_never_released() {
    let mut tables = Memtables::new(Generation(1));
    tables.apply(group(1), &append(1, 3, 1));
    tables.release(Generation(9));
    assert!(matches!(tables.lookup(group(1), Index(2)), Lookup::Entry(_)));
}
