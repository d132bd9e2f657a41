//! Rounds, samples and medians.

use std::error::Error;
use std::fs;
use std::time::{Duration, Instant};

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long and how often.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Rounds; each runs every subject once, in turn.
    pub rounds: usize,
    /// Length of one measured window.
    pub window: Duration,
    /// Before each window, not counted.
    pub warm_up: Duration,
}

/// Something that is measured.
pub trait Subject {
    /// Its name in the table.
    fn name(&self) -> String;
    /// Payload bytes per entry.
    fn payload(&self) -> usize;
    /// The processes that work for it besides this one; their CPU time is counted too.
    fn processes(&self) -> &[u32] {
        &[]
    }
    /// Works for as long as told.
    fn run(&mut self, window: Duration) -> Result<Window>;
}

/// What came of one window.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// Entries that were acknowledged.
    pub entries: u64,
    /// Syncs of the device, where the subject can tell.
    pub syncs: Option<u64>,
    /// Bytes given to the device, where the subject can tell.
    pub bytes: Option<u64>,
    /// Nanoseconds from submit to acknowledgement, one per call.
    pub latencies: Vec<u32>,
    /// How long it really took.
    pub elapsed: Duration,
}

/// One line of a table: medians over the rounds.
#[derive(Clone, Debug)]
pub struct Line {
    pub name: String,
    pub payload: usize,
    pub per_second: f64,
    pub lowest: f64,
    pub highest: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub cpu_us_per_entry: f64,
    pub entries_per_sync: Option<f64>,
    pub bytes_per_payload_byte: Option<f64>,
}

/// Runs all subjects in alternating rounds.
pub fn rounds(plan: &Plan, subjects: &mut [Box<dyn Subject>]) -> Result<Vec<Line>> {
    let mut samples: Vec<Vec<(Window, Duration)>> = subjects.iter().map(|_| Vec::new()).collect();
    for round in 0..plan.rounds {
        // Every other round runs backwards, so that no subject always follows the same one.
        let mut order: Vec<usize> = (0..subjects.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            subjects[at].run(plan.warm_up)?;
            let before = cpu_time(subjects[at].processes());
            let window = subjects[at].run(plan.window)?;
            let spent = cpu_time(subjects[at].processes()).saturating_sub(before);
            samples[at].push((window, spent));
        }
    }
    Ok(subjects.iter().zip(&mut samples).map(|(s, windows)| line(&**s, windows)).collect())
}

fn line(subject: &dyn Subject, windows: &mut [(Window, Duration)]) -> Line {
    for (window, _) in windows.iter_mut() {
        window.latencies.sort_unstable();
    }
    let payload = subject.payload();
    let over = |f: &dyn Fn(&(Window, Duration)) -> f64| {
        let mut values: Vec<f64> = windows.iter().map(f).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let rate = over(&|(w, _)| w.entries as f64 / w.elapsed.as_secs_f64());
    let at = |share: f64| median(&over(&|(w, _)| quantile(&w.latencies, share)));
    let known = |f: &dyn Fn(&Window) -> Option<f64>| {
        windows
            .iter()
            .all(|(w, _)| f(w).is_some())
            .then(|| median(&over(&|(w, _)| f(w).unwrap_or_default())))
    };
    Line {
        name: subject.name(),
        payload,
        per_second: median(&rate),
        lowest: rate.first().copied().unwrap_or_default(),
        highest: rate.last().copied().unwrap_or_default(),
        p50_us: at(0.5),
        p99_us: at(0.99),
        p999_us: at(0.999),
        cpu_us_per_entry: median(&over(&|(w, cpu)| {
            cpu.as_secs_f64() * 1e6 / (w.entries.max(1) as f64)
        })),
        entries_per_sync: known(&|w| Some(w.entries as f64 / (w.syncs?.max(1) as f64))),
        bytes_per_payload_byte: known(&|w| {
            Some(w.bytes? as f64 / ((w.entries.max(1) * payload as u64) as f64))
        }),
    }
}

fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// In microseconds.
fn quantile(sorted: &[u32], share: f64) -> f64 {
    let at = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(0.0, |&ns| f64::from(ns) / 1000.0)
}

/// Calls `op` until the window is over. `op` returns how many entries it acknowledged.
pub fn closed_loop(
    window: Duration,
    mut op: impl FnMut() -> Result<u64>,
) -> Result<(u64, Vec<u32>, Duration)> {
    let (mut entries, mut latencies) = (0, Vec::new());
    let start = Instant::now();
    let mut last = start;
    while last - start < window {
        entries += op()?;
        let now = Instant::now();
        latencies.push(nanos(now - last));
        last = now;
    }
    Ok((entries, latencies, last - start))
}

pub fn nanos(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos()).unwrap_or(u32::MAX)
}

/// CPU time of this process and of others so far, in user and kernel mode, in ticks of 10 ms.
fn cpu_time(others: &[u32]) -> Duration {
    let names = others.iter().map(u32::to_string).chain(["self".to_owned()]);
    let ticks: u64 = names.map(|name| ticks(&name)).sum();
    Duration::from_millis(ticks * 10)
}

fn ticks(process: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields = after_name.split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<u64>().ok()).sum()
}
