//! What a command can know: its connection and the server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::resp::Protocol;
use crate::serve::unsent::Unsent;

/// One connection.
#[derive(Debug)]
pub struct Session {
    /// Unique among the connections of this process.
    pub id: u64,
    /// The client's address.
    pub peer: SocketAddr,
    /// Ours.
    pub local: SocketAddr,
    /// Which protocol it speaks.
    pub protocol: Protocol,
    /// Whether it gave the password, if one is needed.
    pub authenticated: bool,
    /// What it calls itself.
    pub name: Bytes,
    /// The library it says it uses.
    pub library: Bytes,
    /// That library's version.
    pub library_version: Bytes,
    /// What it asked last.
    pub last_command: &'static str,
}

/// The connections, as CLIENT LIST shows them.
#[derive(Debug, Default)]
pub struct Clients {
    next_id: AtomicU64,
    open: Mutex<BTreeMap<u64, ClientInfo>>,
}

/// One line of CLIENT LIST.
#[derive(Clone, Debug)]
pub struct ClientInfo {
    /// When it connected.
    pub since: Instant,
    /// Everything else, as it was after its last change.
    pub line: String,
}

impl Clients {
    /// A number for a new connection.
    pub fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.lock().len()
    }

    /// Notes a connection, or what changed about it.
    pub fn note(&self, session: &Session) {
        let mut open = self.open.lock();
        let line = session.describe();
        match open.get_mut(&session.id) {
            Some(info) => info.line = line,
            None => {
                open.insert(session.id, ClientInfo { since: Instant::now(), line });
            }
        }
    }

    /// Forgets a connection.
    pub fn forget(&self, id: u64) {
        self.open.lock().remove(&id);
    }

    /// All of them, oldest first.
    pub fn list(&self) -> Vec<ClientInfo> {
        self.open.lock().values().cloned().collect()
    }

    /// One of them.
    pub fn get(&self, id: u64) -> Option<ClientInfo> {
        self.open.lock().get(&id).cloned()
    }
}

impl Session {
    /// A connection of which nothing was heard yet.
    pub fn new(id: u64, peer: SocketAddr, local: SocketAddr, authenticated: bool) -> Session {
        Session {
            id,
            peer,
            local,
            protocol: Protocol::Resp2,
            authenticated,
            name: Bytes::new(),
            library: Bytes::new(),
            library_version: Bytes::new(),
            last_command: "",
        }
    }

    fn describe(&self) -> String {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        format!(
            "id={} addr={} laddr={} name={} db=0 cmd={} user=default lib-name={} lib-ver={} resp={}",
            self.id,
            self.peer,
            self.local,
            text(&self.name),
            self.last_command,
            text(&self.library),
            text(&self.library_version),
            match self.protocol {
                Protocol::Resp2 => 2,
                Protocol::Resp3 => 3,
            }
        )
    }
}

impl ClientInfo {
    /// The line with the connection's age.
    pub fn line(&self) -> String {
        format!("{} age={}\n", self.line, self.since.elapsed().as_secs())
    }
}

/// Counters of the client side.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Connections taken.
    pub connections: AtomicU64,
    /// Connections refused since there were too many.
    pub rejected: AtomicU64,
    /// Commands dispatched.
    pub commands: AtomicU64,
    /// Replies that were errors.
    pub errors: AtomicU64,
    /// Connections closed over a broken frame.
    pub protocol_errors: AtomicU64,
    /// Connections closed since the outcome of a command was unknown.
    pub unknown_outcomes: AtomicU64,
    /// Bytes read from clients.
    pub bytes_in: AtomicU64,
    /// Bytes written to clients.
    pub bytes_out: AtomicU64,
}

/// What does not change while the server runs.
#[derive(Clone, Debug)]
pub struct ServiceOptions {
    /// How many data groups there are.
    pub groups: u32,
    /// What a client must give, if anything.
    pub password: Option<Bytes>,
    /// The longest value.
    pub value_len_max: usize,
    /// The most connections.
    pub clients_max: usize,
    /// The most bytes of replies that clients have not taken, over all connections.
    pub unsent_max: u64,
    /// The data directory, as shown by CONFIG GET.
    pub data_dir: String,
    /// The client port.
    pub port: u16,
}

/// The server, as commands see it.
#[derive(Debug)]
pub struct Service {
    /// Settings.
    pub options: ServiceOptions,
    /// When it started.
    pub started: Instant,
    /// Its connections.
    pub clients: Clients,
    /// Its counters.
    pub traffic: Traffic,
    /// Room for replies that clients have not taken.
    pub unsent: Unsent,
}

impl Service {
    /// A server without connections.
    pub fn new(options: ServiceOptions) -> Service {
        Service {
            unsent: Unsent::new(options.unsent_max),
            options,
            started: Instant::now(),
            clients: Clients::default(),
            traffic: Traffic::default(),
        }
    }
}

/// Everything a command can know.
pub struct Context<'a> {
    /// Its connection.
    pub session: &'a mut Session,
    /// The server.
    pub service: &'a Service,
}
