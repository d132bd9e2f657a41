//! The replicated state: keys and values of one group, and the commands that change them.
//!
//! Everything here is deterministic: time comes in with each entry, stamped by the leader that
//! took it in, and a deadline passes when an entry says that it is over, not when a clock does.

mod answer;
mod deadlines;
mod glob;
mod machine;
mod op;
mod picture;
mod slot;
mod table;

pub use answer::{Answer, Answers, Fault};
pub use deadlines::Deadlines;
pub use glob::matches;
pub use machine::{Kv, question};
pub use op::{Condition, Expiry, Op, Ops};
pub use slot::{SLOTS, group_of_slot, slot_of_key};
pub use table::cursor;
