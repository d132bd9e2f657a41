//! Settings of a node.

use crate::core::StartError;

/// No time is longer: a day. Multiples of it stay far from the end of their numbers.
const DAY: u64 = 86_400_000_000;
/// No message is longer.
const MESSAGE: u64 = 1 << 30;
/// No budget is larger.
const BUDGET: u64 = 1 << 48;

/// How a node behaves. Times are in microseconds, sizes in bytes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// A follower that hears nothing for one to two of these starts an election. 500 ms.
    pub election_timeout: u64,
    /// A leader shows itself this often. 50 ms.
    pub heartbeat: u64,
    /// How many election timeouts longer than others this node waits before it stands for
    /// election: 0 for the nodes that should lead. 0.
    pub rank: u32,
    /// Reads without a round to other nodes, while a majority promised to elect nobody; declares
    /// that the clocks of any two nodes drift apart by less than this within an election timeout.
    /// Off. It must be less than the election timeout, which must be the same on every node;
    /// a node that turns it off must stay down for an election timeout.
    pub lease_drift: Option<u64>,
    /// After how long without proposals and reads a group whose members agree sends nothing any
    /// more: the leader's node beats for all such groups at once. The first request after that
    /// needs one round more. Off.
    pub quiet_after: Option<u64>,
    /// For so many election timeouts a write may wait for the own disk. Then the node hands what it
    /// leads over to others, and neither votes nor stands for election before the disk has answered;
    /// 0 is no limit. 6.
    pub disk_patience: u32,
    /// How long a request waits for a leader before [`crate::RequestError::NoLeader`]. 2 s.
    pub leader_wait: u64,
    /// How long a proposal waits for its outcome before [`crate::RequestError::Unknown`]. 10 s.
    pub proposal_timeout: u64,
    /// Proposals and reads in flight on this node, together. 64 MiB.
    pub max_pending_bytes: u64,
    /// The largest payload of one entry. 4 MiB; must fit into a WAL file.
    pub max_payload: u64,
    /// Entries in one append message, in bytes. 1 MiB.
    pub max_append_bytes: usize,
    /// Append messages in flight to one follower of one group. 256.
    pub max_inflight_msgs: usize,
    /// Bytes of appends in flight to one follower of one group. 8 MiB.
    pub max_inflight_bytes: u64,
    /// Proposed and not yet committed bytes of one group at its leader. 16 MiB.
    pub max_uncommitted_bytes: u64,
    /// Entries handed to a state machine at once, in bytes. 1 MiB.
    pub max_apply_bytes: usize,
    /// A snapshot is made after so many applied entries. 200,000.
    pub snapshot_entries: u64,
    /// Or after so many applied bytes. 64 MiB.
    pub snapshot_bytes: u64,
    /// Snapshot chunks in flight to one receiver. 4.
    pub snapshot_window: u32,
    /// Bytes of snapshots and their live entries that leave this node in a second, over all groups
    /// and receivers; 0 is no limit. 64 MiB.
    pub snapshot_rate: u64,
    /// Bytes of snapshots that this node reads for receivers and that these have not acknowledged,
    /// over all groups; one chunk always fits. And as many, at most, that arrived and wait for the
    /// disk. 8 MiB.
    pub snapshot_inflight_bytes: u64,
    /// Groups that take a snapshot in at once; others wait. 4.
    pub snapshot_receptions: usize,
    /// Groups of which this node, as their leader, brings new members up to date at once. 4.
    pub rejoins: usize,
    /// Where other nodes connect to this one, if it is not what the data directory says.
    pub peer_address: Option<String>,
    /// A connection's append messages up to this length travel in the urgent lane. 64 KiB.
    pub urgent_bytes: usize,
    /// Timers of groups that are due within this span of each other fire together; a heartbeat at
    /// most counts. 10 ms.
    pub timer_grain: u64,
    /// Apply threads of the shell. 1.
    pub apply_threads: usize,
    /// Whether the shell's worker applies and answers reads itself instead of handing them to the
    /// apply threads: right for machines that take microseconds. On.
    pub inline_apply: bool,
    /// Requests that may wait in the shell's inbox before callers get `Busy`. 65,536.
    pub max_inbox: usize,
}

/// The longest reply of a state machine that travels between nodes, in bytes: to a proposal that
/// another node passed on. Who waits for a longer one hears that the outcome is unknown.
pub(crate) const MAX_REPLY: usize = 72 << 20;

impl Config {
    /// The longest frame that this node may have to send: what a frame is closed at, behind the
    /// longest message.
    pub(crate) fn max_frame(&self) -> usize {
        const ROOM: usize = 4 << 20;
        let entry = usize::try_from(self.max_payload).unwrap_or(usize::MAX);
        let longest = entry.max(MAX_REPLY).max(self.max_append_bytes);
        longest.saturating_add(ROOM).min(u32::MAX as usize)
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            election_timeout: 500_000,
            heartbeat: 50_000,
            rank: 0,
            lease_drift: None,
            quiet_after: None,
            disk_patience: 6,
            leader_wait: 2_000_000,
            proposal_timeout: 10_000_000,
            max_pending_bytes: 64 << 20,
            max_payload: 4 << 20,
            max_append_bytes: 1 << 20,
            max_inflight_msgs: 256,
            max_inflight_bytes: 8 << 20,
            max_uncommitted_bytes: 16 << 20,
            max_apply_bytes: 1 << 20,
            snapshot_entries: 200_000,
            snapshot_bytes: 64 << 20,
            snapshot_window: 4,
            snapshot_rate: 64 << 20,
            snapshot_inflight_bytes: 8 << 20,
            snapshot_receptions: 4,
            rejoins: 4,
            peer_address: None,
            urgent_bytes: 64 << 10,
            timer_grain: 10_000,
            apply_threads: 1,
            inline_apply: true,
            max_inbox: 65_536,
        }
    }
}

