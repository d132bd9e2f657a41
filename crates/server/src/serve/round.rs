//! One round of a connection: the requests that arrived together, answered together.
//!
//! What the requests ask of one group becomes one question to it, so a pipeline of writes to a
//! group is one entry of its log, and a pipeline of reads one read. Within a group the order of
//! the requests is kept; between groups nothing is promised, and the replies go back in order.
//!
//! Answers have so much room together. What finds none is asked for again once the replies before
//! it have gone to the client: one that does not take them waits.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use refloat_node::RequestError;
use refloat_types::GroupId;

use super::ask::{Desk, GroupAnswer, GroupAsk};
use crate::commands::{Ask, Context, Describe, Outcome, Service, Session, dispatch, reply};
use crate::kv::{Answer, Fault, Op, cursor, group_of_slot, slot_of_key};
use crate::resp::{Protocol, Reply};

/// A round takes no more requests once it holds so many.
const REQUESTS_MAX: usize = 1024;

/// Replies go out once so many bytes of them stand together.
const OUT_LEN: usize = 256 * 1024;
/// The longest reply: values of so many bytes.
const REPLY_LEN_MAX: usize = 64 << 20;

/// Requests gathered, and what they ask.
#[derive(Debug, Default)]
pub struct Round {
    pending: VecDeque<Pending>,
    asks: Vec<Asked>,
    by_group: BTreeMap<GroupId, usize>,
    /// For each operation asked: which question, and its place in it.
    places: Vec<(usize, usize)>,
    bytes: usize,
    /// Bytes of the answers that are in no reply yet.
    held: usize,
    closes: bool,
}

#[derive(Debug)]
enum Pending {
    Ready(Protocol, Reply),
    Described(Protocol, Describe),
    Asked { protocol: Protocol, places: Range<usize>, merge: fn(Vec<Answer>, &Service) -> Reply },
}

/// What is asked of one group, and what it answered up to now: a prefix of that.
#[derive(Debug)]
struct Asked {
    ask: GroupAsk,
    answers: Vec<Answer>,
    /// Why there is no more.
    failed: Option<RequestError>,
    /// The length of the answer that found no room.
    later: usize,
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

/// Where the replies of a round stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// What is written is to be sent before there is more.
    Full,
    /// Groups are to be asked again, with room for so many bytes at least.
    Ask(usize),
    /// There are no more.
    End(End),
}

impl Round {
    /// Whether nothing was gathered.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether it takes another request. `bytes_max` bounds the entry that it becomes, and the
    /// replies that need no group.
    pub fn has_room(&self, bytes_max: usize) -> bool {
        !self.closes && self.pending.len() < REQUESTS_MAX && self.bytes < bytes_max
    }

    /// Takes a request.
    pub fn add(&mut self, request: &[Bytes], session: &mut Session, service: &Service) {
        self.bytes += request.iter().map(|arg| arg.len() + 16).sum::<usize>();
        let outcome = dispatch(&mut Context { session, service }, request);
        let protocol = session.protocol;
        match outcome {
            Outcome::Reply(reply) => self.ready(protocol, reply),
            Outcome::Close(reply) => self.close_with(protocol, reply),
            Outcome::Ask(ask) => self.ask_for(ask, protocol, service.options.groups),
            Outcome::Describe(how) => self.pending.push_back(Pending::Described(protocol, how)),
        }
    }

    /// Ends the connection with a last reply.
    pub fn close_with(&mut self, protocol: Protocol, reply: Reply) {
        self.closes = true;
        self.ready(protocol, reply);
    }

    fn ready(&mut self, protocol: Protocol, reply: Reply) {
        self.bytes += reply.len();
        self.pending.push_back(Pending::Ready(protocol, reply));
    }

    fn ask_for(&mut self, ask: Ask, protocol: Protocol, groups: u32) {
        let first = self.places.len();
        for op in ask.ops {
            match group_of(&op, groups) {
                Some(group) => self.place(group, op),
                None => (1..=groups).for_each(|id| self.place(GroupId(id.into()), op.clone())),
            }
        }
        let places = first..self.places.len();
        self.pending.push_back(Pending::Asked { protocol, places, merge: ask.merge });
    }

    fn place(&mut self, group: GroupId, op: Op) {
        let at = *self.by_group.entry(group).or_insert_with(|| {
            let ask = GroupAsk { group, ops: Vec::new(), room: 0 };
            self.asks.push(Asked { ask, answers: Vec::new(), failed: None, later: 0 });
            self.asks.len() - 1
        });
        let ops = &mut self.asks[at].ask.ops;
        self.places.push((at, ops.len()));
        ops.push(op);
    }

    /// Whether an answer may be longer than a few bytes.
    pub fn asks_for_values(&self) -> bool {
        self.asks.iter().any(|asked| asked.ask.ops.iter().any(Op::answers_value))
    }

    /// Bytes of answers that stand in memory.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Asks all groups at once, with room for so many bytes in their answers together.
    pub async fn ask(&mut self, desk: &mut impl Desk, room: usize) {
        if self.asks.is_empty() {
            return;
        }
        let long = |asked: &&Asked| asked.ask.ops.iter().any(Op::answers_value);
        let share = room / self.asks.iter().filter(long).count().max(1);
        let asks = self.asks.iter_mut().map(|asked| {
            let ops = std::mem::take(&mut asked.ask.ops);
            GroupAsk { group: asked.ask.group, ops, room: share }
        });
        let asks: Vec<GroupAsk> = asks.collect();
        let answers = desk.ask(&asks).await;
        for ((at, ask), answer) in asks.into_iter().enumerate().zip(answers) {
            let count = ask.ops.len();
            self.asks[at].ask = ask;
            self.store(at, count, answer);
        }
    }

