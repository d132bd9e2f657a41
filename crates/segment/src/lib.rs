//! Sealed, sorted files of flushed Raft log entries, many groups in one file.
