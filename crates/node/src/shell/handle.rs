//! What clients of a node hold in their hands.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use refloat_types::{GroupId, IndexSet, NodeId};
use tokio::sync::{oneshot, watch};

use super::inbox::{Command, Completion, Completions, Inbox, Letter, Operation, Refusal, Request};
use crate::api::{Consistency, Input, MemberChange, MembershipId, NodeChange, Reply};
use crate::error::{RequestError, StopReason};
use crate::machine::{Command as Applied, StateMachine};
use crate::status::{Counters, Status};

/// What all handles share.
pub(crate) struct Shared {
    pub(crate) inbox: Inbox,
    pub(crate) stopped: watch::Receiver<Option<StopReason>>,
}

/// A running node. Clones are handles to the same node; it runs until
/// [`Node::shutdown`] or until it stops by itself.
pub struct Node<M> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) machine: PhantomData<fn() -> M>,
}

impl<M> Clone for Node<M> {
    fn clone(&self) -> Node<M> {
        Node { shared: Arc::clone(&self.shared), machine: PhantomData }
    }
}

impl<M> fmt::Debug for Node<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").finish_non_exhaustive()
    }
}

impl<M: StateMachine> Node<M> {
    /// A handle to a group, whether it exists yet or not.
    #[must_use]
    pub fn group(&self, id: GroupId) -> Group<M> {
        Group { node: self.clone(), id }
    }

    /// Creates a group with these voters (none: all of group 0); fine if it exists.
    /// Returns when the creation is committed and applied on this node.
    ///
    /// # Errors
    /// As a proposal to group 0.
    pub async fn create_group(
        &self,
        id: GroupId,
        members: Vec<NodeId>,
    ) -> Result<Group<M>, RequestError> {
        self.command(Command::CreateGroup(id, members)).await?;
        Ok(self.group(id))
    }

    /// Deletes a group and its data on all members; fine if there is none. Returns when group 0
    /// knows, and whether there was one; each member follows as it hears of it.
    ///
    /// # Errors
    /// `Refused` for group 0, or as a proposal to it.
    pub async fn delete_group(&self, id: GroupId) -> Result<bool, RequestError> {
        let reply = self.command(Command::DeleteGroup(id)).await?;
        Ok(reply.payload.first() != Some(&0))
    }

    /// Changes which nodes belong to the cluster; any node may be asked. Returns when group 0 knows;
    /// the groups follow, as [`Node::status`] shows.
    ///
    /// # Errors
    /// `Refused`, or as a proposal to group 0.
    pub async fn change_nodes(&self, change: NodeChange) -> Result<(), RequestError> {
        self.command(Command::ChangeNodes(change)).await.map(drop)
    }

    /// Submits many requests at once, without a future per request: one lock and at most one
    /// wake-up for all of them. Results come to `sink` in any order, each exactly once.
    pub fn submit(&self, sink: &Arc<dyn Completions>, batch: Vec<Request>) {
        let letter = |request: Request| {
            let completion = Completion::Sink(Arc::clone(sink), request.tag);
            Letter::Request(request.group, request.operation, completion)
        };
        self.offer(batch.into_iter().map(letter).collect());
    }

    /// Proposes with a callback instead of a future. The callback runs on the worker's thread
    /// and must be short.
    pub fn propose_with(
        &self,
        group: GroupId,
        payload: Bytes,
        done: Box<dyn FnOnce(Result<Reply, RequestError>) + Send>,
    ) {
        let operation = Operation::Propose { payload, stamp: false, forward: true };
        self.offer(vec![Letter::Request(group, operation, Completion::Call(done))]);
    }

    /// What the node says about itself and its groups.
    ///
    /// # Errors
    /// `Stopped`.
    pub async fn status(&self) -> Result<Status, RequestError> {
        Ok(self.report().await?.0)
    }

    /// The node's counters.
    ///
    /// # Errors
    /// `Stopped`.
    pub async fn counters(&self) -> Result<Counters, RequestError> {
        Ok(self.report().await?.1)
    }

    async fn report(&self) -> Result<(Status, Counters), RequestError> {
        let (sender, receiver) = oneshot::channel();
        self.offer(vec![Letter::Status(sender)]);
        receiver.await.map_err(|_| RequestError::Stopped)
    }

    /// Waits until the node is over, and says why.
    pub async fn stopped(&self) -> StopReason {
        let mut stopped = self.shared.stopped.clone();
        match stopped.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(StopReason::Shutdown),
            Err(_) => StopReason::Poisoned("the worker thread ended without a word".into()),
        }
    }

    /// Hands leaderships over, finishes what is in flight, closes the log, and returns.
    pub async fn shutdown(&self) -> StopReason {
        self.shared.inbox.push(Letter::Core(Input::Shutdown));
        self.stopped().await
    }

    async fn command(&self, command: Command) -> Result<Reply, RequestError> {
        let (completion, receiver) = Completion::oneshot();
        self.offer(vec![Letter::Command(command, completion)]);
        receiver.await.unwrap_or(Err(RequestError::Stopped))
    }

    fn offer(&self, letters: Vec<Letter>) {
        let (letters, error) = match self.shared.inbox.offer(letters) {
            Ok(()) => return,
            Err(Refusal::Full { letters, used, limit }) => {
                (letters, RequestError::Busy { used, limit })
            }
            Err(Refusal::Closed(letters)) => (letters, RequestError::Stopped),
        };
        for letter in letters {
            refuse(letter, error.clone());
        }
    }
}

