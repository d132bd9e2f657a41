//! The command line, from which the help is made too.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use refloat_log_store::tools::Wanted;

use super::units::{duration, size};

/// A replicated key-value server that recovers by itself.
#[derive(Debug, Parser)]
#[command(name = "refloat", version, about, subcommand_required = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show three nodes being killed and losing nothing
    Demo(Demo),
    /// Create a node's directory and identity, once
    Init(Init),
    /// Create the directory of a node that joins, or that returns with a new disk
    Join(Join),
    /// Run a node
    Serve(Box<Serve>),
    /// Ask a running node how its groups are
    Status(Status),
    /// Add, promote or remove a node, through one that runs
    #[command(subcommand)]
    Member(Member),
    /// Delete a group with its keys, or create one that was deleted, empty
    #[command(subcommand)]
    Group(Group),
    /// Hand the leadership of a group to another node
    Transfer(Transfer),
    /// Make a snapshot of a group on one node now
    Snapshot(Snapshot),
    /// Explain a data directory; changes nothing
    Check(Check),
    /// Show what a data directory holds; changes nothing
    #[command(subcommand)]
    Inspect(Inspect),
    /// Go on with one node after a majority was lost for good, on the directory of a stopped node
    Recover(Recover),
    /// Put right what needs no peer, on the directory of a stopped node
    Repair(Repair),
    /// Compare two data directories of one cluster; changes nothing
    Compare(Compare),
    /// Measure on your own disk
    #[command(subcommand)]
    Bench(Bench),
}

/// `refloat demo`
#[derive(Debug, Args)]
pub struct Demo {
    /// How long the load runs
    #[arg(long, default_value_t = 15, value_name = "N", value_parser = clap::value_parser!(u64).range(3..=3600))]
    pub seconds: u64,
    /// Which faults, when
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Keep the nodes' directories and logs here instead of in a temporary directory
    #[arg(long, value_name = "D")]
    pub dir: Option<PathBuf>,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
}

/// `refloat init`
#[derive(Debug, Args)]
pub struct Init {
    /// The directory to make
    #[arg(long, value_name = "D")]
    pub data_dir: PathBuf,
    /// This node's number, one of the members
    #[arg(long, value_name = "N")]
    pub node: u64,
    /// The cluster's name, the same on all nodes
    #[arg(long, value_name = "NAME")]
    pub cluster: String,
    /// A member and its peer address, once per member and the same on all nodes
    #[arg(long = "member", value_name = "N=HOST:PORT", required = true, value_parser = member)]
    pub members: Vec<(u64, String)>,
    /// How many groups the keys are spread over, the same on all nodes
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub groups: u32,
}

/// `refloat join`
#[derive(Debug, Args)]
pub struct Join {
    /// The directory to make
    #[arg(long, value_name = "D")]
    pub data_dir: PathBuf,
    /// This node's number
    #[arg(long, value_name = "N")]
    pub node: u64,
    /// The cluster's name
    #[arg(long, value_name = "NAME")]
    pub cluster: String,
    /// The peer address of any member that runs
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    pub peer: String,
    /// Where other nodes connect to this one [default: where they did]
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    pub peer_addr: Option<String>,
}

/// `refloat serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// The directory that `init` made
    #[arg(long, value_name = "D")]
    pub data_dir: PathBuf,
    /// Where Redis clients connect
    #[arg(long, default_value = "127.0.0.1:6371", value_name = "ADDR", value_parser = address)]
    pub client_addr: SocketAddr,
    /// Where other nodes connect [default: the one in the member list]
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    pub peer_addr: Option<String>,
    /// Where status and metrics are served by HTTP [default: nowhere]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub admin_addr: Option<SocketAddr>,
    /// Clients must give the password in this file; needed for addresses other than loopback
    #[arg(long, value_name = "FILE")]
    pub client_password_file: Option<PathBuf>,
    /// Talk to other nodes in the clear on addresses other than loopback
    #[arg(long)]
    pub peer_plain_tcp: bool,
    /// Sizes and times.
    #[command(flatten)]
    pub tuning: Tuning,
    /// Sizes of files.
    #[command(flatten)]
    pub files: Files,
    /// Tear the next large enough log write after SIGUSR1, and die of SIGKILL
    #[arg(long, hide = true)]
    pub tear_on_signal: bool,
    /// Die with the process of this number, which started this one
    #[arg(long, hide = true, value_name = "PID")]
    pub exit_with_parent: Option<u32>,
}

