//! What a node says about itself.

use serde::Serialize;

use crate::api::MembershipId;

/// A node and its groups. The field names are an interface: `status --json` prints them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The cluster's id, 32 hex digits.
    pub cluster: String,
    /// The cluster's name.
    pub cluster_name: String,
    /// The node's id.
    pub node: u64,
    /// The node's life, 32 hex digits.
    pub incarnation: String,
    /// Which start of this life it is.
    pub run: u64,
    /// How often the cluster went on after a majority was lost for good.
    pub epoch: u32,
    /// How many election timeouts later than others the node stands for election.
    pub rank: u32,
    /// The declared drift of clocks in microseconds, if reads may be served from a lease.
    pub lease_drift: Option<u64>,
    /// Null once the cluster is formed, until then what formation waits for.
    pub forming: Option<String>,
    /// What is wrong with the own disk, if anything is.
    pub disk: Option<String>,
    /// What other nodes said against this one lately, one sentence each.
    pub refused: Vec<String>,
    /// All groups that this node holds a replica of, ascending by id.
    pub groups: Vec<GroupStatus>,
}

/// One group as this node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GroupStatus {
    /// The group's id.
    pub group: u64,
    /// Which group of this id.
    pub epoch: u64,
    /// `leader`, `follower`, `candidate`, `pre-candidate`, `learner`, or `stopped`.
    pub role: &'static str,
    /// The term of this replica.
    pub term: u64,
    /// Who leads in that term, if known.
    pub leader: Option<u64>,
    /// Up to where the log is committed.
    pub commit: u64,
    /// Up to where the state machine has applied it.
    pub applied: u64,
    /// Up to where this replica's log is durable.
    pub durable: u64,
    /// The last snapshot's index; 0 without one.
    pub snapshot: u64,
    /// `clean`, `damaged`, `head-unknown` or `amnesia`.
    pub state: &'static str,
    /// What a replica that is not clean, or that stopped, waits for.
    pub waits_for: Option<String>,
    /// Nothing happens in the group, and its leader's node beats for it.
    pub quiet: bool,
    /// This replica leads and would serve a read now without asking anybody.
    pub lease: bool,
    /// The version of the state machine's rules that is in force here.
    pub machine_version: u32,
    /// The highest that this program can run.
    pub machine_newest: u32,
    /// To which node this leader is handing the group over.
    pub transfer: Option<u64>,
    /// The name of the configuration that this replica has applied; equal ones have one name.
    #[serde(serialize_with = "hex")]
    pub membership: MembershipId,
    /// The members in it.
    pub members: Vec<MemberStatus>,
}

/// One member of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemberStatus {
    /// The node's id.
    pub node: u64,
    /// The life that the configuration names, 32 hex digits.
    pub incarnation: String,
    /// `voter`, `learner`, `incoming` or `outgoing`.
    pub member: &'static str,
    /// Up to where the leader knows its log to match; null except at the leader.
    #[serde(rename = "match")]
    pub matched: Option<u64>,
    /// How the leader sends to it: `probe`, `replicate` or `snapshot`; null except at the leader.
    pub sending: Option<&'static str>,
    /// Why it could not take the last snapshot that it was sent, in its own words; null except at
    /// the leader, and once it took one.
    pub refusal: Option<String>,
}

/// Counters since this start. They only grow, except the gauges at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Turns of the worker.
    pub turns: u64,
    /// Inputs stepped.
    pub inputs: u64,
    /// Proposals taken in by this node, forwarded ones included.
    pub proposals: u64,
    /// Proposals that this node sent to a leader elsewhere.
    pub forwarded: u64,
    /// Commands applied.
    pub applied: u64,
    /// Linearizable reads answered.
    pub reads: u64,
    /// Stale reads answered.
    pub stale_reads: u64,
    /// Requests refused with `Busy`.
    pub busy: u64,
    /// Requests that ended as `Unknown`.
    pub unknown: u64,
    /// Requests that ended as `NoLeader`.
    pub no_leader: u64,
    /// Elections that a replica of this node won.
    pub elections_won: u64,
    /// Changes of leader or role seen, over all groups.
    pub role_changes: u64,
    /// Frames sent to peers.
    pub frames_sent: u64,
    /// Frames received from peers.
    pub frames_received: u64,
    /// Raft messages sent to peers.
    pub messages_sent: u64,
    /// Raft messages received from peers.
    pub messages_received: u64,
    /// Frames or messages that were refused: not decodable, not meant for this node, or from a
    /// life that is not known.
    pub refused: u64,
    /// Snapshots of own state machines written.
    pub snapshots_written: u64,
    /// Snapshots sent whole.
    pub snapshots_sent: u64,
    /// Snapshots on their way to other nodes now.
    pub snapshots_sending: u64,
    /// Snapshots installed.
    pub snapshots_installed: u64,
    /// Bytes of snapshots and their live entries that were read for receivers.
    pub snapshot_bytes_sent: u64,
    /// Those of them that are not acknowledged (gauge).
    pub snapshot_bytes_inflight: u64,
    /// Bytes of snapshots that arrived and wait for the disk (gauge).
    pub snapshot_bytes_waiting: u64,
    /// Groups that take a snapshot in (gauge).
    pub snapshot_receptions: u64,
    /// Bytes of sealed files read in the background.
    pub scrubbed_bytes: u64,
    /// Walks over all of them that came to their end.
    pub scrubs: u64,
    /// Places where something did not hold, each time it was seen.
    pub rot: u64,
    /// Lost entries to which a state refers that other members gave.
    pub live_filled: u64,
    /// Times that the own disk did not answer for too long.
    pub disk_hangs: u64,
    /// Groups stopped by a panic of their state machine.
    pub panics: u64,
    /// Bytes of requests in flight (gauge).
    pub pending_bytes: u64,
    /// WAL and votes batches written.
    pub batches: u64,
    /// Syncs of those batches.
    pub syncs: u64,
    /// Bytes of the log held in memory (gauge).
    pub memory_bytes: u64,
}

fn hex<S: serde::Serializer>(id: &MembershipId, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&format!("{:016x}", id.0))
}
