//! The command line: what to run, and how it ends.
//!
//! Whatever goes wrong is one line on standard error and an exit code of [`failure::Code`].

pub mod args;
mod bench;
mod check;
mod compare;
pub mod failure;
mod init;
mod inspect;
mod inspect_files;
mod join;
mod orders;
pub mod output;
mod progress;
mod recover;
mod repair;
mod status;
pub mod units;

pub use check::store_options;

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use args::{Bench, Cli, Command, Inspect};
use failure::Failure;

/// Runs the program.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    say_panics_in_one_line();
    let result = match Cli::try_parse_from(args) {
        Ok(cli) => catch_unwind(AssertUnwindSafe(|| run(cli.command))),
        Err(error) => Ok(usage(&error)),
    };
    match result {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => {
            output::error_line(&failure);
            failure.exit_code()
        }
        Err(_) => ExitCode::from(failure::Code::Other as u8),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Demo(args) => crate::demo::run(args),
        Command::Init(args) => init::run(args),
        Command::Join(args) => join::run(&args),
        Command::Serve(args) => crate::serve::run(*args),
        Command::Status(args) => status::run(&args),
        Command::Member(order) => orders::member(&order),
        Command::Group(order) => orders::group(&order),
        Command::Transfer(args) => orders::transfer(&args),
        Command::Snapshot(args) => orders::snapshot(&args),
        Command::Check(args) => check::run(&args),
        Command::Inspect(Inspect::Wal(args)) => inspect::run(&args),
        Command::Inspect(Inspect::Segment(args)) => inspect_files::segments(&args),
        Command::Inspect(Inspect::Snapshot(args)) => inspect_files::snapshots(&args),
        Command::Inspect(Inspect::Group(args)) => inspect_files::group(&args),
        Command::Recover(args) => recover::run(&args),
        Command::Repair(args) => repair::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Bench(Bench::Wal(args)) => bench::run(&args),
    }
}

/// Help and version go to standard output; a mistake is one line, not a page.
fn usage(error: &clap::Error) -> Result<(), Failure> {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return Ok(());
    }
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n").map(str::trim).filter(|part| !part.is_empty());
    let first = paragraphs.next().unwrap_or("wrong usage").trim_start_matches("error: ");
    let line = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            "a command is needed: demo, init, join, serve, status, member, group, transfer, snapshot, check, inspect, recover, repair, compare or bench"
        }
        _ => first,
    };
    Err(Failure::usage(format!("{line} (see refloat --help)")))
}

/// The standard message of a panic has several lines. Who contains a panic (a connection, a
/// state machine) goes on; one of the main thread ends the process, with code 1 instead of 101.
fn say_panics_in_one_line() {
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or_default();
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let message: Vec<&str> = message.split_whitespace().collect();
        let message = message.join(" ");
        output::error_line(format!("refloat: internal error at {place}: {message}"));
    }));
}
