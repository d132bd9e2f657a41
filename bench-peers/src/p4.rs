//! P4: the bare consensus cores, three replicas in one thread by direct calls, no disk, no wire.
//!
//! One round: the leader proposes a batch, and messages go from hand to hand until nobody has any
//! left; then the leader has committed it. What a host would write is durable at once.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft::eraftpb::{Entry as TheirEntry, Message as TheirMessage, MessageType};
use raft::storage::MemStorage;
use raft::{Config as TheirConfig, RawNode, StateRole};
use refloat_raft_core::{Config, Core, Message, Restored, Role};
use refloat_types::{
    ConfState, Digest, EntryId, EntryKind, Epoch, GroupId, GroupKey, Incarnation, Index, Member,
    NodeId, Now,
};

use crate::measure::{Plan, Result};
use crate::report::Report;

const PAYLOAD: usize = 128;
/// Logs are compacted this often, so that memory stays what it is in steady state.
const KEEP: u64 = 4096;

trait Cores {
    fn name(&self) -> &'static str;
    /// Proposes so many entries and works until they are committed everywhere.
    fn commit(&mut self, batch: usize) -> Result<()>;
}

struct Figure {
    ns: Vec<f64>,
    allocations: f64,
}

/// Runs the figure and adds it to the report.
pub fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    for batch in [1, 100] {
        let mut cores: [Box<dyn Cores>; 2] = [Box::new(Theirs::new()?), Box::new(Ours::new()?)];
        let mut figures: Vec<Figure> = Vec::new();
        for cores in &mut cores {
            figures.push(Figure { ns: Vec::new(), allocations: allocations(&mut **cores, batch)? });
        }
        for round in 0..plan.rounds {
            for turn in 0..cores.len() {
                let at = (turn + round) % cores.len();
                window(&mut *cores[at], batch, plan.warm_up)?;
                figures[at].ns.push(window(&mut *cores[at], batch, plan.window)?);
            }
        }
        let lines = cores.iter().zip(&mut figures).map(|(cores, figure)| {
            figure.ns.sort_by(f64::total_cmp);
            (cores.name(), figure.ns.as_slice(), figure.allocations)
        });
        report.per_entry("P4", &format!("3 cores in one thread, batch {batch}"), PAYLOAD, lines)?;
    }
    Ok(())
}

/// Nanoseconds per committed entry.
fn window(cores: &mut dyn Cores, batch: usize, window: Duration) -> Result<f64> {
    let (start, mut entries) = (Instant::now(), 0);
    loop {
        for _ in 0..64 {
            cores.commit(batch)?;
        }
        entries += 64 * batch;
        let elapsed = start.elapsed();
        if elapsed >= window {
            return Ok(elapsed.as_nanos() as f64 / entries as f64);
        }
    }
}

/// Per committed entry, on all three replicas together, warmed up.
fn allocations(cores: &mut dyn Cores, batch: usize) -> Result<f64> {
    const ROUNDS: usize = 4096;
    for _ in 0..2 * KEEP {
        cores.commit(batch)?;
    }
    let mut result = Ok(());
    let counted = allocation_counter::measure(|| {
        result = (0..ROUNDS).try_for_each(|_| cores.commit(batch));
    });
    result?;
    Ok(counted.count_total as f64 / (ROUNDS * batch) as f64)
}

/// `refloat-raft-core`.
struct Ours {
    cores: Vec<Core>,
    wire: VecDeque<Message>,
    command: (Bytes, Digest),
    last: EntryId,
    compacted: u64,
}

impl Ours {
    fn new() -> Result<Ours> {
        let members = [1, 2, 3].map(|n| Member::new(NodeId(n), Incarnation(n.into())));
        let start = Restored::empty(ConfState::of_voters(members));
        let group = GroupKey::new(GroupId(1), Epoch(1));
        let cores = members
            .map(|member| Core::new(Config::new(member, group), start.clone(), Now(0)))
            .into_iter()
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(|error| format!("{error:?}"))?;
        let payload = Bytes::from(vec![0x5a; PAYLOAD]);
        let digest = Digest::of(EntryKind::Command, &payload);
        let (last, wire) = (EntryId::ZERO, VecDeque::new());
        let mut ours = Ours { cores, wire, command: (payload, digest), last, compacted: 0 };
        ours.cores[0].campaign(Now(0));
        ours.settle()?;
        if ours.cores[0].role() != Role::Leader {
            return Err("refloat-raft-core elected no leader".into());
        }
        Ok(ours)
    }

    /// Until nobody has anything to do or to say.
    fn settle(&mut self) -> Result<()> {
        loop {
            let mut idle = true;
            for core in &mut self.cores {
                while let Some(mut ready) = core.ready() {
                    idle = false;
                    self.wire.extend(ready.messages.drain(..));
                    core.reuse(std::mem::take(&mut ready.messages));
                    if let Some(persist) = ready.persist {
                        core.on_persisted(Now(0), persist.ticket);
                    }
                    if let Some((_, last)) = ready.committed {
                        core.on_applied(Now(0), last);
                    }
                    if !ready.fetch.is_empty() || !ready.send_snapshot.is_empty() {
                        return Err("a replica fell behind".into());
                    }
                }
            }
            while let Some(message) = self.wire.pop_front() {
                idle = false;
                let to = message.to.node.0 as usize - 1;
                self.cores[to].step(Now(0), message).map_err(|error| format!("{error:?}"))?;
            }
            if idle {
                return Ok(());
            }
        }
    }
}

