//! The state machine of a group.

use std::any::Any;

use bytes::Bytes;
use refloat_node::{
    Chunks, Command, Query, RestoreError, SnapshotReader, StateMachine, split_stamp,
};

use super::answer::{Answer, Answers, Fault};
use super::deadlines::Next;
use super::op::{Condition, Expiry, Op, Ops};
use super::picture;
use super::table::{Cell, Table, cursor, is_over};

/// The longest value that APPEND may make, in bytes. A constant, since all members must agree.
const VALUE_LEN_MAX: usize = 64 << 20;
/// The longest answer to one operation, and the most bytes of values in all answers to an entry
/// that names no room for them.
const ANSWER_LEN_MAX: usize = 64 << 20;
/// How many overdue values one sweep drops.
const SWEEP_MAX: usize = 1000;

/// Keys and values of one group. Its clock is the latest stamp among the entries applied.
#[derive(Debug, Default)]
pub struct Kv {
    table: Table,
    clock_ms: u64,
    next_deadline: Next,
}

impl Kv {
    /// An empty group, which notes there when its next deadline passes.
    pub fn new(next_deadline: Next) -> Kv {
        Kv { next_deadline, ..Kv::default() }
    }

    /// Whether a value is overdue at a moment, or one of these keys has an overdue value that no
    /// entry has ended yet.
    pub fn is_overdue(&self, ops: &[Op], wall_ms: u64) -> bool {
        self.table.overdue(wall_ms).is_some()
            && ops.iter().any(|op| match op.key() {
                Some(key) => self.table.get(key).is_some_and(|cell| is_over(cell, wall_ms)),
                None => true,
            })
    }

    /// Answers operations that change nothing, in order, up to the first whose answer does not
    /// fit into the room any more.
    pub fn read(&self, ops: &[Op], wall_ms: u64, mut room: usize) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(ops.len());
        for op in ops {
            if !take_in(self.look(op, wall_ms), &mut room, &mut answers) {
                break;
            }
        }
        answers
    }

    fn run(&mut self, payload: &Bytes) -> Vec<Answer> {
        let Some((stamp_ms, payload)) = split_stamp(payload) else {
            return vec![Answer::Fault(Fault::Unreadable)];
        };
        let Ok((ops, room)) = Ops::decode(&payload) else {
            return vec![Answer::Fault(Fault::Unreadable)];
        };
        self.clock_ms = self.clock_ms.max(stamp_ms);
        match room {
            Some(room) => self.carry_out_within(&ops, room as usize),
            None => {
                let mut room = ANSWER_LEN_MAX;
                ops.iter().map(|op| bounded(self.carry_out(op), &mut room)).collect()
            }
        }
    }

    /// Carries out what has room for its answer, up to the first operation that has none.
    fn carry_out_within(&mut self, ops: &[Op], mut room: usize) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(ops.len());
        for op in ops {
            // What changes something is not carried out if its answer would be withheld.
            let taken = match op {
                Op::Take(key) | Op::Set { key, get: true, .. } => {
                    self.live(key).map_or(0, |cell| cell.value.len())
                }
                _ => 0,
            };
            if taken > room {
                answers.push(Answer::Later(taken as u64));
                break;
            }
            if !take_in(self.carry_out(op), &mut room, &mut answers) {
                break;
            }
        }
        answers
    }

    fn look(&self, op: &Op, wall_ms: u64) -> Answer {
        match op {
            Op::Get(key) => value_of(self.live(key)),
            Op::Exists(key) => Answer::Number(i64::from(self.live(key).is_some())),
            Op::Len(key) => {
                Answer::Number(self.live(key).map_or(0, |cell| cell.value.len() as i64))
            }
            Op::TimeLeft(key) => Answer::Number(match self.live(key).map(|cell| cell.deadline) {
                None => -2,
                Some(None) => -1,
                Some(Some(at)) => at.saturating_sub(wall_ms.max(self.clock_ms)) as i64,
            }),
            Op::Count => Answer::Number(self.table.len() as i64),
            Op::Scan { cursor, count, pattern } => self.scan(*cursor, *count, pattern.as_deref()),
            _ => Answer::Fault(Fault::Unreadable),
        }
    }

    fn scan(&self, from: u64, count: u32, pattern: Option<&[u8]>) -> Answer {
        let (next, keys) = self.table.scan(from, count.max(1) as usize, pattern, self.clock_ms);
        let group = cursor::start_of(cursor::group(from));
        // Behind the last key stands the next group; who asks knows whether there is one.
        let end = cursor::start_of(refloat_types::GroupId(cursor::group(from).0 + 1));
        Answer::Keys { next: next.map_or(end, |position| group | position), keys }
    }

    fn carry_out(&mut self, op: &Op) -> Answer {
        if let Some(key) = op.key() {
            self.end_if_over(key);
        }
        match op {
            Op::Set { key, value, condition, get, expiry } => {
                self.set(key, value, *condition, *get, *expiry)
            }
            Op::Delete(key) => Answer::Number(i64::from(self.table.remove(key).is_some())),
            Op::Take(key) => value_of(self.table.remove(key).as_ref()),
            Op::Add { key, by } => self.add(key, *by),
            Op::Append { key, tail } => self.append(key, tail),
            Op::Expire { key, expiry } => self.expire(key, *expiry),
            Op::Sweep => self.sweep(),
            read => self.look(read, self.clock_ms),
        }
    }

    fn set(
        &mut self,
        key: &Bytes,
        value: &[u8],
        condition: Condition,
        get: bool,
        expiry: Expiry,
    ) -> Answer {
        let earlier = self.table.get(key);
        let allowed = match condition {
            Condition::Always => true,
            Condition::IfAbsent => earlier.is_none(),
            Condition::IfPresent => earlier.is_some(),
        };
        let deadline = self.deadline(expiry, earlier.and_then(|cell| cell.deadline));
        let answer = match (get, allowed) {
            (true, _) => value_of(earlier),
            (false, true) => Answer::Done,
            (false, false) => Answer::Nothing,
        };
        if allowed {
            self.table.put(key, value, deadline);
            self.end_if_over(key);
        }
        answer
    }

    fn add(&mut self, key: &Bytes, by: i64) -> Answer {
        let cell = self.table.get(key);
        let Some(number) = cell.map_or(Some(0), |cell| crate::resp::parse_int(&cell.value)) else {
            return Answer::Fault(Fault::NotInteger);
        };
        let Some(sum) = number.checked_add(by) else { return Answer::Fault(Fault::Overflow) };
        let deadline = cell.and_then(|cell| cell.deadline);
        self.table.put(key, sum.to_string().as_bytes(), deadline);
        Answer::Number(sum)
    }

    fn append(&mut self, key: &Bytes, tail: &[u8]) -> Answer {
        let cell = self.table.get(key);
        let head = cell.map(|cell| cell.value.clone()).unwrap_or_default();
        if head.len() + tail.len() > VALUE_LEN_MAX {
            return Answer::Fault(Fault::TooLong);
        }
        let deadline = cell.and_then(|cell| cell.deadline);
        self.table.put(key, &[&head, tail].concat(), deadline);
        Answer::Number((head.len() + tail.len()) as i64)
    }

    /// 1 if the deadline was changed. `Never` on a value without deadline changes nothing.
    fn expire(&mut self, key: &Bytes, expiry: Expiry) -> Answer {
        let Some(cell) = self.table.get(key) else { return Answer::Number(0) };
        let earlier = cell.deadline;
        let deadline = self.deadline(expiry, earlier);
        if deadline.is_none() && earlier.is_none() {
            return Answer::Number(0);
        }
        self.table.set_deadline(key, deadline);
        self.end_if_over(key);
        Answer::Number(1)
    }

    fn sweep(&mut self) -> Answer {
        let mut dropped = 0;
        while dropped < SWEEP_MAX {
            let Some(key) = self.table.overdue(self.clock_ms) else { break };
            self.table.remove(&key);
            dropped += 1;
        }
        Answer::Number(dropped as i64)
    }

    fn deadline(&self, expiry: Expiry, earlier: Option<u64>) -> Option<u64> {
        match expiry {
            Expiry::Never => None,
            Expiry::Keep => earlier,
            Expiry::In(millis) => Some(self.clock_ms.saturating_add(millis)),
            Expiry::At(at) => Some(at),
        }
    }

    fn live(&self, key: &Bytes) -> Option<&Cell> {
        self.table.get(key).filter(|cell| !is_over(cell, self.clock_ms))
    }

    fn end_if_over(&mut self, key: &Bytes) {
        if self.table.get(key).is_some_and(|cell| is_over(cell, self.clock_ms)) {
            self.table.remove(key);
        }
    }
}

