//! From flags to settings that fit together.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use refloat_log_store::Options;
use refloat_log_store::identity::NodeIdentity;
use refloat_node::Config;
use refloat_vfs::{OsFs, Vfs};

use super::connection::Bounds;
use crate::cli::args::Serve;
use crate::cli::failure::{Code, Failure};
use crate::cli::store_options;
use crate::cli::units::{show_duration, show_size};
use crate::commands::ServiceOptions;
use crate::resp::Limits;

const BLOCK: u64 = 4096;
const MIB: u64 = 1 << 20;

/// Everything that flags decide.
pub struct Settings {
    /// Of the node.
    pub node: Config,
    /// Of its files.
    pub store: Options,
    /// Of client connections.
    pub bounds: Bounds,
    password: Option<Bytes>,
    clients_max: usize,
    unsent_max: u64,
    peer_addr: Option<String>,
    peer_plain_tcp: bool,
}

impl Settings {
    /// Checks flags that can be judged without looking at the disk or the network.
    pub fn new(args: &Serve) -> Result<Settings, Failure> {
        let mut store = store_options(args.data_dir.clone(), &args.files);
        store.scrub_rate = args.tuning.scrub_rate;
        check_file_size("--wal-file-size", store.wal_file_size)?;
        check_file_size("--votes-file-size", store.votes_file_size)?;
        let bounds = bounds(args)?;
        let password = args.client_password_file.as_deref().map(read_password).transpose()?;
        if !args.client_addr.ip().is_loopback() && password.is_none() {
            return Err(Failure::usage(format!(
                "--client-addr {} is not a loopback address: it needs --client-password-file",
                args.client_addr
            )));
        }
        Ok(Settings {
            node: node_config(args, &bounds)?,
            store,
            bounds,
            password,
            clients_max: args.tuning.max_clients,
            unsent_max: args.tuning.max_unsent,
            peer_addr: args.peer_addr.clone(),
            peer_plain_tcp: args.peer_plain_tcp,
        })
    }

    /// A directory that came to another node's place is not started there; one that came to a new
    /// place has the others told.
    pub fn place(&mut self, identity: &NodeIdentity) -> Result<(), Failure> {
        let Some(address) = &self.peer_addr else { return Ok(()) };
        let me = identity.identity.member.node;
        let other = identity.members.iter().find(|(node, at)| *node != me && at == address);
        if let Some((node, _)) = other {
            return Err(Failure::new(
                Code::Refused,
                format!(
                    "{} belongs to node {me} of cluster {}, and {address} is the peer address of node {node}",
                    self.store.dir.display(),
                    identity.cluster_name
                ),
            ));
        }
        let listed = identity.members.iter().find(|(node, _)| *node == me);
        // An address that only this machine can use is no place to be found at, unless it was.
        let reachable = |listed: &String| is_loopback(address) == is_loopback(listed);
        if !is_unspecified(address) && listed.is_some_and(|(_, at)| at != address && reachable(at))
        {
            self.node.peer_address = Some(address.clone());
        }
        Ok(())
    }

    /// Nodes talk in the clear, which beyond loopback must be wanted.
    pub fn check_peer_address(&self, identity: &NodeIdentity) -> Result<(), Failure> {
        if self.peer_plain_tcp {
            return Ok(());
        }
        let own = identity.members.iter().find(|(node, _)| *node == identity.identity.member.node);
        let listed = own.map(|(_, address)| address.clone());
        let Some(address) = self.peer_addr.clone().or(listed) else { return Ok(()) };
        if is_loopback(&address) {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "peer address {address} is not a loopback address: it needs --peer-plain-tcp, \
             nodes talk in the clear"
        )))
    }

    /// No more clients than there are descriptors for.
    pub fn limit_clients(&mut self) {
        self.clients_max = super::descriptors::room_for_clients(self.clients_max);
    }

    /// A second process on the same directory is told so, rather than that a port is in use.
    pub fn check_not_in_use(&self) -> Result<(), Failure> {
        let path = self.store.dir.join("LOCK");
        if !OsFs.exists(&path).unwrap_or(false) {
            return Ok(());
        }
        match OsFs.lock(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                Err(refloat_log_store::BootError::InUse { path }.into())
            }
            _ => Ok(()),
        }
    }

    /// What commands need to know.
    pub fn service(
        &self,
        identity: &NodeIdentity,
        listening: Option<SocketAddr>,
    ) -> ServiceOptions {
        ServiceOptions {
            groups: identity.groups,
            password: self.password.clone(),
            value_len_max: self.bounds.limits.value_len,
            clients_max: self.clients_max,
            unsent_max: self.unsent_max,
            data_dir: self.store.dir.display().to_string(),
            port: listening.map_or(0, |address| address.port()),
        }
    }

    /// One line about the node, for whoever started it.
    pub fn about(&self, args: &Serve, identity: &NodeIdentity) -> String {
        let admin = match args.admin_addr {
            Some(address) => format!(", admin on {address}"),
            None => String::new(),
        };
        format!(
            "node {} of cluster {}, clients on {}{admin}, election timeout {}",
            identity.identity.member.node,
            identity.cluster_name,
            args.client_addr,
            show_duration(args.tuning.election_timeout)
        )
    }

    /// Logs what the sizes came to.
    pub fn log(&self) {
        tracing::info!(
            "settings: log file {}, votes file {}, largest value {}, election timeout {} us, \
             heartbeat {} us, snapshot every {} entries or {}, rank {}, lease drift {:?} us, \
             quiet after {:?} us, disk patience {}",
            show_size(self.store.wal_file_size),
            show_size(self.store.votes_file_size),
            show_size(self.bounds.limits.value_len as u64),
            self.node.election_timeout,
            self.node.heartbeat,
            self.node.snapshot_entries,
            show_size(self.node.snapshot_bytes),
            self.node.rank,
            self.node.lease_drift,
            self.node.quiet_after,
            self.node.disk_patience,
        );
    }
}

