//! When to say that the server is ready.

use std::time::Duration;

use refloat_node::Node;
use tokio::time::Instant;

use super::stopping::Stopping;
use crate::admin::readiness;
use crate::commands::Service;
use crate::kv::Kv;

const POLL: Duration = Duration::from_millis(20);
/// How often the status that INFO shows is refreshed once the line is printed.
const REFRESH: Duration = Duration::from_millis(250);
/// A node that is started before its peers says so after this long, instead of keeping who
/// started it waiting.
const PATIENCE: Duration = Duration::from_secs(3);

/// Prints the one line on standard output as soon as every group has a leader, or, if that takes
/// long, what is missing. From the start clients are answered, with `CLUSTERDOWN` if need be.
pub async fn announce(
    node: Node<Kv>,
    service: std::sync::Arc<Service>,
    about: String,
    mut stopping: Stopping,
) {
    let groups = service.options.groups;
    let give_up = Instant::now() + PATIENCE;
    let mut announced = false;
    loop {
        let Ok(status) = node.status().await else { return };
        let ready = readiness(&status, groups);
        service.note_status(status);
        if !announced && (ready.is_ok() || Instant::now() >= give_up) {
            announced = true;
            let state = match ready {
                Ok(()) => format!("{groups} groups have a leader"),
                Err(missing) => format!("waiting: {missing}"),
            };
            println!("ready: {about}; {state}");
        }
        tokio::select! {
            () = tokio::time::sleep(if announced { REFRESH } else { POLL }) => {}
            () = stopping.wait() => return,
        }
    }
}
