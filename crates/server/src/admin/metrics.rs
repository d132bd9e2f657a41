//! Metrics in Prometheus' text format, each declared beside its help text.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use refloat_node::{Counters, Status};

use crate::commands::{Service, Traffic};

type Row<T> = (&'static str, &'static str, &'static str, fn(&T) -> u64);

const NODE: &[Row<Counters>] = &[
    ("proposals_total", "counter", "Proposals taken in, forwarded ones included.", |c| c.proposals),
    ("forwarded_total", "counter", "Proposals sent to a leader elsewhere.", |c| c.forwarded),
    ("applied_total", "counter", "Commands applied.", |c| c.applied),
    ("reads_total", "counter", "Linearizable reads answered.", |c| c.reads),
    ("busy_total", "counter", "Requests refused for want of memory.", |c| c.busy),
    ("unknown_total", "counter", "Requests that ended with an unknown outcome.", |c| c.unknown),
    ("no_leader_total", "counter", "Requests that found no leader in time.", |c| c.no_leader),
    ("elections_won_total", "counter", "Elections won by replicas here.", |c| c.elections_won),
    ("role_changes_total", "counter", "Changes of leader or role.", |c| c.role_changes),
    ("frames_sent_total", "counter", "Frames sent to peers.", |c| c.frames_sent),
    ("frames_received_total", "counter", "Frames received from peers.", |c| c.frames_received),
    ("messages_sent_total", "counter", "Raft messages sent.", |c| c.messages_sent),
    ("messages_received_total", "counter", "Raft messages received.", |c| c.messages_received),
    ("refused_messages_total", "counter", "Frames or messages refused.", |c| c.refused),
    ("snapshots_written_total", "counter", "Own snapshots written.", |c| c.snapshots_written),
    ("snapshots_sent_total", "counter", "Snapshots sent whole.", |c| c.snapshots_sent),
    ("snapshots_installed_total", "counter", "Snapshots installed.", |c| c.snapshots_installed),
    ("snapshot_sent_bytes_total", "counter", "Bytes of snapshots read for receivers.", |c| {
        c.snapshot_bytes_sent
    }),
    ("snapshot_inflight_bytes", "gauge", "Bytes of snapshots not acknowledged yet.", |c| {
        c.snapshot_bytes_inflight
    }),
    ("snapshot_waiting_bytes", "gauge", "Bytes of snapshots that wait for the disk here.", |c| {
        c.snapshot_bytes_waiting
    }),
    ("snapshot_receptions", "gauge", "Groups that take a snapshot in.", |c| c.snapshot_receptions),
    ("scrubbed_bytes_total", "counter", "Bytes of sealed files read for rot.", |c| {
        c.scrubbed_bytes
    }),
    ("scrubs_total", "counter", "Walks over all sealed files.", |c| c.scrubs),
    ("rot_total", "counter", "Places of sealed files that do not hold.", |c| c.rot),
    ("live_filled_total", "counter", "Lost live entries that members gave.", |c| c.live_filled),
    ("disk_hangs_total", "counter", "Times the own disk did not answer for too long.", |c| {
        c.disk_hangs
    }),
    ("log_batches_total", "counter", "Batches written to the logs.", |c| c.batches),
    ("log_syncs_total", "counter", "Syncs of the logs.", |c| c.syncs),
    ("pending_bytes", "gauge", "Bytes of requests in flight.", |c| c.pending_bytes),
    ("log_memory_bytes", "gauge", "Bytes of the log held in memory.", |c| c.memory_bytes),
];

const CLIENTS: &[Row<Traffic>] = &[
    ("client_connections_total", "counter", "Client connections taken.", |t| get(&t.connections)),
    ("client_rejected_total", "counter", "Client connections refused.", |t| get(&t.rejected)),
    ("client_commands_total", "counter", "Commands answered.", |t| get(&t.commands)),
    ("client_errors_total", "counter", "Replies that were errors.", |t| get(&t.errors)),
    ("client_protocol_errors_total", "counter", "Broken frames.", |t| get(&t.protocol_errors)),
    ("client_read_bytes_total", "counter", "Bytes from clients.", |t| get(&t.bytes_in)),
    ("client_written_bytes_total", "counter", "Bytes to clients.", |t| get(&t.bytes_out)),
];

/// All metrics of a node.
pub fn text(status: &Status, counters: &Counters, service: &Service) -> String {
    let mut out = String::new();
    rows(NODE, counters, &mut out);
    rows(CLIENTS, &service.traffic, &mut out);
    one(
        "client_unsent_bytes",
        "gauge",
        "Room taken by replies not taken.",
        &mut out,
        |out, name| {
            let _ = writeln!(out, "{name} {}", service.unsent.bytes());
        },
    );
    let help = "Clients dropped, they did not take their replies.";
    one("client_stuck_total", "counter", help, &mut out, |out, name| {
        let _ = writeln!(out, "{name} {}", service.unsent.dropped());
    });
    one("client_connections", "gauge", "Client connections open.", &mut out, |out, name| {
        let _ = writeln!(out, "{name} {}", service.clients.len());
    });
    one("groups", "gauge", "Replicas on this node by state and role.", &mut out, |out, name| {
        let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for group in &status.groups {
            *counts.entry((group.state, group.role)).or_default() += 1;
        }
        for ((state, role), count) in counts {
            let _ = writeln!(out, "{name}{{state=\"{state}\",role=\"{role}\"}} {count}");
        }
    });
    one("leaderless_groups", "gauge", "Replicas that know no leader.", &mut out, |out, name| {
        let count = status.groups.iter().filter(|group| group.leader.is_none()).count();
        let _ = writeln!(out, "{name} {count}");
    });
    out
}

fn rows<T>(table: &[Row<T>], from: &T, out: &mut String) {
    for (name, kind, help, read) in table {
        one(name, kind, help, out, |out, name| {
            let _ = writeln!(out, "{name} {}", read(from));
        });
    }
}

fn one(name: &str, kind: &str, help: &str, out: &mut String, body: impl Fn(&mut String, &str)) {
    let name = format!("refloat_{name}");
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    body(out, &name);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