/// How a node behaves.
#[derive(Clone, Debug, Args)]
pub struct Tuning {
    /// A follower that hears nothing for one to two of these starts an election
    #[arg(long, default_value = "500ms", value_name = "TIME", value_parser = duration)]
    pub election_timeout: Duration,
    /// A leader shows itself this often [default: a tenth of the election timeout]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub heartbeat: Option<Duration>,
    /// The longest value of a key [default: 1MiB, at most a sixteenth of --wal-file-size]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_value_size: Option<u64>,
    /// The most client connections
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub max_clients: usize,
    /// Replies that clients have not taken yet, over all connections
    #[arg(long, default_value = "64MiB", value_name = "SIZE", value_parser = size)]
    pub max_unsent: u64,
    /// Requests in flight on this node, together
    #[arg(long, default_value = "64MiB", value_name = "SIZE", value_parser = size)]
    pub max_pending: u64,
    /// A group makes a snapshot after so many entries
    #[arg(long, default_value_t = 200_000, value_name = "N")]
    pub snapshot_entries: u64,
    /// Or after so many bytes of entries
    #[arg(long, default_value = "64MiB", value_name = "SIZE", value_parser = size)]
    pub snapshot_size: u64,
    /// Snapshots leave for other nodes at so many bytes a second, over all groups; 0 is no limit
    #[arg(long, default_value = "64MiB", value_name = "SIZE", value_parser = size)]
    pub snapshot_rate: u64,
    /// Bytes of snapshots under way to others, and as many that wait for the disk here
    #[arg(long, default_value = "8MiB", value_name = "SIZE", value_parser = size)]
    pub snapshot_inflight: u64,
    /// Groups that take in a snapshot at once
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub snapshot_receptions: usize,
    /// Answer reads from a lease: the clocks of any two nodes drift apart by less than this within
    /// an election timeout [default: reads ask a majority]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub lease_drift: Option<Duration>,
    /// Stand for election so many election timeouts later than others: 0 for nodes that should lead
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub rank: u32,
    /// A write may wait for the disk for so many election timeouts, then others lead; 0 is no limit
    #[arg(long, default_value_t = 6, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub disk_patience: u32,
    /// Groups in which nothing happens for so long send nothing any more [default: they beat]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub quiet_after: Option<Duration>,
    /// Files that nobody asks for are read for rot at so many bytes a second, once a day; 0 is off
    #[arg(long, default_value = "4MiB", value_name = "SIZE", value_parser = size)]
    pub scrub_rate: u64,
}

/// The files of a data directory.
#[derive(Clone, Debug, Args)]
pub struct Files {
    /// The length of a log file
    #[arg(long, default_value = "30MiB", value_name = "SIZE", value_parser = size)]
    pub wal_file_size: u64,
    /// The length of a file of the second, small log
    #[arg(long, default_value = "1MiB", value_name = "SIZE", value_parser = size)]
    pub votes_file_size: u64,
    /// Write the log through the page cache
    #[arg(long)]
    pub no_direct_io: bool,
}

