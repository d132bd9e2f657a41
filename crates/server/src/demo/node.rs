//! One node: a process of this same program.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::admin::http;
use crate::cli::failure::{Code, Failure};

/// A start that takes longer has failed.
const START: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its number.
    pub id: u64,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Where other nodes connect.
    pub peer: SocketAddr,
    /// Where its log lines go.
    pub log: PathBuf,
    /// Where clients connect.
    pub client: SocketAddr,
    /// Where status is served.
    pub admin: SocketAddr,
}

/// A node that runs. Killed when dropped.
pub struct Process {
    child: Child,
    ready: Receiver<String>,
    is_ready: bool,
}

impl Plan {
    /// Makes the data directory.
    pub fn init(&self, program: &Path, members: &[String]) -> Result<(), Failure> {
        let mut command = Command::new(program);
        command.arg("init").arg("--data-dir").arg(&self.data_dir);
        command.args(["--node", &self.id.to_string(), "--cluster", "demo"]);
        members.iter().for_each(|member| {
            command.args(["--member", member]);
        });
        self.run(command, "init")
    }

    /// Makes the data directory anew, by what the node at this peer address tells.
    pub fn join(&self, program: &Path, peer: SocketAddr) -> Result<(), Failure> {
        let mut command = Command::new(program);
        command.arg("join").arg("--data-dir").arg(&self.data_dir);
        command.args(["--node", &self.id.to_string(), "--cluster", "demo"]);
        command.args(["--peer", &peer.to_string()]);
        self.run(command, "join")
    }

    fn run(&self, mut command: Command, name: &str) -> Result<(), Failure> {
        let output = command
            .stdin(Stdio::null())
            .output()
            .map_err(|error| Failure::because(Code::Other, format!("run {name}"), &error))?;
        if output.status.success() {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(Failure::new(Code::Other, format!("{name} of node {} failed: {line}", self.id)))
    }

    /// Starts the process.
    pub fn start(&self, program: &Path) -> Result<Process, Failure> {
        let failed = |error| Failure::because(Code::Other, "start a node", &error);
        let log = self.open_log().map_err(failed)?;
        let mut command = Command::new(program);
        command.arg("serve").arg("--data-dir").arg(&self.data_dir);
        command.args(["--client-addr", &self.client.to_string()]);
        command.args(["--admin-addr", &self.admin.to_string()]);
        // Small files, so that rolling over, flushing and snapshots happen while one looks.
        command.args(["--wal-file-size", "4MiB", "--snapshot-entries", "20000"]);
        command.args(["--tear-on-signal", "--exit-with-parent", &std::process::id().to_string()]);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let (sender, ready) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Ok(Process { child, ready, is_ready: false })
    }

    fn open_log(&self) -> std::io::Result<File> {
        OpenOptions::new().create(true).append(true).open(&self.log)
    }

    /// The end of its log, for a failure message.
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().next_back().unwrap_or("no log").to_owned()
    }

    /// Asks its admin port.
    pub async fn ask(&self, path: &'static str) -> Option<String> {
        let address = self.admin;
        let get = move || http::get(address, path, Duration::from_secs(1));
        match tokio::task::spawn_blocking(get).await {
            Ok(Ok((200, body))) => Some(body),
            _ => None,
        }
    }

    /// The same, as JSON.
    pub async fn ask_json(&self, path: &'static str) -> Option<Value> {
        serde_json::from_str(&self.ask(path).await?).ok()
    }
}

impl Process {
    /// Waits for the line that says it is ready.
    pub async fn wait_until_ready(&mut self, plan: &Plan) -> Result<(), Failure> {
        let give_up = Instant::now() + START;
        while !self.is_ready {
            match self.ready.try_recv() {
                Ok(_) => self.is_ready = true,
                Err(TryRecvError::Disconnected) => {
                    let line = format!("node {} did not start: {}", plan.id, plan.last_words());
                    return Err(Failure::new(Code::Other, line));
                }
                Err(TryRecvError::Empty) if Instant::now() > give_up => {
                    let line = format!("node {} is not ready: {}", plan.id, plan.last_words());
                    return Err(Failure::new(Code::Other, line));
                }
                Err(TryRecvError::Empty) => tokio::time::sleep(POLL).await,
            }
        }
        Ok(())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process(pid, signal);
        }
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end for so long.
    pub async fn wait(&mut self, time: Duration) -> Option<ExitStatus> {
        let give_up = Instant::now() + time;
        loop {
            let ended = self.ended();
            if ended.is_some() || Instant::now() > give_up {
                return ended;
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
