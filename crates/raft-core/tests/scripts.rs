//! Runs the scripts in `tests/testdata`: commands, and the trace that they must leave.
//!
//! `REWRITE=1 cargo test -p refloat-raft-core --test scripts` writes the traces anew.

mod common;

use common::args::Args;
use common::disk::Disk;
use common::*;
use datadriven::{TestCase, walk};
use refloat_raft_core::*;
use refloat_types::*;

#[test]
fn scripts_leave_the_expected_traces() {
    walk("tests/testdata", |file| {
        let mut c = Cluster::empty();
        file.run(|case| command_of(&mut c, case));
    });
}

fn command_of(c: &mut Cluster, case: &TestCase) -> String {
    let args = Args(case);
    c.trace.clear();
    let answer = run(c, case.directive.as_str(), &args);
    let mut lines = std::mem::take(&mut c.trace);
    lines.extend(answer);
    if lines.is_empty() {
        lines.push("ok".into());
    }
    lines.join("\n") + "\n"
}

fn run(c: &mut Cluster, directive: &str, args: &Args<'_>) -> Option<String> {
    match directive {
        "add-nodes" => add_nodes(c, args),
        "auto" => c.auto = Auto { persist: args.flag("persist"), apply: args.flag("apply") },
        "campaign" => c.with_core(args.number("id"), Core::campaign),
        "tick" => {
            c.now = c.now.after(args.number("ms"));
            match args.optional("id") {
                Some(id) => c.with_core(id, Core::tick),
                None => c.tick_all(),
            }
        }
        "propose" => return shown(c.propose(args.number("id"), &args.text("data").unwrap())),
        "conf-change" => return shown(c.change(args.number("id"), args.change())),
        "transfer" => {
            let to = NodeId(args.number("to"));
            let done = c.with_core(args.number("id"), |core, now| core.transfer_leader(now, to));
            return shown(done);
        }
        "read-index" => return shown(c.read(args.number("id"), args.number("read"))),
        "append" => c.deliver_one(append_of(args)),
        "deliver" => while c.deliver(args.wanted()) > 0 && !args.flag("once") {},
        "drop" => return Some(format!("dropped {}", c.drop_messages(args.wanted()))),
        "persist" => {
            let id = args.number("id");
            if !c.persist(id) {
                return Some("nothing to persist".into());
            }
        }
        "apply" => c.apply(args.number("id"), usize::MAX),
        "crash" => c.crash(args.number("id")),
        "tear" => tear(c, args.number("id"), args.number("keep")),
        "sync-fail" => tear(c, args.number("id"), if args.flag("kept") { u64::MAX } else { 0 }),
        "damage" => return damage(c, args.number("id"), args.number("index")),
        "unknown-head" => unknown_head(c, args.number("id"), args.number("from")),
        "restart" => c.restart(args.number("id")),
        "wipe" => wipe(c, args.number("id"), args.optional("life")),
        "not-me" => {
            let gone = member(args.number("gone"));
            c.with_core(args.number("id"), |core, now| core.on_not_me(now, gone));
        }
        "forget-leader" => c.with_core(args.number("id"), Core::forget_leader),
        "unreachable" => {
            let to = member(args.number("to"));
            c.with_core(args.number("id"), |core, _| core.on_unreachable(to));
        }
        "promote" => {
            let (learner, required) = (member(args.number("learner")), args.number("required"));
            let promote = |core: &mut Core, now| core.promote(now, learner, Index(required));
            return shown(c.with_core(args.number("id"), promote));
        }
        "compact" => c.compact(args.number("id")),
        "send-snapshot" => {
            c.send_snapshot(args.number("from"), args.number("to"), !args.flag("fails"));
        }
        "stabilize" => {
            c.stabilize();
            if args.flag("quiet") {
                c.trace.clear();
            }
        }
        "status" => return Some(show::status(&c.status(args.number("id")))),
        "states" => return Some(states(c)),
        "log" => return Some(show_log(c, args.number("id"))),
        other => panic!("no such command: {other}"),
    }
    None
}

fn shown<T: std::fmt::Debug, E: std::fmt::Display>(result: Result<T, E>) -> Option<String> {
    result.err().map(|error| format!("error: {error}"))
}

