//! The worker's inbox: many callers, one reader, one lock per batch on either side.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use refloat_types::{GroupId, IndexSet, Member, NodeId};
use tokio::sync::oneshot;

use crate::api::{Consistency, Input, MemberChange, MembershipId, NodeChange, Reply};
use crate::error::RequestError;
use crate::machine::Query;
use crate::status::{Counters, Status};

/// Frames that wait in the inbox, in bytes; beyond it they are dropped.
const FRAME_BYTES: usize = 64 << 20;

/// Where the results of [`crate::Node::submit`] go: one call per turn of the worker, with all
/// results of that turn that belong to this sink. Called on the worker's thread, so it must be
/// short: push to a queue and wake somebody.
pub trait Completions: Send + Sync {
    /// Takes results, each with the tag of its request.
    fn complete(&self, results: Vec<(u64, Result<Reply, RequestError>)>);
}

/// What is asked by one [`Request`].
pub enum Operation {
    /// A command for the state machine.
    Propose {
        /// The command.
        payload: Bytes,
        /// Whether the leader puts its wall clock in front (see [`crate::split_stamp`]).
        stamp: bool,
        /// Whether a node that does not lead passes it on, instead of answering `NotLeader`.
        forward: bool,
    },
    /// A question to the state machine.
    Read {
        /// How fresh.
        consistency: Consistency,
        /// Asked between two batches.
        query: Query,
    },
}

/// One of the requests that [`crate::Node::submit`] takes in a batch.
pub struct Request {
    /// Comes back with the result.
    pub tag: u64,
    /// To which group.
    pub group: GroupId,
    /// What.
    pub operation: Operation,
}

/// Where one answer goes.
pub(crate) enum Completion {
    Sink(Arc<dyn Completions>, u64),
    Call(Box<dyn FnOnce(Result<Reply, RequestError>) + Send>),
}

impl Completion {
    pub(crate) fn oneshot() -> (Completion, oneshot::Receiver<Result<Reply, RequestError>>) {
        let (sender, receiver) = oneshot::channel();
        let call = move |result| drop(sender.send(result));
        (Completion::Call(Box::new(call)), receiver)
    }
}

/// What callers ask besides proposals and reads.
pub(crate) enum Command {
    CreateGroup(GroupId, Vec<NodeId>),
    DeleteGroup(GroupId),
    ChangeMembers(GroupId, MemberChange, Option<MembershipId>),
    ForgetLeader(GroupId),
    ChangeNodes(NodeChange),
    Transfer(GroupId, NodeId),
    Snapshot(GroupId),
    ReadLog(GroupId, IndexSet),
}

/// One thing in the inbox.
pub(crate) enum Letter {
    Core(Input),
    Request(GroupId, Operation, Completion),
    Command(Command, Completion),
    Status(oneshot::Sender<(Status, Counters)>),
}

struct Inner {
    letters: Vec<Letter>,
    /// Bytes of frames among them.
    frame_bytes: usize,
    asleep: bool,
    closed: bool,
}

pub(crate) struct Inbox {
    inner: Mutex<Inner>,
    wake: Condvar,
    limit: usize,
}

/// The inbox takes nothing: the letters come back.
pub(crate) enum Refusal {
    Full { letters: Vec<Letter>, used: u64, limit: u64 },
    Closed(Vec<Letter>),
}

impl Inbox {
    pub(crate) fn new(limit: usize) -> Inbox {
        let inner = Inner { letters: Vec::new(), frame_bytes: 0, asleep: false, closed: false };
        Inbox { inner: Mutex::new(inner), wake: Condvar::new(), limit }
    }

    /// Puts in letters of clients, all or none.
    pub(crate) fn offer(&self, letters: Vec<Letter>) -> Result<(), Refusal> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(Refusal::Closed(letters));
        }
        if inner.letters.len() + letters.len() > self.limit {
            let used = inner.letters.len() as u64;
            return Err(Refusal::Full { letters, used, limit: self.limit as u64 });
        }
        inner.letters.extend(letters);
        self.wake_reader(inner);
        Ok(())
    }

    /// Puts in a frame of a peer, or drops it, as a network may, if too much waits.
    pub(crate) fn push_frame(&self, from: Member, bytes: Bytes) {
        let mut inner = self.inner.lock();
        if inner.closed || inner.frame_bytes > FRAME_BYTES {
            return;
        }
        inner.frame_bytes += bytes.len();
        inner.letters.push(Letter::Core(Input::Frame { from, bytes }));
        self.wake_reader(inner);
    }

    /// Puts in a letter that must not be lost: results of jobs, connections that came and went.
    pub(crate) fn push(&self, letter: Letter) {
        let mut inner = self.inner.lock();
        inner.letters.push(letter);
        self.wake_reader(inner);
    }

    fn wake_reader(&self, mut inner: parking_lot::MutexGuard<'_, Inner>) {
        let asleep = std::mem::take(&mut inner.asleep);
        drop(inner);
        if asleep {
            self.wake.notify_one();
        }
    }

    /// Moves everything into `out`, waiting for something at most so long; `None` waits for ever.
    pub(crate) fn take(&self, out: &mut Vec<Letter>, wait: Option<Duration>) {
        let mut inner = self.inner.lock();
        if inner.letters.is_empty() && wait != Some(Duration::ZERO) {
            inner.asleep = true;
            match wait {
                Some(wait) => drop(self.wake.wait_for(&mut inner, wait)),
                None => self.wake.wait(&mut inner),
            }
            inner.asleep = false;
        }
        inner.frame_bytes = 0;
        out.append(&mut inner.letters);
    }

    /// Refuses everything from now on and returns what nobody read.
    pub(crate) fn close(&self) -> Vec<Letter> {
        let mut inner = self.inner.lock();
        inner.closed = true;
        std::mem::take(&mut inner.letters)
    }
}
