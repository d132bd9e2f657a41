//! A machine of one's own in the simulator: replicas that differ are found.
//!
//! `cargo run -p refloat-sim --example own_machine`
#![forbid(unsafe_code)]

use bytes::Bytes;
use refloat_node::{Chunks, Command, RestoreError, SnapshotReader, StateMachine};
use refloat_sim::{Settings, Simulation};

/// Adds up what it is given.
#[derive(Default)]
struct Sum(u64);

impl StateMachine for Sum {
    fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
        let add = |command: &Command| {
            self.0 += u64::from(command.payload.first().copied().unwrap_or_default());
            self.0.to_string().into()
        };
        batch.iter().map(add).collect()
    }

    fn snapshot(&mut self) -> Chunks {
        Box::new(std::iter::once(Bytes::copy_from_slice(&self.0.to_le_bytes())))
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader<'_>) -> Result<(), RestoreError> {
        self.0 = u64::from_le_bytes(snapshot.array()?);
        Ok(())
    }
}

fn main() {
    let simulation = Simulation::new(Settings { fault_us: 1_000_000, ..Settings::default() })
        .machine(|_group| Box::new(Sum::default()))
        .commands(|rng| vec![rng.below(10) as u8].into());
    for seed in 1..=3 {
        let report = simulation.run(seed);
        println!("{report}");
        assert!(report.violation.is_none());
    }
}
