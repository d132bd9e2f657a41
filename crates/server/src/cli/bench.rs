//! `refloat bench wal`: one synced entry after the other, beside the raw disk.
//!
//! Floor and log take turns, round by round, so that a disk that changes its mood within minutes
//! does so to both; of each the median round counts.

use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use refloat_types::{
    Entry, EntryId, EntryKind, GroupId, GroupKey, Identity, Incarnation, Index, LogOp, Member,
    NodeId, Now, Term,
};
use refloat_vfs::{AlignedBuf, BLOCK_LEN, OpenOptions, OsFs, Vfs, VfsFile};
use refloat_wal::{Options, RecordRef, Visit, Writer, scan};

use super::args::BenchWal;
use super::failure::{Code, Failure};
use super::output;

const PAYLOADS: [usize; 3] = [128, 1024, 16 * 1024];
const FLOOR_LEN: u64 = 16 << 20;

/// One round of one subject.
struct Round {
    per_second: f64,
    p50_us: u64,
    p99_us: u64,
}

/// Runs the command.
pub fn run(args: &BenchWal) -> Result<(), Failure> {
    let io = |doing: &'static str| {
        move |error: std::io::Error| Failure::because(Code::Other, doing, &error)
    };
    let temp = tempfile::Builder::new()
        .prefix("refloat-bench-")
        .tempdir_in(&args.dir)
        .map_err(io("make a directory for the benchmark"))?;
    let floor = Floor::prepare(temp.path()).map_err(io("prepare the raw file"))?;
    if !args.json {
        let how = if floor.direct { "O_DIRECT and O_DSYNC" } else { "fdatasync (no O_DIRECT)" };
        output::line(format!(
            "disk of {}: pre-written file, {how}; {} rounds of {:?}, medians",
            args.dir.display(),
            args.rounds,
            args.round
        ));
        output::line(format!(
            "{:>8}  {:>13} {:>8} {:>8}  {:>13} {:>8} {:>8}  {:>5}",
            "payload",
            "raw writes/s",
            "p50 us",
            "p99 us",
            "log entries/s",
            "p50 us",
            "p99 us",
            "ratio"
        ));
    }
    for payload in PAYLOADS {
        let mut log = Log::open(&temp.path().join(format!("wal{payload}")))?;
        let (mut raw, mut logged) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds {
            raw.push(floor.round(payload, args.round).map_err(io("write the raw file"))?);
            logged.push(log.round(payload, args.round)?);
        }
        report(payload, &median(raw), &median(logged), args.json);
    }
    Ok(())
}

fn report(payload: usize, raw: &Round, log: &Round, json: bool) {
    let ratio = log.per_second / raw.per_second;
    if json {
        let line = serde_json::json!({
            "bench": "wal", "payload": payload,
            "raw_per_s": raw.per_second.round(), "raw_p50_us": raw.p50_us, "raw_p99_us": raw.p99_us,
            "log_per_s": log.per_second.round(), "log_p50_us": log.p50_us, "log_p99_us": log.p99_us,
            "ratio": (ratio * 1000.0).round() / 1000.0,
        });
        output::line(line);
        return;
    }
    output::line(format!(
        "{payload:>8}  {:>13.0} {:>8} {:>8}  {:>13.0} {:>8} {:>8}  {ratio:>5.2}",
        raw.per_second, raw.p50_us, raw.p99_us, log.per_second, log.p50_us, log.p99_us
    ));
}

fn median(mut rounds: Vec<Round>) -> Round {
    rounds.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    rounds.swap_remove(rounds.len() / 2)
}

/// Repeats something for a time.
fn measure<E>(time: Duration, mut once: impl FnMut() -> Result<(), E>) -> Result<Round, E> {
    let mut micros = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).expect("valid bounds");
    let start = Instant::now();
    while start.elapsed() < time {
        let begin = Instant::now();
        once()?;
        micros.saturating_record(begin.elapsed().as_micros() as u64);
    }
    Ok(Round {
        per_second: micros.len() as f64 / start.elapsed().as_secs_f64(),
        p50_us: micros.value_at_quantile(0.5),
        p99_us: micros.value_at_quantile(0.99),
    })
}

