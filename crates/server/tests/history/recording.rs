//! Clients that ask one thing after the other, each of any node, and write down what they are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use refloat_sim::history::{Action, History, Operation};

use crate::common::{Client, Cluster};

const KEYS: u64 = 6;
const CLIENTS: u64 = 6;

/// Small numbers that look drawn.
pub struct Draw(pub u64);

impl Draw {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// The clients, as long as they ask.
pub struct Recording {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Operation>>>,
}

impl Recording {
    pub fn start(cluster: &Cluster, password: Option<&'static str>) -> Recording {
        let (stop, begin) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let addresses: Vec<String> = cluster.plans.iter().map(|p| p.client.clone()).collect();
        let clients = (1..=CLIENTS).map(|client| {
            let (stop, addresses) = (stop.clone(), addresses.clone());
            std::thread::spawn(move || record(client, &addresses, password, begin, &stop))
        });
        Recording { clients: clients.collect(), stop }
    }

    pub fn stop(self) -> History {
        self.stop.store(true, Ordering::Relaxed);
        let operations = self.clients.into_iter().flat_map(|client| client.join().unwrap());
        History { operations: operations.collect() }
    }
}

fn record(
    client: u64,
    addresses: &[String],
    password: Option<&str>,
    begin: Instant,
    stop: &AtomicBool,
) -> Vec<Operation> {
    let now = || begin.elapsed().as_micros() as u64;
    let mut draw = Draw(client * 0x9e37_79b9);
    let (mut seen, mut connection) = (Vec::new(), None);
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_micros(draw.below(4_000)));
        let any =
            || connect(&addresses[draw.below(addresses.len() as u64) as usize], password).ok();
        let Some(mut node) = connection.take().or_else(any) else { continue };
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

pub fn connect(address: &str, password: Option<&str>) -> std::io::Result<Client> {
    let mut client = Client::try_connect(address)?;
    client.stream.set_read_timeout(Some(Duration::from_millis(1_500)))?;
    if let Some(password) = password {
        assert_eq!(client.try_call(&["AUTH", password])?, "OK");
    }
    Ok(client)
}

fn ask(node: &mut Client, operation: &Operation) -> std::io::Result<String> {
    match operation.action {
        Action::Write(value) => {
            node.try_call(&["SET", &operation.key, &format!("{value:016x}"), "GET"])
        }
        _ => node.try_call(&["GET", &operation.key]),
    }
}