/// One round of requests becomes one entry per group, and an entry must fit into a log file. In
/// an entry an argument takes at most twice what it takes in a request.
fn bounds(args: &Serve) -> Result<Bounds, Failure> {
    let unit = (args.files.wal_file_size / 16).min(MIB);
    let value_len = args.tuning.max_value_size.unwrap_or(unit);
    let most = args.files.wal_file_size / 8;
    if value_len == 0 || value_len > most {
        return Err(Failure::usage(format!(
            "--max-value-size {} is not between 1B and an eighth of --wal-file-size, {}",
            show_size(value_len),
            show_size(most)
        )));
    }
    let request_len = (value_len + unit) as usize;
    let limits = Limits { value_len: value_len as usize, request_len, args: 65_536 };
    Ok(Bounds { limits, round_len: unit as usize })
}

fn node_config(args: &Serve, bounds: &Bounds) -> Result<Config, Failure> {
    let tuning = &args.tuning;
    let heartbeat = tuning.heartbeat.unwrap_or(tuning.election_timeout / 10);
    let election_us = tuning.election_timeout.as_micros() as u64;
    let heartbeat_us = heartbeat.as_micros() as u64;
    if election_us < 10_000 {
        return Err(Failure::usage("--election-timeout is shorter than 10ms"));
    }
    if heartbeat_us == 0 || heartbeat_us * 2 > election_us {
        return Err(Failure::usage(format!(
            "--heartbeat {} is not between 1us and half of --election-timeout, {}",
            show_duration(heartbeat),
            show_duration(tuning.election_timeout / 2)
        )));
    }
    if tuning.snapshot_entries == 0 || tuning.snapshot_size == 0 || tuning.max_clients == 0 {
        return Err(Failure::usage(
            "--snapshot-entries, --snapshot-size and --max-clients must not be 0",
        ));
    }
    if tuning.snapshot_inflight == 0 || tuning.snapshot_receptions == 0 {
        return Err(Failure::usage("--snapshot-inflight and --snapshot-receptions must not be 0"));
    }
    if tuning.lease_drift.is_some_and(|drift| drift >= tuning.election_timeout) {
        return Err(Failure::usage(format!(
            "--lease-drift must be less than --election-timeout, {}: a lease would never hold",
            show_duration(tuning.election_timeout)
        )));
    }
    if tuning.quiet_after.is_some_and(|after| after < heartbeat) {
        return Err(Failure::usage(format!(
            "--quiet-after is shorter than --heartbeat, {}",
            show_duration(heartbeat)
        )));
    }
    let mut config = Config::default();
    config.lease_drift = tuning.lease_drift.map(|drift| drift.as_micros() as u64);
    config.rank = tuning.rank;
    config.disk_patience = tuning.disk_patience;
    config.quiet_after = tuning.quiet_after.map(|after| after.as_micros() as u64);
    config.snapshot_rate = tuning.snapshot_rate;
    config.snapshot_inflight_bytes = tuning.snapshot_inflight;
    config.snapshot_receptions = tuning.snapshot_receptions;
    config.election_timeout = election_us;
    config.heartbeat = heartbeat_us;
    config.max_pending_bytes = tuning.max_pending;
    config.snapshot_entries = tuning.snapshot_entries;
    config.snapshot_bytes = tuning.snapshot_size;
    config.max_payload = 2 * (bounds.limits.request_len + bounds.round_len) as u64;
    Ok(config)
}

fn check_file_size(flag: &str, size: u64) -> Result<(), Failure> {
    let (least, most) = (16 * BLOCK, 1 << 31);
    if (least..=most).contains(&size) && size.is_multiple_of(BLOCK) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{flag} {} is not a multiple of 4KiB between {} and {}",
        show_size(size),
        show_size(least),
        show_size(most)
    )))
}

/// The file's first line.
fn read_password(path: &Path) -> Result<Bytes, Failure> {
    let shown = PathBuf::from(path);
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::because(Code::Usage, format!("--client-password-file {}", shown.display()), &error)
    })?;
    match text.lines().next().map(str::trim_end) {
        Some(line) if !line.is_empty() => Ok(Bytes::copy_from_slice(line.as_bytes())),
        _ => Err(Failure::usage(format!(
            "--client-password-file {}: its first line is empty",
            shown.display()
        ))),
    }
}

/// Whether it means all addresses of this machine.
fn is_unspecified(address: &str) -> bool {
    let mut addresses = address.to_socket_addrs().into_iter().flatten();
    addresses.any(|address| address.ip().is_unspecified())
}

/// Whether all addresses behind a name are loopback. A name that cannot be resolved is none.
fn is_loopback(address: &str) -> bool {
    let all_loopback = |addresses: std::vec::IntoIter<SocketAddr>| {
        let ips: Vec<IpAddr> = addresses.map(|address| address.ip()).collect();
        !ips.is_empty() && ips.iter().all(IpAddr::is_loopback)
    };
    address.to_socket_addrs().is_ok_and(all_loopback)
}
