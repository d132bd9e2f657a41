//! The in-memory tail of each Raft group's log.
//!
//! What a node has written to its log and not yet flushed to a segment lives here: one *active*
//! memtable that takes writes, and *frozen* ones, each of a lower generation, waiting to be flushed.
//! A generation is one WAL file, its memtable and its segment: the same thing in three forms.
//!
//! # Should I use this crate?
//!
//! For a log whose tail is held in memory by several writers' files at once, with Raft's
//! overwrites and with single entries put back below the end. It knows no files and no Raft rules,
//! needs only `alloc`, and runs in one thread; frozen memtables are shared behind an `Arc`.
//!
//! # What is promised
//!
//! * **The newest generation wins.** An index supplied by a newer generation is never read from an
//!   older one, also where a [`LogOp::Fill`] put it far below the end.
//! * **A cut reaches down.** From the lowest cut of a generation on, nothing of an older one is read:
//!   [`Lookup::Cut`] says so, and the same holds for segments. A fill never cuts.
//! * Groups come out sorted and entries ascending, whatever the order they went in.
//!
//! # What is assumed
//!
//! * Entries of an append follow `prev`. Where a damaged log lost some of them, the gap stays a gap
//!   and the cut still starts behind `prev`, so that nothing overwritten shines through.
//! * A payload is counted by its length. A payload that pins a larger buffer costs more than is counted.
//!
//! ```
//! use refloat_memtable::{Lookup, Memtables};
//! use refloat_types::*;
//!
//! let entry = |index, term| {
//!     Entry::new(EntryId::new(Term(term), Index(index)), EntryKind::Command, "x".into())
//! };
//! let group = GroupKey::META;
//! let mut tables = Memtables::new(Generation(1));
//! let append = |prev: u64, term, entries: Vec<Entry>| LogOp::Append {
//!     prev: EntryId::new(Term(term), Index(prev)),
//!     entries,
//! };
//! tables.apply(group, &append(0, 0, (1..=9).map(|i| entry(i, 1)).collect()));
//! tables.freeze(Generation(2));
//! tables.apply(group, &append(4, 1, vec![entry(5, 2)])); // a new leader overwrites from 5 on
//!
//! assert!(matches!(tables.lookup(group, Index(4)), Lookup::Entry(e) if e.id.term == Term(1)));
//! assert!(matches!(tables.lookup(group, Index(5)), Lookup::Entry(e) if e.id.term == Term(2)));
//! assert!(matches!(tables.lookup(group, Index(6)), Lookup::Cut));
//! ```
//!
//! # Limits
//!
//! Each frozen generation adds one step to a lookup; the host bounds their number by its memory budget.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod memtable;
mod memtables;
mod table;

#[cfg(doc)]
use refloat_types::LogOp;

pub use memtable::{GROUP_OVERHEAD, Memtable};
pub use memtables::{Lookup, Memtables};
pub use table::{ENTRY_OVERHEAD, Table};