    /// Asks one group again: for what the next reply lacks, and for what stands behind that in
    /// the order of the requests.
    pub async fn ask_again(&mut self, desk: &mut impl Desk, room: usize) {
        let Some((at, first)) = self.lacking() else { return };
        let asked = &mut self.asks[at];
        // What one request asks of a group is answered at one moment.
        let dropped = asked.answers.drain(first..).map(|answer| answer.len()).sum::<usize>();
        self.held -= dropped;
        let rest = asked.ask.ops.get(first..).unwrap_or_default();
        let reads = rest.iter().take_while(|op| op.is_read()).count();
        let ops = rest[..if reads > 0 { reads } else { rest.len() }].to_vec();
        let room = room.saturating_sub(self.held);
        let ask = GroupAsk { group: asked.ask.group, ops, room };
        let count = ask.ops.len();
        let answer = desk.ask(std::slice::from_ref(&ask)).await.pop();
        self.store(at, count, answer.unwrap_or(Err(RequestError::Stopped)));
    }

    /// Takes in what a group answered to so many operations.
    fn store(&mut self, at: usize, count: usize, answer: GroupAnswer) {
        let asked = &mut self.asks[at];
        let mut answers = match answer {
            Ok(answers) => answers,
            Err(error) => {
                asked.failed = Some(error);
                return;
            }
        };
        match answers.last() {
            Some(Answer::Later(len)) => {
                asked.later = usize::try_from(*len).unwrap_or(usize::MAX);
                answers.pop();
            }
            _ => answers.resize(count, Answer::Fault(Fault::Unreadable)),
        }
        self.held += answers.iter().map(Answer::len).sum::<usize>();
        asked.answers.append(&mut answers);
    }

    /// A group that the next reply lacks an answer of, and the first operation of the request there.
    fn lacking(&self) -> Option<(usize, usize)> {
        let Some(Pending::Asked { places, .. }) = self.pending.front() else { return None };
        let places = &self.places[places.clone()];
        let (at, _) = places.iter().find(|(at, n)| self.asks[*at].lacks(*n))?;
        places.iter().find(|(other, _)| other == at).copied()
    }

    /// Writes replies in the order of the requests, as far as there are answers and room.
    pub async fn write(
        &mut self,
        desk: &mut impl Desk,
        service: &Service,
        out: &mut Vec<u8>,
    ) -> Step {
        loop {
            if out.len() >= OUT_LEN {
                return Step::Full;
            }
            if let Some((at, _)) = self.lacking() {
                let later = self.asks[at].later;
                if self.length_of_next().saturating_add(later) <= REPLY_LEN_MAX {
                    return Step::Ask(self.held + later);
                }
                self.give_up_next();
            }
            let Some(item) = self.pending.pop_front() else {
                return Step::End(if self.closes { End::Close } else { End::Open });
            };
            count(&service.traffic.commands);
            let (protocol, reply) = match item {
                Pending::Ready(protocol, reply) => (protocol, reply),
                Pending::Described(protocol, Describe(how)) => {
                    (protocol, how(service, &desk.status().await))
                }
                Pending::Asked { protocol, places, merge } => match self.collect(places) {
                    Ok(answers) => (protocol, merge(answers, service)),
                    Err(error) if error.is_unknown() => {
                        count(&service.traffic.unknown_outcomes);
                        return Step::End(End::Unknown);
                    }
                    Err(error) => (protocol, refusal(&error)),
                },
            };
            if matches!(reply, Reply::Error(_)) {
                count(&service.traffic.errors);
            }
            reply.write(protocol, out);
        }
    }

    /// The bytes of the next reply that are there.
    fn length_of_next(&self) -> usize {
        let Some(Pending::Asked { places, .. }) = self.pending.front() else { return 0 };
        let answers = self.places[places.clone()].iter();
        answers.filter_map(|(at, n)| self.asks[*at].answers.get(*n)).map(Answer::len).sum()
    }

    /// Lets the next request, whose reply would be too long, have none of its answers.
    fn give_up_next(&mut self) {
        let Some(Pending::Asked { places, merge, .. }) = self.pending.front_mut() else { return };
        *merge = |_, _| reply(Answer::Fault(Fault::TooMuch));
        for (at, n) in &self.places[places.clone()] {
            let answers = &mut self.asks[*at].answers;
            if let Some(answer) = answers.get_mut(*n) {
                self.held -= answer.len();
                *answer = Answer::Fault(Fault::TooMuch);
            } else {
                answers.resize(n + 1, Answer::Fault(Fault::TooMuch));
            }
        }
    }

    /// Takes the answers of one request. An unknown outcome outweighs any other failure.
    fn collect(&mut self, places: Range<usize>) -> Result<Vec<Answer>, RequestError> {
        let mut taken = Vec::with_capacity(places.len());
        let mut failure: Option<RequestError> = None;
        for &(at, n) in &self.places[places] {
            let asked = &mut self.asks[at];
            match (asked.answers.get_mut(n), &asked.failed) {
                (Some(answer), _) => {
                    self.held -= answer.len();
                    taken.push(std::mem::replace(answer, Answer::Nothing));
                }
                (None, Some(error)) if error.is_unknown() => return Err(error.clone()),
                (None, error) => failure = Some(error.clone().unwrap_or(RequestError::Stopped)),
            }
        }
        failure.map_or(Ok(taken), Err)
    }
}

impl Asked {
    fn lacks(&self, n: usize) -> bool {
        n >= self.answers.len() && self.failed.is_none()
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
