//! Real threads and TCP on a disk that can be made to hang: what a node does not wait for, and what
//! its connections must carry.

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use refloat_log_store::Options;
use refloat_log_store::identity::{self, NodeIdentity};
use refloat_node::{
    Chunks, Command, Config, Consistency, Node, RequestError, RestoreError, SnapshotReader,
    StateMachine, StopReason,
};
use refloat_types::{ClusterId, GroupId, Identity, Incarnation, Member, NodeId};
use refloat_vfs::{FileLayer, Layer, OpenOptions, SimFs, Vfs, VfsFile};
use tokio::time::timeout;

/// Says back what it is told; `long` makes a long answer.
#[derive(Default)]
struct Echo(u64);

impl StateMachine for Echo {
    fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
        self.0 += batch.len() as u64;
        let one = |command: &Command| match &command.payload[..] {
            b"long" => Bytes::from(vec![7; 20 << 20]),
            _ => command.payload.clone(),
        };
        batch.iter().map(one).collect()
    }
    fn snapshot(&mut self) -> Chunks {
        Box::new(std::iter::once(self.0.to_le_bytes().to_vec().into()))
    }
    fn restore(&mut self, snapshot: &mut SnapshotReader<'_>) -> Result<(), RestoreError> {
        self.0 = u64::from_le_bytes(snapshot.array()?);
        Ok(())
    }
}

/// A disk whose syncs return at once, or not at all while it hangs.
#[derive(Clone, Debug, Default)]
struct Hanging {
    inner: SimFs,
    hangs: Arc<(Mutex<bool>, Condvar)>,
}

impl Hanging {
    fn hang(&self, hangs: bool) {
        *self.hangs.0.lock() = hangs;
        self.hangs.1.notify_all();
    }
}

#[derive(Debug)]
struct File(Arc<dyn VfsFile>, Hanging);

impl FileLayer for File {
    fn below(&self) -> &dyn VfsFile {
        &*self.0
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut hangs = self.1.hangs.0.lock();
        while *hangs {
            self.1.hangs.1.wait(&mut hangs);
        }
        drop(hangs);
        self.0.write_at(buf, offset)
    }
}

impl Layer for Hanging {
    fn below(&self) -> &dyn Vfs {
        &self.inner
    }

    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn VfsFile>> {
        Ok(Arc::new(File(self.inner.open(path, options)?, self.clone())))
    }
}

/// Starts a cluster of so many nodes with one group, and waits for its leader.
async fn cluster(count: u64, config: &Config, wal: u64) -> Vec<(Node<Echo>, Hanging)> {
    let free: Vec<_> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    let address = |l: &TcpListener| l.local_addr().expect("bound").to_string();
    let members: Vec<_> = (1..).map(NodeId).zip(free.iter().map(address)).collect();
    drop(free);
    let mut nodes = Vec::new();
    for n in 1..=count {
        let (disk, dir) = (Hanging::default(), PathBuf::from("/data"));
        let member = Member::new(NodeId(n), Incarnation(n.into()));
        let id = NodeIdentity {
            identity: Identity { cluster: ClusterId(7), member },
            cluster_name: "blocking".into(),
            groups: 1,
            members: members.clone(),
            run: 0,
            origin: identity::Origin::Init,
            lineage: identity::Lineage::default(),
            recovering: false,
        };
        identity::create(&disk, &dir, &id).expect("an empty disk");
        let mut options = Options::new(&dir);
        options.wal_file_size = wal;
        let builder = Node::builder(config.clone(), dir).store(options).vfs(Arc::new(disk.clone()));
        let started = builder.machine(|_| Echo::default()).tcp(None).start().await;
        nodes.push((started.expect("started"), disk));
    }
    for (node, _) in &nodes {
        while node.group(GroupId(1)).read(Consistency::Linearizable, |m| m.0).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w21_a_node_alone_whose_disk_hangs_says_so_and_serves_reads() {
    let mut config = Config::default();
    (config.election_timeout, config.heartbeat) = (100_000, 20_000);
    let nodes = cluster(1, &config, 1 << 20).await;
    let (node, disk) = &nodes[0];
    let group = node.group(GroupId(1));
    for _ in 0..20 {
        group.propose("quick").await.expect("applied");
    }
    disk.hang(true);
    let waits = tokio::spawn({
        let group = group.clone();
        async move { group.propose("slow").await }
    });
    let said = async {
        while node.status().await.expect("runs").disk.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        group.read(Consistency::Linearizable, |machine| machine.0).await
    };
    assert_eq!(timeout(Duration::from_secs(5), said).await.expect("no answer"), Ok(20));
    disk.hang(false);
    assert_eq!(waits.await.expect("no panic"), Ok("slow".into()));
    assert_eq!(node.shutdown().await, StopReason::Shutdown);
}

/// Wherever it is asked, and however often the leader has to be found.
async fn told(node: &Node<Echo>, payload: Bytes) -> Result<Bytes, RequestError> {
    let group = node.group(GroupId(1));
    loop {
        let attempt = group.propose(payload.clone());
        match timeout(Duration::from_secs(8), attempt).await.expect("no answer") {
            Err(error) if error.is_retryable() => {}
            result => return result,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t07_the_largest_entries_and_long_replies_pass_between_nodes() {
    let mut config = Config::default();
    config.max_payload = 10 << 20;
    // No other leader because this machine has more to do than the test.
    (config.election_timeout, config.heartbeat) = (3_000_000, 200_000);
    let nodes = cluster(3, &config, 40 << 20).await;
    let large = Bytes::from(vec![3; 10 << 20]);
    for (node, _) in &nodes {
        assert!(told(node, large.clone()).await == Ok(large.clone()));
        assert_eq!(told(node, "long".into()).await.map(|reply| reply.len()), Ok(20 << 20));
    }
    for (node, _) in &nodes {
        node.shutdown().await;
    }
}
