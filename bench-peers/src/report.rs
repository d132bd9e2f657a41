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
