//! The index: per group one block that says which entries are here and where.

use std::ops::Range;

use refloat_types::codec::{DecodeError, Put, Reader};
use refloat_types::{Entry, EntryId, EntryKind, GroupKey, Index, Term};

use crate::format::DATA_START;
use crate::frame::{Fault, HEAD_LEN};
use crate::{GroupMeta, TermRun};

/// A stretch between two samples is at most this many entries,
const STRIDE_ENTRIES: u64 = 32;
/// and ends with the entry that makes it reach this many bytes.
const STRIDE_BYTES: u64 = 16 << 10;
/// The length of a block without runs, samples and configs.
const MIN_BLOCK_LEN: usize = 4 + 16 + 1 + 8 + 8 + 8 + 3 * 4 + 4;

/// Where an entry starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) index: Index,
    pub(crate) offset: u64,
}

/// One group's block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupBlock {
    pub(crate) group: GroupKey,
    pub(crate) cut: Option<Index>,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) runs: Vec<TermRun>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) configs: Vec<Index>,
    /// Entries since the last sample; known while building only.
    unsampled: u64,
}

impl GroupBlock {
    pub(crate) fn new(group: GroupKey, cut: Option<Index>, offset: u64) -> GroupBlock {
        GroupBlock { group, cut, offset, ..GroupBlock::default() }
    }

    pub(crate) fn last(&self) -> Option<Index> {
        self.runs.last().map(|run| run.last)
    }

    /// Takes note of an entry about to be written behind those before.
    pub(crate) fn push(&mut self, entry: &Entry) {
        let EntryId { term, index } = entry.id;
        match self.runs.last_mut() {
            Some(run) if run.term == term && run.last.0.checked_add(1) == Some(index.0) => {
                run.last = index;
            }
            _ => self.runs.push(TermRun { term, first: index, last: index }),
        }
        let offset = self.offset + self.len;
        let far =
            |s: &Sample| self.unsampled >= STRIDE_ENTRIES || offset - s.offset >= STRIDE_BYTES;
        if self.samples.last().is_none_or(far) {
            self.samples.push(Sample { index, offset });
            self.unsampled = 0;
        }
        self.unsampled += 1;
        if entry.kind == EntryKind::Config {
            self.configs.push(index);
        }
        self.len += (HEAD_LEN + entry.payload.len()) as u64;
    }

    pub(crate) fn encode(&self, salt: u32, out: &mut Vec<u8>) {
        let start = out.len();
        let count = |n: usize| u32::try_from(n).expect("fewer than 2^32 entries of one group");
        out.put_u32(0);
        out.put_group(self.group);
        out.put_u8(u8::from(self.cut.is_some()));
        out.put_u64(self.cut.unwrap_or_default().0);
        out.put_u64(self.offset);
        out.put_u64(self.len);
        out.put_u32(count(self.runs.len()));
        for run in &self.runs {
            out.put_u64(run.term.0);
            out.put_u64(run.first.0);
            out.put_u64(run.last.0);
        }
        out.put_u32(count(self.samples.len()));
        for sample in &self.samples {
            out.put_u64(sample.index.0);
            out.put_u64(sample.offset);
        }
        out.put_u32(count(self.configs.len()));
        for index in &self.configs {
            out.put_u64(index.0);
        }
        let len = count(out.len() - start + 4);
        out[start..start + 4].copy_from_slice(&len.to_le_bytes());
        let check = crc32c::crc32c_append(salt, &out[start..]);
        out.put_u32(check);
    }

    /// Reads the block at the start of `bytes`, and says how long it is.
    pub(crate) fn decode(bytes: &[u8], salt: u32) -> Result<(GroupBlock, usize), Fault> {
        let remaining = bytes.len() as u64;
        let short =
            |e: DecodeError| Fault::new("index block ends too soon", remaining, e.offset as u64);
        let len = Reader::new(bytes).u32("block length").map_err(short)? as usize;
        if len < MIN_BLOCK_LEN || len > bytes.len() {
            return Err(Fault::new("index block length", remaining, len as u64));
        }
        let mut r = Reader::new(bytes);
        let checked = r.bytes(len - 4, "block").map_err(short)?;
        let stored = r.u32("block checksum").map_err(short)?;
        let computed = crc32c::crc32c_append(salt, checked);
        if stored != computed {
            return Err(Fault::new("index checksum mismatch", computed.into(), stored.into()));
        }
        let mut fields = Reader::new(checked);
        let malformed = |e: DecodeError| Fault::new(e.field, 0, e.offset as u64);
        let block = GroupBlock::decode_fields(&mut fields).map_err(malformed)?;
        if fields.remaining() != 0 {
            return Err(Fault::new("index block length", fields.offset() as u64, len as u64));
        }
        match block.contradiction() {
            Some(what) => Err(Fault::new(what, 0, block.group.id.0)),
            None => Ok((block, len)),
        }
    }

