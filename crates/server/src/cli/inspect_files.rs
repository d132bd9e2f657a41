//! `refloat inspect segment`, `snapshot`, `group`: print what the library found.

use std::fmt::Display;

use refloat_log_store::tools::{inspect_group, inspect_segments, inspect_snapshots};
use refloat_vfs::OsFs;
use serde::Serialize;

use super::args::{InspectFiles, InspectGroup};
use super::check::store_options;
use super::failure::{Code, Failure};
use super::output;
use super::progress::Progress;

/// Every segment file, verified.
pub fn segments(args: &InspectFiles) -> Result<(), Failure> {
    let options = store_options(args.data_dir.clone(), &args.files);
    let progress = Progress::start();
    let reports = inspect_segments(&OsFs, &options, &mut |what| progress.tell(what))?;
    drop(progress);
    print(args.json, &reports, "no segment files")
}

/// Every snapshot file, verified.
pub fn snapshots(args: &InspectFiles) -> Result<(), Failure> {
    let options = store_options(args.data_dir.clone(), &args.files);
    let progress = Progress::start();
    let reports = inspect_snapshots(&OsFs, &options, &mut |what| progress.tell(what))?;
    drop(progress);
    print(args.json, &reports, "no snapshot files")
}

/// The whole story of one group.
pub fn group(args: &InspectGroup) -> Result<(), Failure> {
    let options = store_options(args.data_dir.clone(), &args.files);
    let progress = Progress::start();
    let story = inspect_group(&OsFs, &options, args.group, &mut |what| progress.tell(what))?;
    drop(progress);
    let Some(story) = story else {
        let (dir, id) = (args.data_dir.display(), args.group.id);
        let epoch = args.group.epoch.map(|epoch| format!(" of epoch {epoch}")).unwrap_or_default();
        return Err(Failure::new(Code::Other, format!("{dir} holds no group {id}{epoch}")));
    };
    if args.json { output::json(&story) } else { print(false, &[story], "") }
}

fn print<T: Display + Serialize>(json: bool, reports: &[T], none: &str) -> Result<(), Failure> {
    if json {
        return reports.iter().try_for_each(output::json);
    }
    if reports.is_empty() {
        output::line(none);
    }
    for report in reports {
        output::line(report.to_string().trim_end());
    }
    Ok(())
}
