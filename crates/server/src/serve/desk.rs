//! The desk of a connection at a running node.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::Mutex;
use refloat_node::{
    Completions, Consistency, Node, Operation, Reply, Request, RequestError, Status,
};
use refloat_types::GroupId;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::ask::{Desk, GroupAnswer, GroupAsk};
use crate::kv::{Answers, Kv, Op, Ops, question};

/// A group that formation has not created yet is waited for as long as a leader would be.
const GROUP_WAIT: Duration = Duration::from_secs(2);
const GROUP_POLL: Duration = Duration::from_millis(20);

/// Asks the groups of a node, for one connection.
pub struct NodeDesk {
    node: Node<Kv>,
    results: Arc<Results>,
}

/// Where the node puts results.
#[derive(Default)]
struct Results {
    arrived: Mutex<Vec<(u64, Result<Reply, RequestError>)>>,
    notify: Notify,
}

impl Completions for Results {
    fn complete(&self, results: Vec<(u64, Result<Reply, RequestError>)>) {
        self.arrived.lock().extend(results);
        self.notify.notify_one();
    }
}

/// What came out of one question.
enum Outcome {
    Answered(GroupAnswer),
    /// The group does not exist yet: nothing was proposed.
    NotYet,
    /// A key's deadline is over by this node's clock, and no entry has said so yet.
    Overdue,
}

impl NodeDesk {
    /// Opens a desk.
    pub fn new(node: Node<Kv>) -> NodeDesk {
        NodeDesk { node, results: Arc::default() }
    }

    /// Proposes a sweep to those of the groups that this node leads.
    pub async fn sweep(&self, groups: &[GroupId]) {
        let request = |group: &GroupId| {
            let payload = Ops::encode(&[Op::Sweep], None);
            let operation = Operation::Propose { payload, stamp: true, forward: false };
            Request { tag: 0, group: *group, operation }
        };
        self.submit(groups.iter().map(request).collect()).await;
    }

    async fn submit(&self, requests: Vec<Request>) -> Vec<(u64, Result<Reply, RequestError>)> {
        let expected = requests.len();
        let sink: Arc<dyn Completions> = self.results.clone();
        self.node.submit(&sink, requests);
        let mut results = Vec::with_capacity(expected);
        while results.len() < expected {
            self.results.notify.notified().await;
            results.append(&mut self.results.arrived.lock());
        }
        results
    }
}

impl Desk for NodeDesk {
    async fn status(&mut self) -> Status {
        self.node.status().await.unwrap_or_default()
    }

    async fn ask(&mut self, asks: &[GroupAsk]) -> Vec<GroupAnswer> {
        let give_up = Instant::now() + GROUP_WAIT;
        let mut answers: Vec<Option<GroupAnswer>> = asks.iter().map(|_| None).collect();
        let mut as_entry: Vec<bool> = asks.iter().map(|ask| !is_read(ask)).collect();
        loop {
            let open = (0..asks.len()).filter(|at| answers[*at].is_none());
            let requests: Vec<Request> =
                open.map(|at| request(at as u64, &asks[at], as_entry[at])).collect();
            if requests.is_empty() {
                break;
            }
            let mut wait = false;
            for (tag, result) in self.submit(requests).await {
                let at = tag as usize;
                match outcome(result, as_entry[at]) {
                    Outcome::Answered(answer) => answers[at] = Some(answer),
                    Outcome::Overdue => as_entry[at] = true,
                    Outcome::NotYet if Instant::now() < give_up => wait = true,
                    Outcome::NotYet => {
                        let group = asks[at].group;
                        answers[at] = Some(Err(RequestError::NoLeader { group }));
                    }
                }
            }
            if wait {
                sleep(GROUP_POLL).await;
            }
        }
        answers.into_iter().map(|answer| answer.unwrap_or(Err(RequestError::Stopped))).collect()
    }
}

fn is_read(ask: &GroupAsk) -> bool {
    ask.ops.iter().all(Op::is_read)
}

fn request(tag: u64, ask: &GroupAsk, as_entry: bool) -> Request {
    let operation = if as_entry {
        let long = ask.ops.iter().any(Op::answers_value);
        let room = long.then(|| u32::try_from(ask.room).unwrap_or(u32::MAX));
        Operation::Propose { payload: Ops::encode(&ask.ops, room), stamp: true, forward: true }
    } else {
        let (ops, room) = (ask.ops.clone(), ask.room);
        let query = question(move |kv| {
            let wall_ms = wall_ms();
            // Nothing: ask again by an entry, whose stamp ends what is over.
            if kv.is_overdue(&ops, wall_ms) {
                return Bytes::new();
            }
            Answers::encode(&kv.read(&ops, wall_ms, room))
        });
        Operation::Read { consistency: Consistency::Linearizable, query }
    };
    Request { tag, group: ask.group, operation }
}

fn outcome(result: Result<Reply, RequestError>, as_entry: bool) -> Outcome {
    match result {
        Ok(reply) if reply.payload.is_empty() && !as_entry => Outcome::Overdue,
        Ok(reply) => Outcome::Answered(Answers::decode(&reply.payload).map_err(|error| {
            RequestError::Refused {
                group: GroupId(0),
                reason: format!("answer not understood: {error}"),
            }
        })),
        Err(RequestError::UnknownGroup { .. }) => Outcome::NotYet,
        Err(error) => Outcome::Answered(Err(error)),
    }
}

/// Milliseconds since 1970.
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
