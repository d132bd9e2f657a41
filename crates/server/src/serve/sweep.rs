//! Ending what is over: deadlines pass by entries, and somebody has to propose them.

use std::time::Duration;

use refloat_node::Node;
use tokio::time::sleep;

use super::desk::{NodeDesk, wall_ms};
use super::stopping::Stopping;
use crate::kv::{Deadlines, Kv};

const EVERY: Duration = Duration::from_millis(200);

/// Looks at the deadlines again and again, and proposes a sweep where one is over and this node
/// leads. Writes nothing where none is. A refusal is no loss: the next look tries again.
pub async fn run(node: Node<Kv>, deadlines: Deadlines, mut stopping: Stopping) {
    let desk = NodeDesk::new(node);
    loop {
        tokio::select! {
            () = sleep(EVERY) => {}
            () = stopping.wait() => return,
        }
        let groups = deadlines.over(wall_ms());
        if !groups.is_empty() {
            desk.sweep(&groups).await;
        }
    }
}
