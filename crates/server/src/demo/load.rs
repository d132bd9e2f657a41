//! Many clients that write, and remember what was acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::client::{Client, Reply};
use super::value::{counter, key, value};

const CONNECTIONS: u32 = 48;
/// Writes that a client sends before it waits for their replies; the first one counts.
const PIPELINE: usize = 4;
/// A client that is refused, or finds no node, waits so long.
const BACK_OFF: Duration = Duration::from_millis(20);

/// Numbers that change while the load runs.
#[derive(Debug)]
pub struct Progress {
    start: Instant,
    acknowledged: AtomicU64,
    connected: AtomicU64,
    stop: AtomicBool,
    last_ack_us: AtomicU64,
    longest_pause_us: AtomicU64,
}

impl Progress {
    /// Writes acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Clients that are connected now.
    pub fn connected(&self) -> u64 {
        self.connected.load(Ordering::Relaxed)
    }

    fn acknowledge(&self) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        let now = self.start.elapsed().as_micros() as u64;
        let before = self.last_ack_us.fetch_max(now, Ordering::Relaxed);
        // Until the first acknowledgement there is no pause, only a start.
        if before > 0 {
            self.longest_pause_us.fetch_max(now.saturating_sub(before), Ordering::Relaxed);
        }
    }
}

/// A load that runs.
pub struct Load {
    progress: Arc<Progress>,
    writers: Vec<JoinHandle<Written>>,
    seed: u64,
}

/// What one client wrote.
#[derive(Debug, Default)]
pub struct Written {
    /// The client.
    pub connection: u32,
    /// For each of its keys, whether the write was acknowledged.
    pub acknowledged: Vec<bool>,
    /// How often its counter was incremented with acknowledgement.
    pub counted: u64,
    /// How often its counter may have been incremented besides.
    pub maybe_counted: u64,
    unknown: u64,
    refused: u64,
}

/// What all clients wrote.
#[derive(Debug)]
pub struct Record {
    /// Makes the values again.
    pub seed: u64,
    /// Client by client.
    pub written: Vec<Written>,
    /// The longest time without an acknowledgement to any client.
    pub longest_pause: Duration,
}

impl Record {
    /// Writes with success as their reply.
    pub fn acknowledged(&self) -> u64 {
        let acknowledged = |w: &Written| w.acknowledged.iter().filter(|ack| **ack).count() as u64;
        self.written.iter().map(|w| acknowledged(w) + w.counted).sum()
    }

    /// Writes without a reply.
    pub fn unknown(&self) -> u64 {
        self.written.iter().map(|w| w.unknown).sum()
    }

    /// Writes with an error as their reply.
    pub fn refused(&self) -> u64 {
        self.written.iter().map(|w| w.refused).sum()
    }
}

impl Load {
    /// Starts the clients, spread over the nodes.
    pub fn start(addresses: Vec<String>, seed: u64) -> Load {
        let progress = Arc::new(Progress {
            start: Instant::now(),
            acknowledged: AtomicU64::new(0),
            connected: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            last_ack_us: AtomicU64::new(0),
            longest_pause_us: AtomicU64::new(0),
        });
        let writers = (0..CONNECTIONS).map(|connection| {
            let written = Written { connection, ..Written::default() };
            let addresses = addresses.clone();
            let writer = Writer { seed, addresses, progress: progress.clone(), written };
            tokio::spawn(writer.run())
        });
        Load { writers: writers.collect(), progress, seed }
    }

    /// The numbers.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// Lets every client finish what it is at.
    pub async fn stop(mut self) -> Record {
        self.progress.stop.store(true, Ordering::Relaxed);
        let mut written = Vec::new();
        for writer in self.writers.drain(..) {
            written.extend(writer.await);
        }
        let pause_us = self.progress.longest_pause_us.load(Ordering::Relaxed);
        Record { seed: self.seed, written, longest_pause: Duration::from_micros(pause_us) }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.writers.iter().for_each(JoinHandle::abort);
    }
}

struct Writer {
    seed: u64,
    addresses: Vec<String>,
    progress: Arc<Progress>,
    written: Written,
}

impl Writer {
    async fn run(mut self) -> Written {
        let mut node = self.written.connection as usize;
        while !self.progress.stop.load(Ordering::Relaxed) {
            let address = &self.addresses[node % self.addresses.len()];
            node += 1;
            match Client::connect(address).await {
                Ok(client) => {
                    self.progress.connected.fetch_add(1, Ordering::Relaxed);
                    self.write(client).await;
                    self.progress.connected.fetch_sub(1, Ordering::Relaxed);
                }
                Err(_) => sleep(BACK_OFF).await,
            }
        }
        self.written
    }

    /// Writes until the connection ends, or the load does.
    async fn write(&mut self, mut client: Client) {
        while !self.progress.stop.load(Ordering::Relaxed) {
            let first = self.written.acknowledged.len();
            client.push(&[b"INCR", counter(self.written.connection).as_bytes()]);
            for n in first..first + PIPELINE {
                let (key, value) = self.pair(n as u32);
                client.push(&[b"SET", key.as_bytes(), &value]);
                self.written.acknowledged.push(false);
            }
            let mut refused = false;
            let sent = client.send().await.is_ok();
            for at in 0..=PIPELINE {
                let reply = if sent { client.receive().await } else { Err(broken()) };
                match reply {
                    Ok(Reply::Error(_)) => {
                        self.written.refused += 1;
                        refused = true;
                    }
                    Ok(_) => self.acknowledge(at.checked_sub(1).map(|at| first + at)),
                    Err(_) => {
                        self.written.unknown += (PIPELINE + 1 - at) as u64;
                        self.written.maybe_counted += u64::from(at == 0);
                        return;
                    }
                }
            }
            if refused {
                sleep(BACK_OFF).await;
            }
        }
    }

    fn pair(&self, n: u32) -> (String, Vec<u8>) {
        let connection = self.written.connection;
        (key(connection, n), value(self.seed, connection, n))
    }

    /// A key by its number, or the counter.
    fn acknowledge(&mut self, n: Option<usize>) {
        self.progress.acknowledge();
        match n {
            Some(n) => self.written.acknowledged[n] = true,
            None => self.written.counted += 1,
        }
    }
}

fn broken() -> std::io::Error {
    std::io::ErrorKind::BrokenPipe.into()
}
