//! The damage table: every way of hurting every byte, sector, block, length and name of a small
//! real log, and what the scan says of it.
//!
//! `cargo test -p refloat-wal --test scenarios damage_table -- --nocapture` prints it.

mod log;
mod memory;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use refloat_types::Generation;
use refloat_wal::*;

use self::log::{Log, Tail};
use self::memory::Memory;

const SECTOR: usize = 512;
const BLOCK: usize = 4096;

/// What a scan says, in the order of the columns.
const COLUMNS: [&str; 10] = [
    "as before",
    "torn",
    "rotten, all survived",
    "rotten, named",
    "rotten, owners unknown",
    "suspect",
    "missing",
    "named by the next file",
    "refused",
    "silent",
];

#[derive(Default)]
struct Table {
    rows: Vec<(&'static str, BTreeMap<&'static str, u64>)>,
}

impl Table {
    fn count(&mut self, fault: &'static str, column: &'static str) {
        let at = self.rows.iter().position(|(name, _)| *name == fault);
        let at = at.unwrap_or_else(|| {
            self.rows.push((fault, BTreeMap::new()));
            self.rows.len() - 1
        });
        *self.rows[at].1.entry(column).or_default() += 1;
    }

    fn markdown(&self) -> String {
        let mut text = format!("| fault | cases | {} |\n", COLUMNS.join(" | "));
        text += &"|---".repeat(COLUMNS.len() + 2);
        text += "|\n";
        for (fault, counts) in &self.rows {
            let _ = write!(text, "| {fault} | {} |", counts.values().sum::<u64>());
            for column in COLUMNS {
                let count = counts.get(column).map_or(String::new(), u64::to_string);
                let _ = write!(text, " {count} |");
            }
            text.push('\n');
        }
        text
    }
}

/// Hurts a log in every way and checks each time what must hold whatever is hurt.
struct Attack<'a> {
    log: &'a Log,
    table: &'a mut Table,
}

impl Attack<'_> {
    fn case(&mut self, fault: &'static str, at: &str, hurt: impl FnOnce(&mut Memory)) {
        let log = self.log;
        self.case_with(fault, at, hurt, |lost| log.is_unproven(lost));
    }

    /// `may_be_silent`: for which batches no evidence is left.
    fn case_with(
        &mut self,
        fault: &'static str,
        at: &str,
        hurt: impl FnOnce(&mut Memory),
        may_be_silent: impl Fn(Lsn) -> bool,
    ) {
        let mut files = self.log.files.clone();
        hurt(&mut files);
        let story = format!("{fault}, {at}, {:?}", self.log.tail);
        let column = self.judge(&files, &story, may_be_silent);
        // The directory and its copy never share a block: who lost something is always known.
        let is_one_place = ["byte", "sector", "block zeroed", "block filled", "block unreadable"]
            .iter()
            .any(|place| fault.starts_with(place));
        assert!(!is_one_place || column != "rotten, owners unknown", "{story}");
        self.table.count(fault, column);
    }

    fn judge(&self, files: &Memory, story: &str, silent: impl Fn(Lsn) -> bool) -> &'static str {
        let found = match crate::disk::try_look(files, &self.log.options) {
            Ok(found) => found,
            Err(ScanError::Foreign { .. } | ScanError::NewerFormat { .. }) => return "refused",
            Err(error) => panic!("{story}: {error}"),
        };
        self.log.check_nothing_is_invented(&found, story);
        self.log.check_owners_are_exact(&found, story);
        let lost = self.log.silent_losses(&found);
        if !lost.is_empty() {
            let allowed = lost.iter().all(|at| silent(*at));
            assert!(allowed, "{story}: lost without a word: {lost:?}\n{}", found.words());
            return "silent";
        }
        match found.scan.damage.is_empty() && self.log.lacks_the_oldest(&found) {
            true => "named by the next file",
            false => column(&found),
        }
    }
}

