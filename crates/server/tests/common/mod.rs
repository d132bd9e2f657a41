//! Real processes of the real binary, on loopback, each killed when its handle is dropped.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod wounds;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// The program under test.
pub fn refloat() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_refloat"));
    command.stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn run(args: &[&str]) -> Output {
    refloat().args(args).output().unwrap()
}

/// Its exit code and its lines on standard error.
pub fn code_and_lines(output: &Output) -> (i32, Vec<String>) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap_or(-1), text.lines().map(str::to_owned).collect())
}

/// A failing start: the code, and one line behind whatever was logged.
pub fn refused(args: &[&str]) -> (i32, String) {
    let output = run(args);
    let (code, lines) = code_and_lines(&output);
    let last = lines.last().cloned().unwrap_or_default();
    assert!(last.starts_with("refloat: "), "{args:?}: {lines:?}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("refloat: ")).count(), 1, "{lines:?}");
    assert!(output.stdout.is_empty(), "{args:?} printed to stdout");
    (code, last)
}

/// A port that nobody has, below those that the system hands out for outgoing connections.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 12_000 + (std::process::id() % 1000) as u16 * 16;
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// A node's place and addresses.
pub struct Plan {
    pub id: u64,
    pub dir: PathBuf,
    pub client: String,
    pub admin: String,
    pub peer: String,
    pub flags: Vec<String>,
    /// What `serve` is run with, such as a program that moves it elsewhere before.
    pub launcher: Vec<String>,
}

/// A running node.
pub struct Node {
    child: Child,
    pub ready: String,
}

impl Plan {
    pub fn init(&self, members: &[String], groups: u32) {
        let mut command = refloat();
        command.arg("init").arg("--data-dir").arg(&self.dir);
        command.args(["--node", &self.id.to_string(), "--cluster", "test"]);
        command.args(["--groups", &groups.to_string()]);
        members.iter().for_each(|member| {
            command.args(["--member", member]);
        });
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Runs `join`.
    pub fn join(&self, cluster: &str, peer: &str) -> Output {
        let mut command = refloat();
        command.arg("join").arg("--data-dir").arg(&self.dir);
        command.args(["--node", &self.id.to_string(), "--cluster", cluster, "--peer", peer]);
        command.output().unwrap()
    }

    pub fn spawn(&self) -> Child {
        let Some((program, args)) = self.launcher.split_first() else {
            return self.spawn_from(refloat());
        };
        let mut command = Command::new(program);
        command.args(args).arg(env!("CARGO_BIN_EXE_refloat")).stdin(Stdio::null());
        self.spawn_from(command)
    }

    /// Starts it from a shell that ran `setup` before, as with `ulimit`.
    pub fn spawn_after(&self, setup: &str) -> Child {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("{setup}; exec \"$0\" \"$@\""));
        shell.arg(env!("CARGO_BIN_EXE_refloat")).stdin(Stdio::null());
        self.spawn_from(shell)
    }

    /// Starts it from a command that runs its arguments.
    pub fn spawn_from(&self, mut command: Command) -> Child {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.with_extension("log"))
            .unwrap();
        command.arg("serve").arg("--data-dir").arg(&self.dir);
        command.args(["--client-addr", &self.client, "--admin-addr", &self.admin]);
        command.args(&self.flags);
        command.stdout(Stdio::piped()).stderr(log).spawn().unwrap()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.with_extension("log")).unwrap_or_default()
    }
}

impl Node {
    /// Waits for the one line on standard output.
    pub fn when_ready(mut child: Child, plan: &Plan) -> Node {
        let stdout = child.stdout.take().unwrap();
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert!(line.starts_with("ready: "), "no ready line but {line:?}; log:\n{}", plan.log());
        Node { child, ready: line }
    }

