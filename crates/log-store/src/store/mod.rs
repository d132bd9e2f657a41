//! The store while the node runs: a plain struct that takes writes and results of jobs, and
//! hands out jobs and events.

mod aside;
mod compact;
mod flush;
mod group;
mod heal;
mod jobs;
mod read;
mod scrub;
mod snapshots;
mod submit;
mod tickets;
mod values;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use refloat_memtable::Memtables;
use refloat_segment::{SegmentName, SegmentSet};
use refloat_types::{EntryId, Generation, GroupKey, Identity, Index, Now};
use refloat_vfs::{FileLock, Vfs};
use refloat_wal::{Lsn, Writer};

use crate::error::Poisoned;
use crate::event::{Event, Ticket};
use crate::options::Options;
use crate::small_state::SmallState;

pub(crate) use group::GroupLog;
pub(crate) use heal::forgotten;
pub use jobs::{Done, Job, Lane};
pub(crate) use read::with_cause;
pub use scrub::ScrubStats;
use snapshots::Snapshots;
use tickets::Tickets;
pub use values::MAX_GROUP_VALUE;

/// One node's durable logs.
///
/// # The order of things
/// [`LogStore::submit`] is the only place where a write gets its WAL file and its memtable: both
/// always are of the same [`Generation`]. It copies the write into the open WAL batch and into the
/// memtable, and returns a [`Ticket`]; the write is durable once [`LogStore::durable`] reached it.
///
/// The host runs every [`Job`] that [`LogStore::poll_job`] hands out, in any order between lanes
/// and one at a time within a lane, and gives its [`Done`] back to [`LogStore::complete`].
#[derive(Debug)]
pub struct LogStore {
    options: Options,
    identity: Identity,
    /// How often the node was started before.
    run: u64,
    wal: Writer,
    votes: Writer,
    state: SmallState,
    logs: BTreeMap<GroupKey, GroupLog>,
    memtables: Memtables,
    segments: SegmentSet,
    snapshots: Snapshots,
    tickets: Tickets,
    /// What to do once a ticket is durable, in ticket order.
    after: VecDeque<(Ticket, Then)>,
    queue: VecDeque<Job>,
    flushing: bool,
    compacting: bool,
    scrub: scrub::Scrubber,
    /// Whether segments or snapshots changed since a plan found nothing to compact.
    worth_planning: bool,
    /// Segments that compaction leaves alone, because they did not read back.
    rotten: Vec<compact::Rotten>,
    /// Segments with one good copy left of what they hold twice: to be written anew.
    worn: Vec<SegmentName>,
    /// Segments in which something does not verify: evidence, once nothing needs them.
    hurt: BTreeSet<SegmentName>,
    /// Segments that the small state lists and that are not there, while a group may miss them.
    lost: Vec<SegmentName>,
    next_request: u64,
    /// Groups whose commit hint on disk is older than what the host told.
    hints: BTreeSet<GroupKey>,
    /// Groups whose registration is not durable yet, and where it stands in the main log.
    registering: BTreeMap<GroupKey, Lsn>,
    /// What of the votes log waits to be written may be once the main log is durable up to here.
    votes_behind: Lsn,
    /// Deleted groups whose deletion is not durable yet.
    leaving: BTreeSet<GroupKey>,
    /// Keys of deleted groups of which an entry or a vote may be left on the disk.
    graves: BTreeSet<GroupKey>,
    /// The snapshot files of each group that a record named and that were not retired yet.
    published: BTreeMap<GroupKey, Vec<EntryId>>,
    events: Vec<Event>,
    poisoned: Option<Poisoned>,
    /// Nothing is written any more but the ends of both logs.
    closing: bool,
    /// While a generation may explain what is missing, its WAL file and all later ones stay.
    hold_from: Option<Generation>,
    /// A flush or compaction that found no space, or a rotten input, is not tried before this.
    not_before: Now,
    /// Whether one of them waits for that moment.
    postponed: bool,
    /// The last flush found no space: what frees some goes first.
    compacts_first: bool,
    /// Held as long as the store lives.
    _lock: Box<dyn FileLock>,
}

/// What waits for a record to be durable.
#[derive(Debug)]
enum Then {
    /// Generations up to this one are published: their memtables and WAL files may go.
    Released(Generation),
    /// These files are named by nothing any more; what is damaged is kept for who wants to look.
    Remove { dead: Vec<std::path::PathBuf>, damaged: Vec<std::path::PathBuf> },
    /// A snapshot is real: `id`, with `previous` as its fallback.
    SnapshotPublished { group: GroupKey, id: EntryId, previous: EntryId },
    /// A group is gone, and its snapshots with it.
    GroupGone(GroupKey),
    /// A group is whole again.
    Healed,
}

