//! `damage`: the same records and the same faults on refloat and on other logs.
//!
//! Each log gets [`RECORDS`] records, one sync each. Then every file of its directory is harmed in
//! many ways, each on a fresh copy; a process of its own opens the copy and reads every record
//! back. The table counts what it says.

mod faults;
mod fjall;
mod okaywal;
mod raft_engine;
mod refloat;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use faults::Image;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Over this many groups, where the log knows groups.
const GROUPS: u64 = 4;
const RECORDS: u64 = 400;

/// One acknowledged record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    pub group: u64,
    pub index: u64,
}

/// All of them in the order of writing.
pub fn ids() -> impl Iterator<Item = Id> {
    (0..RECORDS).map(|n| Id { group: n % GROUPS + 1, index: n / GROUPS + 1 })
}

/// Bytes that only this record of this node has.
pub fn payload(node: u64, id: Id) -> Vec<u8> {
    let len = 200 + (id.index * 37 + id.group * 91) % 700;
    let seed = node * 1_000_003 + id.group * 8191 + id.index * 131;
    (0..len).map(|n| (n.wrapping_mul(seed | 1).rotate_right(3) ^ seed) as u8).collect()
}

/// What became of one record.
pub enum Found {
    Bytes(Vec<u8>),
    /// The log said that it is lost or in doubt: by an error, or by naming its group.
    Named,
    /// The log has no such record and says nothing.
    Absent,
}

/// A log that can be harmed.
pub trait Log {
    fn name(&self) -> &'static str;
    /// Writes every record, each synced, and ends.
    fn write(&self, dir: &Path, node: u64) -> Result<()>;
    /// Opens the directory and looks for every record.
    fn read(&self, dir: &Path) -> Result<Vec<(Id, Found)>>;
}

fn logs() -> Vec<Box<dyn Log>> {
    vec![
        Box::new(refloat::Refloat),
        Box::new(raft_engine::RaftEngine { strict: false }),
        Box::new(raft_engine::RaftEngine { strict: true }),
        Box::new(okaywal::OkayWal),
        Box::new(fjall::Fjall),
    ]
}

/// The columns of the table, from good to bad.
const ANSWERS: [&str; 7] = [
    "all there",
    "loss named",
    "refused to open",
    "**silently gone**",
    "**wrong bytes**",
    "**panicked**",
    "**hung**",
];

/// `bench damage [--dir DIR] [--only NAME]`.
pub fn run(args: &[String]) -> Result<()> {
    let (mut dir, mut only) = (std::env::temp_dir(), None);
    let mut args = args.iter();
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--dir" => dir = value.into(),
            "--only" => only = Some(value.clone()),
            _ => return Err(format!("unknown argument {name:?}").into()),
        }
    }
    let dir = dir.join(format!("refloat-damage-{}", std::process::id()));
    let result = run_in(&dir, only.as_deref());
    let _ = fs::remove_dir_all(&dir);
    result
}

fn run_in(dir: &Path, only: Option<&str>) -> Result<()> {
    println!("{RECORDS} records of 200 to 900 B in {GROUPS} groups, one sync each\n");
    println!("| log | fault | files | {} |", ANSWERS.join(" | "));
    println!("|---|---|{}", "---|".repeat(ANSWERS.len() + 1));
    for (number, log) in logs().iter().enumerate() {
        if only.is_some_and(|only| !log.name().contains(only)) {
            continue;
        }
        let start = Instant::now();
        let home = dir.join(number.to_string());
        let (good, other, copy) = (home.join("good"), home.join("other"), home.join("copy"));
        fs::create_dir_all(&home)?;
        log.write(&good, 1)?;
        log.write(&other, 2)?;
        let (good, other) = (Image::of(&good)?, Image::of(&other)?);
        good.put(&copy)?;
        let untouched = ask(number, &copy)?;
        if untouched != 0 {
            return Err(format!("{}: {} without a fault", log.name(), ANSWERS[untouched]).into());
        }
        let counts = harm_all(number, &good, &other, &copy)?;
        print(log.name(), &counts);
        eprintln!("{}: {:.0} s", log.name(), start.elapsed().as_secs_f64());
    }
    Ok(())
}

type Counts = Vec<(&'static str, [u64; ANSWERS.len()])>;

fn harm_all(log: usize, good: &Image, other: &Image, copy: &Path) -> Result<Counts> {
    let mut counts: Counts = Vec::new();
    for fault in faults::all(good, other) {
        good.put(copy)?;
        if !fault.apply(good, other, copy)? {
            continue;
        }
        let answer = ask(log, copy)?;
        if !counts.iter().any(|row| row.0 == fault.class) {
            counts.push((fault.class, [0; ANSWERS.len()]));
        }
        for row in counts.iter_mut().filter(|row| row.0 == fault.class) {
            row.1[answer] += 1;
        }
        if std::env::var_os("DAMAGE_TRACE").is_some() {
            eprintln!("{} {}: {}", fault.class, fault.what, ANSWERS[answer]);
        }
    }
    Ok(counts)
}

fn print(name: &str, counts: &Counts) {
    let mut sum = [0; ANSWERS.len()];
    let line = |name: &str, fault: &str, row: &[u64; ANSWERS.len()]| {
        let cells: Vec<String> = row.iter().map(u64::to_string).collect();
        println!("| {name} | {fault} | {} | {} |", row.iter().sum::<u64>(), cells.join(" | "));
    };
    for (at, (fault, row)) in counts.iter().enumerate() {
        line(if at == 0 { name } else { "" }, fault, row);
        sum.iter_mut().zip(row).for_each(|(sum, n)| *sum += n);
    }
    line("", "all", &sum);
}

/// Lets another process read the directory, so that nothing it does reaches this one.
fn ask(log: usize, dir: &Path) -> Result<usize> {
    const PATIENCE: Duration = Duration::from_secs(20);
    let mut child = Command::new(std::env::current_exe()?)
        .args(["damage-read", &log.to_string()])
        .arg(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(match status.code() {
                Some(code @ 10..=14) => code as usize - 10,
                _ => 5,
            });
        }
        if start.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Ok(6);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The other end of [`ask`]: the exit code is the answer.
pub fn read(args: &[String]) -> u8 {
    let [log, dir] = args else { return 2 };
    let (logs, dir) = (logs(), PathBuf::from(dir));
    let Some(log) = log.parse::<usize>().ok().and_then(|at| logs.get(at)) else { return 2 };
    let found = match log.read(&dir) {
        Ok(found) => found,
        Err(error) => {
            eprintln!("refused: {error}");
            return 12;
        }
    };
    let mut by_id: BTreeMap<Id, Found> = found.into_iter().collect();
    let mut worst = 0;
    for id in ids() {
        let answer = match by_id.remove(&id) {
            Some(Found::Bytes(bytes)) if bytes == payload(1, id) => 0,
            Some(Found::Bytes(_)) => 4,
            Some(Found::Named) => 1,
            Some(Found::Absent) | None => 3,
        };
        worst = worst.max(answer);
    }
    eprintln!("{}", ANSWERS[worst]);
    10 + worst as u8
}