impl StateMachine for Kv {
    fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
        let replies =
            batch.iter().map(|command| Answers::encode(&self.run(&command.payload))).collect();
        self.next_deadline.note(self.table.next_deadline());
        replies
    }

    fn snapshot(&mut self) -> Chunks {
        Box::new(picture::draw(&self.table, self.clock_ms))
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader<'_>) -> Result<(), RestoreError> {
        let (table, clock_ms) = picture::read(snapshot)?;
        self.next_deadline.note(table.next_deadline());
        self.table = table;
        self.clock_ms = clock_ms;
        Ok(())
    }
}

/// Asks a machine something, as a query of the node.
pub fn question(ask: impl FnOnce(&Kv) -> Bytes + Send + 'static) -> Query {
    Box::new(move |machine: &mut dyn StateMachine| {
        let machine: &dyn Any = machine;
        machine.downcast_ref::<Kv>().map(ask).unwrap_or_default()
    })
}

fn value_of(cell: Option<&Cell>) -> Answer {
    cell.map_or(Answer::Nothing, |cell| Answer::Value(cell.value.clone()))
}

/// Takes an answer that fits into the room left, or says at which length it stopped.
fn take_in(answer: Answer, room: &mut usize, answers: &mut Vec<Answer>) -> bool {
    let len = answer.len();
    if len > ANSWER_LEN_MAX {
        answers.push(Answer::Fault(Fault::TooMuch));
        return true;
    }
    match room.checked_sub(len) {
        Some(left) => {
            *room = left;
            answers.push(answer);
            true
        }
        None => {
            answers.push(Answer::Later(len as u64));
            false
        }
    }
}

/// Withholds a value that does not fit into the room left.
fn bounded(answer: Answer, room: &mut usize) -> Answer {
    match room.checked_sub(answer.len()) {
        Some(left) => {
            *room = left;
            answer
        }
        None => Answer::Fault(Fault::TooMuch),
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
