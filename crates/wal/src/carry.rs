//! What the log records of one file say, as long as that is little.
//!
//! A file that holds little can be replaced: the next one says it again in its first batch, and
//! the file may be used anew although files before it are still needed. That is how a node goes on
//! starting, and its votes go on, while a full disk lets nothing be flushed.

use crate::format::directory;
use crate::{Record, RecordRef};

/// Bytes of records that are taken into a file although it may have to be replaced.
const LIGHT: usize = 256 << 10;

/// The log records of one file; heavy, and empty, once they are too many to be said again.
#[derive(Debug, Default)]
pub(crate) struct Carry {
    records: Vec<Record>,
    bytes: usize,
    /// Bytes with which the file was begun.
    begun: usize,
    light: usize,
    most: usize,
    heavy: bool,
}

impl Carry {
    /// For what is found in a file of so many bytes: half of it may be said again.
    pub(crate) fn of_found(file_len: u64) -> Carry {
        let most = usize::try_from(file_len / 2).unwrap_or(usize::MAX);
        Carry { most, ..Carry::default() }
    }

    /// For a file that is begun with these records.
    pub(crate) fn begun_with(file_len: u64, records: &[Record]) -> Carry {
        let mut carry = Carry::of_found(file_len);
        records.iter().for_each(|record| carry.push(record.as_ref()));
        carry.light = usize::try_from(file_len / 16).unwrap_or(LIGHT).min(LIGHT);
        carry.begun = carry.bytes;
        carry
    }

    /// There are files enough: what came since the file was begun stays in memory no longer than
    /// it is a little. Where files are scarce only a little comes of what is large, and all is
    /// kept that the next start would say again.
    pub(crate) fn keep_only_a_little(&mut self) {
        if self.bytes > self.begun + self.light {
            self.weigh_down();
        }
    }

    /// The records, unless they are too many.
    pub(crate) fn records(&self) -> Option<&[Record]> {
        (!self.heavy).then_some(&self.records[..])
    }

    /// Whether it would be little with these.
    pub(crate) fn stays_light(&self, records: &[RecordRef<'_>]) -> bool {
        let more = |sum: usize, record: &RecordRef<'_>| sum.saturating_add(size(*record));
        self.stays_light_with(records.iter().fold(0, more))
    }

    /// Whether it would be little with so many more bytes.
    pub(crate) fn stays_light_with(&self, bytes: usize) -> bool {
        !self.heavy && self.bytes.saturating_add(bytes) <= self.light
    }

    /// Whether all can be said again together with these, which are written again in any case.
    pub(crate) fn fits_with(&self, unproven: &[Record]) -> bool {
        let more = |sum: usize, record: &Record| sum.saturating_add(size(record.as_ref()));
        !self.heavy && unproven.iter().fold(self.bytes, more) <= self.most
    }

    /// Takes a record in. Small state is left out: a checkpoint restates it.
    pub(crate) fn push(&mut self, record: RecordRef<'_>) {
        let RecordRef::Log { group, op } = record else { return };
        if self.heavy {
            return;
        }
        self.bytes = self.bytes.saturating_add(size(record));
        if self.bytes > self.most {
            return self.weigh_down();
        }
        self.records.push(Record::Log { group, op: op.clone() });
    }

    /// The file cannot be said again.
    pub(crate) fn weigh_down(&mut self) {
        self.heavy = true;
        self.records = Vec::new();
    }
}

/// Bytes in a batch, about; a malformed record is too large for anything.
fn size(record: RecordRef<'_>) -> usize {
    match record {
        RecordRef::State { .. } => 0,
        log => directory::measure(log).map_or(usize::MAX, |size| size.directory + size.payload),
    }
}
