//! From a data directory to a node.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use refloat_log_store::identity::{self, NodeIdentity, Origin};
use refloat_log_store::{BootError, BootReport, GroupBoot, GroupState, LogStore, Options, boot};
use refloat_types::Index;
use refloat_types::codec::Reader;
use refloat_vfs::Vfs;

use super::formation::Formation;
use super::groups::Asleep;
use super::roll::Roll;
use super::{NodeCore, slot};
use crate::api::Time;
use crate::config::Config;
use crate::machine::MachineFactory;
use crate::status::Counters;

/// Why a node does not start. The directory is as it was.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The log store does not open.
    Boot(BootError),
    /// The node's own state in the store is not what this code wrote.
    NodeState {
        /// Which part.
        what: &'static str,
    },
    /// A setting with which nothing works.
    Setting {
        /// Which field of [`Config`].
        field: &'static str,
        /// What it is.
        found: u64,
        /// The least that works with the other settings.
        least: u64,
        /// The most that does.
        most: u64,
    },
    /// The builder was not told all it needs.
    Incomplete {
        /// What is missing.
        what: &'static str,
    },
    /// The transport cannot be had: most often the address cannot be listened on.
    Transport {
        /// The cause.
        source: std::io::Error,
    },
    /// A thread could not be started.
    Thread {
        /// The cause.
        source: std::io::Error,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Boot(error) => error.fmt(f),
            StartError::NodeState { what } => write!(f, "the stored {what} cannot be decoded"),
            StartError::Setting { field, found, least, most } => {
                write!(f, "setting {field} is {found}, expected {least} to {most}")
            }
            StartError::Incomplete { what } => write!(f, "the builder was given no {what}"),
            StartError::Transport { .. } => f.write_str("cannot reach or listen to other nodes"),
            StartError::Thread { .. } => f.write_str("cannot start a thread"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::Boot(error) => error.source(),
            StartError::Thread { source } | StartError::Transport { source } => Some(source),
            StartError::NodeState { .. }
            | StartError::Setting { .. }
            | StartError::Incomplete { .. } => None,
        }
    }
}

impl NodeCore {
    /// Recovers a data directory (blocking: reads all that is not in segments) and starts every
    /// group that is proven. The first election waits for [`NodeCore::turn`].
    ///
    /// # Errors
    /// See [`StartError`]; then nothing was promised to anybody.
    pub fn start(
        vfs: &Arc<dyn Vfs>,
        options: Options,
        config: Config,
        machines: MachineFactory,
        time: Time,
        seed: u64,
    ) -> Result<(NodeCore, BootReport), StartError> {
        config.check()?;
        let limit = options.wal_file_size / 4;
        let dir = options.dir.clone();
        // Before anything is written: a start that is refused leaves the directory as it was.
        let identity = identity::load(vfs.as_ref(), &dir);
        identity
            .map_err(BootError::from)
            .and_then(|id| id.refuse_if_recovering(&dir))
            .map_err(StartError::Boot)?;
        let mut options = options;
        options.reception_bytes = config.snapshot_inflight_bytes;
        let mut boot = boot(vfs, options).map_err(StartError::Boot)?;
        identity::begin_run(vfs.as_ref(), &dir, &mut boot.identity)
            .map_err(|error| StartError::Boot(error.into()))?;
        let mut config = config;
        config.max_payload = config.max_payload.min(limit);
        config.max_append_bytes = config.max_append_bytes.min(limit as usize);
        config.timer_grain = config.timer_grain.min(config.heartbeat);
        let mut node = NodeCore::empty(boot.store, boot.identity, config, machines, time, seed);
        node.restore_node_state(&boot.node_state)?;
        for group in boot.groups {
            node.restore_group(group);
        }
        if node.formation.is_formed() && node.identity.origin == Origin::Init {
            node.ensure_meta();
        }
        node.begin_roll();
        Ok((node, boot.report))
    }

    fn empty(
        store: LogStore,
        identity: NodeIdentity,
        config: Config,
        machines: MachineFactory,
        time: Time,
        seed: u64,
    ) -> NodeCore {
        let me = identity.identity.member;
        let formation = match &identity.origin {
            Origin::Init => Formation::new(me, identity.members.iter().map(|(node, _)| *node)),
            Origin::Join { founders } => Formation::of_joined(me, founders),
        };
        NodeCore {
            config,
            me,
            seed: seed ^ identity.run.rotate_left(32),
            identity,
            time,
            store,
            machines,
            slots: Vec::new(),
            by_id: BTreeMap::new(),
            by_key: BTreeMap::new(),
            asleep: BTreeMap::new(),
            dirty: Vec::new(),
            timers: BTreeSet::new(),
            tickets: VecDeque::new(),
            disk_hangs: false,
            writes: Vec::new(),
            stalled: VecDeque::new(),
            starved: BTreeMap::new(),
            let_in: Default::default(),
            unregistered: BTreeMap::new(),
            fetches: BTreeMap::new(),
            live: Default::default(),
            formation,
            catalog_mark: Index::ZERO,
            roll: Roll::new(time.now),
            superseded: None,
            asked: BTreeMap::new(),
            tend_at: None,
            versions_at: None,
            rebirths: BTreeSet::new(),
            unmakeable: BTreeSet::new(),
            quiet: super::quiet::Quiet::default(),
            peers: BTreeMap::new(),
            next_announce: time.now,
            pending_bytes: 0,
            pending: 0,
            next_sweep: time.now,
            flow: super::flow::Flow::default(),
            stopping: None,
            over: false,
            ended: None,
            counters: Counters::default(),
            out: Vec::new(),
        }
    }

    fn restore_node_state(
        &mut self,
        state: &BTreeMap<u32, bytes::Bytes>,
    ) -> Result<(), StartError> {
        let bad = |what| StartError::NodeState { what };
        match state.get(&slot::FORMATION) {
            // Who joined takes no part in it.
            _ if self.identity.origin != Origin::Init => {}
            Some(body) => {
                self.formation.restore(body).map_err(|_| bad("formation table"))?;
                if !self.formation.is_formed() {
                    self.store_formation();
                }
            }
            // The first start, or a cluster of one: the own life is stored like any other.
            None => self.store_formation(),
        }
        self.superseded = state
            .get(&slot::SUPERSEDED)
            .map(|body| String::from_utf8_lossy(body).into_owned())
            .filter(|text| !text.is_empty());
        if let Some(body) = state.get(&slot::CATALOG_MARK) {
            let mark = Reader::new(body).u64("catalog mark").map_err(|_| bad("catalog mark"))?;
            self.catalog_mark = Index(mark);
        }
        Ok(())
    }

    fn restore_group(&mut self, boot: GroupBoot) {
        if boot.state != GroupState::Clean {
            tracing::warn!(
                node = %self.me.node, group = %boot.key, state = %boot.state,
                waits_for = boot.waits_for.as_deref().unwrap_or_default(),
                "replica is not whole"
            );
        }
        if let Some(text) = &self.superseded {
            let asleep = Asleep { waits_for: Some(text.clone()), ..Asleep::of_boot(boot.clone()) };
            self.asleep.insert(boot.key, asleep);
        } else if boot.state == GroupState::Amnesia {
            self.start_reborn(boot);
        } else {
            self.start_group(boot);
        }
    }
}
