//! State machine safety (figure 3 of the paper): if a replica has applied an entry at an index,
//! no other replica applies a different one there. With it goes a relative: a deterministic machine
//! gives equal replies everywhere.

use std::collections::BTreeMap;

use refloat_types::{GroupKey, Index, IndexSet};

use super::exactly_once::{self, ExactlyOnce};
use super::live_entries::Kept;

/// What all replicas of all groups have applied, and where they differ.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    groups: BTreeMap<GroupKey, BTreeMap<u64, Step>>,
    pub(crate) once: ExactlyOnce,
    /// Group and node → the last command's index and the chain up to it.
    positions: BTreeMap<(GroupKey, u64), (u64, u64)>,
    pub(crate) steps: u64,
    /// The first thing that must not be.
    pub(crate) fault: Option<(&'static str, String)>,
}

/// One command as the first replica applied it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) command: u64,
    pub(crate) reply: u64,
    /// Folds all commands before this one.
    pub(crate) before: u64,
    /// And this one.
    pub(crate) chain: u64,
}

pub(crate) const NAME: &str = "state machine safety";
const DETERMINISM: &str = "determinism of the machine";

impl Applied {
    pub(crate) fn step(&self, group: GroupKey, index: u64) -> Option<Step> {
        self.groups.get(&group)?.get(&index).copied()
    }

    /// To which commands of a group the machines refer, once all of it is applied.
    pub(crate) fn live(&self, group: GroupKey) -> IndexSet {
        let mut kept = Kept::default();
        let indexes = self.groups.get(&group).into_iter().flat_map(BTreeMap::keys);
        indexes.for_each(|index| kept.apply(Index(*index)));
        kept.live
    }

    /// A replica's machine stands here now.
    pub(crate) fn stand(&mut self, at: Place, position: (u64, u64)) {
        self.positions.insert((at.group, at.node), position);
    }

    /// Where the machines of a group stand, by node.
    pub(crate) fn positions(&self, group: GroupKey) -> impl Iterator<Item = (u64, (u64, u64))> {
        let range = (group, 0)..=(group, u64::MAX);
        self.positions.range(range).map(|((_, node), position)| (*node, *position))
    }

    /// Whether a request was applied anywhere.
    pub(crate) fn place_of(&self, request: u64) -> Option<(GroupKey, u64)> {
        self.once.place_of(request)
    }

    /// The chain up to the last command at or below an index.
    pub(crate) fn chain_at(&self, group: GroupKey, index: u64) -> u64 {
        let steps = self.groups.get(&group);
        steps.and_then(|s| s.range(..=index).next_back()).map_or(0, |(_, step)| step.chain)
    }

    pub(crate) fn fail(&mut self, invariant: &'static str, evidence: String) {
        self.fault.get_or_insert((invariant, evidence));
    }

    pub(crate) fn apply(&mut self, at: Place, index: u64, request: Option<u64>, new: Step) {
        self.steps += 1;
        let Place { group, node } = at;
        match self.step(group, index) {
            Some(old) if old.command != new.command || old.chain != new.chain => self.fail(
                NAME,
                format!("node {node} applied another command at index {index} of group {group}"),
            ),
            Some(old) if old.reply != new.reply => self.fail(
                DETERMINISM,
                format!("node {node} got another reply at index {index} of group {group}"),
            ),
            Some(_) => return,
            None => {}
        }
        let last = self.groups.get(&group).and_then(|steps| steps.last_key_value());
        let text = match last {
            Some((last, _)) if *last > index => Some(format!(
                "node {node} applied index {index} of group {group}, which others skipped before {last}"
            )),
            Some((last, step)) if step.chain != new.before => Some(format!(
                "node {node} applied index {index} of group {group} without what others had before \
                 it up to {last}"
            )),
            _ => None,
        };
        if let Some(text) = text {
            self.fail(NAME, text);
        }
        self.groups.entry(group).or_default().insert(index, new);
        if let Some(request) = request
            && let Err(text) = self.once.applied(request, (group, index))
        {
            self.fail(exactly_once::NAME, text);
        }
    }
}

/// Whose machine it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) group: GroupKey,
    pub(crate) node: u64,
}