    /// Waits for the one line on standard output, or for the end: its exit code.
    pub fn ready_or_code(mut child: Child) -> Result<Node, Option<i32>> {
        let stdout = child.stdout.take().unwrap();
        let mut ready = String::new();
        BufReader::new(stdout).read_line(&mut ready).unwrap();
        if ready.starts_with("ready: ") {
            return Ok(Node { child, ready });
        }
        Err(child.wait().unwrap().code())
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name and returns the exit code, or the time ran out.
    pub fn signal_and_wait(&mut self, signal: &str, time: Duration) -> Option<Option<i32>> {
        let pid = self.pid().to_string();
        Command::new("kill").args(["-s", signal, &pid]).status().unwrap();
        self.wait(time)
    }

    /// Waits for its end and returns the exit code, or the time ran out.
    pub fn wait(&mut self, time: Duration) -> Option<Option<i32>> {
        let give_up = Instant::now() + time;
        while Instant::now() < give_up {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status.code());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nodes of one cluster.
pub struct Cluster {
    pub temp: tempfile::TempDir,
    pub plans: Vec<Plan>,
    pub nodes: Vec<Option<Node>>,
}

impl Cluster {
    /// Initialises and starts a cluster and waits until it serves.
    pub fn start(size: u64, flags: &[&str]) -> Cluster {
        let mut cluster = Cluster::init(size, flags);
        cluster.start_all();
        cluster
    }

    pub fn init(size: u64, flags: &[&str]) -> Cluster {
        let cluster = Cluster::plan(size, flags);
        cluster.init_all();
        cluster
    }

    /// Says where nodes are to be, and does nothing yet.
    pub fn plan(size: u64, flags: &[&str]) -> Cluster {
        let temp = tempfile::tempdir().unwrap();
        let address = || format!("127.0.0.1:{}", free_port());
        let plan = |id: u64| Plan {
            id,
            peer: address(),
            dir: temp.path().join(format!("n{id}")),
            client: address(),
            admin: address(),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            launcher: Vec::new(),
        };
        let plans: Vec<Plan> = (1..=size).map(plan).collect();
        let nodes = plans.iter().map(|_| None).collect();
        Cluster { temp, plans, nodes }
    }

    pub fn init_all(&self) {
        let member = |plan: &Plan| format!("{}={}", plan.id, plan.peer);
        let members: Vec<String> = self.plans.iter().map(member).collect();
        self.plans.iter().for_each(|plan| plan.init(&members, 4));
    }

    pub fn start_all(&mut self) {
        let children: Vec<Child> = self.plans.iter().map(Plan::spawn).collect();
        for (at, child) in children.into_iter().enumerate() {
            self.nodes[at] = Some(Node::when_ready(child, &self.plans[at]));
        }
    }

    pub fn start_one(&mut self, at: usize) {
        let child = self.plans[at].spawn();
        self.nodes[at] = Some(Node::when_ready(child, &self.plans[at]));
    }

    /// Erases the directory of a node that is down and lets it join by what another one says.
    pub fn wipe(&self, at: usize, asked: usize) {
        std::fs::remove_dir_all(&self.plans[at].dir).unwrap();
        let output = self.plans[at].join("test", &self.plans[asked].peer);
        assert!(output.status.success(), "{output:?}");
    }

    /// What a node says of itself.
    pub fn status(&self, at: usize) -> serde_json::Value {
        let output = run(&["status", "--admin-addr", &self.plans[at].admin, "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// A counter or gauge of a node, by its name.
    pub fn metric(&self, at: usize, name: &str) -> u64 {
        let mut stream = TcpStream::connect(&self.plans[at].admin).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("the metric is there")
    }

    /// The most memory that a node has had in use, in bytes.
    pub fn most_resident(&self, at: usize) -> u64 {
        let pid = self.nodes[at].as_ref().unwrap().pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// The life of a node as its directory says.
    pub fn life(&self, at: usize) -> String {
        self.status(at)["incarnation"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until a node counts another one, in this life, as a voter in all groups, and no
    /// other life of it.
    pub fn wait_for_voter(&self, at: usize, node: usize, life: &str) {
        let begin = Instant::now();
        loop {
            let status = self.status(at);
            let groups = status["groups"].as_array().cloned().unwrap_or_default();
            let is_voter = |group: &serde_json::Value| {
                let members = group["members"].as_array().into_iter().flatten();
                let of_node: Vec<_> = members.filter(|m| m["node"] == node as u64 + 1).collect();
                of_node.len() == 1
                    && of_node[0]["incarnation"] == life
                    && of_node[0]["member"] == "voter"
            };
            if groups.len() > 1 && groups.iter().all(is_voter) {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(30), "no voter: {status:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn kill(&mut self, at: usize) {
        self.nodes[at].take().unwrap().kill();
    }

    pub fn client(&self, at: usize) -> Client {
        Client::connect(&self.plans[at].client)
    }
}

/// A blocking client of the Redis protocol.
pub struct Client {
    pub stream: TcpStream,
    reader: BufReader<TcpStream>,
}

/// A reply in its simplest form: errors with `-`, numbers with `:`, absence as `nil`.
impl Client {
    pub fn connect(address: &str) -> Client {
        Client::try_connect(address).unwrap()
    }

    pub fn try_connect(address: &str) -> std::io::Result<Client> {
        let address: SocketAddr = address.parse().unwrap();
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(15)))?;
        let reader = BufReader::new(stream.try_clone()?);
        Ok(Client { stream, reader })
    }

    pub fn encode(args: &[&str]) -> Vec<u8> {
        let mut out = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            out.extend_from_slice(format!("${}\r\n{arg}\r\n", arg.len()).as_bytes());
        }
        out
    }

    pub fn try_call(&mut self, args: &[&str]) -> std::io::Result<String> {
        self.stream.write_all(&Client::encode(args))?;
        self.reply()
    }

    pub fn call(&mut self, args: &[&str]) -> String {
        self.try_call(args).unwrap()
    }

    /// A line split at spaces.
    pub fn say(&mut self, line: &str) -> String {
        self.call(&line.split(' ').collect::<Vec<_>>())
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn reply(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end_matches(['\r', '\n']).to_owned();
        let (kind, rest) = line.split_at(1);
        match kind {
            "+" => Ok(rest.to_owned()),
            "-" | ":" => Ok(line),
            "_" => Ok("nil".into()),
            "$" => {
                let Ok(len) = rest.parse::<usize>() else { return Ok("nil".into()) };
                let mut value = vec![0; len + 2];
                self.reader.read_exact(&mut value)?;
                value.truncate(len);
                Ok(String::from_utf8_lossy(&value).into_owned())
            }
            "*" | "%" => {
                let pairs = if kind == "%" { 2 } else { 1 };
                let count = rest.parse::<usize>().unwrap_or(0) * pairs;
                let items: std::io::Result<Vec<String>> =
                    (0..count).map(|_| self.reply()).collect();
                Ok(format!("[{}]", items?.join(" ")))
            }
            _ => panic!("not a reply: {line:?}"),
        }
    }

    /// What comes until the other side closes.
    pub fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        self.reader.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Every name below a directory with a digest of its content. Who holds the lock stands in the
/// lock file, which is no content.
pub fn picture(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&next) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path.clone());
                found.push((path, 0));
            } else if path.file_name().is_some_and(|name| name != "LOCK") {
                let mut digest = std::hash::DefaultHasher::new();
                std::hash::Hash::hash(&std::fs::read(&path).unwrap(), &mut digest);
                found.push((path, std::hash::Hasher::finish(&digest)));
            }
        }
    }
    found.sort();
    found
}
