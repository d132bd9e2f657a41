//! Clients that overwrite their own keys without end, and remember what must be there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::Client;

const CLIENTS: u64 = 4;
const KEYS: u64 = 300;

/// What one key may hold: the last acknowledged value, or one whose fate its writer never
/// learned.
#[derive(Default)]
struct Known {
    acknowledged: Option<u64>,
    unknown: BTreeSet<u64>,
}

/// Everything that clients were told, over all rounds.
#[derive(Default)]
pub struct Ledger {
    keys: Mutex<BTreeMap<String, Known>>,
    last: Mutex<[u64; CLIENTS as usize]>,
}

pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    pub fn begin(ledger: &Arc<Ledger>, addresses: &[String]) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |id: u64| {
            let (ledger, stop, addresses) = (ledger.clone(), stop.clone(), addresses.to_vec());
            std::thread::spawn(move || ledger.write(id, &addresses, &stop))
        };
        let clients = (0..CLIENTS).map(client).collect();
        Load { stop, clients }
    }

    pub fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().unwrap();
        }
    }
}

impl Ledger {
    /// One client: a key is written by nobody else, so its writes have an order.
    fn write(&self, id: u64, addresses: &[String], stop: &AtomicBool) {
        let mut client = None;
        let mut n = self.last.lock().unwrap()[id as usize];
        while !stop.load(Ordering::Relaxed) {
            n += 1;
            let address = &addresses[(n / 64 % addresses.len() as u64) as usize];
            if n.is_multiple_of(64) {
                client = None;
            }
            let Some(mut open) = client.take().or_else(|| Client::try_connect(address).ok()) else {
                n += 64;
                std::thread::sleep(Duration::from_millis(20));
                continue;
            };
            let key = format!("client{id}-key{}", n % KEYS);
            let value = format!("{n} {}", "v".repeat((n % 7 * 100) as usize));
            let reply = open.try_call(&["SET", &key, &value]);
            let mut keys = self.keys.lock().unwrap();
            let known = keys.entry(key).or_default();
            match reply.as_deref() {
                Ok("OK") => known.acknowledged = Some(n),
                // Not done for certain or not, the sentence leaves it open.
                _ => _ = known.unknown.insert(n),
            }
            if reply.is_ok() {
                client = Some(open);
            }
        }
        self.last.lock().unwrap()[id as usize] = n;
    }

    pub fn acknowledged(&self) -> usize {
        self.keys.lock().unwrap().values().filter(|known| known.acknowledged.is_some()).count()
    }

    /// Reads every key through one node, and names the first that holds what it must not.
    pub fn verify(&self, address: &str) -> Result<usize, String> {
        let keys = self.keys.lock().unwrap();
        let mut client = None;
        for (key, known) in &*keys {
            let value = patient_get(&mut client, address, key)?;
            let found = value.split(' ').next().and_then(|n| n.parse().ok());
            let allowed =
                found == known.acknowledged || found.is_some_and(|n| known.unknown.contains(&n));
            if !allowed {
                let Known { acknowledged, unknown } = known;
                return Err(format!(
                    "{key} holds {found:?}; acknowledged was {acknowledged:?}, unknown {unknown:?}"
                ));
            }
        }
        Ok(keys.len())
    }
}

/// Asks until there is an answer; a cluster whose leader just died has none for a moment.
fn patient_get(client: &mut Option<Client>, address: &str, key: &str) -> Result<String, String> {
    let begin = Instant::now();
    let mut last = String::new();
    while begin.elapsed() < Duration::from_secs(30) {
        let open = client.take().map_or_else(|| Client::try_connect(address), Ok);
        let answer = open.and_then(|mut open| {
            let answer = open.try_call(&["GET", key])?;
            *client = Some(open);
            Ok(answer)
        });
        match answer {
            Ok(value) if !value.starts_with('-') => return Ok(value),
            Ok(refused) => last = refused,
            Err(error) => last = error.to_string(),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(format!("{key} cannot be read through {address}: {last}"))
}
