//! A replicated counter. Start it three times: `cargo run -p refloat-node --example hello -- 1`, 2, 3.
use bytes::Bytes;
use refloat_node::{
    Chunks, Command, Config, Node, RestoreError, SnapshotReader, StateMachine, init,
};
use refloat_types::GroupId;

#[derive(Default)]
struct Counter(u64);

impl StateMachine for Counter {
    fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
        let counts = batch.iter().zip(self.0 + 1..).map(|(_, count)| count.to_string().into());
        let replies = counts.collect();
        self.0 += batch.len() as u64;
        replies
    }
    fn snapshot(&mut self) -> Chunks {
        Box::new(std::iter::once(self.0.to_le_bytes().to_vec().into()))
    }
    fn restore(&mut self, snapshot: &mut SnapshotReader<'_>) -> Result<(), RestoreError> {
        self.0 = u64::from_le_bytes(snapshot.array()?);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let me: u64 = std::env::args().nth(1).ok_or("which node? 1, 2 or 3")?.parse()?;
    let members = [(1, "127.0.0.1:7101"), (2, "127.0.0.1:7102"), (3, "127.0.0.1:7103")];
    let dir = std::env::temp_dir().join(format!("refloat-hello-{me}"));
    let _ = init(&dir, "hello", me, &members, 1); // refused, and rightly, on later starts
    let node = Node::builder(Config::default(), dir).machine(|_| Counter::default()).tcp(None);
    let group = node.start().await?.group(GroupId(1));
    loop {
        let count = group.propose("+1").await;
        println!("{count:?}");
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
}
