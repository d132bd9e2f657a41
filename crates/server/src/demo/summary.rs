//! The last line.

use serde::Serialize;

use crate::cli::output;

/// What came out. The names are an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Writes that were answered with success.
    pub acknowledged: u64,
    /// Of those, found again.
    pub verified: u64,
    /// Of those, not found, or found with another value.
    pub missing: u64,
    /// How often a process was started again.
    pub restarts: u64,
    /// The longest time without any acknowledged write.
    pub longest_pause_ms: u64,
    /// Acknowledged writes per second of load, pauses included.
    pub writes_per_s: u64,
    /// Log syncs of all three nodes per second of load.
    pub syncs_per_s: u64,
}

impl Summary {
    /// Prints it as the last line of standard output.
    pub fn print(&self, json: bool) {
        match serde_json::to_string(self) {
            Ok(line) if json => output::line(line),
            _ => output::line(self.line()),
        }
    }

    fn line(&self) -> String {
        format!(
            "acknowledged={} verified={} missing={} restarts={} longest_pause_ms={} \
             writes_per_s={} syncs_per_s={}",
            self.acknowledged,
            self.verified,
            self.missing,
            self.restarts,
            self.longest_pause_ms,
            self.writes_per_s,
            self.syncs_per_s
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_and_the_json_have_the_same_names_in_the_same_order() {
        let summary = Summary {
            acknowledged: 1,
            verified: 2,
            missing: 3,
            restarts: 4,
            longest_pause_ms: 5,
            writes_per_s: 6,
            syncs_per_s: 7,
        };
        assert_eq!(
            summary.line(),
            "acknowledged=1 verified=2 missing=3 restarts=4 longest_pause_ms=5 writes_per_s=6 syncs_per_s=7"
        );
        let json = serde_json::to_string(&summary).unwrap();
        let as_line = json.replace(['{', '}', '"'], "").replace(':', "=").replace(',', " ");
        assert_eq!(as_line, summary.line());
    }
}