impl Config {
    /// Refuses what cannot work, before anything is touched: a replica that does not start for its
    /// settings would else be one that sleeps.
    pub(crate) fn check(&self) -> Result<(), StartError> {
        let timeout = self.election_timeout;
        let bounds = [
            ("election_timeout", timeout, 2, DAY),
            ("heartbeat", self.heartbeat, 1, timeout / 2),
            ("lease_drift", self.lease_drift.unwrap_or_default(), 0, timeout.saturating_sub(1)),
            ("quiet_after", self.quiet_after.unwrap_or_default(), 0, DAY),
            ("leader_wait", self.leader_wait, 0, DAY),
            ("proposal_timeout", self.proposal_timeout, 1, DAY),
            ("timer_grain", self.timer_grain, 0, DAY),
            ("max_pending_bytes", self.max_pending_bytes, 1, BUDGET),
            ("max_payload", self.max_payload, 1, MESSAGE),
            ("max_append_bytes", self.max_append_bytes as u64, 1, MESSAGE),
            ("max_inflight_msgs", self.max_inflight_msgs as u64, 1, BUDGET),
            ("max_inflight_bytes", self.max_inflight_bytes, 1, BUDGET),
            ("max_uncommitted_bytes", self.max_uncommitted_bytes, 1, BUDGET),
            ("max_apply_bytes", self.max_apply_bytes as u64, 1, BUDGET),
            ("snapshot_entries", self.snapshot_entries, 1, u64::MAX),
            ("snapshot_bytes", self.snapshot_bytes, 1, BUDGET),
            ("snapshot_window", u64::from(self.snapshot_window), 1, 1 << 16),
            ("snapshot_rate", self.snapshot_rate, 0, BUDGET),
            ("snapshot_inflight_bytes", self.snapshot_inflight_bytes, 1, BUDGET),
            ("snapshot_receptions", self.snapshot_receptions as u64, 1, BUDGET),
            ("rejoins", self.rejoins as u64, 1, BUDGET),
            ("urgent_bytes", self.urgent_bytes as u64, 0, MESSAGE),
            ("apply_threads", self.apply_threads as u64, 1, 1 << 10),
            ("max_inbox", self.max_inbox as u64, 1, BUDGET),
        ];
        let bad = bounds.into_iter().find(|(_, found, least, most)| found < least || found > most);
        match bad {
            Some((field, found, least, most)) => {
                Err(StartError::Setting { field, found, least, most })
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused_with_its_name_what_it_is_and_what_would_work() {
        assert!(Config::default().check().is_ok());
        type Adjust = fn(&mut Config);
        let refused: [(&str, Adjust); 26] = [
            ("election_timeout", |c| c.election_timeout = 0),
            ("election_timeout", |c| c.election_timeout = u64::MAX),
            ("heartbeat", |c| c.heartbeat = 0),
            ("heartbeat", |c| c.heartbeat = c.election_timeout),
            ("lease_drift", |c| c.lease_drift = Some(c.election_timeout)),
            ("quiet_after", |c| c.quiet_after = Some(u64::MAX)),
            ("leader_wait", |c| c.leader_wait = u64::MAX),
            ("proposal_timeout", |c| c.proposal_timeout = 0),
            ("timer_grain", |c| c.timer_grain = u64::MAX),
            ("max_pending_bytes", |c| c.max_pending_bytes = u64::MAX),
            ("max_payload", |c| c.max_payload = 0),
            ("max_payload", |c| c.max_payload = u64::MAX),
            ("max_append_bytes", |c| c.max_append_bytes = 0),
            ("max_inflight_msgs", |c| c.max_inflight_msgs = 0),
            ("max_inflight_bytes", |c| c.max_inflight_bytes = 0),
            ("max_uncommitted_bytes", |c| c.max_uncommitted_bytes = 0),
            ("max_apply_bytes", |c| c.max_apply_bytes = 0),
            ("snapshot_entries", |c| c.snapshot_entries = 0),
            ("snapshot_bytes", |c| c.snapshot_bytes = 0),
            ("snapshot_window", |c| c.snapshot_window = 0),
            ("snapshot_rate", |c| c.snapshot_rate = u64::MAX),
            ("snapshot_receptions", |c| c.snapshot_receptions = 0),
            ("rejoins", |c| c.rejoins = 0),
            ("urgent_bytes", |c| c.urgent_bytes = usize::MAX),
            ("apply_threads", |c| c.apply_threads = 0),
            ("max_inbox", |c| c.max_inbox = 0),
        ];
        for (name, adjust) in refused {
            let mut config = Config::default();
            adjust(&mut config);
            match config.check() {
                Err(StartError::Setting { field, found, least, most }) => {
                    assert_eq!(field, name);
                    assert!(found < least || found > most, "{field}: {least} to {most}");
                }
                other => panic!("{name}: {other:?}"),
            }
        }
        let config = Config { heartbeat: 0, ..Config::default() };
        let text = config.check().expect_err("no beat").to_string();
        assert_eq!(text, "setting heartbeat is 0, expected 1 to 250000");
    }
}
