//! Clusters that start with logs, and messages to them.

use refloat_raft_core::{Append, Body, Message};
use refloat_types::*;

use super::disk::Disk;
use super::{Cluster, GROUP, conf, log_of, member, settings};

/// Nodes with these logs, given by the term of each entry, all in `term`.
pub fn with_logs(term: u64, logs: &[&[u64]]) -> Cluster {
    let mut c = Cluster::empty();
    let n = logs.len() as u64;
    for (log, id) in logs.iter().zip(1..) {
        c.add(settings(member(id)), Disk::with_log(conf(1..=n), term, log_of(log)));
    }
    c
}

pub fn is_append(m: &Message) -> bool {
    matches!(m.body, Body::Append(_))
}

pub fn is_heartbeat(m: &Message) -> bool {
    matches!(m.body, Body::Heartbeat { .. } | Body::HeartbeatResp { .. })
}

/// Steps an append of a leader into a lone follower, whose disk is slow.
pub fn append(c: &mut Cluster, from: u64, term: u64, prev: EntryId, entries: Vec<Entry>) {
    let body = Body::Append(Append { prev, commit: Index(0), entries });
    c.deliver_one(Message {
        from: member(from),
        to: member(1),
        group: GROUP,
        term: Term(term),
        body,
    });
}
