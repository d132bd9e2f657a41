//! Bounded memory: the log in memory and the requests under way stay inside their limits.

use refloat_node::Counters;

use super::Check;

pub(crate) const NAME: &str = "bounded memory";

pub(crate) fn check(node: u64, counters: &Counters, limits: [u64; 2]) -> Check {
    let used = [counters.memory_bytes, counters.pending_bytes];
    for ((name, used), limit) in ["the log in memory", "requests"].iter().zip(used).zip(limits) {
        if used > limit {
            return Err(format!("{name} of node {node}: {used} bytes, allowed are {limit}"));
        }
    }
    Ok(())
}
