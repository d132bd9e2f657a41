//! One state of the checker: three replicas, the wire, and what must never be contradicted.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::budget::Budget;
use crate::clocks::Voting;
use crate::common::disk::Disk;
use refloat_raft_core::*;
use refloat_types::*;

/// A batch that was submitted and is not durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pending {
    pub persist: Option<Persist>,
    pub install: Option<(EntryId, ConfState)>,
    /// Nothing is held against the replica any more.
    pub healed: bool,
}

/// A snapshot on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stream {
    pub from: Member,
    pub to: Member,
    pub at: EntryId,
    pub conf: ConfState,
}

/// How far a disk that hangs is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hangs {
    Untold,
    /// The core knows.
    Told,
}

/// What happened to a replica once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Past {
    pub old_end: bool,
    pub installed: bool,
    pub answered: bool,
    /// Reads that were answered.
    pub reads: u8,
    /// A read was answered at a leader before anybody was asked.
    pub read_at_once: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replica {
    pub me: Member,
    pub core: Core,
    pub runs: u64,
    pub clock: Now,
    /// The term whose leader it heard last, and when.
    pub heard: Option<(Term, Now)>,
    pub voting: Voting,
    pub disk: Disk,
    pub pending: Vec<Pending>,
    pub hangs: Option<Hangs>,
    /// It lost what it acknowledged, and neither it nor its leader knows.
    pub unnoticed: bool,
    /// How far the state machine of this run is.
    pub machine: Index,
    pub past: Past,
}

impl Replica {
    /// For whom it votes in its term.
    fn promise(&self) -> Option<(Term, Member)> {
        let status = self.core.status();
        status.vote.map(|vote| (status.term, vote))
    }

    /// What a leader takes for durable at its peers.
    pub fn counts(&self) -> Vec<(Member, Index)> {
        if self.core.role() != Role::Leader {
            return Vec::new();
        }
        self.core.status().progress.iter().map(|p| (p.member, p.matched)).collect()
    }

    /// What it can read: the disk, and what is on its way there.
    pub fn memory(&self) -> Disk {
        let mut disk = self.disk.clone();
        self.pending.iter().for_each(|p| write(&mut disk, p));
        disk
    }

    /// What a snapshot made now would end with.
    pub fn compacts_at(&self) -> Option<EntryId> {
        let status = self.core.status();
        let new = status.applied <= status.durable && status.applied > self.disk.base.index;
        (new && self.hangs.is_none()).then(|| self.memory().id(status.applied)).flatten()
    }

    pub fn compact(&mut self) {
        let at = self.compacts_at().expect("something to compact");
        self.disk.compact(at, self.core.conf().clone());
        self.core.on_compacted(at);
    }

    /// A disk that hung has written all that it was given.
    pub fn answer(&mut self) {
        while !self.pending.is_empty() {
            self.sync();
        }
        if self.hangs.take() == Some(Hangs::Told) {
            self.core.disk_answers(self.clock);
        }
        self.past.answered = true;
    }

    /// Up to where a snapshot reaches, durable or on its way to the disk.
    fn covered(&self) -> Index {
        let installs = self.pending.iter().filter_map(|p| p.install.as_ref());
        installs.map(|(at, _)| at.index).max().unwrap_or_default().max(self.disk.base.index)
    }

    /// The oldest batch becomes durable, and the core hears of it.
    pub fn sync(&mut self) {
        let done = self.pending.remove(0);
        self.past.installed |= done.install.is_some();
        write(&mut self.disk, &done);
        if let Some(persist) = done.persist {
            self.core.on_persisted(self.clock, persist.ticket);
        }
    }

    /// The power goes after so many batches under way.
    pub fn lose_all_but(&mut self, kept: usize) {
        for done in self.pending.drain(..).take(kept) {
            self.past.installed |= done.install.is_some();
            write(&mut self.disk, &done);
        }
    }
}

fn write(disk: &mut Disk, batch: &Pending) {
    batch.persist.iter().for_each(|persist| disk.persist(persist));
    if let Some((at, conf)) = &batch.install {
        disk.install(*at, conf.clone());
    }
    if batch.healed {
        disk.rights = Rights::ALL;
    }
}

/// What becomes of the writes of a step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Disks {
    /// Durable at once, unless older ones wait.
    Sync,
    Later,
}

/// A part of the state that most steps leave as it is, with its fingerprint.
#[derive(Clone, Debug)]
pub struct Shared<T>(Arc<T>, u64);

impl<T: Hash> Shared<T> {
    pub fn new(value: T) -> Shared<T> {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        Shared(Arc::new(value), hasher.finish())
    }
}

impl<T> std::ops::Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.1);
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Shared<T>) -> bool {
        self.1 == other.1 && self.0 == other.0
    }
}

impl<T: Eq> Eq for Shared<T> {}

impl<T: Ord> PartialOrd for Shared<T> {
    fn partial_cmp(&self, other: &Shared<T>) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Ord> Ord for Shared<T> {
    fn cmp(&self, other: &Shared<T>) -> std::cmp::Ordering {
        self.1.cmp(&other.1).then_with(|| self.0.cmp(&other.0))
    }
}

/// A message in its byte form, so that it has an order.
pub type Letter = Shared<Vec<u8>>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub replicas: Vec<Shared<Replica>>,
    pub wire: BTreeSet<Letter>,
    pub streams: Vec<Stream>,
    pub left: Budget,
    pub leaders: BTreeMap<Term, Member>,
    votes: BTreeMap<(Term, Member), Member>,
    /// Who would vote for whom, in which term.
    pub pre_votes: BTreeSet<(Term, Member, Member)>,
    /// Also the lowest term in which it was known to be committed: later leaders must have it.
    pub committed: BTreeMap<Index, (EntryId, Digest, Term)>,
    /// A clock did not keep to what is declared, and nobody can know.
    pub clocks_lie: bool,
    /// A read missed what was committed before, by clocks that lie.
    pub stale: bool,
    pub broken: Option<&'static str>,
}

