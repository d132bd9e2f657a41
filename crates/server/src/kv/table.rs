//! The keys and values of one group in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::glob;

/// A position takes so many bits of a cursor; the group's number stands above it.
const POSITION_BITS: u32 = 48;
const SHARD_BITS: u32 = 8;
const SHARDS: usize = 1 << SHARD_BITS;

/// Cursors of SCAN: where to go on, over all groups. 0 is the start and the end.
///
/// Keys stand in the order of a 48-bit hash. A cursor is the number of the group (from 0) and the
/// first position not yet given, so a scan needs no memory between its calls and gives every key
/// that exists from its start to its end.
pub mod cursor {
    use refloat_types::GroupId;

    use super::POSITION_BITS;

    /// The start of a group.
    pub fn start_of(group: GroupId) -> u64 {
        group.0.saturating_sub(1) << POSITION_BITS
    }

    /// The group that a cursor stands in.
    pub fn group(cursor: u64) -> GroupId {
        GroupId((cursor >> POSITION_BITS) + 1)
    }

    pub(super) fn position(cursor: u64) -> u64 {
        cursor & ((1 << POSITION_BITS) - 1)
    }
}

/// A value and its deadline in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    pub value: Bytes,
    pub deadline: Option<u64>,
}

/// Where a key stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    position: u64,
    key: Bytes,
}

type Shard = BTreeMap<Place, Cell>;

/// Keys in the order of their positions, in shards that a picture of the state shares with the
/// table until one of both changes.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// All of them, or none as long as there never was a key: of many groups most may be empty.
    shards: Vec<Arc<Shard>>,
    deadlines: BTreeSet<(u64, Bytes)>,
    len: usize,
}

impl Table {
    /// How many keys it holds, those whose deadline has passed and is not swept included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The cell of a key, whatever its deadline.
    pub fn get(&self, key: &Bytes) -> Option<&Cell> {
        let place = Place::of(key);
        self.shards.get(place.shard())?.get(&place)
    }

    /// Sets a cell. Key and value are copied, so that they do not keep an entry's memory.
    pub fn put(&mut self, key: &Bytes, value: &[u8], deadline: Option<u64>) {
        let cell = Cell { value: Bytes::copy_from_slice(value), deadline };
        let mut place = Place::of(key);
        if self.shards.is_empty() {
            self.shards = vec![Arc::default(); SHARDS];
        }
        let shard = Arc::make_mut(&mut self.shards[place.shard()]);
        let earlier = match shard.get_mut(&place) {
            Some(cell_there) => Some(std::mem::replace(cell_there, cell)),
            None => {
                place.key = Bytes::copy_from_slice(key);
                shard.insert(place, cell)
            }
        };
        match earlier {
            Some(earlier) => self.forget_deadline(key, earlier.deadline),
            None => self.len += 1,
        }
        if let Some(at) = deadline {
            self.deadlines.insert((at, Bytes::copy_from_slice(key)));
        }
    }

    /// Changes a deadline.
    pub fn set_deadline(&mut self, key: &Bytes, deadline: Option<u64>) {
        let place = Place::of(key);
        let Some(slot) = self.shards.get_mut(place.shard()) else { return };
        let Some(cell) = Arc::make_mut(slot).get_mut(&place) else { return };
        let earlier = std::mem::replace(&mut cell.deadline, deadline);
        self.forget_deadline(key, earlier);
        if let Some(at) = deadline {
            self.deadlines.insert((at, Bytes::copy_from_slice(key)));
        }
    }

    /// Takes a cell away.
    pub fn remove(&mut self, key: &Bytes) -> Option<Cell> {
        let place = Place::of(key);
        let slot = self.shards.get_mut(place.shard())?;
        if !slot.contains_key(&place) {
            return None;
        }
        let cell = Arc::make_mut(slot).remove(&place)?;
        self.len -= 1;
        self.forget_deadline(key, cell.deadline);
        Some(cell)
    }

    /// The next deadline.
    pub fn next_deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// A key whose deadline lies at or before a moment: the one that is longest over.
    pub fn overdue(&self, now_ms: u64) -> Option<Bytes> {
        self.deadlines.first().filter(|(at, _)| *at <= now_ms).map(|(_, key)| key.clone())
    }

