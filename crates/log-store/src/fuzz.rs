//! The records of small state, fed with bytes that nobody wrote.

use refloat_fuzz::{Target, note, run};

use crate::small_state::Change;

/// A record is read back as it was written.
fn small_state(bytes: &[u8]) {
    match Change::decode(bytes) {
        Ok(change) => assert_eq!(Change::decode(&change.encode()), Ok(change)),
        Err(error) => note(error),
    }
}

#[test]
fn fuzz_small_state() {
    let hex = |line: &str| {
        let byte = |at| u8::from_str_radix(&line[at..at + 2], 16).expect("hexadecimal");
        (0..line.len()).step_by(2).map(byte).collect()
    };
    let golden = include_str!("../tests/golden/small_state_v1.hex");
    let seeds = golden.lines().filter(|line| !line.is_empty()).map(hex).collect();
    run(&Target::new("small-state", small_state, seeds));
}