impl Cores for Ours {
    fn name(&self) -> &'static str {
        "refloat-raft-core"
    }

    fn commit(&mut self, batch: usize) -> Result<()> {
        let commands = vec![self.command.clone(); batch];
        let (term, first) =
            self.cores[0].propose(Now(0), commands).map_err(|error| format!("{error:?}"))?;
        self.settle()?;
        self.last = EntryId::new(term, Index(first.0 + batch as u64 - 1));
        if self.cores[0].commit() < self.last.index {
            return Err("refloat-raft-core did not commit".into());
        }
        if self.last.index.0 > self.compacted + KEEP {
            self.compacted = self.last.index.0;
            // The followers may not know of the last commit yet.
            let known = self.cores.iter().map(Core::commit).min().unwrap_or_default();
            let up_to = EntryId::new(term, known);
            self.cores.iter_mut().for_each(|core| core.on_compacted(up_to));
        }
        Ok(())
    }
}

/// raft-rs, crate `raft`, with its own storage in memory.
struct Theirs {
    nodes: Vec<RawNode<MemStorage>>,
    wire: VecDeque<TheirMessage>,
    command: Bytes,
    compacted: u64,
}

impl Theirs {
    fn new() -> Result<Theirs> {
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = |id| {
            let config = TheirConfig {
                id,
                election_tick: 10,
                heartbeat_tick: 3,
                max_size_per_msg: 1 << 20,
                max_inflight_msgs: 256,
                ..TheirConfig::default()
            };
            let storage = MemStorage::new_with_conf_state((vec![1, 2, 3], vec![]));
            RawNode::new(&config, storage, &logger)
        };
        let nodes = (1..=3).map(node).collect::<std::result::Result<Vec<_>, _>>()?;
        let command = Bytes::from(vec![0x5a; PAYLOAD]);
        let mut theirs = Theirs { nodes, wire: VecDeque::new(), command, compacted: 0 };
        theirs.nodes[0].campaign()?;
        theirs.settle()?;
        if theirs.nodes[0].raft.state != StateRole::Leader {
            return Err("raft-rs elected no leader".into());
        }
        Ok(theirs)
    }

    fn settle(&mut self) -> Result<()> {
        loop {
            let mut idle = true;
            for node in &mut self.nodes {
                while node.has_ready() {
                    idle = false;
                    turn(node, &mut self.wire)?;
                }
            }
            while let Some(message) = self.wire.pop_front() {
                idle = false;
                let to = message.to as usize - 1;
                self.nodes[to].step(message)?;
            }
            if idle {
                return Ok(());
            }
        }
    }
}

/// The steps that the crate's documentation lays down, without the disk.
fn turn(node: &mut RawNode<MemStorage>, wire: &mut VecDeque<TheirMessage>) -> Result<()> {
    let mut ready = node.ready();
    wire.extend(ready.take_messages());
    drop(ready.take_committed_entries());
    {
        let mut storage = node.raft.raft_log.store.wl();
        storage.append(ready.entries())?;
        if let Some(state) = ready.hs() {
            storage.set_hardstate(state.clone());
        }
    }
    wire.extend(ready.take_persisted_messages());
    let mut light = node.advance(ready);
    if let Some(commit) = light.commit_index() {
        node.raft.raft_log.store.wl().mut_hard_state().commit = commit;
    }
    wire.extend(light.take_messages());
    drop(light.take_committed_entries());
    node.advance_apply();
    Ok(())
}

impl Cores for Theirs {
    fn name(&self) -> &'static str {
        "raft-rs 0.7.0"
    }

    fn commit(&mut self, batch: usize) -> Result<()> {
        let entry = |_| TheirEntry { data: self.command.clone(), ..TheirEntry::default() };
        let entries: Vec<TheirEntry> = (0..batch).map(entry).collect();
        let mut proposal =
            TheirMessage { from: 1, entries: entries.into(), ..TheirMessage::default() };
        proposal.set_msg_type(MessageType::MsgPropose);
        self.nodes[0].raft.step(proposal)?;
        self.settle()?;
        let (last, commit) =
            (self.nodes[0].raft.raft_log.last_index(), self.nodes[0].raft.raft_log.committed);
        if commit < last {
            return Err("raft-rs did not commit".into());
        }
        if last > self.compacted + KEEP {
            self.compacted = last;
            for node in &self.nodes {
                let applied = node.raft.raft_log.applied;
                node.raft.raft_log.store.wl().compact(applied.saturating_sub(200))?;
            }
        }
        Ok(())
    }
}
