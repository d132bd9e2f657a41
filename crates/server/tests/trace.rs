//! The system calls of real nodes under load: what was synced before what was said and done.
//!
//! Needs `strace`; without it, or where tracing is not allowed, the test says so and ends.

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Client, Cluster, Node, Plan};

/// Small files, so that every few writes one is rolled over, flushed or compacted.
const SMALL: &[&str] = &[
    "--wal-file-size",
    "64KiB",
    "--votes-file-size",
    "64KiB",
    "--snapshot-entries",
    "150",
    "--election-timeout",
    "2s",
];

const CALLS: &str = "trace=open,openat,pwrite64,fsync,fdatasync,rename,renameat,renameat2,link,\
                     linkat,unlink,unlinkat,recvfrom,read,sendto,write,writev";

/// One finished call of a traced node.
#[derive(Debug)]
struct Call {
    /// In microseconds since 1970.
    start: u64,
    end: u64,
    name: String,
    /// What stands between the parentheses.
    args: String,
    failed: bool,
}

#[test]
fn acknowledgements_follow_their_syncs_and_names_follow_the_syncs_of_their_directories() {
    let probe = ["-o", "/dev/null", "true"];
    if !Command::new("strace")
        .args(probe)
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
    {
        return eprintln!("skipped: strace is missing or may not trace here");
    }
    let mut cluster = Cluster::init(3, SMALL);
    let traces: Vec<_> =
        cluster.plans.iter().map(|plan| plan.dir.with_extension("trace")).collect();
    let start = |plan: &Plan, trace: &Path| {
        let mut strace = Command::new("strace");
        // The node stays this process' child, and strace is nobody's.
        strace.args(["-D", "-f", "-y", "-ttt", "-T", "-s", "70000", "-e", CALLS, "-o"]).arg(trace);
        strace.arg(env!("CARGO_BIN_EXE_refloat")).stdin(Stdio::null());
        plan.spawn_from(strace)
    };
    let children: Vec<_> =
        cluster.plans.iter().zip(&traces).map(|(plan, trace)| start(plan, trace)).collect();
    for (at, child) in children.into_iter().enumerate() {
        cluster.nodes[at] = Some(Node::when_ready(child, &cluster.plans[at]));
    }
    std::thread::scope(|scope| {
        for at in 0..6 {
            let mut client: Client = cluster.client(at % 3);
            scope.spawn(move || {
                for n in 0..150 {
                    let key = format!("key{at}-{}", n % 10);
                    assert_eq!(client.call(&["SET", &key, &marked(at * 1000 + n)]), "OK");
                }
            });
        }
    });
    for node in &mut cluster.nodes {
        let code = node.as_mut().unwrap().signal_and_wait("TERM", Duration::from_secs(20));
        assert_eq!(code, Some(Some(0)));
    }
    let nodes: Vec<Vec<Call>> = traces.iter().map(|trace| calls_when_complete(trace)).collect();

    let mut names = BTreeMap::new();
    for (calls, plan) in nodes.iter().zip(&cluster.plans) {
        for kind in names_are_relied_on_once_synced(calls, &plan.dir) {
            *names.entry(kind).or_insert(0) += 1;
        }
    }
    for kind in [
        "identity published",
        "wal published",
        "seg published",
        "snap published",
        "wal let go",
        "seg let go",
    ] {
        assert!(names.get(kind).is_some_and(|n| *n >= 3), "hardly any {kind}: {names:?}");
    }
    let acks = acknowledgements_follow_a_quorum(&nodes);
    assert!(acks >= 900, "only {acks} of 900 acknowledgements were found");
}

/// A value that can be found in a batch although every sector of it ends in a stamp.
fn marked(n: usize) -> String {
    format!("<{n:06}>").repeat(90)
}

/// The markers in what was written or read.
fn markers(args: &str) -> BTreeSet<&str> {
    let whole = |at: usize| {
        let mark = args.get(at..at + 8)?;
        let digits = mark.strip_prefix('<')?.strip_suffix('>')?;
        digits.bytes().all(|b| b.is_ascii_digit()).then_some(digits)
    };
    args.match_indices('<').filter_map(|(at, _)| whole(at)).collect()
}

/// strace goes on writing for a moment after the process has ended.
fn calls_when_complete(trace: &Path) -> Vec<Call> {
    let mut len = 0;
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(100));
        let now = std::fs::metadata(trace).unwrap().len();
        if now == len {
            break;
        }
        len = now;
    }
    let bytes = std::fs::read(trace).unwrap();
    let mut calls = calls_of(&String::from_utf8_lossy(&bytes));
    calls.sort_by_key(|call| call.start);
    calls
}