    fn decode_fields(r: &mut Reader<'_>) -> Result<GroupBlock, DecodeError> {
        r.u32("block length")?;
        let group = r.group("group")?;
        let cut = match (r.u8("cut flag")?, r.u64("cut")?) {
            (0, _) => None,
            (1, cut) => Some(Index(cut)),
            _ => return Err(r.invalid("cut flag")),
        };
        let mut block = GroupBlock::new(group, cut, r.u64("offset")?);
        block.len = r.u64("length")?;
        for _ in 0..r.count(24, "runs")? {
            let (term, first) = (Term(r.u64("run term")?), Index(r.u64("run first")?));
            block.runs.push(TermRun { term, first, last: Index(r.u64("run last")?) });
        }
        for _ in 0..r.count(16, "samples")? {
            let index = Index(r.u64("sample index")?);
            block.samples.push(Sample { index, offset: r.u64("sample offset")? });
        }
        for _ in 0..r.count(8, "configs")? {
            block.configs.push(Index(r.u64("config index")?));
        }
        Ok(block)
    }

    /// What this block says that cannot be. After this, nothing about it overflows.
    fn contradiction(&self) -> Option<&'static str> {
        let ascending = self.runs.iter().all(|r| r.first <= r.last)
            && self.runs.windows(2).all(|r| r[0].last < r[1].first);
        if !ascending {
            return Some("runs out of order");
        }
        let has = |index: Index| term_in(&self.runs, index).is_some();
        let end = self.offset.checked_add(self.len);
        let samples_rise =
            self.samples.windows(2).all(|s| s[0].index < s[1].index && s[0].offset < s[1].offset);
        let starts = self.samples.first().map(|s| (s.index, s.offset))
            == self.runs.first().map(|r| (r.first, self.offset));
        let inside = self.samples.iter().all(|s| has(s.index) && end.is_some_and(|e| s.offset < e));
        if !samples_rise || !starts || !inside {
            return Some("samples out of order");
        }
        let configs_rise = self.configs.windows(2).all(|c| c[0] < c[1]);
        if !configs_rise || !self.configs.iter().all(|c| has(*c)) {
            return Some("configs out of order");
        }
        let heads = count_in(&self.runs).and_then(|n| n.checked_mul(HEAD_LEN as u64));
        (heads.is_none_or(|heads| heads > self.len) || end.is_none()).then_some("length too small")
    }
}

pub(crate) fn term_in(runs: &[TermRun], index: Index) -> Option<Term> {
    let run = runs.get(runs.partition_point(|run| run.last < index))?;
    (run.first <= index).then_some(run.term)
}

fn count_in(runs: &[TermRun]) -> Option<u64> {
    runs.iter().try_fold(0u64, |n, run| n.checked_add(run.last.0 - run.first.0)?.checked_add(1))
}

/// One group in [`IndexTable`]: ranges into the shared lists.
#[derive(Clone, Debug)]
struct Row {
    group: GroupKey,
    cut: Option<Index>,
    offset: u64,
    len: u64,
    count: u64,
    runs: Range<u32>,
    samples: Range<u32>,
    configs: Range<u32>,
}

/// The whole index in memory: shared lists, because there are many small groups.
#[derive(Clone, Debug, Default)]
pub(crate) struct IndexTable {
    rows: Vec<Row>,
    runs: Vec<TermRun>,
    samples: Vec<Sample>,
    configs: Vec<Index>,
    entries: u64,
}

