//! The durable logs of all Raft groups of one node: WAL, memtables, segments and snapshots under one recovery.
