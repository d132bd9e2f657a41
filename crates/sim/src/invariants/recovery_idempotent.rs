//! Recovery is idempotent: a start that is cut off by another power cut leaves what the next one
//! makes the same of. On copies of a node's disk, so that the run goes on as without.

use std::sync::Arc;

use refloat_log_store::{BootError, GroupState, Options, boot};
use refloat_vfs::{Rng, SimFs, Vfs};

use super::Check;

pub(crate) const NAME: &str = "recovery idempotent";

/// A group as a start sees it: id and epoch, state, term and vote, snapshot and last entry.
type Line = ([u64; 2], GroupState, [u64; 2], [u64; 2]);

/// Starts twice, with a power cut in between.
pub(crate) fn check(disk: &SimFs, options: &Options, seed: u64) -> Check {
    let copy = disk.fork();
    copy.clear_faults();
    copy.crash_at(u64::MAX);
    copy.set_capacity(None);
    let Ok(first) = start(&copy, options) else { return Ok(()) };
    let again = copy.power_cut_random(&mut Rng::new(seed));
    let second = start(&again, options).map_err(|error| format!("the second start: {error}"))?;
    if first == second {
        return Ok(());
    }
    Err(format!("of one disk a start makes {first:?}, and the next one {second:?}"))
}

fn start(disk: &SimFs, options: &Options) -> Result<Vec<Line>, BootError> {
    let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
    let report = boot(&vfs, options.clone())?.report;
    let line = |g: &refloat_log_store::GroupLine| {
        let vote = g.vote.unwrap_or_default();
        ([g.group, g.epoch], g.state, [g.term, vote], [g.snapshot, g.last])
    };
    Ok(report.groups.iter().map(line).collect())
}
