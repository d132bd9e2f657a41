//! A machine that keeps the payloads in the log.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use refloat_node::{
    Chunks, Command, Consistency, Input, RequestError, RestoreError, SnapshotReader, StateMachine,
};
use refloat_types::{GroupId, Index, IndexSet};

use super::Cluster;

/// Remembers only where the commands are that begin with `keep`; their content stays in the log.
#[derive(Default)]
pub struct Keeper {
    kept: IndexSet,
}

impl StateMachine for Keeper {
    fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
        let kept = batch.iter().filter(|command| command.payload.starts_with(b"keep"));
        kept.for_each(|command| self.kept.insert(command.index));
        vec![Bytes::new(); batch.len()]
    }

    fn snapshot(&mut self) -> Chunks {
        let indexes: Vec<u8> = self.kept.iter().flat_map(|index| index.0.to_le_bytes()).collect();
        Box::new(std::iter::once(indexes.into()))
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader<'_>) -> Result<(), RestoreError> {
        self.kept = IndexSet::new();
        while !snapshot.is_over() {
            self.kept.insert(Index(u64::from_le_bytes(snapshot.array()?)));
        }
        Ok(())
    }

    fn live_indexes(&self) -> IndexSet {
        self.kept.clone()
    }
}

pub fn keeping(cluster: &mut Cluster) {
    cluster.machines = Some(Arc::new(|_, _| Box::<Keeper>::default()));
}

/// Where the kept commands of group 1 are, as a node's machine says.
pub fn kept(cluster: &mut Cluster, node: u64) -> Vec<u64> {
    let ask = |machine: &mut dyn StateMachine| {
        let machine: &mut dyn Any = machine;
        let keeper = machine.downcast_mut::<Keeper>().expect("a keeper");
        let indexes: Vec<String> = keeper.kept.iter().map(|index| index.0.to_string()).collect();
        Bytes::from(indexes.join(" "))
    };
    let text = cluster.ask(node, 1, Consistency::Stale, Box::new(ask)).expect("read");
    text.split_whitespace().map(|index| index.parse().expect("a number")).collect()
}

/// What a node's log gives back of group 1, in as many answers as it takes.
pub fn all_commands(
    cluster: &mut Cluster,
    node: u64,
    indexes: &[u64],
) -> Result<Vec<(u64, String)>, RequestError> {
    let mut all: Vec<(u64, String)> = Vec::new();
    while all.len() < indexes.len() {
        all.extend(commands(cluster, node, &indexes[all.len()..])?);
    }
    Ok(all)
}

/// What it gives back in one answer: index and payload of each command.
pub fn commands(
    cluster: &mut Cluster,
    node: u64,
    indexes: &[u64],
) -> Result<Vec<(u64, String)>, RequestError> {
    let indexes = indexes.iter().map(|index| Index(*index)).collect();
    let token = cluster.input(node, |to| Input::ReadLog { to, group: GroupId(1), indexes });
    let reply = cluster.answer(token)?;
    let text = |payload: &Bytes| String::from_utf8_lossy(payload).into_owned();
    Ok(reply.commands.iter().map(|c| (c.index.0, text(&c.payload))).collect())
}