fn column(found: &crate::disk::Found) -> &'static str {
    let damage = &found.scan.damage;
    let any = |wanted: &dyn Fn(&Damage) -> bool| damage.iter().any(wanted);
    let is_unknown = |d: &Damage| d.owners == Owners::Unknown;
    let is_named = |d: &Damage| matches!(&d.owners, Owners::Known(groups) if !groups.is_empty());
    match () {
        () if damage.is_empty() => match found.verdict() {
            Verdict::Torn { .. } => "torn",
            _ => "as before",
        },
        () if any(&|d| d.kind == DamageKind::Missing) => "missing",
        () if any(&|d| d.kind == DamageKind::Suspect) => "suspect",
        () if any(&is_unknown) => "rotten, owners unknown",
        () if any(&is_named) => "rotten, named",
        () => "rotten, all survived",
    }
}

/// How a byte is changed.
type Pattern = fn(u8, usize) -> u8;

fn attack_everything(log: &Log, table: &mut Table, patterns: &[Pattern], every_length: bool) {
    let mut attack = Attack { log, table };
    for file in log.generations() {
        // The older files are the same however the newest one ends, and alike.
        let oldest = log.generations().next() == Some(file);
        if file == log.newest() || oldest && log.tail == Tail::Sealed {
            attack.bytes(file, patterns);
        }
        attack.sectors_and_blocks(file);
        attack.blocks_from_elsewhere(file);
        attack.lengths(file, every_length);
        attack.names(file);
    }
}

