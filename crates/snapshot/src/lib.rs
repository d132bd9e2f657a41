//! Snapshot files of Raft groups: write, verify, publish, receive with resume, live indexes inside.
