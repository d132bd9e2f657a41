//! Identities of bytes that nobody wrote.

use std::path::Path;

use refloat_fuzz::{Memory, Target, note, run};
use refloat_log_store::identity;
use refloat_vfs::{SimFs, Vfs};

const DIR: &str = "/data";

fn disk() -> SimFs {
    let fs = SimFs::new();
    fs.create_dir(Path::new(DIR)).expect("an empty disk");
    fs
}

/// What is read is what the next start reads.
fn identity(bytes: &[u8]) {
    let fs = disk();
    for name in ["identity.a", "identity.b"] {
        fs.put(Path::new(DIR).join(name), bytes).expect("an empty disk");
    }
    let mut read = match identity::load(&fs, Path::new(DIR)) {
        Ok(read) => read,
        Err(error) => return note(error),
    };
    if read.run == u64::MAX {
        return;
    }
    identity::begin_run(&fs, Path::new(DIR), &mut read).expect("a disk without faults");
    assert_eq!(identity::load(&fs, Path::new(DIR)).expect("what was written"), read);
}

/// The last four bytes check all before them.
fn seal(bytes: &mut [u8]) {
    if let Some((body, check)) = bytes.split_last_chunk_mut::<4>() {
        *check = crc32c::crc32c(body).to_le_bytes();
    }
}

#[test]
fn fuzz_identity() {
    let hex = |text: &str| {
        let digits: String = text.split_whitespace().collect();
        let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal");
        (0..digits.len()).step_by(2).map(byte).collect()
    };
    let golden = [
        include_str!("golden/identity_v1.hex"),
        include_str!("golden/identity_v2.hex"),
        include_str!("golden/identity_v3.hex"),
    ];
    let memory = Memory { fixed: 1 << 20, per_byte: 64 };
    let target = Target::new("identity", identity, golden.into_iter().map(hex).collect());
    run(&Target { seal, memory, slower: 3, ..target });
}
