//! A machine with effects.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use refloat_node::{Chunks, Command, Effect, Effects, RestoreError, SnapshotReader, StateMachine};

use super::Cluster;

/// Owes notices: `owe x` until `done x`, `later x` until a timer of a second says `done x`.
#[derive(Default)]
pub struct Debts {
    owed: BTreeSet<String>,
    timers: BTreeMap<String, u64>,
    new: Vec<Effect>,
}

fn notice(name: &str) -> Effect {
    Effect::Notice(Bytes::from(name.to_owned()))
}

fn timer(name: &str, at_ms: u64) -> Effect {
    let command = Bytes::from(format!("done {name}"));
    Effect::Timer { id: name.len() as u64, at_ms, command }
}

impl StateMachine for Debts {
    fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
        for command in batch {
            let text = String::from_utf8_lossy(&command.payload).into_owned();
            match text.split(' ').collect::<Vec<_>>()[..] {
                ["owe", name] => {
                    self.owed.insert(name.to_owned());
                    self.new.push(notice(name));
                }
                ["later", name, at_ms] => {
                    let at_ms = at_ms.parse().expect("a number");
                    self.timers.insert(name.to_owned(), at_ms);
                    self.new.push(timer(name, at_ms));
                }
                ["never", name] => {
                    self.timers.remove(name);
                    self.new.push(Effect::Cancel { id: name.len() as u64 });
                }
                ["many", count] => {
                    let ids = 0..count.parse().expect("a number");
                    let timers = ids.map(|id| Effect::Timer {
                        id,
                        at_ms: u64::MAX,
                        command: b"".as_slice().into(),
                    });
                    self.new.extend(timers);
                }
                ["done", name] => {
                    self.owed.remove(name);
                    self.timers.remove(name);
                }
                _ => {}
            }
        }
        vec![Bytes::new(); batch.len()]
    }

    fn snapshot(&mut self) -> Chunks {
        Box::new(std::iter::empty())
    }

    fn restore(&mut self, _: &mut SnapshotReader<'_>) -> Result<(), RestoreError> {
        Ok(())
    }

    fn effects(&mut self) -> Option<&mut dyn Effects> {
        Some(self)
    }
}

impl Effects for Debts {
    fn begin(&mut self) -> Vec<Effect> {
        let timers = self.timers.iter().map(|(name, at_ms)| timer(name, *at_ms));
        self.owed.iter().map(|name| notice(name)).chain(timers).collect()
    }

    fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.new)
    }
}

/// The names of the timers that are not over.
pub fn open(debts: &Debts) -> String {
    debts.timers.keys().cloned().collect::<Vec<_>>().join(" ")
}

/// The notices since the last call: the node that told it, and the text.
pub fn told(cluster: &mut Cluster) -> Vec<(u64, String)> {
    let notices = std::mem::take(&mut cluster.notices);
    notices.iter().map(|(at, text)| (*at, String::from_utf8_lossy(text).into_owned())).collect()
}
