//! From settings to a running node.

use std::io;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use refloat_log_store::identity::{self, NodeIdentity};
use refloat_log_store::{BootReport, Options};
use refloat_net as net;
use refloat_types::GroupKey;
use refloat_vfs::{OsFs, Vfs};
use tokio::sync::{oneshot, watch};

use super::handle::{Node, Shared};
use super::inbox::Inbox;
use super::lanes::Lanes;
use super::worker::{Clock, Deliveries, Notices, Requests, Worker};
use crate::config::Config;
use crate::core::{NodeCore, StartError};
use crate::machine::{MachineFactory, StateMachine};

/// Makes the transport once the node knows who it is: its identity, the number of this run, and
/// where to deliver. Most callers use [`Builder::tcp`].
pub type MakeTransport =
    Box<dyn FnOnce(&NodeIdentity, net::Deliver) -> io::Result<Arc<dyn net::Transport>> + Send>;

type Probe = Box<dyn FnOnce(&NodeIdentity) -> io::Result<()> + Send>;

/// Puts a node together.
pub struct Builder<M> {
    config: Config,
    options: Options,
    vfs: Arc<dyn Vfs>,
    machines: Option<MachineFactory>,
    transport: Option<MakeTransport>,
    /// Asked before the data directory is touched: whether the address can be listened on.
    probe: Option<Probe>,
    seed: Option<u64>,
    notices: Option<Notices>,
    machine: PhantomData<fn() -> M>,
}

impl<M> std::fmt::Debug for Builder<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Node<()> {
    /// Begins to build a node on a data directory that was initialised (see
    /// [`refloat_log_store::identity::create`]).
    #[must_use]
    pub fn builder(config: Config, data_dir: impl Into<PathBuf>) -> Builder<()> {
        Builder {
            config,
            options: Options::new(data_dir),
            vfs: Arc::new(OsFs),
            machines: None,
            transport: None,
            probe: None,
            seed: None,
            notices: None,
            machine: PhantomData,
        }
    }
}

impl<M> Builder<M> {
    /// Sets the store's options.
    #[must_use]
    pub fn store(mut self, options: Options) -> Builder<M> {
        self.options = options;
        self
    }

    /// Replaces the file system.
    #[must_use]
    pub fn vfs(mut self, vfs: Arc<dyn Vfs>) -> Builder<M> {
        self.vfs = vfs;
        self
    }

    /// Seeds the timeouts, and what tells this process from a copy of it. Random without it.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Builder<M> {
        self.seed = Some(seed);
        self
    }

    /// Says how a group's state machine is made.
    #[must_use]
    pub fn machine<N: StateMachine>(
        self,
        make: impl Fn(GroupKey) -> N + Send + Sync + 'static,
    ) -> Builder<N> {
        Builder {
            config: self.config,
            options: self.options,
            vfs: self.vfs,
            machines: Some(Box::new(move |group| Box::new(make(group)))),
            transport: self.transport,
            probe: self.probe,
            seed: self.seed,
            notices: self.notices,
            machine: PhantomData,
        }
    }

    /// Says who takes the [`Effect::Notice`](crate::Effect::Notice)s of the groups that this node
    /// leads. Called on the node's own thread, so it must not wait for anything. Without it they
    /// are lost, as they may be anyway with their leader.
    #[must_use]
    pub fn notices(mut self, take: impl Fn(GroupKey, Bytes) + Send + 'static) -> Builder<M> {
        self.notices = Some(Box::new(take));
        self
    }

    /// Says how to reach the other nodes.
    #[must_use]
    pub fn transport(
        mut self,
        make: impl FnOnce(&NodeIdentity, net::Deliver) -> io::Result<Arc<dyn net::Transport>>
        + Send
        + 'static,
    ) -> Builder<M> {
        self.transport = Some(Box::new(make));
        self
    }

    /// Talks plain TCP: listens on `listen`, or on the node's own address in the member list,
    /// and connects to the members at the addresses of that list.
    #[must_use]
    pub fn tcp(mut self, listen: Option<String>) -> Builder<M> {
        let runtime = tokio::runtime::Handle::try_current();
        let probed = listen.clone();
        let max_frame = self.config.max_frame();
        self.probe = Some(Box::new(move |identity| {
            let address = listen_address(identity, probed)?;
            std::net::TcpListener::bind(address).map(drop)
        }));
        self.transport(move |identity, deliver| {
            let runtime = runtime.map_err(io::Error::other)?;
            let listen = listen_address(identity, listen)?;
            let mut config = net::Config::new(identity.to_others(), identity.run, listen);
            config.former = identity.former_clusters();
            config.max_frame = max_frame;
            let transport =
                net::TcpTransport::bind(config, &runtime, deliver).map_err(io::Error::other)?;
            Ok(Arc::new(transport) as Arc<dyn net::Transport>)
        })
    }
}