/// What the store hands to its first moment. Made by the boot.
pub(crate) struct Parts {
    pub(crate) options: Options,
    pub(crate) identity: Identity,
    pub(crate) run: u64,
    pub(crate) wal: Writer,
    pub(crate) votes: Writer,
    pub(crate) state: SmallState,
    pub(crate) logs: BTreeMap<GroupKey, GroupLog>,
    pub(crate) memtables: Memtables,
    pub(crate) segments: SegmentSet,
    pub(crate) lost: Vec<SegmentName>,
    pub(crate) snapshots: Snapshots,
    pub(crate) published: BTreeMap<GroupKey, Vec<EntryId>>,
    pub(crate) hold_from: Option<Generation>,
    pub(crate) graves: BTreeSet<GroupKey>,
    pub(crate) retired: Retired,
    pub(crate) lock: Box<dyn FileLock>,
}

/// Files that the boot found to be of no use, by the lane in which their names are written.
#[derive(Debug, Default)]
pub(crate) struct Retired {
    pub(crate) segments: Vec<std::path::PathBuf>,
    pub(crate) snapshots: Vec<std::path::PathBuf>,
    /// Damaged snapshots, to be kept under another name.
    pub(crate) damaged: Vec<std::path::PathBuf>,
    /// Damaged segments, likewise.
    pub(crate) damaged_segments: Vec<std::path::PathBuf>,
}

pub(crate) use snapshots::{Snapshots as SnapshotBook, add_all, own_files};

impl LogStore {
    pub(crate) fn from_parts(parts: Parts) -> LogStore {
        let mut store = LogStore {
            options: parts.options,
            identity: parts.identity,
            run: parts.run,
            wal: parts.wal,
            votes: parts.votes,
            state: parts.state,
            logs: parts.logs,
            memtables: parts.memtables,
            segments: parts.segments,
            snapshots: parts.snapshots,
            tickets: Tickets::default(),
            after: VecDeque::new(),
            queue: VecDeque::new(),
            flushing: false,
            compacting: false,
            scrub: scrub::Scrubber::default(),
            worth_planning: true,
            rotten: Vec::new(),
            worn: Vec::new(),
            hurt: BTreeSet::new(),
            lost: parts.lost,
            next_request: 0,
            hints: BTreeSet::new(),
            registering: BTreeMap::new(),
            votes_behind: Lsn::default(),
            leaving: BTreeSet::new(),
            graves: parts.graves,
            published: parts.published,
            events: Vec::new(),
            poisoned: None,
            closing: false,
            hold_from: parts.hold_from,
            not_before: Now(0),
            postponed: false,
            compacts_first: false,
            _lock: parts.lock,
        };
        // The checkpoint that the boot wrote restates every vote: without this, each start would
        // leave one file of the votes log behind.
        store.votes.release(store.votes.generation());
        let Retired { segments, snapshots, damaged, damaged_segments } = parts.retired;
        if !segments.is_empty() {
            store.queue.push_back(Job::remove(segments));
        }
        if !damaged.is_empty() {
            store.queue.push_back(Job::set_aside(damaged, Lane::Snapshot));
        }
        if !damaged_segments.is_empty() {
            store.queue.push_back(Job::set_aside(damaged_segments, Lane::Flush));
        }
        if !snapshots.is_empty() {
            store.queue.push_back(Job::remove_snapshots(snapshots));
        }
        store
    }

    /// Everything submitted up to this ticket survives a power cut.
    #[must_use]
    pub fn durable(&self) -> Ticket {
        self.tickets.durable()
    }