/// The disk itself: a file written once, then written over, each write durable.
struct Floor {
    file: std::sync::Arc<dyn VfsFile>,
    direct: bool,
    at: std::cell::Cell<u64>,
}

impl Floor {
    fn prepare(dir: &Path) -> std::io::Result<Floor> {
        let path = dir.join("raw");
        let file = OsFs.open(&path, OpenOptions::create_new())?;
        let zeros = vec![0; 1 << 20];
        for at in (0..FLOOR_LEN).step_by(zeros.len()) {
            file.write_at(&zeros, at)?;
        }
        file.sync_data()?;
        OsFs.sync_dir(dir)?;
        file.drop_cache();
        let direct = OsFs.open(&path, OpenOptions::write().durable().direct());
        let is_direct = direct.is_ok();
        Ok(Floor { file: direct.unwrap_or(file), direct: is_direct, at: 0.into() })
    }

    fn round(&self, payload: usize, time: Duration) -> std::io::Result<Round> {
        let mut block = AlignedBuf::default();
        block.resize(payload.div_ceil(BLOCK_LEN).max(1));
        block.fill(0x5a);
        measure(time, || {
            if self.at.get() + block.len() as u64 > FLOOR_LEN {
                self.at.set(0);
            }
            self.file.write_at(&block, self.at.get())?;
            self.at.set(self.at.get() + block.len() as u64);
            if self.direct { Ok(()) } else { self.file.sync_data() }
        })
    }
}

/// The log, driven by one thread that writes by itself.
struct Log {
    writer: Writer,
    start: Instant,
    last: EntryId,
}

struct Ignore;

impl Visit for Ignore {
    fn record(
        &mut self,
        _: refloat_wal::Lsn,
        _: refloat_wal::Trust,
        _: refloat_wal::Record,
        _: &[EntryId],
    ) {
    }
}

impl Log {
    fn open(dir: &Path) -> Result<Log, Failure> {
        OsFs.create_dir(dir).map_err(|error| Failure::because(Code::Other, "make it", &error))?;
        let member = Member::new(NodeId(1), Incarnation(1));
        let mut options = Options::new(dir, Identity { member, ..Identity::default() });
        options.file_size = 32 << 20;
        let scan = scan(&OsFs, &options, &mut Ignore)
            .map_err(|error| Failure::because(Code::Other, "open the log", &error))?;
        let writer = Writer::resume(scan, options, Vec::new(), Vec::new());
        let mut log = Log { writer, start: Instant::now(), last: EntryId::ZERO };
        while !log.writer.is_ready() {
            log.turn()?;
        }
        Ok(log)
    }

    fn round(&mut self, payload: usize, time: Duration) -> Result<Round, Failure> {
        let bytes = bytes::Bytes::from(vec![0x5a; payload]);
        measure(time, || self.append(bytes.clone()))
    }

    fn append(&mut self, payload: bytes::Bytes) -> Result<(), Failure> {
        let id = EntryId::new(Term(1), Index(self.last.index.0 + 1));
        let entry = Entry::new(id, EntryKind::Command, payload);
        let op = LogOp::Append { prev: self.last, entries: vec![entry] };
        let group = GroupKey::new(GroupId(1), refloat_types::Epoch(1));
        let record = [RecordRef::Log { group, op: &op }];
        if !self.writer.fits(&record) {
            let generation = self.writer.roll(Vec::new());
            self.writer.release(generation);
        }
        let at = loop {
            match self.writer.submit(&record) {
                Ok(at) => break at,
                Err(error) if error.is_retryable() => self.turn()?,
                Err(error) => return Err(Failure::because(Code::Other, "append", &error)),
            }
        };
        self.last = id;
        while self.writer.durable() < at {
            self.turn()?;
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<(), Failure> {
        let now = Now(self.start.elapsed().as_micros() as u64);
        let Some(job) = self.writer.poll(now) else { return Ok(()) };
        let done = job.run(&OsFs);
        self.writer
            .done(now, done)
            .map_err(|error| Failure::because(Code::Poisoned, "write the log", &error))
    }
}
