//! Asking groups: what one connection wants from one group in one go, and who answers.

use std::future::Future;

use refloat_node::{RequestError, Status};
use refloat_types::GroupId;

use crate::kv::{Answer, Op};

/// All that one connection asks of one group in one go. Carried out in order and, if anything in
/// it writes, as one entry of the group's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupAsk {
    /// Whom.
    pub group: GroupId,
    /// What.
    pub ops: Vec<Op>,
    /// The most bytes of values and keys in the answers; see [`Answer::Later`].
    pub room: usize,
}

/// One answer per operation, up to one that found no room, or why there is none.
pub type GroupAnswer = Result<Vec<Answer>, RequestError>;

/// Who asks groups on behalf of one connection.
pub trait Desk: Send {
    /// What the node says about itself and its groups.
    fn status(&mut self) -> impl Future<Output = Status> + Send;

    /// Asks all at once; the answers come in the order of the questions.
    fn ask(&mut self, asks: &[GroupAsk]) -> impl Future<Output = Vec<GroupAnswer>> + Send;
}
