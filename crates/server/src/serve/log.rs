//! The log on standard error: plain lines, colour only for a person at a terminal.

use std::io::{self, IsTerminal, Write};

use refloat_log_store::{BootReport, GroupState};
use tracing_subscriber::EnvFilter;

/// Starts logging. `REFLOAT_LOG` chooses what is shown, as `warn` or `refloat_node=debug,info`.
pub fn start() {
    let filter = EnvFilter::try_from_env("REFLOAT_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| BestEffort)
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .try_init();
}

/// Standard error, where a line that cannot be written is a line less: the log may stand on the
/// disk that is full, and that stops no node.
struct BestEffort;

impl Write for BestEffort {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How many whole groups have a line each; the rest is counted.
const WHOLE_GROUPS_SHOWN: usize = 64;

/// Logs what the start found: ordinary things as `info`, damage and repairs as `warn`.
pub fn boot_report(report: &BootReport) {
    tracing::info!("boot: {}", report.summary());
    for file in &report.files {
        tracing::info!(
            "boot: log file {}: {} batches, ends at {}, {}",
            file.path,
            file.batches,
            file.end,
            file.verdict
        );
    }
    for line in &report.repaired {
        tracing::warn!("boot: repaired: {line}");
    }
    for line in &report.set_aside {
        tracing::warn!("boot: set aside: {line}");
    }
    for line in &report.damage {
        tracing::warn!("boot: damage: {line}");
    }
    let mut whole = 0;
    for group in &report.groups {
        if group.waits_for.is_none() {
            whole += 1;
            if whole > WHOLE_GROUPS_SHOWN {
                continue;
            }
        }
        let line = format!(
            "boot: group {} is {}, term {}, snapshot {}, last {}, commit {} or higher",
            group.group, group.state, group.term, group.snapshot, group.last, group.commit
        );
        match &group.waits_for {
            None => tracing::info!("{line}"),
            Some(why) if group.state == GroupState::Amnesia => {
                tracing::warn!("{line}; it does not run: {why}")
            }
            Some(why) => tracing::warn!("{line}; it heals from the other members: {why}"),
        }
    }
    if whole > WHOLE_GROUPS_SHOWN {
        tracing::info!("boot: {} more groups are clean", whole - WHOLE_GROUPS_SHOWN);
    }
}
