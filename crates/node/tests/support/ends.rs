//! A machine that counts the ends of its states, and of what was drawn of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use refloat_node::{Chunks, Command, RestoreError, SnapshotReader, StateMachine};

use super::{Journal, MakeMachine};

/// How many of each came to an end.
#[derive(Clone, Default)]
pub struct Ends {
    states: Arc<AtomicUsize>,
    drawn: Arc<AtomicUsize>,
}

impl Ends {
    /// Machines whose ends are counted here.
    pub fn machines(&self) -> MakeMachine {
        let ends = self.clone();
        Arc::new(move |_, _| Box::new(Mortal { journal: Journal::default(), ends: ends.clone() }))
    }

    pub fn states(&self) -> usize {
        self.states.load(Ordering::Relaxed)
    }

    pub fn drawn(&self) -> usize {
        self.drawn.load(Ordering::Relaxed)
    }
}

struct Mortal {
    journal: Journal,
    ends: Ends,
}

impl Drop for Mortal {
    fn drop(&mut self) {
        self.ends.states.fetch_add(1, Ordering::Relaxed);
    }
}

impl StateMachine for Mortal {
    fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
        self.journal.apply(batch)
    }

    fn snapshot(&mut self) -> Chunks {
        Box::new(Drawn(self.journal.snapshot(), self.ends.clone()))
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader<'_>) -> Result<(), RestoreError> {
        self.journal.restore(snapshot)
    }
}

struct Drawn(Chunks, Ends);

impl Drop for Drawn {
    fn drop(&mut self) {
        self.1.drawn.fetch_add(1, Ordering::Relaxed);
    }
}

impl Iterator for Drawn {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        self.0.next()
    }
}