/// Reads `PID TIME name(args) = result <seconds>`, also where a call was cut in two.
fn calls_of(text: &str) -> Vec<Call> {
    let mut begun: HashMap<&str, (u64, String)> = HashMap::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let Some((pid, rest)) = line.trim_start().split_once(' ') else { continue };
        let Some((time, what)) = rest.trim_start().split_once(' ') else { continue };
        let now = micros(time);
        if let Some(first) = what.strip_suffix(" <unfinished ...>") {
            begun.insert(pid, (now, first.to_owned()));
        } else if let Some(more) = what.strip_prefix("<... ") {
            let Some((start, first)) = begun.remove(pid) else { continue };
            let rest = more.split_once("resumed>").map_or("", |(_, rest)| rest);
            calls.extend(call(start, Some(now), &format!("{first}{rest}")));
        } else {
            calls.extend(call(now, None, what));
        }
    }
    calls
}

fn call(start: u64, end: Option<u64>, what: &str) -> Option<Call> {
    let (name, rest) = what.split_once('(')?;
    let (args, result) = rest.rsplit_once(") ")?;
    let result = result.trim_start().strip_prefix("= ")?;
    let seconds = result.rsplit_once('<').map_or("0", |(_, s)| s.trim_end_matches('>'));
    let end = end.unwrap_or(start + micros(seconds));
    let failed = result.starts_with('-') || result.starts_with('?');
    Some(Call { start, end, name: name.into(), args: args.into(), failed })
}

fn micros(seconds: &str) -> u64 {
    let (whole, part) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let part = format!("{part:0<6}");
    whole.parse::<u64>().unwrap() * 1_000_000 + part[..6].parse::<u64>().unwrap()
}

impl Call {
    /// The path of the file that the call works on, as `-y` shows it.
    fn file(&self) -> Option<&str> {
        let path = self.args.split_once('<')?.1;
        path.split_once('>').map(|(path, _)| path)
    }

    /// The quoted paths among the arguments.
    fn paths(&self) -> Vec<&str> {
        self.args.split('"').skip(1).step_by(2).collect()
    }
}

/// Each `+OK` to a write leaves after the write is durable on two of three nodes, and so is the
/// name of the file that holds it. Returns how many were seen.
fn acknowledgements_follow_a_quorum(nodes: &[Vec<Call>]) -> usize {
    let mut durable: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for calls in nodes {
        for (marker, end) in durable_since(calls) {
            durable.entry(marker).or_default().push(end);
        }
    }
    let mut seen = 0;
    for calls in nodes {
        let mut asked: HashMap<&str, &str> = HashMap::new();
        for call in calls.iter().filter(|call| !call.failed) {
            let Some(socket) = call.file().filter(|file| file.starts_with("socket:")) else {
                continue;
            };
            let takes = ["recvfrom", "read"].contains(&call.name.as_str());
            if takes && call.args.contains("SET\\r\\n") {
                asked.extend(markers(&call.args).first().map(|marker| (socket, *marker)));
            }
            let says = ["sendto", "write", "writev"].contains(&call.name.as_str());
            if says && call.args.contains("\"+OK\\r\\n\"") {
                let Some(marker) = asked.remove(socket) else { continue };
                let all = durable.get(marker).map(Vec::as_slice).unwrap_or_default();
                let before = all.iter().filter(|end| **end <= call.start).count();
                assert!(
                    before >= 2,
                    "{marker} was acknowledged at {}, durable {all:?}",
                    call.start
                );
                seen += 1;
            }
        }
    }
    seen
}

/// When each marker was durable on a node: when the write into a file opened for durable writes had
/// ended, and the file's directory was synced after it got its name.
fn durable_since(calls: &[Call]) -> BTreeMap<&str, u64> {
    let ok = || calls.iter().filter(|call| !call.failed);
    let mut since = BTreeMap::new();
    let mut files: HashMap<String, u64> = HashMap::new();
    for call in ok().filter(|call| call.name == "openat" && call.args.contains("O_DSYNC")) {
        let Some(path) = call.paths().first().copied() else { continue };
        let mut named = ok().filter(|call| call.name == "rename" && call.paths()[1] == path);
        // The last one before it is opened: a name is used once only.
        let named = named.rfind(|named| named.end <= call.start);
        let Some(named) = named else { continue };
        let synced = ok().find(|call| {
            call.name == "fsync"
                && call.start >= named.end
                && call.file().is_some_and(|dir| dir == parent(path))
        });
        files.insert(path.to_owned(), synced.map_or(u64::MAX, |call| call.end));
    }
    for call in ok().filter(|call| call.name == "pwrite64") {
        let Some(synced) = call.file().and_then(|file| files.get(file)) else { continue };
        for marker in markers(&call.args) {
            since.entry(marker).or_insert(call.end.max(*synced));
        }
    }
    since
}

