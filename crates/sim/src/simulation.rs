//! The door: settings, machine, commands; then one run per seed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use refloat_node::StateMachine;
use refloat_types::GroupId;
use refloat_vfs::Rng;

use crate::invariants::NO_PANIC;
use crate::world::World;
use crate::{Registers, Report, Settings, Violation};

pub(crate) type MakeMachine = Arc<dyn Fn(GroupId) -> Box<dyn StateMachine> + Send + Sync>;
pub(crate) type MakeCommand = Arc<dyn Fn(&mut Rng) -> Bytes>;

/// A cluster to be simulated. One value serves any number of runs.
pub struct Simulation {
    settings: Settings,
    machine: MakeMachine,
    command: MakeCommand,
}

impl Simulation {
    /// A simulation of [`Registers`].
    #[must_use]
    pub fn new(settings: Settings) -> Simulation {
        let max = settings.max_value;
        let command = move |rng: &mut Rng| {
            let mut value = vec![0; 1 + rng.index(max.max(1))];
            rng.fill(&mut value);
            value[0] %= 32;
            value.into()
        };
        Simulation {
            settings,
            machine: Arc::new(|_| Box::new(Registers::default())),
            command: Arc::new(command),
        }
    }

    /// Simulates this machine instead. Its replicas are compared after every command.
    #[must_use]
    pub fn machine(
        mut self,
        machine: impl Fn(GroupId) -> Box<dyn StateMachine> + Send + Sync + 'static,
    ) -> Simulation {
        self.machine = Arc::new(machine);
        self
    }

    /// Draws the commands that the clients send; all randomness must come from the argument.
    #[must_use]
    pub fn commands(mut self, command: impl Fn(&mut Rng) -> Bytes + 'static) -> Simulation {
        self.command = Arc::new(command);
        self
    }

    /// One run. Never panics because of what it runs: a panic is a violation in the report.
    #[must_use]
    pub fn run(&self, seed: u64) -> Report {
        let (machine, command) = (Arc::clone(&self.machine), Arc::clone(&self.command));
        let mut world = World::new(self.settings.clone(), machine, command, seed);
        let result = catch_unwind(AssertUnwindSafe(|| world.run()));
        if let Err(panic) = result {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            world.violation.get_or_insert(Violation {
                invariant: NO_PANIC,
                evidence: text.unwrap_or_else(|| "a panic without text".to_owned()),
                at_us: world.now,
            });
        }
        world.report()
    }
}
