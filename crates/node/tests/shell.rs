//! Real threads, real files, TCP on loopback.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use refloat_node::sessions::{Limits, SessionError, Sessions};
use refloat_node::{
    Chunks, Command, Completions, Config, Consistency, Node, Operation, Reply, Request,
    RequestError, RestoreError, SnapshotReader, StartError, StateMachine, StopReason, init,
};
use refloat_types::{GroupId, Index};

#[derive(Default)]
struct Sum(u64);

impl StateMachine for Sum {
    fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
        let one = |command: &Command| {
            let text = String::from_utf8_lossy(&command.payload);
            self.0 += text.parse::<u64>().unwrap_or(0);
            Bytes::from(self.0.to_string())
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

/// Addresses that nobody listens on at the moment.
fn addresses() -> Vec<String> {
    let listeners: Vec<_> =
        (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    listeners.iter().map(|l| l.local_addr().expect("bound").to_string()).collect()
}

async fn start(home: &Path, node: u64) -> Result<Node<Sum>, StartError> {
    let mut config = Config::default();
    config.election_timeout = 300_000;
    config.heartbeat = 50_000;
    let dir = home.join(node.to_string());
    Node::builder(config, dir).machine(|_| Sum::default()).tcp(None).start().await
}

async fn three(home: &Path) -> Vec<Node<Sum>> {
    let addresses = addresses();
    let members: Vec<(u64, &str)> = (1..).zip(addresses.iter().map(String::as_str)).collect();
    let mut nodes = Vec::new();
    for node in 1..=3 {
        init(home.join(node.to_string()), "shell", node, &members, 2).expect("an empty directory");
        nodes.push(start(home, node).await.expect("started"));
    }
    nodes
}

/// Retries what had no effect, as a client does.
async fn add(node: &Node<Sum>, group: u64, text: &'static str) -> Bytes {
    for _ in 0..50 {
        match node.group(GroupId(group)).propose(text).await {
            Ok(reply) => return reply,
            Err(error) if error.is_retryable() => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("no leader for five seconds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_over_tcp_agree_and_come_back_after_shutdown() {
    let home = tempfile::tempdir().expect("a directory");
    let nodes = three(home.path()).await;
    add(&nodes[0], 1, "40").await;
    add(&nodes[1], 1, "2").await;
    for node in &nodes {
        let sum = node.group(GroupId(1)).read(Consistency::Linearizable, |sum| sum.0).await;
        assert_eq!(sum, Ok(42));
    }
    nodes[0].group(GroupId(1)).snapshot().await.expect("a snapshot on demand");
    let status = nodes[0].status().await.expect("runs");
    assert_eq!((status.forming, status.groups.len()), (None, 3));
    let group = nodes[0].group(GroupId(1));
    let log = (1..=status.groups[1].applied).map(Index).collect();
    let commands = group.commands(log).await.expect("nothing is compacted");
    let texts: Vec<&[u8]> = commands.iter().map(|command| &command.payload[..]).collect();
    assert_eq!(texts, [&b"40"[..], b"2"]);
    let above = status.groups[1].applied + 1;
    let refused = group.commands([Index(above)].into_iter().collect()).await;
    assert!(matches!(refused, Err(RequestError::NotKept { lost: false, .. })), "{refused:?}");
    for node in &nodes {
        assert_eq!(node.shutdown().await, StopReason::Shutdown);
    }
    let late = nodes[0].group(GroupId(1)).propose("1").await;
    assert_eq!(late, Err(RequestError::Stopped));
    let late = nodes[0].group(GroupId(1)).commands([Index(1)].into_iter().collect()).await;
    assert_eq!(late, Err(RequestError::Stopped));
    let mut again = Vec::new();
    for node in 1..=3 {
        again.push(start(home.path(), node).await.expect("started again"));
    }
    assert_eq!(add(&again[2], 1, "8").await, Bytes::from_static(b"50"));
    for node in &again {
        node.shutdown().await;
    }
}

type Results = Vec<(u64, Result<Reply, RequestError>)>;

struct Sink(parking_lot::Mutex<Sender<Results>>);

impl Completions for Sink {
    fn complete(&self, results: Results) {
        let _ = self.0.lock().send(results);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_answered_request_by_request_through_one_sink() {
    let home = tempfile::tempdir().expect("a directory");
    let nodes = three(home.path()).await;
    add(&nodes[0], 1, "0").await;
    let (sender, receiver) = channel();
    let sink: Arc<dyn Completions> = Arc::new(Sink(parking_lot::Mutex::new(sender)));
    let request = |tag| Request {
        tag,
        group: GroupId(1),
        operation: Operation::Propose { payload: "1".into(), stamp: false, forward: true },
    };
    nodes[0].submit(&sink, (0..100).map(request).collect());
    let mut tags = Vec::new();
    while tags.len() < 100 {
        let results = receiver.recv_timeout(Duration::from_secs(10)).expect("answers");
        tags.extend(results.into_iter().map(|(tag, result)| {
            result.expect("applied");
            tag
        }));
    }
    tags.sort_unstable();
    assert_eq!(tags, (0..100).collect::<Vec<_>>());
    let sum = nodes[2].group(GroupId(1)).read(Consistency::Linearizable, |sum| sum.0).await;
    assert_eq!(sum, Ok(100));
    for node in &nodes {
        node.shutdown().await;
    }
}

#[tokio::test]
async fn an_address_in_use_leaves_the_directory_as_it_was() {
    let home = tempfile::tempdir().expect("a directory");
    let addresses = addresses();
    let members: Vec<(u64, &str)> = (1..).zip(addresses.iter().map(String::as_str)).collect();
    init(home.path().join("1"), "taken", 1, &members, 1).expect("an empty directory");
    let files = || {
        let mut names: Vec<_> = std::fs::read_dir(home.path().join("1"))
            .expect("there")
            .map(|entry| entry.expect("readable").file_name())
            .collect();
        names.sort();
        names
    };
    let before = files();
    let _listener = TcpListener::bind(&addresses[0]).expect("free a moment ago");
    let refused = start(home.path(), 1).await;
    assert!(matches!(refused, Err(StartError::Transport { .. })), "{refused:?}");
    assert_eq!(files(), before);
}

/// Waits until something holds, at most ten seconds.
async fn wait_for(mut holds: impl AsyncFnMut() -> bool) -> bool {
    for _ in 0..100 {
        if holds().await {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s13_the_own_words_of_a_node_that_refuses_are_in_the_status_and_no_stream_outlives_the_stop()
 {
    let home = tempfile::tempdir().expect("a directory");
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let addresses = addresses();
    let members: Vec<(u64, &str)> = (1..).zip(addresses.iter().map(String::as_str)).collect();
    let mut nodes = Vec::new();
    for (node, cluster) in [(1, "shell"), (2, "shell"), (3, "another")] {
        let dir = home.path().join(node.to_string());
        init(dir, cluster, node, &members, 1).expect("an empty directory");
        nodes.push(start(home.path(), node).await.expect("started"));
    }
    // The reason is the refusing node's, not "connection lost".
    let told = wait_for(async || {
        let status = nodes[0].status().await.expect("runs");
        status.refused.iter().any(|text| text.contains("node 3") && text.contains("cluster"))
    })
    .await;
    assert!(told, "{:#?}", nodes[0].status().await);
    // Callers that stop waiting, and streams that are in the middle of another attempt.
    for n in 0..20 {
        let group = nodes[n % 2].group(GroupId(1));
        let _ = tokio::time::timeout(Duration::from_millis(1), group.propose("1")).await;
    }
    for node in &nodes {
        let stop = tokio::time::timeout(Duration::from_secs(10), node.shutdown()).await;
        assert_eq!(stop, Ok(StopReason::Shutdown), "a cancelled stream hangs no stop");
    }
    drop(nodes);
    assert!(wait_for(async || tasks() <= before).await, "{} tasks are left", tasks());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r04_a_session_over_tcp_counts_every_command_once_while_a_node_goes() {
    let home = tempfile::tempdir().expect("a directory");
    let addresses = addresses();
    let members: Vec<(u64, &str)> = (1..).zip(addresses.iter().map(String::as_str)).collect();
    let mut nodes: Vec<Node<Sessions<Sum>>> = Vec::new();
    for node in 1..=3 {
        let dir = home.path().join(node.to_string());
        init(&dir, "sessions", node, &members, 1).expect("an empty directory");
        let mut config = Config::default();
        config.election_timeout = 300_000;
        config.heartbeat = 50_000;
        let builder = Node::builder(config, dir).machine(|_| Sessions::new(Sum::default()));
        nodes.push(builder.tcp(None).start().await.expect("started"));
    }
    let patience = Duration::from_secs(20);
    let group = nodes[0].group(GroupId(1));
    let limits = Limits { idle_ms: 60_000, ..Limits::default() };
    let session = Arc::new(group.session(limits, patience).await.expect("opened"));
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let session = Arc::clone(&session);
        tasks.push(tokio::spawn(async move {
            for _ in 0..10 {
                session.propose("1").await.expect("applied once");
            }
        }));
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(nodes[2].shutdown().await, StopReason::Shutdown);
    for task in tasks {
        task.await.expect("all applied");
    }
    let sum = group.read(Consistency::Linearizable, |sessions| sessions.machine().0).await;
    assert_eq!(sum, Ok(40));
    assert_eq!(group.propose_plain("2").await, Ok(Bytes::from_static(b"42")));
    session.keep_alive().await.expect("open");
    let again = group.session(limits, patience).await.expect("opened");
    again.close().await.expect("open");
    let gone = group.session(Limits { idle_ms: 0, ..limits }, patience).await.expect("opened");
    tokio::time::sleep(Duration::from_millis(20)).await;
    let expired = gone.propose("1").await;
    assert_eq!(expired, Err(SessionError::Expired { maybe_applied: false }));
    for node in &nodes[..2] {
        node.shutdown().await;
    }
}

/// Writing the state of group 1 takes as long as this is not set.
static WRITTEN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

#[derive(Default)]
struct Slow {
    sum: Sum,
    waits: bool,
}

impl StateMachine for Slow {
    fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
        self.sum.0 += batch.len() as u64;
        vec![Bytes::new(); batch.len()]
    }
    fn snapshot(&mut self) -> Chunks {
        let (mut chunks, waits) = (self.sum.snapshot(), self.waits);
        Box::new(std::iter::from_fn(move || {
            while waits && !WRITTEN.load(std::sync::atomic::Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(10));
            }
            chunks.next()
        }))
    }
    fn restore(&mut self, snapshot: &mut SnapshotReader<'_>) -> Result<(), RestoreError> {
        self.sum.restore(snapshot)
    }
}

async fn start_slow(home: &Path, node: u64) -> Node<Slow> {
    let dir = home.join(node.to_string());
    let mut options = refloat_log_store::Options::new(&dir);
    options.wal_file_size = 256 << 10;
    let machine = |key: refloat_types::GroupKey| Slow { waits: key.id.0 == 1, ..Slow::default() };
    let builder = Node::builder(Config::default(), dir).store(options).machine(machine);
    builder.tcp(None).start().await.expect("started")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_whose_state_takes_long_to_write_holds_up_no_reads_of_another() {
    let home = tempfile::tempdir().expect("a directory");
    let addresses = addresses();
    let members: Vec<(u64, &str)> = (1..).zip(addresses.iter().map(String::as_str)).collect();
    let mut nodes = Vec::new();
    for node in 1..=3 {
        init(home.path().join(node.to_string()), "slow", node, &members, 2).expect("empty");
        nodes.push(start_slow(home.path(), node).await);
    }
    let again = |error: &RequestError| error.is_retryable();
    let propose = async |node: &Node<Slow>, group: u64| {
        while let Err(error) = node.group(GroupId(group)).propose(vec![7; 20 << 10]).await {
            assert!(again(&error), "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    propose(&nodes[0], 1).await;
    propose(&nodes[0], 2).await;
    nodes.pop().expect("the third").shutdown().await;
    // What the third one misses stands in segments in the end.
    for _ in 0..100 {
        propose(&nodes[0], 2).await;
    }
    for node in &nodes {
        let group = node.group(GroupId(1));
        tokio::spawn(async move { drop(group.snapshot().await) });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    nodes.push(start_slow(home.path(), 3).await);
    let mut has = 0;
    for _ in 0..150 {
        let third = nodes[2].group(GroupId(2));
        has = third.read(Consistency::Stale, |slow| slow.sum.0).await.unwrap_or(0);
        if has >= 101 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    WRITTEN.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(has >= 101, "it has {has}");
    for node in &nodes {
        node.shutdown().await;
    }
}
