//! Nodes on loopback sockets, raw peers, and bounded waits.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use refloat_net::{
    Config, Dropped, Event, FrameKind, Hello, Lane, Peer, Refusal, Reply, TcpTransport, Transport,
    frame_header,
};
use refloat_types::{ClusterId, Identity, Incarnation, Member, NodeId};

/// No wait in these tests is longer.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub fn identity(node: u64) -> Identity {
    let incarnation = Incarnation(0xa000 + u128::from(node));
    Identity { cluster: ClusterId(0xc1), member: Member::new(NodeId(node), incarnation) }
}

pub fn config(node: u64) -> Config {
    let ms = Duration::from_millis;
    let mut config = Config::new(identity(node), 1, "127.0.0.1:0");
    config.seed = node;
    config.handshake_timeout = ms(400);
    config.frame_timeout = ms(600);
    config.keepalive = ms(100);
    config.idle_timeout = ms(1000);
    config.backoff_max = ms(200);
    config
}

#[derive(Default)]
pub struct Log {
    events: Mutex<Vec<Event>>,
    grown: Condvar,
}

impl Log {
    pub fn push(&self, event: Event) {
        self.events.lock().unwrap().push(event);
        self.grown.notify_all();
    }

    pub fn all(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    /// Waits until the events so far satisfy a condition.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, found: impl Fn(&[Event]) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut events = self.events.lock().unwrap();
        loop {
            if let Some(t) = found(&events) {
                return t;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited for {what}; saw {} events", events.len());
            events = self.grown.wait_timeout(events, left).unwrap().0;
        }
    }

    #[track_caller]
    pub fn wait_up(&self, node: u64) -> (Member, u64) {
        self.wait("up", |events| {
            events.iter().find_map(|event| match event {
                Event::Up { from, run } if from.node == NodeId(node) => Some((*from, *run)),
                _ => None,
            })
        })
    }

    #[track_caller]
    pub fn wait_refused(&self) -> (NodeId, Refusal) {
        self.wait("refusal", |events| {
            events.iter().find_map(|event| match event {
                Event::Refused { to, reason } => Some((*to, *reason)),
                _ => None,
            })
        })
    }

    #[track_caller]
    pub fn wait_frame(&self, content: &[u8]) -> Event {
        self.wait(&format!("frame {:?}", String::from_utf8_lossy(content)), |events| {
            let is =
                |event: &&Event| matches!(event, Event::Frame { bytes, .. } if bytes == content);
            events.iter().find(is).cloned()
        })
    }

    pub fn frames(&self) -> Vec<Bytes> {
        let frame = |event| match event {
            Event::Frame { bytes, .. } => Some(bytes),
            _ => None,
        };
        self.all().into_iter().filter_map(frame).collect()
    }
}

pub struct Node {
    pub transport: TcpTransport,
    pub log: Arc<Log>,
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

impl Node {
    pub fn start(runtime: &tokio::runtime::Runtime, config: Config) -> Node {
        let log = Arc::new(Log::default());
        let sink = log.clone();
        let deliver = Arc::new(move |event| sink.push(event));
        let transport = TcpTransport::bind(config, runtime.handle(), deliver).unwrap();
        Node { transport, log }
    }

    pub fn address(&self) -> SocketAddr {
        self.transport.local_addr()
    }

    pub fn knows(&self, peers: &[(u64, SocketAddr)]) {
        let peer = |&(node, at): &(u64, SocketAddr)| (NodeId(node), Peer::new(at.to_string()));
        self.transport.set_peers(&peers.iter().map(peer).collect::<BTreeMap<_, _>>());
    }

    pub fn send(&self, to: u64, lane: Lane, frame: impl Into<Bytes>) -> Result<(), Dropped> {
        self.transport.send(NodeId(to), lane, frame.into())
    }

    /// Sends again and again until the other side has it: what a caller above Raft does.
    #[track_caller]
    pub fn get_through(&self, to: u64, lane: Lane, other: &Node, content: &'static [u8]) {
        let deadline = Instant::now() + PATIENCE;
        while !other.log.frames().iter().any(|f| f == content) {
            assert!(Instant::now() < deadline, "{content:?} never arrived");
            let _ = self.send(to, lane, content);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Two nodes that know each other and are connected both ways.
pub fn pair(runtime: &tokio::runtime::Runtime) -> (Node, Node) {
    let (a, b) = (Node::start(runtime, config(1)), Node::start(runtime, config(2)));
    a.knows(&[(2, b.address())]);
    b.knows(&[(1, a.address())]);
    a.get_through(2, Lane::Urgent, &b, b"warm a");
    b.get_through(1, Lane::Urgent, &a, b"warm b");
    (a, b)
}

/// Waits for a condition that no event tells.
#[track_caller]
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A peer that follows no rules but the test's.
pub struct Raw(pub TcpStream);

impl Raw {
    pub fn connect(to: SocketAddr) -> Raw {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Raw(stream)
    }

    pub fn hello(node: u64, to: u64, lane: Lane) -> Hello {
        Hello { from: identity(node), run: 1, to: NodeId(to), incarnation: None, lane }
    }

    /// Connects and shakes hands by the rules.
    pub fn welcomed(to: SocketAddr, hello: &Hello) -> Raw {
        let mut raw = Raw::connect(to);
        raw.write(&hello.encode());
        assert_eq!(raw.read_reply().refusal, None);
        raw
    }

    pub fn read_reply(&mut self) -> Reply {
        let mut bytes = vec![0; 97];
        self.0.read_exact(&mut bytes).unwrap();
        Reply::decode(&bytes).unwrap()
    }

    pub fn write(&mut self, bytes: &[u8]) {
        // The other side may have closed already; the test asks that elsewhere.
        let _ = self.0.write_all(bytes);
    }

    pub fn frame(&mut self, seq: u32, lane: Lane, body: &[u8]) {
        self.write(&frame_header(seq, FrameKind::Data, lane, body));
        self.write(body);
    }

    pub fn end(&mut self) {
        let _ = self.0.shutdown(Shutdown::Write);
    }

    /// Waits until the other side closes; returns how long it took.
    #[track_caller]
    pub fn wait_closed(&mut self) -> Duration {
        let began = Instant::now();
        let mut buf = [0; 1024];
        loop {
            match self.0.read(&mut buf) {
                Ok(0) => return began.elapsed(),
                Ok(_) => assert!(began.elapsed() < PATIENCE, "never closed"),
                Err(e) => {
                    let late = matches!(
                        e.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    );
                    assert!(!late, "never closed");
                    return began.elapsed();
                }
            }
        }
    }
}

/// Forwards one direction of each connection through a function; the other as it is.
/// Returns the address to connect to.
pub fn proxy(
    to: SocketAddr,
    change: impl Fn(usize, &mut [u8]) + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let change = Arc::new(change);
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(to) else { return };
            let change = change.clone();
            let (c, s) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || pump(c, s, |at, bytes| change(at, bytes)));
            std::thread::spawn(move || pump(server, client, |_, _| {}));
        }
    });
    address
}

fn pump(mut from: TcpStream, mut to: TcpStream, change: impl Fn(usize, &mut [u8])) {
    let mut buf = [0; 4096];
    let mut at = 0;
    while let Ok(n @ 1..) = from.read(&mut buf) {
        change(at, &mut buf[..n]);
        at += n;
        if to.write_all(&buf[..n]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