/// `add-nodes n=3`, with `log=(1,1,2)` for one node's log by terms and `term=` for its term.
fn add_nodes(c: &mut Cluster, args: &Args<'_>) {
    let voters = args.optional("voters").unwrap_or_else(|| args.number("n"));
    let first = args.optional("first").unwrap_or(1);
    for id in first..first + args.number("n") {
        let mut config = settings(member(id));
        config.pre_vote = !args.flag("no-pre-vote");
        config.check_quorum = !args.flag("no-check-quorum");
        config.lease_drift = args.optional("lease");
        config.rank = args.optional("rank").unwrap_or(0) as u32;
        if let Some(window) = args.optional("window") {
            config.max_inflight_msgs = window as usize;
        }
        let log = log_of(&args.numbers("log"));
        let term = args.optional("term").unwrap_or(0);
        c.add(config, Disk::with_log(conf(1..=voters), term, log));
    }
}

/// `append from= to= term= prev-term= prev= entries=(1,1)`: a message of no node, by its terms.
fn append_of(args: &Args<'_>) -> Message {
    let (term, prev) = (Term(args.number("term")), Index(args.number("prev")));
    let prev = EntryId::new(Term(args.number("prev-term")), prev);
    let terms = args.numbers("entries");
    let entries = terms.iter().zip(prev.index.0 + 1..).map(|(t, i)| entry(*t, i)).collect();
    let body = Body::Append(Append { prev, commit: Index(0), entries });
    let (from, to) = (member(args.number("from")), member(args.number("to")));
    Message { from, to, group: GROUP, term, body }
}

/// `wipe id=`: everything is gone. `life=`: and the next start is a new life.
fn wipe(c: &mut Cluster, id: u64, number: Option<u64>) {
    c.crash(id);
    let node = c.node(id);
    node.disk = Disk::empty(node.disk.base_conf.clone());
    node.memory = node.disk.clone();
    if let Some(number) = number {
        node.config.me = life(id, number.into());
    }
}

/// `tear id= keep=`: the power goes after so many of the batches under way are on the disk; none
/// of them was reported. `sync-fail id= [kept]`: the disk fails a sync, the process stops; what
/// it had written is there at the next start, or not.
fn tear(c: &mut Cluster, id: u64, keep: u64) {
    let node = c.node(id);
    let keep = usize::try_from(keep).unwrap_or(usize::MAX).min(node.pending.len());
    for pending in node.pending.drain(..keep).collect::<Vec<_>>() {
        node.disk.persist(&pending.persist);
        if let Some((at, conf)) = pending.install {
            node.disk.install(at, conf);
        }
    }
    c.crash(id);
}

/// `damage id= index=`: the content of an entry is lost, found at the next start.
fn damage(c: &mut Cluster, id: u64, index: u64) -> Option<String> {
    c.crash(id);
    let node = c.node(id);
    node.disk.lose(index);
    node.memory = node.disk.clone();
    None
}

/// `unknown-head id= from=`: the end of the log is lost, and the store knows that.
fn unknown_head(c: &mut Cluster, id: u64, from: u64) {
    c.crash(id);
    let node = c.node(id);
    node.disk.entries.split_off(&Index(from));
    node.disk.rights = Rights::FOLLOW;
    node.memory = node.disk.clone();
}

/// Every node that is up, by what the paper's figure 2 names.
fn states(c: &Cluster) -> String {
    let up = c.nodes.iter().filter(|(_, node)| node.core.is_some());
    let line = |(id, node): (&u64, &Node)| {
        let s = node.status();
        let vote = s.vote.map_or("-".into(), |m| m.node.to_string());
        let (role, log, conf) = (show::role(s.role), show_log(c, *id), show::conf(&s.conf));
        format!("{id}: {role} t{} vote {vote} commit {} log {log} conf {conf}", s.term, s.commit)
    };
    up.map(line).collect::<Vec<_>>().join("\n")
}

fn show_log(c: &Cluster, id: u64) -> String {
    let disk = &c.nodes[&id].disk;
    let entries: Vec<String> = disk.entries.values().map(|e| show::id(e.id)).collect();
    format!("after {} [{}]", show::id(disk.base), entries.join(" "))
}
