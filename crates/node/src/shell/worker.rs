//! The worker: the one thread that owns a [`NodeCore`]. `wait; step; act`. It never waits for the
//! disk: one that hangs says nothing, and this thread has to notice it and to go on without it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::Mutex;
use refloat_net as net;
use refloat_types::{GroupKey, Member, NodeId, Now};
use refloat_vfs::Vfs;
use tokio::sync::watch;

use super::handle::{Shared, refuse};
use super::inbox::{Command, Completion, Completions, Inbox, Letter, Operation};
use super::lanes::Lanes;
use crate::api::{Input, Lane, Output, Reply, Time, Token};
use crate::core::NodeCore;
use crate::error::{RequestError, StopReason};

/// Monotonic time since the start of the shell, and the wall clock.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock { start: Instant::now() }
    }

    pub(crate) fn time(&self) -> Time {
        let micros = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time { now: Now(micros), wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX) }
    }
}

pub(crate) struct Worker {
    pub(crate) core: NodeCore,
    pub(crate) clock: Clock,
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) transport: Arc<dyn net::Transport>,
    pub(crate) lanes: Lanes,
    pub(crate) inline_apply: bool,
    pub(crate) stopped: watch::Sender<Option<StopReason>>,
    pub(crate) requests: Requests,
    pub(crate) notices: Option<Notices>,
}

/// Takes what state machines have their leaders tell.
pub(crate) type Notices = Box<dyn Fn(GroupKey, Bytes) + Send>;

/// Tokens of requests under way: an index into a table, so that no answer is searched for.
#[derive(Default)]
pub(crate) struct Requests {
    table: Vec<Option<Completion>>,
    free: Vec<usize>,
    /// Results of this turn, per sink, so that each is called once.
    results: BTreeMap<usize, SinkResults>,
}

type SinkResults = (Arc<dyn Completions>, Vec<(u64, Result<Reply, RequestError>)>);

impl Requests {
    fn token(&mut self, completion: Completion) -> Token {
        let at = self.free.pop().unwrap_or_else(|| {
            self.table.push(None);
            self.table.len() - 1
        });
        self.table[at] = Some(completion);
        Token(at as u64)
    }

    fn answer(&mut self, token: Token, result: Result<Reply, RequestError>) {
        let at = token.0 as usize;
        match self.table.get_mut(at).and_then(Option::take) {
            Some(Completion::Call(call)) => call(result),
            Some(Completion::Sink(sink, tag)) => {
                let key = Arc::as_ptr(&sink).cast::<()>() as usize;
                let entry = self.results.entry(key).or_insert_with(|| (sink, Vec::new()));
                entry.1.push((tag, result));
            }
            None => return,
        }
        self.free.push(at);
    }

    fn flush(&mut self) {
        while let Some((_, (sink, results))) = self.results.pop_first() {
            sink.complete(results);
        }
    }
}

impl Worker {
    /// Runs until the node is over.
    pub(crate) fn run(mut self) {
        let (mut letters, mut outputs) = (Vec::new(), Vec::new());
        let reason = loop {
            self.shared.inbox.take(&mut letters, self.patience());
            let time = self.clock.time();
            for letter in letters.drain(..) {
                self.letter(time, letter);
            }
            if let Some(reason) = self.turns(&mut outputs) {
                break reason;
            }
        };
        self.end(reason);
    }

    /// How long nothing needs to be done if nothing comes in.
    fn patience(&self) -> Option<Duration> {
        let at = self.core.wake_at()?;
        Some(Duration::from_micros(at.since(self.clock.time().now)))
    }

    /// Takes turns as long as the jobs that this thread runs itself give it more to do.
    fn turns(&mut self, outputs: &mut Vec<Output>) -> Option<StopReason> {
        let mut reason = None;
        loop {
            let time = self.clock.time();
            self.core.turn(time, outputs);
            let mut own = Vec::new();
            for output in outputs.drain(..) {
                match output {
                    Output::Send { to, lane, bytes } => {
                        // A dropped frame is what a network may do at any time.
                        let _ = self.transport.send(to, net_lane(lane), bytes);
                    }
                    Output::Reply { to, result } => self.requests.answer(to, result),
                    Output::Places { peers, card } => {
                        self.transport.set_peers(&net_peers(self.core.member().node, peers));
                        self.transport.set_card(card);
                    }
                    Output::Notice { group, payload } => {
                        if let Some(notices) = &self.notices {
                            notices(group, payload);
                        }
                    }
                    Output::Stop(why) => reason = Some(why),
                    // Runs on this thread, which saves two hand-offs.
                    Output::Job(job) if self.inline_apply && job.is_quick() => own.push(job),
                    Output::Job(job) => self.lanes.hand(job),
                }
            }
            self.requests.flush();
            if reason.is_some() || own.is_empty() {
                return reason;
            }
            for job in own {
                let done = job.run(&self.vfs);
                self.core.step(self.clock.time(), Input::Done(done));
            }
        }
    }

