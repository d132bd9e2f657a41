//! One generation, all groups.

use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::HashMap;
use refloat_types::{Generation, GroupKey, LogOp};

use crate::Table;

/// What a group is counted with besides its entries, in bytes: its table and its slot.
pub const GROUP_OVERHEAD: u64 = 2 * size_of::<(GroupKey, Table)>() as u64;

/// What one generation holds for all groups. Frozen ones never change.
#[derive(Clone, Debug)]
pub struct Memtable {
    generation: Generation,
    tables: HashMap<GroupKey, Table>,
    bytes: u64,
}

impl Memtable {
    pub(crate) fn new(generation: Generation) -> Memtable {
        Memtable { generation, tables: HashMap::new(), bytes: 0 }
    }

    /// One memtable that reads like several of consecutive generations, given oldest first.
    /// It bears the newest one's generation. `None` if none is given.
    #[must_use]
    pub fn merged(oldest_first: &[Arc<Memtable>]) -> Option<Memtable> {
        let mut merged = Memtable::new(oldest_first.last()?.generation);
        for newer in oldest_first {
            for (group, table) in newer.groups() {
                merged.change(group, |held| held.overlay(table));
            }
        }
        Some(merged)
    }

    /// Its generation.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// All groups with their tables, sorted by group.
    pub fn groups(&self) -> impl Iterator<Item = (GroupKey, &Table)> {
        let mut sorted: Vec<_> = self.tables.iter().map(|(group, table)| (*group, table)).collect();
        sorted.sort_unstable_by_key(|(group, _)| *group);
        sorted.into_iter()
    }

    /// What it holds for one group.
    #[must_use]
    pub fn table(&self, group: GroupKey) -> Option<&Table> {
        self.tables.get(&group)
    }

    /// The tables' bytes plus [`GROUP_OVERHEAD`] per group.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it holds nothing, not even a cut.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    pub(crate) fn apply(&mut self, group: GroupKey, op: &LogOp) {
        self.change(group, |table| table.apply(op));
    }

    pub(crate) fn remove(&mut self, group: GroupKey) {
        if let Some(table) = self.tables.remove(&group) {
            self.bytes -= table.bytes() + GROUP_OVERHEAD;
        }
    }

    fn change(&mut self, group: GroupKey, change: impl FnOnce(&mut Table)) {
        let table = self.tables.entry(group).or_insert_with(|| {
            self.bytes += GROUP_OVERHEAD;
            Table::default()
        });
        let before = table.bytes();
        change(table);
        self.bytes = self.bytes - before + table.bytes();
    }
}
