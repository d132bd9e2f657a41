//! What is written, such that it can be computed again when it is read back.

use std::io::Write;

/// The key of a connection's n-th write.
pub fn key(connection: u32, n: u32) -> String {
    format!("demo:{connection}:{n}")
}

/// The counter of a connection.
pub fn counter(connection: u32) -> String {
    format!("demo:count:{connection}")
}

/// The value of a connection's n-th write: mostly about a hundred bytes, now and then several
/// blocks, so that batches of every shape reach the log.
pub fn value(seed: u64, connection: u32, n: u32) -> Vec<u8> {
    let noise = mix(seed ^ (u64::from(connection) << 32 | u64::from(n)));
    let len = match noise % 100 {
        0 => 2_000 + noise as usize / 100 % 10_000,
        _ => 40 + noise as usize / 100 % 120,
    };
    let mut value = Vec::with_capacity(len + 16);
    let _ = write!(value, "{connection}:{n}:");
    let mut state = noise;
    while value.len() < len {
        state = mix(state);
        value.extend_from_slice(&state.to_le_bytes());
    }
    value
}

/// SplitMix64.
pub fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