/// `refloat status`
#[derive(Debug, Args)]
pub struct Status {
    /// The admin address of the node
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub admin_addr: SocketAddr,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `refloat member`
#[derive(Debug, Subcommand)]
pub enum Member {
    /// Expect a new node: it may join then, and becomes a voter of all groups
    Add(MemberAdd),
    /// Make a node that was added as a learner a voter
    Promote(MemberOrder),
    /// Take a node out of all groups, for good
    Remove(MemberOrder),
}

/// `refloat member add`
#[derive(Debug, Args)]
pub struct MemberAdd {
    /// Which node, and whom to tell.
    #[command(flatten)]
    pub order: MemberOrder,
    /// Keep it a learner
    #[arg(long)]
    pub learner: bool,
}

/// `refloat member promote`, `refloat member remove`
#[derive(Clone, Copy, Debug, Args)]
pub struct MemberOrder {
    /// The admin address of any node of the cluster
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub admin_addr: SocketAddr,
    /// The node's number
    #[arg(long, value_name = "N")]
    pub node: u64,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `refloat group`
#[derive(Debug, Subcommand)]
pub enum Group {
    /// Create a group that was deleted, empty; fine if it exists
    Create(GroupOrder),
    /// Delete a group and all its keys on every node, for good; fine if there is none
    Delete(GroupDelete),
}

/// `refloat group create`
#[derive(Clone, Copy, Debug, Args)]
pub struct GroupOrder {
    /// The admin address of any node of the cluster
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub admin_addr: SocketAddr,
    /// Which group
    #[arg(long, value_name = "N")]
    pub group: u64,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `refloat group delete`
#[derive(Debug, Args)]
pub struct GroupDelete {
    /// Which group, and whom to tell.
    #[command(flatten)]
    pub order: GroupOrder,
    /// Do it: what the group holds is lost
    #[arg(long)]
    pub accept_loss: bool,
}

/// `refloat transfer`
#[derive(Debug, Args)]
pub struct Transfer {
    /// The admin address of the group's leader
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub admin_addr: SocketAddr,
    /// Of which group
    #[arg(long, value_name = "N")]
    pub group: u64,
    /// To which node
    #[arg(long, value_name = "N")]
    pub to: u64,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `refloat snapshot`
#[derive(Debug, Args)]
pub struct Snapshot {
    /// The admin address of the node that makes it
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub admin_addr: SocketAddr,
    /// Of which group
    #[arg(long, value_name = "N")]
    pub group: u64,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `refloat check`
#[derive(Debug, Args)]
pub struct Check {
    /// The data directory
    #[arg(value_name = "D")]
    pub data_dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// The sizes that `serve` runs with.
    #[command(flatten)]
    pub files: Files,
}

/// `refloat inspect`
#[derive(Debug, Subcommand)]
pub enum Inspect {
    /// List the log files, what proves their end, and their records
    Wal(InspectWal),
    /// List the segment files and verify every entry in them
    Segment(InspectFiles),
    /// List the snapshot files, unfinished ones too, and verify every byte
    Snapshot(InspectFiles),
    /// Tell the whole story of one group
    Group(InspectGroup),
}

/// `refloat inspect segment`, `refloat inspect snapshot`
#[derive(Debug, Args)]
pub struct InspectFiles {
    /// The data directory
    #[arg(value_name = "D")]
    pub data_dir: PathBuf,
    /// Print JSON lines, one per file
    #[arg(long)]
    pub json: bool,
    /// The sizes that `serve` runs with.
    #[command(flatten)]
    pub files: Files,
}

/// `refloat inspect group`
#[derive(Debug, Args)]
pub struct InspectGroup {
    /// The data directory
    #[arg(value_name = "D")]
    pub data_dir: PathBuf,
    /// Which group: 7, or 7/3 for its life of epoch 3
    #[arg(long, value_name = "N[/EPOCH]")]
    pub group: Wanted,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// The sizes that `serve` runs with.
    #[command(flatten)]
    pub files: Files,
}

/// `refloat recover`
#[derive(Debug, Args)]
pub struct Recover {
    /// The data directory; no node may be running on it
    #[arg(value_name = "D")]
    pub data_dir: PathBuf,
    /// Do it; without this, what would be done is printed and nothing is done
    #[arg(long)]
    pub accept_loss: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// The sizes that `serve` runs with.
    #[command(flatten)]
    pub files: Files,
}

/// `refloat repair`
#[derive(Debug, Args)]
pub struct Repair {
    /// The data directory; no node may be running on it
    #[arg(value_name = "D")]
    pub data_dir: PathBuf,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// The sizes that `serve` runs with.
    #[command(flatten)]
    pub files: Files,
}

/// `refloat compare`
#[derive(Debug, Args)]
pub struct Compare {
    /// One data directory
    #[arg(value_name = "D1")]
    pub first: PathBuf,
    /// Another one of the same cluster
    #[arg(value_name = "D2")]
    pub second: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// The sizes that `serve` runs with.
    #[command(flatten)]
    pub files: Files,
}

/// `refloat inspect wal`
#[derive(Debug, Args)]
pub struct InspectWal {
    /// The data directory
    #[arg(value_name = "D")]
    pub data_dir: PathBuf,
    /// Print JSON lines
    #[arg(long)]
    pub json: bool,
    /// Print every record too
    #[arg(long)]
    pub records: bool,
    /// Look at the second, small log
    #[arg(long)]
    pub votes: bool,
    /// The sizes that `serve` runs with.
    #[command(flatten)]
    pub files: Files,
}

/// `refloat bench`
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// One synced entry after the other, beside the raw disk
    Wal(BenchWal),
}

/// `refloat bench wal`
#[derive(Debug, Args)]
pub struct BenchWal {
    /// Where to write; a directory inside it is made and removed
    #[arg(long, default_value = ".", value_name = "D")]
    pub dir: PathBuf,
    /// How long each round lasts
    #[arg(long, default_value = "500ms", value_name = "TIME", value_parser = duration)]
    pub round: Duration,
    /// How many rounds, of which the median counts
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Print JSON lines
    #[arg(long)]
    pub json: bool,
}

fn member(text: &str) -> Result<(u64, String), String> {
    let wrong = || format!("'{text}' is no member such as 1=127.0.0.1:7101");
    let (node, address) = text.split_once('=').ok_or_else(wrong)?;
    let node = node.trim().parse::<u64>().map_err(|_| wrong())?;
    Ok((node, host_and_port(address.trim()).map_err(|_| wrong())?))
}

/// An address to use at once: a name is resolved.
fn address(text: &str) -> Result<SocketAddr, String> {
    host_and_port(text)?
        .to_socket_addrs()
        .map_err(|error| format!("'{text}' cannot be resolved: {error}"))?
        .next()
        .ok_or_else(|| format!("'{text}' has no address"))
}

/// A name or number and a port; resolved only when it is used.
fn host_and_port(text: &str) -> Result<String, String> {
    let wrong = || format!("'{text}' is no address such as 127.0.0.1:7101");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    port.parse::<u16>().map_err(|_| wrong())?;
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Err(wrong());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn members_are_numbers_and_addresses() {
        assert_eq!(member("1=127.0.0.1:7101"), Ok((1, "127.0.0.1:7101".into())));
        assert_eq!(member("2=[::1]:7101"), Ok((2, "[::1]:7101".into())));
        for text in ["", "1", "1=", "x=a:1", "1=a", "1=a:99999", "1=:5", "1=a b:5"] {
            assert!(member(text).is_err(), "{text}");
        }
    }
}
