//! How large, how long, how wild.

/// Settings of a simulation. Times are in simulated microseconds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Nodes of the cluster.
    pub nodes: u64,
    /// Data groups; each has a replica on every node.
    pub groups: u32,
    /// Clients, each with one request under way at a time.
    pub clients: usize,
    /// Length of the phase with faults.
    pub fault_us: u64,
    /// The healed cluster must serve everything again within this time.
    pub heal_us: u64,
    /// The nodes' election timeout.
    pub election_timeout: u64,
    /// Bytes per WAL file, small, so that it rolls over every few writes.
    pub wal_file_size: u64,
    /// Bytes per file of the votes log.
    pub votes_file_size: u64,
    /// A snapshot is made after so many entries.
    pub snapshot_entries: u64,
    /// Largest command that the built-in clients send, in bytes.
    pub max_value: usize,
    /// Bytes of log that one node may hold in memory.
    pub memory_limit: u64,
    /// In so many of a hundred runs all nodes but one are lost when everything is settled, and that
    /// one goes on by an operator's order.
    pub lost_majorities: u64,
    /// In so many of a hundred runs, when everything is settled, a group becomes one of two members,
    /// its leader is removed, and is switched off when it does not lead any more.
    pub removed_leaders: u64,
    /// What goes wrong.
    pub faults: FaultRates,
    /// Whether to keep a line per event in the report.
    pub keep_log: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            nodes: 3,
            groups: 2,
            clients: 6,
            fault_us: 8_000_000,
            heal_us: 15_000_000,
            election_timeout: 150_000,
            wal_file_size: 256 << 10,
            votes_file_size: 64 << 10,
            snapshot_entries: 60,
            max_value: 900,
            memory_limit: 16 << 20,
            lost_majorities: 20,
            removed_leaders: 20,
            faults: FaultRates::default(),
            keep_log: false,
        }
    }
}

/// How often things go wrong. Each run switches some of them off, drawn from its seed, so that
/// faults do not always hide each other. Rates are per simulated second and cluster.
#[derive(Clone, Debug)]
pub struct FaultRates {
    /// Process kills.
    pub kills: f64,
    /// Power cuts of one node.
    pub power_cuts: f64,
    /// Power cuts of all nodes at once.
    pub blackouts: f64,
    /// Kills of all nodes at once.
    pub massacres: f64,
    /// Partitions of every shape.
    pub partitions: f64,
    /// Nodes that stand still for a while.
    pub pauses: f64,
    /// Writes or syncs that fail once.
    pub disk_errors: f64,
    /// Jobs that hang for a while.
    pub slow_jobs: f64,
    /// Leader transfers, asked for by an operator.
    pub transfers: f64,
    /// Snapshots, asked for by an operator.
    pub snapshots: f64,
    /// Orderly stops.
    pub shutdowns: f64,
    /// Bytes at rest that go bad: flipped, zeroed, swapped, stale, files cut or gone. Either at
    /// one node only, or at all, but then each entry at one node only.
    pub rot: f64,
    /// Disks that are replaced by empty ones, at one node only; the node joins again.
    pub wipes: f64,
    /// Directories that are replaced by older copies of themselves.
    pub old_copies: f64,
    /// Nodes that are started on each other's directories.
    pub swaps: f64,
    /// Many requests at once at one node.
    pub bursts: f64,
    /// Sectors at rest that cannot be read any more, at one node only.
    pub unreadable: f64,
    /// Disks that are full for a while.
    pub full_disks: f64,
    /// Disks that do not answer for a while.
    pub hanging_disks: f64,
    /// Changes of a group's members, asked for by an operator.
    pub memberships: f64,
    /// Groups created and deleted, some under an id that was in use before.
    pub group_churn: f64,
    /// Clocks that run too fast or too slow, by up to so many millionths.
    pub drift_ppm: u64,
    /// Frames lost, of a thousand.
    pub dropped_frames: u64,
    /// Frames doubled, of a thousand.
    pub doubled_frames: u64,
    /// Frames much delayed, of a thousand.
    pub late_frames: u64,
}

impl Default for FaultRates {
    fn default() -> FaultRates {
        FaultRates {
            kills: 0.5,
            power_cuts: 0.5,
            blackouts: 0.15,
            massacres: 0.1,
            partitions: 0.4,
            pauses: 0.2,
            disk_errors: 0.1,
            slow_jobs: 0.5,
            transfers: 0.3,
            snapshots: 0.3,
            shutdowns: 0.1,
            rot: 0.5,
            wipes: 0.2,
            old_copies: 0.2,
            swaps: 0.1,
            bursts: 0.1,
            unreadable: 0.2,
            full_disks: 0.15,
            hanging_disks: 0.1,
            memberships: 0.4,
            group_churn: 0.5,
            drift_ppm: 20_000,
            dropped_frames: 20,
            doubled_frames: 10,
            late_frames: 20,
        }
    }
}

impl FaultRates {
    /// Nothing goes wrong.
    #[must_use]
    pub fn none() -> FaultRates {
        FaultRates {
            kills: 0.0,
            power_cuts: 0.0,
            blackouts: 0.0,
            massacres: 0.0,
            partitions: 0.0,
            pauses: 0.0,
            disk_errors: 0.0,
            slow_jobs: 0.0,
            transfers: 0.0,
            snapshots: 0.0,
            shutdowns: 0.0,
            rot: 0.0,
            wipes: 0.0,
            old_copies: 0.0,
            swaps: 0.0,
            bursts: 0.0,
            unreadable: 0.0,
            full_disks: 0.0,
            hanging_disks: 0.0,
            memberships: 0.0,
            group_churn: 0.0,
            drift_ppm: 0,
            dropped_frames: 0,
            doubled_frames: 0,
            late_frames: 0,
        }
    }
}
