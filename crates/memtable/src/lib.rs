//! The in-memory tail of each Raft group's log: append, overwrite, sparse insert, frozen generations.
