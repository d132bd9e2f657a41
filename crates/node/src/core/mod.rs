//! Everything of a node that is neither a thread nor a socket.

mod admin;
mod apply;
mod boot;
mod catalog;
mod disk;
mod effects;
mod envelope;
mod flow;
mod formation;
mod forward;
#[cfg(test)]
mod fuzz;
mod group;
mod groups;
mod handover;
mod healing;
mod live;
mod meta;
mod offers;
mod orders;
mod peers;
mod quiet;
mod reads;
mod rebirth;
mod receiving;
mod rejoin;
mod requests;
mod roll;
mod sending;
mod snapshots;
mod space;
mod status;
mod stop;
mod turn;
pub(crate) mod versions;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use refloat_log_store::identity::NodeIdentity;
use refloat_log_store::{LogStore, RequestId};
use refloat_raft_core::PersistTicket;
use refloat_types::{EntryId, GroupId, GroupKey, GroupWrite, Index, Member, NodeId, Now};

use crate::api::{Input, Output, Time};
use crate::config::Config;
use crate::error::StopReason;
use crate::job::Outcome;
use crate::machine::MachineFactory;
use crate::status::Counters;

pub use boot::StartError;
pub(crate) use catalog::{Catalog, GroupCommand};
use disk::Awaited;
use flow::Flow;
use formation::Formation;
use group::Group;
use groups::Asleep;
use live::{Kept, LiveEntries};
use orders::{Order, Stalled};
use peers::Peer;
use quiet::Quiet;
pub(crate) use rebirth::{encode_life, life_of_replica};
use rejoin::Asked;
use roll::Roll;
use space::Load;
use stop::Stopping;

/// One node: its log store, a Raft core per group, the state machines, formation, peers.
///
/// A plain value without threads, sockets, clocks and randomness. Whoever drives it
/// * steps any number of [`Input`]s and then calls [`NodeCore::turn`] once, which gathers what all
///   groups want to write into one batch, and what they want to say into one frame per peer and lane;
/// * carries out the [`Output`]s in their order;
/// * comes back at [`NodeCore::wake_at`] at the latest.
///
/// The same inputs at the same times give the same outputs.
pub struct NodeCore {
    config: Config,
    identity: NodeIdentity,
    me: Member,
    seed: u64,
    time: Time,
    store: LogStore,
    machines: MachineFactory,

    /// Running groups; a slot is never used again.
    slots: Vec<Option<Group>>,
    by_id: BTreeMap<GroupId, usize>,
    by_key: BTreeMap<GroupKey, usize>,
    asleep: BTreeMap<GroupKey, Asleep>,
    dirty: Vec<usize>,
    timers: BTreeSet<(Now, usize)>,

    /// What waits for a ticket of the store, in ticket order.
    tickets: VecDeque<Awaited>,
    /// The disk does not answer: others are to lead.
    disk_hangs: bool,
    /// Writes of this turn.
    writes: Vec<Write>,
    /// What found no space, oldest first; later ones queue behind them.
    stalled: VecDeque<Stalled>,
    /// Replicas whose entries are left outside for want of space, and what they brought last.
    starved: BTreeMap<usize, Load>,
    /// What was let in since the last submission.
    let_in: Load,
    /// What groups want written whose registration is not durable yet, oldest first.
    unregistered: BTreeMap<usize, Vec<Stalled>>,
    fetches: BTreeMap<RequestId, Wanted>,
    live: LiveEntries,

    formation: Formation,
    /// Effects of group 0's entries up to here are carried out and on the disk.
    catalog_mark: Index,
    roll: Roll,
    /// Why nothing runs here any more: the cluster went on without this node.
    superseded: Option<String>,
    /// Replicas elsewhere that ask to be taken back.
    asked: BTreeMap<(GroupKey, NodeId), Asked>,
    /// When the versions of state machines are to be looked at.
    versions_at: Option<Now>,
    /// When memberships are to be looked at.
    tend_at: Option<Now>,
    /// Own replicas in a new life that are no voters yet.
    rebirths: BTreeSet<usize>,
    /// Groups that the store does not register: it may have known them, and forgotten.
    unmakeable: BTreeSet<GroupKey>,
    peers: BTreeMap<NodeId, Peer>,
    quiet: Quiet,
    next_announce: Now,

    pending_bytes: u64,
    /// Requests that may run out of time.
    pending: u64,
    next_sweep: Now,
    /// Snapshots under way, to and from others.
    flow: Flow,
    stopping: Option<Stopping>,
    over: bool,
    /// Why it is over, until the driver was told.
    ended: Option<StopReason>,
    counters: Counters,
    out: Vec<Output>,
}

/// One group's write and the promise that hangs on it.
struct Write {
    slot: usize,
    write: GroupWrite,
    /// Reported to the core when this write, the last of its `Persist`, is durable.
    ticket: Option<PersistTicket>,
}

/// What to do once a ticket is durable.
enum Durable {
    Persisted(usize, PersistTicket),
    /// The table of first members, with so many of them.
    Formation(usize),
    /// A new group.
    Registered(usize),
    Installed(usize),
    /// The name of a replica's new life.
    NewLife(usize),
}

/// What a read from the disk is for.
enum Wanted {
    Apply(usize),
    Core(usize, refloat_raft_core::Fetch),
    /// A chunk of a snapshot on its way to a node.
    Chunk(usize, NodeId, EntryId),
    /// Entries that are kept for who refers to them.
    Kept(Kept),
}