    /// The registered groups, ascending.
    pub fn groups(&self) -> impl Iterator<Item = GroupKey> + '_ {
        self.state.groups.keys().copied()
    }

    /// Whether a group is registered.
    #[must_use]
    pub fn has_group(&self, key: GroupKey) -> bool {
        self.state.groups.contains_key(&key)
    }

    /// The highest index of a group that is durable here; 0 for an unknown group.
    #[must_use]
    pub fn durable_index(&self, key: GroupKey) -> Index {
        self.logs.get(&key).map_or(Index::ZERO, |log| log.durable)
    }

    /// The last entry of a group's log, durable or not; its snapshot where the log is empty.
    #[must_use]
    pub fn last(&self, key: GroupKey) -> EntryId {
        self.logs.get(&key).map_or(EntryId::ZERO, GroupLog::last)
    }

    /// What the host keeps under a slot of the node's own state.
    #[must_use]
    pub fn node_state(&self, slot: u32) -> Option<&bytes::Bytes> {
        self.state.node.get(&slot)
    }

    /// Takes what happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// When [`LogStore::poll_job`] should be called again though nothing happened.
    #[must_use]
    pub fn wake_at(&self) -> Option<Now> {
        let logs = self.wal.wake_at().into_iter().chain(self.votes.wake_at());
        logs.chain(self.postponed_until()).chain(self.scrub_wakes_at()).min()
    }

    /// Why the store stopped, if it did.
    #[must_use]
    pub fn poisoned(&self) -> Option<&Poisoned> {
        self.poisoned.as_ref()
    }

    /// Asks for `closed` records at the end of both logs. Go on running jobs until
    /// [`LogStore::is_closed`]. What a flush, a compaction or a snapshot still brings is not
    /// published any more: the next boot adopts or retires it.
    pub fn close(&mut self) {
        self.refresh_hints();
        self.closing = true;
        self.wal.close();
    }

    /// Whether nothing is left to write.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.wal.is_idle() && self.votes.is_closed()
    }

    /// The votes log ends behind the main one, and remembers its end.
    fn end_votes(&mut self) {
        if self.closing && self.wal.is_idle() && !self.votes.is_closed() {
            self.refresh_witness();
            self.votes.close();
        }
    }

    /// The next job to run, if one may start now. Call until `None`.
    pub fn poll_job(&mut self, now: Now) -> Option<Job> {
        if self.poisoned.is_some() {
            return None;
        }
        self.end_votes();
        if self.votes.wake_at().is_some_and(|at| at <= now) {
            self.refresh_witness();
        }
        if self.wal.durable() >= self.votes_behind
            && let Some(job) = self.votes.poll(now)
        {
            return Some(Job::votes(job));
        }
        if self.wal.wake_at().is_some_and(|at| at <= now) {
            self.refresh_hints();
        }
        if let Some(job) = self.wal.poll(now) {
            return Some(Job::wal(job));
        }
        if self.closing {
            return None;
        }
        if let Some(job) = self.queue.pop_front() {
            return Some(job);
        }
        if now >= self.not_before {
            self.postponed = false;
            let first = if self.compacts_first { self.start_compaction() } else { None };
            let job = first.or_else(|| self.start_flush()).or_else(|| self.start_compaction());
            if let Some(job) = job {
                return Some(job);
            }
        }
        self.start_scrub(now)
    }

    /// Takes a job's result.
    ///
    /// # Errors
    /// A write or a sync failed: the process must stop.
    pub fn complete(&mut self, now: Now, done: Done) -> Result<(), Poisoned> {
        let result = self.complete_one(now, done).and_then(|()| self.advance(now));
        if let Err(poisoned) = &result {
            self.poisoned.get_or_insert_with(|| poisoned.clone());
        }
        result
    }

    /// Bytes of entries held in memory.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.memtables.bytes()
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            wal: self.wal.stats(),
            votes: self.votes.stats(),
            generation: self.wal.generation(),
            flushed: self.state.flushed,
            segments: self.state.segments.len() as u64,
            memory_bytes: self.memory_bytes(),
            scrub: self.scrub_stats(),
        }
    }

    fn request(&mut self) -> crate::event::RequestId {
        self.next_request += 1;
        crate::event::RequestId(self.next_request)
    }
}

/// Counters of a store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Of the main log.
    pub wal: refloat_wal::Stats,
    /// Of the votes log.
    pub votes: refloat_wal::Stats,
    /// The generation that is being written.
    pub generation: Generation,
    /// The generation up to which everything is in segments.
    pub flushed: Generation,
    /// Live segment files.
    pub segments: u64,
    /// Bytes of entries held in memory.
    pub memory_bytes: u64,
    /// Of the background that reads sealed files.
    pub scrub: ScrubStats,
}

/// Runs every job that a store hands out, on the calling thread, until there is none: for boots,
/// tools and tests.
///
/// # Errors
/// A write or a sync failed.
pub fn run_jobs(store: &mut LogStore, vfs: &Arc<dyn Vfs>, now: Now) -> Result<(), Poisoned> {
    while let Some(job) = store.poll_job(now) {
        let done = job.run(vfs);
        store.complete(now, done)?;
    }
    Ok(())
}
