//! Reading everything back, through the same protocol, from all nodes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::client::{Client, Reply};
use super::load::{Record, Written};
use super::screen::Screen;
use super::summary::Summary;
use super::value::{counter, key, value};
use crate::cli::failure::{Code, Failure};

/// Keys per request.
const KEYS: usize = 64;
/// Requests in flight per connection.
const DEPTH: usize = 4;
/// A cluster that cannot be read for so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// What reading back showed.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Acknowledged writes that are there.
    pub verified: u64,
    /// Acknowledged writes that are not there, or have another value.
    pub missing: u64,
    /// Increments that are there although nobody sent them.
    pub invented: u64,
    /// Some of what is wrong, for a person.
    examples: BTreeSet<String>,
}

impl Verdict {
    fn add(&mut self, other: Verdict) {
        self.verified += other.verified;
        self.missing += other.missing;
        self.invented += other.invented;
        self.examples.extend(other.examples);
    }

    fn note(&mut self, example: String) {
        if self.examples.len() < 5 {
            self.examples.insert(example);
        }
    }

    /// Fails unless everything is there, and nothing twice.
    pub fn judge(&self, summary: &Summary) -> Result<(), Failure> {
        let all = self.verified == summary.acknowledged && self.missing == 0;
        if all && self.invented == 0 && summary.acknowledged > 0 {
            return Ok(());
        }
        let examples: Vec<&str> = self.examples.iter().take(5).map(String::as_str).collect();
        Err(Failure::new(
            Code::Other,
            format!(
                "{} of {} acknowledged writes missing, {} increments too many: {}",
                self.missing,
                summary.acknowledged,
                self.invented,
                examples.join("; ")
            ),
        ))
    }
}

/// Reads every acknowledged write, each client's through another node.
pub async fn read_back(
    addresses: &[String],
    record: &Record,
    screen: &Screen,
) -> Result<Verdict, Failure> {
    let total = Arc::new(Mutex::new(Verdict::default()));
    let mut readers = JoinSet::new();
    for (n, written) in record.written.iter().enumerate() {
        let addresses: Vec<String> =
            (0..addresses.len()).map(|at| addresses[(n + at) % addresses.len()].clone()).collect();
        let reader = Reader {
            seed: record.seed,
            connection: written.connection,
            addresses,
            give_up: Instant::now() + PATIENCE,
        };
        let keys: Vec<u32> = acknowledged_keys(written);
        let (counted, maybe) = (written.counted, written.maybe_counted);
        let total = total.clone();
        readers.spawn(async move {
            let verdict = reader.run(&keys, counted, maybe).await?;
            total.lock().add(verdict);
            Ok::<(), std::io::Error>(())
        });
    }
    while let Some(result) = readers.join_next().await {
        match result {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                return Err(Failure::because(Code::Other, "read the writes back", &error));
            }
            Err(error) => return Err(Failure::because(Code::Other, "a reader ended", &error)),
        }
    }
    let verdict = total.lock().clone();
    for example in &verdict.examples {
        screen.say(example);
    }
    Ok(verdict)
}

fn acknowledged_keys(written: &Written) -> Vec<u32> {
    let acks = written.acknowledged.iter().enumerate();
    acks.filter(|(_, ack)| **ack).map(|(n, _)| n as u32).collect()
}

struct Reader {
    seed: u64,
    connection: u32,
    addresses: Vec<String>,
    give_up: Instant,
}

impl Reader {
    /// Reads changes nothing, so what fails is simply asked again, at the next node.
    async fn run(&self, keys: &[u32], counted: u64, maybe: u64) -> std::io::Result<Verdict> {
        let mut verdict = Verdict::default();
        let mut left = keys;
        let mut client = None;
        let mut turn = 0;
        loop {
            let chunk = left.get(..left.len().min(KEYS * DEPTH)).unwrap_or_default();
            match self.attempt(&mut client, turn, chunk, counted, maybe).await {
                Ok(part) => {
                    verdict.add(part);
                    if chunk.is_empty() {
                        return Ok(verdict);
                    }
                    left = &left[chunk.len()..];
                }
                Err(error) if Instant::now() > self.give_up => return Err(error),
                Err(_) => {
                    client = None;
                    turn += 1;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Reads some keys; without any, the counter.
    async fn attempt(
        &self,
        client: &mut Option<Client>,
        turn: usize,
        keys: &[u32],
        counted: u64,
        maybe: u64,
    ) -> std::io::Result<Verdict> {
        let client = match client {
            Some(client) => client,
            none => {
                none.insert(Client::connect(&self.addresses[turn % self.addresses.len()]).await?)
            }
        };
        if keys.is_empty() {
            client.push(&[b"GET", counter(self.connection).as_bytes()]);
            client.send().await?;
            return self.compare_counter(client.receive().await?, counted, maybe);
        }
        for some in keys.chunks(KEYS) {
            let names: Vec<String> = some.iter().map(|n| key(self.connection, *n)).collect();
            let mut args: Vec<&[u8]> = vec![b"MGET"];
            args.extend(names.iter().map(String::as_bytes));
            client.push(&args);
        }
        client.send().await?;
        let mut verdict = Verdict::default();
        for some in keys.chunks(KEYS) {
            let Reply::Array(values) = client.receive().await? else { return Err(refused()) };
            for (n, found) in some.iter().zip(values) {
                self.compare(*n, found, &mut verdict);
            }
        }
        Ok(verdict)
    }

    fn compare(&self, n: u32, found: Reply, verdict: &mut Verdict) {
        let expected = value(self.seed, self.connection, n);
        if found == Reply::Bulk(Some(expected)) {
            verdict.verified += 1;
            return;
        }
        verdict.missing += 1;
        let what = match found {
            Reply::Bulk(Some(other)) => format!("has another value of {} bytes", other.len()),
            _ => "is missing".into(),
        };
        verdict.note(format!("acknowledged key {} {what}", key(self.connection, n)));
    }

    fn compare_counter(&self, found: Reply, counted: u64, maybe: u64) -> std::io::Result<Verdict> {
        let found = match found {
            Reply::Bulk(None) => 0,
            Reply::Bulk(Some(text)) => String::from_utf8_lossy(&text).parse().unwrap_or(0),
            _ => return Err(refused()),
        };
        let mut verdict = Verdict {
            verified: found.min(counted),
            missing: counted.saturating_sub(found),
            invented: found.saturating_sub(counted + maybe),
            ..Verdict::default()
        };
        if verdict.missing + verdict.invented > 0 {
            verdict.note(format!(
                "counter {} is {found}, {counted} increments were acknowledged, {maybe} may be added",
                counter(self.connection)
            ));
        }
        Ok(verdict)
    }
}

fn refused() -> std::io::Error {
    std::io::Error::other("the node refuses to read")
}