    /// About `count` keys from a cursor on that have a value at a moment, and the cursor behind
    /// them. Looks at no more than `count` keys plus those that share the last one's position.
    pub fn scan(
        &self,
        from: u64,
        count: usize,
        pattern: Option<&[u8]>,
        now_ms: u64,
    ) -> (Option<u64>, Vec<Bytes>) {
        let start = Place { position: cursor::position(from), key: Bytes::new() };
        let first_shard = start.shard();
        let mut keys = Vec::new();
        let mut seen = 0;
        let mut last = None;
        for shard in self.shards.iter().skip(first_shard) {
            for (place, cell) in shard.range(start.clone()..) {
                if seen >= count && last != Some(place.position) {
                    return (Some(place.position), keys);
                }
                seen += 1;
                last = Some(place.position);
                let matches = pattern.is_none_or(|pattern| glob::matches(pattern, &place.key));
                if matches && !is_over(cell, now_ms) {
                    keys.push(place.key.clone());
                }
            }
        }
        (None, keys)
    }

    /// All cells, in order; draws from the state as it is now, however it goes on.
    pub fn picture(&self) -> impl Iterator<Item = (Bytes, Cell)> + Send + use<> {
        self.shards.clone().into_iter().flat_map(|shard| {
            let cells: Vec<_> =
                shard.iter().map(|(place, cell)| (place.key.clone(), cell.clone())).collect();
            cells
        })
    }

    fn forget_deadline(&mut self, key: &Bytes, deadline: Option<u64>) {
        if let Some(at) = deadline {
            self.deadlines.remove(&(at, key.clone()));
        }
    }
}

/// Whether a cell's deadline has passed.
pub fn is_over(cell: &Cell, now_ms: u64) -> bool {
    cell.deadline.is_some_and(|at| at <= now_ms)
}

impl Place {
    fn of(key: &Bytes) -> Place {
        Place { position: hash(key) >> (64 - POSITION_BITS), key: key.clone() }
    }

    fn shard(&self) -> usize {
        (self.position >> (POSITION_BITS - SHARD_BITS)) as usize
    }
}

/// FNV-1a with the finisher of MurmurHash3: the same on every machine and in every version,
/// since cursors in clients' hands depend on it.
fn hash(key: &[u8]) -> u64 {
    let mut hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> Bytes {
        format!("key:{n}").into()
    }

    #[test]
    fn a_scan_gives_every_key_that_stays_while_others_come_and_go() {
        let mut table = Table::default();
        (0..500).for_each(|n| table.put(&key(n), b"v", None));
        let (mut found, mut from, mut turn) = (BTreeSet::new(), 0, 500);
        loop {
            let (next, keys) = table.scan(from, 7, None, 0);
            found.extend(keys);
            table.put(&key(turn), b"v", None);
            table.remove(&key(turn - 3));
            turn += 1;
            let Some(next) = next else { break };
            assert!(next > from, "the cursor moves on");
            from = next;
        }
        assert!((0..497).all(|n| found.contains(&key(n))));
    }

    #[test]
    fn a_picture_does_not_change_with_the_table() {
        let mut table = Table::default();
        (0..100).for_each(|n| table.put(&key(n), b"old", Some(9)));
        let picture = table.picture();
        (0..100).for_each(|n| table.put(&key(n), b"new", None));
        table.remove(&key(0));
        let cells: Vec<_> = picture.collect();
        assert_eq!(cells.len(), 100);
        assert!(cells.iter().all(|(_, cell)| cell.value == "old" && cell.deadline == Some(9)));
        assert_eq!(table.len(), 99);
    }

    #[test]
    fn counts_and_deadlines_follow_every_change() {
        let mut table = Table::default();
        table.put(&key(1), b"abc", Some(5));
        table.put(&key(1), b"a", Some(7));
        assert_eq!(table.len(), 1);
        assert_eq!(table.overdue(6), None);
        assert_eq!(table.overdue(7), Some(key(1)));
        table.set_deadline(&key(1), None);
        assert_eq!(table.overdue(u64::MAX), None);
        assert_eq!(table.remove(&key(1)).unwrap().value, "a");
        assert_eq!(table.len(), 0);
        assert_eq!(table.remove(&key(1)), None);
    }
}