impl World {
    pub fn new(replicas: impl IntoIterator<Item = Replica>, left: Budget) -> World {
        World {
            replicas: replicas.into_iter().map(Shared::new).collect(),
            wire: BTreeSet::new(),
            streams: Vec::new(),
            left,
            leaders: BTreeMap::new(),
            votes: BTreeMap::new(),
            pre_votes: BTreeSet::new(),
            committed: BTreeMap::new(),
            clocks_lie: false,
            stale: false,
            broken: None,
        }
    }

    /// Gives a replica an input and follows its wishes.
    pub fn drive(&mut self, n: usize, disks: Disks, input: impl FnOnce(&mut Replica)) {
        let mut replica = (*self.replicas[n]).clone();
        let promised = replica.promise();
        input(&mut replica);
        self.follow(&mut replica, disks);
        self.check_leaving(&self.replicas[n].clone(), &replica);
        if replica.hangs == Some(Hangs::Told)
            && replica.promise().is_some_and(|p| Some(p) != promised)
        {
            self.break_rule("a vote that a hanging disk does not take down");
        }
        self.replicas[n] = Shared::new(replica);
    }

    /// The replica that leads in the newest term, if one does.
    pub fn newest_leader(&self) -> Option<&Replica> {
        let newest = self.replicas.iter().map(|r| r.core.term()).max()?;
        let leads = |r: &Replica| r.core.role() == Role::Leader && r.core.term() == newest;
        self.replicas.iter().find(|r| leads(r)).map(|r| &**r)
    }

    /// Whether the leader of a replica's term, the newest one, knows all that the replica ever
    /// acknowledged, so that it notices if the overwritten end is there again.
    pub fn leader_would_notice(&self, replica: &Replica) -> bool {
        let Some(leader) = self.newest_leader() else { return false };
        let progress = leader.core.status().progress;
        let peer = progress.iter().find(|p| p.member == replica.me);
        !replica.disk.old.is_empty()
            && replica.disk.hard.term == leader.core.term()
            && peer.is_some_and(|p| p.matched == replica.disk.last().index)
    }

    /// Whether a replica lost what it acknowledged, and nobody knows.
    pub fn loss_is_unnoticed(&self) -> bool {
        self.replicas.iter().any(|r| r.unnoticed)
    }

    /// Members whose node runs in another life by now, and that life.
    pub fn ghosts(&self, core: &Core) -> Vec<(Member, Member)> {
        let living = |m: Member| self.replicas.iter().map(|r| r.me).find(|r| r.node == m.node);
        core.conf().iter().filter_map(|m| living(m).filter(|r| *r != m).map(|r| (m, r))).collect()
    }

    pub fn break_rule(&mut self, rule: &'static str) {
        self.broken.get_or_insert(rule);
    }

    fn follow(&mut self, replica: &mut Replica, disks: Disks) {
        while let Some(ready) = replica.core.ready() {
            self.check_leader(replica, &ready);
            self.check_candidate(replica, &ready);
            self.check_reads(replica, &ready);
            let Ready { persist, install, healed, .. } = ready;
            if let Some((at, _)) = &install {
                self.check_install(replica, *at);
            }
            if persist.is_some() || healed {
                replica.pending.push(Pending { persist, install, healed });
            }
            if ready.amnesia {
                replica.disk.rights = Rights::NONE;
            }
            for fetch in ready.fetch {
                let answer = replica.memory().fetch(&fetch);
                replica.core.on_fetched(replica.clock, fetch.id, answer);
            }
            if let Some((first, last)) = ready.committed {
                if first != replica.machine.next() {
                    self.break_rule("entries are applied twice, or left out");
                }
                replica.machine = last;
                let entries = replica.memory().range(first, last);
                replica.core.on_applied(replica.clock, last);
                let term = replica.core.term();
                entries.iter().for_each(|entry| self.check_committed(entry, term));
            }
            for message in ready.messages {
                self.send(&message, replica);
            }
            for to in ready.send_snapshot {
                let (at, conf) = (replica.disk.base, replica.disk.base_conf.clone());
                let stream = Stream { from: replica.me, to, at, conf };
                if !self.streams.contains(&stream) {
                    self.streams.push(stream);
                }
            }
            if disks == Disks::Sync && replica.pending.len() == 1 && replica.hangs.is_none() {
                replica.sync();
            }
        }
    }

    /// No message leaves before its term, its vote, or what it acknowledges is durable.
    fn send(&mut self, message: &Message, replica: &Replica) {
        let disk = &replica.disk;
        if disk.hard.term < message.term {
            self.break_rule("a message with a term that is not durable");
        }
        if let Body::AppendResp { matched } = message.body {
            if matched.index >= disk.base.index && disk.id(matched.index) != Some(matched) {
                self.break_rule("an ack of what is not durable");
            }
            // A snapshot on its way to the disk is committed state, which needs no ack.
            let above = disk.lost.iter().filter(|(at, _)| **at > replica.covered());
            if above.take_while(|(at, _)| **at <= matched.index).next().is_some() {
                self.break_rule("an ack of what is lost");
            }
        }
        if message.body == (Body::VoteResp { granted: true }) {
            let given = *self.votes.entry((message.term, message.from)).or_insert(message.to);
            if given != message.to {
                self.break_rule("two votes of one life in one term");
            }
        }
        self.check_pre_vote(message, replica);
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.wire.insert(Shared::new(bytes));
    }
}
