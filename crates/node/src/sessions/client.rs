//! One client's side of a session, without futures, clocks or a network.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::table::Limits;
use super::wire::{Request, SessionReply};

/// Numbers commands and remembers which of them have no answer yet. All bytes that it makes are
/// to be proposed with a time stamp ([`Input::Propose`](crate::Input::Propose)'s `stamp`).
///
/// ```
/// use bytes::Bytes;
/// use refloat_node::sessions::{Limits, SessionClient, Sessions};
/// use refloat_node::{Command, StateMachine};
/// # use refloat_node::{Chunks, RestoreError, SnapshotReader};
/// # use refloat_types::Index;
/// # #[derive(Default)] struct Counter(u64);
/// # impl StateMachine for Counter {
/// #     fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
/// #         batch.iter().map(|_| { self.0 += 1; self.0.to_string().into() }).collect()
/// #     }
/// #     fn snapshot(&mut self) -> Chunks { Box::new(std::iter::empty()) }
/// #     fn restore(&mut self, _: &mut SnapshotReader<'_>) -> Result<(), RestoreError> { Ok(()) }
/// # }
/// use refloat_node::sessions::SessionReply::{Applied, Opened};
/// use refloat_node::sessions::SessionReply;
///
/// let mut machine = Sessions::new(Counter::default());
/// let mut commit = |index, body: Bytes| {
///     let payload = [&1000u64.to_le_bytes()[..], &body].concat().into(); // as a leader stamps it
///     let replies = machine.apply(&[Command { index: Index(index), payload }]);
///     SessionReply::decode(&replies[0]).unwrap()
/// };
/// let limits = Limits::default();
/// let Opened(id) = commit(1, SessionClient::register(&limits)) else { panic!() };
/// let mut client = SessionClient::opened(id, &limits);
/// let number = client.begin().unwrap();
/// let command = client.command(number, "+1".into(), false);
/// assert_eq!(commit(2, command.clone()), Applied("1".into()));
/// assert_eq!(commit(3, command), Applied("1".into())); // the first answer was lost on the way
/// client.answered(number);
/// ```
#[derive(Clone, Debug)]
pub struct SessionClient {
    id: u64,
    next: u64,
    without_answer: BTreeSet<u64>,
    open: u64,
}

impl SessionClient {
    /// The command that opens a session; it is answered by [`SessionReply::Opened`] or
    /// [`SessionReply::Full`]. Should it be committed twice, the second session expires unused.
    #[must_use]
    pub fn register(limits: &Limits) -> Bytes {
        Request::Register(*limits).encode()
    }

    /// A command outside of any session, for the same machine.
    #[must_use]
    pub fn plain(payload: Bytes) -> Bytes {
        Request::Plain { payload }.encode()
    }

    /// The session that was opened under this number, with these limits.
    #[must_use]
    pub fn opened(id: u64, limits: &Limits) -> SessionClient {
        SessionClient { id, next: 0, without_answer: BTreeSet::new(), open: limits.open.into() }
    }

    /// The session's number.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Numbers a new command; `None` while too many have no answer.
    pub fn begin(&mut self) -> Option<u64> {
        if self.next - self.floor() >= self.open {
            return None;
        }
        let number = self.next;
        self.next += 1;
        self.without_answer.insert(number);
        Some(number)
    }

    /// What to propose for a command; the same each time but for what was answered meanwhile.
    /// With `stamped` the machine gets the time in front of the payload
    /// (see [`split_stamp`](crate::split_stamp)), that of the attempt that is applied.
    #[must_use]
    pub fn command(&self, number: u64, payload: Bytes, stamped: bool) -> Bytes {
        let (session, floor) = (self.id, self.floor());
        Request::Once { session, sequence: number, floor, stamped, payload }.encode()
    }

    /// A command has its answer, or nobody waits for it any more. It is not applied after the
    /// next command of this session, if it was not before.
    pub fn answered(&mut self, number: u64) {
        self.without_answer.remove(&number);
    }

    /// What to propose so that the session does not expire.
    #[must_use]
    pub fn keep_alive(&self) -> Bytes {
        Request::KeepAlive { session: self.id }.encode()
    }

    /// What to propose to end the session.
    #[must_use]
    pub fn close(&self) -> Bytes {
        Request::Close { session: self.id }.encode()
    }

    /// The first command without an answer.
    fn floor(&self) -> u64 {
        self.without_answer.first().copied().unwrap_or(self.next)
    }
}

impl SessionReply {
    /// Whether the command has been applied.
    #[must_use]
    pub fn is_applied(&self) -> bool {
        matches!(self, SessionReply::Applied(_) | SessionReply::AppliedBefore)
    }
}
