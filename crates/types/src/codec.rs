//! Little-endian reading and writing, shared by every format of refloat.
//!
//! [`Put`] appends to a `Vec<u8>`. [`Reader`] walks over bytes that nobody vouches for:
//! each read names the field, so that an error can say what was expected where.

use alloc::vec::Vec;
use core::fmt;

use crate::{
    EntryId, Epoch, GroupId, GroupKey, HardState, Incarnation, Index, IndexSet, Member, NodeId,
    Term,
};

/// Appends little-endian values.
pub trait Put {
    /// Appends raw bytes.
    fn put_slice(&mut self, bytes: &[u8]);

    /// Appends one byte.
    fn put_u8(&mut self, value: u8) {
        self.put_slice(&[value]);
    }
    /// Appends two bytes.
    fn put_u16(&mut self, value: u16) {
        self.put_slice(&value.to_le_bytes());
    }
    /// Appends four bytes.
    fn put_u32(&mut self, value: u32) {
        self.put_slice(&value.to_le_bytes());
    }
    /// Appends eight bytes.
    fn put_u64(&mut self, value: u64) {
        self.put_slice(&value.to_le_bytes());
    }
    /// Appends sixteen bytes.
    fn put_u128(&mut self, value: u128) {
        self.put_slice(&value.to_le_bytes());
    }
    /// Appends id and epoch, 16 bytes.
    fn put_group(&mut self, group: GroupKey) {
        self.put_u64(group.id.0);
        self.put_u64(group.epoch.0);
    }
    /// Appends node and life, 24 bytes.
    fn put_member(&mut self, member: Member) {
        self.put_u64(member.node.0);
        self.put_u128(member.incarnation.0);
    }
    /// Appends term and index, 16 bytes.
    fn put_entry_id(&mut self, id: EntryId) {
        self.put_u64(id.term.0);
        self.put_u64(id.index.0);
    }
    /// Appends term, a flag and the vote: 33 bytes, zeros where there is no vote.
    fn put_hard_state(&mut self, state: HardState) {
        self.put_u64(state.term.0);
        self.put_u8(u8::from(state.vote.is_some()));
        self.put_member(state.vote.unwrap_or_default());
    }
    /// Appends a `u32` count of ranges and both ends of each.
    fn put_index_set(&mut self, set: &IndexSet) {
        self.put_u32(u32::try_from(set.ranges().len()).expect("fewer than 2^32 ranges"));
        for (first, last) in set.ranges() {
            self.put_u64(first.0);
            self.put_u64(last.0);
        }
    }
}

impl Put for Vec<u8> {
    fn put_slice(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Bytes that do not say what they should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// Which field.
    pub field: &'static str,
    /// How many bytes into what was given to the reader.
    pub offset: usize,
    /// Whether bytes are missing (`true`) or wrong (`false`).
    pub truncated: bool,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.truncated { "bytes end inside" } else { "invalid" };
        write!(f, "{how} {} at byte {}", self.field, self.offset)
    }
}

impl core::error::Error for DecodeError {}

/// A cursor over untrusted bytes. Never panics.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

