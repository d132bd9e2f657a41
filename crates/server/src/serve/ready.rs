//! When to say that the server is ready.

use std::time::Duration;

use refloat_node::Node;
use tokio::time::Instant;

use super::stopping::Stopping;
use crate::admin::readiness;
use crate::cli::output;
use crate::kv::Kv;

const POLL: Duration = Duration::from_millis(20);
/// A node that is started before its peers says so after this long, instead of keeping who
/// started it waiting.
const PATIENCE: Duration = Duration::from_secs(3);

/// Prints the one line on standard output as soon as every group has a leader, or, if that takes
/// long, what is missing. From the start clients are answered, with `CLUSTERDOWN` if need be.
pub async fn announce(node: Node<Kv>, groups: u32, about: String, mut stopping: Stopping) {
    let give_up = Instant::now() + PATIENCE;
    let state = loop {
        let Ok(status) = node.status().await else { return };
        match readiness(&status, groups) {
            Ok(()) => break format!("{groups} groups have a leader"),
            Err(missing) if Instant::now() >= give_up => break format!("waiting: {missing}"),
            Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = stopping.wait() => return,
        }
    };
    output::line(format!("ready: {about}; {state}"));
}
