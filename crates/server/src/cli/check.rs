//! `refloat check`: explains a data directory and changes nothing.

use refloat_log_store::tools::{Checked, check};
use refloat_log_store::{BootReport, GroupState, Options};
use refloat_vfs::OsFs;

use super::args::{Check, Files};
use super::failure::{Code, Failure};
use super::output;
use super::progress::Progress;

/// Runs the command: 0 if nothing is missing, torn tails included; 10 if `serve` starts and what does
/// not verify has a second copy here or at the peers; else what `serve` would answer.
pub fn run(args: &Check) -> Result<(), Failure> {
    let options = store_options(args.data_dir.clone(), &args.files);
    let progress = Progress::start();
    let checked = check(&OsFs, &options, &mut |what| progress.tell(what))?;
    drop(progress);
    if args.json {
        output::json(&checked)?;
    } else {
        output::line(format!("{checked}{}", conclusion(&checked)));
    }
    let dir = args.data_dir.display();
    if let Some(line) = checked.contradictions.first() {
        let why = format!("{dir}: two readers differ, which is a defect of refloat: {line}");
        return Err(Failure::new(Code::Other, why));
    }
    let unreadable = checked
        .unreadable
        .iter()
        .map(|u| format!("group {} lists entries {} that do not verify", u.group, u.entries));
    let snapshots = checked.snapshots.iter().map(|snapshot| {
        format!(
            "group {} has a snapshot up to {} that does not serve",
            snapshot.group, snapshot.index
        )
    });
    damage(&dir.to_string(), &checked.report, unreadable.chain(snapshots))
}

/// The failure of a directory whose groups are not all clean.
pub fn damage(
    dir: &str,
    report: &BootReport,
    more: impl Iterator<Item = String>,
) -> Result<(), Failure> {
    let unclean = report.groups.iter().filter(|group| group.state != GroupState::Clean);
    let names = unclean.map(|group| format!("group {} is {}", group.group, group.state));
    let names: Vec<String> = names.chain(more).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Code::Damage, format!("{dir}: {}", names.join(", "))))
}

fn conclusion(checked: &Checked) -> String {
    let groups = &checked.report.groups;
    let count = |wanted: fn(GroupState) -> bool| groups.iter().filter(|g| wanted(g.state)).count();
    let stopped = count(|state| state == GroupState::Amnesia);
    let healing = count(|state| state != GroupState::Clean) - stopped;
    let all = groups.len();
    match (stopped, healing, checked.damaged_places()) {
        (0, 0, 0) => "clean: serve starts with every group".into(),
        (0, 0, 1) => "serve starts with every group; one place is damaged".into(),
        (0, 0, n) => format!("serve starts with every group; {n} places are damaged"),
        (0, n, _) => format!("serve starts with every group; {n} of {all} heal from other members"),
        (m, 0, _) => format!("{m} of {all} groups do not start"),
        (m, n, _) => format!("{m} of {all} groups do not start; {n} heal from other members"),
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