impl IndexTable {
    /// Adds a decoded block; it must follow those before, in groups and in bytes.
    pub(crate) fn push(&mut self, block: GroupBlock) -> Result<(), Fault> {
        if self.rows.last().is_some_and(|row| row.group >= block.group) {
            return Err(Fault::new("groups out of order", 0, block.group.id.0));
        }
        if block.offset != self.data_end() {
            return Err(Fault::new("group offset", self.data_end(), block.offset));
        }
        let too_many = Fault::new("index too large", u32::MAX.into(), self.runs.len() as u64);
        let count = count_in(&block.runs).ok_or(too_many)?;
        self.entries = self.entries.checked_add(count).ok_or(too_many)?;
        self.rows.push(Row {
            group: block.group,
            cut: block.cut,
            offset: block.offset,
            len: block.len,
            count,
            runs: extend(&mut self.runs, block.runs).ok_or(too_many)?,
            samples: extend(&mut self.samples, block.samples).ok_or(too_many)?,
            configs: extend(&mut self.configs, block.configs).ok_or(too_many)?,
        });
        Ok(())
    }

    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }

    /// Where the last group's entries end.
    pub(crate) fn data_end(&self) -> u64 {
        self.rows.last().map_or(DATA_START, |row| row.offset + row.len)
    }

    pub(crate) fn groups(&self) -> impl ExactSizeIterator<Item = GroupMeta<'_>> {
        self.rows.iter().map(|row| self.meta(row))
    }

    pub(crate) fn group(&self, group: GroupKey) -> Option<GroupMeta<'_>> {
        self.row(group).map(|row| self.meta(row))
    }

    /// The stretches of the file that hold a group's entries from `first` to `last`.
    pub(crate) fn strides(
        &self,
        group: GroupKey,
        first: Index,
        last: Index,
    ) -> impl Iterator<Item = Stride<'_>> {
        self.row(group).into_iter().flat_map(move |row| {
            let samples = slice(&self.samples, &row.samples);
            let from = samples.partition_point(|s| s.index <= first).saturating_sub(1);
            let to = samples.partition_point(|s| s.index <= last);
            (from..to).map(move |at| self.stride(row, at))
        })
    }

    /// The stretches of all groups from the one on that has the byte at this offset of the file.
    pub(crate) fn strides_from(&self, offset: u64) -> impl Iterator<Item = (GroupKey, Stride<'_>)> {
        let from = self.rows.partition_point(|row| row.offset + row.len <= offset);
        self.rows.get(from..).unwrap_or_default().iter().flat_map(move |row| {
            let samples = slice(&self.samples, &row.samples);
            let from = samples.partition_point(|s| s.offset <= offset).saturating_sub(1);
            (from..samples.len()).map(move |at| (row.group, self.stride(row, at)))
        })
    }

    fn stride(&self, row: &Row, at: usize) -> Stride<'_> {
        let samples = slice(&self.samples, &row.samples);
        let next = samples.get(at + 1);
        Stride {
            runs: slice(&self.runs, &row.runs),
            first: samples[at].index,
            end: next.map(|s| s.index),
            offset: samples[at].offset,
            offset_end: next.map_or(row.offset + row.len, |s| s.offset),
        }
    }

    fn row(&self, group: GroupKey) -> Option<&Row> {
        let at = self.rows.binary_search_by_key(&group, |row| row.group).ok()?;
        self.rows.get(at)
    }

    fn meta(&self, row: &Row) -> GroupMeta<'_> {
        GroupMeta {
            group: row.group,
            cut: row.cut,
            count: row.count,
            bytes: row.len - row.count * HEAD_LEN as u64,
            terms: slice(&self.runs, &row.runs),
            configs: slice(&self.configs, &row.configs),
        }
    }
}

fn slice<'a, T>(all: &'a [T], range: &Range<u32>) -> &'a [T] {
    &all[range.start as usize..range.end as usize]
}

fn extend<T>(all: &mut Vec<T>, more: Vec<T>) -> Option<Range<u32>> {
    let start = u32::try_from(all.len()).ok()?;
    all.extend(more);
    Some(start..u32::try_from(all.len()).ok()?)
}

/// A stretch of one group's entries from one sample to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stride<'a> {
    runs: &'a [TermRun],
    first: Index,
    /// The next stretch's first index; `None` for the last one.
    end: Option<Index>,
    pub(crate) offset: u64,
    pub(crate) offset_end: u64,
}

