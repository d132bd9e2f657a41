//! The figures of `docs/performance.md`: refloat beside the device's floor and other engines,
//! in alternating rounds of one run.
//!
//! Called by `cargo xtask bench`.
#![forbid(unsafe_code)]

mod boot;
mod cluster;
mod damage;
mod floor;
mod measure;
mod p4;
mod peer;
mod report;
mod resp;
mod wal;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use measure::{Plan, Subject, rounds};
use report::Report;
use resp::Verb;

const USAGE: &str = "usage: cargo xtask bench damage [--only LOG] [--dir DIR]
       cargo xtask bench [--only P1,P2,P3,P4,P5,P7,P8] [--json FILE] [--dir DIR] \
[--rounds N] [--seconds S]

  damage  the same records and faults on refloat and on other logs: who says what
  P1  WAL, one writer, one entry of 128 B / 1 KiB per sync
  P2  WAL, 64 submitters over 128 groups, one 1 KiB entry each, closed loop
  P3  WAL, batches of 100 x 4 KiB
  P4  bare consensus cores, three in one thread, batches of 1 and 100
  P5  three durable nodes on loopback, 256 B writes by 1, 64, 256 closed-loop clients
  P7  starts: 256 MiB to replay, and 10,000 groups
  P8  the clusters of P5: linearizable reads by rounds and from leases, beside writes
      and beside what the connections alone do";

struct Args {
    only: Vec<String>,
    json: Option<PathBuf>,
    dir: PathBuf,
    plan: Plan,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.split_first() {
        Some((first, rest)) if first == "damage-read" => return damage::read(rest).into(),
        Some((first, rest)) if first == "damage" => {
            return match damage::run(rest) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("bench damage: {error}");
                    ExitCode::FAILURE
                }
            };
        }
        _ => {}
    }
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
    let dir = args.dir.join(format!("refloat-bench-{}", std::process::id()));
    let result = run(&args, &dir);
    let _ = std::fs::remove_dir_all(&dir);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args, dir: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
    std::fs::create_dir_all(dir)?;
    let wanted = |id: &str| args.only.is_empty() || args.only.iter().any(|only| only == id);
    let mut report = Report::new(args.json.as_deref(), &args.plan)?;
    if wanted("P1") {
        for payload in [128, 1024] {
            let mut subjects: Vec<Box<dyn Subject>> = vec![
                Box::new(floor::Floor::new(dir, 4096, 1)?),
                Box::new(wal::OneByOne::new(dir, payload, 1)?),
                Box::new(peer::RaftEngine::new(dir, payload, 1, 1)?),
            ];
            report.add("P1", "1 writer, 1 entry per sync", rounds(&args.plan, &mut subjects)?)?;
        }
    }
    if wanted("P2") {
        let mut subjects: Vec<Box<dyn Subject>> = vec![
            Box::new(floor::Floor::new(dir, 64 * 4096, 64)?),
            Box::new(wal::OneWorker::new(dir, 1024, 64, 128)?),
            Box::new(wal::Threads::new(dir, 1024, 64, 128)?),
            Box::new(peer::RaftEngine::new(dir, 1024, 1, 64)?),
        ];
        let text = "64 submitters, 128 groups, 1 entry each";
        report.add("P2", text, rounds(&args.plan, &mut subjects)?)?;
    }
    if wanted("P3") {
        let mut subjects: Vec<Box<dyn Subject>> = vec![
            Box::new(floor::Floor::new(dir, 100 * 4096, 100)?),
            Box::new(wal::OneByOne::new(dir, 4096, 100)?),
            Box::new(peer::RaftEngine::new(dir, 4096, 100, 1)?),
        ];
        report.add("P3", "1 writer, 100 entries per sync", rounds(&args.plan, &mut subjects)?)?;
    }
    if wanted("P4") {
        p4::run(&args.plan, &mut report)?;
    }
    if wanted("P5") {
        for groups in [1, 64] {
            let cluster = cluster::Cluster::start(&dir.join(format!("p5-{groups}")), groups)?;
            for clients in [1, 64, 256] {
                let mut subjects: Vec<Box<dyn Subject>> =
                    vec![Box::new(cluster.load(clients, 256))];
                let text = format!("3 nodes, {groups} groups, {clients} clients");
                report.add("P5", &text, rounds(&args.plan, &mut subjects)?)?;
            }
        }
    }
    if wanted("P8") {
        let cluster = cluster::Cluster::start(&dir.join("p8"), 4)?;
        let flags = ["--lease-drift", "50ms"];
        let leased = cluster::Cluster::start_with(&dir.join("p8-leases"), 4, &flags)?;
        for clients in [1, 64, 256] {
            // Written first, so that what is read is there.
            leased.load(clients, 256).run(args.plan.warm_up)?;
            let mut subjects: Vec<Box<dyn Subject>> = vec![
                Box::new(cluster.load(clients, 256)),
                Box::new(cluster.clients(Verb::Get, clients, 256)),
                Box::new(leased.clients(Verb::Get, clients, 256)),
                Box::new(cluster.clients(Verb::Ping, clients, 256)),
            ];
            let text = format!("3 nodes, 4 groups, {clients} clients");
            report.add("P8", &text, rounds(&args.plan, &mut subjects)?)?;
        }
    }
    if wanted("P7") {
        boot::run(&args.plan, dir, &mut report)?;
    }
    report.finish();
    Ok(())
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Args>, String> {
    let mut parsed = Args {
        only: Vec::new(),
        json: None,
        dir: std::env::temp_dir(),
        plan: Plan {
            rounds: 5,
            window: Duration::from_secs(1),
            warm_up: Duration::from_millis(200),
        },
    };
    while let Some(name) = args.next() {
        if name == "--help" || name == "-h" {
            return Ok(None);
        }
        let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = |what: &str| value.parse::<f64>().map_err(|_| format!("{what}: {value:?}"));
        match name.as_str() {
            "--only" => parsed.only = value.split(',').map(str::to_uppercase).collect(),
            "--json" => parsed.json = Some(value.into()),
            "--dir" => parsed.dir = value.into(),
            "--rounds" => parsed.plan.rounds = (number("--rounds")? as usize).max(1),
            "--seconds" => parsed.plan.window = Duration::from_secs_f64(number("--seconds")?),
            _ => return Err(format!("unknown argument {name:?}")),
        }
    }
    Ok(Some(parsed))
}
