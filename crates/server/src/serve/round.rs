//! One round of a connection: the requests that arrived together, answered together.
//!
//! What the requests ask of one group becomes one question to it, so a pipeline of writes to a
//! group is one entry of its log, and a pipeline of reads one read. Within a group the order of
//! the requests is kept; between groups nothing is promised, and the replies go back in order.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use refloat_node::RequestError;
use refloat_types::GroupId;

use super::ask::{Desk, GroupAnswer, GroupAsk};
use crate::commands::{Ask, Context, Describe, Outcome, Service, Session, dispatch};
use crate::kv::{Answer, Op, cursor, group_of_slot, slot_of_key};
use crate::resp::{Protocol, Reply};

/// A round takes no more requests once it holds so many.
const REQUESTS_MAX: usize = 1024;

/// Requests gathered, and what they ask.
#[derive(Debug, Default)]
pub struct Round {
    pending: Vec<Pending>,
    asks: Vec<GroupAsk>,
    by_group: BTreeMap<GroupId, usize>,
    /// For each operation asked: which question, and its place in it.
    places: Vec<(usize, usize)>,
    bytes: usize,
    closes: bool,
}

#[derive(Debug)]
enum Pending {
    Ready(Protocol, Reply),
    Described(Protocol, Describe),
    Asked { protocol: Protocol, places: Range<usize>, merge: fn(Vec<Answer>, &Service) -> Reply },
}

/// How a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The connection goes on.
    Open,
    /// The client or the server wants it closed.
    Close,
    /// Nobody knows whether a command had an effect, and silence is the only true reply.
    Unknown,
}

impl Round {
    /// Whether nothing was gathered.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether it takes another request. `bytes_max` bounds the entry that it becomes.
    pub fn has_room(&self, bytes_max: usize) -> bool {
        !self.closes && self.pending.len() < REQUESTS_MAX && self.bytes < bytes_max
    }

    /// Takes a request.
    pub fn add(&mut self, request: &[Bytes], session: &mut Session, service: &Service) {
        self.bytes += request.iter().map(|arg| arg.len() + 16).sum::<usize>();
        let outcome = dispatch(&mut Context { session, service }, request);
        let protocol = session.protocol;
        match outcome {
            Outcome::Reply(reply) => self.pending.push(Pending::Ready(protocol, reply)),
            Outcome::Close(reply) => self.close_with(protocol, reply),
            Outcome::Ask(ask) => self.ask(ask, protocol, service.options.groups),
            Outcome::Describe(how) => self.pending.push(Pending::Described(protocol, how)),
        }
    }

    /// Ends the connection with a last reply.
    pub fn close_with(&mut self, protocol: Protocol, reply: Reply) {
        self.closes = true;
        self.pending.push(Pending::Ready(protocol, reply));
    }

    fn ask(&mut self, ask: Ask, protocol: Protocol, groups: u32) {
        let first = self.places.len();
        for op in ask.ops {
            match group_of(&op, groups) {
                Some(group) => self.place(group, op),
                None => (1..=groups).for_each(|id| self.place(GroupId(id.into()), op.clone())),
            }
        }
        let places = first..self.places.len();
        self.pending.push(Pending::Asked { protocol, places, merge: ask.merge });
    }

    fn place(&mut self, group: GroupId, op: Op) {
        let at = *self.by_group.entry(group).or_insert_with(|| {
            self.asks.push(GroupAsk { group, ops: Vec::new() });
            self.asks.len() - 1
        });
        let ops = &mut self.asks[at].ops;
        self.places.push((at, ops.len()));
        ops.push(op);
    }

    /// Asks what there is to ask, and writes the replies in the order of the requests.
    pub async fn run(self, desk: &mut impl Desk, service: &Service, out: &mut Vec<u8>) -> End {
        let Round { pending, asks, places, closes, .. } = self;
        let mut answers = match asks.is_empty() {
            true => Vec::new(),
            false => desk.ask(asks).await,
        };
        service.traffic.commands.fetch_add(pending.len() as u64, Ordering::Relaxed);
        for item in pending {
            let (protocol, reply) = match item {
                Pending::Ready(protocol, reply) => (protocol, reply),
                Pending::Described(protocol, Describe(how)) => {
                    (protocol, how(service, &desk.status().await))
                }
                Pending::Asked { protocol, places: range, merge } => {
                    match collect(&mut answers, &places[range]) {
                        Ok(answers) => (protocol, merge(answers, service)),
                        Err(error) if error.is_unknown() => {
                            count(&service.traffic.unknown_outcomes);
                            return End::Unknown;
                        }
                        Err(error) => (protocol, refusal(&error)),
                    }
                }
            };
            if matches!(reply, Reply::Error(_)) {
                count(&service.traffic.errors);
            }
            reply.write(protocol, out);
        }
        if closes { End::Close } else { End::Open }
    }
}

/// The group that an operation is for; none if it is for all.
fn group_of(op: &Op, groups: u32) -> Option<GroupId> {
    match op {
        Op::Scan { cursor, .. } => Some(cursor::group(*cursor)),
        _ => op.key().map(|key| group_of_slot(slot_of_key(key), groups)),
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Takes the answers of one request. An unknown outcome outweighs any other failure.
fn collect(
    answers: &mut [GroupAnswer],
    places: &[(usize, usize)],
) -> Result<Vec<Answer>, RequestError> {
    let mut taken = Vec::with_capacity(places.len());
    let mut failure: Option<RequestError> = None;
    for &(ask, at) in places {
        match answers.get_mut(ask) {
            Some(Ok(given)) => match given.get_mut(at) {
                Some(answer) => taken.push(std::mem::replace(answer, Answer::Nothing)),
                None => taken.push(Answer::Fault(crate::kv::Fault::Unreadable)),
            },
            Some(Err(error)) if error.is_unknown() => return Err(error.clone()),
            Some(Err(error)) => failure = Some(error.clone()),
            None => failure = Some(RequestError::Stopped),
        }
    }
    failure.map_or(Ok(taken), Err)
}

/// A refusal in the words of Redis Cluster where it has some.
fn refusal(error: &RequestError) -> Reply {
    let code = match error {
        RequestError::NoLeader { .. }
        | RequestError::NotLeader { .. }
        | RequestError::UnknownGroup { .. }
        | RequestError::Unavailable { .. } => "CLUSTERDOWN",
        RequestError::Busy { .. } => "BUSY",
        RequestError::Superseded { .. } => "TRYAGAIN",
        // What Redis answers when its log cannot be written.
        RequestError::NoSpace => "MISCONF",
        _ => "ERR",
    };
    Reply::error(format!("{code} {error}"))
}

#[cfg(test)]
#[path = "round_tests.rs"]
mod tests;
