//! Three openraft nodes in one process, each on a store of its own.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::error::{InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::{BasicNode, Config, SnapshotPolicy};
use refloat_openraft_store::{Machine, Set, TypeConfig};
use tempfile::TempDir;

type Raft = openraft::Raft<TypeConfig>;
type RpcError<E = openraft::error::Infallible> = RPCError<u64, BasicNode, RaftError<u64, E>>;

/// Calls that arrive at once, as long as the node is there.
#[derive(Clone, Default)]
struct Net(Arc<Mutex<BTreeMap<u64, Raft>>>);

struct Link {
    net: Net,
    target: u64,
}

impl Link {
    fn peer(&self) -> Result<Raft, NetworkError> {
        let peer = self.net.0.lock().unwrap().get(&self.target).cloned();
        peer.ok_or_else(|| NetworkError::new(&std::io::Error::other("the node is down")))
    }

    fn remote<E: std::error::Error>(&self, e: RaftError<u64, E>) -> RpcError<E> {
        RPCError::RemoteError(RemoteError::new(self.target, e))
    }
}

impl RaftNetworkFactory<TypeConfig> for Net {
    type Network = Link;

    async fn new_client(&mut self, target: u64, _node: &BasicNode) -> Link {
        Link { net: self.clone(), target }
    }
}

impl RaftNetwork<TypeConfig> for Link {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RpcError> {
        self.peer()?.append_entries(request).await.map_err(|e| self.remote(e))
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, RpcError<InstallSnapshotError>> {
        self.peer()?.install_snapshot(request).await.map_err(|e| self.remote(e))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        _option: RPCOption,
    ) -> Result<VoteResponse<u64>, RpcError> {
        self.peer()?.vote(request).await.map_err(|e| self.remote(e))
    }
}

/// Snapshots and purges often.
async fn start(net: &Net, node: u64, dir: &Path) -> Machine {
    let config = Config {
        heartbeat_interval: 200,
        election_timeout_min: 1000,
        election_timeout_max: 2000,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(20),
        max_in_snapshot_log_to_keep: 5,
        purge_batch_size: 1,
        ..Config::default()
    };
    let mut store = support::try_open(dir, node);
    for _ in 0..100 {
        if store.is_ok() {
            break; // no task of an earlier run holds the directory any more
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        store = support::try_open(dir, node);
    }
    let (log, machine) = support::raft(&store.unwrap()).await;
    let config = Arc::new(config.validate().unwrap());
    let raft = Raft::new(node, config, net.clone(), log, machine.clone()).await.unwrap();
    net.0.lock().unwrap().insert(node, raft);
    machine
}

async fn stop(net: &Net, node: u64) {
    let raft = net.0.lock().unwrap().remove(&node).unwrap();
    raft.shutdown().await.unwrap();
}

/// Writes through whoever leads.
async fn write(net: &Net, numbers: std::ops::Range<u64>) {
    for n in numbers {
        let set = Set { key: format!("key {n}"), value: n.to_string() };
        loop {
            let nodes: Vec<Raft> = net.0.lock().unwrap().values().cloned().collect();
            let leader = nodes[0].current_leader().await;
            let leader = leader.and_then(|l| net.0.lock().unwrap().get(&l).cloned());
            if let Some(leader) = leader
                && leader.client_write(set.clone()).await.is_ok()
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn expect(machine: &Machine, numbers: std::ops::Range<u64>) {
    for n in numbers {
        for _ in 0..400 {
            if machine.get(&format!("key {n}")).is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(machine.get(&format!("key {n}")), Some(n.to_string()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_keeps_what_it_acknowledged_and_catches_a_node_up_with_a_snapshot() {
    let dirs: BTreeMap<u64, TempDir> =
        (1..=3).map(|node| (node, tempfile::tempdir().unwrap())).collect();
    let net = Net::default();
    for (node, dir) in &dirs {
        start(&net, *node, dir.path()).await;
    }
    let members: BTreeMap<u64, BasicNode> =
        dirs.keys().map(|node| (*node, BasicNode::default())).collect();
    let first = net.0.lock().unwrap()[&1].clone();
    first.initialize(members).await.unwrap();
    drop(first);
    write(&net, 0..50).await;

    // What node 3 misses is purged before it is back.
    stop(&net, 3).await;
    write(&net, 50..150).await;
    let running: Vec<Raft> = net.0.lock().unwrap().values().cloned().collect();
    for raft in running {
        let wait = raft.wait(Some(Duration::from_secs(20)));
        wait.metrics(|m| m.purged.is_some_and(|id| id.index > 80), "purge").await.unwrap();
    }
    let machine = start(&net, 3, dirs[&3].path()).await;
    expect(&machine, 0..150).await;
    drop(machine);

    for node in 1..=3 {
        stop(&net, node).await;
    }
    let mut machines = Vec::new();
    for (node, dir) in &dirs {
        machines.push(start(&net, *node, dir.path()).await);
    }
    write(&net, 150..160).await;
    for machine in machines {
        expect(&machine, 0..160).await;
    }
    for node in 1..=3 {
        stop(&net, node).await;
    }
    // Alone it can commit nothing, and knows what was committed.
    let machine = start(&net, 2, dirs[&2].path()).await;
    expect(&machine, 0..160).await;
    stop(&net, 2).await;
}