    fn letter(&mut self, time: Time, letter: Letter) {
        let input = match letter {
            Letter::Core(input) => input,
            Letter::Request(group, operation, completion) => {
                let to = self.requests.token(completion);
                match operation {
                    Operation::Propose { payload, stamp, forward } => {
                        Input::Propose { to, group, payload, stamp, forward }
                    }
                    Operation::Read { consistency, query } => {
                        Input::Read { to, group, consistency, query }
                    }
                }
            }
            Letter::Command(command, completion) => {
                let to = self.requests.token(completion);
                command_input(command, to)
            }
            Letter::Status(reply) => {
                let _ = reply.send((self.core.status(), self.core.counters()));
                return;
            }
        };
        self.core.step(time, input);
    }

    fn end(mut self, reason: StopReason) {
        tracing::info!(%reason, "node stopped");
        let left: Vec<usize> = (0..self.requests.table.len()).collect();
        for at in left {
            // Nothing should be left; a caller that waits for ever would be worse than a vague answer.
            self.requests.answer(Token(at as u64), Err(RequestError::Stopped));
        }
        self.requests.flush();
        for letter in self.shared.inbox.close() {
            refuse(letter, RequestError::Stopped);
        }
        self.transport.shutdown();
        self.lanes.stop();
        drop(self.core); // the lock on the data directory goes with it
        let _ = self.stopped.send(Some(reason));
    }
}

fn command_input(command: Command, to: Token) -> Input {
    match command {
        Command::CreateGroup(group, members) => Input::CreateGroup { to, group, members },
        Command::DeleteGroup(group) => Input::DeleteGroup { to, group },
        Command::ChangeMembers(group, change, expected) => {
            Input::ChangeMembers { to, group, change, expected }
        }
        Command::ForgetLeader(group) => Input::ForgetLeader { to, group },
        Command::ChangeNodes(change) => Input::ChangeNodes { to, change },
        Command::Transfer(group, target) => Input::Transfer { to, group, target },
        Command::Snapshot(group) => Input::Snapshot { to, group },
        Command::ReadLog(group, indexes) => Input::ReadLog { to, group, indexes },
    }
}

/// The other nodes. Lives are checked by the node, to which every life has to be heard.
fn net_peers(me: NodeId, places: BTreeMap<NodeId, String>) -> BTreeMap<NodeId, net::Peer> {
    let others = places.into_iter().filter(|(node, _)| *node != me);
    others.map(|(node, address)| (node, net::Peer::new(address))).collect()
}

fn net_lane(lane: Lane) -> net::Lane {
    match lane {
        Lane::Urgent => net::Lane::Urgent,
        Lane::Bulk => net::Lane::Bulk,
    }
}

/// What the transport reports, as letters. Called on the transport's threads.
///
/// A life is connected as long as one of its runs is: the end of the connection to an old run may be
/// heard after the beginning of the one to the next, and would pass for its end.
#[derive(Default)]
pub(crate) struct Deliveries {
    runs: Mutex<BTreeMap<Member, usize>>,
}

impl Deliveries {
    pub(crate) fn deliver(&self, inbox: &Inbox, event: net::Event) {
        match event {
            net::Event::Frame { from, bytes, .. } => inbox.push_frame(from, bytes),
            net::Event::Up { from, .. } => {
                let mut runs = self.runs.lock();
                *runs.entry(from).or_default() += 1;
                inbox.push(Letter::Core(Input::PeerUp(from)));
            }
            net::Event::Down { from, .. } => {
                let mut runs = self.runs.lock();
                let left = runs.get(&from).map_or(0, |count| count.saturating_sub(1));
                if left > 0 {
                    runs.insert(from, left);
                } else {
                    runs.remove(&from);
                    inbox.push(Letter::Core(Input::PeerDown(from)));
                }
            }
            net::Event::Refused { to, reason } => {
                tracing::warn!(peer = %to, %reason, "connection refused");
                let superseded = matches!(reason, net::Refusal::Superseded { .. });
                let reason = reason.to_string();
                inbox.push(Letter::Core(Input::PeerRefused { node: to, reason, superseded }));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use refloat_types::Incarnation;

    use super::*;

    #[test]
    fn t08_the_late_end_of_an_old_run_is_not_the_end_of_the_next_one() {
        let (deliveries, inbox) = (Deliveries::default(), Inbox::new(10));
        let from = Member::new(NodeId(2), Incarnation(7));
        let [up, down] = [true, false];
        let steps = [(up, 1, "up"), (up, 2, "up"), (down, 1, ""), (down, 2, "down"), (up, 3, "up")];
        for (is_up, run, expected) in steps {
            let event = match is_up {
                true => net::Event::Up { from, run },
                false => net::Event::Down { from, run },
            };
            deliveries.deliver(&inbox, event);
            let mut letters = Vec::new();
            inbox.take(&mut letters, Some(Duration::ZERO));
            let told = match letters[..] {
                [] => "",
                [Letter::Core(Input::PeerUp(who))] if who == from => "up",
                [Letter::Core(Input::PeerDown(who))] if who == from => "down",
                _ => "something else",
            };
            assert_eq!(told, expected, "run {run}");
        }
    }
}
