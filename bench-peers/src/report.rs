//! The table for people and the lines for programs.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use crate::measure::{Line, Plan, Result};

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

    pub fn finish(self) {
        println!(
            "\nentries/s and latencies: medians over the rounds; amp: bytes written per payload byte"
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
