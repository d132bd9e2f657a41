//! Sessions for callers of a running node.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::client::SessionClient;
use super::machine::Sessions;
use super::table::Limits;
use super::wire::SessionReply;
use crate::error::RequestError;
use crate::machine::StateMachine;
use crate::shell::handle::Group;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// An open session of one group. It may be used by many tasks at once.
pub struct Session<M> {
    group: Group<Sessions<M>>,
    client: Arc<Mutex<SessionClient>>,
    patience: Duration,
}

/// Why a command of a session has no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionError {
    /// The session is gone: it was silent for too long, or closed.
    Expired {
        /// An attempt before may have been applied, once. If `false` the command had no effect,
        /// and has none later.
        maybe_applied: bool,
    },
    /// The group holds as many sessions as it may. None was opened.
    Full,
    /// Too many commands of this session have no answer yet. Nothing was proposed.
    TooManyOpen,
    /// Applied, once; the reply was not kept, because it was too large.
    ReplyNotKept,
    /// The patience ended. The command may have been applied, or may be later, once.
    Unknown,
    /// The request failed for another reason and had no effect.
    Request(RequestError),
    /// The group's state machine does not know of sessions.
    NotUnderstood,
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionError::Expired { maybe_applied: true } => {
                f.write_str("the session is gone, and the command may have been applied before")
            }
            SessionError::Expired { maybe_applied: false } => {
                f.write_str("the session is gone, the command has no effect")
            }
            SessionError::Full => f.write_str("the group holds as many sessions as it may"),
            SessionError::TooManyOpen => {
                f.write_str("too many commands of the session have no answer yet")
            }
            SessionError::ReplyNotKept => {
                f.write_str("applied once, and the reply was too large to be kept")
            }
            SessionError::Unknown => f.write_str("the outcome is unknown"),
            SessionError::Request(error) => error.fmt(f),
            SessionError::NotUnderstood => {
                f.write_str("the group's state machine does not know of sessions")
            }
        }
    }
}

impl Error for SessionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            SessionError::Request(error) => error.source(),
            _ => None,
        }
    }
}

impl<M: StateMachine> Group<Sessions<M>> {
    /// Opens a session. Its commands are sent again for `patience` while their outcome is unknown.
    ///
    /// # Errors
    /// `Full`, `Unknown`, `Request`.
    pub async fn session(
        &self,
        limits: Limits,
        patience: Duration,
    ) -> Result<Session<M>, SessionError> {
        let register = || SessionClient::register(&limits);
        match persist(self, patience, register).await.0? {
            SessionReply::Opened(id) => Ok(Session {
                group: self.clone(),
                client: Arc::new(Mutex::new(SessionClient::opened(id, &limits))),
                patience,
            }),
            SessionReply::Full => Err(SessionError::Full),
            _ => Err(SessionError::NotUnderstood),
        }
    }

    /// Proposes a command outside of any session: as [`Group::propose`] does to a machine without
    /// sessions.
    ///
    /// # Errors
    /// As [`Group::propose`]; `Refused` if the machine does not know of sessions.
    pub async fn propose_plain(&self, payload: impl Into<Bytes>) -> Result<Bytes, RequestError> {
        let reply = self.propose_stamped(SessionClient::plain(payload.into())).await?;
        match SessionReply::decode(&reply) {
            Ok(SessionReply::Applied(reply)) => Ok(reply),
            _ => Err(RequestError::Refused {
                group: self.id(),
                reason: SessionError::NotUnderstood.to_string(),
            }),
        }
    }
}

impl<M: StateMachine> Session<M> {
    /// The session's number.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.client.lock().id()
    }

    /// Proposes a command and returns the machine's reply. While the outcome is unknown, or there
    /// is no leader, it is sent again under the same number: it is applied once.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn propose(&self, payload: impl Into<Bytes>) -> Result<Bytes, SessionError> {
        self.send(payload.into(), false).await
    }

    /// The same with the leader's time in front of the command, as
    /// [`Group::propose_stamped`] gives it.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn propose_stamped(&self, payload: impl Into<Bytes>) -> Result<Bytes, SessionError> {
        self.send(payload.into(), true).await
    }

    async fn send(&self, payload: Bytes, stamped: bool) -> Result<Bytes, SessionError> {
        let number = self.client.lock().begin().ok_or(SessionError::TooManyOpen)?;
        // Also if the caller stops waiting: its number must not hold up the ones behind it.
        let _open = Open { client: &self.client, number };
        let command = || self.client.lock().command(number, payload.clone(), stamped);
        let (result, maybe_applied) = persist(&self.group, self.patience, command).await;
        match result? {
            SessionReply::Applied(reply) => Ok(reply),
            SessionReply::AppliedBefore => Err(SessionError::ReplyNotKept),
            SessionReply::Expired => Err(SessionError::Expired { maybe_applied }),
            SessionReply::TooManyOpen => Err(SessionError::TooManyOpen),
            // Another task's command, sent later, said that nobody waits for this one.
            SessionReply::Forgotten => Err(SessionError::Unknown),
            _ => Err(SessionError::NotUnderstood),
        }
    }

    /// Keeps the session from expiring while there is nothing to propose.
    ///
    /// # Errors
    /// `Expired`, `Unknown`, `Request`.
    pub async fn keep_alive(&self) -> Result<(), SessionError> {
        let command = || self.client.lock().keep_alive();
        self.noted(persist(&self.group, self.patience, command).await.0?)
    }

    /// Ends the session: what it remembered is freed on all members.
    ///
    /// # Errors
    /// `Unknown`, `Request`; it expires by itself then.
    pub async fn close(self) -> Result<(), SessionError> {
        let command = || self.client.lock().close();
        match self.noted(persist(&self.group, self.patience, command).await.0?) {
            Err(SessionError::Expired { .. }) => Ok(()),
            other => other,
        }
    }

    fn noted(&self, reply: SessionReply) -> Result<(), SessionError> {
        match reply {
            SessionReply::Noted => Ok(()),
            SessionReply::Expired => Err(SessionError::Expired { maybe_applied: false }),
            _ => Err(SessionError::NotUnderstood),
        }
    }
}

impl<M> fmt::Debug for Session<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({})", self.client.lock().id())
    }
}

/// A command without an answer.
struct Open<'a> {
    client: &'a Mutex<SessionClient>,
    number: u64,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.client.lock().answered(self.number);
    }
}

/// Proposes until there is an answer or the patience ends; and whether any attempt that is not
/// answered may have been applied.
async fn persist<M: StateMachine>(
    group: &Group<Sessions<M>>,
    patience: Duration,
    mut command: impl FnMut() -> Bytes,
) -> (Result<SessionReply, SessionError>, bool) {
    let end = Instant::now() + patience;
    let (mut pause, mut maybe_applied) = (FIRST_PAUSE, false);
    loop {
        // Without an answer in time the outcome is unknown, and the next attempt finds out.
        let attempt = group.propose_stamped(command());
        let result = tokio::time::timeout_at(end, attempt).await;
        let error = match result {
            Ok(Ok(reply)) => {
                let reply = SessionReply::decode(&reply);
                return (reply.map_err(|_| SessionError::NotUnderstood), maybe_applied);
            }
            Ok(Err(error)) => error,
            Err(_) => RequestError::Unknown { group: group.id() },
        };
        maybe_applied |= error.is_unknown();
        if !(error.is_unknown() || error.is_retryable()) || Instant::now() + pause >= end {
            let failed = match maybe_applied {
                true => SessionError::Unknown,
                false => SessionError::Request(error),
            };
            return (Err(failed), maybe_applied);
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}
