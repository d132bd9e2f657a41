//! What concurrent clients of real processes saw, held against the rule that some order of it all
//! must explain it: the same history and the same checker as in the simulator.

mod common;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::{Client, Cluster};
use refloat_sim::history::{Action, History, Operation};

const KEYS: u64 = 6;
const CLIENTS: u64 = 6;

/// Small numbers that look drawn.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Clients that ask one thing after the other, each of any node, and write down what they are told.
struct Recording {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Operation>>>,
}

impl Recording {
    fn start(cluster: &Cluster) -> Recording {
        let (stop, begin) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let addresses: Vec<String> = cluster.plans.iter().map(|p| p.client.clone()).collect();
        let clients = (1..=CLIENTS).map(|client| {
            let (stop, addresses) = (stop.clone(), addresses.clone());
            std::thread::spawn(move || record(client, &addresses, begin, &stop))
        });
        Recording { clients: clients.collect(), stop }
    }

    fn stop(self) -> History {
        self.stop.store(true, Ordering::Relaxed);
        let operations = self.clients.into_iter().flat_map(|client| client.join().unwrap());
        History { operations: operations.collect() }
    }
}

fn record(client: u64, addresses: &[String], begin: Instant, stop: &AtomicBool) -> Vec<Operation> {
    let now = || begin.elapsed().as_micros() as u64;
    let mut draw = Draw(client * 0x9e37_79b9);
    let (mut seen, mut connection) = (Vec::new(), None);
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_micros(draw.below(4_000)));
        let Some(mut node) = connection.take().or_else(|| connect(addresses, &mut draw)) else {
            continue;
        };
        let value = client << 32 | seen.len() as u64;
        let key = format!("register-{}", draw.below(KEYS));
        let action = [Action::Read(None), Action::Write(value)][draw.below(2) as usize];
        let mut operation =
            Operation { client, key, action, begin: now(), end: None, stale: false };
        match ask(&mut node, &operation) {
            // It says that nothing was done and nothing will be.
            Ok(reply) if reply.starts_with('-') => connection = Some(node),
            Ok(reply) => {
                let found = u64::from_str_radix(&reply, 16).ok();
                operation.end = Some(now());
                operation.action = match action {
                    Action::Write(value) => Action::Swapped { value, before: found },
                    _ => Action::Read(found),
                };
                connection = Some(node);
                seen.push(operation);
            }
            // The connection ended, or no answer came in time: nobody knows.
            Err(_) => seen.push(operation),
        }
        if draw.below(20) == 0 {
            connection = None;
        }
    }
    seen
}

fn connect(addresses: &[String], draw: &mut Draw) -> Option<Client> {
    let address = &addresses[draw.below(addresses.len() as u64) as usize];
    let client = Client::try_connect(address).ok()?;
    client.stream.set_read_timeout(Some(Duration::from_millis(1_500))).ok()?;
    Some(client)
}

fn ask(node: &mut Client, operation: &Operation) -> std::io::Result<String> {
    match operation.action {
        Action::Write(value) => {
            node.try_call(&["SET", &operation.key, &format!("{value:016x}"), "GET"])
        }
        _ => node.try_call(&["GET", &operation.key]),
    }
}

/// Stops nodes for a while, as if they were cut off, kills and restarts them.
fn disturb(cluster: &mut Cluster, time: Duration) -> [u32; 2] {
    let (end, mut draw) = (Instant::now() + time, Draw(7));
    let (mut pauses, mut kills) = (0, 0);
    while Instant::now() < end {
        let at = draw.below(cluster.nodes.len() as u64) as usize;
        if draw.below(3) > 0 {
            signal(cluster, at, "STOP");
            std::thread::sleep(Duration::from_millis(200 + draw.below(1_200)));
            signal(cluster, at, "CONT");
            pauses += 1;
        } else {
            cluster.kill(at);
            std::thread::sleep(Duration::from_millis(draw.below(300)));
            cluster.start_one(at);
            kills += 1;
        }
        std::thread::sleep(Duration::from_millis(draw.below(400)));
    }
    [pauses, kills]
}

fn signal(cluster: &Cluster, at: usize, signal: &str) {
    let pid = cluster.nodes[at].as_ref().expect("it is up").pid().to_string();
    assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
}

/// How long the clients are disturbed: `REFLOAT_HISTORY_SECONDS` for longer runs.
fn seconds() -> u64 {
    let asked = std::env::var("REFLOAT_HISTORY_SECONDS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(8)
}

#[test]
fn what_clients_of_paused_and_killed_nodes_saw_is_linearizable() {
    let mut cluster = Cluster::start(3, &["--snapshot-entries", "400"]);
    let recording = Recording::start(&cluster);
    let [pauses, kills] = disturb(&mut cluster, Duration::from_secs(seconds()));
    std::thread::sleep(Duration::from_millis(500));
    let history = recording.stop();
    let file = std::env::temp_dir().join(format!("refloat-history-{}.jsonl", std::process::id()));
    std::fs::write(&file, history.to_json_lines()).unwrap();
    let answered = history.operations.iter().filter(|o| o.end.is_some()).count();
    let open = history.operations.len() - answered;
    println!("{answered} answers, {open} open, {pauses} pauses, {kills} kills");
    let explained = history.check();
    let explained = explained.unwrap_or_else(|why| panic!("{why}; see {}", file.display()));
    assert!(explained as usize >= answered && answered > 500, "{answered} answers");
    assert!(pauses > 0 && kills > 0, "{pauses} pauses, {kills} kills");
    remove(&file);
}

fn remove(file: &PathBuf) {
    std::fs::remove_file(file).unwrap();
}
