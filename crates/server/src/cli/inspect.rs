//! `refloat inspect wal`: the log as the scan of a start sees it. Changes nothing.

use std::io::{self, BufWriter, Write};

use refloat_log_store::identity;
use refloat_types::{EntryId, Generation, LogOp};
use refloat_vfs::OsFs;
use refloat_wal::{Damage, FileReport, Lsn, Options, Record, Trust, Visit, scan};
use serde_json::json;

use super::args::InspectWal;
use super::failure::{Code, Failure};

/// Runs the command.
pub fn run(args: &InspectWal) -> Result<(), Failure> {
    let identity = identity::load(&OsFs, &args.data_dir)?;
    let dir = args.data_dir.join(if args.votes { "votes" } else { "wal" });
    let mut options = Options::new(dir, identity.identity);
    options.file_size =
        if args.votes { args.files.votes_file_size } else { args.files.wal_file_size };
    let mut printer = Printer {
        out: BufWriter::new(io::stdout().lock()),
        json: args.json,
        records: args.records,
        failed: None,
    };
    let refused = |error| Failure::because(Code::Refused, "read the log", &error);
    let mut scan = scan(&OsFs, &options, &mut printer).map_err(refused)?;
    if !scan.damage.is_empty() {
        // A reader that a running node overtakes sees contradictions: once, and never again.
        let again = refloat_wal::scan(&OsFs, &options, &mut Silent).map_err(refused)?;
        scan.damage.retain(|damage| again.damage.contains(damage));
        scan.files = again.files;
    }
    printer.files(&scan.files);
    printer.damage_list(&scan.damage);
    printer.line(|out, json| match (json, scan.strays.is_empty()) {
        (true, _) | (false, true) => Ok(()),
        (false, false) => writeln!(out, "{} files that are not part of the log", scan.strays.len()),
    });
    printer.finish()
}

struct Silent;

impl Visit for Silent {
    fn record(&mut self, _: Lsn, _: Trust, _: Record, _: &[EntryId]) {}
}

struct Printer<W> {
    out: W,
    json: bool,
    records: bool,
    failed: Option<io::Error>,
}

impl<W: Write> Printer<W> {
    fn line(&mut self, write: impl FnOnce(&mut W, bool) -> io::Result<()>) {
        if self.failed.is_none() {
            self.failed = write(&mut self.out, self.json).err();
        }
    }

    fn files(&mut self, files: &[FileReport]) {
        for file in files {
            self.line(|out, json| {
                if !json {
                    return writeln!(out, "{file}");
                }
                let line = json!({
                    "file": file.generation.0,
                    "path": file.path,
                    "len": file.len,
                    "batches": file.batches,
                    "end": file.end,
                    "verdict": format!("{:?}", file.verdict),
                    "linked": file.linked,
                    "closed": file.closed,
                });
                writeln!(out, "{line}")
            });
        }
    }

    fn damage_list(&mut self, damages: &[Damage]) {
        for damage in damages {
            self.line(|out, json| {
                if !json {
                    return writeln!(out, "{damage}");
                }
                let line = json!({
                    "damage": format!("{:?}", damage.kind),
                    "batch": damage.at.to_string(),
                    "path": damage.path,
                    "offset": damage.offset,
                    "blocks": damage.blocks,
                    "evidence": damage.evidence,
                });
                writeln!(out, "{line}")
            });
        }
    }

    /// A reader that went away, as `head` does, is no failure.
    fn finish(mut self) -> Result<(), Failure> {
        let flushed = self.out.flush();
        match self.failed.map_or(flushed, Err) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::because(Code::Other, "write to standard output", &error))
            }
            _ => Ok(()),
        }
    }
}

impl<W: Write> Visit for Printer<W> {
    fn file(&mut self, generation: Generation) {
        if self.records && !self.json {
            self.line(|out, _| writeln!(out, "file {generation}"));
        }
    }

    fn record(&mut self, at: Lsn, trust: Trust, record: Record, missing: &[EntryId]) {
        if !self.records {
            return;
        }
        let group = record.group();
        let (what, detail) = describe(&record);
        self.line(|out, json| {
            if json {
                let line = json!({
                    "batch": at.to_string(),
                    "trust": format!("{trust:?}"),
                    "group": group.id.0,
                    "epoch": group.epoch.0,
                    "record": what,
                    "detail": detail,
                    "missing": missing.len(),
                });
                return writeln!(out, "{line}");
            }
            let lost = match missing.len() {
                0 => String::new(),
                n => format!(", {n} entries missing"),
            };
            writeln!(out, "  batch {at} group {group}: {what} {detail} ({trust:?}{lost})")
        });
    }
}

fn describe(record: &Record) -> (&'static str, String) {
    match record {
        Record::State { body, .. } => ("state", format!("{} bytes", body.len())),
        Record::Log { op, .. } => match op {
            LogOp::Append { prev, entries } => ("append", span(entries, &format!("behind {prev}"))),
            LogOp::Fill { entries } => ("fill", span(entries, "in place")),
            LogOp::Cut { from } => ("cut", format!("from {from}")),
        },
    }
}

fn span(entries: &[refloat_types::Entry], place: &str) -> String {
    let bytes: usize = entries.iter().map(|entry| entry.payload.len()).sum();
    match (entries.first(), entries.last()) {
        (Some(first), Some(last)) => {
            format!("{} to {} {place}, {bytes} bytes", first.id.index, last.id)
        }
        _ => format!("nothing {place}"),
    }
}
