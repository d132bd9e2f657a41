//! `refloat serve`: a node and everything around it.
//!
//! Order of a start: flags are checked, the identity is read, every address is listened on, and
//! only then is the data directory touched; so a start that is refused leaves it as it was.

mod ask;
mod connection;
mod descriptors;
mod desk;
mod listener;
mod log;
mod ready;
mod round;
mod settings;
pub mod stopping;
mod sweep;
mod tear;
pub mod unsent;

use std::net::SocketAddr;
use std::sync::Arc;

use refloat_log_store::identity::{self, NodeIdentity};
use refloat_node::{Node, StartError, StopReason};
use refloat_vfs::{OsFs, Vfs};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::{self, Admin};
use crate::cli::args::Serve;
use crate::cli::failure::{Code, Failure, with_causes};
use crate::commands::Service;
use crate::kv::{Deadlines, Kv};
use settings::Settings;
use tear::{TearFs, Trigger};

/// Runs the command; returns when the node has stopped.
pub fn run(args: Serve) -> Result<(), Failure> {
    if let Some(parent) = args.exit_with_parent {
        die_with(parent)?;
    }
    log::start();
    let mut settings = Settings::new(&args)?;
    let identity = identity::load(&OsFs, &args.data_dir)?;
    settings.place(&identity)?;
    settings.check_peer_address(&identity)?;
    settings.limit_clients();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(client_threads())
        .thread_name("refloat-client")
        .enable_all()
        .build()
        .map_err(|error| Failure::because(Code::Other, "start the runtime", &error))?;
    let result = runtime.block_on(serve(&args, settings, &identity));
    runtime.shutdown_background();
    result
}

/// Half of the cores, at most 8: the node's own thread and those of its disk want the rest. More
/// threads than that wake each other for nothing.
fn client_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get());
    cores.div_ceil(2).min(8)
}

async fn serve(args: &Serve, settings: Settings, identity: &NodeIdentity) -> Result<(), Failure> {
    settings.check_not_in_use()?;
    let clients = listen("clients", args.client_addr).await?;
    let admins = match args.admin_addr {
        Some(address) => Some(listen("the admin API", address).await?),
        None => None,
    };
    let mut stop = StopSignals::new()?;
    let (vfs, tear) = file_system(args);
    let deadlines = Deadlines::default();
    let machines = deadlines.clone();
    let builder = Node::builder(settings.node.clone(), args.data_dir.clone())
        .store(settings.store.clone())
        .vfs(vfs)
        .machine(move |group| Kv::new(machines.of(group.id)))
        .tcp(args.peer_addr.clone());
    let (node, boot) = tokio::select! {
        started = builder.start_reporting() => started.map_err(|error| start_failure(&error))?,
        name = stop.any() => return stopped_early(name),
    };
    log::boot_report(&boot);
    settings.log();

    let (stop_all, stopping) = stopping::channel();
    let service = Arc::new(Service::new(settings.service(identity, clients.local_addr().ok())));
    let accepting = tokio::spawn(listener::accept_all(
        clients,
        node.clone(),
        service.clone(),
        settings.bounds,
        stopping.clone(),
    ));
    if let Some(admins) = admins {
        let takes_orders = admins.local_addr().is_ok_and(|address| address.ip().is_loopback());
        let admin = Admin { node: node.clone(), service: service.clone(), boot, takes_orders };
        tokio::spawn(admin::serve(admins, admin, stopping.clone()));
    }
    let about = settings.about(args, identity);
    tokio::spawn(ready::announce(node.clone(), identity.groups, about, stopping.clone()));
    tokio::spawn(sweep::run(node.clone(), deadlines, stopping));
    if let Some(trigger) = tear {
        tokio::spawn(arm_on_signal(trigger));
    }

    let reason = tokio::select! {
        reason = node.stopped() => reason,
        name = stop.any() => {
            tracing::info!("{name}: stopping in order");
            stop_all.stop();
            let _ = accepting.await;
            node.shutdown().await
        }
    };
    match reason {
        StopReason::Shutdown => Ok(()),
        StopReason::Poisoned(cause) => Err(Failure::new(
            Code::Poisoned,
            format!("stopped, nothing was promised since: {cause}"),
        )),
        StopReason::Refused(cause) => Err(Failure::new(Code::Refused, cause)),
        other => Err(Failure::new(Code::Other, other.to_string())),
    }
}

async fn listen(whom: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::because(Code::Network, format!("cannot listen for {whom} on {address}"), &error)
    })
}

fn stopped_early(name: &str) -> Result<(), Failure> {
    tracing::info!("{name}: stopped while starting");
    // The start goes on in its own thread; what it writes is the same at any moment it is cut off.
    Ok(())
}

fn start_failure(error: &StartError) -> Failure {
    match error {
        StartError::Boot(boot) => {
            let code = Failure::code_of_boot(boot);
            Failure::new(code, with_causes(error))
        }
        StartError::Transport { .. } => Failure::because(Code::Network, "cannot start", error),
        StartError::NodeState { .. } => Failure::because(Code::Refused, "cannot start", error),
        _ => Failure::because(Code::Other, "cannot start", error),
    }
}

/// The operating system's files, and what tears one write if a hidden flag asks for it.
fn file_system(args: &Serve) -> (Arc<dyn Vfs>, Option<Arc<Trigger>>) {
    if !args.tear_on_signal {
        return (Arc::new(OsFs), None);
    }
    let (fs, trigger) = TearFs::new(Arc::new(OsFs), args.data_dir.join("wal"));
    (Arc::new(fs), Some(trigger))
}

async fn arm_on_signal(trigger: Arc<Trigger>) {
    if let Ok(mut signals) = signal(SignalKind::user_defined1()) {
        while signals.recv().await.is_some() {
            trigger.arm();
        }
    }
}

struct StopSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl StopSignals {
    fn new() -> Result<StopSignals, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::because(Code::Other, "listen for signals", &error))
        };
        Ok(StopSignals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn any(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Asks the kernel for SIGKILL when the parent dies, however it dies.
fn die_with(parent: u32) -> Result<(), Failure> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| Failure::because(Code::Other, "follow the parent process", &error))?;
    // It may have died before.
    if getppid().is_none_or(|pid| pid.as_raw_nonzero().get() as u32 != parent) {
        return Err(Failure::new(Code::Other, format!("parent process {parent} is gone")));
    }
    Ok(())
}
