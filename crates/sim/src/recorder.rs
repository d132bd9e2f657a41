//! A state machine around the user's, which tells what was applied and what came out of it.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use refloat_node::{
    Chunks, Command, Effect, Effects, RestoreError, SnapshotReader, StateMachine, Versions,
};
use refloat_types::codec::Put;
use refloat_types::{GroupKey, Index, IndexSet};

use crate::client::{NO_REQUEST, REQUEST_LEN, numbered};
use crate::invariants::live_entries::Kept;
use crate::invariants::state_machine_safety::{Applied, NAME, Place, Step};
use crate::registers::Registers;
use crate::trace::{hash, mix};

pub(crate) struct Recorder {
    at: Place,
    inner: Box<dyn StateMachine>,
    /// Folds all commands so far.
    chain: u64,
    index: u64,
    kept: Kept,
    applied: Arc<Mutex<Applied>>,
}

impl Recorder {
    pub(crate) fn new(
        at: Place,
        inner: Box<dyn StateMachine>,
        applied: Arc<Mutex<Applied>>,
    ) -> Recorder {
        applied.lock().stand(at, (0, 0));
        Recorder { at, inner, chain: 0, index: 0, kept: Kept::default(), applied }
    }

    /// Which group's machine it is.
    pub(crate) fn group(&self) -> GroupKey {
        self.at.group
    }

    /// A register's value, if the machine inside has registers.
    pub(crate) fn register(&self, name: u8) -> Option<&Bytes> {
        let machine: &dyn std::any::Any = self.inner.as_ref();
        machine.downcast_ref::<Registers>()?.get(name)
    }

    fn fault(&self, text: String) {
        self.applied.lock().fail(NAME, text);
    }
}

impl StateMachine for Recorder {
    fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
        let bare = |command: &Command| Command {
            index: command.index,
            payload: command.payload.slice(REQUEST_LEN.min(command.payload.len())..),
        };
        let inner: Vec<Command> = batch.iter().map(bare).collect();
        let replies = self.inner.apply(&inner);
        if replies.len() != batch.len() {
            return replies;
        }
        for (command, reply) in batch.iter().zip(&replies) {
            if command.index.0 <= self.index {
                let Place { group, node } = self.at;
                let (now, last) = (command.index.0, self.index);
                self.fault(format!("node {node} applied {now} after {last} in group {group}"));
            }
            self.index = command.index.0;
            self.kept.apply(command.index);
            let (payload, before) = (hash(&command.payload), self.chain);
            self.chain = mix(self.chain ^ mix(self.index) ^ payload.rotate_left(7));
            let request = command.payload.first_chunk().map(|n| u64::from_le_bytes(*n));
            let request = request.filter(|request| *request != NO_REQUEST);
            let step = Step { command: payload, reply: hash(reply), before, chain: self.chain };
            self.applied.lock().apply(self.at, self.index, request, step);
        }
        self.applied.lock().stand(self.at, (self.index, self.chain));
        replies
    }

    fn snapshot(&mut self) -> Chunks {
        let mut head = Vec::new();
        head.put_u64(self.index);
        head.put_u64(self.chain);
        head.put_u64(self.kept.live.len());
        self.kept.live.iter().for_each(|index| head.put_u64(index.0));
        Box::new(std::iter::once(head.into()).chain(self.inner.snapshot()))
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader<'_>) -> Result<(), RestoreError> {
        let index = u64::from_le_bytes(snapshot.array()?);
        let chain = u64::from_le_bytes(snapshot.array()?);
        let mut live = IndexSet::new();
        for _ in 0..u64::from_le_bytes(snapshot.array()?) {
            live.insert(Index(u64::from_le_bytes(snapshot.array()?)));
        }
        self.inner.restore(snapshot)?;
        (self.index, self.chain, self.kept) = (index, chain, Kept { live });
        let mut applied = self.applied.lock();
        applied.stand(self.at, (index, chain));
        let known = applied.chain_at(self.at.group, index);
        drop(applied);
        if known != chain {
            let Place { group, node } = self.at;
            self.fault(format!("node {node} restored another state at {index} of group {group}"));
        }
        Ok(())
    }

    fn live_indexes(&self) -> IndexSet {
        let mut live = self.kept.live.clone();
        let own = self.inner.live_indexes();
        own.ranges().iter().for_each(|(first, last)| live.insert_range(*first, *last));
        live
    }

    fn effects(&mut self) -> Option<&mut dyn Effects> {
        self.inner.effects().is_some().then_some(self)
    }

    fn versions(&mut self) -> Option<&mut dyn Versions> {
        self.inner.versions()
    }
}

impl Effects for Recorder {
    fn begin(&mut self) -> Vec<Effect> {
        numbered_effects(self.inner.effects().map(Effects::begin))
    }

    fn take(&mut self) -> Vec<Effect> {
        numbered_effects(self.inner.effects().map(Effects::take))
    }
}

/// What a timer proposes is nobody's request, and may come twice.
fn numbered_effects(effects: Option<Vec<Effect>>) -> Vec<Effect> {
    let one = |effect| match effect {
        Effect::Timer { id, at_ms, command } => {
            Effect::Timer { id, at_ms, command: numbered(NO_REQUEST, &command) }
        }
        other => other,
    };
    effects.into_iter().flatten().map(one).collect()
}
