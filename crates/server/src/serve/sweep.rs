//! Ending what is over: deadlines pass by entries, and somebody has to propose them.

use std::time::Duration;

use bytes::Bytes;
use refloat_node::{Consistency, Node};
use refloat_types::GroupId;

use super::desk::wall_ms;
use super::stopping::Stopping;
use crate::kv::{Kv, Op, Ops};

const EVERY: Duration = Duration::from_millis(200);

/// Looks at the groups that this node leads, again and again, and proposes a sweep where a
/// deadline is over. Writes nothing where none is.
pub async fn run(node: Node<Kv>, mut stopping: Stopping) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stopping.wait() => return,
        }
        let Ok(status) = node.status().await else { return };
        for led in status.groups.iter().filter(|g| g.group > 0 && g.role == "leader") {
            let group = node.group(GroupId(led.group));
            let due = |kv: &Kv| kv.needs_sweep(wall_ms());
            while let Ok(true) = group.read(Consistency::Stale, due).await {
                // A refusal is no loss: the next look tries again.
                let sweep: Bytes = Ops::encode(&[Op::Sweep]);
                if group.propose_stamped(sweep).await.is_err() {
                    break;
                }
            }
        }
    }
}
