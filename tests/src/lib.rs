//! Helpers for scenarios that cross crates.
#![forbid(unsafe_code)]
