//! Versions of a machine's rules, while programs are replaced by newer ones in clusters that go
//! wrong: every replica applies each command by the same rules, and none by rules that it lacks.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use refloat_node::{Chunks, Command, RestoreError, SnapshotReader, StateMachine, Versions};
use refloat_sim::{FaultRates, Settings, Simulation};
use refloat_types::GroupId;

/// After so many starts of a machine the next program has come out.
const STARTS: u32 = 3;

/// By which rules all replicas applied what.
#[derive(Default)]
struct Rules {
    starts: u32,
    by: BTreeMap<(u64, u64), u32>,
    highest: u32,
    fault: Option<String>,
}

/// Adds up its commands, by rules that differ from version to version.
struct Counter {
    group: u64,
    newest: u32,
    version: u32,
    count: u64,
    rules: Arc<Mutex<Rules>>,
}

impl StateMachine for Counter {
    fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
        let mut rules = self.rules.lock();
        let one = |command: &Command| {
            let by = *rules.by.entry((self.group, command.index.0)).or_insert(self.version);
            if by != self.version || self.version > self.newest {
                let (group, index, newest, mine) =
                    (self.group, command.index, self.newest, self.version);
                rules.fault.get_or_insert_with(|| {
                    format!("group {group}, {index}: version {mine}, before {by}, can {newest}")
                });
            }
            rules.highest = rules.highest.max(self.version);
            self.count = self.count.wrapping_mul(31).wrapping_add(u64::from(self.version) + 1);
            Bytes::copy_from_slice(&self.count.to_le_bytes())
        };
        batch.iter().map(one).collect()
    }

    fn snapshot(&mut self) -> Chunks {
        Box::new(std::iter::once(Bytes::copy_from_slice(&self.count.to_le_bytes())))
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader<'_>) -> Result<(), RestoreError> {
        self.count = u64::from_le_bytes(snapshot.array()?);
        Ok(())
    }

    fn versions(&mut self) -> Option<&mut dyn Versions> {
        Some(self)
    }
}

impl Versions for Counter {
    fn newest(&self) -> u32 {
        self.newest
    }

    fn switch_to(&mut self, version: u32) {
        self.version = version;
    }
}

/// No leader is taken out either.
fn staying() -> Settings {
    Settings { removed_leaders: 0, ..Settings::default() }
}

#[test]
fn every_replica_applies_each_command_by_the_same_rules_while_programs_are_replaced() {
    // Groups that come and go under one id would be several histories under one name. Whoever is
    // taken out is not asked what it can run, and stops until it gets the newer program.
    let faults =
        FaultRates { kills: 2.0, group_churn: 0.0, memberships: 0.0, ..FaultRates::default() };
    let settings = Settings { fault_us: 3_000_000, snapshot_entries: 20, faults, ..staying() };
    let mut highest = 0;
    for seed in 1..13 {
        let rules = Arc::new(Mutex::new(Rules::default()));
        let watch = Arc::clone(&rules);
        let simulation = Simulation::new(settings.clone()).machine(move |GroupId(group)| {
            let rules = Arc::clone(&watch);
            let mut inner = rules.lock();
            inner.starts += 1;
            let newest = inner.starts / STARTS;
            drop(inner);
            Box::new(Counter { group, newest, version: 0, count: 0, rules })
        });
        let report = simulation.run(seed);
        assert!(report.violation.is_none(), "{report}");
        let rules = rules.lock();
        assert_eq!(rules.fault, None, "{report}");
        highest = highest.max(rules.highest);
    }
    println!("version {highest} came into force");
    assert!(highest > 1, "{highest}");
}