/// A file is synced before it gets its name, and its directory before a log file is written under
/// its name, before what a file replaces is let go, and where it is a copy of the identity, with the
/// number of the run, before the other copy is touched or anything is said to anybody. Returns what
/// was seen.
fn names_are_relied_on_once_synced(calls: &[Call], dir: &Path) -> Vec<&'static str> {
    let dir = dir.to_string_lossy();
    let mut events: Vec<(u64, &Call)> = calls.iter().map(|call| (call.end, call)).collect();
    events.sort_by_key(|(end, _)| *end);
    let mut unsynced: BTreeSet<String> = BTreeSet::new();
    let mut dirty: BTreeSet<String> = BTreeSet::new();
    let mut seen = Vec::new();
    let within =
        |path: &str| path.strip_prefix(&*dir).map(|rest| rest.trim_start_matches('/').to_owned());
    for (_, call) in events {
        if call.failed {
            continue;
        }
        let file = call.file().and_then(within);
        match call.name.as_str() {
            "pwrite64" => {
                let Some(file) = file else { continue };
                if !file.ends_with(".wal") {
                    dirty.insert(file);
                } else {
                    // It may have been another file of the log before, under that one's name.
                    assert!(
                        !unsynced.contains(&file),
                        "{file} was written before its name was durable"
                    );
                }
            }
            "fdatasync" => drop(file.map(|file| dirty.remove(&file))),
            "fsync" => {
                let Some(file) = file else { continue };
                unsynced.retain(|name| parent(name) != file);
            }
            "rename" | "renameat" | "renameat2" | "link" | "linkat" => {
                let paths = call.paths();
                let [from, to] = [paths[0], paths[1]].map(|path| within(path).unwrap_or_default());
                assert!(!dirty.contains(&from), "{from} became {to} before it was synced");
                if is_identity(&to) {
                    let other = unsynced.iter().find(|name| is_identity(name));
                    assert!(other.is_none(), "{to} got its name before {other:?} was durable");
                }
                if from.ends_with(".wal") {
                    let behind = number(&from);
                    let flushed = |name: &&String| {
                        // A flush; what a compaction made has a second number.
                        name.starts_with("seg/") && !name.contains('-') && number(name) <= behind
                    };
                    let open = unsynced.iter().find(flushed);
                    assert!(
                        open.is_none(),
                        "{from} was let go before the name {open:?} was durable"
                    );
                    seen.push("wal let go");
                }
                if !to.ends_with(".tmp") {
                    seen.push(match parent(&to).split('/').next() {
                        Some("wal") => "wal published",
                        Some("seg") => "seg published",
                        Some("snap") => "snap published",
                        _ if is_identity(&to) => "identity published",
                        _ => "other published",
                    });
                    unsynced.insert(to);
                }
            }
            "unlink" | "unlinkat" => {
                let path = call.paths().first().copied().and_then(within).unwrap_or_default();
                if path.ends_with(".seg") || path.ends_with(".snap") {
                    let open = unsynced.iter().find(|name| parent(name) == parent(&path));
                    assert!(
                        open.is_none(),
                        "{path} was removed before the name {open:?} was durable"
                    );
                    seen.push("seg let go");
                }
            }
            "sendto" | "write" | "writev" => {
                let says = call.file().is_some_and(|file| file.starts_with("socket:"));
                let open = unsynced.iter().find(|name| is_identity(name) && says);
                assert!(open.is_none(), "something was said before the name {open:?} was durable");
            }
            _ => {}
        }
    }
    seen
}

fn is_identity(name: &str) -> bool {
    ["identity.a", "identity.b"].contains(&name)
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The number that a file's name begins with.
fn number(path: &str) -> u64 {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.split(['.', '-']).next().and_then(|digits| digits.parse().ok()).unwrap_or_default()
}
