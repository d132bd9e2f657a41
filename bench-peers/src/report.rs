//! The table for people and the lines for programs.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::measure::{Line, Plan, Result};

/// One line of [`Report::boots`].
pub struct BootLine {
    name: &'static str,
    /// Bytes that were there, and how long the start took; one per round.
    samples: Vec<(u64, Duration)>,
}

impl BootLine {
    pub fn new(name: &'static str) -> BootLine {
        BootLine { name, samples: Vec::new() }
    }

    pub fn add(&mut self, bytes: u64, time: Duration) {
        self.samples.push((bytes, time));
    }
}

pub struct Report {
    json: Option<File>,
}

impl Report {
    pub fn new(json: Option<&Path>, plan: &Plan) -> Result<Report> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        println!(
            "{cores} cores, medians of {} alternating rounds of {:.1} s",
            plan.rounds,
            plan.window.as_secs_f64()
        );
        Ok(Report { json: json.map(File::create).transpose()? })
    }

    /// Prints the table of one figure; the first line is what the ratios refer to.
    pub fn add(&mut self, id: &str, work: &str, lines: Vec<Line>) -> Result<()> {
        let payload = lines.iter().map(|l| l.payload).min().unwrap_or_default();
        println!("\n{id}  {work}, {payload} B");
        println!(
            "{:<38} {:>10} {:>6} {:>19} {:>8} {:>8} {:>8} {:>7} {:>7} {:>6}",
            "subject",
            "entries/s",
            "ratio",
            "lowest..highest",
            "p50 us",
            "p99 us",
            "p99.9",
            "per sync",
            "cpu us",
            "amp"
        );
        let floor = lines.first().map_or(1.0, |l| l.per_second).max(1e-9);
        for line in &lines {
            println!(
                "{:<38} {:>10.0} {:>6.2} {:>19} {:>8.0} {:>8.0} {:>8.0} {:>8} {:>7.2} {:>6}",
                line.name,
                line.per_second,
                line.per_second / floor,
                format!("{:.0}..{:.0}", line.lowest, line.highest),
                line.p50_us,
                line.p99_us,
                line.p999_us,
                or_dash(line.entries_per_sync),
                line.cpu_us_per_entry,
                or_dash(line.bytes_per_payload_byte),
            );
            if let Some(json) = &mut self.json {
                writeln!(json, "{}", as_json(id, work, line))?;
            }
        }
        Ok(())
    }

    /// The same for figures that are nanoseconds per entry, each with its rounds in ascending
    /// order and its allocations per entry.
    pub fn per_entry<'a>(
        &mut self,
        id: &str,
        work: &str,
        payload: usize,
        lines: impl Iterator<Item = (&'a str, &'a [f64], f64)>,
    ) -> Result<()> {
        println!("\n{id}  {work}, {payload} B");
        println!(
            "{:<38} {:>9} {:>6} {:>15} {:>13}",
            "subject", "ns/entry", "ratio", "lowest..highest", "allocs/entry"
        );
        let mut floor = None;
        for (name, ns, allocations) in lines {
            let at = |n: usize| ns.get(n).copied().unwrap_or_default();
            let (median, low, high) = (at(ns.len() / 2), at(0), at(ns.len().saturating_sub(1)));
            let ratio = median / *floor.get_or_insert(median);
            let spread = format!("{low:.0}..{high:.0}");
            println!("{name:<38} {median:>9.0} {ratio:>6.2} {spread:>15} {allocations:>13.2}");
            if let Some(json) = &mut self.json {
                writeln!(
                    json,
                    "{{\"id\":\"{id}\",\"work\":\"{work}\",\"subject\":\"{name}\",\"payload\":{payload},\
                     \"ns_per_entry\":{median:.1},\"lowest\":{low:.1},\"highest\":{high:.1},\
                     \"allocations_per_entry\":{allocations:.3}}}"
                )?;
            }
        }
        Ok(())
    }

    /// Starts: how long each took and how fast it went through the bytes that were there. The
    /// first line is what the ratios refer to.
    pub fn boots(&mut self, id: &str, work: &str, lines: &mut [BootLine]) -> Result<()> {
        println!("\n{id}  {work}");
        println!(
            "{:<38} {:>8} {:>9} {:>17} {:>8} {:>6}",
            "subject", "MiB", "ms", "lowest..highest", "MiB/s", "ratio"
        );
        let mut floor = None;
        for line in lines {
            line.samples.sort_by_key(|sample| sample.1);
            let at = |n: usize| line.samples.get(n).copied().unwrap_or_default();
            let ms = |n: usize| at(n).1.as_secs_f64() * 1e3;
            let (bytes, time) = at(line.samples.len() / 2);
            let mib = bytes as f64 / f64::from(1 << 20);
            let rate = mib / time.as_secs_f64().max(1e-9);
            let ratio = rate / *floor.get_or_insert(rate);
            let (middle, low) = (time.as_secs_f64() * 1e3, ms(0));
            let high = ms(line.samples.len().saturating_sub(1));
            println!(
                "{:<38} {mib:>8.0} {middle:>9.1} {:>17} {rate:>8.0} {ratio:>6.2}",
                line.name,
                format!("{low:.1}..{high:.1}"),
            );
            if let Some(json) = &mut self.json {
                writeln!(
                    json,
                    "{{\"id\":\"{id}\",\"work\":\"{work}\",\"subject\":\"{}\",\"mib\":{mib:.1},\
                     \"ms\":{middle:.2},\"lowest\":{low:.2},\"highest\":{high:.2},\"mib_per_s\":{rate:.1}}}",
                    line.name
                )?;
            }
        }
        Ok(())
    }

    pub fn finish(self) {
        println!(
            "\nentries/s and latencies: medians over the rounds; cpu us: CPU time per entry, of all processes; \
             amp: bytes written per payload byte"
        );
    }
}

fn or_dash(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| format!("{v:.1}"))
}

fn as_json(id: &str, work: &str, line: &Line) -> String {
    let number =
        |value: Option<f64>| value.map_or_else(|| "null".to_owned(), |v| format!("{v:.3}"));
    format!(
        "{{\"id\":\"{id}\",\"work\":\"{work}\",\"subject\":\"{}\",\"payload\":{},\"entries_per_s\":{:.1},\
         \"lowest\":{:.1},\"highest\":{:.1},\"p50_us\":{:.2},\"p99_us\":{:.2},\"p999_us\":{:.2},\
         \"entries_per_sync\":{},\"cpu_us_per_entry\":{:.3},\"bytes_per_payload_byte\":{}}}",
        line.name,
        line.payload,
        line.per_second,
        line.lowest,
        line.highest,
        line.p50_us,
        line.p99_us,
        line.p999_us,
        number(line.entries_per_sync),
        line.cpu_us_per_entry,
        number(line.bytes_per_payload_byte),
    )
}
