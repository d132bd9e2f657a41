//! The Raft state machine of one group: pure, deterministic, no I/O.