/// Answers a letter that nobody will read.
pub(crate) fn refuse(letter: Letter, error: RequestError) {
    match letter {
        Letter::Request(_, _, completion) | Letter::Command(_, completion) => match completion {
            Completion::Sink(sink, tag) => sink.complete(vec![(tag, Err(error))]),
            Completion::Call(call) => call(Err(error)),
        },
        Letter::Core(_) | Letter::Status(_) => {}
    }
}

/// A handle to one group on one node. Cheap to clone.
pub struct Group<M> {
    node: Node<M>,
    id: GroupId,
}

impl<M> Clone for Group<M> {
    fn clone(&self) -> Group<M> {
        Group { node: self.node.clone(), id: self.id }
    }
}

impl<M> fmt::Debug for Group<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Group({})", self.id)
    }
}

impl<M: StateMachine> Group<M> {
    /// The group's id.
    #[must_use]
    pub fn id(&self) -> GroupId {
        self.id
    }

    /// Proposes a command and returns the state machine's reply. Then it is durable on a quorum
    /// and applied on this node or on the leader. Any member may be asked.
    ///
    /// # Errors
    /// See [`RequestError`]; only [`RequestError::Unknown`] leaves the outcome open.
    pub async fn propose(&self, payload: impl Into<Bytes>) -> Result<Bytes, RequestError> {
        self.send(payload.into(), false).await
    }

    /// Proposes a command with the leader's wall clock in front of it
    /// (see [`crate::split_stamp`]).
    ///
    /// # Errors
    /// As [`Group::propose`].
    pub async fn propose_stamped(&self, payload: impl Into<Bytes>) -> Result<Bytes, RequestError> {
        self.send(payload.into(), true).await
    }

    async fn send(&self, payload: Bytes, stamp: bool) -> Result<Bytes, RequestError> {
        let (completion, receiver) = Completion::oneshot();
        let operation = Operation::Propose { payload, stamp, forward: true };
        self.node.offer(vec![Letter::Request(self.id, operation, completion)]);
        let unknown = RequestError::Unknown { group: self.id };
        Ok(receiver.await.unwrap_or(Err(unknown))?.payload)
    }

    /// Asks the state machine a question. Any member may be asked.
    ///
    /// # Errors
    /// `NoLeader` and the other refusals of a proposal; never `Unknown`.
    ///
    /// # Panics
    /// The node was built with a machine of another type than `M`.
    pub async fn read<R: Send + 'static>(
        &self,
        consistency: Consistency,
        question: impl FnOnce(&M) -> R + Send + 'static,
    ) -> Result<R, RequestError> {
        let (answer, answered) = oneshot::channel();
        let query = Box::new(move |machine: &mut dyn StateMachine| {
            let machine: &dyn Any = machine;
            let machine = machine.downcast_ref::<M>().expect("the node's own type of machine");
            let _ = answer.send(question(machine));
            Bytes::new()
        });
        let (completion, receiver) = Completion::oneshot();
        let operation = Operation::Read { consistency, query };
        self.node.offer(vec![Letter::Request(self.id, operation, completion)]);
        receiver.await.unwrap_or(Err(RequestError::Stopped))?;
        answered.await.map_err(|_| RequestError::Stopped)
    }

    /// Changes the members; only at the leader.
    ///
    /// # Errors
    /// `NotLeader`, `Refused`.
    pub async fn change_members(&self, change: MemberChange) -> Result<(), RequestError> {
        self.node.command(Command::ChangeMembers(self.id, change, None)).await.map(drop)
    }

    /// As [`Group::change_members`], if the membership still is the one that the caller looked at:
    /// [`GroupStatus::membership`](crate::GroupStatus::membership).
    ///
    /// # Errors
    /// `NotLeader`; `Refused`, also if it is another one by now.
    pub async fn change_members_if(
        &self,
        expected: MembershipId,
        change: MemberChange,
    ) -> Result<(), RequestError> {
        self.node.command(Command::ChangeMembers(self.id, change, Some(expected))).await.map(drop)
    }

    /// Takes the leader for gone, where this node follows, so that another is elected at once.
    ///
    /// # Errors
    /// `Unavailable`, `UnknownGroup`.
    pub async fn forget_leader(&self) -> Result<(), RequestError> {
        self.node.command(Command::ForgetLeader(self.id)).await.map(drop)
    }

    /// Hands the leadership to another node; only at the leader. Returns when that node leads, as
    /// far as heard here; within two election timeouts it returns in any case.
    ///
    /// # Errors
    /// `NotLeader`; `Refused`, and nothing was begun; `NotTransferred` with the reason.
    pub async fn transfer(&self, target: NodeId) -> Result<(), RequestError> {
        self.node.command(Command::Transfer(self.id, target)).await.map(drop)
    }

    /// Reads commands back from this node's log, for machines that refer to entries
    /// ([live ones](StateMachine::live_indexes)) instead of holding their payloads; ask for those
    /// that a read of the machine, on this node, just named. They come ascending, about
    /// [`Config::max_append_bytes`](crate::Config::max_append_bytes) at most but at least one, so
    /// ask again for the rest. Those that hold no command are left out.
    ///
    /// # Errors
    /// `NotKept` for the lowest of them, or for one above what is applied here. `Busy` where too
    /// many are read at once. `UnknownGroup`, `NoLeader` while the cluster forms, `Unavailable`,
    /// `Stopped`.
    pub async fn commands(&self, indexes: IndexSet) -> Result<Vec<Applied>, RequestError> {
        let reply = self.node.command(Command::ReadLog(self.id, indexes)).await?;
        Ok(reply.commands)
    }

    /// Takes a snapshot now and returns when it is durable.
    ///
    /// # Errors
    /// `Unavailable`, `Refused`.
    pub async fn snapshot(&self) -> Result<(), RequestError> {
        self.node.command(Command::Snapshot(self.id)).await.map(drop)
    }
}
