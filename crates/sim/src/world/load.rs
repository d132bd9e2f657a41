//! What clients ask, and what they are told.

use bytes::Bytes;
use refloat_node::{Consistency, Input, Reply, RequestError, Token};
use refloat_types::GroupId;

use super::{Event, World};
use crate::client::{Client, Request, What, numbered};
use crate::invariants::ANSWERS;
use crate::trace::hash;

impl World {
    /// A client that waited long enough asks something of some node.
    pub(super) fn client(&mut self) {
        if self.healing {
            return;
        }
        let node = self.rng.index(self.machines.len());
        let group = 1 + self.rng.below(u64::from(self.settings.groups));
        let kind = self.rng.below(100);
        if self.machines[node].process.is_none() {
            let wait = 1_000 + self.rng.below(20_000);
            return self.after(wait, Event::Client);
        }
        self.ask(Client::Load, node, GroupId(group), kind);
    }

    /// After the heal: a write through this node, again and again until it is acknowledged.
    pub(super) fn probe(&mut self, node: usize, group: u64) {
        if self.machines[node].refused || self.is_amnesiac(node, group) {
            return;
        }
        if self.machines[node].process.is_none() {
            return self.after(20_000, Event::Probe { node, group });
        }
        self.ask(Client::Probe, node, GroupId(group), 0);
    }

    fn ask(&mut self, client: Client, node: usize, group: GroupId, kind: u64) {
        let token = self.clients.token();
        let to = Token(token);
        let query = || -> refloat_node::Query { Box::new(|_| Bytes::new()) };
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
        let (boot, floor) = (self.machines[node].boot, self.checks.floor(group));
        self.clients.open.insert(token, Request { client, node, boot, group, floor, what });
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
                let at = (request.group, request.floor);
                self.checks.on_write(at, token, command, reply);
            }
            (Ok(reply), What::Read) => self.checks.on_read(request.group, request.floor, reply),
            (Ok(_), _) => {}
            (Err(error), What::Write(_)) => {
                self.checks.on_refusal(token, error);
                let open = error.is_unknown();
                self.clients.unknown += u64::from(open);
                self.clients.refused += u64::from(!open);
            }
            (Err(_), _) => self.clients.refused += 1,
        }
        if let Err(error) = &result {
            self.trace.line(self.now, format_args!("request {token}: {error}"));
        }
        self.next_of(&request, result.is_ok());
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
            Client::Probe | Client::Operator => {}
        }
    }
}
