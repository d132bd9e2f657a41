//! The words that cross refloat's crates.
//!
//! This crate owns the vocabulary (groups, nodes, lives, terms, indexes, entries, the writes
//! that a group makes in one turn, index sets, membership) and its arithmetic.
//! It knows no files, no sockets, no clocks and none of Raft's rules.
//!
//! # Should I use this crate?
//!
//! Only together with another refloat crate: every one of them speaks these words, none wraps them.
//!
//! # What is promised
//!
//! * [`Entry::digest`] is computed once, by [`Entry::new`], and is carried on the wire and on disk
//!   as it is. Nothing in refloat recomputes a digest in order to store it; it is only compared.
//! * [`codec::Reader`] never panics and never allocates more than the bytes it was given.
//!
//! ```
//! use refloat_types::{Entry, EntryId, EntryKind, Index, Term};
//!
//! let entry = Entry::new(EntryId::new(Term(2), Index(7)), EntryKind::Command, "set x 1".into());
//! assert!(entry.is_intact());
//! assert!(entry.id > EntryId::new(Term(1), Index(9)), "a later term wins over a longer log");
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod codec;
mod entry;
mod ids;
mod index_set;
mod membership;
mod write;

pub use entry::{Digest, Entry, EntryKind};
pub use ids::{
    ClusterId, EntryId, Epoch, Generation, GroupId, GroupKey, Identity, Incarnation, Index, Member,
    NodeId, Now, Term,
};
pub use index_set::IndexSet;
pub use membership::ConfState;
pub use write::{GroupWrite, HardState, LogOp};
