//! The loop.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use crate::mutate::mutate;
use crate::rng::Rng;

/// Mutations of a target where no time is given.
const SLICE: u64 = 3_000;
/// The most inputs that are mutated further.
const MAX_CORPUS: usize = 1_000;

/// How much memory a target may hold at a time: so much, and so many bytes for each of its input.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Whatever the input.
    pub fixed: u64,
    /// For each byte of input.
    pub per_byte: u64,
}

/// A decoder of bytes from a disk or a socket, and what is known of them.
pub struct Target<'a> {
    /// Its name in the output.
    pub name: &'a str,
    /// Reads bytes, whatever they are, and asserts what it promises of them.
    pub run: fn(&[u8]),
    /// Makes the checksums of an input good again, where they can be found.
    pub seal: fn(&mut [u8]),
    /// Inputs that can be read.
    pub seeds: Vec<Vec<u8>>,
    /// What it may hold.
    pub memory: Memory,
    /// How many times fewer mutations than others it gets where no time is given: for slow ones.
    pub slower: u64,
}

impl<'a> Target<'a> {
    /// A target whose bytes bear no checksum, which may hold 64 KiB and 64 bytes for each byte.
    #[must_use]
    pub fn new(name: &'a str, run: fn(&[u8]), seeds: Vec<Vec<u8>>) -> Target<'a> {
        let memory = Memory { fixed: 64 << 10, per_byte: 64 };
        Target { name, run, seal: |_| {}, seeds, memory, slower: 1 }
    }
}

thread_local! {
    static NOTES: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
}

/// What became of an input: an error's text, or a kind. Numbers in it do not count, so that each
/// text is one path through the code.
pub fn note(what: impl Display) {
    allocation_counter::opt_out(|| {
        let text = what.to_string().replace(|c: char| c.is_ascii_hexdigit(), "");
        NOTES.with_borrow_mut(|notes| notes.insert(text.chars().take(80).collect()));
    });
}

/// Feeds a target; see [the crate](crate).
///
/// # Panics
/// It panicked or held too much; the input stands on standard error.
pub fn run(target: &Target<'_>) {
    if let Some(path) = std::env::var_os("REFLOAT_FUZZ_INPUT") {
        let text = std::fs::read_to_string(path).expect("the input can be read");
        return feed(target, &from_hex(&text), "the given input");
    }
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("REFLOAT_FUZZ_SEED").unwrap_or(1);
    let limit = number("REFLOAT_FUZZ_SECONDS").map(Duration::from_secs);
    let start = Instant::now();
    let mut corpus = target.seeds.clone();
    let mut inputs = replay(target, &corpus);
    let max_len = 4 * corpus.iter().map(Vec::len).max().unwrap_or(0) + 64;
    let mut rng = Rng::new(seed);
    let mut mutations = 0;
    while match limit {
        Some(limit) => start.elapsed() < limit,
        None => mutations < SLICE / target.slower,
    } {
        mutations += 1;
        let known = NOTES.with_borrow(BTreeSet::len);
        let mut bytes = corpus[rng.below(corpus.len())].clone();
        let other = corpus[rng.below(corpus.len())].clone();
        mutate(&mut bytes, &other, max_len, &mut rng);
        if rng.one_in(2) {
            (target.seal)(&mut bytes);
        }
        feed(target, &bytes, &format!("mutation {mutations} of seed {seed}"));
        if NOTES.with_borrow(BTreeSet::len) > known && corpus.len() < MAX_CORPUS {
            corpus.push(bytes);
        }
    }
    inputs += mutations;
    let notes = NOTES.with_borrow_mut(std::mem::take).len();
    let seconds = start.elapsed().as_secs_f64();
    let name = target.name;
    println!("fuzz: {name}: seed {seed}, {inputs} inputs, {notes} outcomes, {seconds:.1} s");
}

/// The seeds, and beginnings of them.
fn replay(target: &Target<'_>, seeds: &[Vec<u8>]) -> u64 {
    assert!(!seeds.is_empty(), "{} has no seeds", target.name);
    let mut inputs = 0;
    for seed in seeds {
        feed(target, seed, "a seed");
        let step = (seed.len() * target.slower as usize / 256).max(1);
        for end in (0..seed.len()).step_by(step) {
            feed(target, &seed[..end], "the beginning of a seed");
            inputs += 1;
        }
    }
    inputs + seeds.len() as u64
}

fn feed(target: &Target<'_>, bytes: &[u8], which: &str) {
    if let Some(path) = std::env::var_os("REFLOAT_FUZZ_LAST") {
        std::fs::write(path, to_hex(bytes)).expect("the input can be written");
    }
    let mut result = Ok(());
    let used = allocation_counter::measure(|| {
        result = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes)));
    });
    let limit = target.memory.fixed + target.memory.per_byte * bytes.len() as u64;
    if result.is_ok() && used.bytes_max <= limit {
        return;
    }
    eprintln!("fuzz: {}: {which}, {} bytes:\n{}", target.name, bytes.len(), to_hex(bytes));
    if let Err(panic) = result {
        resume_unwind(panic);
    }
    panic!("{} bytes of memory for {} of input, {limit} allowed", used.bytes_max, bytes.len());
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hexadecimal digits, with anything else between the bytes.
fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).filter_map(|d| u8::try_from(d).ok()).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A checksum behind a length that is believed: a panic that few inputs reach.
    fn careless(bytes: &[u8]) {
        let Some(([sum, len], rest)) = bytes.split_first_chunk().map(|(a, b)| (*a, b)) else {
            return note("too short");
        };
        if sum != rest.iter().fold(len, |a, b| a ^ b) {
            return note("checksum");
        }
        note(rest[..usize::from(len)].len());
    }

    fn seal(bytes: &mut [u8]) {
        if let [first, rest @ ..] = bytes {
            *first = rest.iter().fold(0, |a, b| a ^ b);
        }
    }

    fn of(run: fn(&[u8])) -> Target<'static> {
        Target { seal, ..Target::new("careless", run, vec![vec![1 ^ 7, 1, 7]]) }
    }

    #[test]
    fn a_panic_behind_a_checksum_is_found() {
        assert!(catch_unwind(|| run(&of(careless))).is_err());
    }

    #[test]
    fn memory_beyond_the_bound_is_found() {
        let greedy: fn(&[u8]) = |bytes| drop(Vec::<u8>::with_capacity(70_000 * bytes.len()));
        assert!(catch_unwind(|| run(&of(greedy))).is_err());
        let frugal: fn(&[u8]) = |bytes| drop(bytes.to_vec());
        run(&of(frugal));
    }

    #[test]
    fn inputs_are_printed_and_read_back() {
        let bytes = [0, 1, 0x7f, 0xff];
        assert_eq!(from_hex(&to_hex(&bytes)), bytes);
        assert_eq!(from_hex("00 01\n7f\nff"), bytes);
    }
}
