//! Entries that a state refers to, read back from the logs.

use refloat_node::{Command, Input};
use refloat_types::{GroupKey, IndexSet};

use super::World;
use crate::client::What;
use crate::invariants::live_entries;

impl World {
    /// Asks a node for some of what its machine of a group may refer to.
    pub(super) fn ask_for_some(&mut self, node: usize) {
        let known = self.catalog(node).unwrap_or_default();
        let known: Vec<GroupKey> = known.into_iter().filter(|key| *key != GroupKey::META).collect();
        if known.is_empty() {
            return;
        }
        let group = known[self.rng.index(known.len())];
        let live = self.checks.applied.lock().live(group);
        let from = self.rng.below(live.len().max(1)) as usize;
        let some: IndexSet = live.iter().skip(from).take(8).collect();
        self.count("logs read");
        self.ask_for(node, group, some, false);
    }

    /// Asks every node for all that its machines refer to; they are settled.
    pub(super) fn ask_for_all(&mut self) {
        for node in 0..self.machines.len() {
            for group in self.catalog(node).unwrap_or_default() {
                let live = self.checks.applied.lock().live(group);
                self.ask_for(node, group, live, true);
            }
        }
    }

    pub(super) fn ask_for(&mut self, node: usize, group: GroupKey, indexes: IndexSet, all: bool) {
        if !indexes.is_empty() {
            let what = What::Log(group, indexes.clone(), all);
            let id = group.id;
            self.order_for(node, id, what, |to| Input::ReadLog { to, group: id, indexes });
        }
    }

    /// A part of it came, the lowest first.
    pub(super) fn log_read(
        &mut self,
        node: usize,
        group: GroupKey,
        wanted: &IndexSet,
        all: bool,
        read: &[Command],
    ) {
        // A group that was deleted and created again has other commands.
        if self.catalog(node).is_some_and(|known| known.contains(&group)) {
            let check =
                live_entries::check(&self.checks.applied.lock(), group, node as u64 + 1, read);
            self.checks.note(live_entries::NAME, check);
        }
        let mut rest = wanted.clone();
        read.iter().for_each(|command| rest.remove_range(command.index, command.index));
        if all && rest.len() < wanted.len() {
            self.ask_for(node, group, rest, true);
        } else if all && !rest.is_empty() {
            let text = format!("node {} gives none of {rest} of group {group}", node + 1);
            self.checks.note(live_entries::NAME, Err(text));
        }
    }
}
