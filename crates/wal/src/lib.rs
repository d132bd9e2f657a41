//! A shared write-ahead log for many Raft groups that tells torn from rotten.
