//! Feeds decoders with bytes that nobody wrote.
//!
//! A [`Target`] is a plain function over bytes that asserts what it promises, and a few seeds:
//! bytes that are read. [`run`] feeds it the seeds, every beginning of them, and mutations from a
//! fixed seed; it fails if the function panics, or holds more memory than its bound. The function
//! may [`note`] what became of the input: one of which something new is noted is mutated further,
//! so that the loop gets deeper without knowing the code.
//!
//! Checksums would stop most mutations at the door. So a target says how its checksums are made
//! good again ([`Target::seal`]), and half of the inputs are sealed.
//!
//! A target is a test in the crate that owns the decoder, named `fuzz_…`: there its private
//! functions are in reach, and `cargo test` replays a bounded slice. `cargo xtask fuzz` sets the
//! environment for longer runs:
//!
//! | variable | means |
//! |---|---|
//! | `REFLOAT_FUZZ_SECONDS` | mutate for so long instead of a fixed number of times |
//! | `REFLOAT_FUZZ_SEED` | where the mutations begin; 1 if nothing is said |
//! | `REFLOAT_FUZZ_INPUT` | a file with hexadecimal digits: feed just these bytes |
//! | `REFLOAT_FUZZ_LAST` | a file that gets each input before it is fed, for those that abort |
//!
//! The functions take `&[u8]` and nothing else, so that a coverage-guided fuzzer can call them as
//! they are.
#![forbid(unsafe_code)]

mod mutate;
mod rng;
mod run;

pub use run::{Memory, Target, note, run};
