//! `refloat recover`: one node goes on after a majority was lost for good.

use std::sync::Arc;

use refloat_node::{GroupRecovery, RecoverError, Recovery, ask_presence, plan_recovery, recover};
use refloat_vfs::{OsFs, Vfs};

use super::args::Recover;
use super::check::store_options;
use super::failure::{Code, Failure, with_causes};
use super::output;

/// Runs the command. Without `--accept-loss`: 0 if it would be done, 20 if not, and nothing is.
pub fn run(args: &Recover) -> Result<(), Failure> {
    let options = store_options(args.data_dir.clone(), &args.files);
    let result = if args.accept_loss {
        let vfs: Arc<dyn Vfs> = Arc::new(OsFs);
        recover(&vfs, &options, &mut ask_presence)
    } else {
        plan_recovery(&OsFs, &options, &mut ask_presence)
    };
    let recovery = result.map_err(|error| failure(&error))?;
    if args.json {
        output::json(&recovery)?;
    } else {
        output::line(text(&recovery, args.accept_loss).trim_end());
    }
    let alive = recovery.lost.iter().find_map(|lost| lost.answers.as_ref().map(|why| (lost, why)));
    alive.map_or(Ok(()), |(lost, why)| {
        let line = format!(
            "node {} is not lost: {why}; with --accept-loss nothing would be done",
            lost.node
        );
        Err(Failure::new(Code::Refused, line))
    })
}

fn text(recovery: &Recovery, done: bool) -> String {
    let Recovery { node, epoch, .. } = recovery;
    let mut text: String = recovery.groups.iter().map(group).collect();
    for group in &recovery.without_replica {
        text.push_str(&format!("group {group}: no replica of it is here; what it held is lost\n"));
    }
    for lost in &recovery.lost {
        let about = match (&lost.answers, &lost.address) {
            (Some(why), Some(address)) => format!("NOT LOST at {address}: {why}"),
            (_, Some(address)) => format!("nobody answers at {address}"),
            (_, None) => "nobody was asked, its address is not known here".into(),
        };
        text.push_str(&format!("node {}: {about}\n", lost.node));
    }
    if recovery.unfinished && !done {
        text.push_str("an earlier recovery of this directory did not get to its end\n");
    }
    let lost: Vec<String> = recovery.lost.iter().map(|lost| lost.node.to_string()).collect();
    let lost = if lost.is_empty() { "none".into() } else { lost.join(", ") };
    text.push_str(&match done {
        true => format!(
            "done: node {node} goes on alone in epoch {epoch}; given up, with what only they had: \
             {lost}; they may come back with an empty directory by join\n"
        ),
        false => format!(
            "nothing was done; with --accept-loss node {node} goes on alone in epoch {epoch}; \
             given up, with what only they have: {lost}\n"
        ),
    });
    text
}

/// One line about a group, and one more about what is cut from it.
fn group(group: &GroupRecovery) -> String {
    let voters: Vec<String> = group.voters.iter().map(u64::to_string).collect();
    let (kept, commit) = (group.kept(), group.commit);
    let mut text = format!(
        "group {}: {}, voters {}, ends with entry {} of term {}, goes on with entries up to {kept}",
        group.group,
        group.state,
        voters.join(", "),
        group.last,
        group.last_term
    );
    if kept > commit {
        text.push_str(&format!("; not known to be committed, and counted so: from {}", commit + 1));
    }
    text.push('\n');
    if let Some(at) = group.cut_from {
        let acknowledged = if at <= commit { ", known to be committed" } else { "" };
        text.push_str(&format!(
            "group {}: entry {at}{acknowledged}, is not readable here; CUT: {at} to {}\n",
            group.group, group.last
        ));
    }
    text
}

fn failure(error: &RecoverError) -> Failure {
    let code = match error {
        RecoverError::Reachable { .. } | RecoverError::NoMember { .. } => Code::Refused,
        RecoverError::Identity(error) => Failure::code_of_identity(error),
        RecoverError::Boot(error) => Failure::code_of_boot(error),
        RecoverError::Poisoned { .. } => Code::Poisoned,
        _ => Code::Other,
    };
    Failure::new(code, with_causes(error))
}
