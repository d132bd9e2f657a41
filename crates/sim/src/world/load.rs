//! What clients ask, and what they are told.

use std::any::Any;

use bytes::Bytes;
use refloat_node::{Consistency, Input, Reply, RequestError, StateMachine, Token};
use refloat_types::{Epoch, GroupId, GroupKey};

use super::operate::is_passing;
use super::{Event, World};
use crate::client::{Client, REQUEST_LEN, Request, What, numbered};
use crate::invariants::{ANSWERS, live_entries};
use crate::recorder::Recorder;
use crate::trace::hash;

impl World {
    /// A client that waited long enough asks something of some node.
    pub(super) fn client(&mut self) {
        if self.healing {
            return;
        }
        let node = self.rng.index(self.machines.len());
        let group = match self.clients.passing && self.rng.chance(25) {
            true => self.passing_group(),
            false => GroupId(1 + self.rng.below(u64::from(self.settings.groups))),
        };
        let kind = self.rng.below(100);
        if self.machines[node].process.is_none() {
            let wait = 1_000 + self.rng.below(20_000);
            return self.after(wait, Event::Client);
        }
        if self.rng.chance(4) {
            self.ask_for_some(node);
        }
        self.ask(Client::Load, node, group, kind);
    }

    /// After the heal: a write through this node, again and again until it is acknowledged.
    pub(super) fn probe(&mut self, node: usize, group: u64) {
        if self.machines[node].process.is_none() {
            return self.after(20_000, Event::Probe { node, group });
        }
        self.ask(Client::Probe, node, GroupId(group), 0);
    }

    pub(super) fn ask(&mut self, client: Client, node: usize, group: GroupId, kind: u64) {
        let token = self.clients.token();
        let to = Token(token);
        let register = self.rng.below(32) as u8;
        let query = || -> refloat_node::Query { Box::new(move |m| look(m, register)) };
        let (what, input) = match kind {
            0..70 => {
                let payload = numbered(token, &(self.command)(&mut self.rng));
                let what = What::Write(payload.clone());
                (what, Input::Propose { to, group, payload, stamp: false, forward: true })
            }
            70..92 => {
                let consistency = Consistency::Linearizable;
                (What::Read, Input::Read { to, group, consistency, query: query() })
            }
            _ => {
                let consistency = Consistency::Stale;
                (What::StaleRead, Input::Read { to, group, consistency, query: query() })
            }
        };
        let (boot, floors) = (self.machines[node].boot, self.checks.floors(group));
        let operation = self.note(token, group, register, &what);
        let request = Request { client, node, boot, group, floors, what, operation };
        self.clients.open.insert(token, request);
        self.input(node, input);
    }

    pub(super) fn reply(&mut self, node: usize, token: u64, result: Result<Reply, RequestError>) {
        let told = match &result {
            Ok(reply) => reply.index.0 ^ hash(&reply.payload),
            Err(error) => hash(error.to_string().as_bytes()),
        };
        self.trace.event(self.now, 6, node, token ^ told);
        let Some(request) = self.clients.open.remove(&token) else {
            let text = format!("request {token} was answered twice, or never asked");
            return self.checks.note(ANSWERS, Err(text));
        };
        self.checks.note(ANSWERS, Ok(()));
        debug_assert_eq!((request.node, request.boot), (node, self.machines[node].boot));
        match (&result, &request.what) {
            (Ok(reply), What::Write(command)) => {
                self.remember(command);
                let asked = (token, request.group);
                self.checks.on_write(&request.floors, asked, command, reply);
            }
            (Ok(reply), What::Read) => {
                let epoch = reply.payload.first_chunk().map_or(0, |n| u64::from_le_bytes(*n));
                let group = GroupKey::new(request.group, Epoch(epoch));
                self.checks.on_read(group, &request.floors, reply);
            }
            (Ok(reply), What::Log(group, wanted, all)) => {
                self.log_read(node, *group, wanted, *all, &reply.commands);
            }
            // Rot that nobody had met is met by reading, and cured by the others.
            (Err(error), What::Log(group, wanted, true)) if error.is_retryable() => {
                let (group, indexes) = (*group, wanted.clone());
                self.after(20_000, Event::ReadLog { node, group, indexes });
            }
            (Err(error), What::Log(group, wanted, true)) => {
                let text = format!("node {} of {group}, {wanted}: {error}", node + 1);
                self.checks.note(live_entries::NAME, Err(text));
            }
            (Ok(_), _) => {}
            (Err(error), What::Write(_)) => {
                if matches!(error, RequestError::Busy { .. }) {
                    *self.reached.entry("writes refused as too many").or_default() += 1;
                }
                self.checks.on_refusal(token, error);
                let open = error.is_unknown();
                self.clients.unknown += u64::from(open);
                self.clients.refused += u64::from(!open);
            }
            (Err(_), _) => self.clients.refused += 1,
        }
        self.note_answer(&request, &result);
        if let Err(error) = &result {
            self.trace.line(self.now, format_args!("request {token}: {error}"));
        }
        let gone = matches!(result, Err(RequestError::UnknownGroup { .. }));
        self.next_of(&request, result.is_ok() || (gone && is_passing(request.group)));
    }

    /// Begins an operation of the clients' history. Groups that come and go are not in it: their
    /// registers change with them.
    fn note(&mut self, token: u64, group: GroupId, register: u8, what: &What) -> Option<usize> {
        let who = (token, self.now);
        match what {
            _ if is_passing(group) => None,
            What::Write(command) => {
                let value = command.slice(REQUEST_LEN.min(command.len())..);
                let register = value.first().copied().unwrap_or_default();
                self.history.begin(who, (group, register), Some(&value), false)
            }
            What::Read => self.history.begin(who, (group, register), None, false),
            What::StaleRead => self.history.begin(who, (group, register), None, true),
            What::Log(..) | What::Other(_) => None,
        }
    }

    fn note_answer(&mut self, request: &Request, result: &Result<Reply, RequestError>) {
        let Some(at) = request.operation else { return };
        match (result, &request.what) {
            (Ok(reply), What::Write(_)) => self.history.answered(at, self.now, &reply.payload),
            (Ok(reply), _) => {
                let value = reply.payload.slice(EPOCH_LEN.min(reply.payload.len())..);
                self.history.answered(at, self.now, &value);
            }
            (Err(error), _) if error.is_unknown() => {}
            (Err(_), _) => self.history.refused(at),
        }
    }

    /// The process that had the request is gone.
    pub(super) fn ended_unknown(&mut self, request: &Request) {
        self.clients.unknown += 1;
        self.next_of(request, false);
    }

    fn next_of(&mut self, request: &Request, ok: bool) {
        let wait = self.rng.below(if ok { 8_000 } else { 60_000 });
        match request.client {
            Client::Load => self.after(wait, Event::Client),
            Client::Probe if !ok => {
                let (node, group) = (request.node, request.group.0);
                self.after(wait, Event::Probe { node, group });
            }
            Client::Probe | Client::Operator | Client::Burst => {}
        }
    }
}

const EPOCH_LEN: usize = 8;

/// Of which group of its id a machine is, since a read may meet the one before or after, and then
/// the value of a register.
fn look(machine: &mut dyn StateMachine, register: u8) -> Bytes {
    let machine: &dyn Any = machine;
    let Some(recorder) = machine.downcast_ref::<Recorder>() else { return Bytes::new() };
    let mut answer = recorder.group().epoch.0.to_le_bytes().to_vec();
    answer.extend_from_slice(recorder.register(register).map_or(&[], |value| value));
    answer.into()
}
