//! Many Raft groups on one node: threads, timers, apply, client API, admission and recovery.