impl Attack<'_> {
    fn bytes(&mut self, file: Generation, patterns: &[Pattern]) {
        let path = self.log.path(file);
        let len = self.log.files.bytes(&path).len();
        for at in 0..len {
            // Behind the end nothing is judged: one byte of each sector shows it.
            if at >= self.log.end(file) && !at.is_multiple_of(SECTOR / 2 + 1) {
                continue;
            }
            for pattern in patterns {
                let old = self.log.files.bytes(&path)[at];
                let new = pattern(old, at);
                if new != old {
                    let place = format!("file {file} byte {at}: {old:#x} to {new:#x}");
                    self.case("byte changed", &place, |files| files.edit(&path)[at] = new);
                }
            }
        }
    }

    fn sectors_and_blocks(&mut self, file: Generation) {
        let path = self.log.path(file);
        let len = self.log.files.bytes(&path).len();
        let sizes = [
            (SECTOR, "sector zeroed", "sector filled with noise"),
            (BLOCK, "block zeroed", "block filled with noise"),
        ];
        for (size, zeroed, noise) in sizes {
            for at in (0..len).step_by(size) {
                let place = format!("file {file} offset {at}");
                self.case(zeroed, &place, |files| files.edit(&path)[at..at + size].fill(0));
                self.case(noise, &place, |files| {
                    let bytes = &mut files.edit(&path)[at..at + size];
                    let mut rng = refloat_vfs::Rng::new(at as u64);
                    rng.fill(bytes);
                });
            }
        }
        for block in 0..(len / BLOCK) as u64 {
            let place = format!("file {file} block {block}");
            self.case("block unreadable", &place, |files| files.make_unreadable(&path, block));
        }
    }

    fn blocks_from_elsewhere(&mut self, file: Generation) {
        let path = self.log.path(file);
        let blocks = self.log.files.bytes(&path).len() / BLOCK;
        let used = self.log.end(file) / BLOCK + 1;
        let range = |block: usize| block * BLOCK..(block + 1) * BLOCK;
        for one in 0..used {
            for other in (one + 1)..blocks {
                let place = format!("file {file} blocks {one} and {other}");
                self.case("two blocks swapped", &place, |files| {
                    let bytes = files.edit(&path);
                    let (low, high) = bytes.split_at_mut(other * BLOCK);
                    low[range(one)].swap_with_slice(&mut high[..BLOCK]);
                });
                let place = format!("file {file} block {other} over {one}");
                self.case("block written over another", &place, |files| {
                    files.edit(&path).copy_within(range(other), one * BLOCK);
                });
                let place = format!("file {file} block {one} over {other}");
                self.case("block written over another", &place, |files| {
                    files.edit(&path).copy_within(range(one), other * BLOCK);
                });
            }
        }
        let older: Vec<_> = self.log.older_contents().collect();
        for (name, old) in &older {
            for block in 0..used {
                let place = format!("file {file} block {block} as in {name}");
                self.case("block of another generation", &place, |files| {
                    files.edit(&path)[range(block)].copy_from_slice(&old[range(block)]);
                });
            }
            // As if a drive had lost all that it was told since some moment. In the newest file
            // no evidence is left then.
            let log = self.log;
            for from in 0..used {
                let place = format!("file {file} from block {from} on as in {name}");
                let hurt = |files: &mut Memory| {
                    files.edit(&path)[from * BLOCK..].copy_from_slice(&old[from * BLOCK..]);
                };
                let fault = "all from some block on of another generation";
                self.case_with(fault, &place, hurt, |lost| {
                    file == log.newest() && lost.generation == file
                });
            }
        }
    }

    fn lengths(&mut self, file: Generation, every: bool) {
        let path = self.log.path(file);
        let len = self.log.files.bytes(&path).len();
        for cut in 0..len {
            let near = [0, 1, SECTOR - 1].contains(&(cut % SECTOR));
            if every || near {
                let place = format!("file {file} cut to {cut}");
                self.case("file cut", &place, |files| files.edit(&path).truncate(cut));
            }
        }
        for more in [1, SECTOR, BLOCK, 3 * BLOCK] {
            let place = format!("file {file} longer by {more}");
            self.case("file made longer", &place, |files| {
                files.edit(&path).resize(len + more, 0);
            });
        }
    }

    fn names(&mut self, file: Generation) {
        let path = self.log.path(file);
        let place = format!("file {file}");
        self.case("file removed", &place, |files| files.remove(&path));
        let foreign = self.log.foreign(file);
        self.case("file of another node", &place, |files| files.put(path.clone(), foreign));
        let own = self.log.files.bytes(&path).to_vec();
        for to in self.log.names_to_copy_to() {
            let place = format!("file {file} copied to {}", to.display());
            self.case("file doubled", &place, |files| files.put(to.clone(), own.clone()));
        }
        for other in self.log.generations().filter(|other| *other != file) {
            let other_path: PathBuf = self.log.path(other);
            let content = self.log.files.bytes(&other_path).to_vec();
            let place = format!("file {other} copied over file {file}");
            self.case("file copied over another", &place, |files| {
                files.put(path.clone(), content.clone());
            });
            let place = format!("files {file} and {other}");
            self.case("two files' names swapped", &place, |files| {
                files.put(path.clone(), content);
                files.put(other_path, own.clone());
            });
        }
    }
}

#[test]
fn damage_table() {
    let mut table = Table::default();
    for tail in [Tail::Sealed, Tail::Open] {
        let log = Log::new(tail);
        attack_everything(&log, &mut table, &[|byte, at| byte ^ 1 << (at % 8)], false);
    }
    println!("{}", table.markdown());
}

#[test]
#[ignore = "every byte in six ways, every length, minutes: cargo xtask crash --deep"]
fn damage_table_of_every_byte_in_many_ways() {
    let mut table = Table::default();
    for tail in [Tail::Sealed, Tail::Open] {
        let log = Log::new(tail);
        let patterns: [Pattern; 6] = [
            |b, _| b ^ 1,
            |b, _| b ^ 0x80,
            |b, _| !b,
            |_, _| 0,
            |_, _| 0xff,
            |b, _| b.wrapping_add(1),
        ];
        attack_everything(&log, &mut table, &patterns, true);
    }
    println!("{}", table.markdown());
}
