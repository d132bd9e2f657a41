//! Runs the simulator over seeds: `refloat-sim --seeds N [--from S]`, `refloat-sim --seed N [--log]`.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use refloat_sim::{Report, Settings, Simulation};

const USAGE: &str =
    "usage: refloat-sim [--seeds N] [--from S] [--seconds T] [--hours T] [--seed N] [--log] [--history FILE]

  --seeds N    runs N seeds (default 20), --from the first of them (default 1)
  --seconds T  stops after T seconds of real time, however many seeds that is
  --hours T    the same in hours
  --seed N     runs one seed, twice, and compares; --log prints a line per event
  --history F  with --seed: writes what the clients saw, one JSON object per line";

#[derive(Default)]
struct Args {
    seeds: Option<u64>,
    from: Option<u64>,
    seed: Option<u64>,
    limit: Option<Duration>,
    log: bool,
    history: Option<String>,
}

fn main() -> ExitCode {
    let args = match parse(std::env::args().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(text) => {
            eprintln!("{text}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let ok = match args.seed {
        Some(seed) => one(seed, &args),
        None => many(&args),
    };
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(seed: u64, args: &Args) -> bool {
    let settings = Settings { keep_log: args.log, ..Settings::default() };
    let simulation = Simulation::new(settings);
    let report = simulation.run(seed);
    report.log.iter().for_each(|line| println!("{line}"));
    println!("{report}");
    if let Some(path) = &args.history
        && let Err(error) = std::fs::write(path, report.history.to_json_lines())
    {
        eprintln!("cannot write {path}: {error}");
        return false;
    }
    let again = simulation.run(seed).trace_hash;
    if again != report.trace_hash {
        println!("NOT DETERMINISTIC: the second run has the trace {again:016x}");
        return false;
    }
    report.violation.is_none()
}

fn many(args: &Args) -> bool {
    let start = Instant::now();
    let simulation = Simulation::new(Settings::default());
    let from = args.from.unwrap_or(1);
    let count = args.seeds.unwrap_or(if args.limit.is_some() { u64::MAX } else { 20 });
    let mut sum = Sum::default();
    for seed in (from..).take(usize::try_from(count).unwrap_or(usize::MAX)) {
        if args.limit.is_some_and(|limit| start.elapsed() >= limit) {
            break;
        }
        let report = simulation.run(seed);
        sum.add(&report);
        if report.violation.is_some() {
            println!("{report}");
        }
    }
    sum.print(start.elapsed());
    sum.failed.is_empty()
}

#[derive(Default)]
struct Sum {
    seeds: u64,
    events: u64,
    simulated_us: u64,
    acknowledged: u64,
    restarts: u64,
    hash: u64,
    faults: BTreeMap<&'static str, u64>,
    evaluated: BTreeMap<&'static str, u64>,
    reached: BTreeMap<&'static str, u64>,
    failed: Vec<u64>,
}

impl Sum {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.events += report.events;
        self.simulated_us += report.simulated_us;
        self.acknowledged += report.acknowledged;
        self.restarts += report.restarts;
        self.hash = self.hash.rotate_left(1) ^ report.trace_hash;
        let pairs = [
            (&mut self.faults, &report.faults),
            (&mut self.evaluated, &report.evaluated),
            (&mut self.reached, &report.reached),
        ];
        for (sum, counts) in pairs {
            for (name, n) in counts {
                *sum.entry(name).or_default() += n;
            }
        }
        if report.violation.is_some() {
            self.failed.push(report.seed);
        }
    }

    fn print(&self, took: Duration) {
        for (title, counts) in [
            ("faults fired", &self.faults),
            ("invariants evaluated", &self.evaluated),
            ("reached", &self.reached),
        ] {
            println!("{title}:");
            counts.iter().for_each(|(name, n)| println!("  {n:>9}  {name}"));
        }
        println!(
            "{} seeds in {:.1} s: {:.0} simulated s, {} events, {} writes acknowledged and found \
             again, {} restarts, traces {:016x}",
            self.seeds,
            took.as_secs_f64(),
            self.simulated_us as f64 / 1e6,
            self.events,
            self.acknowledged,
            self.restarts,
            self.hash
        );
        for seed in &self.failed {
            println!("seed {seed} FAILED; replay: cargo xtask sim --seed {seed}");
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Args>, String> {
    let mut parsed = Args::default();
    while let Some(name) = args.next() {
        match name.as_str() {
            "--help" | "-h" => return Ok(None),
            "--log" => {
                parsed.log = true;
                continue;
            }
            _ => {}
        }
        let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
        if name == "--history" {
            parsed.history = Some(value);
            continue;
        }
        let number = value.parse::<u64>().map_err(|_| format!("{name}: {value:?} is no number"))?;
        match name.as_str() {
            "--seeds" => parsed.seeds = Some(number),
            "--from" => parsed.from = Some(number),
            "--seed" => parsed.seed = Some(number),
            "--seconds" => parsed.limit = Some(Duration::from_secs(number)),
            "--hours" => parsed.limit = Some(Duration::from_secs(number * 3600)),
            _ => return Err(format!("unknown argument {name:?}")),
        }
    }
    Ok(Some(parsed))
}
