//! `refloat check`: explains a data directory and changes nothing.

use refloat_log_store::{BootReport, Options, examine};
use refloat_vfs::OsFs;

use super::args::{Check, Files};
use super::failure::{Code, Failure};
use super::output;

/// Runs the command: 0 if all groups are clean, torn tails included, 10 if peers can heal what
/// is not, else what `serve` would answer.
pub fn run(args: &Check) -> Result<(), Failure> {
    let options = store_options(args.data_dir.clone(), &args.files);
    let examination = examine(&OsFs, &options)?;
    let report = examination.report();
    if args.json {
        let json = serde_json::to_string(report)
            .map_err(|error| Failure::because(Code::Other, "write the report", &error))?;
        output::line(json);
    } else {
        output::line(format!("{report}{}", conclusion(report)));
    }
    if report.is_clean() {
        return Ok(());
    }
    let unclean = report.groups.iter().filter(|group| group.waits_for.is_some());
    let names: Vec<String> =
        unclean.map(|group| format!("group {} is {}", group.group, group.state)).collect();
    Err(Failure::new(Code::Damage, format!("{}: {}", args.data_dir.display(), names.join(", "))))
}

fn conclusion(report: &BootReport) -> String {
    let unclean = report.groups.iter().filter(|group| group.waits_for.is_some()).count();
    match unclean {
        0 => "clean: serve starts with every group".into(),
        n => format!("{n} of {} groups do not start until they are healed", report.groups.len()),
    }
}

/// The store's settings, as the flags give them.
pub fn store_options(data_dir: std::path::PathBuf, files: &Files) -> Options {
    let mut options = Options::new(data_dir);
    options.wal_file_size = files.wal_file_size;
    options.votes_file_size = files.votes_file_size;
    options.direct_io = !files.no_direct_io;
    options
}
