//! Nanoseconds per committed entry of three cores in one thread, by direct calls, with a disk
//! that is always done: the cost of the consensus core alone.
//!
//! `cargo run --release -p refloat-raft-core --example throughput`
#![allow(clippy::disallowed_methods, reason = "an example measures time")]

use std::time::Instant;

use bytes::Bytes;
use refloat_raft_core::{Config, Core, Restored};
use refloat_types::*;

fn main() {
    for batch in [1, 100] {
        let ns = measure(batch, 1_000_000 / if batch == 1 { 4 } else { 1 });
        println!("batch {batch}: {ns:.0} ns per committed entry");
    }
}

fn measure(batch: usize, entries: usize) -> f64 {
    let members = [1, 2, 3].map(|n| Member::new(NodeId(n), Incarnation(n.into())));
    let start = Restored::empty(ConfState::of_voters(members));
    let group = GroupKey::new(GroupId(1), Epoch(1));
    let mut cores = members.map(|m| {
        Core::new(Config::new(m, group), start.clone(), Now(0)).expect("an empty log is sound")
    });
    cores[0].campaign(Now(0));
    settle(&mut cores);
    let payload = Bytes::from(vec![7; 128]);
    let digest = Digest::of(EntryKind::Command, &payload);
    let before = cores[0].commit();
    let begun = Instant::now();
    for _ in 0..entries / batch {
        let commands = vec![(payload.clone(), digest); batch];
        cores[0].propose(Now(0), commands).expect("the first core leads");
        settle(&mut cores);
    }
    let took = begun.elapsed();
    let committed = cores[0].commit() - before;
    assert_eq!(committed as usize, entries / batch * batch);
    took.as_nanos() as f64 / committed as f64
}

fn settle(cores: &mut [Core; 3]) {
    loop {
        let mut quiet = true;
        for n in 0..3 {
            while let Some(ready) = cores[n].ready() {
                quiet = false;
                for message in ready.messages {
                    let to = message.to.node.0 as usize - 1;
                    cores[to].step(Now(0), message).expect("a sound message");
                }
                if let Some(persist) = &ready.persist {
                    cores[n].on_persisted(Now(0), persist.ticket);
                }
                if let Some((_, last)) = ready.committed {
                    cores[n].on_applied(Now(0), last);
                }
            }
        }
        if quiet {
            return;
        }
    }
}
