//! The load: clients with one request under way each.

use std::collections::{BTreeMap, VecDeque};

use crate::invariants::linearizability::Floors;
use bytes::Bytes;
use refloat_types::codec::Put;
use refloat_types::{GroupId, GroupKey, IndexSet};

/// Requests under way, by token.
#[derive(Default)]
pub(crate) struct Clients {
    pub(crate) open: BTreeMap<u64, Request>,
    pub(crate) next_token: u64,
    /// Writes that were acknowledged, and when.
    pub(crate) acknowledged: VecDeque<(u64, Bytes)>,
    /// Whether they also use groups that come and go.
    pub(crate) passing: bool,
    pub(crate) unknown: u64,
    pub(crate) refused: u64,
}

/// One request.
pub(crate) struct Request {
    pub(crate) client: Client,
    pub(crate) node: usize,
    pub(crate) boot: u64,
    pub(crate) group: GroupId,
    /// What was finished in the group when it began.
    pub(crate) floors: Floors,
    pub(crate) what: What,
    /// Its place in the history, if it has one.
    pub(crate) operation: Option<usize>,
}

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// One of the load's clients.
    Load,
    /// One of very many at once.
    Burst,
    /// After the heal: a write through each node to each group.
    Probe,
    /// Transfers and snapshots.
    Operator,
}

/// What was asked.
pub(crate) enum What {
    /// The command with its request number.
    Write(Bytes),
    Read,
    StaleRead,
    /// Commands of the log. Whether all of them must be there.
    Log(GroupKey, IndexSet, bool),
    /// Something of this group's, or with it.
    Other(GroupId),
}

impl Clients {
    pub(crate) fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    /// Takes out what was under way at a process that is gone: its outcome stays open.
    pub(crate) fn lost(&mut self, node: usize) -> Vec<Request> {
        let tokens: Vec<u64> =
            self.open.iter().filter(|(_, r)| r.node == node).map(|(token, _)| *token).collect();
        tokens.into_iter().filter_map(|token| self.open.remove(&token)).collect()
    }
}

/// Every command starts with the number of the request that brought it.
pub(crate) const REQUEST_LEN: usize = 8;

/// The number of what no client asked for; theirs begin with 1.
pub(crate) const NO_REQUEST: u64 = 0;

/// A command that starts with the number of its request.
pub(crate) fn numbered(request: u64, command: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(REQUEST_LEN + command.len());
    bytes.put_u64(request);
    bytes.put_slice(command);
    bytes.into()
}