/// Slots of the node's own state in the store.
pub(crate) mod slot {
    pub(super) const FORMATION: u32 = 0;
    pub(super) const CATALOG_MARK: u32 = 1;
    pub(crate) const SUPERSEDED: u32 = 2;
}

impl NodeCore {
    /// Takes one input. What follows from it comes out of the next [`NodeCore::turn`].
    pub fn step(&mut self, time: Time, input: Input) {
        self.set_time(time);
        if self.over || (self.is_closing() && !matches!(input, Input::Done(_))) {
            return self.refuse_when_over(input);
        }
        self.counters.inputs += 1;
        match input {
            Input::Tick => {}
            Input::PeerUp(member) => self.peer_up(member),
            Input::PeerDown(member) => self.peer_down(member),
            Input::PeerRefused { node, reason, superseded } => {
                self.peer_refused(node, reason, superseded);
            }
            Input::Frame { from, bytes } => self.frame(from, &bytes),
            Input::Propose { to, group, payload, stamp, forward } => {
                self.propose(to, group, payload, stamp, forward);
            }
            Input::Read { to, group, consistency, query } => {
                self.read(to, group, consistency, query);
            }
            Input::CreateGroup { to, group, members } => self.create_group(to, group, &members),
            Input::DeleteGroup { to, group } => self.delete_group(to, group),
            Input::ChangeMembers { to, group, change, expected } => {
                self.change_members(to, group, change, expected);
            }
            Input::ForgetLeader { to, group } => self.forget_leader(to, group),
            Input::ChangeNodes { to, change } => self.change_nodes(to, change),
            Input::Transfer { to, group, target } => self.transfer(to, group, target),
            Input::Snapshot { to, group } => self.snapshot_now(to, group),
            Input::ReadLog { to, group, indexes } => self.commands(to, group, &indexes),
            Input::Done(done) => match done.outcome {
                Outcome::Store(done) => self.store_done(*done),
                Outcome::Machine(done) => self.machine_done(*done),
                Outcome::LetGo => {}
                Outcome::SourcePanicked { group, reason } => self.source_panicked(group, reason),
                Outcome::StorePanicked(text) => self.poison(text),
            },
            Input::Shutdown => self.begin_shutdown(),
        }
    }

    /// Carries out what the inputs since the last turn, and the time, ask for.
    pub fn turn(&mut self, time: Time, out: &mut Vec<Output>) {
        self.set_time(time);
        if !self.over {
            self.counters.turns += 1;
            self.work();
        }
        out.append(&mut self.out);
        out.extend(self.ended.take().map(Output::Stop));
    }

    /// When [`NodeCore::turn`] should be called though nothing came in.
    #[must_use]
    pub fn wake_at(&self) -> Option<Now> {
        if self.over {
            return None;
        }
        let timer = self.timers.first().map(|(at, _)| *at);
        let sweep = self.needs_sweep().then_some(self.next_sweep);
        let announce = (!self.formation.is_formed()).then_some(self.next_announce);
        let stop = self.stopping.as_ref().map(|stopping| stopping.deadline);
        let quiet = self.quiet_wake_at();
        let flow = self.flow.wake_at(self.now());
        let membership = [
            self.roll.wake_at(),
            self.tend_at,
            self.rebirth_wake_at(),
            quiet,
            flow,
            self.live_wake_at(),
            self.versions_at,
        ];
        let own = [timer, sweep, announce, stop, self.store.wake_at(), self.disk_wake_at()];
        own.into_iter().chain(membership).flatten().min()
    }

    /// Who this node is.
    #[must_use]
    pub fn member(&self) -> Member {
        self.me
    }

    /// Under which life this node's replica of a group takes part: the node's, unless the replica
    /// forgot what it had promised and began one of its own. `None`: there is no replica.
    #[must_use]
    pub fn replica(&self, group: GroupKey) -> Option<Member> {
        let slot = self.by_key.get(&group).copied()?;
        self.slots[slot].as_ref().map(|group| group.me)
    }

    /// What its data directory says about it, with the number of this run.
    #[must_use]
    pub fn identity(&self) -> &NodeIdentity {
        &self.identity
    }

    /// Counters since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let stats = self.store.stats();
        let mut counters = self.counters;
        counters.pending_bytes = self.pending_bytes;
        counters.memory_bytes = stats.memory_bytes;
        counters.snapshot_bytes_inflight = self.snapshot_bytes_out();
        counters.snapshot_bytes_waiting = self.store.reception_bytes();
        counters.snapshot_receptions = self.flow.receiving.len() as u64;
        counters.scrubbed_bytes = stats.scrub.bytes;
        counters.scrubs = stats.scrub.cycles;
        counters.rot = stats.scrub.rot;
        counters.batches = stats.wal.batches + stats.votes.batches;
        counters.snapshots_sending = self.flow.sending.len() as u64;
        counters.syncs = stats.wal.syncs + stats.votes.syncs;
        counters
    }

    /// Whether anything waits that may run out of time or out of luck.
    pub(super) fn needs_sweep(&self) -> bool {
        self.pending > 0 || self.lacks_space() || self.flow.is_busy()
    }

    fn now(&self) -> Now {
        self.time.now
    }

    fn set_time(&mut self, time: Time) {
        // Time never runs backwards inside, whatever the driver's clock does.
        self.time = Time { now: time.now.max(self.time.now), wall_ms: time.wall_ms };
    }
}
