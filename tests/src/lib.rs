//! Helpers for scenarios that cross crates.