fn listen_address(identity: &NodeIdentity, listen: Option<String>) -> io::Result<String> {
    let me = identity.identity.member.node;
    let own = identity.members.iter().find(|(node, _)| *node == me);
    let address = listen.or_else(|| own.map(|(_, address)| address.clone()));
    address.ok_or_else(|| io::Error::other("no address to listen on"))
}

impl<M: StateMachine> Builder<M> {
    /// Recovers the data directory and starts the node: its groups, and its threads.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(self) -> Result<Node<M>, StartError> {
        Ok(self.start_reporting().await?.0)
    }

    /// As [`Builder::start`], with the account of what the recovery found.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start_reporting(self) -> Result<(Node<M>, BootReport), StartError> {
        let (sender, receiver) = oneshot::channel();
        // Recovery blocks, so it runs where the node will.
        let thread = move || {
            let started = self.start_here();
            match started {
                Ok((worker, node, report)) => {
                    let _ = sender.send(Ok((node, report)));
                    worker.run();
                }
                Err(error) => drop(sender.send(Err(error))),
            }
        };
        let name = "refloat-worker".to_owned();
        std::thread::Builder::new()
            .name(name)
            .spawn(thread)
            .map_err(|source| StartError::Thread { source })?;
        let gone = || StartError::Thread { source: io::Error::other("the worker thread panicked") };
        receiver.await.unwrap_or_else(|_| Err(gone()))
    }

    fn start_here(self) -> Result<(Worker, Node<M>, BootReport), StartError> {
        let no_machine = || StartError::Incomplete { what: "machine" };
        let no_transport = || StartError::Incomplete { what: "transport" };
        let machines = self.machines.ok_or_else(no_machine)?;
        let make_transport = self.transport.ok_or_else(no_transport)?;
        if let Some(probe) = self.probe {
            let id = identity::load(self.vfs.as_ref(), &self.options.dir)
                .map_err(|error| StartError::Boot(error.into()))?;
            probe(&id).map_err(|source| StartError::Transport { source })?;
        }
        let clock = Clock::new();
        let (core, report) = NodeCore::start(
            &self.vfs,
            self.options,
            self.config.clone(),
            machines,
            clock.time(),
            self.seed.unwrap_or_else(random),
        )?;
        let (stopped, stopping) = watch::channel(None);
        let inbox = Inbox::new(self.config.max_inbox);
        let shared = Arc::new(Shared { inbox, stopped: stopping });
        let to = Arc::clone(&shared);
        let deliveries = Deliveries::default();
        let delivery: net::Deliver = Arc::new(move |event| deliveries.deliver(&to.inbox, event));
        let identity = core.identity().clone();
        let transport = make_transport(&identity, delivery)
            .map_err(|source| StartError::Transport { source })?;
        let name = format!("rf{}", identity.identity.member.node);
        let lanes = Lanes::start(&name, &self.vfs, &shared, self.config.apply_threads)
            .map_err(|source| StartError::Thread { source })?;
        let worker = Worker {
            core,
            clock,
            vfs: self.vfs,
            shared: Arc::clone(&shared),
            transport,
            lanes,
            inline_apply: self.config.inline_apply,
            stopped,
            requests: Requests::default(),
            notices: self.notices,
        };
        Ok((worker, Node { shared, machine: PhantomData }, report))
    }
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the operating system's randomness");
    u64::from_le_bytes(bytes)
}
