//! Commands about the server: INFO, CONFIG, CLUSTER.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use refloat_node::Status;

use crate::kv::{group_of_slot, matches, slot_of_key};
use crate::resp::Reply;

use super::outcome::{Describe, Outcome};
use super::table::Handler;
use super::{Context, Service, subcommand};

/// The version of Redis whose texts and replies are spoken.
pub const REDIS_VERSION: &str = "7.0.0";

static CONFIG: &[(&str, i32, Handler)] = &[
    ("get", -3, config_get),
    ("resetstat", 2, |_, _| Outcome::Reply(Reply::OK)),
    ("set", -4, |_, _| {
        super::outcome::fail("ERR settings are given as flags of refloat serve, not by CONFIG SET")
    }),
];

static CLUSTER: &[(&str, i32, Handler)] = &[
    ("info", 2, |_, _| Describe::by(|service, status| Reply::text(cluster_info(service, status)))),
    ("keyslot", 3, |_, args| Outcome::Reply(Reply::Int(slot_of_key(&args[0]).into()))),
    ("myid", 2, |_, _| {
        // Forty hex digits, as clients expect: the incarnation and the node's number.
        Describe::by(|_, status| {
            Reply::text(format!("{:0>32}{:08x}", status.incarnation, status.node))
        })
    }),
];

pub fn config(context: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    match subcommand("config", CONFIG, args) {
        Ok((handler, rest)) => handler(context, rest),
        Err(refused) => refused,
    }
}

pub fn cluster(context: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    match subcommand("cluster", CLUSTER, args) {
        Ok((handler, rest)) => handler(context, rest),
        Err(refused) => refused,
    }
}

/// Writes one section of INFO.
type Section = fn(&Service, &Status) -> String;

pub fn info(_: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    const SECTIONS: [(&str, Section); 5] = [
        ("server", server_section),
        ("clients", clients_section),
        ("stats", stats_section),
        ("replication", replication_section),
        ("cluster", |_, _| "cluster_enabled:0\r\n".into()),
    ];
    let wanted: Vec<_> = SECTIONS.into_iter().filter(|(name, _)| asks_for(args, name)).collect();
    Describe::by(move |service, status| {
        let sections = wanted.iter().map(|(name, section)| {
            let title = name[..1].to_ascii_uppercase() + &name[1..];
            format!("# {title}\r\n{}", section(service, status))
        });
        Reply::text(sections.collect::<Vec<_>>().join("\r\n"))
    })
}

fn asks_for(args: &[Bytes], section: &str) -> bool {
    let all = ["all", "default", "everything", section];
    let names_it = |arg: &Bytes| all.iter().any(|name| arg.eq_ignore_ascii_case(name.as_bytes()));
    args.is_empty() || args.iter().any(names_it)
}

fn config_get(context: &mut Context<'_>, patterns: &[Bytes]) -> Outcome {
    let options = &context.service.options;
    let settings = [
        ("appendfsync", "always".to_owned()),
        ("appendonly", "yes".to_owned()),
        ("databases", "1".to_owned()),
        ("dir", options.data_dir.clone()),
        ("maxclients", options.clients_max.to_string()),
        ("maxmemory", "0".to_owned()),
        ("maxmemory-policy", "noeviction".to_owned()),
        ("port", options.port.to_string()),
        ("proto-max-bulk-len", options.value_len_max.to_string()),
        ("save", String::new()),
        ("timeout", "0".to_owned()),
    ];
    let wanted = |name: &str| {
        patterns.iter().any(|pattern| matches(&pattern.to_ascii_lowercase(), name.as_bytes()))
    };
    let pairs = settings.into_iter().filter(|(name, _)| wanted(name));
    let pairs = pairs.map(|(name, value)| (Reply::text(name), Reply::text(value)));
    Outcome::Reply(Reply::Map(pairs.collect()))
}

fn server_section(service: &Service, status: &Status) -> String {
    format!(
        "redis_version:{REDIS_VERSION}\r\nrefloat_version:{}\r\nredis_mode:standalone\r\n\
         os:{} {}\r\narch_bits:{}\r\nprocess_id:{}\r\nrun_id:{:0>32}{:08x}\r\ntcp_port:{}\r\n\
         uptime_in_seconds:{}\r\nrefloat_cluster:{}\r\nrefloat_node:{}\r\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
        usize::BITS,
        std::process::id(),
        status.incarnation,
        status.run,
        service.options.port,
        service.started.elapsed().as_secs(),
        status.cluster_name,
        status.node,
    )
}

fn clients_section(service: &Service, _: &Status) -> String {
    format!(
        "connected_clients:{}\r\nmaxclients:{}\r\n",
        service.clients.len(),
        service.options.clients_max
    )
}

fn stats_section(service: &Service, _: &Status) -> String {
    let traffic = &service.traffic;
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    format!(
        "total_connections_received:{}\r\ntotal_commands_processed:{}\r\n\
         total_net_input_bytes:{}\r\ntotal_net_output_bytes:{}\r\nrejected_connections:{}\r\n\
         total_error_replies:{}\r\nrefloat_unknown_outcomes:{}\r\n",
        read(&traffic.connections),
        read(&traffic.commands),
        read(&traffic.bytes_in),
        read(&traffic.bytes_out),
        read(&traffic.rejected),
        read(&traffic.errors),
        read(&traffic.unknown_outcomes),
    )
}

/// Every node takes writes, so every node is a master to clients.
fn replication_section(_: &Service, status: &Status) -> String {
    let mut text = "role:master\r\nconnected_slaves:0\r\n".to_owned();
    for group in status.groups.iter().filter(|group| group.group > 0) {
        let leader = group.leader.map_or("none".to_owned(), |leader| leader.to_string());
        let _ = write!(
            text,
            "refloat_group_{}:role={},leader={leader},term={},applied={},state={}\r\n",
            group.group, group.role, group.term, group.applied, group.state
        );
    }
    text
}

fn cluster_info(service: &Service, status: &Status) -> String {
    let groups = service.options.groups;
    let led = |id: u64| status.groups.iter().any(|g| g.group == id && g.leader.is_some());
    let slots_ok = (0..crate::kv::SLOTS).filter(|slot| led(group_of_slot(*slot, groups).0)).count();
    format!(
        "cluster_enabled:0\r\ncluster_state:{}\r\ncluster_slots_assigned:{}\r\n\
         cluster_slots_ok:{slots_ok}\r\nrefloat_groups:{groups}\r\n",
        if slots_ok == usize::from(crate::kv::SLOTS) { "ok" } else { "fail" },
        crate::kv::SLOTS,
    )
}
