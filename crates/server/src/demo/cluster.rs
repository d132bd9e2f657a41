//! Three nodes on loopback.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::node::{Plan, Process};
use super::ports;
use super::screen::Screen;
use crate::cli::failure::{Code, Failure};

const NODES: usize = 3;
/// A cluster that has no leaders for so long has failed.
const LEADERS: Duration = Duration::from_secs(20);
/// An orderly stop takes no longer.
const STOP: Duration = Duration::from_secs(10);

/// The nodes, some of them running.
pub struct Cluster {
    program: PathBuf,
    plans: Vec<Plan>,
    processes: Vec<Option<Process>>,
}

impl Cluster {
    /// Makes three directories and starts their nodes.
    pub async fn start(dir: PathBuf, seed: u64, screen: &Screen) -> Result<Cluster, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::because(Code::Other, "find this program", &error))?;
        let ports = ports::free(3 * NODES, seed)
            .ok_or_else(|| Failure::new(Code::Network, "no free ports on loopback"))?;
        let local = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let plan = |n: usize| Plan {
            id: n as u64 + 1,
            data_dir: dir.join(format!("node{}", n + 1)),
            log: dir.join(format!("node{}.log", n + 1)),
            peer: local(ports[n]),
            client: local(ports[NODES + n]),
            admin: local(ports[2 * NODES + n]),
        };
        let plans: Vec<Plan> = (0..NODES).map(plan).collect();
        let members: Vec<String> =
            (0..NODES).map(|n| format!("{}={}", n + 1, local(ports[n]))).collect();
        for plan in &plans {
            plan.init(&program, &members)?;
        }
        let mut cluster = Cluster { program, plans, processes: Vec::new() };
        let begin = Instant::now();
        for plan in &cluster.plans {
            cluster.processes.push(Some(plan.start(&cluster.program)?));
        }
        cluster.wait_until_ready().await?;
        screen.say(&format!(
            "three nodes formed a cluster in {:.1} s; clients: {}",
            begin.elapsed().as_secs_f64(),
            cluster.client_addresses().join(" ")
        ));
        Ok(cluster)
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.plans.len()
    }

    /// Where clients connect.
    pub fn client_addresses(&self) -> Vec<String> {
        self.plans.iter().map(|plan| plan.client.to_string()).collect()
    }

    /// A node's number.
    pub fn id(&self, at: usize) -> u64 {
        self.plans[at].id
    }

    /// Kills a node with SIGKILL.
    pub async fn kill(&mut self, at: usize) {
        if let Some(mut process) = self.processes[at].take() {
            process.signal(Signal::KILL);
            process.wait(STOP).await;
        }
    }

    /// Kills all nodes with SIGKILL, at once.
    pub async fn kill_all(&mut self) {
        for process in self.processes.iter().flatten() {
            process.signal(Signal::KILL);
        }
        for at in 0..self.len() {
            self.kill(at).await;
        }
    }

    /// Lets a node tear its next large enough log write, which kills it. Whether it did in time.
    pub async fn tear(&mut self, at: usize, time: Duration) -> bool {
        let Some(mut process) = self.processes[at].take() else { return false };
        process.signal(Signal::USR1);
        process.wait(time).await.is_some()
    }

    /// Starts a node again and tells what it found.
    pub async fn restart(&mut self, at: usize, screen: &Screen) -> Result<(), Failure> {
        let begin = Instant::now();
        self.spawn(at)?;
        self.wait_for(at).await?;
        self.tell_boot(at, begin, screen).await;
        Ok(())
    }

    /// Erases the directory of a node that is down, makes it anew with `join`, starts the node, and
    /// waits until the others count it as a voter in its new life.
    pub async fn replace(&mut self, at: usize, screen: &Screen) -> Result<(), Failure> {
        let begin = Instant::now();
        let asked = (at + 1) % self.len();
        std::fs::remove_dir_all(&self.plans[at].data_dir)
            .map_err(|error| Failure::because(Code::Other, "erase a directory", &error))?;
        self.plans[at].join(&self.program, self.plans[asked].peer)?;
        self.spawn(at)?;
        self.wait_for(at).await?;
        let give_up = Instant::now() + LEADERS;
        while !self.is_voter_again(at, asked).await {
            if Instant::now() > give_up {
                let line = format!("node {} is no voter again after its wipe", self.id(at));
                return Err(Failure::new(Code::Other, line));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        screen.say(&format!(
            "  node {} is a voter of every group again, in a new life, after {:.1} s",
            self.id(at),
            begin.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    /// Whether a node counts another one in its present life as a voter of every group.
    async fn is_voter_again(&self, at: usize, asked: usize) -> bool {
        let own = self.plans[at].ask_json("/v1/status").await.unwrap_or_default();
        let status = self.plans[asked].ask_json("/v1/status").await.unwrap_or_default();
        let groups = status["groups"].as_array().map_or(&[][..], Vec::as_slice);
        let is_voter = |group: &Value| {
            group["members"].as_array().into_iter().flatten().any(|member| {
                member["node"] == self.id(at)
                    && member["incarnation"] == own["incarnation"]
                    && member["member"] == "voter"
            })
        };
        !groups.is_empty() && groups.iter().all(is_voter)
    }

    /// Starts all nodes again, at once.
    pub async fn restart_all(&mut self, screen: &Screen) -> Result<(), Failure> {
        let begin = Instant::now();
        for at in 0..self.len() {
            self.spawn(at)?;
        }
        for at in 0..self.len() {
            self.wait_for(at).await?;
            self.tell_boot(at, begin, screen).await;
        }
        Ok(())
    }

    fn spawn(&mut self, at: usize) -> Result<(), Failure> {
        self.processes[at] = Some(self.plans[at].start(&self.program)?);
        Ok(())
    }

    async fn wait_for(&mut self, at: usize) -> Result<(), Failure> {
        match &mut self.processes[at] {
            Some(process) => process.wait_until_ready(&self.plans[at]).await,
            None => Ok(()),
        }
    }

    async fn tell_boot(&self, at: usize, begin: Instant, screen: &Screen) {
        let seconds = begin.elapsed().as_secs_f64();
        let report = match self.plans[at].ask_json("/v1/boot").await {
            Some(boot) => short(&boot),
            None => "no boot report".into(),
        };
        screen.say(&format!("  node {} is back after {seconds:.1} s: {report}", self.id(at)));
    }

    /// Waits until every node is up and knows a leader of every group.
    pub async fn wait_until_ready(&mut self) -> Result<(), Failure> {
        for at in 0..self.len() {
            self.wait_for(at).await?;
        }
        let give_up = Instant::now() + LEADERS;
        for plan in &self.plans {
            while plan.ask("/readyz").await.is_none() {
                if Instant::now() > give_up {
                    let line = format!("node {} finds no leaders: {}", plan.id, plan.last_words());
                    return Err(Failure::new(Code::Other, line));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    /// The node that leads the most groups.
    pub async fn leader(&self) -> usize {
        let mut led: BTreeMap<u64, u32> = BTreeMap::new();
        for (plan, process) in self.plans.iter().zip(&self.processes) {
            if process.is_none() {
                continue;
            }
            let Some(status) = plan.ask_json("/v1/status").await else { continue };
            for group in status["groups"].as_array().into_iter().flatten() {
                if let Some(leader) = group["leader"].as_u64() {
                    *led.entry(leader).or_default() += 1;
                }
            }
            break;
        }
        let most = led.into_iter().max_by_key(|(_, count)| *count).map(|(id, _)| id);
        self.plans.iter().position(|plan| Some(plan.id) == most).unwrap_or(0)
    }

    /// Adds up the log syncs of all nodes, over all their lives.
    pub fn watch_syncs(&self) -> Syncs {
        let total = Arc::new(AtomicU64::new(0));
        let tasks = self.plans.iter().cloned().map(|plan| {
            let total = total.clone();
            tokio::spawn(async move {
                let mut before = plan.syncs().await.unwrap_or(0);
                loop {
                    tokio::time::sleep(Duration::from_millis(250)).await;
                    let Some(now) = plan.syncs().await else { continue };
                    // A smaller number is that of a new life.
                    let more = if now >= before { now - before } else { now };
                    total.fetch_add(more, Ordering::Relaxed);
                    before = now;
                }
            })
        });
        Syncs { tasks: tasks.collect(), total }
    }

    /// Stops all nodes in order.
    pub async fn stop(mut self, screen: &Screen) -> Result<(), Failure> {
        for process in self.processes.iter().flatten() {
            process.signal(Signal::TERM);
        }
        for (plan, process) in self.plans.iter().zip(&mut self.processes) {
            let Some(process) = process else { continue };
            match process.wait(STOP).await {
                Some(status) if status.success() => {}
                Some(status) => screen.say(&format!(
                    "node {} ended with {status}: {}",
                    plan.id,
                    plan.last_words()
                )),
                None => screen.say(&format!("node {} did not stop in order", plan.id)),
            }
        }
        Ok(())
    }
}

impl Plan {
    async fn syncs(&self) -> Option<u64> {
        let metrics = self.ask("/metrics").await?;
        let value = metrics.lines().find_map(|line| line.strip_prefix("refloat_log_syncs_total "));
        value?.parse().ok()
    }
}

/// The sum of syncs, growing.
pub struct Syncs {
    tasks: Vec<JoinHandle<()>>,
    total: Arc<AtomicU64>,
}

impl Syncs {
    /// The sum.
    pub async fn stop(mut self) -> u64 {
        for task in self.tasks.drain(..) {
            task.abort();
            let _ = task.await;
        }
        self.total.load(Ordering::Relaxed)
    }
}

impl Drop for Syncs {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// A boot report in one line.
fn short(boot: &Value) -> String {
    let files = boot["files"].as_array().map_or(&[][..], Vec::as_slice);
    let batches: u64 = files.iter().filter_map(|file| file["batches"].as_u64()).sum();
    let groups = boot["groups"].as_array().map_or(&[][..], Vec::as_slice);
    let clean = groups.iter().filter(|group| group["waits_for"].is_null()).count();
    let mut line = format!(
        "read {} log files with {batches} batches and {} segments, {clean} of {} groups clean",
        files.len(),
        boot["segments"],
        groups.len()
    );
    for list in ["repaired", "damage"] {
        for text in boot[list].as_array().into_iter().flatten().filter_map(Value::as_str) {
            line.push_str("; ");
            line.push_str(text);
        }
    }
    line
}
