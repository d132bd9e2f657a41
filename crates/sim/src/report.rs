//! What a run brought.

use std::collections::BTreeMap;
use std::fmt;

use crate::history::History;

/// The account of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The seed; with the same settings and machine it gives the same run.
    pub seed: u64,
    /// The first invariant that did not hold. The run ended there.
    pub violation: Option<Violation>,
    /// Faults that really fired, by name.
    pub faults: BTreeMap<&'static str, u64>,
    /// How often each invariant was really evaluated.
    pub evaluated: BTreeMap<&'static str, u64>,
    /// One number for everything that happened.
    pub trace_hash: u64,
    /// Events that were carried out.
    pub events: u64,
    /// Simulated time.
    pub simulated_us: u64,
    /// Writes that were acknowledged; all of them were found again at the end.
    pub acknowledged: u64,
    /// Linearizable reads that were answered.
    pub reads: u64,
    /// Requests whose outcome stayed open.
    pub unknown: u64,
    /// Starts of nodes after the first.
    pub restarts: u64,
    /// Segments, snapshots and the like that came to be: what the run reached.
    pub reached: BTreeMap<&'static str, u64>,
    /// What the clients saw of the groups that are always there; empty unless the machine is
    /// [`crate::Registers`].
    pub history: History,
    /// A line per event, if the settings asked for it.
    pub log: Vec<String>,
}

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// Which one.
    pub invariant: &'static str,
    /// What was seen.
    pub evidence: String,
    /// When, in simulated microseconds.
    pub at_us: u64,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at_us as f64 / 1e6;
        write!(f, "{} does not hold at {at:.6} s: {}", self.invariant, self.evidence)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}: {} events in {:.1} simulated s, {} writes acknowledged, {} reads, {} open, \
             {} restarts, trace {:016x}",
            self.seed,
            self.events,
            self.simulated_us as f64 / 1e6,
            self.acknowledged,
            self.reads,
            self.unknown,
            self.restarts,
            self.trace_hash
        )?;
        writeln!(f, "  faults fired: {}", counts(&self.faults))?;
        writeln!(f, "  invariants evaluated: {}", counts(&self.evaluated))?;
        write!(f, "  reached: {}", counts(&self.reached))?;
        if let Some(violation) = &self.violation {
            write!(f, "\n  FAILED: {violation}\n  replay: cargo xtask sim --seed {}", self.seed)?;
        }
        Ok(())
    }
}

fn counts(counts: &BTreeMap<&'static str, u64>) -> String {
    let all: Vec<String> = counts.iter().map(|(name, n)| format!("{name} {n}")).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}
