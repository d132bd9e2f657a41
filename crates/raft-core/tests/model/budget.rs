//! Bounds.

/// How often each thing may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    pub campaigns: u8,
    pub proposals: u8,
    /// Crashes lose all or some of what is not durable.
    pub crashes: u8,
    /// Steps whose writes become durable later.
    pub lags: u8,
    /// Messages that arrive twice.
    pub repeats: u8,
    pub wipes: u8,
    /// Replicas that forget term and vote, keep the log, and go on as a new life.
    pub forgets: u8,
    pub damages: u8,
    /// Beats of leaders.
    pub beats: u8,
    /// Snapshots that replicas make of what they applied.
    pub compactions: u8,
    /// Overwritten ends of logs that come back, where the store knows that something is missing.
    pub old_ends: u8,
    /// Overwritten ends that come back and are taken for the log.
    pub unnoticed: u8,
    /// Disks that hang.
    pub hangs: u8,
    /// Leaders that remove themselves.
    pub removals: u8,
    /// Voters that make place for a learner, through a joint membership.
    pub swaps: u8,
    /// Voters that are removed, through a joint membership.
    pub drops: u8,
    /// Learners of the begin that become voters.
    pub promotions: u8,
    /// Halves of an election timeout that pass.
    pub passes: u8,
    pub reads: u8,
    /// Hand-overs.
    pub transfers: u8,
    /// Clocks of leaders that go back.
    pub falls: u8,
    /// Clocks of followers that run ahead of what is declared.
    pub jumps: u8,
}
