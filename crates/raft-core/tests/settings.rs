//! Settings at their ends: refused with a name, or at work.

mod common;

use common::*;
use refloat_raft_core::*;
use refloat_types::*;

fn new(adjust: impl Fn(&mut Config)) -> Result<Core, RestoreError> {
    let mut config = settings(member(1));
    adjust(&mut config);
    Core::new(config, Restored::empty(conf(1..=3)), Now(0))
}

#[test]
fn a_setting_that_cannot_work_is_refused_with_its_name_what_it_is_and_what_would_work() {
    type Adjust = fn(&mut Config);
    let refused: [(&str, u64, Adjust); 14] = [
        ("election_timeout", 0, |c| c.election_timeout = 0),
        ("election_timeout", 1, |c| c.election_timeout = 1),
        ("election_timeout", u64::MAX, |c| c.election_timeout = u64::MAX),
        ("heartbeat", 0, |c| c.heartbeat = 0),
        ("heartbeat", E / 2 + 1, |c| c.heartbeat = E / 2 + 1),
        ("heartbeat", u64::MAX, |c| c.heartbeat = u64::MAX),
        ("lease_drift", E, |c| c.lease_drift = Some(E)),
        ("quiet_after", u64::MAX, |c| c.quiet_after = Some(u64::MAX)),
        ("max_append_bytes", 0, |c| c.max_append_bytes = 0),
        ("max_append_bytes", 1 << 31, |c| c.max_append_bytes = 1 << 31),
        ("max_inflight_msgs", 0, |c| c.max_inflight_msgs = 0),
        ("max_inflight_bytes", 0, |c| c.max_inflight_bytes = 0),
        ("snapshot_backoff", 0, |c| c.snapshot_backoff = 0),
        ("snapshot_backoff", u64::MAX, |c| c.snapshot_backoff = u64::MAX),
    ];
    for (name, value, adjust) in refused {
        match new(adjust).map(drop) {
            Err(RestoreError::Setting { field, found, least, most }) => {
                assert_eq!((field, found), (name, value));
                assert!(found < least || found > most, "{field}: {least} to {most}");
            }
            other => panic!("{name} of {value}: {other:?}"),
        }
    }
    let text = new(|c| c.heartbeat = 0).map(drop).unwrap_err().to_string();
    assert_eq!(text, "restore replica: heartbeat is 0, expected 1 to 500");
}

/// Healing divides a message among the holes that are asked for.
#[test]
fn the_least_and_the_most_that_is_allowed_works() {
    type Adjust = fn(&mut Config);
    let ends: [Adjust; 9] = [
        |c| c.max_append_bytes = 1,
        |c| c.max_append_bytes = 15,
        |c| c.max_append_bytes = 1 << 30,
        |c| (c.max_inflight_msgs, c.max_inflight_bytes) = (1, 1),
        |c| (c.max_inflight_msgs, c.max_inflight_bytes) = (usize::MAX, u64::MAX),
        |c| c.max_uncommitted_bytes = 0,
        |c| c.max_uncommitted_bytes = u64::MAX,
        |c| c.snapshot_backoff = 1 << 48,
        |c| c.lease_drift = Some(0),
    ];
    for (n, adjust) in ends.into_iter().enumerate() {
        let mut c = Cluster::with(3, adjust);
        c.elect(1);
        for k in 0..12 {
            c.propose(1, &format!("{k}")).unwrap();
            c.stabilize();
        }
        c.crash(3);
        for index in [3, 5, 7, 9] {
            c.node(3).disk.lose(index);
        }
        c.restart(3);
        // Some of the holes are another one's too.
        c.crash(2);
        (c.node(2)).disk.lose(5);
        c.restart(2);
        c.run(8 * E);
        assert!(c.status(3).holes.is_empty(), "{n}: {}", c.status(3).holes);
        assert_eq!(c.status(3).commit, c.status(1).commit, "{n}");
    }
}

/// A message is divided among the ranges that are asked for.
#[test]
fn holes_are_filled_from_what_is_not_written_yet_however_little_a_message_holds() {
    let mut c = Cluster::with(3, |config| config.max_append_bytes = 1);
    c.elect(1);
    c.run(2 * BEAT);
    let (term, last) = (c.status(1).term, c.status(2).last.index);
    for n in 0..4 {
        c.propose(1, &format!("{n}")).unwrap();
    }
    let (appends, rest): (Vec<_>, Vec<_>) =
        std::mem::take(&mut c.wire).into_iter().partition(|m| m.to == member(2));
    c.wire = rest;
    let ranges = [last + 1, last + 3].map(|at| HoleRange { term, first: at, last: at }).to_vec();
    let body = Body::HoleAsk { ranges };
    let ask = Message { from: member(3), to: member(2), group: GROUP, term, body };
    c.with_core(2, |core, now| {
        for message in appends.into_iter().chain([ask]) {
            core.step(now, message).unwrap();
        }
    });
    let gifts = c.wire.iter().filter(|m| matches!(m.body, Body::HoleHave { .. }));
    assert_eq!(gifts.count(), 2);
}
