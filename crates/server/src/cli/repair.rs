//! `refloat repair`: puts right what needs no peer; `--dry-run` says what that would be.

use std::sync::Arc;

use refloat_log_store::tools::{Plan, RepairError, plan_repair, repair};
use refloat_vfs::{OsFs, Vfs};
use serde_json::json;

use super::args::Repair;
use super::check::{damage, store_options};
use super::failure::{Code, Failure, with_causes};
use super::output;
use super::progress::Progress;

/// Runs the command: the exit code is what `check` says of the directory afterwards.
pub fn run(args: &Repair) -> Result<(), Failure> {
    let options = store_options(args.data_dir.clone(), &args.files);
    let progress = Progress::start();
    let mut tell = |what: &str| progress.tell(what);
    let plan = if args.dry_run {
        plan_repair(&OsFs, &options, &mut tell)?
    } else {
        let vfs: Arc<dyn Vfs> = Arc::new(OsFs);
        repair(&vfs, &options, &mut tell)?
    };
    drop(progress);
    if args.json {
        output::json(&json!({
            "dry_run": args.dry_run,
            "actions": plan.actions,
            "left": plan.left,
            "report": plan.report,
        }))?;
    } else {
        output::line(format!("{plan}{}", conclusion(&plan, args.dry_run)));
    }
    damage(&args.data_dir.display().to_string(), &plan.report, std::iter::empty())
}

fn conclusion(plan: &Plan, dry_run: bool) -> String {
    match (plan.actions.len(), dry_run) {
        (0, _) => "as it was".into(),
        (n, true) => format!("dry run: {n} steps, none of them done"),
        (n, false) => format!("done: {n} steps"),
    }
}

impl From<RepairError> for Failure {
    fn from(error: RepairError) -> Failure {
        let code = match &error {
            RepairError::Boot(error) => Failure::code_of_boot(error),
            RepairError::Write { .. } => Code::Poisoned,
            _ => Code::Other,
        };
        Failure::new(code, with_causes(&error))
    }
}
