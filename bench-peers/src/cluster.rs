//! P5 and P8: three real nodes on loopback under closed-loop clients, that write or read.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::measure::{Result, Subject, Window, nanos};
use crate::resp::{Client, Connection, Verb};

/// Three processes; killed when dropped.
pub struct Cluster {
    nodes: Vec<Child>,
    addresses: Vec<String>,
    leased: bool,
}

impl Cluster {
    pub fn start(dir: &Path, groups: u32) -> Result<Cluster> {
        Cluster::start_with(dir, groups, &[])
    }

    /// The same, with more flags for `serve`.
    pub fn start_with(dir: &Path, groups: u32, flags: &[&str]) -> Result<Cluster> {
        fs::create_dir_all(dir)?;
        let program = program()?;
        let ports = free_ports(9)?;
        let members: Vec<String> =
            (0..3).map(|n| format!("{}=127.0.0.1:{}", n + 1, ports[n])).collect();
        let leased = flags.contains(&"--lease-drift");
        let mut cluster = Cluster { nodes: Vec::new(), addresses: Vec::new(), leased };
        for n in 0..3 {
            let data = dir.join(format!("n{}", n + 1));
            let mut init = Command::new(&program);
            init.arg("init").arg("--data-dir").arg(&data);
            init.args(["--node", &(n + 1).to_string(), "--cluster", "bench"]);
            init.args(["--groups", &groups.to_string()]);
            members.iter().for_each(|member| {
                init.args(["--member", member]);
            });
            let output = init.stdin(Stdio::null()).output()?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
            }
            let client = format!("127.0.0.1:{}", ports[3 + n]);
            let log = File::create(dir.join(format!("n{}.log", n + 1)))?;
            let mut serve = Command::new(&program);
            serve.arg("serve").arg("--data-dir").arg(&data);
            serve.args(["--client-addr", &client]);
            serve.args(["--admin-addr", &format!("127.0.0.1:{}", ports[6 + n])]);
            serve.args(flags);
            serve.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            cluster.nodes.push(serve.spawn()?);
            cluster.addresses.push(client);
        }
        cluster.wait()?;
        Ok(cluster)
    }

    /// Waits until every group takes a write through every node.
    fn wait(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        for address in &self.addresses {
            let mut good = 0;
            while good < 256 {
                let key = format!("wait:{good}");
                let result = Client::connect(address)
                    .and_then(|mut client| client.call(&[b"SET", key.as_bytes(), b"x"]));
                match result {
                    Ok(_) => good += 1,
                    Err(error) if Instant::now() > deadline => return Err(error),
                    Err(_) => thread::sleep(Duration::from_millis(50)),
                }
            }
        }
        Ok(())
    }

    /// Closed-loop clients, spread over the nodes, each with keys of its own.
    pub fn load(&self, clients: usize, payload: usize) -> Load {
        let addresses = self.addresses.clone();
        let processes = self.nodes.iter().map(Child::id).collect();
        Load { addresses, processes, clients, payload, verb: Verb::Set, leased: self.leased }
    }

    /// The same clients, that do something else.
    pub fn clients(&self, verb: Verb, clients: usize, payload: usize) -> Load {
        Load { verb, ..self.load(clients, payload) }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

pub struct Load {
    addresses: Vec<String>,
    processes: Vec<u32>,
    clients: usize,
    payload: usize,
    verb: Verb,
    leased: bool,
}

impl Subject for Load {
    fn name(&self) -> String {
        let verb = self.verb.name();
        let leased = if self.leased { ", leases" } else { "" };
        format!("refloat, {} clients, {verb}{leased}", self.clients)
    }

    fn payload(&self) -> usize {
        self.payload
    }

    fn processes(&self) -> &[u32] {
        &self.processes
    }

    /// One thread drives all connections, so that it takes as little as it can from the nodes.
    fn run(&mut self, window: Duration) -> Result<Window> {
        let mut poll = mio::Poll::new()?;
        let mut clients = (0..self.clients)
            .map(|n| {
                Connection::open(&self.addresses[n % self.addresses.len()], n, poll.registry())
            })
            .collect::<Result<Vec<Connection>>>()?;
        let value = vec![b'x'; self.payload];
        let mut total = Window::default();
        let mut events = mio::Events::with_capacity(self.clients);
        let start = Instant::now();
        let mut open = clients.len();
        for client in &mut clients {
            client.send(self.verb, &value)?;
        }
        while open > 0 {
            poll.poll(&mut events, Some(Duration::from_secs(15)))?;
            if events.is_empty() {
                return Err("no answer for 15 s".into());
            }
            for event in &events {
                let client = &mut clients[event.token().0];
                if !client.receive()? {
                    continue;
                }
                total.latencies.push(nanos(client.sent.elapsed()));
                if start.elapsed() < window {
                    client.send(self.verb, &value)?;
                } else {
                    open -= 1;
                }
            }
        }
        total.entries = total.latencies.len() as u64;
        total.elapsed = start.elapsed();
        Ok(total)
    }
}

/// The server's binary, built by `cargo xtask bench` before.
fn program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("REFLOAT_BIN") {
        return Ok(path.into());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = root.join("target/release/refloat");
    match path.exists() {
        true => Ok(path),
        false => Err(format!("{} does not exist: run `cargo xtask bench`", path.display()).into()),
    }
}

fn free_ports(count: usize) -> Result<Vec<u16>> {
    let listeners: Vec<std::net::TcpListener> = (0..count)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0"))
        .collect::<std::io::Result<_>>()?;
    Ok(listeners
        .iter()
        .map(|l| l.local_addr().map(|a| a.port()))
        .collect::<std::io::Result<_>>()?)
}
