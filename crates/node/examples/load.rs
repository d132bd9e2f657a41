//! Three nodes in one process, over TCP on loopback and real files, under closed-loop load:
//! `cargo run --release --example load -- [clients] [groups] [seconds] [payload bytes]`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use refloat_node::{
    Chunks, Command, Completions, Config, Node, Operation, Reply, Request, RequestError,
    RestoreError, SnapshotReader, StateMachine, init,
};
use refloat_types::GroupId;

#[derive(Default)]
struct Null(u64);

impl StateMachine for Null {
    fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
        self.0 += batch.len() as u64;
        vec![Bytes::new(); batch.len()]
    }
    fn snapshot(&mut self) -> Chunks {
        Box::new(std::iter::empty())
    }
    fn restore(&mut self, _: &mut SnapshotReader<'_>) -> Result<(), RestoreError> {
        Ok(())
    }
}

/// All clients of one node: each completion sends that client's next request.
struct Clients {
    node: Node<Null>,
    groups: u64,
    payload: Bytes,
    done: AtomicU64,
    failed: AtomicU64,
    nanos: AtomicU64,
    sent: Vec<AtomicU64>,
    start: Instant,
    me: std::sync::OnceLock<Arc<dyn Completions>>,
}

impl Clients {
    fn request(&self, tag: u64) -> Request {
        let now = self.start.elapsed().as_nanos() as u64;
        self.sent[tag as usize].store(now, Ordering::Relaxed);
        let payload = self.payload.clone();
        Request {
            tag,
            group: GroupId(1 + tag % self.groups),
            operation: Operation::Propose { payload, stamp: false, forward: true },
        }
    }

    fn send(&self, batch: Vec<Request>) {
        if let Some(me) = self.me.get() {
            self.node.submit(me, batch);
        }
    }
}

impl Completions for Clients {
    fn complete(&self, results: Vec<(u64, Result<Reply, RequestError>)>) {
        let now = self.start.elapsed().as_nanos() as u64;
        let mut next = Vec::with_capacity(results.len());
        for (tag, result) in results {
            match result {
                Ok(_) => self.done.fetch_add(1, Ordering::Relaxed),
                Err(RequestError::Stopped) => return,
                Err(_) => self.failed.fetch_add(1, Ordering::Relaxed),
            };
            let sent = self.sent[tag as usize].load(Ordering::Relaxed);
            self.nanos.fetch_add(now.saturating_sub(sent), Ordering::Relaxed);
            next.push(self.request(tag));
        }
        self.send(next);
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arg = |n: usize, default: u64| {
        std::env::args().nth(n).and_then(|arg| arg.parse().ok()).unwrap_or(default)
    };
    let (clients, groups, seconds, payload) = (arg(1, 64), arg(2, 1), arg(3, 5), arg(4, 256));
    let home = std::env::temp_dir().join(format!("refloat-load-{}", std::process::id()));
    let members = [(1, "127.0.0.1:7201"), (2, "127.0.0.1:7202"), (3, "127.0.0.1:7203")];
    let mut nodes = Vec::new();
    for (node, _) in members {
        let dir = home.join(node.to_string());
        init(&dir, "load", node, &members, groups as u32)?;
        let builder = Node::builder(Config::default(), dir).machine(|_| Null::default());
        nodes.push(builder.tcp(None).start().await?);
    }
    let led = |status: &refloat_node::Status| {
        status.groups.iter().filter(|g| g.role == "leader" && g.group > 0).count() as u64
    };
    loop {
        let mut sum = 0;
        for node in &nodes {
            sum += led(&node.status().await?);
        }
        if sum == groups {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Clients of one node; it leads group 1 in a cluster of one group.
    let mut home_node = 0;
    for (n, node) in nodes.iter().enumerate() {
        if led(&node.status().await?) > 0 && groups == 1 {
            home_node = n;
        }
    }
    let before = nodes[home_node].counters().await?;
    let all = Arc::new(Clients {
        node: nodes[home_node].clone(),
        groups,
        payload: vec![7; payload as usize].into(),
        done: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        nanos: AtomicU64::new(0),
        sent: (0..clients).map(|_| AtomicU64::new(0)).collect(),
        start: Instant::now(),
        me: std::sync::OnceLock::new(),
    });
    let _ = all.me.set(all.clone());
    all.send((0..clients).map(|tag| all.request(tag)).collect());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let done = all.done.load(Ordering::Relaxed);
    let (failed, nanos) = (all.failed.load(Ordering::Relaxed), all.nanos.load(Ordering::Relaxed));
    let after = nodes[home_node].counters().await?;
    let syncs = after.syncs - before.syncs;
    println!(
        "{clients} clients, {groups} groups, {payload} B: {:.0} writes/s, mean {:.2} ms, {failed} failed, {} syncs/s, {:.1} writes per sync",
        done as f64 / seconds as f64,
        nanos as f64 / 1e6 / done.max(1) as f64,
        syncs / seconds,
        done as f64 / syncs.max(1) as f64,
    );
    println!("{after:#?}");
    for node in &nodes {
        node.shutdown().await;
    }
    std::fs::remove_dir_all(home)?;
    Ok(())
}