impl Stride<'_> {
    pub(crate) fn len(&self) -> u64 {
        self.offset_end - self.offset
    }

    /// Every entry in it, ascending. The index vouches for them.
    pub(crate) fn ids(&self) -> impl Iterator<Item = EntryId> {
        let from = self.runs.partition_point(|run| run.last < self.first);
        let runs = self.runs.get(from..).unwrap_or_default();
        let (first, end) = (self.first, self.end);
        runs.iter()
            .flat_map(move |run| {
                let start = run.first.max(first).0;
                (start..=run.last.0).map(|index| EntryId::new(run.term, Index(index)))
            })
            .take_while(move |id| end.is_none_or(|end| id.index < end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> GroupBlock {
        let mut block = GroupBlock::new(GroupKey::META, Some(Index(3)), DATA_START);
        for (index, term) in [(3, 1), (4, 1), (5, 2), (9, 2)] {
            let kind = if index == 5 { EntryKind::Config } else { EntryKind::Command };
            let id = EntryId::new(Term(term), Index(index));
            block.push(&Entry::new(id, kind, vec![0; 9000].into()));
        }
        block.unsampled = 0;
        block
    }

    #[test]
    fn a_block_is_read_as_written_and_no_flipped_bit_passes() {
        let mut bytes = Vec::new();
        block().encode(5, &mut bytes);
        assert_eq!(GroupBlock::decode(&bytes, 5), Ok((block(), bytes.len())));
        assert!(GroupBlock::decode(&bytes, 6).is_err(), "another segment's block was accepted");
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(GroupBlock::decode(&bad, 5).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(GroupBlock::decode(&bytes[..len], 5).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn a_block_that_contradicts_itself_is_refused_though_its_checksum_holds() {
        let refuse = |change: fn(&mut GroupBlock)| {
            let mut bad = block();
            change(&mut bad);
            let mut bytes = Vec::new();
            bad.encode(5, &mut bytes);
            assert!(GroupBlock::decode(&bytes, 5).is_err(), "{bad:?}");
        };
        refuse(|b| b.runs.reverse());
        refuse(|b| b.runs[0].first = Index(8));
        refuse(|b| b.samples.reverse());
        refuse(|b| b.samples[1].index = Index(7));
        refuse(|b| b.samples[1].offset = u64::MAX);
        refuse(|b| b.samples.clear());
        refuse(|b| b.configs = vec![Index(6)]);
        refuse(|b| b.len = 60);
        refuse(|b| b.len = u64::MAX);
        refuse(|b| b.runs[2].last = Index(u64::MAX));
    }

    #[test]
    fn strides_cover_every_entry_once() {
        let mut table = IndexTable::default();
        table.push(block()).unwrap();
        assert!(table.push(block()).is_err(), "the same group twice");
        let ids = |first, last| -> Vec<u64> {
            let strides = table.strides(GroupKey::META, Index(first), Index(last));
            strides.flat_map(|s| s.ids().map(|id| id.index.0).collect::<Vec<_>>()).collect()
        };
        assert_eq!(ids(0, u64::MAX), [3, 4, 5, 9]);
        assert_eq!(ids(4, 4), [3, 4]);
        assert_eq!(ids(6, 8), [5, 9]);
        assert_eq!(ids(0, 2), []);
    }

    proptest::proptest! {
        /// A block whose checksum holds, whatever it says: the decoder stays calm, and what it
        /// accepts can be walked over.
        #[test]
        fn any_block_with_a_good_checksum_is_decoded_without_a_panic(
            numbers in proptest::collection::vec(0..9u64, 0..30),
            counts in (0..4u32, 0..4u32, 0..3u32),
            huge in proptest::option::of((0..30usize, proptest::num::u64::ANY)),
        ) {
            let at = |n: usize| match huge {
                Some((place, value)) if place == n => value,
                _ => numbers.get(n).copied().unwrap_or(n as u64),
            };
            let (mut bytes, mut n) = (Vec::new(), 4);
            bytes.put_u32(0);
            (0..2).for_each(|n| bytes.put_u64(at(n)));
            bytes.put_u8((at(2) % 3) as u8);
            bytes.put_u64(at(3));
            bytes.put_u64(DATA_START);
            bytes.put_u64(at(4).wrapping_mul(40));
            for (count, words) in [(counts.0, 3), (counts.1, 2), (counts.2, 1)] {
                bytes.put_u32(if at(29) > 1 << 60 { u32::MAX } else { count });
                for _ in 0..count * words {
                    n += 1;
                    bytes.put_u64(at(n));
                }
            }
            let len = bytes.len() as u32 + 4;
            bytes[..4].copy_from_slice(&len.to_le_bytes());
            let check = crc32c::crc32c_append(5, &bytes);
            bytes.put_u32(check);
            if let Ok((block, _)) = GroupBlock::decode(&bytes, 5) {
                let mut table = IndexTable::default();
                let group = block.group;
                table.push(block).unwrap();
                let entries: u64 = table
                    .strides(group, Index(0), Index(u64::MAX))
                    .map(|s| s.ids().take(1000).count() as u64)
                    .sum();
                proptest::prop_assert!(entries >= table.entries().min(1000));
            }
        }
    }
}
