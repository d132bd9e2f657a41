//! `refloat demo`: three nodes are killed in mid-write, again and again, and every write that was
//! acknowledged is read back.

mod client;
mod cluster;
mod faults;
mod load;
mod node;
mod ports;
mod screen;
mod summary;
mod value;
mod verify;

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::args::Demo;
use crate::cli::failure::{Code, Failure};
use crate::cli::output;
use cluster::Cluster;
use faults::Faults;
use load::Load;
use screen::Screen;
use summary::Summary;

/// Runs the command.
pub fn run(args: Demo) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("client")
        .enable_all()
        .build()
        .map_err(|error| Failure::because(Code::Other, "start the runtime", &error))?;
    let result = runtime.block_on(interruptible(args));
    runtime.shutdown_background();
    result
}

/// Whatever ends the demonstration, the cluster is dropped, and the processes with it.
async fn interruptible(args: Demo) -> Result<(), Failure> {
    let mut signals = Signals::new()
        .map_err(|error| Failure::because(Code::Other, "listen for signals", &error))?;
    tokio::select! {
        result = demonstrate(args) => result,
        name = signals.any() => Err(Failure::new(Code::Other, format!("ended by {name}"))),
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn any(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hang_up.recv() => "SIGHUP",
        }
    }
}

/// Where the nodes live: a directory of the user's, or one that goes when all went well.
enum Place {
    Given(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Place {
    fn new(args: &Demo) -> Result<Place, Failure> {
        let failed = |error| Failure::because(Code::Other, "make a directory for the demo", &error);
        match &args.dir {
            Some(dir) => {
                std::fs::create_dir_all(dir).map_err(failed)?;
                let empty = std::fs::read_dir(dir).map_err(failed)?.next().is_none();
                if !empty {
                    let line = format!("{} is not empty: give a new directory", dir.display());
                    return Err(Failure::new(Code::Refused, line));
                }
                Ok(Place::Given(dir.clone()))
            }
            None => {
                let temp = tempfile::Builder::new().prefix("refloat-demo-").tempdir();
                Ok(Place::Temporary(temp.map_err(failed)?))
            }
        }
    }

    fn path(&self) -> PathBuf {
        match self {
            Place::Given(path) => path.clone(),
            Place::Temporary(temp) => temp.path().to_owned(),
        }
    }

    /// Keeps a temporary directory for who wants to look into it.
    fn keep(self) -> PathBuf {
        match self {
            Place::Given(path) => path,
            Place::Temporary(temp) => temp.keep(),
        }
    }
}

async fn demonstrate(args: Demo) -> Result<(), Failure> {
    let place = Place::new(&args)?;
    let result = in_place(&args, place.path()).await;
    if result.is_err() {
        let kept = place.keep();
        output::error_line(format!("the nodes' directories and logs are in {}", kept.display()));
    }
    result
}

async fn in_place(args: &Demo, dir: PathBuf) -> Result<(), Failure> {
    let seed = args.seed.unwrap_or_else(clock_seed);
    let screen = Screen::new(args.json);
    screen.say(&format!("seed {seed}, directory {}", dir.display()));
    let mut cluster = Cluster::start(dir, seed, &screen).await?;

    let load = Load::start(cluster.client_addresses(), seed);
    let syncs = cluster.watch_syncs();
    let live = screen.watch(load.progress());
    let begin = Instant::now();
    let end = begin + Duration::from_secs(args.seconds);
    let restarts = Faults::new(seed).run(&mut cluster, &screen, end).await?;
    tokio::time::sleep_until(end.into()).await;
    let record = load.stop().await;
    let seconds = begin.elapsed().as_secs_f64();
    live.stop().await;
    let syncs = syncs.stop().await;

    screen.say(&format!(
        "load ended: {} writes acknowledged, {} with unknown outcome, {} refused",
        record.acknowledged(),
        record.unknown(),
        record.refused()
    ));
    cluster.wait_until_ready().await?;
    let begin = Instant::now();
    let verdict = verify::read_back(&cluster.client_addresses(), &record, &screen).await?;
    screen.say(&format!(
        "read everything back through all nodes in {:.1} s",
        begin.elapsed().as_secs_f64()
    ));
    cluster.stop(&screen).await?;
    let summary = Summary {
        acknowledged: record.acknowledged(),
        verified: verdict.verified,
        missing: verdict.missing,
        restarts,
        longest_pause_ms: record.longest_pause.as_millis() as u64,
        writes_per_s: (record.acknowledged() as f64 / seconds) as u64,
        syncs_per_s: (syncs as f64 / seconds) as u64,
    };
    summary.print(args.json);
    verdict.judge(&summary)
}

fn clock_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_nanos() as u64 % 1_000_000
}
