use alloc::vec::Vec;

use refloat_types::{EntryKind, Term};

use super::*;

fn entry(index: u64, term: u64) -> Entry {
    Entry::new(EntryId::new(Term(term), Index(index)), EntryKind::Command, "abc".into())
}

fn append(prev: u64, entries: Vec<Entry>) -> LogOp {
    LogOp::Append { prev: EntryId::new(Term(1), Index(prev)), entries }
}

fn ids(table: &Table) -> Vec<(u64, u64)> {
    table.entries().map(|e| (e.id.index.0, e.id.term.0)).collect()
}

#[test]
fn appends_stay_in_the_queue_and_an_overwrite_shortens_it() {
    let mut table = Table::default();
    table.apply(&append(0, (1..=5).map(|i| entry(i, 1)).collect()));
    table.apply(&append(5, vec_of(6, 1)));
    table.apply(&append(3, vec_of(4, 2)));
    assert_eq!(ids(&table), [(1, 1), (2, 1), (3, 1), (4, 2)]);
    assert!(table.sparse.is_empty(), "the fast path was left");
    assert_eq!(table.cut(), Some(Index(1)));
    assert_eq!(table.bytes(), 4 * (3 + ENTRY_OVERHEAD));
}

#[test]
fn an_append_after_a_gap_starts_a_new_queue_and_keeps_what_lies_below() {
    let mut table = Table::default();
    table.apply(&append(0, vec_of(1, 1)));
    table.apply(&append(9, vec_of(10, 3)));
    table.apply(&append(10, vec_of(11, 3)));
    assert_eq!(ids(&table), [(1, 1), (10, 3), (11, 3)]);
    assert_eq!(table.dense.len(), 2);
    assert_eq!(table.last(), Some(EntryId::new(Term(3), Index(11))));
}

#[test]
fn a_fill_replaces_one_entry_and_cuts_nothing() {
    let mut table = Table::default();
    table.apply(&append(2, (3..=6).map(|i| entry(i, 1)).collect()));
    table.apply(&LogOp::Fill { entries: [1, 4, 7, 9].map(|i| entry(i, 8)).to_vec() });
    assert_eq!(ids(&table), [(1, 8), (3, 1), (4, 8), (5, 1), (6, 1), (7, 8), (9, 8)]);
    assert_eq!(table.cut(), Some(Index(3)));
    table.apply(&LogOp::Fill { entries: Vec::from([entry(8, 8)]) });
    table.apply(&LogOp::Fill { entries: Vec::from([entry(9, 9)]) });
    assert_eq!(table.dense.len() + table.sparse.len(), 8, "an index is held twice");
    assert_eq!(table.bytes(), 8 * (3 + ENTRY_OVERHEAD));
    assert_eq!(table.get(Index(9)), Some(&entry(9, 9)));
}

#[test]
fn an_append_that_lost_its_first_entries_still_cuts_behind_prev() {
    let mut table = Table::default();
    table.apply(&append(0, (1..=9).map(|i| entry(i, 1)).collect()));
    table.apply(&append(4, Vec::from([entry(7, 2), entry(9, 2)])));
    assert_eq!(ids(&table), [(1, 1), (2, 1), (3, 1), (4, 1), (7, 2), (9, 2)]);
    table.apply(&append(2, Vec::new()));
    assert_eq!(ids(&table), [(1, 1), (2, 1)]);
}

fn vec_of(index: u64, term: u64) -> Vec<Entry> {
    Vec::from([entry(index, term)])
}
