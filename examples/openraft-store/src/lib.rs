//! openraft's log, votes and snapshots on `refloat-log-store`.
//!
//! [`Store`] opens one data directory for any number of Rafts; [`Store::raft`] hands out the
//! [`Log`] and the [`Machine`] that `openraft::Raft::new` wants. All of them share one
//! write-ahead log and its syncs.
//!
//! | openraft | `refloat-log-store` |
//! |---|---|
//! | log id (term, index) | entry id (term, index + 1): openraft counts from 0 |
//! | entry | entry of kind empty, command or config; the payload as JSON |
//! | vote | the opaque value of the log's group, JSON |
//! | committed | the commit hint: a lower bound, never above what is durable |
//! | truncate | cut |
//! | purge | an empty snapshot at the purged entry: the log's new base |
//! | snapshot of the machine | a snapshot of a second group, which has no log |
//!
//! The base of a log is the purged entry and not the machine's snapshot, because openraft goes
//! on reading entries below its snapshot for followers that lag.
//! Snapshots are kept two deep, so the bytes below a base are given back by the purge after it.
mod driver;
mod ids;
mod log;
mod machine;
mod store;

pub use log::Log;
pub use machine::Machine;
pub use store::Store;

openraft::declare_raft_types!(
    /// A map of strings: sets a key, answers with the value before.
    pub TypeConfig:
        D = Set,
        R = Option<String>,
        SnapshotData = std::io::Cursor<Vec<u8>>,
);

/// The one command of the machine.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Set {
    /// Which key.
    pub key: String,
    /// Its new value.
    pub value: String,
}