macro_rules! read_number {
    ($name:ident, $ty:ty, $len:literal) => {
        #[doc = concat!("Reads a little-endian `", stringify!($ty), "`.")]
        ///
        /// # Errors
        /// The bytes end first.
        pub fn $name(&mut self, field: &'static str) -> Result<$ty, DecodeError> {
            let raw = self.bytes($len, field)?;
            let mut array = [0u8; $len];
            array.copy_from_slice(raw);
            Ok(<$ty>::from_le_bytes(array))
        }
    };
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// How far it has read.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// An error that says the field just read holds a value that it cannot have.
    #[must_use]
    pub const fn invalid(&self, field: &'static str) -> DecodeError {
        DecodeError { field, offset: self.at, truncated: false }
    }

    /// Reads `len` bytes.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn bytes(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let short = DecodeError { field, offset: self.at, truncated: true };
        let end = self.at.checked_add(len).ok_or_else(|| short.clone())?;
        let slice = self.bytes.get(self.at..end).ok_or(short)?;
        self.at = end;
        Ok(slice)
    }

    read_number!(u8, u8, 1);
    read_number!(u16, u16, 2);
    read_number!(u32, u32, 4);
    read_number!(u64, u64, 8);
    read_number!(u128, u128, 16);

    /// Reads a `u32` count of items of at least `min_item_len` bytes each, and refuses a count
    /// that the bytes left cannot hold: nothing may allocate by a number that was not checked.
    ///
    /// # Errors
    /// The bytes end first, or cannot hold so many items.
    pub fn count(
        &mut self,
        min_item_len: usize,
        field: &'static str,
    ) -> Result<usize, DecodeError> {
        let count = self.u32(field)? as usize;
        match count.checked_mul(min_item_len) {
            Some(len) if len <= self.remaining() => Ok(count),
            _ => Err(self.invalid(field)),
        }
    }

    /// Reads what [`Put::put_group`] wrote.
    ///
    /// # Errors
    /// The bytes end first.
    pub fn group(&mut self, field: &'static str) -> Result<GroupKey, DecodeError> {
        Ok(GroupKey { id: GroupId(self.u64(field)?), epoch: Epoch(self.u64(field)?) })
    }

    /// Reads what [`Put::put_member`] wrote.
    ///
    /// # Errors
    /// The bytes end first.
    pub fn member(&mut self, field: &'static str) -> Result<Member, DecodeError> {
        let node = NodeId(self.u64(field)?);
        Ok(Member { node, incarnation: Incarnation(self.u128(field)?) })
    }

    /// Reads what [`Put::put_entry_id`] wrote.
    ///
    /// # Errors
    /// The bytes end first.
    pub fn entry_id(&mut self, field: &'static str) -> Result<EntryId, DecodeError> {
        Ok(EntryId { term: Term(self.u64(field)?), index: Index(self.u64(field)?) })
    }

    /// Reads what [`Put::put_hard_state`] wrote.
    ///
    /// # Errors
    /// The bytes end first, or the flag is neither 0 nor 1.
    pub fn hard_state(&mut self, field: &'static str) -> Result<HardState, DecodeError> {
        let term = Term(self.u64(field)?);
        let voted = self.u8(field)?;
        let member = self.member(field)?;
        let vote = match voted {
            0 => None,
            1 => Some(member),
            _ => return Err(self.invalid(field)),
        };
        Ok(HardState { term, vote })
    }

    /// Reads what [`Put::put_index_set`] wrote.
    ///
    /// # Errors
    /// The bytes end first, or the ranges are not ascending.
    pub fn index_set(&mut self, field: &'static str) -> Result<IndexSet, DecodeError> {
        let count = self.count(16, field)?;
        let mut set = IndexSet::new();
        for _ in 0..count {
            let (first, last) = (Index(self.u64(field)?), Index(self.u64(field)?));
            if first > last || set.last().is_some_and(|before| before >= first) {
                return Err(self.invalid(field));
            }
            set.insert_range(first, last);
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::ConfState;

    #[test]
    fn what_is_put_is_read_and_every_shorter_form_is_refused() {
        let vote = Member::new(NodeId(3), Incarnation(9));
        let set: IndexSet = [1, 2, 5].map(Index).into_iter().collect();
        let conf = ConfState::of_voters([vote, Member::new(NodeId(1), Incarnation(4))]);
        let mut out = Vec::new();
        out.put_hard_state(HardState { term: Term(4), vote: Some(vote) });
        out.put_index_set(&set);
        conf.encode(&mut out);

        let read = |bytes: &[u8]| -> Result<(HardState, IndexSet, ConfState), DecodeError> {
            let mut r = Reader::new(bytes);
            Ok((r.hard_state("hard state")?, r.index_set("set")?, ConfState::decode(&mut r)?))
        };
        let back = read(&out).unwrap();
        assert_eq!(back, (HardState { term: Term(4), vote: Some(vote) }, set, conf));
        for len in 0..out.len() {
            assert!(read(&out[..len]).is_err(), "accepted {len} of {} bytes", out.len());
        }
    }

    #[test]
    fn a_membership_that_names_a_member_twice_is_refused() {
        let [a, b] = [2, 3].map(|n| Member::new(NodeId(n), Incarnation(9)));
        for (voters, good) in [(vec![a, b], true), (vec![a, a, b], false), (vec![b, a], false)] {
            let mut out = Vec::new();
            ConfState { voters, ..ConfState::default() }.encode(&mut out);
            assert_eq!(ConfState::decode(&mut Reader::new(&out)).is_ok(), good);
        }
    }

    #[test]
    fn a_huge_count_is_refused_before_anything_is_allocated() {
        let mut out = Vec::new();
        out.put_u32(u32::MAX);
        assert!(Reader::new(&out).count(1, "items").is_err());
    }
}
